"""Check a data set in COCO panoptic format: JSON, images and PNGs."""
from collections import defaultdict
from difflib import get_close_matches
from pathlib import Path
from typing import (Callable, Dict, Iterator, List, NamedTuple, Optional,
                    Sequence, Set, Tuple)

from mmengine_exact.errors import InputError
from mmengine_exact.files import read_bytes
from mmengine_exact.workers import run_jobs
from panoptic_fpn.coco_format import (ERROR, WARNING, Fault, Faults, Pair,
                                      category_faults, collect,
                                      panoptic_faults, panoptic_warnings,
                                      parse_object)
from panoptic_fpn.coco_format.faults import Found, is_whole, list_of, short

from .image_files import ImageJob, ImageResult, check_image, find_file
from .repair import Repair
from .statistics import Statistics

#: Called with the name of a step and its number of images; returns a function
#: to call with the number of those that are done.
Progress = Callable[[str, int], Callable[[int], None]]


class CheckResult(NamedTuple):
    """``faults``; ``summary`` of :meth:`Statistics.summary` (None where the
    JSON cannot be read), ``repair`` where it was asked for."""

    faults: Faults
    summary: Optional[dict] = None
    repair: Optional[Repair] = None


def check_dataset(
        path: str,
        images: str,
        panoptic: str,
        against: Optional[Tuple[str, str]] = None,
        num_workers: Optional[int] = None,
        repair: bool = False,
        things: Optional[Sequence[str]] = None,
        progress: Progress = lambda step, size: lambda done: None
) -> CheckResult:
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
        things (Sequence[str], optional): Names of the thing classes, also
            several with commas between them, whatever ``isthing`` says; all
            others are stuff.
        progress (Callable): See :data:`Progress`.

    Returns:
        CheckResult: Nothing is written, and faults of the data are not
        raised.

    Raises:
        InputError: No category has one of the names of ``things``.
    """
    faults = Faults()

    def run(step: str, jobs: Sequence[ImageJob]) -> Iterator[ImageResult]:
        update = progress(step, len(jobs))
        for result in run_jobs(check_image, jobs, num_workers, in_order=True):
            yield result
            update(1)

    content = collect(_read_json(path), faults.add)
    if content is None:
        return CheckResult(faults)
    if things is not None:
        faults.extend(_set_things(content, things, path))
    structure = collect(panoptic_faults(content, path), faults.add)
    if faults.counts['instances_json']:
        return CheckResult(faults)
    faults.extend(panoptic_warnings(structure, path))
    if content.get('annotations') == []:
        faults.add(Fault('nothing_annotated', path, '"annotations" is empty'))
    statistics = Statistics(structure.categories)
    # several segments of what may be a thing are left alone
    kinds_known = things is not None or any(
        c.get('isthing') == 1 for c in structure.categories.values())
    repaired = Repair(content, structure, images, panoptic,
                      kinds_known) if repair else None
    # Paths by the digest of pixels. A copy that was resized or compressed
    # again is another picture.
    pictures: Dict[bytes, List[str]] = defaultdict(list)
    jobs = [_job(pair, path, images, panoptic) for pair in structure.pairs]
    for pair, job, result in zip(structure.pairs, jobs, run(path, jobs)):
        faults.extend(result.faults)
        statistics.add(pair, result)
        if job.image is not None and result.digest is not None:
            pictures[result.digest].append(job.image)
        if repaired is not None:
            repaired.add(pair, job, result)
    for names in pictures.values():
        if len(set(names)) > 1:
            faults.add(
                Fault('same_picture', names[0], ', '.join(names[1:4]),
                      WARNING))
    faults.extend(_extra_files(content, panoptic))
    if against is not None:
        faults.extend(
            _against_faults(*against, structure.categories, pictures, run))
    summary = statistics.summary()
    if (summary['void_share'] or 0) > 0.5:
        faults.add(
            Fault('mostly_void', path, f'{summary["void_share"]:.1%}',
                  WARNING))
    return CheckResult(faults, summary, repaired)


def _read_json(path: str) -> Found[Optional[dict]]:
    try:
        return parse_object(read_bytes(path, 'JSON', None), path)
    except InputError as error:
        yield Fault('json_unreadable', path, str(error))
        return None


def _set_things(content: dict, things: Sequence[str],
                path: str) -> Iterator[Fault]:
    """Set ``isthing`` by names; each that was not so is a fault."""
    categories = list_of(content, 'categories', dict)
    names = [str(category.get('name')) for category in categories]
    named: List[str] = []
    for given in things:  # a name may have commas
        named += [given] if given in names else map(str.strip,
                                                    given.split(','))
    for name in filter(None, named):
        if name not in names:
            near = get_close_matches(name, names)
            raise InputError(
                f'{path}: --things names {name!r}, but the '
                f'{"nearest " if near else ""}categories are '
                f'{", ".join(map(short, near or names))}. Correct it.')
    for name, category in zip(names, categories):
        was, isthing = category.get('isthing'), int(name in named)
        category['isthing'] = isthing
        if was != isthing:
            yield Fault('isthing', f'{path}: category {short(name)}',
                        f'isthing is {short(was)}, by --things {isthing}')


def _job(pair: Pair, path: str, images: str, panoptic: str) -> ImageJob:
    note, image = pair.annotation or {}, pair.image
    listed = isinstance(note.get('segments_info'), list)
    size = image.get('height'), image.get('width')
    return ImageJob(
        where=f'{path}: image_id={image["id"]!r}',
        image=find_file(images, image),
        png=find_file(panoptic, note) if listed else None,
        size=size if all(map(is_whole, size)) else None,  # type: ignore
        segments=pair.segments,
        other_ids=list_of(note, 'void_ids', int)
        if 'void_ids' in note else None,
        ignored=list_of(note, 'ignored_ids', int))


def _extra_files(content: dict, panoptic: str) -> Iterator[Fault]:
    """PNGs below a folder that no annotation names; none where label maps are
    read as they are, since Cityscapes' folders hold other PNGs, too."""
    notes = list_of(content, 'annotations', dict)
    if any('void_ids' in note for note in notes):
        return
    named = {Path(find_file(panoptic, note) or '') for note in notes}
    for path in sorted(Path(panoptic).rglob('*')):
        if (path.suffix.lower() == '.png' and path not in named
                and path.is_file()):
            yield Fault('png_extra', str(path), f'{path.stat().st_size} bytes',
                        WARNING)


