"""Memory of an evaluation against the number of images, ours and mmdet's.

Example:
    python -m benchmarks.memory
    python -m benchmarks.memory --images 100 1000 --out docs/benchmark

Images of 480 x 640 pixels with 20 segments and 100 detections (of which 80
are the segments again, moved), drawn from a seed; the same few scenes come
again under new ids. Each metric runs in a process of its own until its
seconds are over, and tells

- the bytes that an image adds to its results, as they are gathered between
  processes (pickled),
- the memory it holds after so many images, above what it held before,
- the peak of computing the scores, above that.

mmdet's PQ metric reads a PNG of each image and writes one, and it has no
mIoU. Writes ``memory.json`` and ``memory.png``. Exit code: 0 measured, 2
wrong arguments.
"""
import argparse
import pickle
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from tabulate import tabulate

from benchmarks import figures, harness

SHAPE = (480, 640)
THINGS, STUFF = 80, 53
SEGMENTS, DETECTIONS, SCENES = 20, 100, 8
IMAGES = (100, 200, 500, 1000, 2000, 5000)


def parse_args(argv=None):
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument(
        '--images', nargs='+', type=harness.positive, default=IMAGES)
    parser.add_argument(
        '--seconds', type=harness.positive, default=20, help='for each metric')
    parser.add_argument('--seed', type=int, default=0, help='of the scenes')
    parser.add_argument('--out', type=Path, default=figures.WORK)
    args = parser.parse_args(argv)
    args.images = sorted(set(args.images))
    return args


def make_samples(seed, folder):
    """Data samples (dicts) of the scenes, as both metrics read them; PNGs of
    their ground truth go to ``folder``."""
    import cv2
    from pycocotools.mask import encode
    rng = np.random.default_rng(seed)
    samples = []
    for i in range(SCENES):
        index = cells(rng, SEGMENTS)
        labels = rng.permutation(THINGS + STUFF)[:SEGMENTS]
        codes = labels + 1000 * (labels < THINGS) * np.arange(1, SEGMENTS + 1)
        # ids of an RGB PNG of segments 1, 2, ...: red
        png = np.zeros((*SHAPE, 3), np.uint8)
        png[..., 2] = index + 1
        cv2.imwrite(str(folder / f'{i}.png'), png)
        truth, pred = codes[index], np.roll(codes[index], 4, axis=1)
        things = np.flatnonzero(labels < THINGS)
        rles = [
            encode(np.asfortranarray((index == t).astype(np.uint8)))
            for t in things
        ]
        info = [
            dict(
                id=n + 1,
                category=int(label),
                is_thing=bool(label < THINGS),
                iscrowd=0) for n, label in enumerate(labels)
        ]
        samples.append(
            dict(
                img_path=f'{i}.jpg',
                ori_shape=SHAPE,
                segments_info=info,
                gt_codes=codes.tolist(),
                crowd_codes=[],
                instances=[
                    dict(
                        bbox=[0, 0, 1, 1],
                        bbox_label=int(labels[t]),
                        mask=rle,
                        ignore_flag=0) for t, rle in zip(things, rles)
                ],
                gt_panoptic_seg=plane(truth),
                pred_panoptic_seg=plane(pred),
                pred_sem_seg=plane(
                    np.where(pred % 1000 < THINGS, STUFF,
                             pred % 1000 - THINGS)),
                pred_instances=detections(rng, index, things, labels)))
    return samples


def cells(rng, number):
    """(h, w) of the index of the nearest of some points."""
    y, x = np.mgrid[:SHAPE[0], :SHAPE[1]]
    points = rng.random((number, 2)) * SHAPE
    return np.argmin([(y - a)**2 + (x - b)**2 for a, b in points], axis=0)


def plane(values):
    import torch
    return dict(sem_seg=torch.from_numpy(values.astype(np.int32))[None])


def detections(rng, index, things, labels):
    """Each thing as often as it takes, moved by a few pixels."""
    import torch
    picked = np.resize(things, DETECTIONS)
    masks = np.stack(
        [np.roll(index == t, rng.integers(-9, 10, 2), (0, 1)) for t in picked])
    boxes = rng.random((DETECTIONS, 4)) * 100
    boxes[:, 2:] += boxes[:, :2]
    return dict(
        bboxes=torch.from_numpy(boxes).float(),
        scores=torch.from_numpy(rng.random(DETECTIONS)).float(),
        labels=torch.from_numpy(labels[picked]),
        masks=torch.from_numpy(masks))


def make_metrics(name, folder):
    """The metrics of a line."""
    from mmdet.evaluation import CocoMetric, CocoPanopticMetric

    from panoptic_fpn import metrics as ours
    makers = {
        'ours, PQ and mIoU':
        lambda: [ours.PanopticQualityMetric(),
                 ours.SemanticIoUMetric()],
        'mmdet, PQ':
        lambda: [CocoPanopticMetric(seg_prefix=str(folder))],
        'ours, box and mask AP':
        lambda: [ours.PanopticInstanceAPMetric()],
        'mmdet, box and mask AP':
        lambda: [CocoMetric(metric=['bbox', 'segm'])]
    }
    return makers[name]()


