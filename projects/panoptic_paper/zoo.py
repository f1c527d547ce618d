"""Recorded results, ``docs/results.yml``, and the page ``docs/model_zoo.md``.

For each COCO and Cityscapes config: command, schedule, memory, the paper's
numbers, and what was measured. Memory is an estimate in GB of 2**30 bytes for
one of the schedule's 8 GPUs.
"""
import datetime
import json
from pathlib import Path
from typing import Any, Dict, Iterator, List, Mapping, Optional, Tuple

import msgspec
import yaml

from mmengine_exact.errors import InputError
from mmengine_exact.files import write_bytes
from mmengine_exact.record import versions
from panoptic_apps.complexity import build_on_meta, training_memory

from .collect import Report, Result
from .report import markdown_table
from .results import KEYS
from .runs import load, read_record
from .tables import PaperTables, Row, read_yaml

GPUS = 8

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

_COLUMNS = ('config and command', 'schedule', 'memory', 'paper', 'ours')
_PAGE = """\
<!-- Written by `python tools/paper.py zoo` from docs/results.yml; changes \
are lost. -->

# Model zoo

Numbers of the paper beside what was measured with this project: the median
over the seeds, with the range from lowest to highest. Results come from
`docs/results.yml`; 'not run' is what it says. Percent, AP of masks.

A schedule is iterations x images, with the learning rate it begins with.
Memory is an estimate from shapes for one of 8 GPUs (float32, largest images;
without targets and what kernels and allocator need, so too low): see
[compute](complexity.md). Models of several rows have all their numbers in
one line. Without 8 GPUs: `--auto-scale-lr`."""