def _against_faults(
        path: str, images: str, categories: Dict[int, dict],
        pictures: Dict[bytes, List[str]],
        run: Callable[..., Iterator[ImageResult]]) -> Iterator[Fault]:
    """Categories that differ from another data set's, or shared pictures."""
    content = yield from _read_json(path)
    if content is None:
        return
    if 'categories' in content and categories:
        theirs = yield from category_faults(content, path)
        differ = _described(categories) ^ _described(theirs)
        if differ:
            yield Fault(
                'other_categories', path, '(id, name, isthing) in only one: '
                f'{sorted(differ, key=str)[:6]}')
    files = [find_file(images, e) for e in list_of(content, 'images', dict)]
    jobs = [ImageJob(name, name) for name in files if name is not None]
    others: Dict[Optional[bytes], str] = {}
    for job, result in zip(jobs, run(path, jobs)):
        yield from (f for f in result.faults if f.severity == ERROR)
        others.setdefault(result.digest, job.where)
    for digest, copies in pictures.items():
        for name in copies if digest in others else ():
            yield Fault('leakage', name, others[digest])


def _described(categories: Dict[int, dict]) -> Set[Tuple[int, str, str]]:
    return {(id_, str(c.get('name')), str(c.get('isthing')))
            for id_, c in categories.items()}
