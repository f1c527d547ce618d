"""Long runs: memory of thousands of iterations, images and predictions.

Example:
    python -m benchmarks.endurance --out docs/benchmark
    python -m benchmarks.endurance --only predictions --predictions 1000

Each task runs in a process of its own:

training      the tiny config on images of 64 x 64, as tools/train.py builds
              it: two loader workers, log, checkpoints of which two are kept,
              validations, pictures
evaluation    the same images evaluated again and again by one runner
predictions   PQ, box and mask AP and mIoU of COCO-like predictions (480 x 640,
              20 segments, 100 detections in RLE; a few scenes that come again
              under new ids), in one process and in two that gather over gloo

Memory is that of /proc/PID/smaps_rollup; USS is what a process shares with no
other; that of the loader's workers grows while they write to pages that they
had in common with the process that started them. Heap is what malloc has
handed out; what was freed and is kept comes on top, up to half of what the
process usually holds. Slopes are of least squares lines through the second
half of a run and come with a 95 % interval. With --only, figures of the other
tasks that the file has already stay there. Writes ``endurance.json`` and
``endurance.png``.
Exit code: 0 measured, 2 wrong arguments.
"""
import argparse
import json
import os
import pickle
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

from benchmarks import figures, harness, memory, probe

CONFIG = 'configs/synthetic/panoptic-fpn_tiny_synthetic.py'
SIZE = 64
#: Iterations between two checkpoints, with a validation each.
INTERVAL = 50
#: oneDNN, which convolves on a CPU, keeps as many compiled operators, one for
#: each number of boxes: 1024 by default, some 40 MB, which take a hundred
#: validations to fill and would hide a leak of that size.
OPERATORS = 16
#: Looks at a run.
POINTS = 40
TASKS = ('training', 'evaluation', 'predictions')
#: Quantities of which slopes are reported; bytes, or numbers.
TRACKED = ('heap', 'uss', 'workers_uss', 'objects', 'descriptors', 'threads',
           'children')
PROCESSES = 2


def parse_args(argv=None):
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('--only', nargs='+', choices=TASKS, default=TASKS)
    parser.add_argument('--iterations', type=harness.positive, default=5000)
    parser.add_argument('--validations', type=harness.positive, default=6)
    parser.add_argument(
        '--images',
        type=harness.positive,
        default=1000,
        help='of a validation')
    parser.add_argument('--predictions', type=harness.positive, default=50000)
    parser.add_argument('--seed', type=int, default=0, help='of the data')
    parser.add_argument('--out', type=Path, default=figures.WORK)
    args = parser.parse_args(argv)
    if args.iterations < 2 * POINTS:
        parser.error(f'--iterations: at least {2 * POINTS}')
    return args


def make_runner(folder: Path, seed: int, options: dict, **data):
    """A runner as tools/train.py builds it, on synthetic data of its own."""
    from mmdet.registry import RUNNERS

    from mmengine_exact import tool_config
    options = dict(options)
    for split in ('train', 'val', 'test'):
        dataset = f'{split}_dataloader.dataset'
        options[f'{dataset}.data_root'] = f'{folder}/data/'
        options[f'{dataset}.generate'] = dict(data, size=SIZE, seed=seed)
        resize = f'{dataset}.pipeline.{2 if split == "train" else 1}'
        options[f'{resize}.scale'] = (SIZE, SIZE)
        options[f'{split}_dataloader.num_workers'] = 2
    cfg = tool_config(
        str(harness.ROOT / CONFIG), 'none', options, str(folder / 'run'))
    return RUNNERS.build(cfg)


def watch(points: list, iterations: int = 0, images: int = 0):
    """A hook that adds snapshots to ``points``, each so many iterations of
    training or images of a test."""
    from mmengine.hooks import Hook

    class Watch(Hook):
        priority = 'VERY_LOW'
        tested = 0

        def after_train_iter(self, runner, *args, **kwargs):
            if (runner.iter + 1) % iterations == 0:
                self._look(runner, runner.iter + 1)

        def after_test_iter(self, runner, batch_idx, data_batch, outputs):
            former, self.tested = self.tested, self.tested + len(outputs)
            if former // images != self.tested // images:
                self._look(runner, self.tested)

        def _look(self, runner, at):
            folder = Path(runner.work_dir)
            saved = sorted(
                folder.glob('iter_*.pth'), key=lambda p: p.stat().st_mtime)
            scalars = runner.message_hub.log_scalars.values()
            points.append(
                dict(
                    probe.snapshot(),
                    at=at,
                    history=sum(len(s.data[0]) for s in scalars),
                    checkpoint=saved[-1].stat().st_size if saved else None,
                    checkpoints=len(saved),
                    seconds=time.perf_counter()))

    return Watch()


