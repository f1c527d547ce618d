"""Find the merge's thresholds, from one saved forward pass.

Example:
    python tools/test.py CONFIG CHECKPOINT --save-branches work_dirs/branches
    python tools/sweep_merge.py work_dirs/branches --stuff-area 512 2048 8192

Prints the best settings and writes ``sweep.json`` and ``sweep.png`` into the
folder. Exit code: 0 done, 1 the folder cannot be used, 2 wrong arguments.
"""
import argparse
import json
import os.path as osp
import sys


def parse_args():
    parser = argparse.ArgumentParser(
        description=__doc__.split('\n')[0],
        formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument('folder', help='written by test.py --save-branches')
    parser.add_argument(
        '--score-thr',
        type=float,
        nargs='+',
        default=[0.3, 0.4, 0.5, 0.6, 0.7],
        help='least scores of an instance')
    parser.add_argument(
        '--overlap-thr',
        type=float,
        nargs='+',
        default=[0.3, 0.4, 0.5, 0.6, 0.7],
        help='largest fractions that better instances may cover')
    parser.add_argument(
        '--stuff-area',
        type=int,
        nargs='+',
        default=[1024, 2048, 4096],
        help='least pixels of a stuff class')
    parser.add_argument(
        '--metric', choices=['PQ', 'PQ_th', 'PQ_st'], default='PQ')
    parser.add_argument('--top', type=int, default=10, help='lines to print')
    parser.add_argument(
        '--num-workers',
        type=int,
        help='processes; by default one for each core, at most 8')
    args = parser.parse_args()
    if args.num_workers is not None and args.num_workers < 1:
        parser.error(f'--num-workers {args.num_workers}: must be at least 1')
    for value in args.stuff_area:
        if value < 0:
            parser.error(f'--stuff-area {value}: must be at least 0')
    if args.top < 1:
        parser.error(f'--top {args.top}: must be at least 1')
    for name in ('score_thr', 'overlap_thr'):
        for value in getattr(args, name):
            if not 0 <= value <= 1:
                parser.error(f'--{name.replace("_", "-")} {value}: must be '
                             'between 0 and 1')
    return args


def main():
    args = parse_args()
    from mmengine_exact import read_record, run_to_exit_code
    from mmengine_exact.files import write_bytes
    from panoptic_apps.sweep_merge import draw_sweep, format_sweep, sweep_merge
    from panoptic_fpn.training.metrics_json import flat_metrics
    from panoptic_fpn.visualization.image_io import write_image

    def sweep():
        rows, start = sweep_merge(args.folder, args.score_thr,
                                  args.overlap_thr, args.stuff_area,
                                  args.num_workers, args.metric)
        print(format_sweep(rows[:args.top], start))
        print('The best of many settings on these images is not a score for '
              'them; report what other images give.')
        text = json.dumps(
            dict(
                settings=[flat_metrics(row) for row in rows],
                config=start and flat_metrics(start),
                record=read_record(args.folder)),
            indent=1,
            allow_nan=False)
        paths = [
            osp.join(args.folder, name) for name in ('sweep.json', 'sweep.png')
        ]
        write_bytes(paths[0], text.encode())
        write_image(paths[1], draw_sweep(rows, args.metric))
        print(*paths, sep='\n')

    return run_to_exit_code(sweep)


if __name__ == '__main__':
    sys.exit(main())
