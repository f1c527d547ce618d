"""Convert Semantic FPN between mmsegmentation and this project's detector.

Example:
    python tools/model_converters/semantic_fpn.py mmseg.pth ours.pth --to mmdet
    python tools/model_converters/semantic_fpn.py ours.pth mmseg.pth --to mmseg

Backbone, FPN and semantic head change their names; the channels of the
classifier change to the class order of the other side. Exit code: 0 written,
1 the checkpoint cannot be used, 2 wrong arguments.
"""
import argparse
import sys


def parse_args():
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('input', metavar='IN', help='checkpoint to read')
    parser.add_argument('output', metavar='OUT', help='checkpoint to write')
    parser.add_argument(
        '--to',
        required=True,
        choices=['mmseg', 'mmdet'],
        help='mmseg: keys and class order of EncoderDecoder; mmdet: of '
        'TwoStagePanopticFPN')
    parser.add_argument(
        '--classes',
        default='cityscapes',
        choices=['cityscapes', 'same'],
        help='data set whose class order differs between the two; same: the '
        'channels stay in their order (default: cityscapes)')
    args = parser.parse_args()
    if args.to == 'mmseg' and args.output.endswith('.safetensors'):
        parser.error(f'{args.output}: mmseg reads no safetensors; name a .pth')
    return args


def main():
    args = parse_args()
    from mmengine_exact import run_to_exit_code
    from panoptic_apps.convert_weights import convert_file

    def convert():
        result = convert_file(args.input, args.output, args.to, args.classes)
        print(f'{result.describe()}\nWritten to {args.output}.')

    return run_to_exit_code(convert)


if __name__ == '__main__':
    sys.exit(main())
