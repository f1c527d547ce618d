"""The page ``docs/complexity.md``: compute in the paper, and ours.

Figure 4 (backbones and decoders), Table 1a, Tables 3a and 3b (one network
against two), and the memory of training beside what others published. Rows,
numbers and claims are those of ``configs/paper/tables.yml``.
"""
import json
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Dict, List, Tuple

from panoptic_apps.complexity import (Complexity, Cost, TrainingMemory,
                                      build_on_meta, complexity,
                                      training_memory)

from .pictures import draw_compute
from .report import DATA, markdown_table, write_files
from .tables import PaperTables, Row

#: (H, W) of the paper's '2 megapixel image', and of one of COCO.
SHAPES = dict(cityscapes=(1024, 2048), coco=(800, 1344))
#: Labels of Tables 3a and 3b: one R50, two R50, one R101.
NETWORKS = ('table3a/{}-r50', 'table3a/{}-r50x2', 'table3b/{}-r101')
#: Batch 2 on COCO, 1x: row, and GB in the model zoos of others.
MEMORY = {
    'R50': ('table3a/coco-r50', dict(MMDetection=4.7, Detectron2=4.8)),
    'R101': ('table3b/coco-r101', dict(MMDetection=6.7)),
}


@dataclass(frozen=True)
class Ratio:
    """A claim of Figure 4, and ours of the first to the second: compute of
    backbone and decoder, resolution of a side of the output."""

    text: str
    first: str
    second: str
    multiply_adds: float
    activations: float
    resolution: float


@dataclass(frozen=True)
class PaperCompute:
    """Counts by label (Figure 4, Table 1a), by data set (Table 3, see
    :data:`NETWORKS`) and by backbone (memory); claims of Figure 4."""

    figure4: Dict[str, Tuple[Row, Complexity]]
    table1a: Dict[str, Tuple[Row, Complexity]]
    table3: Dict[str, Tuple[Complexity, ...]]
    memory: Dict[str, TrainingMemory]
    ratios: List[Ratio]


def paper_compute(tables: PaperTables) -> PaperCompute:
    """Count everything that the paper says something about.

    Raises:
        InputError: A config is missing, or see :func:`complexity`.
    """

    @lru_cache(maxsize=None)  # some are in two tables
    def count(config: str, shape: Tuple[int, int]) -> Complexity:
        return complexity(build_on_meta(tables.path(config)), shape)

    def rows_of(name: str) -> dict:
        return {
            row.label: (row, count(row.config, SHAPES[row.data]))
            for row in tables.table(name).rows if row.config
        }

    figure4 = rows_of('figure4')
    return PaperCompute(
        figure4=figure4,
        table1a=rows_of('table1a'),
        table3={
            data:
            tuple(
                count(tables.row(name.format(data)).config, shape)
                for name in NETWORKS)
            for data, shape in reversed(SHAPES.items())
        },
        memory={
            backbone:
            training_memory(
                build_on_meta(tables.path(tables.row(name).config)),
                SHAPES['coco'], 2)
            for backbone, (name, _) in MEMORY.items()
        },
        ratios=_ratios(tables, figure4))


def _ratios(tables: PaperTables,
            rows: Dict[str, Tuple[Row, Complexity]]) -> List[Ratio]:
    """Each claim once, also where it is about several columns."""
    found = []
    for text, label, other in dict.fromkeys(
        (claim.text, claim.left[0], claim.right)
            for claim in tables.table('figure4').claims):
        (first, one), (second, two) = rows[label], rows[other]
        found.append(
            Ratio(text, first.title, second.title,
                  one.trunk.multiply_adds / two.trunk.multiply_adds,
                  one.trunk.activations / two.trunk.activations,
                  two.stride / one.stride))
    return found


def write_compute(tables: PaperTables, folder: Path) -> List[Path]:
    """Count all and write ``complexity.md`` and ``images/figure4.png`` and
    ``.json``.

    Raises:
        InputError: See :func:`paper_compute`, or a file cannot be written.
    """
    compute = paper_compute(tables)
    picture = 'images/figure4.png'
    numbers = json.dumps(figure4_json(compute), indent=1, allow_nan=False)
    drawn = draw_compute([
        (row.title, counts.stride, counts.trunk.multiply_adds,
         counts.trunk.activations) for row, counts in compute.figure4.values()
    ])
    return write_files(
        folder, {
            'complexity.md': compute_page(compute, picture).encode(),
            picture: drawn,
            'images/figure4.json': (numbers + '\n').encode()
        })


def figure4_json(compute: PaperCompute) -> Dict:
    """The numbers of Figure 4 and its claims, in plain types."""
    models = {
        row.title:
        dict(
            config=row.config,
            shape=list(counts.shape),
            output_stride=counts.stride,
            **asdict(counts.trunk))
        for row, counts in compute.figure4.values()
    }
    return dict(models=models, claims=list(map(asdict, compute.ratios)))


