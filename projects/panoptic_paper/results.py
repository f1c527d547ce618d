"""States and scores of runs, read from their folders, and claims about them.

Scores are in percent and have the names of the paper's tables; None stands for
n/a.

A verdict on a claim is never stronger than the data: a difference counts where
the ranges from lowest to highest seed do not overlap, and where each side has
at least three seeds. Two rows are equally good where no two trainings differ
by more than the paper's own rows; ranges that overlap show nothing.
Of two settings without any difference, the ranges of three seeds each come
apart in 1 of 10 cases, those of two seeds in 1 of 3.
"""
import re
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median
from typing import (Any, Dict, Iterable, List, Mapping, Optional, Sequence,
                    Tuple)

import msgspec

from .runs import Run, Weights, export_file, load, read_record
from .tables import Claim, Row

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
MIN_SEEDS = 3
AGREES, CONTRADICTS = 'agrees', 'contradicts'
NO_EFFECT, NOT_JUDGED = 'no visible effect', 'not judged'
NOT_RUN = 'not run'
#: In the order of a summary.
VERDICTS = (AGREES, CONTRADICTS, NO_EFFECT, NOT_JUDGED, NOT_RUN)

Metrics = Dict[str, Optional[float]]
#: values of several trainings by metric, one for each seed, at least one
Spreads = Dict[str, List[float]]


@dataclass(frozen=True)
class State:
    """How far a run with a seed is: 'not run', 'training 35 %', 'done', or
    what is wrong; and its scores where it is done."""

    text: str
    folder: Path
    metrics: Optional[Metrics] = None


def read_metrics(path: Path) -> Metrics:
    """The paper's scores in a ``metrics.json``, by the paper's name;
    ValueError where it is not an object of numbers."""
    content = msgspec.json.decode(path.read_bytes(), type=Dict[str, Any])
    scores: Metrics = {}
    for name, keys in KEYS.items():
        for key, factor in keys:
            if key in content:
                value = msgspec.convert(content[key], Optional[float])
                scores[name] = None if value is None else factor * value
    return scores


def state_of(run: Run, work_dir: Path, seed: int) -> State:
    """How far a run with a seed is in a folder of runs."""
    folder = run.folder(work_dir, seed)
    changed = run.changed_key(folder)
    if changed:
        return State(f'run with another config ({changed} differs)', folder)
    # scores of test-dev come from COCO's server, by hand
    name = 'test-dev' if run.test_config else 'test'
    metrics = folder / name / 'metrics.json'
    if metrics.is_file():
        made = metrics.stat().st_mtime
        for network in run.networks:
            for path in network.folder(work_dir, seed).glob('iter_*.pth'):
                if path.stat().st_mtime > made:
                    return State('older than its networks', folder)
        try:
            return State('done', folder, read_metrics(metrics))
        except (OSError, ValueError) as error:
            return State(
                f'{metrics}: cannot be read ({error}). Delete it and run the '
                'row again.', folder)
    if run.test_config and export_file(folder).is_file():
        return State('exported', folder)
    return State(_progress(run, folder), folder)


def _progress(run: Run, folder: Path) -> str:
    if not folder.is_dir():
        return NOT_RUN
    reached = max([
        int(match[1]) for path in folder.iterdir()
        if (match := re.fullmatch(r'iter_(\d+)\.pth', path.name))
    ], default=0)  # yapf: disable
    if run.networks or not reached:
        return 'started'
    # without a record, `tools/paper.py run` has not scaled the schedule
    total = read_record(folder).get('max_iters') or load(
        run.config).train_cfg.max_iters
    if reached < total:
        return f'training {100 * reached // total} %'
    return 'not exported' if run.test_config else 'trained'


def states_of(run: Run, work_dirs: Iterable[Path]) -> Dict[int, State]:
    """States of a run by seed, ascending; of a seed in several folders of
    runs, the first that is done counts."""
    states: Dict[int, State] = {}
    for work_dir in work_dirs:
        for path in (work_dir / run.name).glob('seed-*'):
            if not path.name[5:].isdigit():
                continue  # put aside by hand
            seed = int(path.name[5:])
            state = state_of(run, work_dir, seed)
            if seed not in states or (states[seed].metrics is None
                                      and state.metrics is not None):
                states[seed] = state
    return dict(sorted(states.items()))


