"""PQ of many settings of the merge, from one saved forward pass.

``tools/test.py --save-branches FOLDER`` writes what both branches say of each
image; here they are merged again with every combination of thresholds and
compared with the ground truth. Settings that give an image the same map are
counted once.
"""
import json
import os
from dataclasses import dataclass
from functools import partial
from itertools import product
from multiprocessing import parent_process
from pathlib import Path
from typing import Any, Dict, List, Optional, Sequence, Tuple

import numpy as np
import torch
from mmengine.dist import broadcast_object_list
from mmengine.utils import ProgressBar

from mmengine_exact.errors import InputError
from mmengine_exact.files import read_bytes
from mmengine_exact.match import bare_model
from mmengine_exact.workers import default_workers, run_jobs
from panoptic_fpn.fusion import fill_stuff, paste_instances
from panoptic_fpn.labels import LabelSpace, channel_labels
from panoptic_fpn.metrics import class_quality, group_quality, panoptic_counts
from panoptic_fpn.metrics.per_image import (labels_of_codes,
                                            leaves_instances_out, number)

from .branch_files import INDEX_NAME, BranchFile, PanopticBranchWriter

#: Thresholds in the order of a setting.
KEYS = ('score_thr', 'overlap_thr', 'stuff_area')


@dataclass(frozen=True)
class SweepIndex:
    """What a folder of branch files says of all its images."""

    space: LabelSpace
    predict_things: bool
    thresholds: Dict
    paths: Tuple[str, ...]


def save_branches(runner: Any, folder: str) -> None:
    """Let the test of a runner write both branches too.

    Args:
        runner (Runner): With a ``TwoStagePanopticFPN``.
        folder (str): See :class:`PanopticBranchWriter`.

    Raises:
        InputError: The model has no merge of ours, or the folder holds
            files of another run.
    """
    if leaves_instances_out(bare_model(runner.model)):
        raise InputError(
            '--save-branches with --panoptic-only: instances below the '
            'threshold of the merge are missing, and a sweep would not know. '
            'Leave --panoptic-only out.')
    # all processes look before any of them writes
    stale = [any(Path(folder).glob('*.npz'))]
    broadcast_object_list(stale)
    if stale[0]:
        raise InputError(
            f'{folder}: holds branch files of another run, finished or not, '
            'which a sweep would count. Remove the folder or name another.')
    try:
        os.makedirs(folder, exist_ok=True)
    except OSError as error:
        raise InputError(f'{folder}: no folder that can be written to '
                         f'({error.strerror}). Name another.') from None
    model = bare_model(runner.model)
    head = getattr(model, 'panoptic_fusion_head', None)
    thresholds = getattr(head, 'thresholds', None)
    if thresholds is None:
        raise InputError(f'{type(model).__name__} merges no branches, so '
                         'there is nothing to sweep. Leave '
                         '--save-branches out.')
    evaluator = runner.test_evaluator
    writer = PanopticBranchWriter(folder, thresholds)
    writer.dataset_meta = evaluator.dataset_meta
    evaluator.metrics.append(writer)


def read_index(folder: str) -> SweepIndex:
    """Read ``FOLDER/index.json`` and list the images.

    Raises:
        InputError: The folder was not written by ``--save-branches``, or
            not to its end.
    """
    remedy = ('Remove the folder, then write it with tools/test.py CONFIG '
              f'CHECKPOINT --save-branches {folder}.')
    path = Path(folder) / INDEX_NAME
    if not path.is_file():
        raise InputError(f'{path}: no such file, so {folder} holds no '
                         f'finished forward pass. {remedy}')
    try:
        content = json.loads(read_bytes(str(path), 'index', None))
        space = LabelSpace.from_metainfo(content['metainfo'], str(path))
        paths = sorted(str(p) for p in Path(folder).glob('*.npz'))
        if len(paths) != content['images']:
            raise InputError(
                f'{folder}: {len(paths)} images, but {INDEX_NAME} says '
                f'{content["images"]}. {remedy}')
        return SweepIndex(space, content['predict_things'],
                          content['thresholds'], tuple(paths))
    except InputError:
        raise
    except (ValueError, LookupError, TypeError, AttributeError,
            RecursionError) as error:
        raise InputError(f'{path}: cannot be read ({error!r}). '
                         f'{remedy}') from None


