"""PQ of an image, its ground truth read from disk: ours beside mmdet's.

Both start from a panoptic PNG and JSON on disk and a predicted map in memory
and end with PQ. Ours reads as the loader's workers do (``LoadPanopticMap``,
``DerivePanopticTargets``) and counts with ``PanopticQualityMetric``; mmdet's
``CocoPanopticMetric`` reads the PNG itself, writes the prediction as another
and reads that, too, which is its way without ``outfile_prefix``.

Further rows: counting in memory with each measure of ``extra``, beside PQ
alone; result files, ours (``tools/eval_panoptic.py``) beside panopticapi and
hotcoco, from two JSON files and two folders of PNGs to PQ.
"""
import json
import logging
import multiprocessing
import os
import shutil
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Callable, Dict, Iterator, List

import cv2
import numpy as np

from benchmarks import harness

#: Images of a case; the seconds are for one. Result files list each so often.
IMAGES, LISTED = 3, 8


@dataclass(frozen=True)
class Case:
    """Size and contents of the images."""
    height: int
    width: int
    segments: int
    stuff_segments: int
    num_things: int
    num_stuff: int

    @property
    def void(self) -> int:
        return self.num_things + self.num_stuff

    def __str__(self) -> str:
        return f'{self.width}x{self.height}, {self.segments} segments'


CITYSCAPES = Case(1024, 2048, 51, 11, 8, 11)
COCO = Case(480, 640, 20, 7, 80, 53)


def random_segments(rng: np.random.Generator, case: Case) -> np.ndarray:
    """Map (h, w) of segments from 1: bands with wavy borders, and on them
    polygons with ragged ones, from large to small."""
    h, w = case.height, case.width
    x, y = np.arange(w), np.arange(h)[:, None]
    segments = np.ones((h, w), np.int32)
    for number in range(1, case.stuff_segments):
        border = np.full(w, h * number / case.stuff_segments)
        for period in rng.uniform(0.03, 0.5, 4) * w:
            phase = rng.uniform(0, 2 * np.pi)
            border += rng.uniform(
                0, 0.03) * h * np.sin(2 * np.pi * x / period + phase)
        segments[y > border] = number + 1
    radii = np.geomspace(0.25, 0.012, case.segments - case.stuff_segments) * h
    for number, radius in enumerate(radii, case.stuff_segments + 1):
        angles = np.sort(rng.uniform(0, 2 * np.pi, 60))
        reach = radius * (1 + 0.15 * rng.standard_normal(60))
        center = rng.uniform([0, 0.3 * h], [w, h])
        points = center + reach[:, None] * np.stack(
            [0.7 * np.cos(angles), np.sin(angles)], axis=1)
        cv2.fillPoly(segments, [points.astype(np.int32)], number)
    return segments


