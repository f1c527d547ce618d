"""How the cost grows with image area, instances, classes and workers.

Example:
    python -m benchmarks.scaling
    python -m benchmarks.scaling --out docs/benchmark

Input pipeline (Cityscapes' transforms, with crops of half a side), merge (from
logits and 28 x 28 masks) and PQ metric (ground truth read from disk), ours and
mmdet's on the same data, on one core; inputs are drawn from a seed. Beside
them the training images a second of the data set by loader workers. A curve
of mmdet's ends where a call takes longer than ``--limit`` seconds.

Writes ``scaling.json`` and ``scaling.png``. Exit code: 0 measured, 2 wrong
arguments.
"""
import argparse
import os
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

from benchmarks import figures, harness, scaling_cases

#: Where an axis is not the one that changes.
BASE = dict(megapixels=0.5, instances=50, classes=20)
AXES = dict(
    megapixels=(0.25, 0.5, 1, 2, 4, 8),
    instances=(5, 10, 20, 50, 100, 200),
    classes=(10, 20, 50, 100, 200, 300))
LABELS = dict(
    megapixels='image area (megapixels)',
    instances='instances',
    classes='classes, or channels')
WORKERS = (0, 1, 2, 4)
_STYLES = dict(
    ours=dict(color='C0', marker='o', markersize=4),
    mmdet=dict(color='C1', marker='o', markersize=4, linestyle='--'))


def parse_args(argv=None):
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('--rounds', type=harness.positive, default=3)
    parser.add_argument('--seed', type=int, default=0, help='of the inputs')
    parser.add_argument(
        '--limit',
        type=float,
        default=1.,
        help='seconds of a call after which a curve of mmdet ends')
    parser.add_argument(
        '--images',
        type=harness.positive,
        default=48,
        help='that each number of workers loads')
    parser.add_argument('--out', type=Path, default=figures.WORK)
    return parser.parse_args(argv)


def measure_axis(axis, args):
    """Seconds along an axis: {stage: {'ours': [...], 'mmdet': [...]}}, None
    where a curve has ended; in a process of its own."""
    harness.set_threads()
    found = {}
    for value in AXES[axis]:
        with tempfile.TemporaryDirectory() as folder, harness.quiet():
            case = scaling_cases.write(
                scaling_cases.Case(
                    Path(folder), args.seed, **dict(BASE, **{axis: value})))
            for stage, make in scaling_cases.STAGES.items():
                curves = found.setdefault(stage, dict(ours=[], mmdet=[]))
                calls = make(case)
                last = curves['mmdet'][-1:] or [0]
                if last[0] is None or last[0] > args.limit:
                    del calls['mmdet']
                seconds = harness.alternate(calls, args.rounds)
                for name, curve in curves.items():
                    curve.append(seconds.get(name) and median(seconds[name]))
    return found


def throughput(args):
    """Images a second by number of workers, ours and mmdet's; in a process of
    its own."""
    from torch.utils.data import DataLoader, Subset
    harness.set_threads()
    found = dict(ours={}, mmdet={})
    with tempfile.TemporaryDirectory() as folder, harness.quiet():
        sets = scaling_cases.datasets(
            scaling_cases.write(
                scaling_cases.Case(
                    Path(folder), args.seed, **dict(BASE, megapixels=2))))
        for workers in WORKERS:
            for name, dataset in sets.items():
                # mmdet's images take longer: fewer of them
                images = args.images // (1 if name == 'ours' else 3)
                loader = DataLoader(
                    Subset(dataset, [0] * (images + 3 * workers + 1)),
                    batch_size=1,
                    num_workers=workers,
                    collate_fn=list,
                    worker_init_fn=one_thread)
                batches = iter(loader)
                # the workers have started, and work to the end
                for _ in range(max(1, workers)):
                    next(batches)
                begin = time.perf_counter()
                for _ in range(images):
                    next(batches)
                found[name][workers] = images / (time.perf_counter() - begin)
    return found


def one_thread(worker):
    harness.set_threads()


def draw(report):
    """Small multiples; RGB uint8 (h, w, 3)."""
    from matplotlib.figure import Figure

    from benchmarks.table import pixels
    stages = report['curves']
    figure = Figure(
        figsize=(13, 2.9 * len(stages)), dpi=110, layout='constrained')
    panels = figure.subplots(len(stages), 1 + len(report['axes']))
    for line, (stage, axes) in zip(panels, stages.items()):
        for panel, (axis, curves) in zip(line, axes.items()):
            ticks = report['axes'][axis]
            for name, seconds in curves.items():
                points = [(x, 1e3 * y) for x, y in zip(ticks, seconds)
                          if y is not None]
                panel.plot(*zip(*points), label=name, **_STYLES[name])
            panel.set(xscale='log', yscale='log', ylim=_limits(axes))
            panel.yaxis.set_major_formatter('{x:g}')
            panel.set_xticks(ticks, [f'{x:g}' for x in ticks])
            panel.set_xticks([], minor=True)
            panel.set_xlabel(LABELS[axis], fontsize=9)
            panel.set_title(stage, fontsize=10)
        line[0].set_ylabel('ms an image', fontsize=9)
        line[-1].set_visible(False)
    last = panels[0, -1]
    last.set_visible(True)
    for name, rates in report['workers'].items():
        last.plot([str(n) for n in rates], list(rates.values()),
                  **_STYLES[name])
    last.set_ylim(0)
    last.set_ylabel('images/s', fontsize=9)
    last.set_xlabel(
        f'loader workers ({report["machine"]["cores"]} cores)', fontsize=9)
    last.set_title('input pipeline, 2 megapixels', fontsize=10)
    for panel in panels.flat:
        panel.tick_params(labelsize=8.5, which='both')
        panel.spines[['top', 'right']].set_visible(False)
    panels[0, 0].legend(fontsize=9, frameon=False)
    return pixels(figure)


def _limits(axes):
    """Of the ms of a stage, the same in all its panels."""
    values = [
        1e3 * y for curves in axes.values() for seconds in curves.values()
        for y in seconds if y is not None
    ]
    return min(values) / 1.5, max(values) * 1.5


def text_of(report):
    lines = []
    for stage, axes in report['curves'].items():
        for axis, curves in axes.items():
            lines.append(f'{stage}, {LABELS[axis]}')
            for name, values in dict({
                    '': report['axes'][axis]
            }, **curves).items():
                cells = [
                    f'{"-":>10}' if v is None else
                    f'{v:10g}' if not name else f'{1e3 * v:10.2f}'
                    for v in values
                ]
                lines.append(f'  {name:8}' + ''.join(cells))
    lines.append('images/s by loader workers')
    for name, rates in report['workers'].items():
        lines.append(f'  {name:8}' + ', '.join(f'{rate:.1f} with {n}'
                                               for n, rate in rates.items()))
    return '\n'.join(lines)


def main(argv=None):
    args = parse_args(argv)
    os.environ.setdefault('OMP_NUM_THREADS', '1')
    curves = {stage: {} for stage in scaling_cases.STAGES}
    for axis in AXES:
        print(f'{LABELS[axis]} ...', flush=True)
        found = harness.in_fresh_process(measure_axis, axis, args)
        for stage, curve in found.items():
            curves[stage][axis] = curve
    print('workers ...', flush=True)
    content = dict(
        seed=args.seed,
        base=BASE,
        axes=AXES,
        curves=curves,
        workers=harness.in_fresh_process(throughput, args))
    figures.publish(args.out / 'scaling', content, text_of, draw)
    return 0


if __name__ == '__main__':
    sys.exit(main())
