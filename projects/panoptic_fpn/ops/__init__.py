"""Fast twins of plain operators.

===================  =======  ==============================  ==============
module               runs on  plain twin                      equal
===================  =======  ==============================  ==============
upsampled_argmax     CPU      all resized, then argmax        bit by bit
tiled_cross_entropy  any      ``models.semantic_loss``        up to rounding
roi_align            CPU      mmcv's ``RoIAlign``             up to rounding
paste_masks          CPU      mmdet's ``FCNMaskHead``         bit by bit
pattern_merge        GPU      ``fusion.fuse``                 bit by bit
index_map_masks      any      mmdet's ``BitmapMasks``         bit by bit
models.sync_free     any      mmdet's assigner and sampler    bit by bit
to_host              GPU      maps and masks copied whole     bit by bit
resize_window        CPU      the whole resized, then a part  one grey level
decode               CPU      OpenCV, Pillow                  bit by bit
run_length           CPU      pixel by pixel, pycocotools     bit by bit
===================  =======  ==============================  ==============

The plain twins of ``run_length`` are in ``tests/oracles/runs.py``.
``operator_inputs`` gives operators the precision and memory that they need;
``mmcv_operators`` stands in for mmcv's compiled operators.
"""
import os
from typing import Union

import torch

#: Environment variable; 0 lets the plain twins run on every device.
FAST_OPS = 'PANOPTIC_FAST_OPS'


def use_fast(device: Union[str, torch.device] = 'cpu') -> bool:
    """Whether fast operators run; those for a CPU do so nowhere else, where
    nothing was measured."""
    return (torch.device(device).type == 'cpu'
            and os.environ.get(FAST_OPS) != '0')
