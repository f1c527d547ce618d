"""Cityscapes as downloaded, prepared for training and evaluation.

Nothing that was there before is changed. Written are, below ROOT/gtFine or
OUT/gtFine,

panoptic_fpn_{split}.json   images; of train and val also the segments of
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
from typing import Callable, Dict, List, Optional, Sequence, Tuple

import cv2
import numpy as np

from mmengine_exact.errors import InputError
from mmengine_exact.workers import default_workers
from panoptic_fpn.cityscapes import PREPARED_VERSION, split_values
from panoptic_fpn.ops.run_length import segment_boxes

from ..label_map import file_stamp, read_label_map
from ..resumable import Job, Journal, convert_images, fresh_entries
from .files import ImageFiles, check_count, find_split
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

    Only what is missing or older than its label image is done; a run that
    was stopped, however it was, is continued by the next.

    Args:
        root (str): The folder.
        splits (Sequence[str]): Of 'train', 'val' and 'test'.
        num_workers (int, optional): Processes; by default one a core, at
            most 8.
        report (Callable): Called with lines about the progress.
        warn (Callable, optional): Called with what is odd but no obstacle;
            by default ``report`` with 'warning: ' before it.
        out (str, optional): Another folder to write to, as where ``root``
            is read-only; ``ann_file`` then needs its whole path.

    Returns:
        dict[str, dict]: For each split that is there, what ``summarize``
        counts; of 'test' only ``images`` and ``pixels``.

    Raises:
        InputError: The folder, a file or a value cannot be used; names it
            and says what to do.
    """
    root = osp.normpath(str(root))
    out = root if out is None else osp.normpath(str(out))
    warn = warn or (lambda text: report(f'warning: {text}'))
    found = {split: find_split(root, split, warn) for split in splits}
    if not any(found.values()):
        raise InputError(
            f'{root}: no image of {", ".join(splits)}; they are expected as '
            f'leftImg8bit/{splits[0]}/CITY/*_leftImg8bit.png. Unpack '
            'leftImg8bit_trainvaltest.zip here.')
    for split, files in found.items():
        check_count(split, len(files), warn)
    return {
        split:
        _prepare_split(out, split, files, num_workers or default_workers(),
                       report)
        for split, files in found.items() if files
    }


def _prepare_split(out: str, split: str, files: List[ImageFiles],
                   num_workers: int, report: Callable[[str], None]) -> Dict:
    if split == 'test':
        summary = dict(
            images=len(files), pixels=sum(f.height * f.width for f in files))
        write_prepared(out, split, files, None, summary)
        return summary
    jobs = [_job(out, split, item) for item in files]
    done = fresh_entries(jobs, prepared_entries(out, split))
    if len(done) == len(jobs):
        # without a journal: the folder may be read-only by now
        report(f'{split}: all {len(jobs)} images are converted already')
        return write_results(out, split, files, done)
    path = osp.join(out,
                    _JOURNAL.format(split=split, version=PREPARED_VERSION))
    with Journal(path) as journal:
        entries = convert_images(convert_image, jobs, journal, num_workers,
                                 report, f'{split}: ', done.values())
        summary = write_results(out, split, files, entries)
        journal.remove()
    return summary


def _job(out: str, split: str, files: ImageFiles) -> Job:
    png = None
    if split == OFFICIAL_SPLIT:
        png = osp.join(out, OFFICIAL_FILES, files.id + PANOPTIC_SUFFIX)
    return Job(files.id, (files.height, files.width), file_stamp(files.label),
               png, files)


def convert_image(job: Job) -> Tuple[Dict, Optional[bytes]]:
    """Convert the label image of a job whose source are its ``ImageFiles``.

    Returns:
        tuple[dict, bytes | None]: ``segments_info`` by ascending value,
        ``void_ids`` and ``ignored_ids``; and the panoptic PNG where the job
        asks for one.

    Raises:
        InputError: The label image cannot be used.
    """
    path = job.source.label
    values = read_label_map(path, job.size)
    if values.dtype != np.uint16:
        raise InputError(
            f'{path}: 8 bit, but *_gtFine_instanceIds.png are 16 bit grey. '
            'Restore the official file; labelIds, labelTrainIds and color '
            'have no instances.')
    described = describe_segments(values, path)
    if job.png is None:
        return described, None
    keep = [segment['id'] for segment in described['segments_info']]
    return described, panoptic_png(values, keep)


def describe_segments(values: np.ndarray, path: str) -> Dict:
    """Segments of a label image (h, w).

    Raises:
        InputError: A value that stands for nothing; names ``path``.
    """
    found, areas, boxes = segment_boxes(values)
    found = found.tolist()
    try:
        segments, void, ignored = split_values(found)
    except InputError as error:
        raise InputError(f'{path}: {error}') from None
    info = [
        dict(
            id=value,
            category_id=segments[value].category_id,
            area=area,
            bbox=box,
            iscrowd=int(segments[value].crowd))
        for value, area, box in zip(found, areas.tolist(), boxes.tolist())
        if value in segments
    ]
    return dict(segments_info=info, void_ids=void, ignored_ids=ignored)


def panoptic_png(values: np.ndarray, keep: List[int]) -> bytes:
    """COCO panoptic PNG, ids R + 256 G + 256^2 B, of a label image uint16
    (h, w); values that are not to ``keep`` become black."""
    kept = np.zeros(1 << 16, np.uint16)
    kept[keep] = keep
    # Two little-endian bytes of an id are R and G; OpenCV wants B, G, R. Not
    # id_to_rgb, which is for three bytes: 41 ms instead of 18 for an image.
    ids = np.ascontiguousarray(kept[values], dtype='<u2')
    bytes_ = ids.view(np.uint8).reshape(*ids.shape, 2)
    bgr = np.zeros((*ids.shape, 3), np.uint8)
    bgr[..., 2], bgr[..., 1] = bytes_[..., 0], bytes_[..., 1]
    return cv2.imencode('.png', bgr)[1].tobytes()
