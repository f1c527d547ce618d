"""Check a data set in COCO panoptic format: JSON, images and PNGs."""
import os
import os.path as osp
from typing import (Any, Callable, Dict, Iterator, List, NamedTuple, Optional,
                    Sequence, Set, Tuple)

from mmengine_exact.errors import InputError
from mmengine_exact.files import find_name_fault, read_bytes
from mmengine_exact.workers import default_workers, run_jobs
from panoptic_fpn.coco_format import (WARNING, Fault, Faults, Pair, Structure,
                                      category_faults, collect,
                                      panoptic_faults, panoptic_warnings,
                                      parse_object)
from panoptic_fpn.coco_format.faults import is_whole

from .image_files import ImageJob, check_images, digest_images
from .repair import Repair, Repairer
from .statistics import Statistics

#: Images of one call of a process: few enough for a bar that moves.
_CHUNK = 8

#: Called with the number of images of a step; gives what is called with the
#: number of those that are done.
Progress = Callable[[str, int], Callable[[int], None]]


class CheckResult(NamedTuple):
    """``faults``; ``summary`` of :meth:`Statistics.summary` (None where the
    JSON cannot be read), ``repair`` where it was asked for."""

    faults: Faults
    summary: Optional[dict]
    repair: Optional[Repair]


def check_dataset(path: str,
                  images: str,
                  panoptic: str,
                  against: Optional[Tuple[str, str]] = None,
                  num_workers: Optional[int] = None,
                  repair: bool = False,
                  progress: Progress = lambda step, size: lambda done: None,
                  keep: int = 1000) -> CheckResult:
    """Read everything and say what is wrong.

    Args:
        path (str): The panoptic JSON.
        images (str): Folder of its images.
        panoptic (str): Folder of its PNGs.
        against (tuple[str, str], optional): Another COCO JSON and the folder
            of its images, with which this data set may share no picture
            (training against validation).
        num_workers (int, optional): Processes; by default one for each core,
            at most 8.
        repair (bool): Whether to compute anew what can be.
        progress (Callable): See :data:`Progress`.
        keep (int): Examples of each kind of fault to keep.

    Returns:
        CheckResult: Nothing is written, and nothing raised for what is wrong
        with the data.
    """
    faults, workers = Faults(keep), num_workers or default_workers()
    content = _read_json(path, faults)
    if content is None:
        return CheckResult(faults, None, None)
    structure = collect(panoptic_faults(content, path), faults.add)
    faults.extend(panoptic_warnings(structure, path))
    jobs = [_job(pair, path, images, panoptic) for pair in structure.pairs]
    statistics, pictures = Statistics(structure), Pictures()
    repairer = Repairer(content, structure) if repair else None
    results = _run(check_images, jobs, workers, progress(path, len(jobs)))
    for pair, job, result in zip(structure.pairs, jobs, results):
        faults.extend(result.faults)
        statistics.add(pair, result)
        if job.image is not None:
            pictures.add(result.digest, job.image)
        if repairer is not None:
            repairer.add(pair, job, result)
    faults.extend(pictures.copies())
    faults.extend(_extra_files(content, panoptic))
    if against is not None:
        _check_against(*against, structure, pictures, faults, workers,
                       progress)
    return CheckResult(faults, statistics.summary(),
                       None if repairer is None else repairer.result())


def _read_json(path: str, faults: Faults) -> Optional[dict]:
    try:
        return parse_object(read_bytes(path, 'JSON', None), path)
    except InputError as error:
        faults.add(Fault('json_unreadable', path, str(error)))
        return None


def _run(function: Callable, items: Sequence, workers: int,
         done: Callable[[int], None]) -> Iterator[Any]:
    """Results of a function on chunks of items, one after the other."""
    chunks = [items[i:i + _CHUNK] for i in range(0, len(items), _CHUNK)]
    for results in run_jobs(function, chunks, workers, in_order=True):
        done(len(results))
        yield from results


