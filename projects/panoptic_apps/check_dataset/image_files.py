"""One image and its PNG against their entries in the JSON.

Sizes are (h, w). Runs in worker processes.
"""
import os.path as osp
import struct
from glob import escape, glob
from hashlib import blake2b
from pathlib import Path
from typing import (Any, Dict, Iterator, List, NamedTuple, Optional, Sequence,
                    Tuple)

import cv2
import numpy as np

from mmengine_exact.files import find_name_fault
from panoptic_fpn.coco_format import (WARNING, Fault, collect,
                                      measure_segments, png_faults, png_pixels)
from panoptic_fpn.coco_format.faults import Found
from panoptic_fpn.coco_format.pngs import Measured
from panoptic_fpn.ops.decode import (SIGNATURE, claimed_size, decode_image,
                                     orientation_tag, try_decode)

Size = Tuple[int, int]


class ImageJob(NamedTuple):
    """An image to check.

    ``where`` names it in the JSON; ``segments`` are as listed; ``other_ids``
    are values of a label map with one channel that are void (None: the PNG is
    COCO's, in RGB); ``ignored`` are ids that are not segments and must occur.
    """

    where: str
    image: Optional[str]
    png: Optional[str] = None
    size: Optional[Size] = None
    segments: Sequence[dict] = ()
    other_ids: Optional[List[int]] = None
    ignored: Sequence[int] = ()


class ImageResult(NamedTuple):
    """What the files say: ``digest`` of the image's pixels, the ``size`` of
    the image or, where it cannot be read, of the PNG, and what was
    ``measured`` in the PNG by segment id (None: it cannot be used)."""

    faults: List[Fault]
    digest: Optional[bytes]
    size: Optional[Size]
    measured: Optional[Dict[int, Measured]]


def find_file(folder: str, entry: dict) -> Optional[str]:
    """Path of the file that an entry names; where its ``file_name`` is not
    allowed, that of the longest end of it that is a file, or None."""
    name: Any = entry.get('file_name')
    if find_name_fault(name) is None:
        return osp.join(folder, name)
    parts = name.replace('\\', '/').split('/') if isinstance(name, str) else []
    for first in range(len(parts)):
        end = '/'.join(parts[first:])
        if find_name_fault(end) is None and osp.isfile(osp.join(folder, end)):
            return osp.join(folder, end)
    return None


def check_image(job: ImageJob) -> ImageResult:
    """Read both files of an image and compare them with the JSON."""
    faults: List[Fault] = []
    return ImageResult(faults, *collect(_image_faults(job), faults.append))


def _image_faults(job: ImageJob) -> Found[Tuple]:
    size, digest = None, None
    if job.image is not None:
        size, digest = yield from picture_faults(job.image)
        if size and job.size and size != job.size:
            yield Fault(
                'image_size', job.where,
                f'{job.image} is {size} (h, w), the JSON says {job.size}')
    if job.png is None:
        return digest, size, None
    content = yield from _read(job.png, 'png_missing')
    if content is None:
        return digest, size, None
    form = (3, (8, )) if job.other_ids is None else (1, (1, 2, 4, 8, 16))
    pixels = yield from png_pixels(content, job.png, size or job.size, *form)
    if pixels is None:
        return digest, size, None
    void = (0, ) if job.other_ids is None else job.other_ids
    measured = measure_segments(pixels, void)
    yield from png_faults(measured, job.segments, job.where, job.png,
                          job.ignored, pixels)
    for id_ in job.ignored:
        measured.pop(id_, None)
    return digest, size or pixels.shape[:2], measured


def _read(path: str, kind: str) -> Found[Optional[bytes]]:
    try:
        return Path(path).read_bytes()
    except (OSError, ValueError) as error:
        cause = str(error).partition(': ')[0]  # the path follows
        near = sorted(glob(f'{escape(osp.splitext(path)[0])}.*'))
        if near:  # such as .png for .jpg
            cause += f'; there is {", ".join(map(osp.basename, near[:3]))}'
        yield Fault(kind, path, cause)
        return None


def picture_faults(path: str) -> Found[Tuple[Optional[Size], Optional[bytes]]]:
    """Faults of an image; returns (h, w) and a digest of its pixels, both
    None where it cannot be read."""
    content = yield from _read(path, 'image_missing')
    if content is None:
        return None, None
    pixels, fault = try_decode(decode_image, content)
    if pixels is None:
        yield Fault('image_corrupt', path, f'{len(content)} bytes: {fault}')
        return None, None
    yield from _picture_warnings(path, content, pixels)
    salt = struct.pack('<II', *pixels.shape[:2])
    digest = blake2b(pixels.tobytes(), digest_size=16, salt=salt).digest()
    return pixels.shape[:2], digest


def _picture_warnings(path: str, content: bytes,
                      pixels: np.ndarray) -> Iterator[Fault]:
    """Whether little is left of values that are cut to 8 bits, or a tag turns
    or mirrors an image without a change of its size."""
    png_depth = content[24] if content.startswith(SIGNATURE) else 16
    if png_depth > 8 and pixels.max() < 64:
        stored = cv2.imdecode(
            np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED)
        if stored is not None and stored.itemsize > 1:
            yield Fault(
                'image_bits', path, f'{8 * stored.itemsize} bits, values up '
                f'to {stored.max()}: models see 0 to {pixels.max()}', WARNING)
    tag = orientation_tag(content)
    if tag > 1 and claimed_size(content) == pixels.shape[:2]:
        yield Fault('image_turned', path, f'orientation {tag}', WARNING)
