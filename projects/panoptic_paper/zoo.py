"""The model zoo page ``docs/model_zoo.md``.

For each COCO and Cityscapes config: command, schedule, memory, the paper's
numbers, and what was measured. Memory is an estimate in GB of 2**30 bytes for
one of the schedule's 8 GPUs.
"""
import json
from pathlib import Path
from typing import Dict, List, Mapping, Optional, Tuple

from panoptic_apps.complexity import build_on_meta, training_memory

from .report import markdown_table
from .results import KEYS
from .rows import PaperError, PaperTables, Row
from .run import load
from .saved import Saved

GPUS = 8

_COLUMNS = ('config and command', 'schedule', 'memory', 'paper', 'ours')
GENERATED = ('<!-- Written by `python tools/paper.py zoo` from '
             'docs/results.yml; changes are lost. -->')
_HEAD = """\
# Model zoo

Numbers of the paper beside what was measured with this project: the median
over the seeds, with the range from lowest to highest. Results come from
`docs/results.yml`; 'not run' is what it says. Percent, AP of masks.

A schedule is iterations x images, with the learning rate it begins with.
Memory is an estimate from shapes for one of 8 GPUs (float32, largest images;
without targets and what kernels and allocator need, so too low): see
[compute](complexity.md). Models of several rows have all their numbers in
one line. Without 8 GPUs: `--auto-scale-lr`."""


def zoo_page(
    tables: PaperTables,
    saved: Mapping[str, Saved],
) -> str:
    """The page.

    Args:
        tables (PaperTables): The tables.
        saved (Mapping[str, Saved]): Results by config.

    Returns:
        str: Markdown.

    Raises:
        PaperError: A config cannot be read.
    """
    known: Dict[str, int] = {}
    parts = [GENERATED, _HEAD]
    for title, configs in _groups(tables).items():
        lines = []
        for config in configs:
            rows = _rows_of(tables, config)
            lines.append([
                f'[{Path(config).stem}](../configs/{config})<br>'
                f'`{_command(tables, config, rows)}`' + _evaluation(rows),
                _schedule(tables.configs / config, rows),
                _memory(tables.configs / config, rows, known),
                _paper(rows),
                _ours(saved.get(config))
            ])
        parts += [f'## {title}', markdown_table(_COLUMNS, lines)]
    return '\n\n'.join(parts) + '\n'


def _groups(tables: PaperTables) -> Dict[str, List[str]]:
    """Configs by the heading they stand under, below ``configs/``."""
    groups = {'COCO': 'coco', 'Cityscapes': 'cityscapes'}
    found = {}
    for title, folder in groups.items():
        found[title] = sorted(f'{folder}/{path.name}'
                              for path in (tables.configs /
                                           folder).glob('*.py')
                              if _is_of_the_page(path))
    for table in tables:
        if table.id.startswith('figure'):
            continue
        folder = f'paper/{table.id}'
        names = sorted(f'{folder}/{path.name}'
                       for path in (tables.configs / folder).glob('*.py'))
        if names:
            number = table.id.removeprefix('table')
            found[f'Table {number}: {table.title}'] = names
    return found


def _is_of_the_page(path: Path) -> bool:
    """Miniatures are no results; weights of other zoos: docs/weights.md."""
    return not ('miniature' in path.name or path.stem.endswith('-weights'))


def _rows_of(tables: PaperTables, config: str) -> List[Row]:
    """Rows that a config gives the numbers of: those of test-dev belong to
    the config that exports."""
    return [
        row for row in tables.rows.values()
        if row.config is not None and (row.test_config or row.config) == config
    ]


def _command(tables: PaperTables, config: str, rows: List[Row]) -> str:
    path = f'configs/{config}'
    if any(row.networks for row in rows):
        return f'tools/dist_test.sh {path} INSTANCE.pth SEMANTIC.pth {GPUS}'
    if any(row.test_config for row in rows):
        return (f'tools/dist_test.sh {path} CHECKPOINT {GPUS} --format-only '
                'PREFIX')
    return f'tools/dist_train.sh {path} {GPUS}'


def _evaluation(rows: List[Row]) -> str:
    """How it is evaluated, where that is not by the config alone."""
    if not any(row.tta for row in rows):
        return ''
    return ('<br>evaluated with `tools/class_frequencies.py` and `--tta`: '
            '[how](../README.md#coco-stuff-2017)')


def _evaluated_only(rows: List[Row]) -> Optional[str]:
    """Why a config is not trained, or None."""
    for row in rows:
        if row.networks:
            return 'the networks of ' + ' and '.join(row.networks)
        if row.test_config:
            return f'trained as {Path(row.config).stem}'
    return None


def _schedule(path: Path, rows: List[Row]) -> str:
    reason = _evaluated_only(rows)
    if reason:
        return reason
    cfg = load(path)
    images = cfg.train_dataloader.batch_size * GPUS
    return (f'{cfg.train_cfg.max_iters // 1000}k x {images}, lr '
            f'{cfg.optim_wrapper.optimizer.lr:g}')


def _memory(path: Path, rows: List[Row], known: Dict[str, int]) -> str:
    if _evaluated_only(rows):
        return ''
    cfg = load(path)
    shape = image_shape(path)
    batch = cfg.train_dataloader.batch_size
    model = cfg.model.to_dict()
    # branches, not weights, take memory
    weights = model.get('loss_weights') or {}
    model['loss_weights'] = {name: bool(v) for name, v in weights.items()}
    key = json.dumps([model, shape, batch], sort_keys=True, default=str)
    if key not in known:
        known[key] = memory_of(path, shape, batch)
    return f'{known[key] / 2**30:.1f} GB'


def memory_of(path: Path, shape: Tuple[int, int], batch: int) -> int:
    """Estimate the memory of a training step on one GPU.

    Args:
        path (Path): The config file.
        shape (tuple[int, int]): (H, W) of the images.
        batch (int): Images on the GPU.

    Returns:
        int: Bytes.

    Raises:
        InputError: The model cannot be run on shapes alone.
    """
    return training_memory(build_on_meta(path), shape, batch).total


def image_shape(path: Path) -> Tuple[int, int]:
    """(H, W) of the largest training image of a config.

    Args:
        path (Path): The config file.

    Returns:
        tuple[int, int]: Before padding, in pixels.

    Raises:
        PaperError: Its pipeline has no crop and no scales.
    """
    steps = load(path).train_dataloader.dataset.pipeline
    for step in steps:
        if 'crop_size' in step:
            return tuple(step.crop_size)
    for step in steps:
        if 'scales' in step:
            long, short = max(step.scales, key=lambda scale: scale[1])
            return short, long
    raise PaperError(f'{path}: the training pipeline neither crops nor '
                     'chooses a scale, so the size of images is unknown.')


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
