"""Files of a report, and ``docs/results.yml``, the recorded results.

What the model zoo page shows is a list ``results`` of entries, see
:data:`HEADER`.
"""
import json
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Dict, Iterator, List, Mapping, Optional, Tuple

import yaml

from mmengine_exact.files import read_bytes, write_bytes
from panoptic_fpn.visualization.image_io import write_image

from .collect import Report, Result
from .pictures import draw_report
from .processes import versions
from .report import heading, markdown
from .results import KEYS, Spread
from .rows import PaperError, PaperTables
from .run import read_record

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
    """Results of a config.

    Attributes:
        config (str): Below ``configs/``.
        seeds (int): Trainings.
        metrics (Mapping[str, tuple]): (median, lowest, highest) in percent.
        date (str): When they were recorded.
        gpus (int | None): Of each training.
        versions (Mapping[str, str]): Of what trained.
    """

    config: str
    seeds: int
    metrics: Dict[str, Tuple[float, float, float]]
    date: str = ''
    gpus: Optional[int] = None
    versions: Mapping[str, str] = field(default_factory=dict)


def read_results(path: Path, tables: PaperTables) -> Dict[str, Saved]:
    """Read recorded results.

    Args:
        path (Path): ``docs/results.yml``, or a file like it.
        tables (PaperTables): The tables.

    Returns:
        dict[str, Saved]: By config.

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
        result = _entry(f'{path}: entry {number + 1}', entry, tables)
        if result.config in saved:
            raise PaperError(f'{path}: {result.config} is there twice. Keep '
                             'one entry.')
        saved[result.config] = result
    return saved


def _entry(where: str, entry: object, tables: PaperTables) -> Saved:
    if not isinstance(entry, dict) or not {'config', 'seeds', 'metrics'
                                           } <= set(entry) <= _KEYS:
        raise PaperError(f'{where}: {entry!r} needs config, seeds and '
                         f'metrics, and may have {sorted(_KEYS)}.')
    config, metrics = entry['config'], entry['metrics']
    if not isinstance(config, str) or not (tables.configs / config).is_file():
        raise PaperError(f'{where}: config {config!r} is no file below '
                         f'{tables.configs}. Correct its path.')
    if type(entry['seeds']) is not int or entry['seeds'] < 1:
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
    gpus, known = entry.get('gpus'), entry.get('versions') or {}
    if gpus is not None and (type(gpus) is not int or gpus < 0):
        raise PaperError(f'{where} ({config}): gpus {gpus!r} is no number of '
                         'GPUs.')
    if not isinstance(known, dict):
        raise PaperError(f'{where} ({config}): versions {known!r} is no '
                         'mapping of packages to versions.')
    return Saved(
        config,
        entry['seeds'], {
            name: tuple(values)
            for name, values in metrics.items()
        },
        date=str(entry.get('date', '')),
        gpus=gpus,
        versions=known)


def _is_spread(values: object) -> bool:
    return (isinstance(values, list) and len(values) == 3
            and all(type(v) in (int, float) for v in values)
            and 0 <= values[1] <= values[0] <= values[2] <= 100)


def save_results(path: Path, tables: PaperTables, report: Report) -> None:
    """Put the results of a report into the file, in place of older ones of
    the same config.

    Args:
        path (Path): Is made where it is missing.
        tables (PaperTables): The tables.
        report (Report): Not the miniature's.

    Raises:
        PaperError: The file cannot be used, or nothing is there to save.
    """
    saved = read_results(path, tables) if path.is_file() else {}
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
        name: (round(s.median, 2), round(s.low, 2), round(s.high, 2))
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


def write_report(report: Report, folder: Path) -> List[Path]:
    """Write ``report.md``, ``report.json`` and the pictures; of the miniature
    ``miniature.md``, ``miniature.json`` and ``miniature-*.png``.

    Args:
        report (Report): What was found.
        folder (Path): Is made where it is missing.

    Returns:
        list[Path]: The Markdown, the JSON, and the pictures.

    Raises:
        PaperError: A file cannot be written.
    """
    pictures = draw_report(report)
    stem, prefix = ('miniature',
                    'miniature-') if report.miniature else ('report', '')
    names = {section: f'{prefix}{section}.png' for section in pictures}
    content = json.dumps(as_json(report), indent=1, allow_nan=False) + '\n'
    paths = [folder / f'{stem}.md', folder / f'{stem}.json']
    with writing_to(folder):
        for section, name in names.items():
            paths.append(folder / name)
            write_image(str(folder / name), pictures[section])
        write_bytes(str(paths[0]), markdown(report, names).encode())
        write_bytes(str(paths[1]), content.encode())
    return paths


@contextmanager
def writing_to(folder: Path) -> Iterator[None]:
    """Errors of the system while pages are written, in one sentence.

    Args:
        folder (Path): What ``--out`` names.

    Raises:
        PaperError: In the place of an OSError.
    """
    try:
        yield
    except OSError as error:
        raise PaperError(f'{folder}: cannot be written to ({error}). Set '
                         'another --out.') from None


def as_json(report: Report) -> Dict:
    """The same for JSON; numbers are not rounded.

    Args:
        report (Report): What was found.

    Returns:
        dict: Of plain types.
    """
    return dict(
        miniature=report.miniature,
        unfinished=dict(report.unfinished),
        empty=[str(path) for path in report.empty],
        tables=[
            dict(
                tables=[table.id for table in section.tables],
                title=heading(section),
                rows=[_row_json(result) for result in section.results],
                claims=[
                    dict(
                        claim=v.claim.text,
                        metric=v.claim.metric,
                        data=v.data,
                        verdict=v.verdict,
                        as_claimed=v.as_claimed,
                        why=v.why) for v in section.verdicts
                ]) for section in report.sections
        ])


def _row_json(result: Result) -> Dict:
    grid = result.grid
    return dict(
        row=result.name,
        label=result.label,
        title=result.title,
        config=result.config,
        paper={
            data: dict(values)
            for data, values in result.paper.items()
        },
        seeds=result.seeds,
        states={
            str(s): state.text
            for s, state in result.states.items()
        },
        ours=_spreads_json(result.found),
        lambda_grid=grid and dict(
            weights=grid.weights,
            done=grid.done,
            total=grid.total,
            ours=_spreads_json(grid.found)))


def _spreads_json(found: Mapping[str, Spread]) -> Dict:
    return {
        name:
        dict(median=s.median, low=s.low, high=s.high, values=list(s.values))
        for name, s in found.items()
    }