def predicted(rng: np.random.Generator, codes: np.ndarray,
              void: int) -> np.ndarray:
    """A map with displaced borders, holes of void and some labels changed."""
    h, w = codes.shape
    field = rng.standard_normal((h // 16, w // 16, 2)).astype(np.float32)
    field = cv2.resize(field, (w, h), interpolation=cv2.INTER_CUBIC)
    x, y = np.meshgrid(
        np.arange(w, dtype=np.float32), np.arange(h, dtype=np.float32))
    found = cv2.remap(
        codes.astype(np.float32),
        x + 3 * field[..., 0],
        y + 3 * field[..., 1],
        cv2.INTER_NEAREST,
        borderMode=cv2.BORDER_REPLICATE).astype(np.int32)
    for code in rng.permutation(np.unique(found))[:5]:
        found[found == code] = void
    return found


def write_data(folder: Path, case: Case, seed: int) -> List[np.ndarray]:
    """``panoptic.json`` and the PNGs of a data set; its predicted codes."""
    from PIL import Image

    from panoptic_fpn.labels import id_to_rgb
    rng = np.random.default_rng(seed)
    images, annotations, predictions = [], [], []
    for image_id in range(1, IMAGES + 1):
        segments = random_segments(rng, case)
        stuff = case.num_things + rng.permutation(
            case.num_stuff)[:case.stuff_segments]
        things = rng.integers(0, case.num_things,
                              case.segments - case.stuff_segments)
        # 0 is void: the first band
        labels = np.concatenate([[case.void], stuff, things])
        ids = np.append(0, rng.choice(1 << 24, case.segments, False) | 1)
        ids[1], labels[1] = 0, case.void
        name = f'{image_id}.png'
        Image.fromarray(id_to_rgb(ids[segments])).save(folder / name)
        images.append(
            dict(
                id=image_id,
                file_name=f'{image_id}.jpg',
                height=case.height,
                width=case.width))
        annotations.append(
            dict(
                image_id=image_id,
                file_name=name,
                segments_info=[
                    dict(
                        id=int(ids[n]),
                        category_id=int(labels[n]) + 1,
                        area=int((segments == n).sum()),
                        iscrowd=0) for n in np.unique(segments) if ids[n]
                ]))
        numbers = np.arange(len(labels)) * (labels < case.num_things)
        predictions.append(
            predicted(rng, (labels + 1000 * numbers)[segments], case.void))
    categories = [
        dict(id=i + 1, name=f'class {i}', isthing=int(i < case.num_things))
        for i in range(case.void)
    ]
    (folder / 'panoptic.json').write_text(
        json.dumps(
            dict(
                images=images, annotations=annotations,
                categories=categories)))
    return predictions


def sample_of(entry: Dict, folder: Path, case: Case, codes) -> Dict:
    """Data sample (dict) of an image, without its ground truth."""
    return dict(
        img_id=entry['image_id'],
        img_path=str(folder / entry['file_name'].replace('.png', '.jpg')),
        ori_shape=(case.height, case.width),
        pred_panoptic_seg=dict(sem_seg=codes[None]))


def our_reader(folder: Path, case: Case) -> Callable[[List], Iterator[Dict]]:
    """A function from predictions to data samples of all images, read as the
    loader's workers do; built once, as a data set is."""
    import torch
    from mmengine.dataset import Compose
    content = json.loads((folder / 'panoptic.json').read_text())
    space = label_space(folder)
    # as PackPanopticInputs does with it
    load = Compose([
        dict(type='LoadPanopticMap'),
        dict(
            type='DerivePanopticTargets',
            instances=False,
            semantic=False,
            panoptic=True)
    ])

    def read(codes: List) -> Iterator[Dict]:
        for entry, found in zip(content['annotations'], codes):
            sample = sample_of(entry, folder, case, torch.from_numpy(found))
            segments = [
                dict(
                    id=s['id'],
                    category=s['category_id'] - 1,
                    iscrowd=s['iscrowd'],
                    is_thing=s['category_id'] <= case.num_things)
                for s in entry['segments_info']
            ]
            truth = load(
                dict(
                    seg_map_path=str(folder / entry['file_name']),
                    segments_info=segments,
                    label_space=space,
                    **sample))
            sample.update(
                gt_panoptic_seg=dict(
                    sem_seg=torch.from_numpy(truth['gt_panoptic_map'])[None]),
                gt_codes=truth['gt_codes'],
                crowd_codes=truth['crowd_codes'])
            yield sample

    return read


def label_space(folder: Path):
    from panoptic_fpn.labels import LabelSpace
    content = json.loads((folder / 'panoptic.json').read_text())
    return LabelSpace.from_coco(content['categories'])


def our_metric(folder: Path, **options):
    from panoptic_fpn.metrics import PanopticQualityMetric
    metric = PanopticQualityMetric(**options)
    metric.dataset_meta = label_space(folder).metainfo()
    return metric


def our_call(folder: Path, case: Case, codes: List) -> Callable:
    """PQ of all images by our transforms and metric."""
    metric, read = our_metric(folder), our_reader(folder, case)

    def run():
        for sample in read(codes):
            metric.process(None, [sample])
        return metric.evaluate(IMAGES)

    return run


def their_call(folder: Path, case: Case, codes: List) -> Callable:
    """PQ of all images by mmdet's metric."""
    import torch
    from mmdet.evaluation import CocoPanopticMetric
    content = json.loads((folder / 'panoptic.json').read_text())
    metric = CocoPanopticMetric(
        ann_file=str(folder / 'panoptic.json'), seg_prefix=str(folder))
    metric.dataset_meta = dict(
        classes=[c['name'] for c in content['categories']],
        thing_classes=[
            c['name'] for c in content['categories'] if c['isthing']
        ])

    def run():
        for entry, found in zip(content['annotations'], codes):
            # it writes into the map that it is given
            found = torch.from_numpy(found.copy())
            metric.process(None, [sample_of(entry, folder, case, found)])
        return metric.evaluate(IMAGES)

    return run


CALLS = dict(ours=our_call, theirs=their_call)


def prepare(side: str, case: Case, seed: int) -> Callable:
    """A call of one side on data of its own, for a process that ends."""
    from mmengine.registry import init_default_scope

    import panoptic_fpn  # noqa: F401
    init_default_scope('mmdet')
    logging.disable(logging.INFO)
    folder = Path(tempfile.mkdtemp())
    run = CALLS[side](folder, case, write_data(folder, case, seed))
    # imports and tables of the first call are no cost of an image
    run()

    def run_and_remove():
        try:
            return run()
        finally:
            shutil.rmtree(folder)

    return run_and_remove


def measure_case(case: Case, rounds: int, seed: int, ask) -> harness.Row:
    """Seconds of an image; the scores have to agree."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        codes = write_data(folder, case, seed)
        calls = {
            side: call(folder, case, codes)
            for side, call in CALLS.items()
        }
        scores = {side: call() for side, call in calls.items()}
        apart = max(
            abs(scores['ours'][key] - value)
            for key, value in scores['theirs'].items())
        if not apart < 1e-9:
            raise ValueError(f'{case}: the scores differ by {apart}: {scores}')
        seconds = harness.alternate(calls, rounds)
    peaks = {
        side: harness.peak_bytes(prepare, side, case, seed)
        for side in CALLS
    }
    return harness.Row(
        stage='PQ metric',
        case=f'{case}, ground truth from disk',
        ours=[s / IMAGES for s in seconds['ours']],
        theirs=[s / IMAGES for s in seconds['theirs']],
        ask=ask,
        ours_bytes=peaks['ours'],
        theirs_bytes=peaks['theirs'],
        note=f'same PQ, SQ and RQ (PQ {scores["ours"]["coco_panoptic/PQ"]:.2f}'
        '); mmdet: no mIoU from the same run, no AP without an instances JSON')


def measure_extra(case: Case, rounds: int, seed: int) -> List[harness.Row]:
    """Seconds to count an image in memory with each further measure."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        codes = write_data(folder, case, seed)
        samples = list(our_reader(folder, case)(codes))

        def call(*extra):
            metric = our_metric(folder, extra=extra)

            def run():
                metric.process(None, samples)
                return metric.evaluate(IMAGES)

            return run

        extras = ('boundary', 'dagger', 'size', 'images')
        calls = {name: call(name) for name in extras}
        seconds = harness.alternate(dict(calls, PQ=call()), rounds)
    return [
        harness.Row(
            stage='PQ metric',
            case=f'{case}, in memory, with {name}',
            ours=[s / IMAGES for s in seconds[name]],
            theirs=[s / IMAGES for s in seconds['PQ']],
            against='PQ alone') for name in extras
    ]


def write_results(folder: Path, case: Case, codes: List):
    """``results.json`` with its PNGs beside the data set of a folder; both
    list their images ``LISTED`` times."""
    from panoptic_fpn.coco_format.results import number_segments, write_image
    from panoptic_fpn.labels import id_to_rgb
    truth = json.loads((folder / 'panoptic.json').read_text())
    found = []
    for entry, pred in zip(truth['annotations'], codes):
        ids, segments = number_segments(pred, case.void,
                                        range(1, case.void + 1))
        write_image(folder / 'results' / entry['file_name'], id_to_rgb(ids))
        found.append(dict(entry, segments_info=segments))
    for key, name in ('images', 'id'), ('annotations', 'image_id'):
        truth[key] = [
            dict(entry, **{name: entry[name] + IMAGES * n})
            for n in range(LISTED) for entry in truth[key]
        ]
    found = [
        dict(entry, image_id=entry['image_id'] + IMAGES * n)
        for n in range(LISTED) for entry in found
    ]
    (folder / 'panoptic.json').write_text(json.dumps(truth))
    (folder / 'results.json').write_text(json.dumps(dict(annotations=found)))


def file_calls(folder: Path, cores: int) -> Dict[str, Callable]:
    """PQ of the results of a folder, a fraction; panopticapi on one core."""
    from hotcoco.panoptic import PanopticEval
    from panopticapi.evaluation import pq_compute_single_core

    from panoptic_apps.eval_panoptic import pair_files, score_pairs
    from panoptic_fpn.metrics import PanopticEvaluator, PanopticQualityMetric
    files = [str(folder / name) for name in ('panoptic.json', 'results.json')]
    folders = [str(folder), str(folder / 'results')]

    def ours():
        space, pairs = pair_files(files[0], folders[0], files[1], folders[1])
        evaluator = PanopticEvaluator([PanopticQualityMetric()])
        evaluator.dataset_meta = space.metainfo()
        return score_pairs(pairs, evaluator, cores)['coco_panoptic/PQ'] / 100

    def panopticapi():
        truth, found = (json.loads(Path(file).read_text()) for file in files)
        categories = {c['id']: c for c in truth['categories']}
        pairs = list(zip(truth['annotations'], found['annotations']))
        with harness.quiet():
            counts = pq_compute_single_core(0, pairs, *folders, categories)
        return counts.pq_average(categories, isthing=None)[0]['pq']

    def hotcoco():
        found = PanopticEval(
            *files, gt_folder=folders[0], pred_folder=folders[1])
        found.evaluate()
        return found.results()['All']['pq']

    calls = dict(ours=ours, hotcoco=hotcoco)
    return dict(calls, panopticapi=panopticapi) if cores == 1 else calls


def file_rows(case: Case, rounds: int, seed: int,
              cores: int) -> List[harness.Row]:
    """Seconds of an image in result files, in a process of its own: threads
    of hotcoco ask how many cores it may use."""
    from mmengine.registry import init_default_scope

    import panoptic_fpn  # noqa: F401
    init_default_scope('mmdet')
    harness.set_threads()
    logging.disable(logging.INFO)
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:cores])
    # as in the tool; a process that was spawned spawns others
    multiprocessing.set_start_method('fork', force=True)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_results(folder, case, write_data(folder, case, seed))
        calls = file_calls(folder, cores)
        scores = {side: call() for side, call in calls.items()}
        if not max(scores.values()) - min(scores.values()) < 1e-9:
            raise ValueError(f'{case}: the scores differ: {scores}')
        seconds = {
            side: [s / (IMAGES * LISTED) for s in values]
            for side, values in harness.alternate(calls, rounds).items()
        }
    words = f'{cores} core' + 's' * (cores > 1)
    return [
        harness.Row(
            stage='PQ of result files',
            case=f'{case}, {words}',
            ours=seconds['ours'],
            theirs=values,
            against=side,
            note=f'same PQ ({100 * scores["ours"]:.2f}); two PNGs decoded, '
            f'{IMAGES * LISTED} images') for side, values in seconds.items()
        if side != 'ours'
    ]


def measure(rounds: int, seed: int = 0) -> List[harness.Row]:
    """Rows of a large and a small image, on one core; of result files on two,
    too."""
    from mmengine.registry import init_default_scope

    import panoptic_fpn  # noqa: F401
    init_default_scope('mmdet')
    logging.disable(logging.INFO)
    try:
        return [
            measure_case(CITYSCAPES, rounds, seed, 10.),
            measure_case(COCO, rounds, seed,
                         None), *measure_extra(CITYSCAPES, rounds, seed),
            *measure_extra(COCO, rounds, seed),
            *(row for case in (CITYSCAPES, COCO)
              for cores in (1, 2) for row in harness.in_fresh_process(
                  file_rows, case, rounds, seed, cores))
        ]
    finally:
        logging.disable(logging.NOTSET)


if __name__ == '__main__':
    sys.exit(harness.stage_main(measure, __doc__))
