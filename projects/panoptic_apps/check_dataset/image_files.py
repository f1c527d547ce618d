"""One image and its PNG against their entries in the JSON.

Sizes are (h, w), boxes (x, y, width, height), both in pixels. Runs in worker
processes.
"""
import re
import struct
from hashlib import blake2b
from typing import Any, Dict, List, NamedTuple, Optional, Sequence, Tuple

import numpy as np

from mmengine_exact.errors import CorruptFileError
from mmengine_exact.files import read_bytes
from panoptic_fpn.labels import rgb_to_id
from panoptic_fpn.ops.decode import decode_image, decode_map, try_decode
from panoptic_fpn.ops.run_length import segment_boxes

from .findings import Finding

Size = Tuple[int, int]
#: Of a segment in the PNG: pixels, and box.
Measured = Tuple[int, List[int]]
#: Boxes may differ by this much: some exporters count the last pixel, some
#: do not.
BOX_TOLERANCE = 1
#: Ids that a finding lists.
_SOME = 5
_RGB, _PALETTE, _GRAYS = 2, 3, (0, 4)


class ImageJob(NamedTuple):
    """What a worker is told of an image.

    ``where`` names it in the JSON; ``segments`` are (id, area, bbox) as
    listed; ``other_ids`` are values of a label map with one channel that are
    void (None: the PNG is COCO's, in RGB); ``ignored`` are ids that are no
    segment and must occur.
    """

    where: str
    image: Optional[str]
    png: Optional[str]
    size: Optional[Size]
    segments: Sequence[Tuple] = ()
    other_ids: Optional[List[int]] = None
    ignored: Sequence[int] = ()


class ImageResult(NamedTuple):
    """What its files say: ``digest`` of the image's pixels, the image's
    ``size``, and what was ``measured`` in the PNG by segment id (None: it
    cannot be used)."""

    findings: List[Finding]
    digest: Optional[bytes]
    size: Optional[Size]
    measured: Optional[Dict[int, Measured]]


def check_images(jobs: Sequence[ImageJob]) -> List[ImageResult]:
    """:func:`check_image` of several: one call of a process."""
    return [check_image(job) for job in jobs]


def check_image(job: ImageJob) -> ImageResult:
    """Read both files of an image and compare them with the JSON."""
    findings, digest, size, measured = [], None, None, None
    if job.image is not None:
        size, digest, found = read_image(job.image)
        findings += found
        if size and job.size and size != job.size:
            findings.append(
                Finding(
                    'image_size', job.where, f'{job.image} is {size} '
                    f'(h, w), the JSON says {job.size}'))
    if job.png is not None:
        wanted = size or job.size
        measured, found = _measure(job.png, wanted, job.other_ids)
        findings += found
        if measured is not None:
            findings += compare(job, measured)
            for id_ in job.ignored:
                measured.pop(id_, None)
    return ImageResult(findings, digest, size, measured)


def read_image(
        path: str) -> Tuple[Optional[Size], Optional[bytes], List[Finding]]:
    """Size and digest of an image's pixels, as training reads them.

    Returns:
        tuple: Both are None where it cannot be read; then there is a finding.
    """
    try:
        content = read_bytes(path, 'image', None)
    except CorruptFileError as error:
        return None, None, [Finding('image_missing', path, _reason(error))]
    pixels, fault = try_decode(decode_image, content)
    if pixels is None:
        return None, None, [
            Finding('image_corrupt', path, f'{len(content)} bytes: {fault}')
        ]
    digest = blake2b(
        pixels.tobytes(), digest_size=16, salt=_shape_salt(pixels)).digest()
    return pixels.shape[:2], digest, []


def _reason(error: CorruptFileError) -> str:
    """What the system said, without the path, which is told beside it."""
    found = re.search(r'\((?:\[Errno \d+\] )?([^:)]+)', str(error))
    return found.group(1) if found else str(error)


def _shape_salt(pixels: np.ndarray) -> bytes:
    return struct.pack('<II', *pixels.shape[:2])


def _measure(
    png: str, size: Optional[Size], other_ids: Optional[List[int]]
) -> Tuple[Optional[Dict[int, Measured]], List[Finding]]:
    """Segments in the PNG; None, and a finding, where it cannot be used."""
    try:
        content = read_bytes(png, 'panoptic PNG', None)
    except CorruptFileError as error:
        return None, [Finding('png_missing', png, _reason(error))]
    pixels, fault = try_decode(decode_map, content)
    if pixels is None:
        return None, [
            Finding('png_corrupt', png, f'{len(content)} bytes: {fault}')
        ]
    wrong = _wrong_format(content, pixels, png, other_ids is not None)
    if wrong is not None:
        return None, [wrong]
    if size is not None and pixels.shape[:2] != size:
        return None, [
            Finding('png_size', png, f'{pixels.shape[:2]} (h, w), its '
                    f'image is {size}')
        ]
    return measure_segments(pixels, other_ids or [0]), []


