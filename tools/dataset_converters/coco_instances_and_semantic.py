"""Bring COCO instances, alone or with label maps, to COCO panoptic format.

Example:
    python tools/dataset_converters/coco_instances_and_semantic.py \
        instances.json --things person car --out-dir data/my --name train
    python tools/dataset_converters/coco_instances_and_semantic.py \
        instances.json semantic/ classes.csv --out-dir data/my --name train
    python tools/dataset_converters/coco_instances_and_semantic.py \
        instances_val2017.json --only-things --out-dir data/coco/annotations \
        --name things_val2017

writes data/my/train.json and data/my/train/*.png. The JSON has polygons or
RLEs of things and, without label maps, of stuff. ``classes.csv`` has the
columns id, name, isthing and, optionally, ignore and values (those of label
maps, by default the id); JSON works too. Without it, classes are the
categories of the JSON. Annotations are matched by the name of their category.
Running again continues after an interruption. Exit code: 0 converted, 1 the
data cannot be used, or interrupted, 2 wrong arguments.
"""
import argparse
import os.path as osp
import sys


def parse_args():
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('instances', help='COCO instances JSON')
    parser.add_argument(
        'semantic',
        nargs='?',
        help='folder of label maps, named like the images (default: none)')
    parser.add_argument(
        'classes',
        nargs='?',
        help='class list, .csv or .json (default: categories of the JSON)')
    parser.add_argument(
        '--out-dir', dest='out', required=True, help='folder to write to')
    parser.add_argument(
        '--name',
        default='panoptic',
        help='name of the JSON and of the folder of PNGs (default: panoptic)')
    parser.add_argument(
        '--order',
        choices=['area', 'annotation'],
        default='area',
        help='which instance lies on top: the smaller (default) or the '
        'later in the JSON; crowds lie below all others, stuff below them')
    kinds = parser.add_mutually_exclusive_group()
    kinds.add_argument(
        '--things',
        nargs='+',
        metavar='NAME',
        help='the thing classes, all others are stuff (default: isthing of '
        'the class list, or of the categories)')
    kinds.add_argument(
        '--only-things',
        action='store_true',
        help='all classes are things, as in COCO\'s instances_*.json')
    parser.add_argument(
        '--background',
        metavar='NAME',
        help='without label maps: the stuff class, maybe a new one, of pixels '
        "that nothing covers; '': void (default: void, with --only-things the "
        'class background)')
    parser.add_argument(
        '--no-crowd',
        dest='single',
        action='store_true',
        help='take annotations with iscrowd=1 for single objects; CVAT marks '
        'what is drawn with its brush so')
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
        dest='suffix',
        default='.png',
        help='suffix of label maps (default: .png)')
    parser.add_argument(
        '--num-workers',
        type=int,
        help='processes; by default one for each core, at most 8')
    # the second may be given without the first, and behind options
    args = parser.parse_intermixed_args()
    if args.classes is None and args.semantic and osp.isfile(args.semantic):
        args.semantic, args.classes = None, args.semantic
    if args.semantic and not osp.isdir(args.semantic):
        parser.error(f'{args.semantic}: no such folder, or class list')
    if args.semantic and args.background:
        parser.error('--background: label maps say what the background is')
    if args.num_workers is not None and args.num_workers < 1:
        parser.error(f'--num-workers {args.num_workers}: must be at least 1')
    target = osp.realpath(osp.join(args.out, args.name))
    inputs = [args.semantic, osp.splitext(args.instances)[0]]
    if not args.name or '/' in args.name or target in map(
            osp.realpath, filter(None, inputs)):
        parser.error(f'--name {args.name!r}: must not contain folders or be '
                     'one of the inputs')
    return args


def main():
    args = parse_args()
    from panoptic_apps.convert_data import (convert_instances_and_semantic,
                                            run_resumable)

    def run():
        summary = convert_instances_and_semantic(
            **vars(args), report=lambda line: print(line, flush=True))
        print(f'{osp.join(args.out, args.name)}.json: '
              f'{summary["images"]} images, {summary["segments"]} segments')

    return run_resumable(run)


if __name__ == '__main__':
    sys.exit(main())
