"""Parts of a model as ONNX graphs of standard operators.

Their inputs and outputs are described in ``panoptic_onnx/session.py``. mmcv's
RoIAlign is an operator of its own in ONNX; the standard's RoiAlign computes
the same and is put before the heads here. Boxes come in pixels of a level, so
one graph serves all levels.

Graphs are traced, not made by ``torch.onnx.export(dynamo=True)``: with torch
2.13.0 that cannot export RoIAlign (the number of samples depends on the boxes)
and freezes the sizes of mmseg's ``Upsample``, too; with both replaced as below
it gives the same numbers in 21 s instead of 1 s for the tiny model, and asks
for onnxscript and opset 18.
"""
import copy
import warnings
from pathlib import Path
from typing import Dict, List, Sequence

import onnx
import torch
from mmcv.ops import RoIAlign
from mmseg.models.utils import Upsample
from onnx import TensorProto, helper
from torch import Tensor, nn

from mmengine_exact.errors import InputError


class Trunk(nn.Module):
    """Backbone, FPN, RPN's and the semantic branch's convolutions: an image
    (1, 3, H, W) to the outputs ``names``."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        self.names: List[str] = []
        if model.with_roi_head:
            self.num_levels = model.roi_head.bbox_roi_extractor.num_inputs
            rpn_levels = range(model.rpn_head.prior_generator.num_levels)
            self.names += [f'feature{i}' for i in range(self.num_levels)]
            self.names += [f'rpn_score{i}' for i in rpn_levels]
            self.names += [f'rpn_delta{i}' for i in rpn_levels]
        if model.with_semantic_head:
            self.names.append('semantic')

    def forward(self, image: Tensor) -> tuple:
        model, outputs = self.model, []
        feats = model.extract_feat(image)
        if model.with_roi_head:
            regions = model.branch_features(feats, 'instance')
            scores, deltas = model.rpn_head(regions)
            outputs += regions[:self.num_levels]
            outputs += [score.sigmoid() for score in scores]
            outputs += deltas
        if model.with_semantic_head:
            head = model.semantic_head
            logits = head(model.branch_features(feats, 'semantic'))
            if head.log_prior is not None:
                logits = logits - head.log_prior[:, None, None]
            outputs.append(logits)
        return tuple(outputs)


class RegionHead(nn.Module):
    """RoI features (n, C, P, P) to the outputs ``names``: probabilities and
    deltas of the box head, or probabilities of the mask head."""

    def __init__(self, head: nn.Module, *names: str) -> None:
        super().__init__()
        self.head, self.names = head, names

    def forward(self, bins: Tensor) -> tuple:
        if len(self.names) == 1:
            return (self.head(bins).sigmoid(), )
        scores, deltas = self.head(bins)
        return scores.softmax(-1), deltas


def _of_any_size(trunk: Trunk) -> Trunk:
    """A copy whose trace is not bound to the size of the example.

    mmseg's ``Upsample`` turns sizes into Python's integers, which a trace
    keeps; torch's has factors.
    """
    trunk = copy.deepcopy(trunk)
    # the only memory format of ONNX
    trunk.model.set_memory_format(torch.contiguous_format)
    for module in list(trunk.modules()):
        for name, child in module.named_children():
            if isinstance(child, Upsample) and not child.size:
                setattr(
                    module, name,
                    nn.Upsample(
                        scale_factor=child.scale_factor,
                        mode=child.mode,
                        align_corners=child.align_corners))
    return trunk


def export_trunk(trunk: Trunk, path: Path, divisor: int, opset: int) -> None:
    """Write the trunk's graph, for images of any size that ``divisor``
    divides."""
    size = 4 * divisor
    names = trunk.names
    axes = {name: {2: f'{name}_h', 3: f'{name}_w'} for name in names}
    axes['image'] = {2: 'height', 3: 'width'}
    _export(
        _of_any_size(trunk), torch.zeros(1, 3, size, size + divisor), path,
        'image', names, axes, opset)


def export_head(head: nn.Module, layer: RoIAlign, channels: int, path: Path,
                opset: int) -> None:
    """Write the graph of a head with RoIAlign before it, of the settings of
    ``layer``, for FPN levels of ``channels``."""
    axes = {name: {0: 'n'} for name in ('bins', *head.names)}
    _export(head, torch.zeros(2, channels, *layer.output_size), path, 'bins',
            head.names, axes, opset)
    graph = onnx.load(str(path))
    _put_roi_align_first(graph, layer, channels)
    onnx.checker.check_model(graph)
    onnx.save(graph, str(path))


def _put_roi_align_first(model: 'onnx.ModelProto', layer: RoIAlign,
                         channels: int) -> None:
    """Inputs ``feature`` (1, C, h, w) and ``boxes`` (n, 4), in pixels of the
    feature, instead of ``bins``."""
    nodes = [
        # the image of each box: there is one
        helper.make_node('Shape', ['boxes'], ['number'], start=0, end=1),
        helper.make_node(
            'ConstantOfShape', ['number'], ['images'],
            value=helper.make_tensor('zero', TensorProto.INT64, [1], [0])),
        helper.make_node(
            'RoiAlign', ['feature', 'boxes', 'images'], ['bins'],
            mode='avg',
            output_height=layer.output_size[0],
            output_width=layer.output_size[1],
            sampling_ratio=layer.sampling_ratio,
            spatial_scale=1.0,
            coordinate_transformation_mode='half_pixel'
            if layer.aligned else 'output_half_pixel')
    ]
    graph = model.graph
    nodes += graph.node
    del graph.node[:]
    graph.node.extend(nodes)
    del graph.input[:]
    graph.input.extend([
        helper.make_tensor_value_info('feature', TensorProto.FLOAT,
                                      [1, channels, 'h', 'w']),
        helper.make_tensor_value_info('boxes', TensorProto.FLOAT, ['n', 4])
    ])


def _export(module: nn.Module, example: Tensor, path: Path, input_name: str,
            outputs: Sequence[str], axes: Dict[str, dict], opset: int) -> None:
    """Trace a module and write its graph.

    Raises:
        InputError: It has operators outside the ONNX standard.
    """
    fault = None
    try:
        with warnings.catch_warnings(), torch.no_grad():
            # the exporter warns about itself and about mmdet's assertions
            warnings.simplefilter('ignore')
            torch.onnx.export(
                module.eval(), (example, ),
                str(path),
                input_names=[input_name],
                output_names=list(outputs),
                dynamic_axes=axes,
                opset_version=opset,
                dynamo=False)
        nodes = onnx.load(str(path), load_external_data=False).graph.node
        foreign = sorted({
            f'{node.domain}::{node.op_type}'
            for node in nodes if node.domain not in ('', 'ai.onnx')
        })
        if foreign:
            fault = f'onnxruntime does not have {foreign}.'
    except (torch.onnx.errors.OnnxExporterError, RuntimeError) as error:
        fault = str(error).strip().split('\n')[0]
    if fault:
        raise InputError(
            f'{type(module).__name__} of this model cannot be written as '
            f'ONNX {opset}: {fault} Give another --opset, or a model of '
            'standard operators.')
