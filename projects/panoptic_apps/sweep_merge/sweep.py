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
from typing import Any, Dict, List, Optional, Sequence, Tuple

import numpy as np
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from mmengine.utils import track_iter_progress
from mmengine.visualization.utils import img_from_canvas
from tabulate import tabulate

from mmengine_exact.errors import InputError
from mmengine_exact.workers import run_jobs
from panoptic_fpn.fusion import fill_stuff, paste_instances
from panoptic_fpn.labels import LabelSpace, channel_labels
from panoptic_fpn.metrics import class_quality, group_quality, panoptic_counts
from panoptic_fpn.metrics.base import labels_of_codes

from .branch_files import INDEX_NAME, BranchFile

#: Thresholds in the order of a setting.
KEYS = ('score_thr', 'overlap_thr', 'stuff_area')


def read_index(folder: str) -> Tuple[LabelSpace, bool, Dict, List[str]]:
    """Classes, layout of the semantic channels, the config's thresholds, and
    paths of the images of a folder."""
    path, fault = Path(folder) / INDEX_NAME, None
    paths = sorted(map(str, Path(folder).glob('*.npz')))
    try:
        content = json.loads(path.read_bytes())
        space = LabelSpace.from_metainfo(content['metainfo'], str(path))
        index = space, content['predict_things'], content['thresholds'], paths
        if content['images'] != len(paths):
            fault = f'{len(paths)} images, but it says {content["images"]}'
    except (OSError, ValueError, LookupError, TypeError,
            RecursionError) as error:
        fault = f'no finished forward pass ({error!r})'
    if fault:
        raise InputError(
            f'{path}: {fault}. Remove the folder, then write it with '
            f'tools/test.py CONFIG CHECKPOINT --save-branches {folder}.')
    return index


def image_counts(path: str,
                 settings: Sequence[Tuple[float, float, int]],
                 space: LabelSpace,
                 predict_things: bool,
                 nms_iou_thr: Optional[float] = None) -> np.ndarray:
    """PQ's counts of one branch file for every setting (score_thr,
    overlap_thr, stuff_area): float64 (settings, C, 4), see
    ``panoptic_counts``."""
    if parent_process() is not None:  # one process for each core
        torch.set_num_threads(1)
    image = BranchFile.read(path)
    chosen = np.flatnonzero(image.scores >= min(s[0] for s in settings))
    masks, boxes, scores, labels = map(
        torch.from_numpy, (image.masks(chosen), image.boxes[chosen],
                           image.scores[chosen], image.labels[chosen]))
    table = channel_labels(space.num_things, space.num_stuff, predict_things)
    channels = image.semantic
    if channels is None:  # one that paints nothing
        table, channels = np.array([space.void]), np.zeros_like(image.truth)
    stuff, semantic = map(torch.from_numpy, (table, channels.astype(np.int64)))
    truth = (image.truth, image.codes, labels_of_codes(image.codes),
             np.isin(image.codes, image.crowd_codes))
    pasted: Dict[Tuple[float, float], Any] = {}
    known: Dict[Tuple[bytes, bytes], np.ndarray] = {}
    counts = []
    for score_thr, overlap_thr, stuff_area in settings:
        thresholds = score_thr, overlap_thr
        if thresholds not in pasted:
            things, kept = paste_instances(masks, boxes, scores, labels,
                                           *thresholds, space.void,
                                           nms_iou_thr)
            areas = torch.bincount(stuff[semantic[things == space.void]])
            pasted[thresholds] = things, kept.numpy().tobytes(), areas.numpy()
        things, kept, areas = pasted[thresholds]
        key = kept, (areas < stuff_area).tobytes()
        if key not in known:
            panoptic = fill_stuff(things.clone(), semantic, stuff, stuff_area,
                                  space.void)
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
        score_thrs, overlap_thrs (Sequence[float]), stuff_areas
            (Sequence[int]): Thresholds of the merge.
        num_workers (int, optional): By default one per core, at most 8.
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
    space, predict_things, thresholds, paths = read_index(folder)
    own = [tuple(thresholds[key] for key in KEYS)] if thresholds else []
    settings = [*product(score_thrs, overlap_thrs, stuff_areas), *own]
    count = partial(
        image_counts,
        settings=settings,
        space=space,
        predict_things=predict_things,
        nms_iou_thr=thresholds.get('nms_iou_thr'))
    # in order: the same bits with any number of processes
    results = run_jobs(count, paths, num_workers, in_order=True)
    total = np.zeros((len(settings), space.num_classes, 4))
    for counts in track_iter_progress((results, len(paths))):
        total += counts
    rows = [
        dict(
            zip(KEYS, setting),
            **group_quality(class_quality(counts), space.num_things))
        for setting, counts in zip(settings, total)
    ]
    start = rows.pop() if own else None
    # NaN, where there is nothing to judge, last
    rows.sort(key=lambda row: -np.nan_to_num(row[metric], nan=-1.))
    return rows, start


def format_sweep(rows: Sequence[Dict], start: Optional[Dict]) -> str:
    """Text table of settings; the config's own as the last line."""
    heads = (*KEYS, 'PQ', 'PQ_th', 'PQ_st')
    cells = [[row[head] for head in heads] for row in rows]
    if start:
        cells.append([*(start[head] for head in heads), '<- config'])
    return tabulate(
        cells, [*heads, ''], floatfmt=('g', 'g', 'g', '.2f', '.2f', '.2f'))


def draw_sweep(rows: Sequence[Dict], metric: str = 'PQ') -> np.ndarray:
    """One heat map of ``metric`` (percent) over score and overlap threshold
    for each stuff area: RGB uint8 (h, w, 3)."""
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
    return img_from_canvas(FigureCanvasAgg(figure))
