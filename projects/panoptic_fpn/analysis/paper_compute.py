"""What the paper says of compute, and what our configs need.

Figure 4 (backbones and decoders at 1024 x 2048), Table 1a (Semantic FPN at
1024 x 2048), Tables 3a and 3b (one network against two), and the memory of
training beside what others published.
"""
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Dict, List, Tuple

from .complexity import Complexity, complexity
from .memory import TrainingMemory, training_memory
from .meta_model import build_on_meta

#: (H, W) of the paper's '2 megapixel image', and of one of COCO.
TWO_MEGAPIXELS = (1024, 2048)
COCO_SHAPE = (800, 1344)

#: Architectures of Figure 5, in the order of Figure 4.
FIGURE4 = {
    'dilation-16': 'paper/figure4/semantic-fpn_r101-d16_65k_cityscapes.py',
    'dilation-8': 'paper/figure4/semantic-fpn_r101-d8_65k_cityscapes.py',
    'symmetric decoder':
    'paper/figure4/semantic-fpn_r101-symmetric_65k_cityscapes.py',
    'FPN': 'cityscapes/semantic-fpn_r101_fpn_65k_cityscapes.py',
}

#: Claims of Figure 4 and section 3.3, and the two whose ratio decides.
CLAIMS = (
    ('FPN at output scale 1/4 is similar in multiply-adds to dilation-16 '
     '(1/16 output)', 'FPN', 'dilation-16'),
    ('FPN produces a 4x higher resolution output than dilation-16', 'FPN',
     'dilation-16'),
    ('dilation-8 uses a further ~3x more compute and memory', 'dilation-8',
     'dilation-16'),
    ('FPN is ~2x more efficient than the symmetric encoder-decoder',
     'symmetric decoder', 'FPN'),
)

#: Of Table 1a: config, multiply-adds in 1e12, activations in 1e9.
TABLE1A = {
    'ResNet-101-FPN':
    ('cityscapes/semantic-fpn_r101_fpn_65k_cityscapes.py', 0.5, 0.8),
    'ResNeXt-101-FPN':
    ('cityscapes/semantic-fpn_x101_fpn_65k_cityscapes.py', 0.8, 1.4),
}

#: Of Tables 3a and 3b: size, and configs of one R50, two R50, one R101.
TABLE3 = {
    'COCO': (COCO_SHAPE, 'coco/panoptic-fpn_r50_fpn_1x_coco.py',
             'paper/table3a/panoptic-fpn_r50x2_fpn_1x_coco.py',
             'coco/panoptic-fpn_r101_fpn_1x_coco.py'),
    'Cityscapes':
    (TWO_MEGAPIXELS, 'cityscapes/panoptic-fpn_r50_fpn_65k_cityscapes.py',
     'paper/table3a/panoptic-fpn_r50x2_fpn_65k_cityscapes.py',
     'cityscapes/panoptic-fpn_r101_fpn_65k_cityscapes.py'),
}

#: Batch 2 on COCO, 1x: config, and GB in the model zoos of others.
MEMORY = {
    'R50': ('coco/panoptic-fpn_r50_fpn_1x_coco.py',
            dict(MMDetection=4.7, Detectron2=4.8)),
    'R101': ('coco/panoptic-fpn_r101_fpn_1x_coco.py', dict(MMDetection=6.7)),
}


@dataclass(frozen=True)
class Claim:
    """A claim of Figure 4 and ratios of ours.

    Attributes:
        text (str): What the paper says.
        first, second (str): Ratios are of the first to the second.
        multiply_adds, activations (float): Of backbone and decoder.
        resolution (float): Of a side of the output.
    """

    text: str
    first: str
    second: str
    multiply_adds: float
    activations: float
    resolution: float


@dataclass(frozen=True)
class PaperCompute:
    """What :func:`paper_compute` found.

    Attributes:
        figure4, table1a (dict[str, Complexity]): By the name of the model.
        table3 (dict[str, tuple[Complexity, ...]]): One R50, two R50 and one
            R101, by data set.
        memory (dict[str, TrainingMemory]): By backbone.
    """

    figure4: Dict[str, Complexity]
    table1a: Dict[str, Complexity]
    table3: Dict[str, Tuple[Complexity, ...]]
    memory: Dict[str, TrainingMemory]

    @property
    def claims(self) -> List[Claim]:
        """list[Claim]: Those of Figure 4."""
        return [
            _compare(text, first, second, self.figure4)
            for text, first, second in CLAIMS
        ]


def _compare(text: str, first: str, second: str,
             rows: Dict[str, Complexity]) -> Claim:
    one, other = rows[first], rows[second]
    return Claim(text, first, second,
                 one.trunk.multiply_adds / other.trunk.multiply_adds,
                 one.trunk.activations / other.trunk.activations,
                 other.stride / one.stride)


def paper_compute(configs: Path) -> PaperCompute:
    """Count everything that the paper says something about.

    Args:
        configs (Path): The folder of configs.

    Raises:
        PanopticError: See :func:`complexity`.
    """

    @lru_cache(maxsize=None)  # some are in two tables
    def count(name, shape):
        return complexity(build_on_meta(Path(configs) / name), shape)

    return PaperCompute(
        figure4={
            name: count(path, TWO_MEGAPIXELS)
            for name, path in FIGURE4.items()
        },
        table1a={
            name: count(path, TWO_MEGAPIXELS)
            for name, (path, *_) in TABLE1A.items()
        },
        table3={
            name: tuple(count(path, shape) for path in paths)
            for name, (shape, *paths) in TABLE3.items()
        },
        memory={
            name:
            training_memory(
                build_on_meta(Path(configs) / path), COCO_SHAPE, 2)
            for name, (path, _) in MEMORY.items()
        })
