"""Check a GPU: right beside the CPU, times and launches beside mmdet's.

Example:
    python tools/check_gpu.py
    python tools/check_gpu.py --device cpu --quick

At most 8 minutes. Prints verdicts and figures, writes FOLDER/check_gpu.json
(docs/gpu.md says what its lines mean). Exit code: 0 nothing is wrong (slower
than mmdet is not), 1 something is, or there is no GPU, 2 wrong arguments.
"""
import argparse
import os.path as osp
import sys
import warnings


def parse_args():
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument(
        '--device',
        choices=['cuda', 'cpu'],
        default='cuda',
        help='cuda: the first GPU that CUDA_VISIBLE_DEVICES leaves (default)')
    parser.add_argument(
        '--quick',
        action='store_true',
        help='small images, few repeats: whether the check itself works')
    parser.add_argument(
        '--out',
        metavar='FOLDER',
        default='work_dirs/check_gpu',
        help='for check_gpu.json and short trainings (default: %(default)s)')
    parser.add_argument(
        '--minutes',
        type=float,
        default=8,
        help='figures that would come later are dropped (default: 8)')
    args = parser.parse_args()
    if osp.exists(args.out) and not osp.isdir(args.out):
        parser.error(f'--out {args.out}: is a file')
    if args.minutes <= 0:
        parser.error(f'--minutes {args.minutes}: must be above 0')
    return args


def main():
    args = parse_args()
    warnings.filterwarnings('ignore')  # mmdet's and torch's
    import panoptic_fpn  # noqa: F401  registers
    from mmengine_exact import run_to_exit_code
    from panoptic_apps.check_gpu import check_gpu
    right = []
    train = osp.join(osp.dirname(osp.abspath(__file__)), 'train.py')
    code = run_to_exit_code(lambda: right.append(
        check_gpu(args.device, args.out, train, args.quick, args.minutes)))
    return code or int(not right[0])


if __name__ == '__main__':
    sys.exit(main())
