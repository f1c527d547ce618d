"""Convert Panoptic FPN of Detectron2's or of mmdet's model zoo, or back.

Example:
    CONFIG=configs/coco/panoptic-fpn_r50_fpn_1x_coco_detectron2-weights.py
    python tools/convert_checkpoint.py detectron2 model_final_c10459.pkl \\
        panoptic_r50.pth --config $CONFIG
    python tools/convert_checkpoint.py mmdet iter_90000.pth theirs.pth \\
        --config $CONFIG --to theirs
    python tools/convert_checkpoint.py ours iter_90000.pth ours.safetensors

The ending of DST chooses the kind of file, .safetensors or torch's .pth; with
'ours' that is all that changes. Prints what was converted, ignored and left
out, and settings of the config that differ from those that the weights were
published with. Nothing in a file is run. Exit code: 0 written, 1 the weights
do not fit the model or cannot be read, 2 wrong arguments.
"""
import argparse
import os.path as osp
import sys


def parse_args():
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument(
        'zoo',
        choices=['detectron2', 'mmdet', 'ours'],
        help='the other project; ours: names stay as they are')
    parser.add_argument(
        'source',
        metavar='SRC',
        help='checkpoint to read (.pkl, .pth or .safetensors)')
    parser.add_argument(
        'target',
        metavar='DST',
        help='checkpoint to write (.pth or .safetensors)')
    parser.add_argument(
        '--config', help="config of this project's model; not for ours")
    parser.add_argument(
        '--to',
        default='ours',
        choices=['ours', 'theirs'],
        help='whose names and channel order to write (default: ours)')
    args = parser.parse_args()
    if args.zoo == 'ours':
        if args.config or args.to == 'theirs':
            parser.error('ours: takes neither --config nor --to')
    elif not osp.isfile(args.config or ''):
        parser.error(f'--config {args.config}: no such file')
    ending = osp.splitext(args.target)[1]
    if ending == '.pkl' or (ending, args.to) == ('.safetensors', 'theirs'):
        parser.error(f'{args.target}: cannot be written as {ending}; name a '
                     '.pth, which both projects read')
    return args


def main():
    args = parse_args()
    from mmengine_exact import read_config, run_to_exit_code
    from panoptic_apps.complexity import build_on_meta
    from panoptic_apps.convert_weights import (LAYOUTS, convert_zoo_file,
                                               differing_settings,
                                               read_weights, write_conversion,
                                               write_weights)

    def convert():
        if args.zoo == 'ours':
            weights, meta = read_weights(args.source)
            write_weights(args.target, weights, meta, args.source)
            print(f'{len(weights):5d} tensors of state_dict (of a run with '
                  'EMAHook the averages), and meta. A training can begin from '
                  'this file (load_from), not resume.\n'
                  f'Written to {args.target}.')
            return
        cfg = read_config(args.config)
        weights = build_on_meta(cfg).state_dict()
        shapes = {key: tuple(value.shape) for key, value in weights.items()}
        layout = LAYOUTS[args.zoo]
        result = convert_zoo_file(args.source, layout, args.to, cfg.model,
                                  shapes)
        print(result.describe())
        write_conversion(result, args.target, layout)
        for note in differing_settings(cfg.model, layout):
            print(f'note: {note}')
        print(f'Written to {args.target}.')

    return run_to_exit_code(convert)


if __name__ == '__main__':
    sys.exit(main())
