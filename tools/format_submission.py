"""Archives for a benchmark server: predict its test set, check, zip.

Example:
    python tools/format_submission.py coco-test-dev CONFIG CHECKPOINT \
        --out-dir submission --name panoptic-fpn
    python tools/format_submission.py cityscapes CONFIG CHECKPOINT \
        --out-dir submission --name panoptic-fpn --tasks panoptic pixel
    python tools/format_submission.py coco-test-dev CONFIG \
        --validate-only panoptic_test-dev2017_panoptic-fpn_results.zip

Several processes: python -m torch.distributed.run --nproc_per_node=8
tools/format_submission.py ... --launcher pytorch. Exit code: 0 archives are
written (or valid), 1 a rule is broken, something cannot be used, or
interrupted; 2 wrong arguments.
"""
import argparse
import os
import os.path as osp
import sys

from mmengine.config import DictAction


def parse_args():
    parser = argparse.ArgumentParser(
        description=__doc__.split('\n')[0],
        epilog='Tasks: panoptic, bbox and segm of coco-test-dev; panoptic, '
        'instance and pixel of cityscapes. Each is one archive.')
    parser.add_argument('server', choices=['coco-test-dev', 'cityscapes'])
    parser.add_argument('config', help='config file')
    parser.add_argument(
        'checkpoint',
        nargs='*',
        help='weights of its model; of two networks, instance first')
    parser.add_argument('--out-dir', help='folder of the archives')
    parser.add_argument(
        '--name',
        default='panoptic-fpn',
        help='name of the algorithm in files (default: panoptic-fpn)')
    parser.add_argument(
        '--tasks',
        nargs='+',
        metavar='TASK',
        help='archives to write (default: panoptic)')
    parser.add_argument(
        '--validate-only',
        metavar='ARCHIVE.zip',
        help='check an archive and write nothing; of several tasks name the '
        'one with --tasks')
    parser.add_argument(
        '--force', action='store_true', help='replace archives')
    parser.add_argument(
        '--ann-file',
        help='JSON of the images, below data_root (default: the test set\'s)')
    parser.add_argument(
        '--image-dir',
        help='their folder, below data_root (default: the test set\'s)')
    parser.add_argument(
        '--categories-file',
        help='JSON whose categories have isthing, where --ann-file has none '
        '(default for coco-test-dev: annotations/panoptic_val2017.json)')
    parser.add_argument('--work-dir', help='folder of logs')
    parser.add_argument(
        '--num-workers',
        type=int,
        help='processes that check PNGs; by default one for each core, at '
        'most 8')
    parser.add_argument(
        '--tta',
        action='store_true',
        help='average over augmentations, as tools/test.py --tta')
    parser.add_argument(
        '--amp',
        action='store_true',
        help='convolutions in bfloat16 (float16 on a GPU)')
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=DictAction,
        help='keys of the config to override, key=value')
    parser.add_argument(
        '--launcher',
        choices=['none', 'pytorch', 'slurm', 'mpi'],
        default='none',
        help='what starts the processes')
    parser.add_argument('--local_rank', '--local-rank', type=int, default=0)
    args = parser.parse_args()
    check_args(parser, args)
    os.environ.setdefault('LOCAL_RANK', str(args.local_rank))
    return args, parser


def check_args(parser, args):
    """Exit with code 2 where the arguments contradict one another."""
    if not osp.isfile(args.config):
        parser.error(f'config {args.config}: no such file')
    if args.validate_only is not None:
        if args.checkpoint or args.out_dir:
            parser.error('--validate-only takes no checkpoint and no '
                         '--out-dir')
        if not osp.isfile(args.validate_only):
            parser.error(f'--validate-only {args.validate_only}: no such file')
        if args.tasks and len(args.tasks) > 1:
            parser.error('--validate-only checks one of --tasks at a time')
        return
    if not args.checkpoint or args.out_dir is None:
        parser.error('give a checkpoint and --out-dir, or --validate-only')
    for checkpoint in args.checkpoint:
        if '://' not in checkpoint and not osp.isfile(checkpoint):
            parser.error(f'checkpoint {checkpoint}: no such file')


def choose_tasks(parser, args, server):
    """Tasks by name; exit with code 2 where they cannot be written."""
    from mmengine_exact.errors import InputError
    from panoptic_apps.submission import check_name
    try:
        tasks = server.choose(args.tasks)
        check_name(args.name)
    except InputError as error:
        parser.error(str(error))
    if args.validate_only is None and not args.force:
        for task in tasks.values():
            path = task.archive(args.out_dir, args.name)
            if osp.exists(path):
                parser.error(f'{path} exists. Give another --name, or --force '
                             'to replace it')
    return tasks


def log_progress(step, size):
    """A line for each tenth, on stderr."""
    total = 0

    def log(done):
        nonlocal total
        total += done
        if total * 10 // size > (total - done) * 10 // size:
            print(f'{step}: {total}/{size}', file=sys.stderr)

    return log


def load_config(args, server):
    """The config with what the command line changes."""
    from mmengine_exact import enable_test_amp, tool_config
    from panoptic_apps.submission import set_test_images
    from panoptic_fpn.training.test_options import enable_tta
    cfg = tool_config(args.config, args.launcher, args.cfg_options,
                      args.work_dir)
    set_test_images(cfg, server, args.ann_file, args.image_dir,
                    args.categories_file)
    single = len(args.checkpoint) == 1
    cfg.load_from = args.checkpoint[0] if single else args.checkpoint
    cfg.resume = False
    if args.amp:
        enable_test_amp(cfg)
    if args.tta:
        enable_tta(cfg)
    return cfg


def write(args, server, tasks):
    """Write the archives."""
    from mmdet.registry import RUNNERS

    from panoptic_apps.submission import (result_folder, run_submission,
                                          set_metrics)
    cfg = load_config(args, server)
    prefix = osp.join(result_folder(args.out_dir, args.name), 'r')
    set_metrics(cfg, list(tasks.values()), prefix)
    runner = RUNNERS.build(cfg)
    run_submission(runner, tasks, args.out_dir, args.name, args.num_workers,
                   log_progress)


def validate(args, server):
    """Check an archive; return the number of errors."""
    from panoptic_apps.submission import (build_expected, check_archive,
                                          report_faults)
    path = args.validate_only
    expected = build_expected(load_config(args, server))
    found = check_archive(path, server, args.tasks and args.tasks[0], expected,
                          args.num_workers, log_progress)
    return report_faults(path, found, print)


def main():
    args, parser = parse_args()
    from mmengine_exact import run_to_exit_code
    from panoptic_apps.submission import SERVERS
    server = SERVERS[args.server]
    tasks = choose_tasks(parser, args, server)
    errors = 0

    def run():
        nonlocal errors
        if args.validate_only is not None:
            errors = validate(args, server)
        else:
            write(args, server, tasks)

    try:
        return run_to_exit_code(run) or int(errors > 0)
    except KeyboardInterrupt:
        print('interrupted: no archive is half written', file=sys.stderr)
        return 1


if __name__ == '__main__':
    sys.exit(main())
