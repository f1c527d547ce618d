"""Check a data set in COCO panoptic format: JSON, images and PNGs."""
import os
import os.path as osp
from typing import (Any, Callable, Dict, Iterator, NamedTuple, Optional,
                    Sequence, Set, Tuple)

from mmengine_exact.errors import InputError
from mmengine_exact.files import find_name_fault
from mmengine_exact.workers import default_workers, run_jobs

from .categories import check_categories, is_whole
from .duplicates import Pictures, digest_images
from .findings import Findings
from .image_files import ImageJob, Size, check_images
from .repair import Repair, Repairer
from .statistics import Statistics
from .structure import Pair, Structure, check_structure, read_json

#: Images of one call of a process: few enough for a bar that moves.
_CHUNK = 8

#: Called with the number of images of a step; gives what is called with the
#: number of those that are done.
Progress = Callable[[str, int], Callable[[int], None]]


class CheckResult(NamedTuple):
    """What was found: ``summary`` as :meth:`Statistics.summary` (None where
    the JSON cannot be read), ``repair`` where it was asked for."""

    findings: Findings
    summary: Optional[dict]
    repair: Optional[Repair]


def check_dataset(path: str,
                  images: str,
                  panoptic: str,
                  against: Optional[str] = None,
                  against_images: Optional[str] = None,
                  num_workers: Optional[int] = None,
                  repair: bool = False,
                  progress: Progress = lambda step, size: lambda done: None,
                  keep: int = 1000) -> CheckResult:
    """Read everything and say what is wrong.

    Args:
        path (str): The panoptic JSON.
        images (str): Folder of its images.
        panoptic (str): Folder of its PNGs.
        against (str, optional): Another COCO JSON, with none of whose images
            this data set may share a picture (training against validation).
        against_images (str, optional): Folder of its images; both or none.
        num_workers (int, optional): Processes; by default one for each core,
            at most 8.
        repair (bool): Whether to compute anew what can be.
        progress (Callable): Of long steps.
        keep (int): Examples of each kind of finding to keep.

    Returns:
        CheckResult: Nothing is written, and nothing raised for what is wrong
        with the data.

    Raises:
        InputError: ``against`` without ``against_images``, or the other
            way round.
    """
    if (against is None) != (against_images is None):
        raise InputError(f'against={against}, against_images='
                         f'{against_images}: give both or none.')
    findings, workers = Findings(keep), num_workers or default_workers()
    content = read_json(path, findings)
    if content is None:
        return CheckResult(findings, None, None)
    structure = check_structure(content, path, findings)
    jobs = [_job(pair, path, images, panoptic) for pair in structure.pairs]
    statistics, pictures = Statistics(structure), Pictures()
    repairer = Repairer(content, structure) if repair else None
    results = _run(check_images, jobs, workers, progress(path, len(jobs)))
    for pair, job, result in zip(structure.pairs, jobs, results):
        findings.extend(result.findings)
        statistics.add(pair, result)
        if job.image is not None:
            pictures.add(result.digest, job.image)
        if repairer is not None:
            repairer.add(pair, job, result)
    pictures.find_twice(findings)
    _find_extra(content, panoptic, findings)
    if against is not None and against_images is not None:
        _check_against(against, against_images, structure, pictures, findings,
                       workers, progress)
    return CheckResult(findings, statistics.summary(),
                       None if repairer is None else repairer.result())


def _run(function: Callable, items: Sequence, workers: int,
         done: Callable[[int], None]) -> Iterator[Any]:
    """Results of a function on chunks of items, one after the other."""
    chunks = [items[i:i + _CHUNK] for i in range(0, len(items), _CHUNK)]
    for results in run_jobs(function, chunks, workers, in_order=True):
        done(len(results))
        yield from results


def _job(pair: Pair, path: str, images: str, panoptic: str) -> ImageJob:
    note, image = pair.annotation or {}, pair.image
    ignored = note.get('ignored_ids')
    ignored = ignored if isinstance(ignored, list) else []
    other_ids = None
    if isinstance(note.get('void_ids'), list):
        other_ids = [id_ for id_ in note['void_ids'] if is_whole(id_)]
    return ImageJob(
        where=f'{path}: image_id={image["id"]!r}',
        image=_file(images, image),
        png=_file(panoptic, note) if isinstance(
            note.get('segments_info'), list) else None,
        size=_size(image),
        segments=[(s['id'], s.get('area'), s.get('bbox'))
                  for s in pair.segments],
        other_ids=other_ids,
        ignored=[id_ for id_ in ignored if is_whole(id_)])


def _file(folder: str, entry: dict) -> Optional[str]:
    """Path of what an entry names; None where it may not be followed."""
    name = entry.get('file_name')
    if name is None or find_name_fault(name) is not None:
        return None
    return osp.join(folder, name)


def _size(image: dict) -> Optional[Size]:
    height, width = image.get('height'), image.get('width')
    if isinstance(height, int) and isinstance(width, int):
        return height, width
    return None


def _find_extra(content: dict, panoptic: str, findings: Findings) -> None:
    """PNGs in the folder, and below it, that no annotation names.

    Not where label maps are read as they are (``void_ids``): Cityscapes'
    folders hold other PNGs, too.
    """
    notes = content.get('annotations')
    notes = [
        note for note in (notes if isinstance(notes, list) else [])
        if isinstance(note, dict)
    ]
    if any('void_ids' in note for note in notes):
        return
    paths = [_file(panoptic, note) for note in notes]
    named = {osp.normpath(path) for path in paths if path is not None}
    for folder, _, names in sorted(os.walk(panoptic)):
        for name in sorted(names):
            path = osp.normpath(osp.join(folder, name))
            if name.lower().endswith('.png') and path not in named:
                findings.add('png_extra', path, f'{osp.getsize(path)} bytes')


def _check_against(path: str, images: str, structure: Structure,
                   pictures: Pictures, findings: Findings, workers: int,
                   progress: Progress) -> None:
    content = read_json(path, findings)
    if content is None:
        return
    if 'categories' in content and structure.categories:
        categories = check_categories(content['categories'], path, findings)
        ours, theirs = _described(structure.categories), _described(categories)
        if ours != theirs:
            findings.add(
                'other_categories', path, '(id, name, isthing) of '
                f'one only: {sorted(ours ^ theirs, key=str)[:6]}')
    entries = content.get('images')
    entries = entries if isinstance(entries, list) else []
    paths = [_file(images, e) for e in entries if isinstance(e, dict)]
    paths = [name for name in paths if name is not None]
    others = Pictures()
    results = _run(digest_images, paths, workers, progress(path, len(paths)))
    for name, digest, found in results:
        findings.extend(found)
        others.add(digest, name)
    pictures.find_leakage(others, findings)


def _described(categories: Dict[int, dict]) -> Set[Tuple[int, str, str]]:
    return {(id_, str(c.get('name')), str(c.get('isthing')))
            for id_, c in categories.items()}
