"""Counts as a table for the terminal and as JSON."""
from dataclasses import asdict
from typing import Dict

from .complexity import Complexity


def complexity_table(name: str, result: Complexity) -> str:
    """Text table of a model's parts.

    Args:
        name (str): Of the config.
        result (Complexity): Of it.

    Returns:
        str: Without a line break at its end.
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
