"""Panoptic FPN of Detectron2's and of mmdet's model zoo, and back.

Names are translated by the tables of ``layouts``; tensors stay as they are,
but for the order of the semantic classifier's channels. Our side is compared
with a model: a result that does not fill it, or has more, is not written.
"""
import re
from collections import Counter
from dataclasses import dataclass, field
from typing import Any, Dict, List, Mapping, Tuple

from torch import Tensor

from mmengine_exact.checkpoint import to_plain
from mmengine_exact.errors import CheckpointError
from mmengine_exact.match import MatchReport

from . import coco_classes
from .files import read_weights, require_output, source_record, write_weights
from .layouts import LAYOUTS, OURS, Layout

#: Shapes of a model's weights.
Shapes = Mapping[str, Tuple[int, ...]]

#: Settings of our semantic head that the zoos' models do not have.
_PLAIN_HEAD = dict(predict_things=False, aggregation='sum', convs_per_stage=1)
_BLOCK = re.compile(r'backbone\.layer(\d+)\.(\d+)\.')


@dataclass
class ZooConversion:
    """Converted weights and what to know about them.

    Attributes:
        weights (dict[str, Tensor]): In the names and order of the side that
            was asked for.
        source (str): The file they come from.
        converted (dict[str, int]): Number of tensors of each part of our
            model.
        ignored (list[str]): Keys of the file that are no weights.
        unmatched (list[str]): Keys of the file that the table does not know.
        nameless (list[str]): Keys of our model that have no counterpart on
            the side that was asked for.
        report (MatchReport): Our side beside the model.
        meta (dict): For the written file.
        advice (list[str]): What to set in the config.
    """

    weights: Dict[str, Tensor]
    source: str
    converted: Dict[str, int]
    ignored: List[str] = field(default_factory=list)
    unmatched: List[str] = field(default_factory=list)
    nameless: List[str] = field(default_factory=list)
    report: MatchReport = field(default_factory=MatchReport)
    meta: Dict = field(default_factory=dict)
    advice: List[str] = field(default_factory=list)

    def describe(self) -> str:
        """All that was done and not done, one line for each key."""
        lines = [
            f'{count:5d} tensors of the {part}'
            for part, count in self.converted.items()
        ]
        lines += [f'ignored: {key}' for key in self.ignored]
        lines += [f'not known, left out: {key}' for key in self.unmatched]
        lines += [f'without counterpart: {key}' for key in self.nameless]
        lines += [f'not in the file: {key}' for key in self.report.missing]
        lines += [f'not in the model: {key}' for key in self.report.unexpected]
        lines += [
            f'shape differs: {key} {tuple(file)} in the file, '
            f'{tuple(model)} in the model'
            for key, (file, model) in self.report.mismatched.items()
        ]
        return '\n'.join(lines)

    def require_fit(self) -> None:
        """The model takes the weights, all of them.

        Raises:
            CheckpointError: Names the file, the first keys of each kind and
                the setting to change where it is known.
        """
        text = self.report.describe(['mismatched', 'missing', 'unexpected'])
        if self.nameless and not text:
            raise CheckpointError(
                f'Checkpoint {self.source}: {len(self.nameless)} weights have '
                f'no counterpart there, such as {self.nameless[0]}. A model '
                'of this kind cannot be converted.')
        if text:
            fix = ' '.join(self.advice) or 'Give the config of this model.'
            raise CheckpointError(f'Checkpoint {self.source} does not fit the '
                                  f'model of --config: {text}. {fix}')


