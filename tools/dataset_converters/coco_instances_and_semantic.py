"""Bring COCO instances and semantic label maps to COCO panoptic format.

Example:
    python tools/dataset_converters/coco_instances_and_semantic.py \
        instances.json semantic/ classes.csv --out-dir data/my --name train

writes data/my/train.json and data/my/train/*.png. ``classes.csv`` has the
columns id, name, isthing and, optionally, ignore and values (those of label
maps, by default the id); JSON works too. Instances are matched by the name
of their category. Running again continues after an interruption.
Exit code: 0 converted, 1 the data cannot be used, or interrupted, 2 wrong
arguments.
"""
import argparse
import os.path as osp
import sys


def parse_args():
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('instances', help='COCO instances JSON')
    parser.add_argument(
        'semantic', help='folder of label maps, named like the images')
    parser.add_argument('classes', help='class list, .csv or .json')
    parser.add_argument('--out-dir', required=True, help='folder to write to')
    parser.add_argument(
        '--name',
        default='panoptic',
        help='name of the JSON and of the folder of PNGs (default: panoptic)')
    parser.add_argument(
        '--order',
        choices=['area', 'annotation'],
        default='area',
        help='which instance lies on top: the smaller (default) or the '
        'later in the JSON; crowds lie below all others')
    parser.add_argument(
        '--uncovered',
        choices=['void', 'crowd'],
        default='void',
        help='what pixels of a thing class become that no instance covers '
        '(default: void)')
    parser.add_argument(
        '--void-values',
        type=int,
        nargs='*',
        default=[0, 255],
        help='values of label maps that mean nothing (default: 0 255)')
    parser.add_argument(
        '--semantic-suffix',
        default='.png',
        help='suffix of label maps (default: .png)')
    parser.add_argument(
        '--num-workers',
        type=int,
        help='processes; by default one for each core, at most 8')
    args = parser.parse_args()
    if args.num_workers is not None and args.num_workers < 1:
        parser.error(f'--num-workers {args.num_workers}: must be at least 1')
    target = osp.realpath(osp.join(args.out_dir, args.name))
    if not args.name or '/' in args.name or target in (osp.realpath(
            args.semantic), osp.splitext(osp.realpath(args.instances))[0]):
        parser.error(f'--name {args.name!r}: must not contain folders or be '
                     'one of the inputs')
    return args


def main():
    args = parse_args()
    from panoptic_apps.convert_data import (convert_instances_and_semantic,
                                            run_resumable)

    def run():
        summary = convert_instances_and_semantic(
            args.instances,
            args.semantic,
            args.classes,
            args.out_dir,
            args.name,
            order=args.order,
            uncovered=args.uncovered,
            void_values=args.void_values,
            suffix=args.semantic_suffix,
            num_workers=args.num_workers,
            report=lambda line: print(line, flush=True))
        print(f'{osp.join(args.out_dir, args.name)}.json: '
              f'{summary["images"]} images, {summary["segments"]} segments; '
              f'{summary["hidden"]} instances were hidden altogether, '
              f'{summary["uncovered"]} pixels of things that no instance '
              f'covers became {args.uncovered}')

    return run_resumable(run)


if __name__ == '__main__':
    sys.exit(main())
