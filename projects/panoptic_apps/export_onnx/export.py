"""A trained model to a folder of ONNX graphs and ``model.json``.

The graphs are compared with the model at sizes that they were not traced at
before the folder appears: a size that tracing froze is an error here, not a
wrong result on a device.
"""
import os
import shutil
from dataclasses import asdict
from pathlib import Path
from secrets import token_hex
from typing import Any, Dict, Iterator, List, Optional, Tuple

import msgspec
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
from panoptic_fpn.labels import channel_labels
from panoptic_fpn.models import TwoStagePanopticFPN
from panoptic_onnx.model_file import NAME, ModelFile, sha256

from .graphs import RegionHead, Trunk, export_head, export_trunk

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
        model (nn.Module): From ``init_model``, on a CPU.
        out_dir (str): Folder that does not exist or is empty. It appears
            complete or not at all.
        opset (int): Version of ONNX's operators, 16 or more.
        checkpoint (str, optional): What is recorded as the source.

    Raises:
        InputError: The folder is in use, the model has parts that are not
            exported, or a graph does not compute what the model does.
    """
    out = Path(out_dir)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise InputError(f'{out}: exists and is not empty. Give another '
                         'folder, or remove it.')
    for key, found, supported in _find_unsupported(model):
        if not isinstance(found, (str, float, dict, list)):
            found = type(found).__name__
        raise InputError(f'{key}={found!r} is not exported to ONNX; '
                         f'{supported} is.')
    partial = out.absolute().with_name(f'.{out.name}{token_hex(4)}')
    partial.mkdir(parents=True)
    try:
        graphs = _write_graphs(model, partial, opset)
        description = describe_model(model, checkpoint, graphs)
        content = msgspec.json.encode(description, enc_hook=str)
        (partial / NAME).write_bytes(msgspec.json.format(content, indent=1))
        os.replace(partial, out)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return out


def _find_unsupported(model: nn.Module) -> Iterator[Tuple[str, Any, str]]:
    """Key, value and supported alternative of parts that are not exported."""
    if type(model) is not TwoStagePanopticFPN:
        yield 'model.type', model, 'TwoStagePanopticFPN'
        return
    transforms = _test_transforms(model)
    if len(transforms) != 1 or not _is_plain_resize(**transforms[0]):
        yield ('test_pipeline', transforms,
               'one bilinear Resize or PanopticResize to a scale')
    processor = model.cfg.model.data_preprocessor.type
    if processor not in ('PanopticDataPreprocessor', 'DetDataPreprocessor'):
        yield ('model.data_preprocessor.type', processor,
               'PanopticDataPreprocessor')
    if model.with_semantic_head and model.semantic_head.align_corners:
        yield 'model.semantic_head.align_corners', 'True', 'False'
    if model.with_roi_head:
        yield from _find_unsupported_regions(model)


def _is_plain_resize(type: str,
                     scale: Any = None,
                     interpolation: str = 'bilinear',
                     **others: Any) -> bool:
    return (type in ('Resize', 'PanopticResize') and bool(scale)
            and interpolation == 'bilinear'
            and not set(others) - {'keep_ratio', 'backend'})


def _find_unsupported_regions(
        model: nn.Module) -> Iterator[Tuple[str, Any, str]]:
    rpn, roi_head = model.rpn_head, model.roi_head
    if type(roi_head) is not StandardRoIHead or roi_head.with_shared_head:
        yield 'model.roi_head', roi_head, 'StandardRoIHead'
        return
    if not isinstance(rpn.prior_generator, AnchorGenerator):
        yield ('model.rpn_head.anchor_generator', rpn.prior_generator,
               'AnchorGenerator')
    if not rpn.use_sigmoid_cls:
        yield 'model.rpn_head.loss_cls', 'softmax', 'use_sigmoid'
    box, mask, cfg = roi_head.bbox_head, roi_head.mask_head, roi_head.test_cfg
    if box.custom_cls_channels or not (box.with_cls and box.with_reg):
        yield ('model.roi_head.bbox_head', box,
               'a head with softmax scores and boxes')
    if not isinstance(mask, FCNMaskHead):
        yield 'model.roi_head.mask_head', mask, 'FCNMaskHead'
    for name, nms, also in (('rpn', model.test_cfg.rpn.nms, set()),
                            ('rcnn', cfg.nms, {'class_agnostic'})):
        if (nms.get('type', 'nms') != 'nms'
                or set(nms) - {'type', 'iou_threshold'} - also):
            yield (f'model.test_cfg.{name}.nms', dict(nms),
                   "dict(type='nms', iou_threshold=X)")
    for name, head in (('rpn_head', rpn), ('roi_head.bbox_head', box)):
        coder = head.bbox_coder
        if (type(coder) is not DeltaXYWHBBoxCoder or not coder.clip_border
                or coder.add_ctr_clamp):
            yield (f'model.{name}.bbox_coder', coder,
                   'DeltaXYWHBBoxCoder with its defaults')
    for name in ('bbox_roi_extractor', 'mask_roi_extractor'):
        extractor = getattr(roi_head, name)
        if not hasattr(extractor, 'finest_scale') or not all(
                isinstance(layer, RoIAlign) and layer.pool_mode == 'avg'
                for layer in extractor.roi_layers):
            yield (f'model.roi_head.{name}', extractor,
                   'SingleRoIExtractor of RoIAlign (average)')


def _test_transforms(model: nn.Module) -> List[dict]:
    """Transforms of the test pipeline that act on images."""
    return [
        dict(one) for one in get_test_pipeline_cfg(model.cfg)[1:]
        if one['type'] not in _IGNORED
    ]


def describe_model(model: nn.Module, checkpoint: Optional[str],
                   graphs: Dict[str, dict]) -> ModelFile:
    """The content of ``model.json``."""
    parts: dict = dict(rpn=None, boxes=None, masks=None, semantic=None)
    if model.with_roi_head:
        parts.update(_region_parts(model))
    if model.with_semantic_head:
        head = model.semantic_head
        labels = channel_labels(head.num_things_classes,
                                head.num_stuff_classes, head.predict_things)
        parts['semantic'] = dict(channel_labels=labels.tolist())
    config = model.cfg.filename
    content = dict(
        format='panoptic-fpn-onnx',
        version=1,
        classes=[
            dict(
                asdict(one),
                isthing=int(one.isthing),
                color=[int(value) for value in one.color])
            for one in model.label_space.categories
        ],
        graphs=graphs,
        preprocessing=_preprocessing(model),
        panoptic=dict(model.panoptic_fusion_head.thresholds),
        **parts,
        source=dict(
            config=config and Path(config).name,
            checkpoint=checkpoint and Path(checkpoint).name,
            sha256=checkpoint and fingerprint(checkpoint),
            revision=revision(),
            versions=versions()))
    return msgspec.convert(content, ModelFile)


def _preprocessing(model: nn.Module) -> dict:
    """The test pipeline and the data preprocessor."""
    resize, = _test_transforms(model)
    processor = model.cfg.model.data_preprocessor
    return dict(
        scale=list(resize['scale']),
        keep_ratio=bool(resize.get('keep_ratio', False)),
        mean=list(processor.get('mean') or [0] * 3),
        std=list(processor.get('std') or [1] * 3),
        to_rgb=bool(
            processor.get('bgr_to_rgb') or processor.get('rgb_to_bgr')),
        divisor=processor.get('pad_size_divisor', 1),
        pad_value=processor.get('pad_value', 0))


def _region_parts(model: nn.Module) -> Dict[str, dict]:
    rpn, roi_head = model.rpn_head, model.roi_head
    cfg, thresholds = model.test_cfg.rpn, roi_head.test_cfg
    return dict(
        rpn=dict(
            anchors=[
                base.tolist() for base in rpn.prior_generator.base_anchors
            ],
            strides=list(rpn.prior_generator.strides),
            nms_pre=cfg.get('nms_pre', -1),
            max_per_img=cfg.max_per_img,
            min_bbox_size=cfg.get('min_bbox_size', -1),
            iou_thr=cfg.nms['iou_threshold'],
            means=rpn.bbox_coder.means,
            stds=rpn.bbox_coder.stds),
        boxes=dict(
            class_agnostic=roi_head.bbox_head.reg_class_agnostic,
            score_thr=thresholds.score_thr,
            iou_thr=thresholds.nms['iou_threshold'],
            joint_nms=bool(thresholds.nms.get('class_agnostic')),
            max_per_img=thresholds.max_per_img,
            means=roi_head.bbox_head.bbox_coder.means,
            stds=roi_head.bbox_head.bbox_coder.stds,
            **_levels(roi_head.bbox_roi_extractor)),
        masks=dict(
            class_agnostic=roi_head.mask_head.class_agnostic,
            threshold=thresholds.mask_thr_binary,
            **_levels(roi_head.mask_roi_extractor)))


def _levels(extractor: nn.Module) -> dict:
    return dict(
        strides=list(extractor.featmap_strides),
        finest_scale=extractor.finest_scale)


@torch.no_grad()
def _write_graphs(model: nn.Module, folder: Path,
                  opset: int) -> Dict[str, dict]:
    """Export and verify each graph; their files and digests by name."""
    trunk = Trunk(model).eval()
    divisor = model.cfg.model.data_preprocessor.get('pad_size_divisor', 1)
    export_trunk(trunk, folder / 'trunk.onnx', divisor, opset)
    for height, width in VERIFIED_SIZES:
        image = torch.randn(1, 3, height * divisor, width * divisor)
        feats = trunk(image)
        _verify(folder / 'trunk.onnx', dict(image=image), feats)
    if model.with_roi_head:
        roi = model.roi_head
        _write_head(folder / 'boxes.onnx', opset, roi.bbox_roi_extractor,
                    RegionHead(roi.bbox_head, 'scores', 'deltas'), feats)
        _write_head(folder / 'masks.onnx', opset, roi.mask_roi_extractor,
                    RegionHead(roi.mask_head, 'probabilities'), feats)
    return {
        path.stem: dict(file=path.name, sha256=sha256(path))
        for path in sorted(folder.glob('*.onnx'))
    }


def _write_head(path: Path, opset: int, extractor: nn.Module, head: RegionHead,
                feats: tuple) -> None:
    """Export a head and compare it on boxes of several sizes, also across the
    border."""
    layer = extractor.roi_layers[0]
    export_head(head, layer, feats[0].shape[1], path, opset)
    boxes = torch.tensor([[-8., 3, 21, 40], [5, -2, 6.5, 300], [9, 9, 90, 70],
                          [40, 60, 200, 190], [30.3, 2.7, 30.3, 9]])
    for level, stride in enumerate(extractor.featmap_strides):
        rois = torch.cat([boxes.new_zeros(len(boxes), 1), boxes], dim=1)
        bins = extractor.roi_layers[level](feats[level], rois)
        _verify(path, dict(feature=feats[level], boxes=boxes / stride),
                head.eval()(bins))


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
