"""Counts of the parts of a training step, of a prediction and of the heads,
ours beside mmdet's, and the table of the repository.

Parts and inputs are those of ``tools/check_gpu.py``. The table has them at a
quarter of their sides: what is counted hardly depends on sizes, but for bytes.
"""
import json
from collections import defaultdict
from dataclasses import replace
from pathlib import Path
from typing import Any, Dict, List, NamedTuple, Optional, Tuple

import torch
from mmdet.utils import register_all_modules

from benchmarks.harness import quiet
from panoptic_apps.check_gpu import parts, units
from panoptic_apps.check_gpu.scenes import (CITYSCAPES, COCO, Case,
                                            training_batch)

from . import Counts, Ledger, PretendedGpu, pretended_gpu

TABLE = Path(__file__).with_name('counts.json')
COLUMNS = ('launches', 'waits', 'MB to the GPU', 'MB from the GPU')
CASES = {case.name: case for case in (COCO, CITYSCAPES)}
GPU = torch.device('cuda')
#: Both sides of a comparison.
SIDES = parts.SIDES
#: A part's ledger by its name.
Parts = Dict[str, Ledger]
#: Rows by part, by key as text.
Table = Dict[str, Dict[str, List[float]]]


class Key(NamedTuple):
    """What was counted."""
    case: str
    #: 'training step', 'prediction' or 'heads'
    work: str
    #: 'ours' or 'mmdet'
    side: str

    def __str__(self) -> str:
        return ', '.join(self)


KEYS = [
    Key(case, work, side) for case in CASES
    for work in ('training step', 'prediction', 'heads') for side in SIDES
]


def small(case: Case) -> Case:
    """A quarter of the sides, fewer boxes, as many instances."""
    crop, image = (
        tuple(side // 4 for side in size) for size in (case.crop, case.image))
    original = tuple(side // 4 if side > 640 else side
                     for side in case.original)
    return replace(
        case,
        crop=crop,
        image=image,
        original=original,
        batch=2,
        detections=40,
        rois=32,
        proposals=128)


def count(key: Key, quick: bool) -> Parts:
    """Parts of one work on a pretended GPU of its own.

    Args:
        quick (bool): At a quarter of the sides.
    """
    case = small(CASES[key.case]) if quick else CASES[key.case]
    with pretended_gpu() as gpu, quiet():
        found: Parts = {}
        for work in _works(case, key):
            first = work.inputs()
            if key.work == 'training step' and not quick:
                # a large step takes minutes
                first = training_batch(small(case), key.side)
            found.update(count_work(gpu, work, first))
    return found


def count_work(gpu: PretendedGpu, work: parts.Work, first: Any) -> Parts:
    """Ledgers of the second run; the one on ``first`` fills caches and makes
    the optimizer's state."""
    torch.manual_seed(0)
    work.run(first, lambda part: None)
    found: Parts = defaultdict(Ledger)
    inputs = work.inputs()
    torch.manual_seed(0)
    with gpu.counted() as ledger:

        def note(part: str) -> None:
            found[part].update(ledger)
            ledger.clear()

        work.run(inputs, note)
    return dict(found)


def _works(case: Case, key: Key) -> List[parts.Work]:
    register_all_modules()
    if key.work == 'heads':
        return units.units(case, key.side, GPU)
    make = dict(training=parts.training_step, prediction=parts.prediction)
    return [make[key.work.split()[0]](case, key.side, GPU)]


def figures(counts: Counts) -> List[float]:
    """One line of the table, in the order of ``COLUMNS``."""
    return [
        counts.launches, counts.waits,
        round(counts.to_gpu / 1e6, 3),
        round(counts.from_gpu / 1e6, 3)
    ]


def as_table(found: Dict[Key, Parts]) -> Table:
    """Figures by key and part."""
    return {
        str(key): {
            part: figures(ledger.counts())
            for part, ledger in content.items()
        }
        for key, content in found.items()
    }


def write(found: Dict[Key, Parts]) -> None:
    """Write the table of the repository, a part a line."""
    blocks = []
    for key, content in as_table(found).items():
        lines = [
            f'    {json.dumps(part)}: {json.dumps(row)}'
            for part, row in content.items()
        ]
        blocks.append(f'  {json.dumps(key)}: {{\n' + ',\n'.join(lines) +
                      '\n  }')
    head = f'  "columns": {json.dumps(COLUMNS)}'
    TABLE.write_text('{\n' + ',\n'.join([head, *blocks]) + '\n}\n')


def read() -> Table:
    """The table of the repository."""
    content = json.loads(TABLE.read_text())
    content.pop('columns')
    return content


def total(content: Dict[str, List[float]],
          metrics: bool = False) -> List[float]:
    """A row: the sum of the metrics' rows, or of all the others, which both
    sides have."""
    rows = [
        row for part, row in content.items()
        if part.endswith('Metric') == metrics
    ]
    return [round(sum(column), 3) for column in zip(*rows)]


class Goal(NamedTuple):
    """At most a share of mmdet's, or a number.

    Args:
        case (str): 'COCO' or 'Cityscapes'.
        work (str): See :class:`Key`.
        part (str): A part, 'all', or 'metrics'.
        column (str): One of ``COLUMNS``.
        share (float, optional): Of mmdet's.
        limit (float, optional): Instead of a share.
    """
    case: str
    work: str
    part: str
    column: str
    share: Optional[float] = None
    limit: Optional[float] = None

    @property
    def name(self) -> str:
        what = self.work if self.part == 'all' else self.part
        return f'{self.case}, {what}, {self.column}'

    def of_table(self, table: Table) -> Tuple[float, float]:
        """Ours, and what it is at most."""
        ours, mmdet = (self._row(table, side) for side in SIDES)
        column = COLUMNS.index(self.column)
        limit = self.limit
        if limit is None:
            limit = self.share * mmdet[column]
        return ours[column], limit

    def _row(self, table: Table, side: str) -> List[float]:
        content = table[str(Key(self.case, self.work, side))]
        if self.part in ('all', 'metrics'):
            return total(content, self.part == 'metrics')
        return content[self.part]


GOALS = [
    *(Goal(case, 'training step', 'all', column, share) for case in CASES
      for column, share in (('launches', 1), ('waits', .5))),
    Goal('COCO', 'prediction', 'all', 'launches', share=.8),
    Goal('COCO', 'prediction', 'all', 'waits', share=.5),
    *(Goal(case, 'heads', 'semantic loss', 'launches', limit=40)
      for case in CASES),
    *(Goal(case, 'heads', 'merge', 'waits', limit=3) for case in CASES),
    *(Goal(case, 'prediction', 'metrics', 'MB from the GPU', limit=1)
      for case in CASES),
]
