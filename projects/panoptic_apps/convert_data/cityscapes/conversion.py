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
import os
import os.path as osp
from contextlib import closing, suppress
from typing import Callable, Dict, List, NamedTuple, Optional, Sequence, Tuple

from mmengine_exact.errors import CorruptFileError, InputError
from mmengine_exact.workers import default_workers
from panoptic_fpn.cityscapes import PREPARED_VERSION, SPLIT_SIZES

from ..jobs import convert_all
from .files import ImageFiles, check_count, check_root, find_split
from .label_image import (describe_segments, file_stamp, panoptic_png,
                          read_label_image)
from .output import Journal, write_file
from .png_header import read_header
from .prepared_files import (OFFICIAL_FILES, OFFICIAL_SPLIT, PANOPTIC_SUFFIX,
                             prepared_entries, write_prepared, write_results)

_JOURNAL = 'gtFine/.panoptic_fpn_cache_{split}_v{version}.jsonl'


class Job(NamedTuple):
    """What a worker is told: an image, its label file's stamp, and where its
    panoptic PNG goes (None: it gets none)."""

    files: ImageFiles
    stamp: List[int]
    png: Optional[str]


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
        InputError: The folder, a file or a value cannot be used, or
            nothing can be written; names it and says what to do.
    """
    root = osp.normpath(str(root))
    out = root if out is None else osp.normpath(str(out))
    warn = warn or (lambda text: report(f'warning: {text}'))
    if num_workers is None:
        num_workers = default_workers()
    _check_arguments(splits, num_workers)
    check_root(root)
    found = {}
    for split in splits:
        files = find_split(root, split, warn)
        if files:
            found[split] = files
    if not found:
        raise InputError(
            f'{root}: no image of {", ".join(splits)}; they are expected as '
            f'leftImg8bit/{splits[0]}/CITY/*_leftImg8bit.png. Unpack '
            'leftImg8bit_trainvaltest.zip here.')
    for split in splits:
        if split in found:
            check_count(split, len(found[split]), warn)
        else:
            warn(f'{split}: no images, left out')
    return {
        split: _prepare_split(out, split, files, num_workers, report, warn)
        for split, files in found.items()
    }


def _check_arguments(splits: Sequence[str], num_workers: int) -> None:
    for split in splits:
        if split not in SPLIT_SIZES:
            raise InputError(
                f'{split!r} is no split of the fine annotation. Choose from '
                f'{", ".join(SPLIT_SIZES)}.')
    if not splits or num_workers < 1:
        raise InputError(f'splits {list(splits)}, {num_workers} workers: '
                         'ask for one split and one worker at least.')


def _prepare_split(out: str, split: str, files: List[ImageFiles],
                   num_workers: int, report: Callable[[str], None],
                   warn: Callable[[str], None]) -> Dict:
    if split == 'test':
        summary = dict(
            images=len(files), pixels=sum(f.height * f.width for f in files))
        write_prepared(out, split, files, None, summary)
        return summary
    jobs = [_job(out, split, item) for item in files]
    entries = _fresh(jobs, prepared_entries(out, split))
    journal_path = osp.join(
        out, _JOURNAL.format(split=split, version=PREPARED_VERSION))
    if len(entries) == len(jobs):
        report(f'{split}: all {len(jobs)} images are prepared already')
        with suppress(OSError):  # of a run that ended between two writes
            os.unlink(journal_path)
        return write_results(out, split, files, entries)
    with Journal(journal_path) as journal:
        entries.update(_fresh(jobs, journal.entries))
        if entries:
            report(f'{split}: {len(entries)} of {len(jobs)} images are '
                   'prepared already')
        todo = [job for job in jobs if job.files.id not in entries]
        with closing(
                convert_all(convert_image, todo, num_workers, report,
                            f'{split}: ')) as new:
            for entry in new:
                journal.add(entry)
                entries[entry['image_id']] = entry
        summary = write_results(out, split, files, entries)
        journal.remove()
    _check_instances(osp.dirname(osp.dirname(files[0].label)), summary, warn)
    return summary


def _check_instances(folder: str, summary: Dict, warn: Callable[[str],
                                                                None]) -> None:
    things = [row for row in summary['classes'] if row['isthing']]
    if sum(row['groups'] for row in things) and not sum(row['segments']
                                                        for row in things):
        warn(f'{folder}: groups of things but not '
             'one instance. If these are labelIds under another name, restore '
             'the official *_gtFine_instanceIds.png.')


def _job(out: str, split: str, files: ImageFiles) -> Job:
    png = None
    if split == OFFICIAL_SPLIT:
        png = osp.join(out, OFFICIAL_FILES, files.id + PANOPTIC_SUFFIX)
    return Job(files, file_stamp(files.label), png)


def _fresh(jobs: List[Job], entries: List[Dict]) -> Dict[str, Dict]:
    """Those entries that a new conversion would only repeat, by image."""
    by_id = {entry.get('image_id'): entry for entry in entries}
    result = {}
    for job in jobs:
        entry = by_id.get(job.files.id)
        if entry and entry['stamp'] == job.stamp and _png_is_there(job) and (
                entry['height'], entry['width']) == (job.files.height,
                                                     job.files.width):
            result[job.files.id] = entry
    return result


def _png_is_there(job: Job) -> bool:
    if job.png is None:
        return True
    try:
        header = read_header(job.png, 'panoptic PNG')
    except CorruptFileError:
        return False
    return (header.height, header.width) == (job.files.height, job.files.width)


def convert_image(job: Job) -> Tuple[Optional[Dict], str]:
    """Convert one image.

    Returns:
        tuple[dict | None, str]: Its entry: image_id, stamp, height, width and
        ``describe_segments``; or None and what is wrong with its files.

    Raises:
        WriteError: The panoptic PNG cannot be written.
    """
    files = job.files
    size = files.height, files.width
    try:
        values = read_label_image(files.label, size)
        described = describe_segments(values, files.label)
    except InputError as error:
        return None, str(error)
    if job.png is not None:
        keep = [segment['id'] for segment in described['segments_info']]
        write_file(job.png, panoptic_png(values, keep))
    return dict(
        image_id=files.id,
        stamp=job.stamp,
        height=size[0],
        width=size[1],
        **described), ''
