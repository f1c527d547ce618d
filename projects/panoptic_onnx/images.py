"""Images as the network takes them, and files in and out.

Images are BGR uint8 (h, w, 3), as OpenCV reads them.
"""
import os
from contextlib import suppress
from pathlib import Path
from typing import List, Mapping, Sequence, Tuple

import cv2
import numpy as np

from .errors import DeployError

#: Suffixes of the files that are taken from a folder.
SUFFIXES = ('.jpg', '.jpeg', '.png', '.bmp', '.webp', '.tif', '.tiff')
#: Ends of the names of results, which are no images.
RESULTS = ('_overlay.png', '_panoptic.png')


def resized_shape(shape: Tuple[int, int], scale: Sequence[int],
                  keep_ratio: bool) -> Tuple[int, int]:
    """Size at which an image goes into the network, without padding.

    Args:
        shape (tuple[int, int]): (h, w) of the image.
        scale (Sequence[int]): Largest (w, h); with ``keep_ratio`` the longer
            and the shorter side, in any order.
        keep_ratio (bool): Whether height over width stays.

    Returns:
        tuple[int, int]: (h, w).
    """
    if not keep_ratio:
        return scale[1], scale[0]
    factor = min(max(scale) / max(shape), min(scale) / min(shape))
    height, width = (int(side * factor + 0.5) for side in shape)
    return height, width


def prepare(image: np.ndarray,
            settings: Mapping) -> Tuple[np.ndarray, Tuple[int, int]]:
    """Resize, normalize and pad an image.

    Args:
        image (np.ndarray): BGR uint8 (h, w, 3).
        settings (Mapping): ``preprocessing`` of the model file.

    Returns:
        tuple[np.ndarray, tuple[int, int]]: float32 (1, 3, H, W), and (h, w)
        of the image on it; the rest is padding.

    Raises:
        DeployError: It is no image, or too long for the scale.
    """
    if (not isinstance(image, np.ndarray) or image.ndim != 3
            or image.shape[2] != 3 or not image.size
            or image.dtype != np.uint8):
        raise DeployError(
            f'{getattr(image, "dtype", type(image).__name__)} of shape '
            f'{getattr(image, "shape", None)} is no image. Give BGR uint8 of '
            'shape (h, w, 3).')
    shape = resized_shape(image.shape[:2], settings['scale'],
                          settings['keep_ratio'])
    if min(shape) < 1:
        raise DeployError(
            f'an image of {image.shape[:2]} (h, w) is too long: at the scale '
            f'{tuple(settings["scale"])} of the model its shorter side has no '
            'pixel. Cut it into pieces.')
    pixels = cv2.resize(image, shape[::-1], interpolation=cv2.INTER_LINEAR)
    if settings['to_rgb']:
        pixels = pixels[..., ::-1]
    pixels = pixels.astype(np.float32)
    pixels = (pixels - np.float32(settings['mean'])) / np.float32(
        settings['std'])
    divisor = settings['divisor']
    padded = [-(-side // divisor) * divisor for side in shape]
    inputs = np.full((1, 3, *padded), settings['pad_value'], np.float32)
    inputs[0, :, :shape[0], :shape[1]] = pixels.transpose(2, 0, 1)
    return inputs, shape


def read_image(path: str) -> np.ndarray:
    """An image, its orientation tag applied.

    Raises:
        DeployError: The file is missing, cut off or no image.
    """
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        raise DeployError(f'{path}: cannot be read ({error.strerror}). Give '
                          'an image that exists.') from None
    image = cv2.imdecode(np.frombuffer(content, np.uint8),
                         cv2.IMREAD_COLOR) if content else None
    if image is None:
        raise DeployError(
            f'{path}: {len(content)} bytes that are no image OpenCV can '
            'decode. Replace the file or convert it to JPEG or PNG.')
    if is_cut_off(content):
        raise DeployError(f'{path}: the end of the file is missing, so a part '
                          'of the image would be grey. Copy it again.')
    return image


def is_cut_off(content: bytes) -> bool:
    """Whether a JPEG or PNG ends before its image does."""
    if content.startswith(b'\xff\xd8'):
        # the thumbnail of a camera has an end, too, before the last scan
        return content.rfind(b'\xff\xd9') < content.rfind(b'\xff\xda')
    return content.startswith(b'\x89PNG') and b'IEND' not in content


def find_images(paths: Sequence[str]) -> List[str]:
    """Files as they are given, and the images below folders, sorted; each
    once. Results of an earlier run in a folder are no images."""
    found = {}
    for path in map(Path, paths):
        below = [path]
        if path.is_dir():
            below = sorted(
                file for file in path.rglob('*')
                if file.name.lower().endswith(SUFFIXES)
                and not file.name.lower().endswith(RESULTS))
        found.update(dict.fromkeys(map(str, below)))
    return list(found)


def unique_stems(paths: Sequence[str]) -> List[str]:
    """First parts of result names: stems, told apart by a number."""
    taken, stems = set(), []
    for path in paths:
        stem = candidate = Path(path).stem
        number = 2
        while candidate.lower() in taken:
            candidate, number = f'{stem}_{number}', number + 1
        taken.add(candidate.lower())
        stems.append(candidate)
    return stems


def write_bytes(path: str, content: bytes) -> None:
    """Write a file that is either complete or not there at all."""
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f'.{target.name}.{os.getpid()}')
    try:
        partial.write_bytes(content)
        os.replace(partial, path)
    finally:
        with suppress(FileNotFoundError):
            partial.unlink()
