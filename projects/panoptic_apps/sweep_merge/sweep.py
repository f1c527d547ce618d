"""PQ of many settings of the merge, from one saved forward pass.

``tools/test.py --save-branches FOLDER`` writes the results of both branches
for each image; here they are merged again with every combination of
thresholds and compared with the ground truth. Settings that give an image the
same map are counted once.
"""
import json
from functools import partial
from itertools import product
from multiprocessing import parent_process
from pathlib import Path
from typing import Dict, List, NamedTuple, Optional, Sequence, Tuple

import numpy as np
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from mmengine.utils import ProgressBar
from tabulate import tabulate

from mmengine_exact.errors import InputError
from mmengine_exact.files import read_bytes
from mmengine_exact.workers import default_workers, run_jobs
from panoptic_fpn.fusion import fill_stuff, paste_instances
from panoptic_fpn.labels import LabelSpace, channel_labels
from panoptic_fpn.metrics import class_quality, group_quality, panoptic_counts
from panoptic_fpn.metrics.base import labels_of_codes

from .branch_files import INDEX_NAME, BranchFile

#: Thresholds in the order of a setting.
KEYS = ('score_thr', 'overlap_thr', 'stuff_area')


class SweepIndex(NamedTuple):
    """What a folder of branch files says of all its images."""

    space: LabelSpace
    predict_things: bool
    thresholds: Dict
    paths: List[str]


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
        index = SweepIndex(space, content['predict_things'],
                           content['thresholds'],
                           sorted(map(str,
                                      Path(folder).glob('*.npz'))))
        images = content['images']
    except (ValueError, LookupError, TypeError, AttributeError,
            RecursionError) as error:
        raise InputError(f'{path}: cannot be read ({error!r}). '
                         f'{remedy}') from None
    if len(index.paths) != images:
        raise InputError(f'{folder}: {len(index.paths)} images, but '
                         f'{INDEX_NAME} says {images}. {remedy}')
    return index


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
    chosen = np.flatnonzero(image.scores >= min(s[0] for s in settings))
    masks, boxes, scores, labels = (
        torch.from_numpy(np.ascontiguousarray(values))
        for values in (image.masks(chosen), image.boxes[chosen],
                       image.scores[chosen], image.labels[chosen]))
    stuff = torch.from_numpy(
        channel_labels(space.num_things, space.num_stuff, predict_things))
    semantic = None if image.semantic is None else torch.from_numpy(
        image.semantic.astype(np.int64))
    truth = (image.truth, image.codes, labels_of_codes(image.codes),
             np.isin(image.codes, image.crowd_codes))
    pasted: Dict[Tuple[float, float], Tuple] = {}
    known: Dict[bytes, np.ndarray] = {}
    counts = []
    for score_thr, overlap_thr, stuff_area in settings:
        thresholds = score_thr, overlap_thr
        if thresholds not in pasted:
            pasted[thresholds] = paste_instances(masks, boxes, scores, labels,
                                                 score_thr, overlap_thr,
                                                 space.void, nms_iou_thr)
        panoptic, kept = pasted[thresholds]
        areas = np.zeros(space.void + 1, np.int64)
        if semantic is not None:
            free = panoptic == space.void
            areas = torch.bincount(
                stuff[semantic[free]], minlength=space.void + 1).numpy()
        key = kept.numpy().tobytes() + b'|' + (areas < stuff_area).tobytes()
        if key not in known:
            if semantic is not None:
                panoptic = fill_stuff(panoptic.clone(), semantic, stuff,
                                      stuff_area, space.void)
            known[key] = panoptic_counts(*truth, panoptic.numpy(), space.void,
                                         space.num_classes)
        counts.append(known[key])
    return np.stack(counts)


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
    heads = (*KEYS, 'PQ', 'PQ_th', 'PQ_st')
    cells = [[row[head] for head in heads] for row in rows]
    if start:
        cells.append([*(start[head] for head in heads), '<- config'])
    return tabulate(
        cells, [*heads, ''], floatfmt=('g', 'g', 'g', '.2f', '.2f', '.2f'))


def draw_sweep(rows: Sequence[Dict], metric: str = 'PQ') -> np.ndarray:
    """One heat map of score over overlap threshold for each stuff area.

    Args:
        rows (Sequence[dict]): All combinations of ``score_thr``,
            ``overlap_thr``, ``stuff_area``, each with ``metric`` (percent).
        metric (str): What is drawn.

    Returns:
        np.ndarray: RGB uint8 of shape (h, w, 3).
    """
    scores, overlaps, areas = (
        sorted({row[key]
                for row in rows}) for key in KEYS)
    quality = {tuple(row[key] for key in KEYS): row[metric] for row in rows}
    values = np.array([[[quality[s, o, a] for o in overlaps] for s in scores]
                       for a in areas])
    best, (low, high) = None, (0, 100)
    if not np.isnan(values).all():
        best = np.unravel_index(np.nanargmax(values), values.shape)
        low, high = np.nanmin(values), np.nanmax(values)
    wide = 1.6 + 0.62 * len(overlaps)
    figure = Figure(
        figsize=(wide * len(areas), 1.5 + 0.42 * len(scores)),
        dpi=130,
        layout='constrained')
    panels = figure.subplots(1, len(areas), squeeze=False)[0]
    panels[0].set_ylabel('score_thr', fontsize=8)
    for i, (panel, area) in enumerate(zip(panels, areas)):
        panel.imshow(
            values[i], vmin=low, vmax=high, cmap='viridis', aspect='auto')
        panel.set_title(f'stuff_area {area}', fontsize=9)
        panel.set_xticks(range(len(overlaps)), [f'{o:g}' for o in overlaps])
        panel.set_yticks(range(len(scores)), [f'{s:g}' for s in scores])
        panel.set_xlabel('overlap_thr', fontsize=8)
        panel.tick_params(labelsize=8)
        for (y, x), value in np.ndenumerate(values[i]):
            panel.text(
                x,
                y,
                f'{value:.1f}',
                ha='center',
                va='center',
                fontsize=7,
                fontweight='bold' if best == (i, y, x) else 'normal',
                color='black' if value > (low + high) / 2 else 'white')
    figure.suptitle(f'{metric} (percent); the best in bold', fontsize=10)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()