def convert_zoo_weights(weights: Mapping[str, Tensor],
                        layout: Layout,
                        to: str,
                        shapes: Shapes,
                        source: str = 'the checkpoint') -> ZooConversion:
    """Weights of one side for the other, compared with our model.

    Args:
        weights (Mapping[str, Tensor]): Of the other project, or with
            ``to='theirs'`` ours; not changed.
        layout (Layout): Of the other project.
        to (str): 'ours' or 'theirs'.
        shapes (Mapping[str, tuple]): Of our model's ``state_dict``.
        source (str): File of the weights, for errors.

    Raises:
        CheckpointError: The weights are of another layout.
    """
    to_ours = to == 'ours'
    _require_layout(weights, layout, to_ours, source)
    kept: List[str] = []
    ignored: List[str] = []
    for key in weights:
        (ignored if layout.is_ignored(key) else kept).append(key)
    names = (layout.table.to_ours if to_ours else layout.table.to_theirs)(kept)
    unmatched = [key for key in kept if names[key] is None]
    pairs = {key: name for key, name in names.items() if name is not None}
    # the classifier is reordered under our names
    ours = {(pairs[key] if to_ours else key): weights[key] for key in pairs}
    converted = Counter(key.split('.')[0] for key in ours)
    report = compare(ours if to_ours else weights, shapes)
    layout.reorder(ours, to_ours)
    result = ours if to_ours else {
        pairs[key]: value
        for key, value in ours.items()
    }
    return ZooConversion(
        result,
        source,
        dict(converted),
        ignored=ignored,
        unmatched=unmatched if to_ours else [],
        nameless=[] if to_ours else unmatched,
        report=report,
        advice=_depth_advice(ours, shapes))


def compare(weights: Mapping[str, Tensor], shapes: Shapes) -> MatchReport:
    """Names and shapes of weights beside those of a model.

    Args:
        weights (Mapping[str, Tensor]): In our names.
        shapes (Mapping[str, tuple]): Of the model's ``state_dict``.
    """
    report = MatchReport()
    for key, shape in shapes.items():
        if key not in weights:
            if not key.endswith('num_batches_tracked'):
                report.missing.append(key)
        elif tuple(weights[key].shape) != tuple(shape):
            report.mismatched[key] = (tuple(weights[key].shape), tuple(shape))
        else:
            report.loaded.append(key)
    report.unexpected = [
        key for key in weights
        if key not in shapes and not key.endswith('num_batches_tracked')
    ]
    return report


def _require_layout(weights: Mapping[str, Tensor], layout: Layout,
                    to_ours: bool, source: str) -> None:
    signs = {name: other.sign for name, other in LAYOUTS.items()}
    signs['ours'] = OURS
    found = [
        name for name, sign in signs.items() if any(
            key.startswith(sign) for key in weights)
    ]
    wanted = layout.name if to_ours else 'ours'
    if wanted in found:
        return
    if not found:
        raise CheckpointError(
            f'Checkpoint {source}: no {signs[wanted]}* among its keys '
            f'({next(iter(weights), "none")}, ...). Give a checkpoint of '
            'Panoptic FPN.')
    other = found[0]
    fix = f'Give {other} in the place of {layout.name}.'
    if other == 'ours':
        fix = 'Give --to theirs, or a file of the zoo.'
    elif not to_ours:
        fix = 'Leave --to theirs out.'
        if other != layout.name:
            fix = f'Bring it to ours first, with {other}.'
    raise CheckpointError(
        f'Checkpoint {source}: its keys are those of {other} '
        f'({signs[other]}*), not of {wanted} ({signs[wanted]}*). {fix}')


def _blocks(keys: Any) -> List[int]:
    """Number of residual blocks of each stage."""
    stages: Dict[int, set] = {}
    for match in filter(None, map(_BLOCK.match, keys)):
        stages.setdefault(int(match[1]), set()).add(int(match[2]))
    return [len(stages[stage]) for stage in sorted(stages)]


def _depth_advice(ours: Mapping[str, Tensor], shapes: Shapes) -> List[str]:
    here, there = _blocks(ours), _blocks(shapes)
    if here == there:
        return []
    return [
        f'Its backbone has {here} blocks, that of the model {there}: set '
        'model.backbone.depth.'
    ]