def image_counts(path: str,
                 settings: Sequence[Tuple[float, float, int]],
                 space: LabelSpace,
                 predict_things: bool,
                 nms_iou_thr: Optional[float] = None) -> np.ndarray:
    """PQ's counts of one image for every setting.

    Args:
        path (str): A branch file.
        settings (Sequence[tuple]): (score_thr, overlap_thr, stuff_area).
        space (LabelSpace): The classes.
        predict_things (bool): Layout of the semantic channels.
        nms_iou_thr (float, optional): The merge's, of every setting.

    Returns:
        np.ndarray: float64 (settings, C, 4), see ``panoptic_counts``.
    """
    if parent_process() is not None:  # one process for each core
        torch.set_num_threads(1)
    image = BranchFile.read(path)
    laid = _Laid(image, min(s[0] for s in settings), nms_iou_thr)
    stuff = torch.from_numpy(
        channel_labels(space.num_things, space.num_stuff, predict_things))
    semantic = None if image.semantic is None else torch.from_numpy(
        image.semantic.astype(np.int64))
    truth = (image.truth, image.codes, labels_of_codes(image.codes),
             np.isin(image.codes, image.crowd_codes))
    known: Dict[bytes, np.ndarray] = {}
    counts = []
    for score_thr, overlap_thr, stuff_area in settings:
        pasted, kept = laid.paste(score_thr, overlap_thr, space.void)
        areas = np.zeros(space.void + 1, np.int64)
        if semantic is not None:
            free = pasted == space.void
            areas = torch.bincount(
                stuff[semantic[free]], minlength=space.void + 1).numpy()
        key = kept.numpy().tobytes() + b'|' + (areas < stuff_area).tobytes()
        if key not in known:
            panoptic = pasted if semantic is None else fill_stuff(
                pasted.clone(), semantic, stuff, stuff_area, space.void)
            known[key] = panoptic_counts(*truth, panoptic.numpy(), space.void,
                                         space.num_classes)
        counts.append(known[key])
    return np.stack(counts)


class _Laid:
    """Instances of one image, decoded once, and the maps laid with them."""

    def __init__(self, image: BranchFile, score_thr: float,
                 nms_iou_thr: Optional[float]) -> None:
        chosen = np.flatnonzero(image.scores >= score_thr)
        self.instances = tuple(
            torch.from_numpy(np.ascontiguousarray(values))
            for values in (image.masks(chosen), image.boxes[chosen],
                           image.scores[chosen], image.labels[chosen]))
        self._nms_iou_thr = nms_iou_thr
        self._known: Dict = {}

    def paste(self, score_thr: float, overlap_thr: float,
              void: int) -> Tuple[torch.Tensor, torch.Tensor]:
        """The map (h, w) and the instances on it; read-only."""
        key = (score_thr, overlap_thr)
        if key not in self._known:
            masks, boxes, scores, labels = self.instances
            self._known[key] = paste_instances(masks, boxes, scores, labels,
                                               score_thr, overlap_thr, void,
                                               self._nms_iou_thr)
        return self._known[key]


def sweep_merge(folder: str,
                score_thrs: Sequence[float],
                overlap_thrs: Sequence[float],
                stuff_areas: Sequence[int],
                num_workers: Optional[int] = None,
                metric: str = 'PQ') -> Tuple[List[Dict], Optional[Dict]]:
    """PQ of every combination of thresholds, and of the config's own.

    Args:
        folder (str): Written by ``tools/test.py --save-branches``.
        score_thrs (Sequence[float]): Least scores of instances.
        overlap_thrs (Sequence[float]): Largest overlapped fractions.
        stuff_areas (Sequence[int]): Least pixels of a stuff class.
        num_workers (int, optional): Processes; by default one for each core,
            at most 8.
        metric (str): What the settings are ordered by, best first.

    Returns:
        tuple[list[dict], dict]: One for each combination: the thresholds,
        and PQ, SQ, RQ of all classes, things (_th) and stuff (_st) in
        percent; and the same for the thresholds that the forward pass was
        evaluated with, None if it does not say.

    Raises:
        InputError: The folder or one of its files cannot be used, or a
            process was killed.
    """
    index = read_index(folder)
    settings = list(product(score_thrs, overlap_thrs, stuff_areas))
    start = [index.thresholds[key] for key in KEYS if key in index.thresholds]
    if len(start) == len(KEYS):
        settings.append(tuple(start))
    total = np.zeros((len(settings), index.space.num_classes, 4))
    count = partial(
        image_counts,
        settings=settings,
        space=index.space,
        predict_things=index.predict_things,
        nms_iou_thr=index.thresholds.get('nms_iou_thr'))
    bar = ProgressBar(len(index.paths))
    # in order: the same bits with any number of processes
    try:
        for counts in run_jobs(
                count,
                index.paths,
                num_workers or default_workers(),
                in_order=True):
            total += counts
            bar.update()
    finally:
        print()  # ends the line of the bar
    rows = [
        dict(
            zip(KEYS, setting),
            **group_quality(class_quality(counts), index.space.num_things))
        for setting, counts in zip(settings, total)
    ]
    own = rows.pop() if len(start) == len(KEYS) else None
    # NaN, where there is nothing to judge, last
    rows.sort(key=lambda row: -np.nan_to_num(row[metric], nan=-1.))
    return rows, own


def format_sweep(rows: Sequence[Dict], start: Optional[Dict]) -> str:
    """Text table of settings; the config's own as the last line."""
    scores = ('PQ', 'PQ_th', 'PQ_st')
    lines = [''.join(f'{head:>12}' for head in (*KEYS, *scores))]
    for row in [*rows, *([start] if start else [])]:
        lines.append(''.join(f'{row[key]:>12g}' for key in KEYS) +
                     ''.join(f'{number(row[key]):>12}' for key in scores))
    if start:
        lines[-1] += '  <- config'
    return '\n'.join(lines)