LINES = ('ours, PQ and mIoU', 'mmdet, PQ', 'ours, box and mask AP',
         'mmdet, box and mask AP')


def measure_line(name, counts, seconds, seed):
    """One line: images, bytes held, pickled bytes of the results, peak of the
    scores' computation; in a process of its own."""
    from mmengine.logging import MMLogger

    from panoptic_fpn.labels import Category, LabelSpace
    harness.set_threads()
    MMLogger.get_instance('memory', log_level='ERROR')
    space = LabelSpace([
        Category(i + 1, f'class {i}', i < THINGS, (0, 0, 0))
        for i in range(THINGS + STUFF)
    ])
    with tempfile.TemporaryDirectory() as folder:
        samples = make_samples(seed, Path(folder))
        metrics = make_metrics(name, Path(folder))
        meta = space.metainfo()
        if 'AP' in name and name.startswith('mmdet'):
            meta = dict(meta, classes=meta['thing_classes'])
        for metric in metrics:
            metric.dataset_meta = meta
        process(metrics, samples, range(SCENES))
        for metric in metrics:
            metric.results.clear()
        begin, held, done = time.perf_counter(), [], 0
        start = memory_now()
        points = []
        for count in counts:
            process(metrics, samples, range(done, count))
            done = count
            held = memory_now() - start
            rows = sum(len(pickle.dumps(m.results)) for m in metrics)
            points.append(dict(images=done, held=held, rows=rows))
            if time.perf_counter() - begin > seconds / 2:
                break
        with harness.quiet():
            peak = harness.peak_above(
                lambda: [m.evaluate(done) for m in metrics])
    return dict(points=points, compute_peak=peak)


def memory_now():
    harness.reset_peak_of_process()
    return harness.peak_of_process()


def process(metrics, samples, numbers):
    for number in numbers:
        sample = samples[number % len(samples)]
        for metric in metrics:
            # mmdet's PQ changes the map that it is given
            panoptic = dict(
                sem_seg=sample['pred_panoptic_seg']['sem_seg'].clone())
            metric.process(
                None,
                [dict(sample, img_id=number + 1, pred_panoptic_seg=panoptic)])


def row_bytes(line):
    """Bytes that an image adds to the results."""
    last = line['points'][-1]
    return last['rows'] / last['images']


def held_bytes(line):
    """Bytes of memory that an image adds, from the first point on."""
    first, last = line['points'][0], line['points'][-1]
    images = last['images'] - first['images']
    return (last['held'] - first['held']) / images if images else float('nan')


def text_of(report):
    rows = []
    for name, line in report['lines'].items():
        last = line['points'][-1]
        rows.append((name, last['images'], round(row_bytes(line)),
                     f'{held_bytes(line):.0f}', f'{last["held"] / 1e6:.1f}',
                     f'{line["compute_peak"] / 1e6:.1f}'))
    return tabulate(rows, ('', 'images', 'rows, B/image', 'held, B/image',
                           'held MB', 'scores MB'))


def draw(report):
    """Memory held over images; RGB uint8 (h, w, 3)."""
    from matplotlib.figure import Figure

    from benchmarks.table import pixels
    figure = Figure(figsize=(7.5, 4), dpi=130, layout='constrained')
    panel = figure.subplots()
    for i, (name, line) in enumerate(report['lines'].items()):
        x = [0] + [point['images'] for point in line['points']]
        y = [0] + [point['held'] / 1e6 for point in line['points']]
        panel.plot(
            x,
            y,
            marker='o',
            markersize=4,
            color=f'C{i // 2}',
            linestyle='--' if name.startswith('mmdet') else '-',
            label=f'{name}: {row_bytes(line):,.0f} B an image')
    panel.set_xlabel('images', fontsize=9)
    panel.set_ylabel('memory above the start (MB)', fontsize=9)
    panel.tick_params(labelsize=8.5)
    panel.legend(fontsize=8.5, frameon=False)
    panel.spines[['top', 'right']].set_visible(False)
    panel.set_title('Memory of an evaluation', fontsize=10)
    return pixels(figure)


def main(argv=None):
    args = parse_args(argv)
    lines = {}
    for name in LINES:
        print(f'{name} ...', flush=True)
        lines[name] = harness.in_fresh_process(measure_line, name, args.images,
                                               args.seconds, args.seed)
    content = dict(
        seed=args.seed,
        shape=SHAPE,
        segments=SEGMENTS,
        detections=DETECTIONS,
        lines=lines)
    figures.publish(args.out / 'memory', content, text_of, draw)
    return 0


if __name__ == '__main__':
    sys.exit(main())
