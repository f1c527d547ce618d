"""Result files of any framework, scored by our metrics.

Results are a JSON with ``annotations`` (image_id, file_name of a PNG,
segments_info with id and category_id of each segment) and the folder of their
PNGs, as panopticapi, Detectron2, mmdet and ``tools/test.py --format-only``
write them. Ground truth is read by the rules of the data sets, results by the
same. What panopticapi refuses is an error here, too: images without a result,
ids that only PNG or JSON has, unknown categories, other sizes. Photographs
are not read.
"""
import os
import sys
import time
from copy import copy
from dataclasses import asdict
from functools import partial
from typing import Any, Callable, Dict, List, Optional, Tuple

from mmengine.evaluator import Evaluator
from mmengine.fileio import join_path
from mmengine.logging import print_log

from mmengine_exact.errors import InputError
from mmengine_exact.files import read_bytes
from mmengine_exact.record import fingerprint, revision, versions
from mmengine_exact.workers import run_jobs
from panoptic_fpn.coco_format import (entries_by_id, panoptic_faults,
                                      parse_object, raise_first)
from panoptic_fpn.coco_format.faults import is_whole, list_of
from panoptic_fpn.data import (CocoPanopticFPNDataset, DerivePanopticTargets,
                               LoadPanopticMap)
from panoptic_fpn.labels import LabelSpace
from panoptic_fpn.metrics.base import PerImageMetric, Row

#: Images that a process scores between two messages.
AT_ONCE = 4
# the former keeps a table of ids
_LOAD = LoadPanopticMap()
_DERIVE = DerivePanopticTargets(instances=False, semantic=False, panoptic=True)
#: What the transforms read of an image's ground truth and of its result; the
#: former has the path of its ``photograph``, for pictures.
ImagePair = Tuple[Dict, Dict]


def pair_files(
    truth_json: str,
    truth_pngs: str,
    result_json: str,
    result_pngs: str,
    photographs: Optional[str] = None
) -> Tuple[LabelSpace, Dict[Any, ImagePair]]:
    """Classes, and the annotated images of a ground truth by their ids.

    Args:
        truth_json (str): COCO panoptic JSON.
        truth_pngs (str): Folder of its PNGs.
        result_json, result_pngs (str): See the module.
        photographs (str, optional): Folder of the images.

    Raises:
        InputError: One of the JSON files is missing or contradicts itself,
            or they do not belong together.
    """
    dataset = CocoPanopticFPNDataset(
        ann_file=truth_json,
        data_prefix=dict(img=photographs or '', seg=truth_pngs),
        pipeline=[],
        test_mode=True,
        serialize_data=False)
    space = dataset.label_space
    infos = {
        info['img_id']:
        dict(
            info,
            ori_shape=(info['height'], info['width']),
            photograph=info['img_path'] if photographs else None)
        for info in map(dataset.get_data_info, range(len(dataset)))
        if info['seg_map_path'] is not None
    }
    if not infos:
        raise InputError(f'{truth_json}: no image has an annotation, so there '
                         'is nothing to compare with. Name the JSON of the '
                         'ground truth.')
    if dataset.unannotated:
        print_log(
            f'{truth_json}: {len(dataset.unannotated)} images without '
            'annotation are left out.', 'current')
    notes = _read_results(result_json, truth_json, infos, space)
    return space, {
        image_id: (info, _result_info(info, notes[image_id], result_pngs,
                                      space))
        for image_id, info in infos.items()
    }


def _result_info(info: Dict, note: Dict, folder: str,
                 space: LabelSpace) -> Dict:
    """A result as a data set would list it."""
    segments = [
        dict(id=s['id'], category=space.label(s['category_id']), iscrowd=0)
        for s in note['segments_info']
    ]
    return dict(
        info,
        seg_map_path=join_path(folder, note['file_name']),
        segments_info=segments,
        void_ids=None,
        ignored_ids=[])


