"""A trained model as ONNX graphs for onnxruntime, without custom operators.

Example:
    python tools/export_onnx.py CONFIG.py CHECKPOINT.pth --out exported \
        --check photo.jpg

Writes trunk.onnx, boxes.onnx, masks.onnx and model.json; tools/run_onnx.py
runs them. Exit code: 0 written, 1 the model cannot be exported or results of
an image of --check differ, 2 wrong arguments.
"""
import argparse
import os.path as osp
import sys


def parse_args():
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('config', help='config of the model')
    parser.add_argument('checkpoint', help='its weights')
    parser.add_argument(
        '--out', required=True, help='folder to write; new or empty')
    parser.add_argument(
        '--opset',
        type=int,
        default=17,
        help='version of ONNX\'s operators, 16 or more (default: 17)')
    parser.add_argument(
        '--check',
        nargs='+',
        default=[],
        metavar='IMAGE',
        help='compare the results of images with PyTorch\'s')
    from mmengine.config import DictAction
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=DictAction,
        help='keys of the config to override, key=value')
    args = parser.parse_args()
    for path in (args.config, args.checkpoint, *args.check):
        if not osp.isfile(path):
            parser.error(f'{path}: no such file')
    if args.opset < 16:
        parser.error(f'--opset {args.opset}: RoiAlign needs 16 or more')
    return args, parser


def check(model, folder, images):
    """Print the agreement on images.

    Returns:
        bool: Whether all are the same but for rounding.
    """
    from panoptic_apps.export_onnx import compare
    from panoptic_fpn.inference import inference_panoptic
    from panoptic_onnx import PanopticSession
    session = PanopticSession(str(folder))
    agree = True
    for result in inference_panoptic(model, images):
        if result.error:
            print(f'error: {result.error}', file=sys.stderr)
            agree = False
            continue
        found = compare(result.sample,
                        session.segment(result.image[..., ::-1]))
        print(f'{result.source}: {found}')
        if not found.holds:
            print(
                f'error: {result.source}: the exported model differs by more '
                'than rounding',
                file=sys.stderr)
            agree = False
    return agree


def main():
    args, parser = parse_args()
    try:
        import onnx  # noqa: F401
        import onnxruntime  # noqa: F401
    except ImportError as error:
        parser.error(f'{error}: pip install -r requirements/onnx.txt')
    from mmengine_exact import run_to_exit_code
    from panoptic_apps.export_onnx import export_model
    from panoptic_fpn.inference import init_model
    agree = True

    def run():
        nonlocal agree
        model = init_model(
            args.config, args.checkpoint, cfg_options=args.cfg_options)
        folder = export_model(model, args.out, args.opset, args.checkpoint)
        print(f'{args.out}: '
              f'{", ".join(sorted(path.name for path in folder.iterdir()))}')
        agree = check(model, folder, args.check)

    return run_to_exit_code(run) or int(not agree)


if __name__ == '__main__':
    sys.exit(main())
