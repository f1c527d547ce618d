"""A trained model to a folder of ONNX graphs and ``model.json``.

The graphs are compared with the model at sizes that they were not traced at
before the folder appears: a size that tracing froze is an error here and no
wrong result on a device.
"""
import json
import os
import shutil
from pathlib import Path
from secrets import token_hex
from typing import Any, Optional

import numpy as np
import onnxruntime
import torch
from mmcv.ops import RoIAlign
from mmdet.models.roi_heads import StandardRoIHead
from mmdet.models.roi_heads.mask_heads import FCNMaskHead
from mmdet.models.task_modules import AnchorGenerator, DeltaXYWHBBoxCoder
from mmdet.utils import get_test_pipeline_cfg
from torch import nn

from mmengine_exact import fingerprint, revision, versions
from mmengine_exact.errors import InputError
from panoptic_fpn.labels import LabelSpace, channel_labels
from panoptic_fpn.models import TwoStagePanopticFPN
from panoptic_onnx.model_file import FORMAT, NAME, VERSION, sha256

from .graphs import (MIN_OPSET, BoxHead, MaskHead, Trunk, export_head,
                     export_trunk)

#: Largest difference of a graph's output from PyTorch's, relative to the
#: largest value: rounding of convolutions in another order stays far below.
TOLERANCE = 1e-3
#: (h, w) of images that graphs are compared on, in units of the padding; the
#: trace has 4 x 5.
VERIFIED_SIZES = ((9, 3), (6, 7))
#: Transforms of a test pipeline that act on annotations alone, or pack.
_IGNORED = ('LoadPanopticMap', 'DerivePanopticTargets', 'PackPanopticInputs',
            'LoadPanopticAnnotations', 'LoadAnnotations', 'PackDetInputs')


def export_model(model: nn.Module,
                 out_dir: str,
                 opset: int = 17,
                 checkpoint: Optional[str] = None) -> Path:
    """Write a model as ONNX.

    Args:
        model (nn.Module): From ``apis.init_model``, on a CPU.
        out_dir (str): Folder that does not exist or is empty. It appears
            complete or not at all.
        opset (int): Version of ONNX's operators, 16 or more.
        checkpoint (str, optional): What is written down as the source.

    Returns:
        Path: The folder.

    Raises:
        InputError: The folder is in use, the model has parts that are not
            exported, or a graph computes something else than the model.
    """
    out = Path(out_dir)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise InputError(f'{out}: exists and is not empty. Give another '
                         'folder, or remove it.')
    if opset < MIN_OPSET:
        raise InputError(f'opset {opset}: ONNX has RoiAlign as this model '
                         f'needs it from {MIN_OPSET} on.')
    description = describe_model(model, checkpoint)
    partial = out.absolute().with_name(f'.{out.name}{token_hex(4)}')
    partial.mkdir(parents=True)
    try:
        _write_graphs(model, description, partial, opset)
        (partial / NAME).write_text(
            json.dumps(description, indent=1, allow_nan=False))
        os.replace(partial, out)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return out


def describe_model(model: nn.Module, checkpoint: Optional[str] = None) -> dict:
    """``model.json`` without its graphs; see ``panoptic_onnx.model_file``.

    Raises:
        InputError: The model has parts that are not exported.
    """
    if type(model) is not TwoStagePanopticFPN:
        raise _unsupported(model, 'model.type', 'TwoStagePanopticFPN')
    parts = dict.fromkeys(('rpn', 'boxes', 'masks', 'semantic'))
    if model.with_roi_head:
        parts.update(
            rpn=_describe_rpn(model),
            boxes=_describe_boxes(model.roi_head),
            masks=_describe_masks(model.roi_head))
    if model.with_semantic_head:
        parts.update(semantic=_describe_semantic(model.semantic_head))
    config = model.cfg.filename
    return dict(
        format=FORMAT,
        version=VERSION,
        source=dict(
            config=config and Path(config).name,
            checkpoint=checkpoint and Path(checkpoint).name,
            sha256=checkpoint and fingerprint(checkpoint),
            revision=revision(),
            versions=versions()),
        classes=_describe_classes(model.label_space),
        preprocessing=_describe_preprocessing(model),
        panoptic=dict(model.panoptic_fusion_head.thresholds),
        graphs={},
        **parts)


def _unsupported(found: object, key: str, supported: str) -> InputError:
    if not isinstance(found, (str, dict, list)):
        found = type(found).__name__
    return InputError(f'{key}={found!r} is not exported to ONNX; '
                      f'{supported} is.')


