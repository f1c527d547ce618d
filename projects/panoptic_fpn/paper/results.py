"""States and metrics of runs, as their folders tell.

Metrics are in percent and called as in the paper's tables; flops in 1e12
multiply-adds, memory in 1e9 activations. None stands for n/a.
"""
import json
import math
import re
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Dict, Iterable, List, Mapping, Optional, Sequence

from .configs import load
from .errors import PaperError
from .steps import Run, export_file, read_record

#: Paper's name: keys of metrics.json and the factor to percent.
KEYS = dict(
    AP=(('coco/segm_mAP', 100), ('cityscapes/mAP', 100)),
    AP50=(('coco/segm_mAP_50', 100), ('cityscapes/AP@50', 100)),
    AP75=(('coco/segm_mAP_75', 100), ),
    PQ=(('coco_panoptic/PQ', 1), ),
    PQ_th=(('coco_panoptic/PQ_th', 1), ),
    PQ_st=(('coco_panoptic/PQ_st', 1), ),
    mIoU=(('mIoU', 1), ),
    fIoU=(('fIoU', 1), ),
    iIoU=(('iIoU', 1), ))

Metrics = Dict[str, Optional[float]]


@dataclass(frozen=True)
class State:
    """How far a run with a seed is, and what it scored.

    ``text`` is 'not run', 'started', 'training 35 %', 'trained', 'not
    exported', 'exported', 'done', or what is wrong with its metrics.
    """

    text: str
    folder: Path
    metrics: Optional[Metrics] = None

    @property
    def half(self) -> bool:
        """Whether something is there, but no result."""
        return self.metrics is None and self.text != 'not run'


@dataclass(frozen=True)
class Spread:
    """Values of several trainings."""

    values: Sequence[float]

    @property
    def median(self) -> float:
        return median(self.values)

    @property
    def low(self) -> float:
        return min(self.values)

    @property
    def high(self) -> float:
        return max(self.values)

    def overlaps(self, other: 'Spread') -> bool:
        """Whether the ranges from lowest to highest share a point."""
        return self.low <= other.high and other.low <= self.high


def read_metrics(path: Path) -> Metrics:
    """The paper's metrics in a ``metrics.json``.

    Raises:
        PaperError: The file is no object of numbers.
    """
    try:
        content = json.loads(path.read_text(encoding='utf-8'))
        if not isinstance(content, dict):
            raise ValueError('not an object')
    except (OSError, ValueError) as error:
        raise PaperError(f'{path}: cannot be read ({error}). Delete it and '
                         'run the row again.') from None
    found: Metrics = {}
    for name, keys in KEYS.items():
        for key, factor in keys:
            if key not in content:
                continue
            value = content[key]
            if value is not None and not _is_number(value):
                raise PaperError(f'{path}: {key} is {value!r}, no number. '
                                 'Delete the file and run the row again.')
            found[name] = None if value is None else factor * value
    return found


def _is_number(value: object) -> bool:
    return isinstance(
        value,
        (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def state_of(run: Run, work_dir: Path, seed: int) -> State:
    """How far a run is in a folder of runs."""
    folder = run.folder(work_dir, seed)
    # scores of test-dev come from COCO's server, by hand
    name = 'test-dev' if run.test_config else 'test'
    metrics = folder / name / 'metrics.json'
    if metrics.is_file():
        try:
            return State('done', folder, read_metrics(metrics))
        except PaperError as error:
            return State(str(error), folder)
    if run.test_config and export_file(folder).is_file():
        return State('exported', folder)
    progress = _progress(run, folder)
    if run.test_config and progress == 'trained':
        progress = 'not exported'
    return State(progress, folder)


def _progress(run: Run, folder: Path) -> str:
    if not folder.is_dir():
        return 'not run'
    if run.networks:
        return 'started'
    reached = [
        int(match[1]) for path in folder.glob('iter_*.pth')
        if (match := re.fullmatch(r'iter_(\d+)\.pth', path.name))
    ]
    total = read_record(folder).get('max_iters')
    # without a record it was not this tool that scaled the schedule
    total = total or load(run.config).train_cfg.max_iters
    if not reached:
        return 'started'
    if max(reached) >= total:
        return 'trained'
    return f'training {100 * max(reached) // total} %'


def seeds_in(run: Run, work_dir: Path) -> List[int]:
    """Seeds that have a folder, ascending."""
    return sorted(
        int(path.name[5:]) for path in (work_dir / run.name).glob('seed-*')
        if path.is_dir() and path.name[5:].isdigit())


def states_of(run: Run, work_dirs: Iterable[Path]) -> Dict[int, State]:
    """States by seed; of several folders the first that is done counts."""
    states: Dict[int, State] = {}
    for work_dir in work_dirs:
        for seed in seeds_in(run, work_dir):
            state = state_of(run, work_dir, seed)
            if seed not in states or (states[seed].metrics is None
                                      and state.metrics is not None):
                states[seed] = state
    return dict(sorted(states.items()))


def spreads(states: Mapping[int, State],
            columns: Iterable[str]) -> Dict[str, Spread]:
    """Values of the seeds that are done, for the metrics that have any."""
    found = {}
    for column in columns:
        values = [
            state.metrics[column] for state in states.values()
            if state.metrics and state.metrics.get(column) is not None
        ]
        if values:
            found[column] = Spread(values)
    return found


def read_complexity(path: Path, part: str) -> Metrics:
    """Flops and memory in a file of ``tools/complexity.py``.

    Args:
        path (Path): The file; {} where it is missing.
        part (str): 'total', or 'trunk' for backbone and FPN alone.

    Raises:
        PaperError: It is of another form.
    """
    if not path.is_file():
        return {}
    try:
        cost = json.loads(path.read_text(encoding='utf-8'))[part]
        return dict(
            flops=cost['multiply_adds'] / 1e12,
            memory=cost['activations'] / 1e9)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise PaperError(f'{path}: cannot be read ({error!r}). Delete it and '
                         'run the row again.') from None
