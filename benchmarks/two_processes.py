"""Training and evaluation in two gloo processes beside one, on the CPU.

Example:
    python -m benchmarks.two_processes
    python -m benchmarks.two_processes --iterations 40 --out docs/benchmark

Each process has one thread and the whole batch of the tiny synthetic config,
so that two processes do twice the work: efficiency is the images a second of
two over twice those of one. Evaluation includes loading, forward pass, merge,
counting, and at its end gathering and AP.

Writes ``two_processes.json``. Exit code: 0 measured, 1 a run failed, 2 wrong
arguments.
"""
import argparse
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

from tabulate import tabulate

from benchmarks import figures, harness

CONFIG = 'configs/synthetic/panoptic-fpn_tiny_synthetic.py'
DATA = dict(num_train=64, num_val=48, size=128)
#: Iterations at the start that do not count.
WARMUP = 3
TASKS = ('training', 'evaluation')


def parse_args(argv=None):
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('--rounds', type=harness.positive, default=3)
    parser.add_argument('--iterations', type=harness.positive, default=24)
    parser.add_argument('--seed', type=int, default=0, help='of the data')
    parser.add_argument('--out', type=Path, default=figures.WORK)
    parser.add_argument(
        '--worker', nargs=2, metavar=('DATA', 'OUT'), help=argparse.SUPPRESS)
    return parser.parse_args(argv)


def options_for(data: str, iterations: int, seed: int) -> dict:
    """Keys of the config to override."""
    options = {
        'train_cfg.max_iters': iterations + WARMUP,
        'train_cfg.val_interval': iterations + WARMUP,
        'default_hooks.checkpoint': None,
        'default_hooks.visualization.draw': False
    }
    for split in ('train', 'val'):
        options[f'{split}_dataloader.num_workers'] = 0
        dataset = f'{split}_dataloader.dataset'
        options[f'{dataset}.data_root'] = data
        options[f'{dataset}.generate'] = dict(DATA, seed=seed)
    return options


def worker(data: str, out: str, iterations: int, seed: int) -> int:
    """One of the processes; the first writes images a second."""
    from mmdet.registry import RUNNERS
    from mmengine.hooks import Hook

    from mmengine_exact import run_to_exit_code, tool_config
    launcher = 'pytorch' if 'RANK' in os.environ else 'none'
    ends, evaluation = [], []

    class Clock(Hook):
        priority = 'VERY_LOW'

        def after_train_iter(self, runner, *args, **kwargs):
            ends.append(time.perf_counter())

        def before_val(self, runner):
            evaluation.append(time.perf_counter())

        def after_val(self, runner):
            evaluation.append(time.perf_counter())

    def run():
        cfg = tool_config(
            str(harness.ROOT / CONFIG), launcher,
            options_for(data, iterations, seed), f'{out}.work')
        runner = RUNNERS.build(cfg)
        runner.register_hook(Clock())
        runner.train()
        if runner.rank == 0:
            seconds = [b - a for a, b in zip(ends[WARMUP - 1:], ends[WARMUP:])]
            batch = cfg.train_dataloader.batch_size * runner.world_size
            images = len(runner.val_dataloader.dataset)
            Path(out).write_text(
                json.dumps(
                    dict(
                        training=batch / median(seconds),
                        evaluation=images / (evaluation[1] - evaluation[0]))))

    return run_to_exit_code(run)


def launch(processes: int, data: Path, out: Path, args) -> dict:
    """Images a second of both tasks.

    Raises:
        RuntimeError: The run failed; with the end of what it said.
    """
    start = [sys.executable]
    if processes > 1:
        with socket.socket() as free:
            free.bind(('127.0.0.1', 0))
            port = free.getsockname()[1]
        start += [
            '-m', 'torch.distributed.run', f'--nproc_per_node={processes}',
            '--master_addr=127.0.0.1', f'--master_port={port}'
        ]
    done = subprocess.run([
        *start, '-m', 'benchmarks.two_processes', '--iterations',
        str(args.iterations), '--seed',
        str(args.seed), '--worker',
        str(data),
        str(out)
    ],
                          cwd=harness.ROOT,
                          env=dict(
                              os.environ,
                              OMP_NUM_THREADS='1',
                              CUDA_VISIBLE_DEVICES='-1'),
                          capture_output=True,
                          text=True)
    if done.returncode or not out.is_file():
        raise RuntimeError(f'{processes} process(es) failed with exit code '
                           f'{done.returncode}:\n{done.stderr[-2000:]}')
    return json.loads(out.read_text())


def measure(args) -> dict:
    """Images a second of each round, by task and number of processes."""
    from panoptic_apps.toy_data.synthetic_shapes import write_dataset
    found = {task: {'1': [], '2': []} for task in TASKS}
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / 'data'
        write_dataset(str(data), **DATA, seed=args.seed)
        for i in range(args.rounds):
            for processes in (1, 2)[::-1 if i % 2 else 1]:
                print(f'round {i + 1}, {processes} process(es)', flush=True)
                rates = launch(processes, data,
                               Path(folder) / f'{i}-{processes}.json', args)
                for task in TASKS:
                    found[task][str(processes)].append(rates[task])
    return found


def efficiency(rates: dict) -> float:
    """Of two processes: 1 where they are twice as fast as one."""
    return median(rates['2']) / (2 * median(rates['1']))


def text_of(report: dict) -> str:
    rows = [(task, median(report[task]['1']), median(report[task]['2']),
             efficiency(report[task])) for task in TASKS]
    return tabulate(
        rows, ('images/s', 'one', 'two', 'efficiency'), floatfmt='.2f')


def main(argv=None) -> int:
    args = parse_args(argv)
    if args.worker:
        return worker(*args.worker, args.iterations, args.seed)
    try:
        found = measure(args)
    except RuntimeError as error:
        print(f'error: {error}', file=sys.stderr)
        return 1
    content = dict(
        config=CONFIG,
        iterations=args.iterations,
        data=dict(DATA, seed=args.seed),
        **found)
    figures.publish(args.out / 'two_processes', content, text_of)
    return 0


if __name__ == '__main__':
    sys.exit(main())
