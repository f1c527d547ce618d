"""Rules of a panoptic PNG against its annotation.

A PNG is COCO's (8-bit RGB, id = R + 256 G + 256^2 B, 0 = void) or a label map
with one channel that holds the ids themselves, of which some are void. Sizes
are (h, w), boxes (x, y, width, height), both in pixels.
"""
from typing import Any, Dict, Iterator, Optional, Sequence, Tuple

import numpy as np

from ..labels import rgb_to_id
from ..ops.decode import decode_map, try_decode
from ..ops.run_length import segment_boxes
from .faults import WARNING, Fault, Found

#: Pixels of a segment, and its box.
Measured = Tuple[int, Sequence[int]]
#: Boxes may differ by this much: some exporters count the last pixel, some
#: do not.
BOX_TOLERANCE = 1
#: Ids that a fault lists.
_SOME = 5
#: Colour types of PNG.
_COLORS = {0: 'grey', 2: 'RGB', 3: 'palette', 4: 'grey and alpha', 6: 'RGBA'}


def png_pixels(
    content: bytes,
    where: str,
    size: Optional[Tuple[int, int]],
    channels: int = 3,
    depths: Sequence[int] = (8, )
) -> Found[Optional[np.ndarray]]:
    """Faults of a PNG by itself; returns its pixels (None: of no use).

    Args:
        content (bytes): The file.
        where (str): Its name.
        size (tuple[int, int], optional): (h, w) that it must have.
        channels (int): 3: RGB; 1: a label map.
        depths (Sequence[int]): Bits of a channel.
    """
    pixels, fault = try_decode(decode_map, content)
    if pixels is None:
        yield Fault('png_corrupt', where, f'{len(content)} bytes: {fault}')
        return None
    depth, color = 8 * pixels.itemsize, 2 if pixels.ndim == 3 else 0
    if content[:4] == b'\x89PNG':  # decoders widen bits
        depth, color = content[24], content[25]
    wanted = () if channels == 1 else (3, )
    if pixels.shape[2:] != wanted or depth not in depths:
        single = channels == 3 and color in (0, 3, 4)
        yield Fault('png_single_channel' if single else 'png_format', where,
                    f'{depth} bit {_COLORS.get(color, "unknown")}')
        return None
    if size is not None and pixels.shape[:2] != tuple(size):
        yield Fault('png_size', where,
                    f'{pixels.shape[:2]} (h, w), its image is {tuple(size)}')
        return None
    return pixels


def measure_segments(pixels: np.ndarray,
                     other_ids: Sequence[int]) -> Dict[int, Measured]:
    """Pixels and box of every id of a PNG, RGB (h, w, 3) or ids (h, w);
    ``other_ids`` are not segments."""
    ids = rgb_to_id(pixels) if pixels.ndim == 3 else pixels
    found, areas, boxes = segment_boxes(ids)
    return {
        id_: (area, box)
        for id_, area, box in zip(found.tolist(), areas.tolist(),
                                  boxes.tolist()) if id_ not in other_ids
    }


def is_other_image(listed: set, measured: Dict[int, Measured]) -> bool:
    """Whether JSON and PNG have segments, but none in common."""
    return bool(listed) and bool(measured) and not listed & set(measured)


def png_faults(measured: Dict[int, Measured],
               segments: Sequence[dict],
               where: str,
               png: str,
               ignored: Sequence[int] = ()) -> Iterator[Fault]:
    """Faults of a PNG and its annotation.

    Args:
        measured (dict[int, tuple]): See :func:`measure_segments`.
        segments (Sequence[dict]): With an ``id``.
        where (str): The annotation.
        png (str): The PNG.
        ignored (Sequence[int]): Ids of the PNG that are not segments and must
            occur.
    """
    listed = {segment['id'] for segment in segments} | set(ignored)
    unknown = sorted(set(measured) - listed)
    missing = sorted(listed - set(measured))
    if is_other_image(listed - set(ignored), measured):
        yield Fault('png_of_another_image', where,
                    f'{png} has {_ids(unknown)}, the '
                    f'JSON {_ids(missing)}')
        return
    if unknown:
        pixels = sum(measured[id_][0] for id_ in unknown)
        yield Fault('ids_only_in_png', where,
                    f'{png}: {pixels} pixels of {_ids(unknown)}')
    if missing:
        yield Fault('ids_only_in_json', where, f'{png}: {_ids(missing)}')
    if not measured and not missing:
        yield Fault('all_void', where, png, WARNING)
    for segment in segments:
        if segment['id'] in measured:
            yield from _number_faults(segment, measured[segment['id']], where)


def _ids(ids: Sequence[int]) -> str:
    more = f', ... ({len(ids)} in all)' if len(ids) > _SOME else ''
    return f'id {", ".join(map(str, ids[:_SOME]))}{more}'


def _number_faults(segment: dict, measured: Measured,
                   where: str) -> Iterator[Fault]:
    name, (pixels, box) = f'segment {segment["id"]}', measured
    area, listed = segment.get('area'), segment.get('bbox')
    if area != pixels:
        value = 'no area' if area is None else f'area={str(area)[:60]}'
        yield Fault('area', where, f'{name} has {value}, the PNG {pixels} '
                    'pixels')
    if not _is_same_box(listed, box):
        value = 'no bbox' if listed is None else f'bbox={str(listed)[:60]}'
        yield Fault('bbox', where, f'{name} has {value}, the PNG {box}',
                    WARNING)


def _is_same_box(box: Any, measured: Sequence[int]) -> bool:
    try:
        return len(box) == 4 and all(
            abs(a - b) <= BOX_TOLERANCE for a, b in zip(box, measured))
    except TypeError:
        return False
