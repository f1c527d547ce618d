"""How Detectron2, mmdet and mmseg name and order the weights.

Detectron2's model zoo, compared with this project:

backbone   The same blocks; ``res2`` is ``layer1``. ``FrozenBatchNorm2d`` is
           batch norm with eps 1e-5 in the variance, as ours: the four
           tensors are copied. The stride is in the first 1x1 (``caffe``).
FPN        Nearest upsampling, P6 is P5 subsampled; the same.
RPN        Anchor a has delta channels 4a..4a+3 (dx, dy, dw, dh); ratios are
           h / w, one size per level. With several sizes Detectron2 has all
           ratios of a size together, mmdet with ``scale_major=False``.
box head   Features are flattened (C, h, w); background is the last class;
           deltas by class, divided by (10, 10, 5, 5) = stds .1 and .2.
mask head  Transposed convolution, ReLU, 1x1; the same.
semantic   Stages of 3x3, group norm, ReLU and 2x on each level, p2 without
           upsampling; the same. Channel 0 is 'things', here it is the last.
classes    Both sort things and stuff by category id.

mmdet's own differs in the semantic head's names alone: its things are the
last channel, too. mmseg's Semantic FPN (``EncoderDecoder`` with this project's
``SemanticFPNHead`` or mmseg's ``FPNHead``) has the classes in the order of its
data set, on Cityscapes by train id.
"""
from dataclasses import dataclass, field
from typing import Any, Callable, Dict, Mapping, Optional, Tuple

import numpy as np
import torch
from mmdet.datasets import CocoPanopticDataset
from torch import Tensor

from mmengine_exact.errors import CheckpointError
from panoptic_fpn import cityscapes
from panoptic_fpn.labels import LabelSpace

from .name_tables import NameTable

#: The classifier of the semantic branch, in our names.
CLASSIFIER = ('semantic_head.conv_seg.weight', 'semantic_head.conv_seg.bias')


def _conv_module(theirs: str, ours: str) -> Tuple[Tuple[str, str], ...]:
    """Rows of a convolution and its normalization, mmcv's ``ConvModule``."""
    return ((f'{theirs}.{{leaf}}', f'{ours}.conv.{{leaf}}'),
            (f'{theirs}.norm.{{leaf}}', f'{ours}.{{norm}}.{{leaf}}'))


_DETECTRON2 = NameTable((
    ('backbone.bottom_up.stem.conv1.weight', 'backbone.conv1.weight'),
    ('backbone.bottom_up.stem.conv1.norm.{leaf}', 'backbone.{norm}1.{leaf}'),
    ('backbone.bottom_up.res{i+1}.{j}.conv{k}.weight',
     'backbone.layer{i}.{j}.conv{k}.weight'),
    ('backbone.bottom_up.res{i+1}.{j}.conv{k}.norm.{leaf}',
     'backbone.layer{i}.{j}.{norm}{k}.{leaf}'),
    ('backbone.bottom_up.res{i+1}.{j}.shortcut.weight',
     'backbone.layer{i}.{j}.downsample.0.weight'),
    ('backbone.bottom_up.res{i+1}.{j}.shortcut.norm.{leaf}',
     'backbone.layer{i}.{j}.downsample.1.{leaf}'),
    *_conv_module('backbone.fpn_lateral{i+2}', 'neck.lateral_convs.{i}'),
    *_conv_module('backbone.fpn_output{i+2}', 'neck.fpn_convs.{i}'),
    ('proposal_generator.rpn_head.conv.{leaf}', 'rpn_head.rpn_conv.{leaf}'),
    ('proposal_generator.rpn_head.objectness_logits.{leaf}',
     'rpn_head.rpn_cls.{leaf}'),
    ('proposal_generator.rpn_head.anchor_deltas.{leaf}',
     'rpn_head.rpn_reg.{leaf}'),
    *_conv_module('roi_heads.box_head.conv{i+1}',
                  'roi_head.bbox_head.shared_convs.{i}'),
    ('roi_heads.box_head.fc{i+1}.{leaf}',
     'roi_head.bbox_head.shared_fcs.{i}.{leaf}'),
    ('roi_heads.box_predictor.cls_score.{leaf}',
     'roi_head.bbox_head.fc_cls.{leaf}'),
    ('roi_heads.box_predictor.bbox_pred.{leaf}',
     'roi_head.bbox_head.fc_reg.{leaf}'),
    *_conv_module('roi_heads.mask_head.mask_fcn{i+1}',
                  'roi_head.mask_head.convs.{i}'),
    ('roi_heads.mask_head.deconv.{leaf}',
     'roi_head.mask_head.upsample.{leaf}'),
    ('roi_heads.mask_head.predictor.{leaf}',
     'roi_head.mask_head.conv_logits.{leaf}'),
    *_conv_module('sem_seg_head.p{i+2}.{j}',
                  'semantic_head.scale_heads.{i}.{j}'),
    ('sem_seg_head.predictor.{leaf}', 'semantic_head.conv_seg.{leaf}'),
))  # yapf: disable

_MMDET = NameTable((
    # our list of layers counts the upsampling after each convolution, too
    ('semantic_head.conv_upsample_layers.{i}.conv.{k}.conv.{leaf}',
     'semantic_head.scale_heads.{i}.{2k}.conv.{leaf}'),
    ('semantic_head.conv_upsample_layers.{i}.conv.{k}.{norm}.{leaf}',
     'semantic_head.scale_heads.{i}.{2k}.{norm}.{leaf}'),
    ('semantic_head.conv_logits.{leaf}', 'semantic_head.conv_seg.{leaf}'),
    ('backbone.{rest}', 'backbone.{rest}'),
    ('neck.{rest}', 'neck.{rest}'),
    ('rpn_head.{rest}', 'rpn_head.{rest}'),
    ('roi_head.{rest}', 'roi_head.{rest}'),
))  # yapf: disable

