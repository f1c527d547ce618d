"""Which files of a Cityscapes folder belong together, and what is missing.

    ROOT/leftImg8bit/{split}/{city}/{id}_leftImg8bit.png
    ROOT/gtFine/{split}/{city}/{id}_gtFine_instanceIds.png

Whatever would make training or evaluation go wrong later is reported here, in
one error with the path and what to do.
"""
import os.path as osp
from dataclasses import dataclass
from glob import escape, glob
from typing import Callable, Dict, List, Optional

from mmengine_exact.errors import InputError
from panoptic_fpn.cityscapes import (IMAGE_SUFFIX, INSTANCE_SUFFIX,
                                     SPLIT_SIZES, image_id)

from ..label_map import png_size
from ..resumable import one_error, some


@dataclass(frozen=True)
class ImageFiles:
    """One image of a split: where its files are and its (h, w)."""

    id: str
    image: str
    label: Optional[str]
    height: int
    width: int


def find_split(root: str, split: str,
               warn: Callable[[str], None]) -> List[ImageFiles]:
    """Images of a split and their label images, sorted by city and name.

    Args:
        root (str): The folder of leftImg8bit and gtFine.
        split (str): 'train', 'val' or 'test'; of the latter no label image
            is looked for.
        warn (Callable): Called with what is odd but no obstacle.

    Returns:
        list[ImageFiles]: Empty where the split is not there at all.

    Raises:
        InputError: The folder lacks a part, there are images without label
            image, images that are cut off or no PNG, or other names than
            Cityscapes'.
    """
    parts = [
        f'no folder {part}' for part in ('leftImg8bit', 'gtFine')
        if not osp.isdir(osp.join(root, part))
    ]
    if parts:
        raise InputError(
            f'{root}: {" and ".join(parts)}. Give the folder that '
            'leftImg8bit_trainvaltest.zip and gtFine_trainvaltest.zip were '
            'unpacked to.')
    images = _files(root, 'leftImg8bit', split, IMAGE_SUFFIX)
    labels = {}
    if split != 'test':
        labels = _files(root, 'gtFine', split, INSTANCE_SUFFIX)
        _check_pairs(root, split, images, labels, warn)
    sizes = {key: png_size(path) for key, path in images.items()}
    failures = [
        f'{images[key]}: no whole PNG. Restore the image.'
        for key, size in sizes.items() if size is None
    ]
    if failures:
        raise one_error(failures)
    return [
        ImageFiles(key, path, labels.get(key), *sizes[key])
        for key, path in images.items()
    ]


def check_count(split: str, count: int, warn: Callable[[str], None]) -> None:
    """Compare with the official number of images."""
    expected = SPLIT_SIZES[split]
    if not count:
        warn(f'{split}: no images, left out')
    elif count != expected:
        kind = 'fewer' if count < expected else 'more'
        warn(f'{split}: {count} images, {abs(expected - count)} {kind} than '
             f'the {expected} of Cityscapes. Results are not comparable with '
             'published ones.')


def _files(root: str, kind: str, split: str, suffix: str) -> Dict[str, str]:
    pattern = osp.join(escape(root), kind, split, '*', f'*{suffix}')
    result: Dict[str, str] = {}
    for path in sorted(glob(pattern)):
        key = image_id(path)
        if key in result:
            raise InputError(f'{path}: {result[key]} has the same name. '
                             'Remove one of them.')
        result[key] = path
    return result


def _check_pairs(root: str, split: str, images: Dict[str, str],
                 labels: Dict[str, str], warn: Callable[[str], None]) -> None:
    folder = osp.join(root, 'gtFine', split)
    missing = [key for key in images if key not in labels]
    if missing:
        raise InputError(
            f'{folder}: {len(missing)} of {len(images)} images of '
            f'leftImg8bit/{split} have no *{INSTANCE_SUFFIX}: '
            f'{some(missing)}. Unpack gtFine_trainvaltest.zip to {root} again '
            '(not gtCoarse), or remove the images.')
    alone = [key for key in labels if key not in images]
    if alone:
        warn(f'{folder}: {len(alone)} label images without image in '
             f'leftImg8bit/{split} are left out: {some(alone)}.')
