"""``model.json``: everything about an exported model but its weights.

It names its graphs and their SHA-256, so a graph of another export beside it
is an error and no wrong result.
"""
import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, List, Optional

from .errors import DeployError

NAME = 'model.json'
FORMAT = 'panoptic-fpn-onnx'
#: Of the file's layout and of what graphs take and give.
VERSION = 1

#: Keys of each part and the kinds of their values; a branch that the model
#: lacks is null.
PARTS = dict(
    preprocessing=dict(
        scale='two sides',
        keep_ratio='true or false',
        mean='three numbers',
        std='three numbers',
        to_rgb='true or false',
        divisor='a size',
        pad_value='a number'),
    rpn=dict(
        anchors='lists of boxes',
        strides='lists of two sides',
        means='four numbers',
        stds='four numbers',
        nms_pre='a whole number',
        max_per_img='a whole number',
        iou_thr='a number',
        min_bbox_size='a number'),
    boxes=dict(
        strides='sizes',
        finest_scale='a size',
        means='four numbers',
        stds='four numbers',
        class_agnostic='true or false',
        score_thr='a number',
        iou_thr='a number',
        max_per_img='a whole number'),
    masks=dict(
        strides='sizes',
        finest_scale='a size',
        class_agnostic='true or false',
        threshold='a number'),
    semantic=dict(channel_labels='whole numbers'),
    panoptic=dict(
        score_thr='a number',
        overlap_thr='a number',
        stuff_area='a number',
        nms_iou_thr='a number or null'))
_LARGEST = 2**31
OPTIONAL = ('rpn', 'boxes', 'masks', 'semantic')


@dataclass(frozen=True)
class ModelFile:
    """An exported model.

    Attributes:
        folder (Path): Where it lies.
        classes (list[dict]): ``id``, ``name``, ``isthing`` and ``color``
            (RGB) of each label; things first.
        graphs (dict[str, Path]): ``trunk`` and, with a region branch,
            ``boxes`` and ``masks``.
        preprocessing, panoptic (dict): See ``PARTS``.
        rpn, boxes, masks, semantic (dict | None): See ``PARTS``; None
            without the branch.
        source (dict): What was exported: ``config``, ``checkpoint`` and its
            ``sha256``, ``revision`` and ``versions`` of the exporter.
    """

    folder: Path
    classes: List[dict]
    graphs: Dict[str, Path]
    preprocessing: dict
    panoptic: dict
    rpn: Optional[dict]
    boxes: Optional[dict]
    masks: Optional[dict]
    semantic: Optional[dict]
    source: dict

    @property
    def void(self) -> int:
        """Value of a void pixel: the number of classes."""
        return len(self.classes)


