"""Seconds of one image through Panoptic FPN with ResNet-50, all cores.

Example:
    python -m benchmarks.inference
    SAMPLE_PHOTOGRAPHS=/data/coco_sample python -m benchmarks.inference

From the batch that a loader gives to the predictions at the original size;
ours and mmdet's have the same weights (``models.py``) and take turns, each in
a process of its own, set up as its tools do. bfloat16 where the CPU has it.
"""
import copy
import sys
from typing import Callable, List

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment

from benchmarks import machine, models
from benchmarks.harness import Row, stage_main
from benchmarks.workers import in_turns
from mmengine_exact import half_precision
from mmengine_exact.allocator import keep_freed_memory

STAGE = 'R50 inference'
CASE = 'photograph at 800x1199'


def prepare(kind: str,
            seed: int,
            amp: bool,
            score_thr: float,
            keep: bool = False) -> Callable:
    """A function that predicts one image.

    Args:
        kind (str): 'ours' or 'theirs'.
        seed (int): Of image and weights.
        amp (bool): In bfloat16.
        score_thr (float): Least score of a detection.
        keep (bool): Whether theirs keeps freed memory, as ours always does.
    """
    if keep or kind == 'ours':
        keep_freed_memory()
    model = models.load(kind, seed)
    model.roi_head.test_cfg.score_thr = score_thr
    batch = models.photographs(seed, kind, 1)

    @torch.no_grad()
    def run() -> np.ndarray:
        data = copy.deepcopy(batch)
        if amp:
            with half_precision(torch.device('cpu')):
                sample = model.test_step(data)[0]
        else:
            sample = model.test_step(data)[0]
        return sample.pred_panoptic_seg.sem_seg[0].numpy().copy()

    return run


def measure(rounds: int, seed: int = 0) -> List[Row]:
    """Rows of float32, of bfloat16 where the CPU has it, and of the panoptic
    map alone."""
    models.load('ours', seed)
    cases = dict(
        ours=('ours', seed, False, 0.05),
        theirs=('theirs', seed, False, 0.05),
        alone=('ours', seed, False, 0.5),
        their_alone=('theirs', seed, False, 0.5),
        their_kept=('theirs', seed, False, 0.05, True))
    if machine.has_bfloat16():
        cases['bfloat16'] = ('ours', seed, True, 0.05)
    seconds, peaks, maps = in_turns(prepare, cases, rounds, warmup=2)

    def row(case: str, ours: str, theirs: str, **options) -> Row:
        return Row(
            STAGE,
            f'{CASE}, {case}',
            seconds[ours],
            seconds[theirs],
            ours_bytes=peaks[ours],
            theirs_bytes=peaks[theirs],
            **options)

    kept = 'ours keeps freed memory, as its tools do'
    rows = [
        row('float32',
            'ours',
            'theirs',
            ask=1.25,
            note='both give masks to scores above 0.05, for AP; mmdet merges '
            'all of these and returns the panoptic map alone, ours merges '
            'those above 0.5 and returns instances and semantic map, too; '
            f'{kept}'),
        row('float32, mmdet keeps memory, too',
            'ours',
            'their_kept',
            note='what our allocator.py would give to mmdet; else as above'),
        row('panoptic map alone',
            'alone',
            'their_alone',
            ask=1.25,
            note='both give masks to scores above 0.5, and merge these: '
            f'{_percent(maps["alone"], maps["their_alone"])} of the pixels '
            f'are of the same segment; {kept}')
    ]
    if 'bfloat16' in cases:
        same = (f'{_percent(maps["bfloat16"], maps["ours"])} of the pixels '
                'are of the same segment as in float32 (weights fitted to '
                'this image)')
        rows += [
            row('bfloat16',
                'bfloat16',
                'theirs',
                ask=1.8,
                note=f'mmdet in float32; {same}'),
            row('bfloat16',
                'bfloat16',
                'ours',
                ask=1.8,
                against='ours in float32',
                note=same)
        ]
    return rows


def same_pixels(first: np.ndarray, second: np.ndarray) -> float:
    """Share of pixels that are of the same segment in two panoptic maps.

    A segment is what its pixels are: numbers follow the order of scores, and
    differ where two close ones change places. So segments of the same label
    are paired, those that have most pixels in common.

    Args:
        first, second (np.ndarray): (h, w) of ``label + 1000 * number``.
    """
    codes, pixels = np.unique(
        np.stack([first.ravel(), second.ravel()]), axis=1, return_counts=True)
    rows, row = np.unique(codes[0], return_inverse=True)
    columns, column = np.unique(codes[1], return_inverse=True)
    common = np.zeros((len(rows), len(columns)))
    common[row, column] = pixels * (codes[0] % 1000 == codes[1] % 1000)
    pairs = linear_sum_assignment(common, maximize=True)
    return float(common[pairs].sum() / first.size)


def _percent(first: np.ndarray, second: np.ndarray) -> str:
    return f'{100 * same_pixels(first, second):.2f} %'


if __name__ == '__main__':
    sys.exit(stage_main(measure, __doc__))
