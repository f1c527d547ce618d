"""Results of both branches for each image, before the merge, in files.

The merge's thresholds can then be swept without a model: one forward pass
serves all settings.

``FOLDER/index.json``   dict(metainfo, predict_things, thresholds, images);
                        it is there when all images are
``FOLDER/ID.npz``       one image, :class:`BranchFile`; ID with reserved
                        characters quoted, as in a URL
"""
import io
import json
import os
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, List, Optional
from urllib.parse import quote

import numpy as np
from mmdet.registry import METRICS
from mmengine.dist import broadcast_object_list
from mmengine.logging import print_log
from pycocotools import mask as mask_util

from mmengine_exact.errors import CorruptFileError, InputError
from mmengine_exact.files import read_bytes, write_bytes
from mmengine_exact.match import bare_model
from panoptic_fpn.metrics.base import PerImageMetric, Row, leaves_instances_out
from panoptic_fpn.ops.to_host import encode_masks, to_array, to_plane

INDEX_NAME = 'index.json'


@dataclass
class BranchFile:
    """One image; all maps are (h, w) at its original size.

    ``semantic``: channel of each pixel, None without a semantic branch.
    ``boxes`` (n, 4) as x1, y1, x2, y2 in pixels, ``scores`` (n, ), ``labels``
    (n, ), ``rles`` (n masks in COCO's encoding). ``truth``: codes
    ``label + 1000 * number``, with the codes of its segments and those of
    them that are crowd.
    """

    image_id: Any
    semantic: Optional[np.ndarray]
    boxes: np.ndarray
    scores: np.ndarray
    labels: np.ndarray
    rles: List[Dict]
    truth: np.ndarray
    codes: np.ndarray
    crowd_codes: np.ndarray

    def masks(self, chosen: np.ndarray) -> np.ndarray:
        """Bitmaps of some instances, bool (k, h, w)."""
        masks = [mask_util.decode(self.rles[i]) for i in chosen]
        return np.array(masks, bool).reshape(len(chosen), *self.truth.shape)

    def to_bytes(self) -> bytes:
        """Content of the file."""
        arrays = dict(vars(self))
        counts = [rle['counts'] for rle in arrays.pop('rles')]
        arrays.update(
            image_id=np.array(json.dumps(self.image_id)),
            counts=np.frombuffer(b''.join(counts), np.uint8),
            lengths=np.array([len(c) for c in counts], np.int64))
        semantic = arrays.pop('semantic')
        if semantic is not None:
            kind = np.min_scalar_type(int(semantic.max()))
            arrays['semantic'] = semantic.astype(kind)
        buffer = io.BytesIO()
        np.savez_compressed(buffer, **arrays)
        return buffer.getvalue()

    @classmethod
    def read(cls, path: str) -> 'BranchFile':
        """Read one file; CorruptFileError if it is missing, torn or of another
        kind."""
        content = read_bytes(path, 'branch file', None)
        try:
            with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
                found = {name: arrays[name] for name in arrays.files}
            size = list(found['truth'].shape)
            ends = np.cumsum(found.pop('lengths'))
            counts = np.split(found.pop('counts'), ends)[:len(ends)]
            rles = [dict(size=size, counts=part.tobytes()) for part in counts]
            image_id = json.loads(str(found.pop('image_id')))
            found.setdefault('semantic', None)
            return cls(image_id, rles=rles, **found)
        except (OSError, ValueError, KeyError, TypeError,
                zipfile.BadZipFile) as error:
            raise CorruptFileError(
                f'{path}: not a branch file ({error}). Remove its folder and '
                'write it again with tools/test.py --save-branches.') from None


@METRICS.register_module()
class PanopticBranchWriter(PerImageMetric):
    """Writes both branches' results and the ground truth; no scores.

    Args:
        folder (str): Folder to write to; several machines must share it.
        thresholds (dict, optional): The merge's in the config, which a sweep
            lists besides its own.
    """
    default_prefix = ''
    prediction = 'pred_panoptic_seg'

    def __init__(self,
                 folder: str,
                 thresholds: Optional[Dict] = None,
                 **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.folder = Path(folder)
        self.thresholds = dict(thresholds or {})

    def image_row(self, sample: Dict) -> Dict:
        """Write one image; return whether its branch predicts things."""
        truth, codes, crowd = self.ground_truth(sample)
        pred = sample.get('pred_instances')
        if pred is None:
            pred = dict(
                bboxes=np.zeros((0, 4), np.float32),
                scores=np.zeros(0, np.float32),
                labels=np.zeros(0, np.int64),
                masks=np.zeros((0, ) + truth.shape, bool))
        semantic = sample.get('pred_sem_seg')
        content = BranchFile(
            image_id=sample['img_id'],
            semantic=None
            if semantic is None else to_plane(semantic['sem_seg']),
            boxes=to_array(pred['bboxes']),
            scores=to_array(pred['scores']),
            labels=to_array(pred['labels']),
            rles=encode_masks(pred['masks']),
            truth=truth,
            codes=codes,
            crowd_codes=codes[crowd])
        name = quote(str(sample['img_id']), safe='') + '.npz'
        write_bytes(str(self.folder / name), content.to_bytes())
        things = semantic is not None and semantic.get('predict_things')
        return dict(predict_things=bool(things))

    def compute(self, rows: List[Row]) -> Dict[str, float]:
        """Write the index."""
        content = dict(
            metainfo=self.space.metainfo(),
            predict_things=rows[0][1]['predict_things'],
            thresholds=self.thresholds,
            images=len(rows))
        path = self.folder / INDEX_NAME
        write_bytes(str(path), json.dumps(content).encode())
        print_log(
            f'Both branches of {len(rows)} images are in {self.folder}.',
            logger='current')
        return {}


def save_branches(runner: Any, folder: str) -> None:
    """``tools/test.py --save-branches``: let the test of a runner with a
    ``TwoStagePanopticFPN`` write both branches to a folder, too.

    Raises:
        InputError: The model does not merge branches, or the folder holds
            files of another run.
    """
    model = bare_model(runner.model)
    head = getattr(model, 'panoptic_fusion_head', None)
    thresholds = getattr(head, 'thresholds', None)
    # all processes look before any of them writes
    stale = [any(Path(folder).glob('*.npz'))]
    broadcast_object_list(stale)
    fault = None
    if leaves_instances_out(model):
        fault = ('--save-branches with --panoptic-only: instances below the '
                 'threshold of the merge are missing, and a sweep would not '
                 'see that. Leave --panoptic-only out.')
    elif thresholds is None:
        fault = (f'{type(model).__name__} has no merge of branches whose '
                 'thresholds could be swept. Leave --save-branches out.')
    elif 0 < (least := _least_score(model)) >= thresholds['score_thr']:
        fault = ('--save-branches with model.test_cfg.rcnn.score_thr='
                 f'{least}: instances below it are missing, and a sweep would '
                 'not see that. Add --cfg-options '
                 'model.test_cfg.rcnn.score_thr=0.05.')
    elif stale[0]:
        fault = (f'{folder}: holds branch files of another run, finished or '
                 'not, which a sweep would count. Remove the folder or name '
                 'another.')
    if fault:
        raise InputError(fault)
    os.makedirs(folder, exist_ok=True)
    writer = PanopticBranchWriter(folder, thresholds)
    writer.dataset_meta = runner.test_evaluator.dataset_meta
    runner.test_evaluator.metrics.append(writer)


def _least_score(model: Any) -> float:
    """Score above which a model has instances."""
    network = getattr(model, 'instance_network', model)
    region = getattr(network, 'roi_head', None)
    return float(region.test_cfg.score_thr) if region else 0.
