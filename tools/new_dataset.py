"""Write a config for a data set of your own in COCO panoptic format.

Example:
    python tools/new_dataset.py my_data \
        --train data/my/train.json --train-images data/my/images \
        --train-panoptic data/my/train \
        --val data/my/val.json --val-images data/my/images \
        --val-panoptic data/my/val
    python tools/train.py configs/custom/my_data.py

It inherits ``--base``; classes, counts, paths, schedule, learning rate and
what the objects need follow from the data. Exit code: 0 written, 1 data or
base cannot be used, 2 wrong arguments.
"""
import argparse
import os
import os.path as osp
import re
import shlex
import sys

ROOT = osp.dirname(osp.dirname(osp.abspath(__file__)))
BASE = 'configs/coco/panoptic-fpn_r50_fpn_1x_coco.py'
#: Where no GPU is seen.
SMALL_BASE = 'configs/custom/panoptic-fpn_efficientnet-lite0_custom.py'
NEEDS = 'pip install -r requirements/small.txt'


def parse_args():
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('name', help='name of the data set and of the config')
    add_data_arguments(parser)
    parser.add_argument(
        '--base',
        metavar='CONFIG',
        type=existing_file,
        help=f'config to inherit (default: {BASE}; where no GPU is seen '
        f'{SMALL_BASE}, which needs {NEEDS})')
    parser.add_argument(
        '--out',
        metavar='FILE.py',
        help='file to write (default: configs/custom/NAME.py)')
    parser.add_argument(
        '--overwrite', action='store_true', help='replace an existing --out')
    parser.add_argument(
        '--batch-size',
        type=int,
        help='images of an iteration in one process; the learning rate '
        'follows (default: the base\'s)')
    length = parser.add_mutually_exclusive_group()
    length.add_argument(
        '--epochs',
        type=float,
        help='how often each image is seen (default: as the base\'s, but '
        'at least 1000 iterations)')
    length.add_argument(
        '--max-iters', type=int, help='iterations to train for')
    args = parser.parse_args()
    if args.base is None:
        args.base = default_base()
    check_args(parser, args)
    return args


def default_base():
    import torch
    if torch.cuda.is_available():
        return osp.join(ROOT, BASE)
    print(f'no GPU is seen: --base {SMALL_BASE}; training needs {NEEDS}')
    return osp.join(ROOT, SMALL_BASE)


def add_data_arguments(parser):
    for split, what in (('train', 'train on'), ('val', 'validate on')):
        required = split == 'train'
        parser.add_argument(
            f'--{split}',
            metavar=f'{split.upper()}.json',
            type=existing_file,
            required=required,
            help=f'panoptic JSON to {what}'
            f'{"" if required else " (default: that of --train)"}')
        for name, content in (('images', 'images'), ('panoptic', 'PNGs')):
            parser.add_argument(
                f'--{split}-{name}',
                metavar='DIR',
                type=existing_folder,
                required=required,
                help=f'folder of its {content}')
    parser.add_argument(
        '--val-instances',
        metavar='INSTANCES.json',
        type=existing_file,
        help='instances JSON of --val, for AP; by default AP is derived '
        'from the panoptic annotation')


def existing_file(path):
    if not osp.isfile(path):
        raise argparse.ArgumentTypeError(f'{path}: no such file')
    return path


def existing_folder(path):
    if not osp.isdir(path):
        raise argparse.ArgumentTypeError(f'{path}: no such folder')
    return path


def check_args(parser, args):
    """Exit with code 2 where arguments exclude one another."""
    if not re.fullmatch(r'[\w.-]+', args.name):
        parser.error(
            f'name {args.name!r}: use letters, digits, "_", "-" and "."')
    given = [args.val, args.val_images, args.val_panoptic]
    if any(given) and not all(given):
        parser.error('--val, --val-images and --val-panoptic go together')
    if args.val_instances and not args.val:
        parser.error('--val-instances goes with --val')
    for option in ('batch_size', 'epochs', 'max_iters'):
        value = getattr(args, option)
        if value is not None and not 0 < value < float('inf'):
            parser.error(
                f'--{option.replace("_", "-")} {value}: must be above 0')
    args.out = args.out or osp.join(ROOT, 'configs', 'custom',
                                    f'{args.name}.py')
    if not args.out.endswith('.py') or osp.isdir(args.out):
        parser.error(f'--out {args.out}: must be a file that ends with .py')
    if osp.exists(args.out) and not args.overwrite:
        parser.error(f'{args.out}: exists. Give another name, or --overwrite')
    if osp.realpath(args.out) == osp.realpath(args.base):
        parser.error(f'--out {args.out}: is the base itself')


def write_config(args):
    """Write the config and print what to do with it."""
    from mmengine_exact.files import write_bytes
    from panoptic_apps.new_dataset import Split, new_dataset_config
    val = None
    if args.val:
        val = Split(args.val, args.val_images, args.val_panoptic)
    # relative paths of configs are meant from the repository
    here = osp.realpath(os.getcwd()) == osp.realpath(ROOT)
    text, notes = new_dataset_config(
        args.name,
        Split(args.train, args.train_images, args.train_panoptic),
        val,
        args.base,
        args.out,
        batch_size=args.batch_size,
        epochs=args.epochs,
        max_iters=args.max_iters,
        val_instances=args.val_instances,
        start=ROOT if here else None)
    write_bytes(args.out, text.encode())
    for note in notes:
        print(note)
    shown = osp.relpath(args.out)
    shown = shlex.quote(args.out if shown.startswith('..') else shown)
    stem = osp.splitext(osp.basename(args.out))[0]
    # an earlier training may have left its best there, too
    folder = shlex.quote(f'work_dirs/{stem}')
    best = f'"$(ls -t {folder}/best_*.pth | head -n 1)"'
    print(f'{shown}\n\nNow:\n  python tools/train.py {shown}\n'
          f'  python tools/test.py {shown} {best}')


def main():
    args = parse_args()
    from mmengine_exact import run_to_exit_code
    return run_to_exit_code(lambda: write_config(args))


if __name__ == '__main__':
    sys.exit(main())
