"""Count multiply-adds, activations and parameters of a model, part by part.

Example:
    python tools/complexity.py CONFIG --shape 1024 2048 --out complexity.json
    python tools/complexity.py --figure4 docs

Nothing is computed or allocated: shapes are enough. The second form counts
what the paper says something about and writes ``complexity.md`` (Figure 4,
Tables 1a, 3a and 3b, memory of training), ``images/figure4.json`` and
``images/figure4.png``. Exit code: 0 done, 1 the model cannot be counted, 2
wrong arguments.
"""
import argparse
import json
import os.path as osp
import sys

from mmengine.config import DictAction

ROOT = osp.dirname(osp.dirname(osp.abspath(__file__)))
sys.path.insert(0, ROOT)


def parse_args():
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('config', nargs='?', help='config file')
    parser.add_argument(
        '--shape',
        type=int,
        nargs=2,
        metavar=('H', 'W'),
        help='of the image in pixels, by default 1024 2048 as in the paper')
    parser.add_argument(
        '--rois',
        type=int,
        metavar='N',
        help="of the box head, by default the config's "
        'test_cfg.rpn.max_per_img')
    parser.add_argument(
        '--detections',
        type=int,
        metavar='M',
        help="of the mask head, by default the config's "
        'test_cfg.rcnn.max_per_img')
    parser.add_argument(
        '--out', metavar='FILE.json', help='write the counts to this file')
    parser.add_argument(
        '--figure4',
        metavar='DIR',
        help="count the paper's models instead of a config")
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=DictAction,
        help='keys of the config to override, key=value')
    args = parser.parse_args()
    if (args.config is None) == (args.figure4 is None):
        parser.error('give either a config or --figure4 DIR')
    if args.config and not osp.isfile(args.config):
        parser.error(f'config {args.config}: no such file')
    for name in ('shape', 'rois', 'detections', 'out', 'cfg_options'):
        if args.figure4 and getattr(args, name) is not None:
            parser.error(f'--{name.replace("_", "-")}: --figure4 counts the '
                         "paper's models as the paper does; leave it out")
    args.shape = args.shape or (1024, 2048)
    if min(args.shape) < 1:
        parser.error('--shape {} {}: at least 1'.format(*args.shape))
    for name in ('rois', 'detections'):
        number = getattr(args, name)
        if number is not None and number < 0:
            parser.error(f'--{name} {number}: at least 0')
    return args


def count_config(args):
    """Print and write the counts of one config."""
    from projects.panoptic_fpn.analysis import (build_on_meta, complexity,
                                                complexity_json,
                                                complexity_table)
    from projects.panoptic_fpn.files import write_bytes
    model = build_on_meta(args.config, args.cfg_options)
    result = complexity(model, args.shape, args.rois, args.detections)
    if result.shape != tuple(args.shape):
        print('--shape {} {}: padded to {} {}, as the model pads'.format(
            *args.shape, *result.shape))
    print(complexity_table(args.config, result))
    if args.out:
        content = complexity_json(args.config, result)
        write_bytes(args.out, _json(content))
        print(args.out)


def count_paper(folder):
    """Write the page and the picture of the paper's models."""
    from projects.panoptic_fpn.analysis import (figure4_json, paper_compute,
                                                paper_page)
    from projects.panoptic_fpn.files import write_bytes
    from projects.panoptic_fpn.visualization.compute import draw_compute
    from projects.panoptic_fpn.visualization.image_io import write_image
    compute = paper_compute(osp.join(ROOT, 'configs'))
    page, picture = osp.join(folder, 'complexity.md'), 'images/figure4.png'
    write_image(
        osp.join(folder, picture),
        draw_compute([(name, row.stride, row.trunk.multiply_adds,
                       row.trunk.activations)
                      for name, row in compute.figure4.items()]))
    numbers = osp.join(folder, 'images', 'figure4.json')
    write_bytes(numbers, _json(figure4_json(compute)))
    write_bytes(page, paper_page(compute, picture).encode())
    print(page, osp.join(folder, picture), numbers, sep='\n')


def _json(content):
    return (json.dumps(content, indent=1, allow_nan=False) + '\n').encode()


def main():
    args = parse_args()
    import projects.panoptic_fpn  # noqa: F401  registers
    from projects.panoptic_fpn.engine import run_to_exit_code

    def count():
        if args.figure4:
            count_paper(args.figure4)
        else:
            count_config(args)

    return run_to_exit_code(count)


if __name__ == '__main__':
    sys.exit(main())
