"""Bring folders in the style of Cityscapes to COCO panoptic format.

Example:
    python tools/dataset_converters/cityscapes_style.py \
        images/ labels/ classes.csv --out-dir data/my --name train
    python tools/dataset_converters/cityscapes_style.py \
        leftImg8bit/train gtFine/train classes.csv --out-dir data/my \
        --name train --image-suffix _leftImg8bit.png \
        --label-suffix _gtFine_instanceIds.png

writes data/my/train.json and data/my/train/*.png. Label maps hold
``class * 1000 + number`` for single instances and the class elsewhere (of a
thing class: a crowd). ``classes.csv`` has the columns id, name, isthing and,
optionally, ignore and values (by default the id); JSON works too. Running
again continues after an interruption. Cityscapes itself has
cityscapes.py. Exit code: 0 converted, 1 the data cannot be used, or
interrupted, 2 wrong arguments.
"""
import argparse
import os.path as osp
import sys


def parse_args():
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('images', help='folder of images')
    parser.add_argument(
        'labels', help='folder of label maps, with the same subfolders')
    parser.add_argument('classes', help='class list, .csv or .json')
    parser.add_argument('--out-dir', required=True, help='folder to write to')
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
        help='first value of single instances (default: 1000)')
    parser.add_argument(
        '--void-values',
        type=int,
        nargs='*',
        default=[0],
        help='values that mean nothing (default: 0)')
    parser.add_argument(
        '--num-workers',
        type=int,
        help='processes; by default one for each core, at most 8')
    args = parser.parse_args()
    if args.num_workers is not None and args.num_workers < 1:
        parser.error(f'--num-workers {args.num_workers}: must be at least 1')
    if args.offset < 2:
        parser.error(f'--offset {args.offset}: must be at least 2')
    target = osp.realpath(osp.join(args.out_dir, args.name))
    if not args.name or '/' in args.name or target in (osp.realpath(
            args.images), osp.realpath(args.labels)):
        parser.error(f'--name {args.name!r}: must not contain folders or be '
                     'one of the inputs')
    return args


def main():
    args = parse_args()
    from panoptic_apps.convert_data import convert_label_folders, run_resumable

    def run():
        summary = convert_label_folders(
            args.images,
            args.labels,
            args.classes,
            args.out_dir,
            args.name,
            image_suffix=args.image_suffix,
            label_suffix=args.label_suffix,
            offset=args.offset,
            void_values=args.void_values,
            num_workers=args.num_workers,
            report=lambda line: print(line, flush=True))
        print(f'{osp.join(args.out_dir, args.name)}.json: '
              f'{summary["images"]} images, {summary["segments"]} segments, '
              f'{summary["crowd"]} of them crowd')

    return run_resumable(run)


if __name__ == '__main__':
    sys.exit(main())
