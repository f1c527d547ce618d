"""Images in and out: read through mmengine's fileio, written atomically.

Images are uint8 (h, w, 3), BGR when read (as the pipelines load them) and RGB
when written (as the drawing functions return them).
"""
import os
import os.path as osp
from pathlib import Path
from typing import Optional, Set

import cv2
import numpy as np

from mmengine_exact.errors import CorruptFileError
from mmengine_exact.files import read_bytes, write_bytes

from ..ops.decode import decode_image, try_decode


def read_image(path: str, backend_args: Optional[dict] = None) -> np.ndarray:
    """Read an image as the pipelines do (EXIF orientation applied).

    Args:
        path (str): A file or anything mmengine's fileio reads.
        backend_args (dict, optional): Where it lies, as in the datasets.

    Raises:
        CorruptFileError: The file is missing, unreadable, cut off or no
            image, or claims too many pixels.
    """
    path = os.fspath(path)
    content = read_bytes(path, 'image', backend_args, 'Correct the path.')
    image, why = try_decode(decode_image, content)
    if image is None:
        raise CorruptFileError(
            f'{path}: {len(content)} bytes that OpenCV cannot decode ({why}). '
            'Replace the file or convert it to JPEG or PNG.')
    return image


def free_stem(path: str, taken: Set[str]) -> str:
    """Stem of a file, with a number where it is one of ``taken`` (in lower
    case), to which it is added."""
    stem = candidate = Path(path).stem
    number = 2
    while candidate.lower() in taken:
        candidate, number = f'{stem}_{number}', number + 1
    taken.add(candidate.lower())
    return candidate


def write_image(path: str, image: np.ndarray) -> None:
    """Write a picture to a local file, whose folder is created; the suffix of
    ``path`` chooses the format."""
    _, content = cv2.imencode(osp.splitext(path)[1], image[..., ::-1])
    write_bytes(path, content.tobytes())
