"""Prepare Cityscapes for training and evaluation.

Example:
    python tools/dataset_converters/cityscapes.py data/cityscapes

The folder is the one that leftImg8bit_trainvaltest.zip and
gtFine_trainvaltest.zip were unpacked to. Running again does only what is
missing, after an interruption too.
Exit code: 0 prepared, 1 the data cannot be used, or interrupted, 2 wrong
arguments.
"""
import argparse
import sys


def parse_args():
    parser = argparse.ArgumentParser(
        description=__doc__.split('\n')[0],
        formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument(
        'data_root', help='folder that holds leftImg8bit and gtFine')
    parser.add_argument(
        '--splits',
        nargs='+',
        choices=['train', 'val', 'test'],
        default=['train', 'val', 'test'])
    parser.add_argument(
        '--num-workers',
        type=int,
        help='processes; by default one for each core, at most 8')
    parser.add_argument(
        '--out-dir',
        help='write below this folder instead, such as where DATA_ROOT is '
        'read-only; give its panoptic_fpn_*.json as ann_file of the data sets')
    args = parser.parse_args()
    if args.num_workers is not None and args.num_workers < 1:
        parser.error(f'--num-workers {args.num_workers}: must be at least 1')
    return args


def main():
    args = parse_args()
    from panoptic_apps.convert_data import (format_summary, prepare,
                                            run_resumable)

    def warn(text):
        print(f'warning: {text}', file=sys.stderr)

    def run():
        summaries = prepare(
            args.data_root,
            args.splits,
            args.num_workers,
            report=lambda line: print(line, flush=True),
            warn=warn,
            out=args.out_dir)
        for split, summary in summaries.items():
            print(format_summary(split, summary))

    return run_resumable(run)


if __name__ == '__main__':
    sys.exit(main())
