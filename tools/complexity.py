"""Count multiply-adds, activations and parameters of a model, part by part.

Example:
    python tools/complexity.py CONFIG --shape 1024 2048 --out complexity.json

Nothing is computed or allocated: shapes are enough. What the paper says of
compute is counted by ``tools/paper.py compute``. Exit code: 0 done, 1 the
model cannot be counted, 2 wrong arguments.
"""
import argparse
import json
import os.path as osp
import sys

from mmengine.config import DictAction


def parse_args():
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('config', help='config file')
    parser.add_argument(
        '--shape',
        type=int,
        nargs=2,
        default=(1024, 2048),
        metavar=('H', 'W'),
        help='size of the image in pixels (default: 1024 2048, the paper\'s)')
    parser.add_argument(
        '--rois',
        type=int,
        metavar='N',
        help="RoIs of the box head, by default the config's "
        'test_cfg.rpn.max_per_img')
    parser.add_argument(
        '--detections',
        type=int,
        metavar='M',
        help="RoIs of the mask head, by default the config's "
        'test_cfg.rcnn.max_per_img')
    parser.add_argument(
        '--out', metavar='FILE.json', help='write the counts to this file')
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=DictAction,
        help='keys of the config to override, key=value')
    args = parser.parse_args()
    if not osp.isfile(args.config):
        parser.error(f'config {args.config}: no such file')
    if min(args.shape) < 1:
        parser.error('--shape {} {}: must be at least 1'.format(*args.shape))
    for name in ('rois', 'detections'):
        number = getattr(args, name)
        if number is not None and number < 0:
            parser.error(f'--{name} {number}: must be at least 0')
    return args


def count_config(args):
    """Print and write the counts of one config."""
    from mmengine_exact.files import write_bytes
    from panoptic_apps.complexity import (build_on_meta, complexity,
                                          complexity_json, complexity_table)
    model = build_on_meta(args.config, args.cfg_options)
    result = complexity(model, args.shape, args.rois, args.detections)
    if result.shape != tuple(args.shape):
        print('--shape {} {}: padded to {} {}, as the model pads'.format(
            *args.shape, *result.shape))
    print(complexity_table(args.config, result))
    if args.out:
        content = json.dumps(
            complexity_json(args.config, result), indent=1, allow_nan=False)
        write_bytes(args.out, (content + '\n').encode())
        print(args.out)


def main():
    args = parse_args()
    import panoptic_fpn  # noqa: F401  registers
    from mmengine_exact import run_to_exit_code

    return run_to_exit_code(lambda: count_config(args))


if __name__ == '__main__':
    sys.exit(main())
