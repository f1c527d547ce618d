"""Counts as a table for the terminal, as JSON and as a Markdown page."""
from dataclasses import asdict
from typing import Dict, Sequence, Tuple

from .complexity import Complexity
from .counting import Cost
from .paper_compute import FIGURE4, MEMORY, TABLE1A, TABLE3, PaperCompute

#: First line of the page.
GENERATED = ('<!-- Written by `python tools/complexity.py --figure4 docs`; '
             'changes are lost. -->')
GIB = 2**30


def complexity_table(name: str, result: Complexity) -> str:
    """Text table of a model's parts.

    Args:
        name (str): Of the config.
        result (Complexity): Of it.
    """
    height, width = result.shape
    head = f'{name}: one image of {height} x {width}'
    if result.rois is not None:
        head += f', {result.rois} RoIs, {result.detections} detections'
    rows = [*result.parts.items(), ('total', result.total)]
    first = max(len(part) for part, _ in rows)
    lines = [
        head,
        f'{"":{first}}{"multiply-adds":>16}{"activations":>14}'
        f'{"parameters":>13}',
        f'{"part":{first}}{"1e9":>16}{"1e6":>14}{"1e6":>13}',
    ]
    lines += [
        f'{part:{first}}{cost.multiply_adds / 1e9:>16.2f}'
        f'{cost.activations / 1e6:>14.2f}{cost.parameters / 1e6:>13.2f}'
        for part, cost in rows
    ]
    total = result.total
    lines.append(f'{total.multiply_adds / 1e12:.3g}e12 multiply-adds, '
                 f'{total.activations / 1e9:.3g}e9 activations (outputs of '
                 'convolutions) in the units of Table 1a')
    if total.transposed_outputs or total.linear_outputs:
        lines.append(
            'no activations: outputs of transposed convolutions '
            f'({total.transposed_outputs / 1e6:.2f}e6) and of matrix products '
            f'({total.linear_outputs / 1e6:.2f}e6)')
    return '\n'.join(lines)


def complexity_json(name: str, result: Complexity) -> Dict:
    """The same for JSON; numbers are not rounded.

    Args:
        name (str): Of the config.
        result (Complexity): Of it.

    Returns:
        dict: With a :class:`Cost` as ``total``, of the whole model as in
        Table 1a, one as ``trunk``, of backbone and neck as in Figure 4, and
        one of each of ``parts``.
    """
    return dict(
        config=name,
        shape=list(result.shape),
        output_stride=result.stride,
        rois=result.rois,
        detections=result.detections,
        parts={
            part: asdict(cost)
            for part, cost in result.parts.items()
        },
        total=asdict(result.total),
        trunk=asdict(result.trunk))


def figure4_json(compute: PaperCompute) -> Dict:
    """What is drawn as Figure 4, and its claims."""
    return dict(
        models={
            name:
            dict(
                config=FIGURE4[name],
                shape=list(row.shape),
                output_stride=row.stride,
                **asdict(row.trunk))
            for name, row in compute.figure4.items()
        },
        claims=[asdict(claim) for claim in compute.claims])


def paper_page(compute: PaperCompute, picture: str) -> str:
    """The Markdown page.

    Args:
        compute (PaperCompute): All counts.
        picture (str): Path of Figure 4, relative to the page.
    """
    return '\n\n'.join([
        GENERATED, '# Compute: the paper and these configs', _HOW, '## Figure '
        '4', f'![Multiply-adds and activations of four backbones]({picture})',
        _figure4(compute), _FIGURE4_NOTE,
        _claims(compute), '## Table 1a',
        _table1a(compute), '## One network or two (Tables 3a and 3b)',
        _TABLE3_NOTE,
        _table3(compute), '## Memory of training: an estimate', _MEMORY_NOTE,
        _memory(compute)
    ]) + '\n'


