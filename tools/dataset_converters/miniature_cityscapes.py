"""Draw a miniature Cityscapes: its folders, names and kinds of annotation.

Example:
    python tools/dataset_converters/miniature_cityscapes.py data/miniature

The default is what configs/cityscapes/panoptic-fpn_tiny_miniature.py trains.

Exit code: 0 done (or there already), 1 the folder cannot be used, 2 wrong
arguments.
"""
import argparse
import sys


def parse_args():
    parser = argparse.ArgumentParser(
        description=__doc__.split('\n')[0],
        formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument('out', help='folder to create')
    parser.add_argument(
        '--size',
        type=int,
        nargs=2,
        default=[256, 512],
        metavar=('HEIGHT', 'WIDTH'),
        help='size of the images in pixels')
    parser.add_argument('--num-train', type=int, default=24)
    parser.add_argument('--num-val', type=int, default=6)
    parser.add_argument('--num-test', type=int, default=2)
    parser.add_argument('--seed', type=int, default=0)
    args = parser.parse_args()
    for name in ('num_train', 'num_val', 'num_test', 'seed'):
        if getattr(args, name) < 0:
            option = name.replace('_', '-')
            parser.error(
                f'--{option} {getattr(args, name)}: must be at least 0')
    return args


def main():
    args = parse_args()
    from mmengine_exact.command import run_to_exit_code
    from panoptic_apps.toy_data.miniature import make_miniature

    def run():
        splits = dict(
            train=args.num_train, val=args.num_val, test=args.num_test)
        make_miniature(args.out, splits, tuple(args.size), args.seed)
        print(f'{args.out}: {sum(splits.values())} images')

    return run_to_exit_code(run)


if __name__ == '__main__':
    sys.exit(main())
