"""Part of an evaluation in several CPU processes, as torchrun starts them.

Images are dealt out in blocks, not in turns, and both ranks also hold images
of the other: MMEngine's own collection loses some and counts others twice.
COCO's metrics judge one data set, Cityscapes' metrics another and write files.
"""
import sys

import torch
import torch.distributed
from mmengine.registry import DefaultScope

from mmengine_exact.errors import InputError
from panoptic_fpn.metrics import CityscapesSemanticIoUMetric, PanopticEvaluator
from tests.oracles.cityscapes_scenes import random_scenes

from .cityscapes import META, sample_of
from .data import make_case, space_of
from .test_evaluator import CITYSCAPES_METRICS, METRICS

NUM_IMAGES = 5
#: Images of each rank, by position; of one process, all.
SHARES = {1: [range(NUM_IMAGES)], 2: [[0, 1, 0], [4, 3, 2, 1]]}


def evaluate(rank, world_size, prefix):
    """Scores, also of each class, as hexadecimal floats: every bit counts."""
    data, _, samples = make_case(42, num_images=NUM_IMAGES, string_ids=True)
    writers = [
        dict(metric, outfile_prefix=prefix) for metric in CITYSCAPES_METRICS
    ]
    scenes = random_scenes(42, NUM_IMAGES)
    tasks = dict(
        coco=(METRICS, samples, space_of(data).metainfo()),
        cityscapes=(writers, [sample_of(scene) for scene in scenes], META))
    found = {}
    for task, (metrics, samples, metainfo) in tasks.items():
        with DefaultScope.overwrite_default_scope('mmdet'):
            evaluator = PanopticEvaluator(metrics)
        evaluator.dataset_meta = metainfo
        for i in SHARES[world_size][rank]:
            evaluator.process([samples[i]])
        scores = evaluator.evaluate(NUM_IMAGES)
        found[task] = {k: float(v).hex() for k, v in scores.items()}
        found[f'{task} by class'] = {
            f'{name} {key}': value.hex()
            for name, row in evaluator.by_class.items()
            for key, value in row.items()
        }
    return found


def refused(rank, prefix):
    """What each process says of a folder in which others' files lie."""
    metric = CityscapesSemanticIoUMetric(
        format_only=True, outfile_prefix=prefix)
    metric.dataset_meta = META
    metric.process(None, [sample_of(random_scenes(1, 2)[rank])])
    try:
        metric.evaluate(2)
    except InputError as error:
        return str(error)
    return 'no error'


def main():
    rank, world_size = int(sys.argv[1]), int(sys.argv[2])
    torch.distributed.init_process_group(
        'gloo',
        init_method=f'file://{sys.argv[3]}',
        rank=rank,
        world_size=world_size)
    found = evaluate(rank, world_size, sys.argv[5])
    if world_size > 1:
        found['refused'] = refused(rank, sys.argv[6])
    torch.save(found, sys.argv[4])
    torch.distributed.destroy_process_group()


if __name__ == '__main__':
    main()
