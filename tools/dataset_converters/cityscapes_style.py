"""Bring folders of images and label maps to COCO panoptic format.

Example:
    python tools/dataset_converters/cityscapes_style.py \
        images/ labels/ classes.csv --out-dir data/my --name train
    python tools/dataset_converters/cityscapes_style.py \
        leftImg8bit/train gtFine/train classes.csv --out-dir data/my \
        --name train --image-suffix _leftImg8bit.png \
        --label-suffix _gtFine_instanceIds.png
    python tools/dataset_converters/cityscapes_style.py \
        JPEGImages SegmentationClass labelmap.txt --things person car \
        --instances SegmentationObject --out-dir data/my --name train
    python tools/dataset_converters/cityscapes_style.py \
        images/ bitmasks/ classes.csv --out-dir data/my --name train \
        --channels class=R instance=BA crowd=G2 void=G1

writes data/my/train.json and data/my/train/*.png. Label maps hold
``class * 1000 + number`` for single instances and the class elsewhere (of a
thing class: a crowd); or, in RGB, the colours of classes; or --channels says
which channel holds what. ``classes.csv`` has
the columns id, name, isthing and, optionally, ignore, values (by default the
id) and color; JSON and CVAT's labelmap.txt work too. Running again continues
after an interruption. Cityscapes itself has cityscapes.py. Exit code: 0
converted, 1 the data cannot be used, or interrupted, 2 wrong arguments.
"""
import argparse
import os.path as osp
import sys


def parse_args():
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('images', help='folder of images')
    parser.add_argument(
        'labels', help='folder of label maps, with the same subfolders')
    parser.add_argument(
        'classes', help='class list: .csv, .json or labelmap.txt')
    parser.add_argument(
        '--out-dir', dest='out', required=True, help='folder to write to')
    parser.add_argument(
        '--name',
        default='panoptic',
        help='name of the JSON and of the folder of PNGs (default: panoptic)')
    parser.add_argument(
        '--image-suffix',
        help='what image names end with (default: .jpg, .png and the like)')
    parser.add_argument(
        '--label-suffix',
        default='.png',
        help='what names of label maps end with (default: .png)')
    parser.add_argument(
        '--offset',
        type=int,
        default=1000,
        help='first value of single instances (default: 1000; KITTI and '
        'Mapillary: 256)')
    parser.add_argument(
        '--numbered',
        action='store_true',
        help='no value is a class alone; those below --offset are instances '
        'of class 0 (Mapillary)')
    parser.add_argument(
        '--instances',
        metavar='DIR',
        default='',
        help='folder of maps, named like the label maps, in which each value '
        'or colour but 0 is an instance; label maps then hold classes alone')
    parser.add_argument(
        '--channels',
        nargs='+',
        metavar='WHAT',
        default=[],
        help='what channels of R, G, B, A (L: the only one) hold, such as '
        'class=R instance=GB: R is the class, 256 * G + B (of the --instances '
        'map, if given) the number of the instance, 0 none. Pixels with the '
        'bit of value 2 of G are crowd, with that of value 1 void: crowd=G2 '
        'void=G1. instance=L alone: instances of one class, whose value is 1, '
        'and 0 elsewhere')
    parser.add_argument(
        '--split',
        metavar='FILE',
        help='list of the images to take, one a line, with or without suffix '
        '(default: all)')
    parser.add_argument(
        '--void-values',
        type=int,
        nargs='*',
        default=[0],
        help='values that mean nothing (default: 0)')
    parser.add_argument(
        '--things',
        nargs='+',
        metavar='NAME',
        help='the thing classes, all others are stuff (default: isthing of '
        'the class list)')
    parser.add_argument(
        '--orientation',
        choices=['shown', 'stored'],
        help='what labels fit of photographs that an EXIF tag turns, where '
        'both is possible')
    parser.add_argument(
        '--num-workers',
        type=int,
        help='processes; by default one for each core, at most 8')
    args = parser.parse_args()
    if args.num_workers is not None and args.num_workers < 1:
        parser.error(f'--num-workers {args.num_workers}: must be at least 1')
    if args.offset < 2:
        parser.error(f'--offset {args.offset}: must be at least 2')
    target = osp.realpath(osp.join(args.out, args.name))
    inputs = [args.images, args.labels, *filter(None, [args.instances])]
    if not args.name or '/' in args.name or target in map(
            osp.realpath, inputs):
        parser.error(f'--name {args.name!r}: must not contain folders or be '
                     'one of the inputs')
    return args


def main():
    args = parse_args()
    from panoptic_apps.convert_data import convert_label_folders, run_resumable

    def run():
        summary = convert_label_folders(
            **vars(args), report=lambda line: print(line, flush=True))
        print(f'{osp.join(args.out, args.name)}.json: '
              f'{summary["images"]} images, {summary["segments"]} segments, '
              f'{summary["crowd"]} of them crowd')

    return run_resumable(run)


if __name__ == '__main__':
    sys.exit(main())
