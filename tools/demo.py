"""Panoptic segmentation of photographs with a trained model.

Example:
    python tools/demo.py photo.jpg folder/ --config CONFIG.py \
        --checkpoint CHECKPOINT.pth --out-dir work_dirs/demo

Writes for each image an overlay, a COCO panoptic PNG and a JSON of segments.
Exit code: 0 all done, 1 some image or file could not be used, 2 wrong
arguments.
"""
import argparse
import os.path as osp
import sys

from mmengine.config import DictAction

sys.path.insert(0, osp.dirname(osp.dirname(osp.abspath(__file__))))


def parse_args():
    parser = argparse.ArgumentParser(
        description=__doc__.split('\n')[0],
        formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument('images', nargs='+', help='image files and folders')
    parser.add_argument('--config', required=True, help='config of the model')
    parser.add_argument(
        '--checkpoint',
        required=True,
        action='append',
        help='its weights; twice for two networks, instance first')
    parser.add_argument('--out-dir', required=True, help='folder of results')
    parser.add_argument(
        '--amp',
        action='store_true',
        help='convolutions in bfloat16 (float16 on a GPU)')
    parser.add_argument('--device', default='cpu', help='cpu, cuda:0, ...')
    parser.add_argument(
        '--score-thr',
        type=float,
        help='least score of an instance on the map (the merge\'s own '
        'threshold); by default the config\'s')
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=DictAction,
        help='keys of the config to override, key=value')
    args = parser.parse_args()
    if args.score_thr is not None and not 0 <= args.score_thr <= 1:
        parser.error(f'--score-thr {args.score_thr} is not within 0 .. 1')
    for name in ('config', 'checkpoint'):
        paths = getattr(args, name)
        for path in [paths] if name == 'config' else paths:
            if not osp.isfile(path):
                parser.error(f'--{name} {path}: no such file')
    if len(args.checkpoint) == 1:
        args.checkpoint = args.checkpoint[0]
    return args, parser


def main():
    args, parser = parse_args()
    from projects.panoptic_fpn.apis import (find_images, inference_panoptic,
                                            init_model, unique_stems,
                                            write_result)
    from projects.panoptic_fpn.engine.errors import EngineError
    from projects.panoptic_fpn.errors import PanopticError
    images = find_images(args.images)
    if not images:
        parser.error(f'no image in {", ".join(args.images)}')
    options = dict(args.cfg_options or {})
    if args.score_thr is not None:
        options['model.test_cfg.panoptic.score_thr'] = args.score_thr
    try:
        model = init_model(args.config, args.checkpoint, args.device, options)
    except (PanopticError, EngineError) as error:
        print(f'error: {error}', file=sys.stderr)
        return 1

    failed = 0
    results = inference_panoptic(model, images, args.amp)
    for i, (stem, result) in enumerate(zip(unique_stems(images), results), 1):
        progress = f'[{i}/{len(images)}]'
        if result.error:
            failed += 1
            print(f'{progress} error: {result.error}', file=sys.stderr)
            continue
        try:
            paths = write_result(result.image, result.sample,
                                 model.label_space, args.out_dir, stem,
                                 result.source)
        except OSError as error:
            print(
                f'error: {args.out_dir}: cannot write ({error}). Choose '
                'another --out-dir or make room.',
                file=sys.stderr)
            return 1
        print(f'{progress} {result.source} -> {paths["overlay"]}', flush=True)
    if failed:
        print(
            f'{failed} of {len(images)} images could not be read; the others '
            f'are in {args.out_dir}',
            file=sys.stderr)
    return 1 if failed else 0


if __name__ == '__main__':
    sys.exit(main())
