"""Count how often each class occurs in the training set of a config.

Example:
    python tools/class_frequencies.py CONFIG --out data/frequencies.json

``class_balance`` of a config reads the file. Exit code: 0 done, 1 the data
cannot be used, 2 wrong arguments.
"""
import argparse
import json
import os.path as osp
import sys

from mmengine.config import DictAction


def parse_args():
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('config', help='config with the training data')
    parser.add_argument(
        '--out', metavar='FILE.json', required=True, help='file to write')
    parser.add_argument(
        '--num-workers',
        type=int,
        help='processes; by default one for each core, at most 8')
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=DictAction,
        help='keys of the config to override, key=value')
    args = parser.parse_args()
    if not osp.isfile(args.config):
        parser.error(f'config {args.config}: no such file')
    if args.num_workers is not None and args.num_workers < 1:
        parser.error(f'--num-workers {args.num_workers}: must be at least 1')
    if osp.isdir(args.out) or not args.out.endswith('.json'):
        parser.error(f'--out {args.out}: must be a file that ends with .json')
    return args


def main():
    args = parse_args()
    from mmengine_exact import run_to_exit_code, tool_config
    from mmengine_exact.files import write_bytes
    from panoptic_apps.class_frequencies import class_frequencies

    def count():
        config = tool_config(args.config, 'none', args.cfg_options, None)
        content = class_frequencies(config, args.num_workers)
        write_bytes(args.out, json.dumps(content, indent=1).encode())
        ranked = sorted(content['classes'], key=lambda c: -c['pixels'])
        total = max(sum(c['pixels'] for c in ranked), 1)
        shown = ', '.join(f'{c["name"]} {c["pixels"] / total:.2%}'
                          for c in (ranked[0], ranked[-1]))
        print(f'{content["images"]} images; most and least frequent of '
              f'{len(ranked)} classes: {shown}')
        print(args.out)

    return run_to_exit_code(count)


if __name__ == '__main__':
    sys.exit(main())
