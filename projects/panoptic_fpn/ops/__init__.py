"""Fast twins of plain operators, for the CPU.

===================  ===============================  =======================
module               plain twin                       equal
===================  ===============================  =======================
upsampled_argmax     all logits resized, then argmax  bit by bit
tiled_cross_entropy  ``models.semantic_loss``         up to rounding
roi_align            mmcv's ``RoIAlign``              up to rounding
paste_masks          mmdet's ``FCNMaskHead``          bit by bit
pattern_merge        ``fusion.fuse``                  bit by bit
index_map_masks      mmdet's ``BitmapMasks``          bit by bit
resize_window        the whole resized, then a slice  within one grey level
decode               OpenCV, Pillow                   bit by bit
run_length           pixel by pixel, pycocotools      bit by bit
models.sync_free     mmdet's parts, on any device     bit by bit
to_host              maps and masks copied whole      bit by bit
===================  ===============================  =======================

The plain twins of ``run_length`` are in ``tests/oracles/runs.py``.
``operator_inputs`` gives operators the precision and memory that they need.
"""
import os
from typing import Union

import torch

#: Environment variable; 0 lets the plain twins run on every device.
FAST_OPS = 'PANOPTIC_FAST_OPS'


def use_fast(device: Union[str, torch.device] = 'cpu') -> bool:
    """Whether the fast operators run on a device.

    On devices other than a CPU the plain ones do: nothing was measured there.
    """
    return (torch.device(device).type == 'cpu'
            and os.environ.get(FAST_OPS) != '0')
