"""Predictions of ``tools/test.py --out``, small enough for several processes.

In    data samples of any model
Out   a pickle, a list of dicts in the order of the data set: what mmdet's
      ``DumpDetResults`` writes and its tools read, without ground truth, with
      masks as run-length encodings (RLE)

An unpickler makes the dicts of compressed bytes: 3 % of the maps' size.
"""
import pickle
import zlib
from typing import Any, Callable, Dict, Sequence, Tuple

import numpy as np
import torch
from mmdet.registry import METRICS
from mmengine.evaluator import DumpResults
from mmengine.utils import apply_to
from torch import Tensor

from ..ops.to_host import encode_masks, to_plane
from .base import from_first_process, gather_rows

_TRUTH = ('gt_instances', 'ignored_instances', 'gt_panoptic_seg')
_MAPS = ('pred_panoptic_seg', 'pred_sem_seg')


class Call:
    """Stands in a pickle for what a function returns of some arguments."""

    def __init__(self, function: Callable, *args: Any) -> None:
        self.function, self.args = function, args

    def __reduce__(self) -> Tuple[Callable, Tuple]:
        return self.function, self.args


@METRICS.register_module()
class PredictionDump(DumpResults):
    """Writes predictions to a pickle file; no scores.

    The processes need no common directory, send their samples a part at a
    time, and keep them as compressed bytes.

    Args:
        out_file_path (str): File that ends with '.pkl' or '.pickle'.
    """

    def process(self, data_batch: Any, data_samples: Sequence[Dict]) -> None:
        """Keep the compressed predictions of each sample, and its place."""
        for sample in data_samples:
            sample = apply_to(compact(sample), torch.is_tensor, Tensor.cpu)
            content = zlib.compress(pickle.dumps(sample), 1)
            self.results.append((len(self.results), content))

    def evaluate(self, size: int) -> Dict:
        """Write the file of all ``size`` images, on the first process."""
        # in turn from each process, as its sampler dealt them
        rows = sorted(gather_rows(self.results), key=lambda row: row[0])
        self.results.clear()
        return from_first_process(lambda: self.compute_metrics([
            Call(pickle.loads, Call(zlib.decompress, content))
            for _, content in rows[:size]
        ]))


def compact(sample: Dict) -> Dict:
    """A data sample without ground truth, with masks as RLEs and maps
    (1, h, w) as int32; the sample itself is not changed."""
    kept = {key: value for key, value in sample.items() if key not in _TRUTH}
    found = kept.get('pred_instances') or {}
    if 'masks' in found:
        kept['pred_instances'] = dict(
            found, masks=encode_masks(found['masks']))
    for key in _MAPS:
        if 'sem_seg' in (kept.get(key) or {}):
            plane = to_plane(kept[key]['sem_seg']).astype(np.int32, copy=False)
            kept[key] = dict(kept[key], sem_seg=torch.from_numpy(plane)[None])
    return kept