def spreads(states: Mapping[int, State], columns: Iterable[str]) -> Spreads:
    """Values of the seeds that are done, of the metrics that have any."""
    done = [state.metrics for state in states.values() if state.metrics]
    values = {
        column: [m[column] for m in done if m.get(column) is not None]
        for column in columns
    }
    return {column: found for column, found in values.items() if found}


def best_of(
    states: Mapping[Weights, Mapping[int, State]]
) -> Tuple[Optional[Weights], int]:
    """The weights with the best median PQ on the validation set, None without
    any result; and the number of weights that have one."""
    known = {
        weights: median(found['PQ'])
        for weights, of_seeds in states.items()
        if (found := spreads(of_seeds, ['PQ']))
    }
    return max(known, key=known.__getitem__, default=None), len(known)


@dataclass(frozen=True)
class Verdict:
    """What became of a claim on a data set, or on the 'miniature': one of
    :data:`VERDICTS`, or 'ratio 1.50'; and the numbers."""

    claim: Claim
    data: str
    verdict: str
    why: str

    @property
    def as_claimed(self) -> bool:
        """Whether no visible effect is what the claim expects."""
        return self.verdict == NO_EFFECT and self.claim.kind == 'comparable'


def judge(claim: Claim,
          ours: Mapping[str, List[float]],
          data: str,
          fixed: Mapping[str, float] = {},
          tolerance: Optional[float] = None) -> Verdict:
    """Compare a claim with our values of its metric by label.

    ``fixed`` are printed values of other systems, which have no range;
    ``tolerance`` is the largest difference of two trainings that is
    'comparable', None where nothing says how large.
    """
    left = [label for label in claim.left if label in ours]
    right = ours.get(claim.right)
    if right is None and claim.right in fixed:
        right = [fixed[claim.right]]
    verdict = partial(Verdict, claim, data)
    if not left or right is None:
        missing = [] if left else list(claim.left)
        missing += [] if right else [claim.right]
        return verdict(NOT_RUN, f'without {", ".join(missing)}')
    label = max(left, key=lambda label: median(ours[label]))
    best = ours[label]
    if claim.kind == 'ratio':
        ratio = median(best) / median(right)
        return verdict(f'ratio {ratio:.2f}',
                       f'the paper: about {claim.factor}')
    of = f' (best of {len(left)} rows)' if len(left) > 1 else ''
    one, two = (spread_text(v, f', {len(v)} seeds') for v in (best, right))
    why = f'{label}{of} {one} against {claim.right} {two}'
    sides = [best] + [right] * (claim.right not in fixed)
    if min(map(len, sides)) < MIN_SEEDS:
        return verdict(NOT_JUDGED, f'{why}: fewer than {MIN_SEEDS} seeds')
    return verdict(_verdict(claim.kind, best, right, tolerance), why)


def _verdict(kind: str, left: List[float], right: List[float],
             tolerance: Optional[float]) -> str:
    if kind == 'comparable' and tolerance is not None:
        farthest = max(max(left) - min(right), max(right) - min(left))
        # beyond the last digit of a float
        if round(farthest, 6) <= tolerance:
            return AGREES
    if min(left) <= max(right) and min(right) <= max(left):
        return NO_EFFECT
    better = kind == 'better' and min(left) > max(right)
    return AGREES if better else CONTRADICTS


def spread_text(values: Sequence[float], more: str = '') -> str:
    """Median and range, '39.0 (38.8 to 39.3)', with ``more`` behind the
    range; a value alone is '39.0'."""
    text = f'{median(values):.1f}'
    if len(values) > 1:
        text += f' ({min(values):.1f} to {max(values):.1f}{more})'
    return text


def judge_rows(claims: Iterable[Claim], rows: Sequence[Row],
               ours: Mapping[str, Spreads], data: str) -> List[Verdict]:
    """One verdict for each claim, on our metrics by label.

    ``rows`` are those of the data set; none for the miniature, for which the
    paper prints no numbers.
    """
    verdicts = []
    for claim in claims:
        metric = claim.metric
        values = {
            label: found[metric]
            for label, found in ours.items() if metric in found
        }
        printed = {row.label: row.paper[metric] for row in rows}
        fixed = {
            row.label: row.paper[metric]
            for row in rows if not row.config and row.paper[metric] is not None
        }
        tolerance = None
        left, right = printed.get(claim.left[0]), printed.get(claim.right)
        if claim.kind == 'comparable' and None not in (left, right):
            tolerance = round(abs(left - right), 1)  # they have one digit
        verdicts.append(judge(claim, values, data, fixed, tolerance))
    return verdicts