class Saved(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    """Results of a config, in the form of :data:`HEADER`."""

    config: str
    seeds: int
    metrics: Dict[str, Tuple[float, float, float]]
    date: Any = ''
    gpus: Optional[int] = None
    versions: Dict[str, Any] = {}


class _Results(msgspec.Struct, forbid_unknown_fields=True):
    results: List[Saved]


def read_results(path: Path, tables: PaperTables) -> Dict[str, Saved]:
    """Recorded results by config.

    Raises:
        InputError: The file is missing or not of its form, or names a config
            or a metric that does not exist.
    """
    saved: Dict[str, Saved] = {}
    for entry in read_yaml(path, _Results).results:
        for fault in _faults(entry, tables):
            raise InputError(f'{path}: {entry.config}: {fault}.')
        if entry.config in saved:
            raise InputError(f'{path}: {entry.config} is there twice. Keep '
                             'one entry.')
        saved[entry.config] = entry
    return saved


def _faults(entry: Saved, tables: PaperTables) -> Iterator[str]:
    if not (tables.configs / entry.config).is_file():
        yield f'no such file below {tables.configs}. Correct the path'
    if entry.seeds < 1 or not entry.metrics:
        yield 'needs at least one seed and one metric'
    for name, values in entry.metrics.items():
        median, low, high = values
        if name not in KEYS:
            yield f'metric {name!r} is none of {list(KEYS)}'
        if not 0 <= low <= median <= high <= 100:
            yield (f'{name} {list(values)} is not [median, lowest, highest] '
                   'in percent')


def save_results(path: Path, tables: PaperTables, report: Report) -> None:
    """Put the results of a report, not of the miniature, into the file, in
    place of older ones of the same config.

    Raises:
        InputError: The file cannot be used, or nothing is there to save.
    """
    saved = read_results(path, tables) if path.is_file() else {}
    found: Dict[str, Saved] = {}
    for section in report.sections:
        for result in section.results:
            if result.seeds:
                entry = _saved(result)
                found.setdefault(entry.config, entry)
                found[entry.config].metrics.update(entry.metrics)
    if not found:
        raise InputError(f'{path}: no row has a result to save.')
    entries = list({**saved, **found}.values())
    text = HEADER + yaml.safe_dump(
        msgspec.to_builtins(
            _Results(entries), builtin_types=(datetime.date, )),
        sort_keys=False,
        default_flow_style=None)
    write_bytes(str(path), text.encode())


def _saved(result: Result) -> Saved:
    record = read_record(result.states[result.seeds[0]].folder)
    metrics = {
        name: (round(s.median, 2), round(s.low, 2), round(s.high, 2))
        for name, s in result.found.items() if name in KEYS
    }
    made_with = record.get('versions') or versions()
    return Saved(
        result.config,
        len(result.seeds),
        metrics,
        date=datetime.date.today().isoformat(),
        gpus=record.get('gpus'),
        versions={
            name: str(v)
            for name, v in made_with.items() if v
        })


def zoo_page(tables: PaperTables, saved: Mapping[str, Saved]) -> str:
    """The page in Markdown, with recorded results by config."""
    known: Dict[str, int] = {}
    parts = [_PAGE]
    for title, configs in _groups(tables).items():
        lines = []
        for config in configs:
            rows = _rows_of(tables, config)
            lines.append([
                f'[{Path(config).stem}](../configs/{config})<br>'
                f'`{_command(config, rows)}`' + _evaluation(rows),
                *_schedule_and_memory(tables.configs / config, rows, known),
                _paper(rows),
                _ours(saved.get(config))
            ])
        parts += [f'## {title}', markdown_table(_COLUMNS, lines)]
    return '\n\n'.join(parts) + '\n'


def _groups(tables: PaperTables) -> Dict[str, List[str]]:
    """Configs by their heading; without miniatures, which are no results,
    and weights of other zoos (docs/weights.md)."""
    folders = {'COCO': 'coco', 'Cityscapes': 'cityscapes'}
    folders.update((f'Table {table.id.removeprefix("table")}: {table.title}',
                    f'paper/{table.id}') for table in tables
                   if not table.id.startswith('figure'))
    found = {
        title:
        sorted(f'{folder}/{path.name}'
               for path in (tables.configs / folder).glob('*.py')
               if 'miniature' not in path.name
               and not path.stem.endswith('-weights'))
        for title, folder in folders.items()
    }
    return {title: names for title, names in found.items() if names}


def _rows_of(tables: PaperTables, config: str) -> List[Row]:
    """Rows that a config gives the numbers of: those of test-dev belong to
    the config that exports."""
    return [
        row for row in tables.rows.values()
        if row.config is not None and (row.test_config or row.config) == config
    ]


def _command(config: str, rows: List[Row]) -> str:
    path = f'configs/{config}'
    if any(row.networks for row in rows):
        return f'tools/dist_test.sh {path} INSTANCE.pth SEMANTIC.pth {GPUS}'
    if any(row.test_config for row in rows):
        return (f'tools/dist_test.sh {path} CHECKPOINT {GPUS} --format-only '
                'PREFIX')
    return f'tools/dist_train.sh {path} {GPUS}'


def _evaluation(rows: List[Row]) -> str:
    """How it is evaluated, where the config alone does not say so."""
    if not any(row.tta for row in rows):
        return ''
    return ('<br>evaluated with `tools/class_frequencies.py` and `--tta`: '
            '[how](../README.md#coco-stuff-2017)')


def _schedule_and_memory(path: Path, rows: List[Row],
                         known: Dict[str, int]) -> Tuple[str, str]:
    for row in rows:
        if row.networks:
            return 'the networks of ' + ' and '.join(row.networks), ''
        if row.test_config:
            return f'trained as {Path(row.config).stem}', ''
    cfg = load(path)
    batch, shape = cfg.train_dataloader.batch_size, image_shape(path)
    model = cfg.model.to_dict()
    # branches, not weights, take memory
    weights = model.get('loss_weights') or {}
    model['loss_weights'] = {name: bool(v) for name, v in weights.items()}
    key = json.dumps([model, shape, batch], sort_keys=True, default=str)
    if key not in known:
        known[key] = memory_of(path, shape, batch)
    return (f'{cfg.train_cfg.max_iters // 1000}k x {batch * GPUS}, lr '
            f'{cfg.optim_wrapper.optimizer.lr:g}',
            f'{known[key] / 2**30:.1f} GB')


def memory_of(path: Path, shape: Tuple[int, int], batch: int) -> int:
    """Estimated bytes of a training step with ``batch`` images of (H, W)
    pixels on one GPU."""
    return training_memory(build_on_meta(path), shape, batch).total


def image_shape(path: Path) -> Tuple[int, int]:
    """(H, W) in pixels of the largest training image, before padding."""
    steps = load(path).train_dataloader.dataset.pipeline
    crops = [step.crop_size for step in steps if 'crop_size' in step]
    scales = [scale for step in steps for scale in step.get('scales', ())]
    if crops:
        return tuple(crops[0])
    width, height = max(scales, key=lambda scale: scale[1])
    return height, width


def _paper(rows: List[Row]) -> str:
    numbers: Dict[str, float] = {}
    for row in rows:
        for name, value in row.paper.items():
            if value is not None and name in KEYS:
                numbers.setdefault(name, value)
    if not numbers:
        return 'not in the paper'
    tables = dict.fromkeys(
        row.table.removeprefix('table') for row in rows if row.trained)
    return (', '.join(f'{name} {numbers[name]}'
                      for name in KEYS if name in numbers) +
            f' ({", ".join(tables)})')


def _ours(saved: Optional[Saved]) -> str:
    if saved is None:
        return 'not run'
    texts = []
    for name, (median, low, high) in saved.metrics.items():
        text = f'{name} {median:.1f}'
        if saved.seeds > 1:
            text += f' ({low:.1f} to {high:.1f})'
        texts.append(text)
    seeds = f'{saved.seeds} seed' + 's' * (saved.seeds != 1)
    return f'{", ".join(texts)} ({seeds})'
