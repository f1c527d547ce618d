"""Memory and time of the semantic loss, forward and backward, side by side.

Example:
    python -m benchmarks.semantic_loss
    python -m benchmarks.semantic_loss --batch 32 --repeats 3 --json out.json

The second is a whole batch of Cityscapes, 32 crops of 512 x 1024 (section
4.1). Sizes are pixels of the target; the logits have stride 4.

Peak memory is what loss and backward need beyond their input, the gradient
included; each variant in a process of its own. Time is the median of
repetitions that alternate between the variants. Threads: OMP_NUM_THREADS.

Exit code: 0 measured, 1 the variants disagree, 2 wrong arguments.
"""
import argparse
import json
import statistics
import sys
from functools import partial
from runpy import run_path

import torch
from tabulate import tabulate
from torch.utils.checkpoint import checkpoint

from benchmarks import harness

LOSS = harness.ROOT / 'projects/panoptic_fpn/ops/tiled_cross_entropy.py'
STRIDE = 4
#: Relative, of losses and gradients among the variants.
TOLERANCE = 1e-5
MB = 2**20


def parse_args():
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument(
        '--size',
        nargs=2,
        type=int,
        default=(512, 1024),
        metavar=('H', 'W'),
        help='of the target (default: 512 1024)')
    parser.add_argument('--classes', type=int, default=19, help='default: 19')
    parser.add_argument('--batch', type=int, default=4, help='default: 4')
    parser.add_argument(
        '--repeats', type=int, default=9, help='for the time (default: 9)')
    parser.add_argument(
        '--device',
        default='cuda' if torch.cuda.is_available() else 'cpu',
        help='default: cuda where there is a GPU, else cpu')
    parser.add_argument('--json', metavar='OUT', help='writes the figures')
    args = parser.parse_args()
    if min(*args.size, args.classes, args.batch, args.repeats) < 1:
        parser.error('sizes and numbers must be at least 1')
    return args


def variants():
    """Name to loss of logits and target."""
    from tests.oracles.semantic_loss import full_resolution_cross_entropy

    # the file alone: its package takes seconds to import, in each process
    tiles = run_path(str(LOSS))['tiled_cross_entropy']

    def checkpointed(logits, target):
        """One image at full resolution at a time, computed twice."""
        total = 0
        for single in range(len(logits)):
            pick = slice(single, single + 1)
            mean = checkpoint(
                full_resolution_cross_entropy,
                logits[pick],
                target[pick],
                use_reentrant=False)
            total = total + mean * (target[pick] >= 0).sum()
        return total / (target >= 0).sum().clamp(min=1)

    return {
        'full resolution': full_resolution_cross_entropy,
        'checkpoint per image': checkpointed,
        'tiles (this repository)': tiles
    }


def random_input(case):
    """Logits (N, C, h, w) and a target (N, H, W) with some void."""
    generator = torch.Generator().manual_seed(0)
    batch, classes, height, width = case['shape']
    logits = torch.randn(
        batch,
        classes,
        -(-height // STRIDE),
        -(-width // STRIDE),
        generator=generator)
    target = torch.randint(
        -1, classes, (batch, height, width), generator=generator)
    return logits.to(case['device']).requires_grad_(), target.to(
        case['device'])


def loss_and_gradient(function, logits, target):
    loss = function(logits, target)
    gradient, = torch.autograd.grad(loss, logits)
    return loss.detach(), gradient


def peak_of(name, case):
    """Peak bytes of one variant above its input; in a process of its own."""
    function = variants()[name]
    tiny = dict(case, shape=(1, case['shape'][1], 8, 8))
    loss_and_gradient(function, *random_input(tiny))
    logits, target = random_input(case)
    return harness.peak_above(
        lambda: loss_and_gradient(function, logits, target),
        cuda=logits.is_cuda)


def timings(case, repeats):
    """Seconds of each variant, and its largest difference from the first.

    Returns:
        dict[str, tuple[list[float], float]]: By name.
    """
    functions = variants()
    data = random_input(case)
    reference, differences = None, {}
    for name, function in functions.items():
        result = loss_and_gradient(function, *data)
        reference = reference or result
        differences[name] = max(
            ((a - b).abs().max() / b.abs().max().clamp(min=1e-30)).item()
            for a, b in zip(result, reference))

    def call(function):
        # waits for the GPU
        loss_and_gradient(function, *data)[0].item()

    seconds = harness.alternate(
        {name: partial(call, functions[name])
         for name in functions},
        repeats,
        warmup=0)
    return {name: (seconds[name], differences[name]) for name in functions}


def measure(case, repeats):
    """Figures of all variants.

    Returns:
        list[dict]: name, seconds, peak_bytes, difference.
    """
    times = harness.in_fresh_process(timings, case, repeats)
    return [
        dict(
            name=name,
            seconds=statistics.median(seconds),
            peak_bytes=harness.in_fresh_process(peak_of, name, case),
            difference=difference)
        for name, (seconds, difference) in times.items()
    ]


def table(results):
    """Figures as text, with ratios to the first variant."""
    first = results[0]
    rows = [(r['name'], r['peak_bytes'] / MB,
             r['peak_bytes'] / max(first['peak_bytes'], 1), 1e3 * r['seconds'],
             r['seconds'] / first['seconds'], r['difference'])
            for r in results]
    return tabulate(
        rows, ('', 'peak MB', 'ratio', 'ms', 'ratio', 'difference'),
        floatfmt=('', '.1f', '.3f', '.1f', '.3f', '.1e'))


def main():
    args = parse_args()
    case = dict(
        shape=(args.batch, args.classes, *args.size), device=args.device)
    results = measure(case, args.repeats)
    shape = ' x '.join(map(str, case['shape']))
    print(f'{shape} on {args.device}, {torch.get_num_threads()} thread(s), '
          f'torch {torch.__version__}')
    print(table(results))
    if args.json:
        with open(args.json, 'w') as f:
            json.dump(
                dict(
                    case,
                    stride=STRIDE,
                    repeats=args.repeats,
                    threads=torch.get_num_threads(),
                    torch=torch.__version__,
                    variants=results),
                f,
                indent=2)
    return int(any(r['difference'] > TOLERANCE for r in results))


if __name__ == '__main__':
    sys.exit(main())
