"""Panoptic FPN of Detectron2's and of mmdet's model zoo, and back.

Our side is compared with a model, and a result that does not fill it exactly
is not written.
"""
import re
from collections import Counter
from typing import Any, Dict, List, Mapping, Tuple

from torch import Tensor

from mmengine_exact.match import MatchReport

from .conversion import (Conversion, convert_weights, read_weights,
                         write_weights)
from .layouts import Layout, coco_label_space

#: Shapes of a model's weights.
Shapes = Mapping[str, Tuple[int, ...]]

#: Settings of our semantic head that the zoos' models do not have.
_PLAIN_HEAD = dict(predict_things=False, aggregation='sum', convs_per_stage=1)
_BLOCK = re.compile(r'backbone\.layer(\d+)\.(\d+)\.')


def convert_zoo_weights(weights: Mapping[str, Tensor],
                        layout: Layout,
                        to: str,
                        shapes: Shapes,
                        source: str = 'the checkpoint') -> Conversion:
    """Same as :func:`convert_weights`, and our side is compared with the
    shapes of our model's ``state_dict``."""
    result = convert_weights(weights, layout, to, source)
    ours = {
        key: tuple(value.shape)
        for key, value in (
            result.weights if to == 'ours' else weights).items()
    }
    result.report = _compare(ours, shapes)
    here, there = _blocks(ours), _blocks(shapes)
    if here != there:
        result.advice.append(
            f'Its backbone has {here} blocks, that of the model {there}: set '
            'model.backbone.depth.')
    return result


def _compare(weights: Shapes, shapes: Shapes) -> MatchReport:
    """Compare weights in our names with those of a model; counters of
    training steps may be missing."""
    weights, shapes = ({
        key: shape
        for key, shape in side.items()
        if not key.endswith('num_batches_tracked')
    } for side in (weights, shapes))
    return MatchReport(
        missing=[key for key in shapes if key not in weights],
        mismatched={
            key: (weights[key], shape)
            for key, shape in shapes.items()
            if weights.get(key, shape) != shape
        },
        unexpected=[key for key in weights if key not in shapes])


def _blocks(keys: Any) -> List[int]:
    """Number of residual blocks of each stage."""
    blocks = {match.groups() for match in map(_BLOCK.match, keys) if match}
    counts = Counter(stage for stage, _ in blocks)
    return [counts[stage] for stage in sorted(counts)]


def network_faults(model: Mapping, layout: Layout) -> List[str]:
    """Settings of a config's ``model`` that make it compute something other
    than the zoo's models, although all shapes agree."""
    head = model.get('semantic_head') or {}
    faults = [
        f'model.semantic_head.{name}={head[name]!r}: the zoo has {value!r}'
        for name, value in _PLAIN_HEAD.items()
        if head.get(name, value) != value
    ]
    anchors = (model.get('rpn_head') or {}).get('anchor_generator') or {}
    if (layout.name == 'detectron2' and len(anchors.get('scales', [8])) > 1
            and anchors.get('scale_major', True)):
        faults.append(
            'model.rpn_head.anchor_generator has several scales, and the zoo '
            'has the ratios of a size together: scale_major=False')
    return faults


def differing_settings(model: Mapping, layout: Layout) -> List[str]:
    """Sentences on settings of ``model`` of a config that differ from the
    zoo's models and do not show in a checkpoint."""
    notes = []
    for key, wanted in layout.settings.items():
        value: Any = model
        for name in key.split('.'):
            value = value.get(name) if isinstance(value, Mapping) else None
        if value != wanted:
            notes.append(f'model.{key} is {value!r}; the weights of '
                         f'{layout.name} were published with {wanted!r}.')
    return notes


def _meta(stored: Dict, model: Mapping, to: str) -> Dict:
    """``meta`` of the written file: names of the classes, where known."""
    coco = coco_label_space()
    head = model.get('panoptic_fusion_head') or {}
    counts = (head.get('num_things_classes'), head.get('num_stuff_classes'))
    classes = stored.get('dataset_meta') or {}
    unnamed = (
        to == 'ours' and not classes
        and counts == (coco.num_things, coco.num_stuff))
    # mmdet names COCO's classes without their ids
    if unnamed or tuple(classes.get('classes', ())) == coco.names:
        classes = coco.metainfo()
    return dict(dataset_meta=classes) if classes else {}


def convert_zoo_file(path: str, layout: Layout, to: str, model: Mapping,
                     shapes: Shapes) -> Conversion:
    """Read and convert a checkpoint; :func:`write_conversion` writes it.

    Args:
        path, layout, to: See :func:`read_weights`, :func:`convert_weights`.
        model (Mapping): ``model`` of the config.
        shapes (Mapping[str, tuple]): Shapes of the weights of that model.
    """
    weights, stored = read_weights(path)
    result = convert_zoo_weights(weights, layout, to, shapes, path)
    result.faults = network_faults(model, layout)
    result.meta = _meta(stored, model, to)
    return result


def write_conversion(result: Conversion, out_path: str,
                     layout: Layout) -> None:
    """Write converted weights, if they fit the model, as the side that loads
    them reads them."""
    result.require_fit()
    detectron2 = result.to == 'theirs' and layout.name == 'detectron2'
    write_weights(out_path, result.weights, result.meta, result.source,
                  'model' if detectron2 else 'state_dict')
