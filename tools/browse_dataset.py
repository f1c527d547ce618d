"""Draw panoptic ground truth as it comes out of a dataset's pipeline.

Example:
    python tools/browse_dataset.py CONFIG.py --split train --num 8

Exit code: 0 done, 1 the data cannot be used, 2 wrong arguments.
"""
import argparse
import os.path as osp
import sys

from mmengine.config import DictAction


def parse_args():
    parser = argparse.ArgumentParser(
        description=__doc__.split('\n')[0],
        formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument('config', help='config with the dataloaders')
    parser.add_argument(
        '--split', choices=['train', 'val', 'test'], default='train')
    parser.add_argument('--num', type=int, default=8, help='samples to draw')
    parser.add_argument('--out-dir', default='work_dirs/browse')
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=DictAction,
        help='keys of the config to override, key=value')
    args = parser.parse_args()
    if args.num < 1:
        parser.error(f'--num {args.num}: draw at least one sample')
    if not osp.isfile(args.config):
        parser.error(f'{args.config}: no such file')
    return args


def main():
    args = parse_args()
    from mmengine_exact.errors import InputError
    from panoptic_apps.browse_dataset import browse_dataset
    try:
        paths = browse_dataset(args.config, args.split, args.num, args.out_dir,
                               args.seed, args.cfg_options)
    except InputError as error:
        print(f'error: {error}', file=sys.stderr)
        return 1
    for path in paths:
        print(path)
    return 0


if __name__ == '__main__':
    sys.exit(main())
