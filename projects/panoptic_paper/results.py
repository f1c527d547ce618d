"""States and metrics of runs, as their folders tell.

Metrics are in percent and called as in the paper's tables; flops in 1e12
multiply-adds, memory in 1e9 activations, resolution as the output's side over
the image's. None stands for n/a.
"""
import json
import math
import re
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from statistics import median
from typing import Dict, Iterable, List, Mapping, Optional, Sequence

from .rows import PaperError
from .run import Run, export_file, is_older, load, read_record

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


class Stage(Enum):
    """How far a run with a seed is."""

    NOT_RUN = 'not run'
    STARTED = 'started'
    TRAINING = 'training'
    TRAINED = 'trained'
    NOT_EXPORTED = 'not exported'
    EXPORTED = 'exported'
    DONE = 'done'
    #: its metrics cannot be read
    BROKEN = 'broken'
    #: the config was edited since
    OTHER_CONFIG = 'run with another config'
    #: of two networks, of which one was trained again since
    OUTDATED = 'older than its networks'


@dataclass(frozen=True)
class State:
    """How far a run with a seed is, and what it scored.

    Attributes:
        stage (Stage): How far.
        folder (Path): Of the run.
        metrics (Metrics | None): Where it is done.
        detail (str): More than the stage says: '35 %', or what is wrong.
    """

    stage: Stage
    folder: Path
    metrics: Optional[Metrics] = None
    detail: str = ''

    @property
    def text(self) -> str:
        """str: 'training 35 %'; of metrics what is wrong with them."""
        if self.stage is Stage.BROKEN:
            return self.detail
        return f'{self.stage.value} {self.detail}'.rstrip()

    @property
    def half(self) -> bool:
        """bool: Whether something is there, but no result."""
        return self.metrics is None and self.stage is not Stage.NOT_RUN


@dataclass(frozen=True)
class Spread:
    """Values of several trainings.

    Attributes:
        values (Sequence[float]): One for each seed, at least one.
    """

    values: Sequence[float]

    @property
    def median(self) -> float:
        """float: The middle value, or the mean of the two."""
        return median(self.values)

    @property
    def low(self) -> float:
        """float: The lowest value."""
        return min(self.values)

    @property
    def high(self) -> float:
        """float: The highest value."""
        return max(self.values)

    def overlaps(self, other: 'Spread') -> bool:
        """Whether the ranges from lowest to highest share a point.

        Args:
            other (Spread): Of another row.

        Returns:
            bool: Whether they do.
        """
        return self.low <= other.high and other.low <= self.high

    def farthest(self, other: 'Spread') -> float:
        """The largest difference of any two trainings.

        Args:
            other (Spread): Of another row.

        Returns:
            float: Between a value of this and one of the other, >= 0.
        """
        return max(self.high - other.low, other.high - self.low)


def read_metrics(path: Path) -> Metrics:
    """The paper's metrics in a ``metrics.json``.

    Args:
        path (Path): The file.

    Returns:
        dict[str, float | None]: By the paper's name, None for n/a.

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


def is_broken(path: Path) -> bool:
    """Whether a ``metrics.json`` cannot be used: it is evaluated again.

    Args:
        path (Path): The file, which exists.

    Returns:
        bool: Whether :func:`read_metrics` refuses it.
    """
    try:
        read_metrics(path)
    except PaperError:
        return True
    return False


def _is_number(value: object) -> bool:
    return isinstance(
        value,
        (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def state_of(run: Run, work_dir: Path, seed: int) -> State:
    """How far a run is in a folder of runs.

    Args:
        run (Run): Of any kind.
        work_dir (Path): The folder of runs.
        seed (int): Of the training.

    Returns:
        State: NOT_RUN where nothing is.

    Raises:
        PaperError: Its config cannot be read.
    """
    folder = run.folder(work_dir, seed)
    changed = run.changed_key(folder)
    if changed:
        return State(Stage.OTHER_CONFIG, folder, detail=f'({changed} differs)')
    # scores of test-dev come from COCO's server, by hand
    name = 'test-dev' if run.test_config else 'test'
    metrics = folder / name / 'metrics.json'
    if metrics.is_file():
        networks = [
            path for network in run.networks
            for path in network.folder(work_dir, seed).glob('iter_*.pth')
        ]
        if is_older(metrics, networks):
            return State(Stage.OUTDATED, folder)
        try:
            return State(Stage.DONE, folder, read_metrics(metrics))
        except PaperError as error:
            return State(Stage.BROKEN, folder, detail=str(error))
    if run.test_config and export_file(folder).is_file():
        return State(Stage.EXPORTED, folder)
    return _progress(run, folder)


def _progress(run: Run, folder: Path) -> State:
    if not folder.is_dir():
        return State(Stage.NOT_RUN, folder)
    if run.networks:
        return State(Stage.STARTED, folder)
    reached = [
        int(match[1]) for path in folder.glob('iter_*.pth')
        if (match := re.fullmatch(r'iter_(\d+)\.pth', path.name))
    ]
    total = read_record(folder).get('max_iters')
    # without a record it was not this tool that scaled the schedule
    total = total or load(run.config).train_cfg.max_iters
    if not reached:
        return State(Stage.STARTED, folder)
    if max(reached) < total:
        share = f'{100 * max(reached) // total} %'
        return State(Stage.TRAINING, folder, detail=share)
    return State(Stage.NOT_EXPORTED if run.test_config else Stage.TRAINED,
                 folder)


def seeds_in(run: Run, work_dir: Path) -> List[int]:
    """Seeds that have a folder.

    Args:
        run (Run): Of any kind.
        work_dir (Path): The folder of runs.

    Returns:
        list[int]: Ascending.
    """
    return sorted(
        int(path.name[5:]) for path in (work_dir / run.name).glob('seed-*')
        if path.is_dir() and path.name[5:].isdigit())


def states_of(run: Run, work_dirs: Iterable[Path]) -> Dict[int, State]:
    """States of a run's seeds.

    Args:
        run (Run): Of any kind.
        work_dirs (Iterable[Path]): Folders of runs; of a seed in several,
            the first that is done counts.

    Returns:
        dict[int, State]: By seed, ascending.

    Raises:
        PaperError: The run's config cannot be read.
    """
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
    """Values of the seeds that are done.

    Args:
        states (Mapping[int, State]): By seed.
        columns (Iterable[str]): Metrics.

    Returns:
        dict[str, Spread]: Of the metrics that have any value.
    """
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
    """Flops, memory and resolution in a file of ``tools/complexity.py``.

    Args:
        path (Path): The file.
        part (str): 'total', or 'trunk' for backbone and FPN alone.

    Returns:
        dict[str, float]: {} where the file is missing.

    Raises:
        PaperError: It is of another form.
    """
    if not path.is_file():
        return {}
    try:
        content = json.loads(path.read_text(encoding='utf-8'))
        cost = content[part]
        return dict(
            flops=cost['multiply_adds'] / 1e12,
            memory=cost['activations'] / 1e9,
            resolution=1 / content['output_stride'])
    except (OSError, ValueError, KeyError, TypeError,
            ZeroDivisionError) as error:
        raise PaperError(f'{path}: cannot be read ({error!r}). Delete it and '
                         'run the row again.') from None
