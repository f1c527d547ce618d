"""Panoptic segmentation of images with an exported model, without PyTorch.

Example:
    python tools/run_onnx.py exported photo.jpg folder/ --out-dir results

Writes for each image an overlay, a COCO panoptic PNG and a JSON of segments,
as tools/demo.py does. Needs numpy, opencv, onnxruntime and msgspec, and the
folder panoptic_onnx, installed or beside this file. Exit code: 0 all done, 1
the model or some image could not be used, 2 wrong arguments.
"""
import argparse
import sys
from pathlib import Path


def parse_args():
    parser = argparse.ArgumentParser(
        description=__doc__.split('\n')[0],
        formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument('model', help='folder that tools/export_onnx.py wrote')
    parser.add_argument(
        'images', nargs='+', help='image files, folders of images')
    parser.add_argument('--out-dir', required=True, help='folder of results')
    parser.add_argument(
        '--providers',
        nargs='+',
        default=['CPUExecutionProvider'],
        help="onnxruntime's, the preferred first")
    parser.add_argument(
        '--threads',
        type=int,
        default=0,
        help='threads of an operator; 0 for one per core')
    args = parser.parse_args()
    if not Path(args.model).is_dir():
        parser.error(f'{args.model}: no such folder')
    if args.threads < 0:
        parser.error(f'--threads {args.threads}: must be 0 or more')
    return args, parser


def main():
    args, parser = parse_args()
    try:
        import panoptic_onnx as runtime
    except ImportError as error:
        parser.error(f'{error}: pip install numpy opencv-python onnxruntime '
                     'msgspec')
    from panoptic_onnx.files import find_images, read_image, unique_stems
    images = find_images(args.images)
    if not images:
        parser.error(f'no image in {", ".join(args.images)}')
    try:
        session = runtime.PanopticSession(args.model, args.providers,
                                          args.threads)
    except runtime.DeployError as error:
        print(f'error: {error}', file=sys.stderr)
        return 1
    failed = 0
    for number, (path, stem) in enumerate(zip(images, unique_stems(images))):
        label = f'[{number + 1}/{len(images)}]'
        try:
            image = read_image(path)
            written = runtime.write_result(image, session.segment(image),
                                           session.model.classes, args.out_dir,
                                           stem, path)
            print(f'{label} {path} -> {written["overlay"]}', flush=True)
        except (runtime.DeployError, OSError) as error:
            failed += 1
            print(f'{label} error: {error}', file=sys.stderr)
    if failed:
        print(
            f'{failed} of {len(images)} images failed; the others are in '
            f'{args.out_dir}',
            file=sys.stderr)
    return 1 if failed else 0


if __name__ == '__main__':
    sys.exit(main())
