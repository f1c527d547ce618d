"""``model.json``: everything about an exported model but its weights.

It names its graphs and their SHA-256, so a graph of another export beside it
is an error and no wrong result.
"""
import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Dict, List, Optional

from .errors import DeployError

NAME = 'model.json'
FORMAT = 'panoptic-fpn-onnx'
#: Of the file's layout and of what graphs take and give.
VERSION = 1

#: Keys of each part; a branch that the model lacks is null.
PARTS = dict(
    preprocessing=('scale', 'keep_ratio', 'mean', 'std', 'to_rgb', 'divisor',
                   'pad_value'),
    rpn=('anchors', 'strides', 'means', 'stds', 'nms_pre', 'max_per_img',
         'iou_thr', 'min_bbox_size'),
    boxes=('strides', 'finest_scale', 'means', 'stds', 'class_agnostic',
           'score_thr', 'iou_thr', 'max_per_img'),
    masks=('strides', 'finest_scale', 'class_agnostic', 'threshold'),
    semantic=('channel_labels', ),
    panoptic=('score_thr', 'overlap_thr', 'stuff_area', 'nms_iou_thr'))
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
        name: _checked_graph(root / entry['file'], entry['sha256'], path)
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
        missing += [
            f'{name}.{key}' for key in PARTS[name] if key not in (part or {})
        ]
    if not missing:
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


def _checked_graph(graph: Path, digest: str, path: Path) -> Path:
    if not graph.is_file():
        raise DeployError(f'{graph}: no such file, but {path} needs it. Copy '
                          'the whole exported folder.')
    if sha256(graph) != digest:
        raise DeployError(
            f'{graph}: is not the graph that {path} was written with. Copy '
            'the whole folder of one export.')
    return graph