def _wrong_format(content: bytes, pixels: np.ndarray, png: str,
                  label_map: bool) -> Optional[Finding]:
    """A finding where it is neither COCO's format nor, where one is wanted,
    a label map."""
    if content[:8] == b'\x89PNG\r\n\x1a\n':
        depth, color = content[24], content[25]
    else:
        depth, color = 8 * pixels.itemsize, _RGB if pixels.ndim == 3 else 0
    if label_map:
        if pixels.ndim != 2:
            return Finding(
                'png_format', png, f'{pixels.shape}, but its '
                'annotation lists void_ids, which go with one '
                'channel')
        return None
    if color in _GRAYS:
        return Finding('png_single_channel', png, f'{depth} bit grey')
    if color == _PALETTE:
        return Finding('png_single_channel', png, 'indices of a palette')
    if pixels.ndim != 3 or pixels.shape[2] != 3 or pixels.dtype != np.uint8:
        return Finding('png_format', png,
                       f'{depth} bit, {pixels.shape[2:] or (1, )} channels')
    return None


def measure_segments(pixels: np.ndarray,
                     other_ids: Sequence[int]) -> Dict[int, Measured]:
    """Pixels and box of every id of a PNG.

    Args:
        pixels (np.ndarray): RGB (h, w, 3), or ids (h, w).
        other_ids (Sequence[int]): Ids that are no segment.
    """
    ids = rgb_to_id(pixels) if pixels.ndim == 3 else pixels
    found, areas, boxes = segment_boxes(ids)
    others = set(other_ids)
    return {
        id_: (area, box)
        for id_, area, box in zip(found.tolist(), areas.tolist(),
                                  boxes.tolist()) if id_ not in others
    }


def compare(job: ImageJob, measured: Dict[int, Measured]) -> List[Finding]:
    """The listed segments against those of the PNG."""
    listed = {segment[0] for segment in job.segments}
    ignored = set(job.ignored)
    unknown = sorted(set(measured) - listed - ignored)
    missing = sorted((listed | ignored) - set(measured))
    if is_other_image(listed, measured):
        return [
            Finding(
                'png_of_another_image', job.where, f'{job.png} has ids '
                f'{unknown[:_SOME]}, the JSON {missing[:_SOME]}')
        ]
    findings = []
    if unknown:
        pixels = sum(measured[id_][0] for id_ in unknown)
        findings.append(
            Finding('ids_only_in_png', job.where, f'{job.png}: {pixels} '
                    f'pixels of {_ids(unknown)}'))
    if missing:
        findings.append(
            Finding('ids_only_in_json', job.where,
                    f'{job.png}: {_ids(missing)}'))
    if not measured and not missing:
        findings.append(Finding('all_void', job.where, f'{job.png}'))
    for id_, area, box in job.segments:
        if id_ in measured:
            findings += _compare_numbers(job, id_, area, box, measured[id_])
    return findings


def _ids(ids: List[int]) -> str:
    more = f', ... ({len(ids)} in all)' if len(ids) > _SOME else ''
    return f'id {", ".join(map(str, ids[:_SOME]))}{more}'


def is_other_image(listed: set, measured: Dict[int, Measured]) -> bool:
    """Whether nothing of the PNG is known to the JSON, and the other way
    round."""
    return bool(listed) and bool(measured) and not listed & set(measured)


def _compare_numbers(job: ImageJob, id_: int, area: Any, box: Any,
                     measured: Measured) -> List[Finding]:
    findings = []
    if area != measured[0]:
        value = 'no area' if area is None else f'area={area!r}'
        findings.append(
            Finding(
                'area', job.where, f'segment {id_} has {value}, the PNG '
                f'{measured[0]} pixels'))
    if not _same_box(box, measured[1]):
        value = 'no bbox' if box is None else f'bbox={str(box)[:60]}'
        findings.append(
            Finding('bbox', job.where, f'segment {id_} has {value}, the PNG '
                    f'{measured[1]}'))
    return findings


def _same_box(box: Any, measured: List[int]) -> bool:
    try:
        return len(box) == 4 and all(
            abs(a - b) <= BOX_TOLERANCE for a, b in zip(box, measured))
    except TypeError:
        return False