def _describe_classes(space: LabelSpace) -> list:
    return [
        dict(
            id=one.id,
            name=one.name,
            isthing=int(one.isthing),
            color=[int(value) for value in one.color])
        for one in space.categories
    ]


def _describe_preprocessing(model: nn.Module) -> dict:
    """Of the test pipeline and the data preprocessor."""
    load, *rest = get_test_pipeline_cfg(model.cfg)
    sizes = []
    for transform in rest:
        if transform['type'] in ('PanopticResize', 'Resize'):
            sizes.append(transform)
        elif transform['type'] not in _IGNORED:
            raise _unsupported(transform['type'], 'test_pipeline',
                               'one Resize or PanopticResize')
    known = {'type', 'scale', 'keep_ratio', 'backend', 'interpolation'}
    if (len(sizes) != 1 or set(sizes[0]) - known or 'scale' not in sizes[0]
            or sizes[0].get('interpolation', 'bilinear') != 'bilinear'):
        raise _unsupported([dict(one) for one in sizes], 'test_pipeline',
                           'one bilinear Resize to a scale')
    processor = model.cfg.model.data_preprocessor
    if processor.type != 'DetDataPreprocessor':
        raise _unsupported(processor.type, 'model.data_preprocessor.type',
                           'DetDataPreprocessor')
    return dict(
        scale=[int(side) for side in sizes[0]['scale']],
        keep_ratio=bool(sizes[0].get('keep_ratio', False)),
        mean=[float(value) for value in processor.get('mean') or [0] * 3],
        std=[float(value) for value in processor.get('std') or [1] * 3],
        to_rgb=bool(
            processor.get('bgr_to_rgb') or processor.get('rgb_to_bgr')),
        divisor=int(processor.get('pad_size_divisor', 1)),
        pad_value=float(processor.get('pad_value', 0)))


def _describe_rpn(model: nn.Module) -> dict:
    head = model.rpn_head
    generator = head.prior_generator
    if not isinstance(generator, AnchorGenerator):
        raise _unsupported(generator, 'model.rpn_head.anchor_generator',
                           'AnchorGenerator')
    if not head.use_sigmoid_cls:
        raise _unsupported('softmax', 'model.rpn_head.loss_cls', 'use_sigmoid')
    cfg = model.test_cfg.rpn
    return dict(
        anchors=[base.tolist() for base in generator.base_anchors],
        strides=[list(stride) for stride in generator.strides],
        nms_pre=int(cfg.get('nms_pre', -1)),
        max_per_img=int(cfg.max_per_img),
        min_bbox_size=float(cfg.get('min_bbox_size', -1)),
        iou_thr=_iou_threshold(cfg.nms, 'model.test_cfg.rpn.nms'),
        **_describe_coder(head.bbox_coder, 'model.rpn_head.bbox_coder'))


def _iou_threshold(cfg: dict, key: str) -> float:
    """Of plain NMS."""
    if cfg.get('type', 'nms') != 'nms' or set(cfg) - {'type', 'iou_threshold'}:
        raise _unsupported(dict(cfg), key, "dict(type='nms', iou_threshold=X)")
    return float(cfg['iou_threshold'])


def _describe_coder(coder: Any, key: str) -> dict:
    if (type(coder) is not DeltaXYWHBBoxCoder or not coder.clip_border
            or coder.add_ctr_clamp):
        raise _unsupported(coder, key, 'DeltaXYWHBBoxCoder with its defaults')
    return dict(means=list(coder.means), stds=list(coder.stds))


def _describe_boxes(roi_head: nn.Module) -> dict:
    if type(roi_head) is not StandardRoIHead or roi_head.with_shared_head:
        raise _unsupported(roi_head, 'model.roi_head', 'StandardRoIHead')
    head, cfg = roi_head.bbox_head, roi_head.test_cfg
    if head.custom_cls_channels or not (head.with_cls and head.with_reg):
        raise _unsupported(head, 'model.roi_head.bbox_head',
                           'a head with softmax scores and boxes')
    return dict(
        class_agnostic=bool(head.reg_class_agnostic),
        score_thr=float(cfg.score_thr),
        iou_thr=_iou_threshold(cfg.nms, 'model.test_cfg.rcnn.nms'),
        max_per_img=int(cfg.max_per_img),
        **_describe_coder(head.bbox_coder, 'model.roi_head.bbox_head'),
        **_describe_extractor(roi_head.bbox_roi_extractor,
                              'model.roi_head.bbox_roi_extractor'))


