"""Check a data set in COCO panoptic format before training on it.

Example:
    python tools/check_dataset.py data/my/train.json \
        --images data/my/images --panoptic data/my/train
    python tools/check_dataset.py data/my/val.json \
        --images data/my/images --panoptic data/my/val \
        --against data/my/train.json --against-images data/my/images

Errors stop training or make a score wrong; warnings are odd and may be
intended. ``--fix OUT.json`` writes another JSON with what can be computed from
the PNGs and, where PNGs have to change, all of them to the folder OUT; the
exit code is about the JSON that was checked. Exit code: 0 no errors, 1 errors
were found, or interrupted, 2 wrong arguments.
"""
import argparse
import json
import os.path as osp
import sys


def parse_args():
    parser = argparse.ArgumentParser(
        description=__doc__.split('\n')[0], fromfile_prefix_chars='@')
    parser.add_argument('panoptic_json', metavar='PANOPTIC.json')
    parser.add_argument(
        '--images', metavar='DIR', required=True, help='its images')
    parser.add_argument(
        '--panoptic', metavar='DIR', required=True, help='its PNGs')
    parser.add_argument(
        '--against',
        metavar='TRAIN.json',
        help='another COCO JSON: no picture may be in both')
    parser.add_argument(
        '--against-images', metavar='DIR', help='images of --against')
    parser.add_argument(
        '--num-workers',
        '--workers',
        type=int,
        help='processes; by default one for each core, at most 8')
    parser.add_argument(
        '--examples',
        type=int,
        default=5,
        metavar='N',
        help='faults of each kind to print (default: 5)')
    parser.add_argument(
        '--json',
        metavar='OUT.json',
        help='also write the report, with up to 1000 faults of each kind')
    parser.add_argument(
        '--fix',
        metavar='OUT.json',
        help='write the JSON with areas, boxes and sizes computed anew, names '
        'of files made relative, segments of a stuff class merged, those '
        'without pixels removed, and those added whose category follows from '
        'their id')
    parser.add_argument(
        '--things',
        '--isthing',
        nargs='*',
        metavar='NAME',
        help='the thing classes, all others are stuff: for files whose '
        'isthing is missing or wrong (--fix writes it); names with spaces or '
        'commas between them, or @FILE with one in each line')
    args = parser.parse_args()
    check_args(parser, args)
    return args


def check_args(parser, args):
    """Exit with code 2 where inputs are missing or would be overwritten."""
    if bool(args.against) != bool(args.against_images):
        parser.error('--against and --against-images go together')
    inputs = [path for path in (args.panoptic_json, args.against) if path]
    for path in inputs:
        if not osp.isfile(path):
            parser.error(f'{path}: no such file')
    for option in ('images', 'panoptic', 'against_images'):
        folder = getattr(args, option)
        if folder is not None and not osp.isdir(folder):
            parser.error(f'--{option.replace("_", "-")} {folder}: no such '
                         'folder')
    taken = [osp.realpath(path) for path in inputs]
    for option, path in (('json', args.json), ('fix', args.fix)):
        if path is None:
            continue
        if osp.isdir(path) or not path.endswith('.json'):
            parser.error(f'--{option} {path}: must be a file that ends with '
                         '.json')
        if osp.realpath(path) in taken:
            parser.error(f'--{option} {path}: would overwrite another file '
                         'of this command. Name a new one')
        taken.append(osp.realpath(path))
    if args.fix and osp.lexists(args.fix[:-len('.json')]):
        parser.error(f'--fix {args.fix}: {args.fix[:-len(".json")]} exists, '
                     'where changed PNGs would go. Name a new one')


def show_progress(step, size):
    """A bar on a terminal, else a line for each tenth; on stderr."""
    from mmengine.utils import ProgressBar
    if sys.stderr.isatty():
        print(f'{step}: {size} images', file=sys.stderr)
        bar = ProgressBar(size, file=sys.stderr)

        def update(done):
            bar.update(done)
            if bar.completed >= size:
                print(file=sys.stderr)

        return update
    total = 0

    def log(done):
        nonlocal total
        total += done
        if total * 10 // size > (total - done) * 10 // size:
            print(f'{step}: {total}/{size} images', file=sys.stderr)

    return log


def check(args):
    """Exit code of the check."""
    from mmengine_exact import run_to_exit_code
    from mmengine_exact.files import write_bytes
    from panoptic_apps.check_dataset import (check_dataset, format_repair,
                                             format_report, report_content)
    from panoptic_fpn.coco_format import ERROR
    errors = 0

    def run():
        nonlocal errors
        path, against = args.panoptic_json, None
        if args.against:
            against = args.against, args.against_images
        result = check_dataset(
            path,
            args.images,
            args.panoptic,
            against,
            args.num_workers,
            repair=args.fix is not None,
            things=args.things,
            progress=show_progress)
        errors = result.faults.total(ERROR)
        print(format_report(path, result, args.examples))
        if args.json:
            content = report_content(path, result)
            write_bytes(args.json, json.dumps(content, indent=1).encode())
        if args.fix and result.repair is not None:
            folder = result.repair.write(args.fix)
            print(format_repair(args.fix, result.repair, folder))

    return run_to_exit_code(run) or int(errors > 0)


def main():
    args = parse_args()
    try:
        return check(args)
    except KeyboardInterrupt:
        print('interrupted: no file is half written', file=sys.stderr)
        return 1


if __name__ == '__main__':
    sys.exit(main())
