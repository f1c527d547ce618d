"""``model.json``: everything about an exported model but its weights.

It holds the SHA-256 of its graphs, so a graph of another export beside it is
an error, not a wrong result. Unknown keys are ignored; no number is NaN or
beyond 32 bits.
"""
import hashlib
from pathlib import Path
from typing import Annotated, Any, Dict, List, Literal, Optional, Tuple

import msgspec
from msgspec import Meta, Struct

NAME = 'model.json'
_LARGEST = 2**31
Finite = Annotated[float, Meta(ge=-_LARGEST, le=_LARGEST)]
Int = Annotated[int, Meta(ge=-_LARGEST, le=_LARGEST)]
#: A length in pixels.
Length = Annotated[int, Meta(gt=0, le=_LARGEST)]
Three = Tuple[Finite, Finite, Finite]
Four = Tuple[Finite, Finite, Finite, Finite]
Lengths = Annotated[List[Length], Meta(min_length=1)]


class DeployError(ValueError):
    """An exported model or an image that cannot be used; names the file and
    the fix in one sentence."""


class Category(Struct):
    """A class; ``color`` is RGB."""

    id: Int
    name: str
    isthing: Literal[0, 1]
    color: Tuple[Int, Int, Int]


class Preprocessing(Struct):
    """How an image becomes the input; ``scale`` (w, h) is that of mmdet's
    ``Resize``."""

    scale: Tuple[Length, Length]
    keep_ratio: bool
    mean: Three
    std: Three
    to_rgb: bool
    divisor: Length
    pad_value: Finite


class Rpn(Struct):
    """``anchors`` are the boxes of each level's first pixel, ``strides``
    (w, h)."""

    anchors: Annotated[List[Annotated[List[Four],
                                      Meta(min_length=1)]],
                       Meta(min_length=1)]
    strides: List[Tuple[Length, Length]]
    means: Four
    stds: Four
    nms_pre: Int
    max_per_img: Int
    iou_thr: Finite
    min_bbox_size: Finite


class Boxes(Struct):
    """The box head; ``strides`` are those of its FPN levels. ``joint_nms``:
    all classes suppress one another."""

    strides: Lengths
    finest_scale: Annotated[float, Meta(gt=0, le=_LARGEST)]
    means: Four
    stds: Four
    class_agnostic: bool
    score_thr: Finite
    iou_thr: Finite
    max_per_img: Int
    joint_nms: bool = False


class Masks(Struct):
    """The mask head."""

    strides: Lengths
    finest_scale: Annotated[float, Meta(gt=0, le=_LARGEST)]
    class_agnostic: bool
    threshold: Annotated[float, Meta(ge=0, le=_LARGEST)]


class Semantic(Struct):
    """``channel_labels``: the label of each channel, or void."""

    channel_labels: Annotated[List[Annotated[int, Meta(ge=0)]],
                              Meta(min_length=1)]


class Panoptic(Struct):
    """The merge (section 3.2)."""

    score_thr: Finite
    overlap_thr: Finite
    stuff_area: Finite
    nms_iou_thr: Optional[Finite]


class Graph(Struct):
    """A graph beside the file."""

    file: str
    sha256: str


class ModelFile(Struct):
    """An exported model; branches that it lacks are None.

    ``version`` is that of the layout and of the graphs' inputs and outputs.
    ``classes`` are in the order of the labels, things first. ``graphs`` has
    'trunk' and, with a region branch, 'boxes' and 'masks'. ``source`` says
    what was exported, and by which versions.
    """

    format: Literal['panoptic-fpn-onnx']
    version: Literal[1]
    classes: Annotated[List[Category], Meta(min_length=1)]
    graphs: Dict[Literal['trunk', 'boxes', 'masks'], Graph]
    preprocessing: Preprocessing
    panoptic: Panoptic
    rpn: Optional[Rpn]
    boxes: Optional[Boxes]
    masks: Optional[Masks]
    semantic: Optional[Semantic]
    source: Dict[str, Any]

    @property
    def void(self) -> int:
        """Value of a void pixel: the number of classes."""
        return len(self.classes)


def sha256(path: Path) -> str:
    """SHA-256 of a file's content."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def read_model(folder: str) -> ModelFile:
    """Read and check a model that ``tools/export_onnx.py`` wrote.

    Raises:
        DeployError: The file is missing, damaged or of another version, or a
            graph is not the one that it was written with.
    """
    path, fault = Path(folder) / NAME, None
    try:
        model = msgspec.json.decode(path.read_bytes(), type=ModelFile)
        for name in ('trunk', *(('boxes', 'masks') if model.rpn else ())):
            graph = path.with_name(f'{name}.onnx')
            if name not in model.graphs or not graph.is_file():
                fault = f'{graph.name} is missing'
            elif sha256(graph) != model.graphs[name].sha256:
                fault = (f'{graph.name} is not the graph that was written '
                         'with it')
    except (OSError, UnicodeError, msgspec.DecodeError) as error:
        fault = str(error)
    if fault is not None:
        raise DeployError(
            f'{path}: {fault}. Give a whole folder that tools/export_onnx.py '
            'wrote, or export the model again.')
    return model