def _describe_masks(roi_head: nn.Module) -> dict:
    head = roi_head.mask_head
    if not isinstance(head, FCNMaskHead):
        raise _unsupported(head, 'model.roi_head.mask_head', 'FCNMaskHead')
    threshold = float(roi_head.test_cfg.mask_thr_binary)
    if threshold < 0:
        raise _unsupported(
            str(threshold), 'model.test_cfg.rcnn.mask_thr_binary',
            'a threshold of 0 or more')
    return dict(
        class_agnostic=bool(head.class_agnostic),
        threshold=threshold,
        **_describe_extractor(roi_head.mask_roi_extractor,
                              'model.roi_head.mask_roi_extractor'))


def _describe_extractor(extractor: nn.Module, key: str) -> dict:
    layers = extractor.roi_layers
    if not hasattr(extractor, 'finest_scale') or not all(
            isinstance(layer, RoIAlign) and layer.pool_mode == 'avg'
            for layer in layers):
        raise _unsupported(extractor, key,
                           'SingleRoIExtractor of RoIAlign (average)')
    return dict(
        strides=list(extractor.featmap_strides),
        finest_scale=float(extractor.finest_scale))


def _describe_semantic(head: nn.Module) -> dict:
    if head.align_corners:
        raise _unsupported('True', 'model.semantic_head.align_corners',
                           'False')
    labels = channel_labels(head.num_things_classes, head.num_stuff_classes,
                            head.predict_things)
    return dict(channel_labels=labels.tolist())


@torch.no_grad()
def _write_graphs(model: nn.Module, description: dict, folder: Path,
                  opset: int) -> None:
    """Export and verify each graph, and enter it into the description."""
    roi_head = model.roi_head if model.with_roi_head else None
    num_levels = 0
    if roi_head is not None:
        num_levels = roi_head.bbox_roi_extractor.num_inputs
    trunk = Trunk(model, num_levels).eval()
    divisor = description['preprocessing']['divisor']
    export_trunk(trunk, folder / 'trunk.onnx', divisor, opset)
    for height, width in VERIFIED_SIZES:
        image = torch.randn(1, 3, height * divisor, width * divisor)
        expected = trunk(image)
        _verify(folder / 'trunk.onnx', dict(image=image), expected)
    if roi_head is not None:
        for name, head, extractor in (('boxes', BoxHead(roi_head.bbox_head),
                                       roi_head.bbox_roi_extractor),
                                      ('masks', MaskHead(roi_head.mask_head),
                                       roi_head.mask_roi_extractor)):
            path = folder / f'{name}.onnx'
            export_head(head, extractor.roi_layers[0], expected[0].shape[1],
                        path, opset)
            _verify_head(path, head, extractor, expected[:num_levels])
    for path in sorted(folder.glob('*.onnx')):
        description['graphs'][path.stem] = dict(
            file=path.name, sha256=sha256(path))


def _verify_head(path: Path, head: nn.Module, extractor: nn.Module,
                 feats: tuple) -> None:
    """Compare on boxes of several sizes, also across the border."""
    boxes = torch.tensor([[-8., 3, 21, 40], [5, -2, 6.5, 300], [9, 9, 90, 70],
                          [40, 60, 200, 190], [30.3, 2.7, 30.3, 9]])
    for level, stride in enumerate(extractor.featmap_strides):
        rois = torch.cat([boxes.new_zeros(len(boxes), 1), boxes], dim=1)
        bins = extractor.roi_layers[level](feats[level], rois)
        expected = head.eval()(bins)
        _verify(path, dict(feature=feats[level], boxes=boxes / stride),
                expected if isinstance(expected, tuple) else (expected, ))


def _verify(path: Path, inputs: dict, expected: tuple) -> None:
    session = onnxruntime.InferenceSession(
        str(path), providers=['CPUExecutionProvider'])
    found = session.run(None, {k: v.numpy() for k, v in inputs.items()})
    for output, ours, theirs in zip(session.get_outputs(), found, expected):
        theirs = theirs.numpy()
        same = ours.shape == theirs.shape
        limit = TOLERANCE * np.abs(theirs).max() if same else 0
        if not same or not np.abs(ours - theirs).max() <= limit:
            raise InputError(
                f'{path.stem}.onnx: {output.name} differs from PyTorch\'s on '
                f'an image of another size ({ours.shape} and {theirs.shape}). '
                'This model has layers that depend on the size it was traced '
                'at, or that ONNX computes otherwise.')