def sha256(path: Path) -> str:
    """Of a file's content."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def read_model(folder: str) -> ModelFile:
    """Read and check an exported model.

    Args:
        folder (str): Written by ``tools/export_onnx.py``.

    Raises:
        DeployError: The file is missing, damaged or of another version, or a
            graph is not the one that it was written with.
    """
    root = Path(folder)
    path = root / NAME
    try:
        content = json.loads(path.read_bytes())
    except OSError as error:
        raise DeployError(
            f'{path}: cannot be read ({error.strerror}). Give a folder that '
            'tools/export_onnx.py wrote.') from None
    except ValueError as error:
        raise DeployError(f'{path}: no JSON ({error}). Export the model '
                          'again.') from None
    _check(path, content)
    graphs = {
        name: _checked_graph(root / entry['file'], entry.get('sha256'), path)
        for name, entry in content['graphs'].items()
    }
    parts = {name: content[name] for name in PARTS}
    return ModelFile(
        root, content['classes'], graphs, source=content['source'], **parts)


def _check(path: Path, content: dict) -> None:
    """The format, its version and the keys."""
    if not isinstance(content, dict) or content.get('format') != FORMAT:
        raise DeployError(f'{path}: is of no exported model. Give a folder '
                          'that tools/export_onnx.py wrote.')
    if content.get('version') != VERSION:
        raise DeployError(
            f'{path}: version {content.get("version")!r}, this code reads '
            f'{VERSION}. Export the model again, or take the panoptic_onnx '
            'that it was exported with.')
    missing = [
        name for name in ('classes', 'graphs', 'source', *PARTS)
        if name not in content
    ]
    for name in PARTS.keys() & content.keys():
        part = content[name]
        if part is None and name in OPTIONAL:
            continue
        if not isinstance(part, dict):
            raise _odd(path, name, part, 'an object')
        missing += [f'{name}.{key}' for key in PARTS[name] if key not in part]
    if not missing:
        _check_values(path, content)
        needed = {'trunk'}
        if content['rpn'] is not None:
            needed |= {'boxes', 'masks'}
            missing += [
                name for name in ('boxes', 'masks') if content[name] is None
            ]
        missing += [f'graphs.{n}' for n in needed - set(content['graphs'])]
    if missing:
        raise DeployError(f'{path}: {", ".join(sorted(missing))} is missing. '
                          'Export the model again.')


def _odd(path: Path, key: str, value: object, kind: str) -> DeployError:
    text = repr(value)
    return DeployError(
        f'{path}: {key}: {text if len(text) < 80 else text[:77] + "..."} is '
        f'not {kind}. Correct it, or export the model again.')


def _check_values(path: Path, content: dict) -> None:
    """Every value that is read is of its kind."""
    for key in ('graphs', 'source'):
        if not isinstance(content[key], dict):
            raise _odd(path, key, content[key], 'an object')
    for name, entry in content['graphs'].items():
        # a known name alone: nothing outside the folder is opened
        if name not in ('trunk', 'boxes', 'masks'):
            raise _odd(path, 'graphs', name, 'trunk, boxes or masks')
        if not isinstance(entry, dict) or entry.get('file') != f'{name}.onnx':
            raise _odd(path, f'graphs.{name}', entry,
                       f'an object whose file is {name}.onnx')
    classes = content['classes']
    if not isinstance(classes, list) or not all(map(_is_class, classes)):
        raise _odd(path, 'classes', classes,
                   'a list of objects with id, name, isthing and color')
    for name, kinds in PARTS.items():
        for key, kind in kinds.items() if content[name] else ():
            value = content[name][key]
            if not is_kind(kind, value):
                raise _odd(path, f'{name}.{key}', value, kind)
    labels = content['semantic'] and content['semantic']['channel_labels']
    if labels and not 0 <= min(labels) <= max(labels) <= len(classes):
        raise _odd(path, 'semantic.channel_labels', labels,
                   f'one of {len(classes)} classes or void, {len(classes)}')
    rpn = content['rpn']
    if rpn and len(rpn['anchors']) != len(rpn['strides']):
        raise _odd(path, 'rpn.strides', rpn['strides'],
                   f'one pair for each of {len(rpn["anchors"])} levels')


def _is_class(value: object) -> bool:
    return (isinstance(value, dict) and isinstance(value.get('name'), str)
            and is_kind('a whole number', value.get('id'))
            and value.get('isthing') in (0, 1)
            and is_kind('three numbers', value.get('color')))


def is_kind(kind: str, value: Any) -> bool:
    """Whether a value of ``model.json`` is of one of the kinds of
    :data:`PARTS`; no number is NaN or beyond 32 bits, no list empty."""
    lists = {
        'two sides': (2, 'a size'),
        'three numbers': (3, 'a number'),
        'four numbers': (4, 'a number'),
        'sizes': (0, 'a size'),
        'whole numbers': (0, 'a whole number'),
        'lists of two sides': (0, 'two sides'),
        'boxes': (0, 'four numbers'),
        'lists of boxes': (0, 'boxes'),
    }
    if kind in lists:
        length, item = lists[kind]
        return (isinstance(value, list) and bool(value)
                and (not length or len(value) == length)
                and all(is_kind(item, one) for one in value))
    if kind == 'true or false':
        return type(value) is bool
    if kind == 'a number or null' and value is None:
        return True
    types = (int, ) if kind == 'a whole number' else (int, float)
    # false for NaN, and for what numpy cannot compute with
    return (type(value) in types and -_LARGEST <= value <= _LARGEST
            and (kind != 'a size' or value > 0))


def _checked_graph(graph: Path, digest: Optional[str], path: Path) -> Path:
    if not graph.is_file():
        raise DeployError(f'{graph}: no such file, but {path} needs it. Copy '
                          'the whole exported folder.')
    if sha256(graph) != digest:
        raise DeployError(
            f'{graph}: is not the graph that {path} was written with. Copy '
            'the whole folder of one export.')
    return graph
