"""Train a model.

Example:
    python tools/train.py CONFIG --work-dir work_dirs/run --resume

Exit code: 0 trained, 1 something in config, data or checkpoint cannot be
used, 2 wrong arguments, 75 ended by SIGTERM with everything saved (--resume).
"""
import argparse
import os
import os.path as osp
import sys

from mmengine.config import DictAction


def parse_args():
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('config', help='config file')
    parser.add_argument('--work-dir', help='folder of logs and checkpoints')
    parser.add_argument(
        '--resume',
        nargs='?',
        const='auto',
        metavar='CHECKPOINT',
        help='continue from this checkpoint, or from the last one in the '
        'work directory; starts anew where there is none')
    parser.add_argument(
        '--amp',
        action='store_true',
        help='mixed precision: float16 on a GPU, bfloat16 on a CPU')
    parser.add_argument(
        '--amp-dtype',
        choices=['float16', 'bfloat16'],
        help='--amp of this type')
    parser.add_argument(
        '--auto-scale-lr',
        action='store_true',
        help='scale learning rate and schedule from '
        'auto_scale_lr.base_batch_size to the batch size at hand')
    parser.add_argument('--seed', type=int, help='sets randomness.seed')
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
    os.environ.setdefault('LOCAL_RANK', str(args.local_rank))
    return args


def load_config(args):
    """The config with what the command line changes."""
    from mmengine_exact import enable_amp, enable_auto_scale, tool_config
    cfg = tool_config(args.config, args.launcher, args.cfg_options,
                      args.work_dir)
    if args.seed is not None:
        cfg.randomness = dict(cfg.get('randomness') or {}, seed=args.seed)
    if args.amp or args.amp_dtype:
        enable_amp(cfg, args.amp_dtype or True)
    if args.auto_scale_lr:
        enable_auto_scale(cfg)
    if args.resume:
        cfg.resume = True
        cfg.load_from = None if args.resume == 'auto' else args.resume
    return cfg


def main():
    args = parse_args()
    from mmdet.registry import RUNNERS
    from mmdet.utils import setup_cache_size_limit_of_dynamo

    import panoptic_fpn  # noqa: F401  configs may inherit 'panoptic_fpn::...'
    from mmengine_exact import run_to_exit_code

    def train():
        setup_cache_size_limit_of_dynamo()
        RUNNERS.build(load_config(args)).train()

    return run_to_exit_code(train)


if __name__ == '__main__':
    sys.exit(main())
