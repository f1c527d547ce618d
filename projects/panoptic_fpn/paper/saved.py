"""Recorded results, ``docs/results.yml``: what the model zoo page shows.

A list ``results`` of entries, see :data:`HEADER`.
"""
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Dict, Mapping, Optional, Tuple

import yaml

from ..files import read_bytes, write_bytes
from .collect import Report, Result
from .errors import PaperError
from .machine import versions
from .results import KEYS
from .rows import Book
from .steps import read_record

HEADER = """\
# Measured results, for `python tools/paper.py zoo`. Entries are written by
# `python tools/paper.py report WORK_DIR --save docs/results.yml`, or by hand:
#
# results:
#   - config: coco/panoptic-fpn_r50_fpn_1x_coco.py   # below configs/
#     seeds: 1
#     # percent: median, lowest, highest of the seeds
#     metrics: {PQ: [39.0, 39.0, 39.0], AP: [33.3, 33.3, 33.3]}
#     date: 2026-01-31
#     gpus: 8
#     versions: {torch: 2.13.0, mmengine: 0.10.7}
"""
_KEYS = {'config', 'seeds', 'metrics', 'date', 'gpus', 'versions'}


@dataclass(frozen=True)
class Saved:
    """Results of a config; metrics are (median, lowest, highest)."""

    config: str
    seeds: int
    metrics: Mapping[str, Tuple[float, float, float]]
    date: str = ''
    gpus: Optional[int] = None
    versions: Mapping[str, str] = ()


def read_results(path: Path, book: Book) -> Dict[str, Saved]:
    """Recorded results by config.

    Raises:
        PaperError: The file is missing or not of its form, or names a config
            or a metric that does not exist.
    """
    try:
        content = yaml.safe_load(read_bytes(str(path), 'results', None))
    except yaml.YAMLError as error:
        raise PaperError(f'{path}: is no YAML ({error}).') from None
    entries = content.get('results') if isinstance(content, dict) else None
    if not isinstance(entries, list):
        raise PaperError(f'{path}: has no list `results`. Its form is: '
                         f'results: [] and what `report --save` writes.')
    saved: Dict[str, Saved] = {}
    for number, entry in enumerate(entries):
        result = _entry(f'{path}: entry {number + 1}', entry, book)
        if result.config in saved:
            raise PaperError(f'{path}: {result.config} is there twice. Keep '
                             'one entry.')
        saved[result.config] = result
    return saved


def _entry(where: str, entry: object, book: Book) -> Saved:
    if not isinstance(entry, dict) or not {'config', 'seeds', 'metrics'
                                           } <= set(entry) <= _KEYS:
        raise PaperError(f'{where}: {entry!r} needs config, seeds and '
                         f'metrics, and may have {sorted(_KEYS)}.')
    config, metrics = entry['config'], entry['metrics']
    if not isinstance(config, str) or not (book.configs / config).is_file():
        raise PaperError(f'{where}: config {config!r} is no file below '
                         f'{book.configs}. Correct its path.')
    if not isinstance(entry['seeds'], int) or entry['seeds'] < 1:
        raise PaperError(f'{where} ({config}): seeds {entry["seeds"]!r} is no '
                         'number of trainings.')
    if not isinstance(metrics, dict) or not metrics:
        raise PaperError(f'{where} ({config}): has no metrics.')
    for name, values in metrics.items():
        if name not in KEYS:
            raise PaperError(f'{where} ({config}): metric {name!r} is none of '
                             f'{list(KEYS)}.')
        if not _is_spread(values):
            raise PaperError(f'{where} ({config}): {name} {values!r} is not '
                             '[median, lowest, highest] in percent.')
    return Saved(
        config,
        entry['seeds'], {
            name: tuple(values)
            for name, values in metrics.items()
        },
        date=str(entry.get('date', '')),
        gpus=entry.get('gpus'),
        versions=entry.get('versions') or {})


def _is_spread(values: object) -> bool:
    return (isinstance(values, list) and len(values) == 3
            and all(type(v) in (int, float) for v in values)
            and 0 <= values[1] <= values[0] <= values[2] <= 100)


def save_results(path: Path, book: Book, report: Report) -> None:
    """Put the results of a report into the file, in place of older ones of
    the same config.

    Raises:
        PaperError: The file cannot be used, or nothing is there to save.
    """
    saved = read_results(path, book) if path.is_file() else {}
    found: Dict[str, Saved] = {}
    for section in report.sections:
        for result in section.results:
            if result.seeds:
                found.setdefault(result.config, _saved(result))
                found[result.config].metrics.update(_saved(result).metrics)
    if not found:
        raise PaperError(f'{path}: no row has a result to save.')
    entries = [_as_dict(entry) for entry in {**saved, **found}.values()]
    text = HEADER + yaml.safe_dump(
        dict(results=entries), sort_keys=False, default_flow_style=None)
    write_bytes(str(path), text.encode())


def _saved(result: Result) -> Saved:
    record = read_record(result.states[result.seeds[0]].folder)
    metrics = {
        name: tuple(round(v, 2) for v in (s.median, s.low, s.high))
        for name, s in result.found.items() if name in KEYS
    }
    return Saved(
        result.config,
        len(result.seeds),
        metrics,
        date=date.today().isoformat(),
        gpus=record.get('gpus'),
        versions=record.get('versions') or versions())


def _as_dict(entry: Saved) -> Dict:
    content = dict(
        config=entry.config,
        seeds=entry.seeds,
        metrics={
            name: list(values)
            for name, values in entry.metrics.items()
        },
        date=entry.date,
        gpus=entry.gpus,
        versions=dict(entry.versions))
    return {key: value for key, value in content.items() if value}
