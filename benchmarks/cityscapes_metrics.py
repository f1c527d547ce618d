"""Our Cityscapes metrics against the three official scripts.

Example:
    OMP_NUM_THREADS=1 python -m benchmarks.cityscapes_metrics --images 4

Draws images of 1024 x 2048 pixels with wrong predictions, in one run

- lets our metrics judge the data samples, as an evaluation does, once
  without and once with writing the benchmark server's files,
- lets the official scripts judge those files, in this process,

and prints seconds per image and ratios. What differs by nature: the official
scripts read results and ground truth from files, ours are given what the data
set and the model hold in memory. Exit code 1 where a number differs.
"""
import argparse
import sys
import tempfile
import time
from pathlib import Path

from tabulate import tabulate


def parse_args():
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('--images', type=int, default=4)
    parser.add_argument('--instances', type=int, default=40)
    parser.add_argument('--seed', type=int, default=1)
    return parser.parse_args()


def timed(function, *args):
    begin = time.perf_counter()
    result = function(*args)
    return time.perf_counter() - begin, result


def ours(metric, samples):
    """Seconds and scores of a metric that is given all samples."""
    from tests.panoptic_fpn.metrics.cityscapes import META
    from tests.panoptic_fpn.metrics.data import run_metric
    return timed(run_metric, metric, samples, META)


def judge(args, folder):
    """Rows: task, seconds (ours, with files, official), both scores."""
    from panoptic_fpn import metrics
    from tests.oracles import cityscapes_official as official
    from tests.oracles.cityscapes_scenes import (random_scenes,
                                                 write_ground_truth)
    from tests.panoptic_fpn.metrics.cityscapes import sample_of
    scenes = random_scenes(args.seed, args.images, (1024, 2048),
                           args.instances, 0.12)
    truth = write_ground_truth(scenes, folder)
    truth_json = official.write_panoptic_truth(folder)
    samples = [sample_of(scene) for scene in scenes]
    prefix = folder / 'r'

    def panoptic():
        return 100 * official.panoptic_scores(
            truth_json, f'{prefix}.panoptic.json')[0]['All']['pq']

    def instances():
        return official.instance_mean(truth, f'{prefix}.instances')

    def pixels():
        return 100 * official.pixel_scores(
            truth, f'{prefix}.semantic')['averageScoreInstClasses']

    tasks = [('panoptic', 'PanopticQualityMetric', 'coco_panoptic/PQ',
              panoptic),
             ('instances', 'CityscapesInstanceAPMetric', 'cityscapes/mAP',
              instances),
             ('pixels', 'CityscapesSemanticIoUMetric', 'iIoU', pixels)]
    for task, name, key, script in tasks:
        kind = getattr(metrics, name)
        plain, scores = ours(kind(), samples)
        writing, _ = ours(kind(outfile_prefix=str(prefix)), samples)
        theirs, expected = timed(script)
        yield task, (plain, writing, theirs), (scores[key], expected)


def main():
    args = parse_args()
    with tempfile.TemporaryDirectory() as folder:
        rows = list(judge(args, Path(folder)))
    total = [sum(seconds) for seconds in zip(*(row[1] for row in rows))]
    lines = []
    for task, seconds, scores in [*rows, ('all', total, ())]:
        a, b, c = (s / args.images for s in seconds)
        lines.append((task, a, b, c, c / a, c / b, *scores))
    print(f'{args.images} images of 1024 x 2048, seconds per image')
    print(
        tabulate(
            lines, ('task', 'ours', '+ files', 'official', 'ratio', '+ files',
                    'score', 'official'),
            floatfmt='.3f'))
    return int(any(abs(score - other) > 1e-6 for *_, (score, other) in rows))


if __name__ == '__main__':
    sys.exit(main())
