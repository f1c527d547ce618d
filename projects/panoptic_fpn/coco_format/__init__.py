"""Rule book of COCO's formats: what files may hold, how results are written.

``panoptic_faults``, ``instances_faults`` and ``png_faults`` are generators.
A data set raises the first fault, the checker and the validator of
submissions collect all of them.
"""
from .faults import (ERROR, KINDS, WARNING, Fault, Faults, collect,
                     parse_object, raise_first, short)
from .instances import instances_faults
from .panoptic import (Pair, Structure, category_faults, entries_by_id,
                       image_faults, panoptic_faults, panoptic_warnings,
                       read_label_space)
from .pngs import (encode_png, is_blended, measure_segments, png_faults,
                   png_pixels)

__all__ = [
    'ERROR', 'KINDS', 'WARNING', 'Fault', 'Faults', 'Pair', 'Structure',
    'category_faults', 'collect', 'encode_png', 'entries_by_id',
    'image_faults', 'instances_faults', 'is_blended', 'measure_segments',
    'panoptic_faults', 'panoptic_warnings', 'parse_object', 'png_faults',
    'png_pixels', 'raise_first', 'read_label_space', 'short'
]
