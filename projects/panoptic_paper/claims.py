"""What the paper claims, held against ranges of our trainings.

A verdict is never stronger than the data: a difference counts where the
ranges from lowest to highest seed do not overlap, and where each side has at
least three seeds. Two rows are as good as each other where no two trainings
differ by more than the paper's own rows; ranges that overlap show nothing.
Of two settings without any difference, the ranges of three seeds each come
apart in 1 of 10 cases, those of two seeds in 1 of 3.
"""
from dataclasses import dataclass
from typing import Dict, List, Mapping, Optional, Sequence, Tuple

from .results import Spread
from .rows import Claim, Row

MIN_SEEDS = 3
AGREES, CONTRADICTS = 'agrees', 'contradicts'
NO_EFFECT, NOT_JUDGED = 'no visible effect', 'not judged'
NOT_RUN = 'not run'
#: In the order of a summary.
VERDICTS = (AGREES, CONTRADICTS, NO_EFFECT, NOT_JUDGED, NOT_RUN)


@dataclass(frozen=True)
class Verdict:
    """What became of a claim.

    Attributes:
        claim (Claim): It.
        data (str): The data set, or 'miniature'.
        verdict (str): One of :data:`VERDICTS`; for a ratio, the ratio.
        why (str): The numbers.
    """

    claim: Claim
    data: str
    verdict: str
    why: str

    @property
    def as_claimed(self) -> bool:
        """bool: Whether no visible effect is what the claim expects."""
        return self.verdict == NO_EFFECT and self.claim.kind == 'comparable'


def judge(claim: Claim,
          ours: Mapping[str, Spread],
          data: str,
          fixed: Mapping[str, float] = {},
          tolerance: Optional[float] = None) -> Verdict:
    """Hold a claim against our values.

    Args:
        claim (Claim): Its rows and metric.
        ours (Mapping[str, Spread]): Values of the metric by label.
        data (str): Named in the verdict.
        fixed (Mapping[str, float]): Printed values of other systems, by
            label; they have no range.
        tolerance (float, optional): The largest difference of two trainings
            that is 'comparable'; None where nothing says how large.

    Returns:
        Verdict: With its numbers.
    """
    left = [label for label in claim.left if label in ours]
    right = ours.get(claim.right)
    if right is None and claim.right in fixed:
        right = Spread([fixed[claim.right]])
    missing = [] if left else list(claim.left)
    missing += [] if right else [claim.right]
    if missing:
        return Verdict(claim, data, NOT_RUN, f'without {", ".join(missing)}')
    best = max(left, key=lambda label: ours[label].median)
    if claim.kind == 'ratio':
        ratio = ours[best].median / right.median
        return Verdict(claim, data, f'ratio {ratio:.2f}',
                       f'the paper: about {claim.factor}')
    of = f' (best of {len(left)} rows)' if len(left) > 1 else ''
    why = (f'{best}{of} {describe(ours[best])} against {claim.right} '
           f'{describe(right)}')
    sides = [ours[best]] + [right] * (claim.right not in fixed)
    if min(len(side.values) for side in sides) < MIN_SEEDS:
        return Verdict(claim, data, NOT_JUDGED,
                       f'{why}: fewer than {MIN_SEEDS} seeds')
    return Verdict(claim, data,
                   _verdict(claim.kind, ours[best], right, tolerance), why)


def _verdict(kind: str, left: Spread, right: Spread,
             tolerance: Optional[float]) -> str:
    if kind == 'comparable' and tolerance is not None:
        # beyond the last digit of a float
        if round(left.farthest(right), 6) <= tolerance:
            return AGREES
    if left.overlaps(right):
        return NO_EFFECT
    better = kind == 'better' and left.low > right.high
    return AGREES if better else CONTRADICTS


def describe(spread: Spread) -> str:
    """A spread in words.

    Args:
        spread (Spread): Of a row.

    Returns:
        str: '39.0 (38.8 to 39.3, 5 seeds)'; a printed number is alone.
    """
    if len(spread.values) == 1:
        return f'{spread.median:.1f}'
    return (f'{spread.median:.1f} ({spread.low:.1f} to {spread.high:.1f}, '
            f'{len(spread.values)} seeds)')


def judge_rows(claims: Tuple[Claim, ...], rows: Sequence[Row],
               ours: Mapping[str, Dict[str,
                                       Spread]], data: str) -> List[Verdict]:
    """Judge a table's claims on the rows of one data set.

    Args:
        claims (tuple[Claim]): Of the table.
        rows (Sequence[Row]): Those of the data set; none for the miniature,
            whose numbers have no printed ones beside them.
        ours (Mapping[str, dict[str, Spread]]): Metrics by label.
        data (str): The data set.

    Returns:
        list[Verdict]: One for each claim.
    """
    verdicts = []
    for claim in claims:
        values = {
            label: found[claim.metric]
            for label, found in ours.items() if claim.metric in found
        }
        printed = {row.label: row.paper[claim.metric] for row in rows}
        fixed = {
            row.label: printed[row.label]
            for row in rows
            if row.config is None and printed[row.label] is not None
        }
        verdicts.append(
            judge(claim, values, data, fixed, _tolerance(claim, printed)))
    return verdicts


def _tolerance(claim: Claim,
               printed: Mapping[str, Optional[float]]) -> Optional[float]:
    """The difference that the paper itself calls comparable."""
    values = [printed.get(label) for label in (claim.left[0], claim.right)]
    if claim.kind != 'comparable' or None in values:
        return None
    # of numbers with one digit
    return round(abs(values[0] - values[1]), 1)