def measure_training(iterations: int, seed: int) -> list:
    """Snapshots of a training."""
    os.environ['ONEDNN_PRIMITIVE_CACHE_CAPACITY'] = str(OPERATORS)
    harness.set_threads()
    points = []
    interval = min(INTERVAL, iterations // 4)
    with tempfile.TemporaryDirectory() as folder, harness.quiet():
        runner = make_runner(
            Path(folder),
            seed, {
                'train_cfg.max_iters': iterations,
                'train_cfg.val_interval': interval,
                'param_scheduler.1.end': iterations,
                'train_dataloader.batch_size': 2,
                'default_hooks.checkpoint.interval': interval,
                'default_hooks.checkpoint.max_keep_ckpts': 2
            },
            num_train=200,
            num_val=16)
        runner.register_hook(watch(points, iterations=iterations // POINTS))
        runner.train()
    return points


def measure_evaluation(validations: int, images: int, seed: int) -> list:
    """Snapshots within evaluations of the same images, one after another."""
    os.environ['ONEDNN_PRIMITIVE_CACHE_CAPACITY'] = str(OPERATORS)
    harness.set_threads()
    points = []
    with tempfile.TemporaryDirectory() as folder, harness.quiet():
        runner = make_runner(
            Path(folder), seed, {}, num_train=2, num_val=images)
        runner.register_hook(watch(points, images=max(1, images // 10)))
        for _ in range(validations):
            runner.test()
    return points


def encoded(sample: dict) -> dict:
    """A sample of ``memory.make_samples`` with masks in RLE."""
    from panoptic_fpn.ops.run_length import encode_mask
    pred = sample['pred_instances']
    masks = [encode_mask(mask) for mask in pred['masks'].numpy()]
    return dict(sample, pred_instances=dict(pred, masks=masks))


def make_evaluator():
    """PQ, AP and mIoU of 80 things and 53 stuff classes."""
    from mmdet.registry import EVALUATOR
    from mmengine.logging import MMLogger
    from mmengine.registry import DefaultScope

    import panoptic_fpn  # noqa: F401  registers
    from panoptic_fpn.labels import Category, LabelSpace
    MMLogger.get_instance('endurance', log_level='ERROR')
    with DefaultScope.overwrite_default_scope('mmdet'):
        evaluator = EVALUATOR.build(
            dict(
                type='PanopticEvaluator',
                metrics=[
                    dict(type='PanopticQualityMetric'),
                    dict(type='SemanticIoUMetric'),
                    dict(type='PanopticInstanceAPMetric')
                ]))
    evaluator.dataset_meta = LabelSpace([
        Category(i + 1, f'class {i}', i < memory.THINGS, (0, 0, 0))
        for i in range(memory.THINGS + memory.STUFF)
    ]).metainfo()
    return evaluator


def measure_predictions(number: int, seed: int, rank: int, processes: int,
                        rendezvous: str) -> dict:
    """Memory while this process's share is counted, gathered and scored.

    Returns:
        dict: ``points``; ``rows``, pickled bytes of an image by metric, of
        the first thousand; ``process_seconds``; ``scores`` by metric with
        seconds and peak in bytes above what was held; ``values`` of the
        scores, and ``peak`` of the process in bytes.
    """
    import torch.distributed
    harness.set_threads()
    if processes > 1:
        torch.distributed.init_process_group(
            'gloo',
            init_method=f'file://{rendezvous}',
            rank=rank,
            world_size=processes)
    with tempfile.TemporaryDirectory() as folder:
        samples = memory.make_samples(seed, Path(folder))
    samples = [encoded(sample) for sample in samples]
    evaluator = make_evaluator()
    points, rows, scores, values = [], {}, {}, {}
    # what the first images allocate once
    process(evaluator, samples, range(len(samples)))
    for metric in evaluator.metrics:
        metric.results.clear()
    harness.reset_peak_of_process()
    start, share = probe.snapshot(), range(rank, number, processes)
    step = max(1, len(share) // POINTS)
    begin, spent = time.perf_counter(), 0.
    for first in range(0, len(share), step):
        process(evaluator, samples, share[first:first + step])
        spent += time.perf_counter() - begin
        at = min(first + step, len(share))
        if not rows and at >= min(1000, len(share)):
            rows = {
                type(m).__name__: len(pickle.dumps(m.results)) / at
                for m in evaluator.metrics
            }
        points.append(dict(probe.snapshot(), at=at))
        begin = time.perf_counter()
    harness.reset_peak_of_process()
    with harness.quiet():
        for metric in evaluator.metrics:
            before = probe.memory_of(os.getpid())['rss']
            begin, found = time.perf_counter(), {}
            peak = harness.peak_above(
                lambda: found.update(metric.evaluate(number)))
            values.update(found)
            scores[type(metric).__name__] = dict(
                seconds=time.perf_counter() - begin, peak=peak, held=before)
    if processes > 1:
        torch.distributed.destroy_process_group()
    return dict(
        start=start,
        points=points,
        rows=rows,
        process_seconds=spent,
        scores=scores,
        values=values)


def process(evaluator, samples, numbers):
    for number in numbers:
        sample = samples[number % len(samples)]
        evaluator.process([dict(sample, img_id=number + 1)])


def measure_processes(number: int, seed: int, processes: int) -> list:
    """:func:`measure_predictions` of each process."""
    with tempfile.TemporaryDirectory() as folder, ProcessPoolExecutor(
            processes, mp_context=get_context('spawn')) as pool:
        running = [
            pool.submit(measure_predictions, number, seed, rank, processes,
                        f'{folder}/rendezvous') for rank in range(processes)
        ]
        return [one.result() for one in running]


def slopes_of(points: list, unit: int) -> dict:
    """Slope of each quantity for each ``unit`` of ``at``.

    Returns:
        dict: [slope, margin] by name.
    """
    x = [point['at'] / unit for point in points]
    return {
        name: list(probe.slope(x, [point[name] for point in points]))
        for name in TRACKED if all(name in point for point in points)
    }


def second_half(points: list) -> list:
    return points[len(points) // 2:]


def ends_of(points: list, images: int) -> list:
    """The last look at each evaluation but the first."""
    ends = [point for point in points if point['at'] % images == 0]
    return ends[1:]


def held_bytes(points: list) -> float:
    """Bytes of memory that an image adds."""
    x = [point['at'] for point in points]
    return probe.slope(x, [point['uss'] for point in points]).value


def with_slopes(report: dict) -> dict:
    """The report with the slopes of training and evaluation."""
    if 'training' in report:
        points = second_half(report['training']['points'])
        report['training']['slopes'] = slopes_of(points, 1000)
    if 'evaluation' in report:
        run = report['evaluation']
        run['slopes'] = slopes_of(
            ends_of(run['points'], run['images']), run['images'])
    return report


def text_of(report: dict) -> str:
    lines = []
    for task, unit in (('training', '1000 iterations'), ('evaluation',
                                                         'evaluation')):
        if task not in report:
            continue
        run = report[task]
        last = run['points'][-1]
        lines.append(f'{task}: {last["at"]} '
                     f'{"iterations" if task == "training" else "images"}, '
                     f'{len(run["points"])} looks; growth by {unit}')
        for name, (value, margin) in run['slopes'].items():
            if name.endswith(('uss', 'heap')):
                lines.append(f'  {name:12}{last[name] / 1e6:10.1f} MB'
                             f'{value / 1e3:10.1f} +- {margin / 1e3:.1f} kB')
            else:
                lines.append(f'  {name:12}{last[name]:10}   {value:10.2f} +- '
                             f'{margin:.2f}')
        if task == 'training':
            sizes = [p['checkpoint'] for p in run['points'] if p['checkpoint']]
            histories = [p['history'] for p in run['points']]
            lines.append(f'  checkpoint {sizes[0]} ... {sizes[-1]} bytes; '
                         f'history {histories[0]} ... {histories[-1]} values; '
                         f'{last["checkpoints"]} checkpoints')
    for name, runs in report.get('predictions', {}).items():
        for rank, run in enumerate(runs):
            last = run['points'][-1]
            rows = ', '.join(f'{k} {v:.0f}' for k, v in run['rows'].items())
            lines += [
                f'predictions, {name}, process {rank}: {last["at"]} images, '
                f'{held_bytes(run["points"]):.0f} B an image held (pickled: '
                f'{rows}), '
                f'{(last["uss"] - run["start"]["uss"]) / 1e6:.0f} MB, '
                f'process {run["process_seconds"]:.0f} s'
            ]
            lines += [
                f'  {k}: {v["seconds"]:.1f} s, peak {v["peak"] / 1e6:.0f} MB '
                f'above {v["held"] / 1e6:.0f} MB'
                for k, v in run['scores'].items()
            ]
    return '\n'.join(lines)


def draw(report: dict):
    """Memory over iterations, images and predictions; RGB uint8 (h, w, 3)."""
    from matplotlib.figure import Figure

    from benchmarks.table import pixels
    labels = dict(
        training='iterations',
        evaluation='images evaluated',
        predictions='images predicted')
    tasks = [task for task in TASKS if task in report]
    figure = Figure(
        figsize=(3.4 * len(tasks), 3.4), dpi=130, layout='constrained')
    panels = figure.subplots(1, len(tasks), squeeze=False)[0]
    for panel, task in zip(panels, tasks):
        panel.set_title(task.capitalize(), fontsize=10)
        panel.set_xlabel(labels[task], fontsize=9)
        panel.tick_params(labelsize=8.5)
        panel.spines[['top', 'right']].set_visible(False)
        if task == 'predictions':
            for name, runs in report[task].items():
                for rank, run in enumerate(runs):
                    panel.plot([p['at'] for p in run['points']],
                               [p['uss'] / 1e9 for p in run['points']],
                               label=name if len(runs) == 1 else
                               f'{name}: number {rank + 1}')
            panel.set_ylabel('memory (GB)', fontsize=9)
        else:
            points = report[task]['points']
            for key, name in (('uss', 'process'), ('heap', 'in use there'),
                              ('workers_uss', 'its workers')):
                if key not in points[0]:
                    continue
                panel.plot([p['at'] for p in points],
                           [p[key] / 1e6 for p in points],
                           label=name)
            panel.set_ylabel('memory (MB)', fontsize=9)
        panel.set_ylim(bottom=0)
        panel.legend(fontsize=8.5, frameon=False)
    return pixels(figure)


def former_tasks(args) -> dict:
    """With ``--only``, what the file in ``--out`` has of the other tasks."""
    path = args.out / 'endurance.json'
    if set(args.only) == set(TASKS) or not path.is_file():
        return {}
    former = json.loads(path.read_text())
    return {k: former[k] for k in TASKS if k in former and k not in args.only}


def main(argv=None) -> int:
    args = parse_args(argv)
    report = dict(
        former_tasks(args),
        seed=args.seed,
        size=SIZE,
        shape=memory.SHAPE,
        segments=memory.SEGMENTS,
        detections=memory.DETECTIONS)
    if 'training' in args.only:
        print('training ...', flush=True)
        report['training'] = dict(
            points=harness.in_fresh_process(measure_training, args.iterations,
                                            args.seed))
    if 'evaluation' in args.only:
        print('evaluation ...', flush=True)
        report['evaluation'] = dict(
            images=args.images,
            points=harness.in_fresh_process(measure_evaluation,
                                            args.validations, args.images,
                                            args.seed))
    if 'predictions' in args.only:
        report['predictions'] = {}
        for number in (1, PROCESSES):
            name = 'one process' if number == 1 else f'{number} processes'
            print(f'predictions, {name} ...', flush=True)
            report['predictions'][name] = measure_processes(
                args.predictions, args.seed, number)
    figures.publish(args.out / 'endurance', with_slopes(report), text_of, draw)
    return 0


if __name__ == '__main__':
    sys.exit(main())
