"""Evaluate a model.

Example:
    python tools/test.py CONFIG CHECKPOINT --show-dir pictures
    python tools/test.py X2_CONFIG INSTANCE.pth SEMANTIC.pth

Writes ``metrics.json`` into the work directory. Exit code: 0 evaluated, 1
something in config, data or checkpoint cannot be used, 2 wrong arguments.
"""
import argparse
import os
import os.path as osp
import sys

from mmengine.config import DictAction


def parse_args():
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('config', help='config file')
    parser.add_argument(
        'checkpoint',
        nargs='+',
        help='weights of its model; of two networks, instance first')
    parser.add_argument('--work-dir', help='folder of logs and metrics.json')
    parser.add_argument(
        '--out', metavar='FILE.pkl', help='write the predictions to a pickle')
    parser.add_argument(
        '--show-dir',
        metavar='DIR',
        help='draw predictions beside ground truth into this folder')
    parser.add_argument(
        '--format-only',
        metavar='PREFIX',
        help='only write results, with every metric of the config that can: '
        'PREFIX.panoptic.json and PREFIX.panoptic/ (COCO format); for '
        'Cityscapes also PREFIX.instances/ and PREFIX.semantic/. Images need '
        'no annotation')
    parser.add_argument(
        '--save-branches',
        metavar='DIR',
        help='also write what both branches predict for each image, for '
        'tools/sweep_merge.py')
    parser.add_argument(
        '--tta',
        action='store_true',
        help='average over the augmentations of the config\'s tta_pipeline; '
        'without one, over three sizes and their mirror images')
    parser.add_argument(
        '--amp',
        action='store_true',
        help='convolutions in half precision: float16 on a GPU, bfloat16 on a '
        'CPU')
    parser.add_argument(
        '--amp-dtype',
        choices=['float16', 'bfloat16'],
        help='--amp of this type')
    parser.add_argument(
        '--panoptic-only',
        action='store_true',
        help='only instances that can reach the panoptic map get masks: the '
        'same PQ in less time, no AP')
    parser.add_argument(
        '--report',
        action='store_true',
        help='write what became of each segment, for tools/report.py')
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
    if not osp.isfile(args.config):
        parser.error(f'config {args.config}: no such file')
    if args.out and not args.out.endswith(('.pkl', '.pickle')):
        parser.error(f'--out {args.out}: must end with .pkl or .pickle')
    for checkpoint in args.checkpoint:
        if '://' not in checkpoint and not osp.isfile(checkpoint):
            parser.error(f'checkpoint {checkpoint}: no such file')
    os.environ.setdefault('LOCAL_RANK', str(args.local_rank))
    return args


def load_config(args):
    """The config with what the command line changes."""
    from mmengine_exact import enable_test_amp, tool_config
    from panoptic_fpn.metrics import writing_evaluator
    from panoptic_fpn.training.test_options import (draw_test_pictures,
                                                    enable_panoptic_only,
                                                    enable_tta,
                                                    require_panoptic)
    cfg = tool_config(args.config, args.launcher, args.cfg_options,
                      args.work_dir)
    single = len(args.checkpoint) == 1
    cfg.load_from = args.checkpoint[0] if single else args.checkpoint
    cfg.resume = False
    if args.amp or args.amp_dtype:
        enable_test_amp(cfg, args.amp_dtype or True)
    if args.panoptic_only:
        enable_panoptic_only(cfg)
    if args.tta:
        enable_tta(cfg)
    if args.show_dir:
        # absolute: the hook takes a relative folder as one of the run
        draw_test_pictures(cfg, osp.abspath(args.show_dir))
    if args.report:
        require_panoptic(cfg, '--report')
    if args.format_only:
        require_panoptic(cfg, '--format-only')
        cfg.test_evaluator = writing_evaluator(
            cfg.get('test_evaluator'), args.format_only)
    return cfg


def main():
    args = parse_args()
    from mmdet.registry import RUNNERS
    from mmdet.utils import setup_cache_size_limit_of_dynamo

    from mmengine_exact import run_to_exit_code
    from panoptic_apps.report import explain_errors
    from panoptic_apps.sweep_merge import save_branches
    from panoptic_fpn.metrics import PredictionDump

    def test():
        setup_cache_size_limit_of_dynamo()
        runner = RUNNERS.build(load_config(args))
        if args.out:
            runner.test_evaluator.metrics.append(PredictionDump(args.out))
        if args.save_branches:
            save_branches(runner, args.save_branches)
        if args.report:
            explain_errors(runner.test_evaluator, runner.work_dir)
        runner.test()

    return run_to_exit_code(test)


if __name__ == '__main__':
    sys.exit(main())