def require_same_network(model: Mapping, layout: Layout) -> None:
    """A model computes what the zoo's models do, where shapes do not tell.

    Args:
        model (Mapping): ``model`` of a config.
        layout (Layout): Of the zoo.

    Raises:
        CheckpointError: Names the setting and both values.
    """
    head = model.get('semantic_head') or {}
    for name, value in _PLAIN_HEAD.items():
        if head.get(name, value) != value:
            raise CheckpointError(
                f'model.semantic_head.{name}={head[name]!r}: the models of '
                f'{layout.name} have {value!r}, so the weights would mean '
                'something else. Give a config with that.')
    anchors = (model.get('rpn_head') or {}).get('anchor_generator') or {}
    if (layout.name == 'detectron2' and len(anchors.get('scales', [8])) > 1
            and anchors.get('scale_major', True)):
        raise CheckpointError(
            'model.rpn_head.anchor_generator has several scales: in '
            'detectron2 the ratios of a size stand together. Set '
            'scale_major=False.')


def differing_settings(model: Mapping, layout: Layout) -> List[str]:
    """Settings that a checkpoint does not tell and a config has otherwise.

    Args:
        model (Mapping): ``model`` of a config.
        layout (Layout): Of the zoo.

    Returns:
        list[str]: One sentence for each.
    """
    notes = []
    for key, wanted in layout.settings.items():
        value: Any = model
        for name in key.split('.'):
            value = value.get(name) if isinstance(value, Mapping) else None
        if value != wanted:
            notes.append(f'model.{key} is {value!r}; the weights of '
                         f'{layout.name} were published with {wanted!r}.')
    return notes


def _meta(path: str, stored: Dict, model: Mapping, to: str) -> Dict:
    """``meta`` of the written file: where it is from, names of the classes."""
    meta: Dict[str, Any] = source_record(path)
    classes = stored.get('dataset_meta') or _coco_classes(model, to)
    if classes:
        meta['dataset_meta'] = _with_category_ids(classes)
    return to_plain(meta)


def _coco_classes(model: Mapping, to: str) -> Dict:
    """Those that a file of a zoo means and does not name."""
    head = model.get('panoptic_fusion_head') or {}
    counts = (head.get('num_things_classes'), head.get('num_stuff_classes'))
    if to == 'ours' and counts == coco_classes.COUNTS:
        return coco_classes.label_space().metainfo()
    return {}


def _with_category_ids(classes: Dict) -> Dict:
    """COCO's ids, too, where mmdet names its classes."""
    coco = coco_classes.label_space().metainfo()
    if tuple(classes.get('classes', ())) == coco['classes']:
        return coco
    return classes


def convert_zoo_file(path: str, out_path: str, layout: Layout, to: str,
                     model: Mapping, shapes: Shapes) -> ZooConversion:
    """Read a checkpoint and convert it; :func:`write_conversion` writes it.

    Args:
        path (str): File to read; see ``files.read_weights``.
        out_path (str): File that is going to be written.
        layout (Layout): Of the other project.
        to (str): 'ours' or 'theirs'.
        model (Mapping): ``model`` of the config.
        shapes (Mapping[str, tuple]): Of the weights of that model.

    Raises:
        CheckpointError: The input cannot be read or is of another layout,
            the output cannot be written, or the config's model is not of
            the kind.
    """
    require_same_network(model, layout)
    require_output(path, out_path)
    weights, stored = read_weights(path)
    result = convert_zoo_weights(weights, layout, to, shapes, path)
    result.meta = _meta(path, stored, model, to)
    return result


def write_conversion(result: ZooConversion, out_path: str, layout: Layout,
                     to: str) -> None:
    """Write converted weights as the side that takes them reads them.

    Raises:
        CheckpointError: The weights do not fit the model, or the file
            cannot be written.
    """
    result.require_fit()
    if to == 'theirs' and layout.name == 'detectron2':
        content = dict(model=result.weights)
    else:
        content = dict(state_dict=result.weights, meta=result.meta)
    write_weights(out_path, content)