def _job(pair: Pair, path: str, images: str, panoptic: str) -> ImageJob:
    note, image = pair.annotation or {}, pair.image
    listed = isinstance(note.get('segments_info'), list)
    size = image.get('height'), image.get('width')
    return ImageJob(
        where=f'{path}: image_id={image["id"]!r}',
        image=_file(images, image),
        png=_file(panoptic, note) if listed else None,
        size=size if all(map(is_whole, size)) else None,  # type: ignore
        segments=pair.segments,
        other_ids=_whole(note, 'void_ids') if 'void_ids' in note else None,
        ignored=_whole(note, 'ignored_ids'))


def _whole(note: dict, key: str) -> List[int]:
    """Whole numbers of a list of an annotation."""
    ids = note.get(key)
    return list(filter(is_whole, ids)) if isinstance(ids, list) else []


def _file(folder: str, entry: dict) -> Optional[str]:
    """Path of what an entry names; None where it may not be followed."""
    name = entry.get('file_name')
    return None if find_name_fault(name) else osp.join(folder, str(name))


def _objects(content: dict, key: str) -> List[dict]:
    entries = content.get(key)
    entries = entries if isinstance(entries, list) else []
    return [entry for entry in entries if isinstance(entry, dict)]


def _extra_files(content: dict, panoptic: str) -> Iterator[Fault]:
    """PNGs in the folder, and below it, that no annotation names.

    Not where label maps are read as they are (``void_ids``): Cityscapes'
    folders hold other PNGs, too.
    """
    notes = _objects(content, 'annotations')
    if any('void_ids' in note for note in notes):
        return
    paths = [_file(panoptic, note) for note in notes]
    named = {osp.normpath(path) for path in paths if path is not None}
    for folder, _, names in sorted(os.walk(panoptic)):
        for name in sorted(names):
            path = osp.normpath(osp.join(folder, name))
            if name.lower().endswith('.png') and path not in named:
                yield Fault('png_extra', path, f'{osp.getsize(path)} bytes',
                            WARNING)


class Pictures:
    """Names of pictures by the digest of their decoded pixels.

    A copy that was resized or compressed again is another picture.
    """

    def __init__(self) -> None:
        self._names: Dict[bytes, List[str]] = {}

    def add(self, digest: Optional[bytes], name: str) -> None:
        """Note a picture, if it can be read (has a digest)."""
        if digest is not None:
            self._names.setdefault(digest, []).append(name)

    def copies(self) -> Iterator[Fault]:
        """Pictures that occur more than once."""
        for names in self._names.values():
            if len(set(names)) > 1:
                yield Fault('same_picture', names[0], ', '.join(names[1:4]),
                            WARNING)

    def leakage(self, other: 'Pictures') -> Iterator[Fault]:
        """Pictures that another data set has, too."""
        for digest, names in self._names.items():
            for name in names if digest in other._names else ():
                yield Fault('leakage', name, other._names[digest][0])


def _check_against(path: str, images: str, structure: Structure,
                   pictures: Pictures, faults: Faults, workers: int,
                   progress: Progress) -> None:
    content = _read_json(path, faults)
    if content is None:
        return
    if 'categories' in content and structure.categories:
        ours = _described(structure.categories)
        theirs = _described(
            collect(category_faults(content, path), faults.add))
        if ours != theirs:
            faults.add(
                Fault(
                    'other_categories', path, '(id, name, isthing) of one '
                    f'only: {sorted(ours ^ theirs, key=str)[:6]}'))
    paths = [_file(images, entry) for entry in _objects(content, 'images')]
    paths = [name for name in paths if name is not None]
    others = Pictures()
    results = _run(digest_images, paths, workers, progress(path, len(paths)))
    for name, digest, found in results:
        faults.extend(found)
        others.add(digest, name)
    faults.extend(pictures.leakage(others))


def _described(categories: Dict[int, dict]) -> Set[Tuple[int, str, str]]:
    return {(id_, str(c.get('name')), str(c.get('isthing')))
            for id_, c in categories.items()}
