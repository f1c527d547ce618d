"""How well bfloat16 agrees with float32, on a data set and trained weights.

Example:
    python tools/train.py configs/synthetic/panoptic-fpn_r50_synthetic.py --amp
    python -m benchmarks.agreement configs/synthetic/panoptic-fpn_r50_synthetic.py \
        work_dirs/panoptic-fpn_r50_synthetic/iter_400.pth

Prints the share of pixels that have the same segment, and the same label in
the semantic map, over the images of the config's test data set. What that
means for PQ, ``tools/test.py`` with and without ``--amp`` says. Exit code: 0
measured, 1 model or data cannot be used, 2 wrong arguments.
"""  # noqa: E501
import argparse
import sys
from statistics import mean

from mmdet.registry import DATASETS

from benchmarks.inference import same_pixels
from mmengine_exact import run_to_exit_code
from panoptic_fpn import inference as apis


def parse_args(argv=None):
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('config')
    parser.add_argument('checkpoint')
    parser.add_argument(
        '--images', type=int, help='only the first so many (default: all)')
    args = parser.parse_args(argv)
    if args.images is not None and args.images < 1:
        parser.error(f'--images {args.images} is below 1')
    return args


def measure(config: str, checkpoint: str, images: int = None) -> None:
    """Print both shares."""
    model = apis.init_model(config, checkpoint)
    dataset = DATASETS.build(model.cfg.test_dataloader.dataset)
    files = [dataset.get_data_info(i)['img_path'] for i in range(len(dataset))]
    files = files[:images]
    panoptic, semantic, segments = [], [], 0
    pairs = zip(
        apis.inference_panoptic(model, files),
        apis.inference_panoptic(model, files, amp=True))
    for number, pair in enumerate(pairs, 1):
        samples = [one.sample for one in pair]
        maps = [one.pred_panoptic_seg.sem_seg[0].numpy() for one in samples]
        labels = [one.pred_sem_seg.sem_seg for one in samples]
        panoptic.append(same_pixels(*maps))
        semantic.append(float((labels[0] == labels[1]).double().mean()))
        segments += len(set(maps[0].ravel().tolist()))
        print(f'\r{number}/{len(files)}', end='', flush=True)
    print(f'\n{len(files)} images, {segments / len(files):.1f} segments each: '
          f'{100 * mean(panoptic):.2f} % of the pixels are of the same '
          f'segment (worst image {100 * min(panoptic):.2f} %), '
          f'{100 * mean(semantic):.2f} % of the same label in the semantic '
          'map')


def main(argv=None) -> int:
    args = parse_args(argv)
    return run_to_exit_code(
        lambda: measure(args.config, args.checkpoint, args.images))


if __name__ == '__main__':
    sys.exit(main())
