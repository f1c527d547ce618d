"""Cityscapes as downloaded, prepared for training and evaluation.

    ROOT/leftImg8bit/{split}/{city}/{id}_leftImg8bit.png
    ROOT/gtFine/{split}/{city}/{id}_gtFine_instanceIds.png

No file of the download is changed. These are written below ROOT/gtFine or
OUT/gtFine:

panoptic_fpn_{split}.json   images; for train and val also the segments of
                            *_gtFine_instanceIds.png, which training and
                            evaluation read themselves
cityscapes_panoptic_val.json, cityscapes_panoptic_val/
                            COCO panoptic JSON and PNGs for the official
                            scripts, as cityscapesscripts' converter makes
                            them, except that file names of images exist

Finished images are noted in .panoptic_fpn_cache_{split}_v1.jsonl, so a run
that was stopped continues. Boxes are (x, y, w, h) in pixels.
"""
import os.path as osp
from glob import escape, glob
from typing import Callable, Dict, List, Optional, Sequence, Tuple

import numpy as np

from mmengine_exact.errors import InputError
from panoptic_fpn.cityscapes import (IMAGE_SUFFIX, INSTANCE_SUFFIX,
                                     PREPARED_VERSION, SPLIT_SIZES, image_id,
                                     split_values)
from panoptic_fpn.coco_format import encode_png, measure_segments

from ..label_map import read_label_map
from ..resumable import (Job, Journal, convert_images, file_stamp,
                         fresh_entries, png_size, raise_failures, some)
from .prepared import (OFFICIAL_FILES, OFFICIAL_SPLIT, PANOPTIC_SUFFIX,
                       prepared_entries, write_prepared, write_results)

_JOURNAL = 'gtFine/.panoptic_fpn_cache_{split}_v{version}.jsonl'


def prepare(root: str,
            splits: Sequence[str] = ('train', 'val', 'test'),
            num_workers: Optional[int] = None,
            report: Callable[[str], None] = print,
            warn: Optional[Callable[[str], None]] = None,
            out: Optional[str] = None) -> Dict[str, Dict]:
    """Prepare the folder that leftImg8bit and gtFine were unpacked to.

    Only what is missing or older than its label image is done; a run
    continues one that was stopped in any way.

    Args:
        root (str): The folder.
        splits (Sequence[str]): Of 'train', 'val' and 'test'.
        num_workers (int, optional): By default one per core, at most 8.
        report, warn (Callable): Called with lines about the progress, and
            with oddities that are not errors.
        out (str, optional): Another folder to write to, where ``root`` is
            read-only, say; ``ann_file`` then needs its whole path.

    Returns:
        dict[str, dict]: For each split that is there, what ``summarize``
        counts; for 'test' only ``images`` and ``pixels``.

    Raises:
        InputError: Names the file or value that cannot be used, and the fix.
    """
    root = osp.normpath(str(root))
    out = root if out is None else osp.normpath(str(out))
    warn = warn or (lambda text: report(f'warning: {text}'))
    found = {split: find_split(root, out, split, warn) for split in splits}
    if not any(found.values()):
        raise InputError(
            f'{root}: no image of {", ".join(splits)}; they are expected as '
            f'leftImg8bit/{splits[0]}/CITY/*_leftImg8bit.png. Give the folder '
            'that leftImg8bit_trainvaltest.zip and gtFine_trainvaltest.zip '
            'were unpacked to.')
    for split, jobs in found.items():
        if len(jobs) != SPLIT_SIZES[split]:
            warn(f'{split}: {len(jobs)} images, not the {SPLIT_SIZES[split]} '
                 'of Cityscapes. Results are not comparable with published '
                 'ones.')
    return {
        split: _prepare_split(out, split, jobs, num_workers, report)
        for split, jobs in found.items() if jobs
    }


def find_split(root: str, out: str, split: str,
               warn: Callable[[str], None]) -> List[Job]:
    """Images of a split, sorted by city and name; 'test' has no labels."""
    jobs, failures = [], []
    for path in _paths(root, 'leftImg8bit', split, IMAGE_SUFFIX):
        id_, city = image_id(path), osp.basename(osp.dirname(path))
        label = osp.join(root, 'gtFine', split, city, id_ + INSTANCE_SUFFIX)
        size, png = png_size(path), None
        if split == OFFICIAL_SPLIT:
            png = osp.join(out, OFFICIAL_FILES, id_ + PANOPTIC_SUFFIX)
        if size is None:
            failures.append(f'{path}: not a whole PNG. Restore the image.')
        elif split != 'test' and not osp.isfile(label):
            failures.append(
                f'{label}: no such file, but its image is there. Unpack '
                'gtFine_trainvaltest.zip again (not gtCoarse), or remove the '
                'image.')
        else:
            name = f'{city}/{osp.basename(path)}'
            image = dict(id=id_, file_name=name, height=size[0], width=size[1])
            jobs.append(Job(image, label, png, file_stamp(label)))
    raise_failures(failures)
    alone = sorted({*_paths(root, 'gtFine', split, INSTANCE_SUFFIX)} -
                   {job.label
                    for job in jobs})
    if alone and split != 'test':
        warn(f'{len(alone)} label images without image in '
             f'leftImg8bit/{split} are left out: {some(alone)}.')
    return jobs


def _paths(root: str, kind: str, split: str, suffix: str) -> List[str]:
    pattern = osp.join(escape(root), kind, split, '*', f'*{suffix}')
    return sorted(glob(pattern))


def _prepare_split(out: str, split: str, jobs: List[Job],
                   num_workers: Optional[int], report: Callable[[str],
                                                                None]) -> Dict:
    if split == 'test':
        pixels = sum(job.size[0] * job.size[1] for job in jobs)
        summary = dict(images=len(jobs), pixels=pixels)
        write_prepared(out, split, jobs, None, summary)
        return summary
    done = fresh_entries(jobs, prepared_entries(out, split))
    if len(done) == len(jobs):
        # without a journal: the folder may be read-only by now
        report(f'{split}: all {len(jobs)} images are converted already')
        return write_results(out, split, jobs, done)
    name = _JOURNAL.format(split=split, version=PREPARED_VERSION)
    with Journal(osp.join(out, name)) as journal:
        journal.entries = [*done.values(), *journal.entries]
        entries = convert_images(convert_image, jobs, journal, num_workers,
                                 lambda text: report(f'{split}: {text}'))
        return write_results(out, split, jobs, entries)


def convert_image(job: Job) -> Tuple[Dict, Optional[bytes]]:
    """``segments_info`` by ascending value, ``void_ids``, ``ignored_ids``; and
    the panoptic PNG where the job asks for one."""
    # labelIds, labelTrainIds and color, which have no instances, are 8 bit
    values = read_label_map(job.label, job.size, bits=16)
    described = describe_segments(values, job.label)
    if job.png is None:
        return described, None
    keep = [segment['id'] for segment in described['segments_info']]
    kept = np.zeros(1 << 16, np.uint16)
    kept[keep] = keep
    return described, encode_png(kept[values])


def describe_segments(values: np.ndarray, path: str) -> Dict:
    """Segments of a label image (h, w); errors name ``path``."""
    found = measure_segments(values, ())
    try:
        segments, void, ignored = split_values(list(found))
    except InputError as error:
        raise InputError(f'{path}: {error}') from None
    info = [
        dict(
            id=value,
            category_id=meaning.category_id,
            area=found[value][0],
            bbox=found[value][1],
            iscrowd=int(meaning.crowd)) for value, meaning in segments.items()
    ]
    return dict(segments_info=info, void_ids=void, ignored_ids=ignored)
