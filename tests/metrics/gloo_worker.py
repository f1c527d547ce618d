"""Part of an evaluation in several CPU processes, as torchrun starts them.

Images are dealt out in blocks, not in turns, and both ranks also hold images
of the other: MMEngine's own collection loses some and counts others twice.
"""
import sys

import torch
import torch.distributed
from mmengine.registry import DefaultScope

from projects.panoptic_fpn.metrics import PanopticEvaluator
from tests.metrics.data import make_case, space_of
from tests.metrics.test_evaluator import METRICS

NUM_IMAGES = 5
#: Images of each rank, by position; of one process, all.
SHARES = {1: [range(NUM_IMAGES)], 2: [[0, 1, 0], [4, 3, 2, 1]]}


def evaluate(rank, world_size):
    """Scores as hexadecimal floats, which keep every bit."""
    data, _, samples = make_case(42, num_images=NUM_IMAGES, string_ids=True)
    with DefaultScope.overwrite_default_scope('mmdet'):
        evaluator = PanopticEvaluator(METRICS)
    evaluator.dataset_meta = space_of(data).metainfo()
    for i in SHARES[world_size][rank]:
        evaluator.process([samples[i]])
    scores = evaluator.evaluate(NUM_IMAGES)
    return {key: float(value).hex() for key, value in scores.items()}


def main():
    rank, world_size = int(sys.argv[1]), int(sys.argv[2])
    torch.distributed.init_process_group(
        'gloo',
        init_method=f'file://{sys.argv[3]}',
        rank=rank,
        world_size=world_size)
    torch.save(evaluate(rank, world_size), sys.argv[4])
    torch.distributed.destroy_process_group()


if __name__ == '__main__':
    main()
