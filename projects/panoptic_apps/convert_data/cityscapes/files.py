"""Which files of a Cityscapes folder belong together, and what is missing.

    ROOT/leftImg8bit/{split}/{city}/{id}_leftImg8bit.png
    ROOT/gtFine/{split}/{city}/{id}_gtFine_instanceIds.png

Whatever would make training or evaluation go wrong later on is told here, in
one error with the path and what to do.
"""
import os.path as osp
from dataclasses import dataclass
from glob import escape, glob
from typing import Callable, Dict, List, Optional, Sequence

from mmengine_exact.errors import CorruptFileError, InputError
from panoptic_fpn.cityscapes import (IMAGE_SUFFIX, INSTANCE_SUFFIX,
                                     SPLIT_SIZES, image_id)

from ..jobs import one_error, some
from .png_header import read_header

_IMAGES_ZIP = 'leftImg8bit_trainvaltest.zip'
_LABELS_ZIP = 'gtFine_trainvaltest.zip'


@dataclass(frozen=True)
class ImageFiles:
    """One image of a split: where its files are and its (h, w)."""

    id: str
    image: str
    label: Optional[str]
    height: int
    width: int


def check_root(root: str) -> None:
    """See that ``root`` is the folder that both parts were unpacked to.

    Raises:
        InputError: It is not; says which folder is meant.
    """
    if not osp.isdir(root):
        raise InputError(f'{root}: no such folder. Give the folder that '
                         'holds leftImg8bit and gtFine.')
    parts = ('leftImg8bit', 'gtFine')
    found = [part for part in parts if osp.isdir(osp.join(root, part))]
    if len(found) == 2:
        return
    meant = _meant_root(osp.abspath(root), parts)
    if meant:
        raise InputError(f'{root}: not the folder that holds leftImg8bit '
                         f'and gtFine. Give {meant} instead.')
    if not found:
        raise InputError(
            f'{root}: holds neither leftImg8bit nor gtFine. Unpack '
            f'{_IMAGES_ZIP} and {_LABELS_ZIP} into one folder and give it.')
    if found == ['gtFine']:
        raise InputError(f'{root}: no folder leftImg8bit, the images. '
                         f'Unpack {_IMAGES_ZIP} here.')
    coarse = osp.isdir(osp.join(root, 'gtCoarse'))
    raise InputError(f'{root}: no folder gtFine' + (
        ', only the coarse annotation, in which most pixels have no label'
        if coarse else ', the annotation') + f'. Unpack {_LABELS_ZIP} here.')


def _meant_root(root: str, parts: Sequence[str]) -> Optional[str]:
    """The folder above or below that was likely to be given."""
    if osp.basename(root) in (*parts, 'gtCoarse'):
        return osp.dirname(root)
    above = [osp.dirname(root), osp.dirname(osp.dirname(root))]
    for folder in above + sorted(glob(osp.join(escape(root), '*'))):
        if all(osp.isdir(osp.join(folder, part)) for part in parts):
            return folder
    return None


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
        InputError: Images without label image, images that are cut off or
            no PNG, or names that are none of Cityscapes'.
    """
    images = _files(root, 'leftImg8bit', split, IMAGE_SUFFIX)
    labels = {}
    if split != 'test':
        labels = _files(root, 'gtFine', split, INSTANCE_SUFFIX)
        _check_pairs(root, split, images, labels, warn)
    result, failures = [], []
    for key, path in images.items():
        try:
            header = read_header(path, 'image')
        except CorruptFileError as error:
            failures.append(str(error))
            continue
        result.append(
            ImageFiles(key, path, labels.get(key), header.height,
                       header.width))
    if failures:
        raise one_error(failures)
    return result


def check_count(split: str, count: int, warn: Callable[[str], None]) -> None:
    """Compare with the official number of images."""
    expected = SPLIT_SIZES[split]
    if count != expected:
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
        cities = sorted({
            city
            for city in (osp.basename(osp.dirname(images[key]))
                         for key in missing)
            if not osp.isdir(osp.join(folder, city))
        })
        coarse = glob(osp.join(escape(folder), '*', '*_gtCoarse_*.png'))
        if coarse:
            reason = (f'Files like {osp.basename(coarse[0])} are coarse '
                      'annotation, in which most pixels have no label')
        elif cities:
            reason = f'Missing are the folders of {some(cities)}'
        else:
            reason = f'Without are {some(missing)}'
        raise InputError(
            f'{folder}: {len(missing)} of {len(images)} images of '
            f'leftImg8bit/{split} have no *{INSTANCE_SUFFIX}. {reason}. '
            f'Unpack {_LABELS_ZIP} to {root} again, or remove the images.')
    alone = [key for key in labels if key not in images]
    if alone:
        warn(f'{folder}: {len(alone)} label images without image in '
             f'leftImg8bit/{split} are left out: {some(alone)}.')