def _read_results(path: str, truth_json: str, infos: Dict[Any, Dict],
                  space: LabelSpace) -> Dict[Any, Dict]:
    """Entries of the images in a JSON of results, by image id."""
    text = read_bytes(path, 'results', None, 'Name the JSON of the results.')
    content = parse_object(text, path)
    names = dict(zip(space.category_ids, space.names))
    for own in list_of(content, 'categories', dict):
        id_, name = own.get('id'), str(own.get('name'))
        if is_whole(id_) and names.get(id_, name) != name:
            raise InputError(
                f'{path}: category {id_} is {name!r}, in {truth_json} '
                f'{names[id_]!r}. Write the category ids of the ground truth; '
                'if the names alone differ, remove "categories" here.')
    notes = raise_first(entries_by_id(content, 'annotations', path))
    missing = sorted(infos.keys() - notes.keys(), key=str)
    others = sorted(notes.keys() - infos.keys(), key=str)
    if missing:
        such = f' (but of others, such as {others[0]!r})' if others else ''
        raise InputError(
            f'{path}: no result of {len(missing)} of {len(infos)} images, such'
            f' as image_id={missing[0]!r}{such}. Predict all images of '
            f'{truth_json}, and write their ids as there.')
    if others:  # panopticapi ignores them, too
        print_log(
            f'{path}: results of {len(others)} other images are left out.',
            'current')
    images = [
        dict(
            id=image_id,
            file_name='any',
            height=info['height'],
            width=info['width']) for image_id, info in infos.items()
    ]
    kept = dict(
        images=images,
        categories=[asdict(category) for category in space.categories],
        annotations=[notes[image_id] for image_id in infos])
    raise_first(panoptic_faults(kept, path, truth_json))
    return notes


def read_sample(pair: ImagePair) -> Dict:
    """Data sample (dict) of an image: ground truth and prediction."""
    truth, found = (_DERIVE(_LOAD(dict(info))) for info in pair)
    return dict(
        img_id=truth['img_id'],
        img_path=truth['photograph'],
        gt_panoptic_seg=dict(sem_seg=truth['gt_panoptic_map']),
        gt_codes=truth['gt_codes'],
        crowd_codes=truth['crowd_codes'],
        pred_panoptic_seg=dict(sem_seg=found['gt_panoptic_map']))


def score_pairs(
        pairs: Dict[Any, ImagePair],
        evaluator: Evaluator,
        num_workers: Optional[int] = None,
        progress: Callable[[int],
                           Any] = lambda done: None) -> Dict[str, float]:
    """Scores of an evaluator, whose table is logged.

    Args:
        pairs (dict): See :func:`pair_files`.
        evaluator (Evaluator): Of metrics that derive from ``PerImageMetric``.
        num_workers (int, optional): Processes; by default one for each core.
        progress (Callable): Is called with numbers of images that are done.

    Raises:
        InputError: A PNG is missing, or is not what its JSON says.
    """
    images = list(pairs.values())
    workers = num_workers or len(os.sched_getaffinity(0))
    jobs = [images[i:i + AT_ONCE] for i in range(0, len(images), AT_ONCE)]
    metrics = evaluator.metrics
    found: List[List[Row]] = [[] for _ in metrics]
    for parts in run_jobs(partial(_image_rows, metrics), jobs, workers):
        for rows, part in zip(found, parts):
            rows += part
        progress(len(parts[0]))
    for metric, rows in zip(metrics, found):
        metric.results.extend(rows)
    return evaluator.evaluate(len(images))


def _image_rows(metrics: List[PerImageMetric],
                pairs: List[ImagePair]) -> List[List[Row]]:
    """Rows of each metric."""
    own = [copy(metric) for metric in metrics]
    for metric in own:
        metric.results = []
    for sample in map(read_sample, pairs):
        for metric in own:
            metric.process(None, [sample])
    return [metric.results for metric in own]


def files_record(*paths: str) -> Dict:
    """What scores of files were made with, for ``record.json``."""
    return dict(
        date=time.strftime('%Y-%m-%d %H:%M:%S %z'),
        command=sys.argv,
        files=[dict(file=path, sha256=fingerprint(path)) for path in paths],
        revision=revision(),
        versions=versions())