_HOW = """\
Counted from shapes, for one image: multiply-adds of convolutions and matrix
products, activations (elements of the outputs of convolutions) and
parameters. RPN is counted on all levels, the box head on 1000 RoIs, the mask
head on 100 detections; RoIAlign, NMS, interpolation and the merge are not.
`python tools/complexity.py CONFIG` prints the parts of any config."""

_FIGURE4_NOTE = """\
ResNet-101 with decoder, 1024 x 2048, no semantic head. The paper draws Figure
4 without printing numbers, and does not detail the symmetric decoder:
`projects/panoptic_fpn/models/symmetric_decoder.py` says what was chosen."""

_TABLE3_NOTE = """\
The paper: 'roughly half the compute (the backbone dominates compute, so the
reduction is almost 50%)', and for R101 against two R50 'roughly equal
computational budget'. Ratios are of one network to two of R50."""

_MEMORY_NOTE = """\
Float32, two images of 800 x 1344 on one GPU: weights, gradients, momentum and
what autograd keeps for backward, from shapes; not measured on a GPU. Anchors,
targets and region losses, buffers of kernels and gradients of activations are
not in it, so it is too low. Beside it the 1x schedules of other model zoos,
whose networks differ in details; GB of 2^30 bytes."""


def _markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ['---'] * len(head), *rows]
    return '\n'.join('| ' + ' | '.join(line) + ' |' for line in lines)


def _figure4(compute: PaperCompute) -> str:
    return _markdown(('backbone', 'output', 'multiply-adds (1e12)',
                      'activations (1e9)', 'parameters (1e6)'),
                     [(name, f'1/{row.stride}', *_units(row.trunk),
                       f'{row.trunk.parameters / 1e6:.1f}')
                      for name, row in compute.figure4.items()])


def _claims(compute: PaperCompute) -> str:
    return _markdown(
        ('the paper', 'ours: ratio of', 'multiply-adds', 'activations',
         'resolution of a side'),
        [(c.text, f'{c.first} / {c.second}', f'{c.multiply_adds:.2f}',
          f'{c.activations:.2f}', f'{c.resolution:g}')
         for c in compute.claims])


def _table1a(compute: PaperCompute) -> str:
    rows = []
    for name, row in compute.table1a.items():
        _, multiply_adds, activations = TABLE1A[name]
        ours = _units(row.total)
        rows.append((f'Semantic FPN {name}', str(multiply_adds), ours[0],
                     str(activations), ours[1]))
    return _markdown(('model', 'multiply-adds (1e12): paper', 'ours',
                      'activations (1e9): paper', 'ours'), rows)


def _table3(compute: PaperCompute) -> str:
    rows = []
    for name, (one, two, deep) in compute.table3.items():
        size = '{} x {}'.format(*TABLE3[name][0])
        for part in ('total', 'trunk'):
            single, double, deeper = (
                getattr(row, part).multiply_adds for row in (one, two, deep))
            label = 'all' if part == 'total' else 'backbone and FPN'
            rows.append((f'{name}, {size}', label,
                         *(f'{n / 1e9:.0f}' for n in (single, double, deeper)),
                         f'{single / double:.2f}', f'{deeper / double:.2f}'))
    return _markdown(('image', 'part', 'R50 (1e9)', 'two R50', 'R101',
                      'R50 / two R50', 'R101 / two R50'), rows)


def _memory(compute: PaperCompute) -> str:
    rows = []
    for name, estimate in compute.memory.items():
        ours = estimate.total / GIB
        others = [
            f'{where} {value} ({100 * (ours / value - 1):+.0f} %)'
            for where, value in MEMORY[name][1].items()
        ]
        rows.append((f'Panoptic FPN {name}', f'{ours:.1f}', ', '.join(others)))
    return _markdown(
        ('model', 'estimate (GB)', 'published (estimate against it)'), rows)


def _units(cost: Cost) -> Tuple[str, str]:
    """In the units of Table 1a, with one digit more than it prints."""
    return f'{cost.multiply_adds / 1e12:.2f}', f'{cost.activations / 1e9:.2f}'