_MMSEG = NameTable((
    ('backbone.{rest}', 'backbone.{rest}'),
    ('neck.{rest}', 'neck.{rest}'),
    ('decode_head.scale_heads.{rest}', 'semantic_head.scale_heads.{rest}'),
    ('decode_head.conv_seg.{rest}', 'semantic_head.conv_seg.{rest}'),
))

#: Settings of both zoos.
_SHARED = {
    'roi_head.bbox_roi_extractor.roi_layer.sampling_ratio': 0,
    'roi_head.mask_roi_extractor.roi_layer.sampling_ratio': 0,
    'test_cfg.panoptic.overlap_thr': 0.5,
    'test_cfg.panoptic.stuff_area': 4096,
}


@dataclass(frozen=True)
class Layout:
    """Where and in which order a project keeps the weights."""

    name: str
    #: prefix of keys that no other layout has
    sign: str
    #: their names and ours
    table: NameTable
    #: patterns of keys that are not weights
    ignored: Tuple[str, ...] = ()
    #: from the number of channels K of the semantic classifier to int64 (K, ):
    #: ``theirs[order]`` is ours; None where both have the same order
    order: Optional[Callable[[int], np.ndarray]] = None
    #: values for keys of ``model`` that a checkpoint does not hold
    settings: Mapping[str, Any] = field(default_factory=dict)

    def reorder(self, weights: Dict[str, Tensor], to_ours: bool,
                source: str) -> None:
        """Bring the classifier's channels to the other order in a dict of our
        names; ``source`` is the file of the weights, for errors."""
        if self.order is None:
            return
        for key in CLASSIFIER:
            value = weights.get(key, torch.zeros(0))
            rows = len(value) if value.dim() else 0
            order = self.order(rows)
            if rows != len(order):
                raise CheckpointError(
                    f'Checkpoint {source}: {key} has {rows} rows, the data '
                    f'set {len(order)} classes. Give a head with one channel '
                    'for each class (predict_things=True, no channel for '
                    'background), or --classes same for another data set.')
            if rows:
                order = order if to_ours else np.argsort(order)
                weights[key] = value[torch.from_numpy(order)]


OURS = 'semantic_head.scale_heads.'

LAYOUTS: Dict[str, Layout] = {
    layout.name: layout
    for layout in (
        # on Cityscapes
        Layout(
            name='mmseg',
            sign='decode_head.scale_heads.',
            table=_MMSEG,
            order=lambda count: cityscapes.train_ids()),
        Layout(
            name='detectron2',
            sign='backbone.bottom_up.',
            table=_DETECTRON2,
            ignored=(
                # of no use; ``FrozenBatchNorm2d`` does not have them
                r'.*\.num_batches_tracked',
                # settings of the preprocessing
                'pixel_mean',
                'pixel_std',
                # derived from the settings of the anchors
                r'(proposal_generator\.)?anchor_generator\..*',
                r'.*cell_anchors.*',
            ),
            order=lambda count: np.roll(np.arange(count), -1),
            settings={
                'data_preprocessor.mean': [103.53, 116.28, 123.675],
                'data_preprocessor.std': [1.0, 1.0, 1.0],
                'data_preprocessor.bgr_to_rgb': False,
                'backbone.style': 'caffe',
                **_SHARED,
                'test_cfg.rcnn.score_thr': 0.05,
                'test_cfg.panoptic.score_thr': 0.5,
                'test_cfg.panoptic.nms_iou_thr': None,
            }),
        Layout(
            name='mmdet',
            sign='semantic_head.conv_upsample_layers.',
            table=_MMDET,
            settings={
                'data_preprocessor.mean': [123.675, 116.28, 103.53],
                'data_preprocessor.std': [58.395, 57.12, 57.375],
                'data_preprocessor.bgr_to_rgb': True,
                'backbone.style': 'pytorch',
                **_SHARED,
                'test_cfg.rcnn.score_thr': 0.6,
                'test_cfg.rcnn.nms.class_agnostic': True,
                'test_cfg.panoptic.score_thr': 0.6,
                'test_cfg.panoptic.nms_iou_thr': 0.5,
            }),
    )
}

#: Ids from 1 to 90 that COCO assigned and did not annotate.
_NO_THINGS = {12, 26, 29, 30, 45, 66, 68, 69, 71, 83}
_COCO_STUFF = (92, 93, 95, 100, 107, 109, 112, 118, 119, 122, 125, 128, 130,
               133, 138, 141, 144, 145, 147, 148, 149, 151, 154, 155, 156, 159,
               161, 166, 168, 171, 175, 176, 177, 178, 180, 181,
               *range(184, 201))


def coco_label_space() -> LabelSpace:
    """The 80 things and 53 stuff classes of COCO panoptic 2017, by category
    id, which files of the zoos do not name; names and colours are mmdet's."""
    meta = CocoPanopticDataset.METAINFO
    ids = [*sorted({*range(1, 91)} - _NO_THINGS), *_COCO_STUFF]
    return LabelSpace.from_coco([
        dict(id=id_, name=name, isthing=int(id_ <= 90), color=color)
        for id_, name, color in zip(ids, meta['classes'], meta['palette'])
    ], 'COCO panoptic 2017')