def compute_page(compute: PaperCompute, picture: str) -> str:
    """The page in Markdown; ``picture`` is Figure 4, relative to it."""
    return _PAGE.format(
        picture=picture,
        figure4=_figure4(compute),
        claims=_claims(compute),
        table1a=_table1a(compute),
        table3=_table3(compute),
        memory=_memory(compute))


_PAGE = """\
<!-- Written by `python tools/paper.py compute`; changes are lost. -->

# Compute: the paper and these configs

Counted from shapes, for one image: multiply-adds of convolutions and matrix
products, activations (elements of the outputs of convolutions) and
parameters. RPN is counted on all levels, the box head on 1000 RoIs, the mask
head on 100 detections; RoIAlign, NMS, interpolation and the merge are not.
`python tools/complexity.py CONFIG` prints the parts of any config.

## Figure 4

![Multiply-adds and activations of four backbones]({picture})

{figure4}

ResNet-101 with decoder, 1024 x 2048, no semantic head. The paper draws Figure
4 without printing numbers, and does not detail the symmetric decoder:
`projects/panoptic_fpn/models/symmetric_decoder.py` says what was chosen.

{claims}

## Table 1a

{table1a}

## One network or two (Tables 3a and 3b)

The paper: 'roughly half the compute (the backbone dominates compute, so the
reduction is almost 50%)', and for R101 against two R50 'roughly equal
computational budget'. Ratios are of one network to two of R50.

{table3}

## Memory of training: an estimate

Float32, two images of 800 x 1344 on one GPU: weights, gradients, momentum and
what autograd keeps for backward, from shapes; not measured on a GPU. Anchors,
targets and region losses, buffers of kernels and gradients of activations are
not in it, so it is too low. Beside it the 1x schedules of other model zoos,
whose networks differ in details; GB of 2^30 bytes.

{memory}
"""


def _figure4(compute: PaperCompute) -> str:
    return markdown_table(
        ('backbone', 'output', 'multiply-adds (1e12)', 'activations (1e9)',
         'parameters (1e6)'),
        [(row.title, f'1/{counts.stride}', *_units(counts.trunk),
          f'{counts.trunk.parameters / 1e6:.1f}')
         for row, counts in compute.figure4.values()])


def _claims(compute: PaperCompute) -> str:
    return markdown_table(
        ('the paper', 'ours: ratio of', 'multiply-adds', 'activations',
         'resolution of a side'),
        [(r.text, f'{r.first} / {r.second}', f'{r.multiply_adds:.2f}',
          f'{r.activations:.2f}', f'{r.resolution:g}')
         for r in compute.ratios])


def _table1a(compute: PaperCompute) -> str:
    rows = []
    for row, counts in compute.table1a.values():
        multiply_adds, activations = _units(counts.total)
        rows.append((row.title, str(row.paper['flops']), multiply_adds,
                     str(row.paper['memory']), activations))
    return markdown_table(('model', 'multiply-adds (1e12): paper', 'ours',
                           'activations (1e9): paper', 'ours'), rows)


def _table3(compute: PaperCompute) -> str:
    rows = []
    for data, (one, two, deep) in compute.table3.items():
        size = '{} x {}'.format(*SHAPES[data])
        for part in ('total', 'trunk'):
            single, double, deeper = (
                getattr(counts, part).multiply_adds
                for counts in (one, two, deep))
            label = 'all' if part == 'total' else 'backbone and FPN'
            rows.append((f'{DATA[data]}, {size}', label,
                         *(f'{n / 1e9:.0f}' for n in (single, double, deeper)),
                         f'{single / double:.2f}', f'{deeper / double:.2f}'))
    return markdown_table(('image', 'part', 'R50 (1e9)', 'two R50', 'R101',
                           'R50 / two R50', 'R101 / two R50'), rows)


def _memory(compute: PaperCompute) -> str:
    rows = []
    for name, estimate in compute.memory.items():
        ours = estimate.total / 2**30
        others = [
            f'{where} {value} ({100 * (ours / value - 1):+.0f} %)'
            for where, value in MEMORY[name][1].items()
        ]
        rows.append((f'Panoptic FPN {name}', f'{ours:.1f}', ', '.join(others)))
    return markdown_table(
        ('model', 'estimate (GB)', 'published (estimate against it)'), rows)


def _units(cost: Cost) -> Tuple[str, str]:
    """In the units of Table 1a, with one digit more than it prints."""
    return f'{cost.multiply_adds / 1e12:.2f}', f'{cost.activations / 1e9:.2f}'
