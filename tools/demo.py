"""Panoptic segmentation of photographs, videos and streams by a model.

Example:
    python tools/demo.py photo.jpg folder/ --config CONFIG.py \
        --checkpoint CHECKPOINT.pth --out-dir work_dirs/demo

Writes for each image an overlay, a COCO panoptic PNG and a JSON of segments,
for each video or stream an overlay video. Exit code: 0 all done, 1 some image
or file could not be used, or interrupted, 2 wrong arguments.
"""
import argparse
import os.path as osp
import sys

from mmengine.config import DictAction


def parse_args():
    parser = argparse.ArgumentParser(
        description=__doc__.split('\n')[0],
        formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument(
        'images',
        nargs='+',
        help='images, videos, folders of both; streams: rtsp://..., '
        'http://...m3u8, the number of a camera (0), until they end or Ctrl-C')
    parser.add_argument(
        '--config',
        required=True,
        help='config of the model, a path or a name')
    parser.add_argument(
        '--checkpoint',
        required=True,
        action='append',
        help='its weights; twice for two networks, instance first')
    parser.add_argument('--out-dir', required=True, help='folder of results')
    parser.add_argument(
        '--batch-size',
        type=int,
        default=1,
        help='images read at a time; those of one size go through the '
        'network together')
    parser.add_argument(
        '--save-frames',
        action='store_true',
        help='PNG and JSON of each frame of a video, too')
    parser.add_argument(
        '--max-frames',
        type=int,
        help='frames of each video or stream to read at most')
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
        '--device',
        help='cpu, cuda:0, ...; without it the first GPU, else the CPU')
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
    if args.batch_size < 1:
        parser.error(f'--batch-size {args.batch_size}: read at least one '
                     'image at a time')
    if args.max_frames is not None and args.max_frames < 1:
        parser.error(f'--max-frames {args.max_frames}: read at least one')
    files = [*args.checkpoint]
    if args.config.endswith('.py'):  # else the name of a packaged one
        files.append(args.config)
    for path in files:
        if not osp.isfile(path):
            parser.error(f'{path}: no such file')
    if len(args.checkpoint) == 1:
        args.checkpoint = args.checkpoint[0]
    return args, parser


class Progress:
    """Prints a line for each image and for each video, and counts."""

    def __init__(self, num_inputs):
        self.num_inputs = num_inputs
        self.done = self.failed = self.frames = 0

    def add(self, prediction):
        """Print the outcome of an image or a frame."""
        label = f'[{self.done + 1}/{self.num_inputs}]'
        name, note = prediction['image'], ''
        if 'frame' in prediction:
            self.frames = prediction['frame'] + 1
            if not prediction['last_frame']:
                if self.frames % 100 == 0:
                    print(f'{label} {name}: {self.frames} frames', flush=True)
                return
            note = f' ({self.frames} frames)'
        self.done += 1
        if 'error' in prediction:
            self.failed += 1
            print(f'{label} error: {prediction["error"]}', file=sys.stderr)
        else:
            path = prediction['overlay_path']
            print(f'{label} {name} -> {path}{note}', flush=True)


def main():
    args, parser = parse_args()
    from mmengine_exact.errors import InputError
    from mmengine_exact.threads import fit_threads
    from panoptic_fpn.inference import find_images
    from panoptic_fpn.inference.inferencer import PanopticInferencer
    images = find_images(args.images)
    if not images:
        parser.error(f'no image and no video in {", ".join(args.images)}')
    if args.device in (None, 'cpu'):
        fit_threads()
    progress = Progress(len(images))
    try:
        inferencer = PanopticInferencer(
            args.config,
            args.checkpoint,
            args.device,
            args.amp_dtype or args.amp,
            args.cfg_options,
            record=True)
        for prediction, _ in inferencer.stream(
                images,
                args.batch_size,
                pred_score_thr=args.score_thr,
                out_dir=args.out_dir,
                save_frames=args.save_frames,
                max_frames=args.max_frames):
            progress.add(prediction)
    except InputError as error:
        print(f'error: {error}', file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(
            f'interrupted; what is done, streams too, is in {args.out_dir}',
            file=sys.stderr)
        return 1
    if progress.failed:
        print(
            f'{progress.failed} of {len(images)} images could not be read; '
            f'the others are in {args.out_dir}',
            file=sys.stderr)
    return 1 if progress.failed else 0


if __name__ == '__main__':
    sys.exit(main())
