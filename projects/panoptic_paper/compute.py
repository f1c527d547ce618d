"""The page ``docs/complexity.md``: compute in the paper, and ours.

Figure 4 (backbones and decoders), Table 1a, Tables 3a and 3b (one network
against two), and the memory of training next to what others published. Rows,
numbers and claims are those of ``configs/paper/tables.yml``.
"""
import json
from dataclasses import asdict
from functools import lru_cache
from pathlib import Path
from typing import Dict, List, NamedTuple, Tuple

from panoptic_apps.complexity import (Complexity, Cost, build_on_meta,
                                      complexity, training_memory)

from .pictures import draw_compute
from .report import DATA, markdown_table, render, write_files
from .tables import PaperTables, Row

#: (H, W) of an image of COCO, and of the paper's '2 megapixel image'.
SHAPES = dict(coco=(800, 1344), cityscapes=(1024, 2048))
#: Labels of Tables 3a and 3b: one R50, two R50, one R101.
NETWORKS = ('table3a/{}-r50', 'table3a/{}-r50x2', 'table3b/{}-r101')
#: Batch 2 on COCO, 1x: row, and GB in the model zoos of others.
MEMORY = {
    'R50': ('table3a/coco-r50', dict(MMDetection=4.7, Detectron2=4.8)),
    'R101': ('table3b/coco-r101', dict(MMDetection=6.7)),
}
_Counted = Dict[str, Tuple[Row, Complexity]]


class PaperCompute(NamedTuple):
    """Counts by label (Figure 4, Table 1a), by data set (Table 3, see
    :data:`NETWORKS`) and by backbone (memory); and for each claim of Figure 4
    the ratios of backbones with decoder, and of sides of the output."""

    figure4: _Counted
    table1a: _Counted
    table3: Dict[str, Tuple[Complexity, ...]]
    memory: Dict[str, int]
    ratios: List[Dict]


def paper_compute(tables: PaperTables) -> PaperCompute:
    """Count everything that the paper says something about."""

    @lru_cache(maxsize=None)  # some are in two tables
    def count(config: str, shape: Tuple[int, int]) -> Complexity:
        return complexity(build_on_meta(tables.path(config)), shape)

    def rows_of(name: str) -> _Counted:
        return {
            row.label: (row, count(row.config, SHAPES[row.data]))
            for row in tables.table(name).rows if row.config
        }

    table3 = {}
    for data, shape in SHAPES.items():
        rows = [tables.row(name.format(data)) for name in NETWORKS]
        table3[data] = tuple(count(row.config, shape) for row in rows)
    memory = {}
    for key, (name, _) in MEMORY.items():
        path = tables.path(tables.row(name).config)
        memory[key] = memory_of(path, SHAPES['coco'], 2)
    figure4 = rows_of('figure4')
    return PaperCompute(figure4, rows_of('table1a'), table3, memory,
                        _ratios(tables, figure4))


def memory_of(path: Path, shape: Tuple[int, int], batch: int) -> int:
    """Estimated bytes of a training step with ``batch`` images of (H, W)
    pixels on one GPU."""
    return training_memory(build_on_meta(path), shape, batch).total


def _ratios(tables: PaperTables, rows: _Counted) -> List[Dict]:
    """Each claim once, also where it is about several columns."""
    found = {}
    for claim in tables.table('figure4').claims:
        (first, one), (second, two) = rows[claim.left[0]], rows[claim.right]
        found[claim.text] = dict(
            text=claim.text,
            first=first.title,
            second=second.title,
            multiply_adds=one.trunk.multiply_adds / two.trunk.multiply_adds,
            activations=one.trunk.activations / two.trunk.activations,
            resolution=two.stride / one.stride)
    return list(found.values())


def write_compute(tables: PaperTables, folder: Path) -> List[Path]:
    """Count everything; write ``complexity.md``, ``images/figure4.png`` and
    ``.json``."""
    compute = paper_compute(tables)
    models = {
        row.title:
        dict(
            config=row.config,
            shape=counts.shape,
            output_stride=counts.stride,
            **asdict(counts.trunk))
        for row, counts in compute.figure4.values()
    }
    numbers = json.dumps(dict(models=models, claims=compute.ratios), indent=1)
    drawn = draw_compute([
        (row.title, counts.stride, counts.trunk.multiply_adds,
         counts.trunk.activations) for row, counts in compute.figure4.values()
    ])
    return write_files(
        folder, {
            'complexity.md': compute_page(compute).encode(),
            'images/figure4.png': drawn,
            'images/figure4.json': f'{numbers}\n'.encode()
        })


def compute_page(compute: PaperCompute) -> str:
    """The page in Markdown."""
    figure4 = markdown_table(
        ('backbone', 'output', 'multiply-adds (1e12)', 'activations (1e9)',
         'parameters (1e6)'),
        [(row.title, f'1/{counts.stride}', *_units(counts.trunk),
          f'{counts.trunk.parameters / 1e6:.1f}')
         for row, counts in compute.figure4.values()])
    claims = markdown_table(
        ('the paper', 'ours: ratio of', 'multiply-adds', 'activations',
         'resolution of a side'),
        [(r['text'], f'{r["first"]} / {r["second"]}',
          f'{r["multiply_adds"]:.2f}', f'{r["activations"]:.2f}',
          f'{r["resolution"]:g}') for r in compute.ratios])
    rows = []
    for row, counts in compute.table1a.values():
        multiply_adds, activations = _units(counts.total)
        rows.append((row.title, row.paper['flops'], multiply_adds,
                     row.paper['memory'], activations))
    table1a = markdown_table(('model', 'multiply-adds (1e12): paper', 'ours',
                              'activations (1e9): paper', 'ours'), rows)
    return render(
        'complexity.md',
        figure4=figure4,
        claims=claims,
        table1a=table1a,
        table3=_table3(compute),
        memory=_memory(compute))


def _table3(compute: PaperCompute) -> str:
    rows = []
    for data, counts in compute.table3.items():
        size = '{} x {}'.format(*SHAPES[data])
        for part, label in dict(total='all', trunk='backbone and FPN').items():
            costs = [getattr(c, part).multiply_adds / 1e9 for c in counts]
            one, two, deep = costs
            numbers = [f'{cost:.0f}' for cost in costs]
            rows.append((f'{DATA[data]}, {size}', label, *numbers,
                         f'{one / two:.2f}', f'{deep / two:.2f}'))
    return markdown_table(('image', 'part', 'R50 (1e9)', 'two R50', 'R101',
                           'R50 / two R50', 'R101 / two R50'), rows)


def _memory(compute: PaperCompute) -> str:
    rows = []
    for name, estimate in compute.memory.items():
        ours = estimate / 2**30
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
