"""Rules of a panoptic PNG against its annotation.

A PNG is COCO's (8-bit RGB, id = R + 256 G + 256^2 B, 0 = void) or a label map
with one channel that holds the ids themselves, of which some are void. Sizes
are (h, w), boxes (x, y, width, height), both in pixels.
"""
from itertools import product
from typing import Any, Dict, Iterable, Iterator, Optional, Sequence, Tuple

import cv2
import numpy as np

from ..labels import rgb_to_id
from ..ops.decode import decode_map, try_decode
from ..ops.run_length import segment_boxes
from .faults import ERROR, WARNING, Fault, Found, short

#: Pixels of a segment, and its box.
Measured = Tuple[int, Sequence[int]]
#: Boxes may differ by this much: some exporters count the last pixel, some
#: do not.
BOX_TOLERANCE = 1
#: Ids that a fault lists.
_SOME = 5
#: Share of border pixels between the values next to them, of which sound PNGs
#: have some 0.03, blended ones 0.2 to 0.9; and how many are looked at.
_BLENDED, _SAMPLES = 0.15, 100_000
#: Share of those with new ids, if there are more than a few.
_NEW, _FEW = 0.6, 8
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
    if content.startswith(b'\xff\xd8'):
        yield Fault('png_blended', where, 'it is a JPEG, whatever its name')
        return None
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


def encode_png(ids: np.ndarray) -> bytes:
    """COCO panoptic PNG of segment ids (h, w)."""
    rgba = ids.astype('<u4')[..., None].view(np.uint8)
    bgr = cv2.cvtColor(rgba, cv2.COLOR_RGBA2BGR)  # faster than [..., ::-1]
    return cv2.imencode('.png', bgr)[1].tobytes()


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


def png_faults(measured: Dict[int, Measured],
               segments: Sequence[dict],
               where: str,
               png: str,
               ignored: Sequence[int] = (),
               pixels: Optional[np.ndarray] = None) -> Iterator[Fault]:
    """Faults of a PNG and its annotation.

    Args:
        measured (dict[int, tuple]): See :func:`measure_segments`.
        segments (Sequence[dict]): With an ``id``.
        where (str): The annotation.
        png (str): The PNG.
        ignored (Sequence[int]): Ids of the PNG that are not segments and must
            occur.
        pixels (np.ndarray, optional): To find blended ids, too.
    """
    listed = {segment['id'] for segment in segments} | set(ignored)
    unknown = sorted(set(measured) - listed)
    missing = sorted(listed - set(measured))
    if unknown and listed.issuperset(map(_swap_channels, measured)):
        yield Fault(
            'png_swapped', where, f'{png}: each of its ids is in the '
            'JSON when R and B are swapped')
        return
    differs = unknown or missing or any(
        segment.get('area') != measured[segment['id']][0]
        for segment in segments)
    if differs and pixels is not None and is_blended(pixels, listed | {0}):
        lost = unknown or missing  # else textures may look alike
        yield Fault('png_blended', where,
                    f'{png}: values between those of neighbours',
                    ERROR if lost else WARNING)
        if lost:
            return
    if segments and measured and listed.isdisjoint(measured):
        yield Fault('png_of_another_image', where,
                    f'{png} has {_ids(unknown)}, the JSON {_ids(missing)}')
        return
    if unknown:
        count = sum(measured[id_][0] for id_ in unknown)
        yield Fault('ids_only_in_png', where,
                    f'{png}: {count} pixels of {_ids(unknown)}')
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


def _swap_channels(id_: int) -> int:
    return id_ & 0xff00 | id_ >> 16 | (id_ & 255) << 16


def is_blended(pixels: np.ndarray, listed: Iterable[int]) -> bool:
    """Whether values come from interpolation or from compression with loss.

    Both put pixels where segments meet that lie, channel by channel, in the
    range of the others next to them; without them only those do where three
    segments meet. Some of all are enough, or most of those whose ids are not
    ``listed``.
    """
    values = pixels.reshape(*pixels.shape[:2], -1).astype(np.int32)
    border = np.zeros(values.shape[:2], bool)
    for a, b in ((np.s_[1:], np.s_[:-1]), (np.s_[:, 1:], np.s_[:, :-1])):
        # between values that differ by one there is none
        jump = np.abs(values[a] - values[b]).max(axis=-1) > 1
        border[a] |= jump
        border[b] |= jump
    y, x = (
        positions[::border.sum() // _SAMPLES + 1]
        for positions in np.nonzero(border))
    own = values[y, x]
    padded = np.pad(values, ((1, 1), (1, 1), (0, 0)), 'edge')
    low, high = np.full_like(own, 2**16), np.full_like(own, -1)
    for dy, dx in product(range(3), repeat=2):
        near = padded[y + dy, x + dx]
        other = (near != own).any(axis=1, keepdims=True)
        np.minimum(low, near, out=low, where=other)
        np.maximum(high, near, out=high, where=other)
    between = np.all((low <= own) & (own <= high), axis=1)
    new = ~np.isin(
        rgb_to_id(own) if own.shape[1] > 1 else own[:, 0], [*listed])
    return (between.sum() > _BLENDED * len(own)
            or new.sum() > _FEW and between[new].mean() > _NEW)


def _number_faults(segment: dict, measured: Measured,
                   where: str) -> Iterator[Fault]:
    name, (pixels, box) = f'segment {segment["id"]}', measured
    area, listed = segment.get('area'), segment.get('bbox')
    if area != pixels:
        yield Fault('area', where,
                    f'{name} has area={short(area)}, the PNG {pixels} pixels')
    if not _is_same_box(listed, box):
        yield Fault('bbox', where,
                    f'{name} has bbox={short(listed)}, the PNG {box}', WARNING)


def _is_same_box(box: Any, measured: Sequence[int]) -> bool:
    try:
        return len(box) == 4 and all(
            abs(a - b) <= BOX_TOLERANCE for a, b in zip(box, measured))
    except TypeError:
        return False
