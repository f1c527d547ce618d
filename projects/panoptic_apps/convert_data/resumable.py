"""Images converted in several processes; a run that was stopped continues.

Finished images are entered into a journal, one JSON object a line. The next
run keeps the entries of images whose label map is still the same.
"""
import json
import os
import os.path as osp
import sys
from contextlib import closing, suppress
from functools import partial
from typing import (Any, Callable, Dict, List, NamedTuple, Optional, Sequence,
                    Tuple)

from filelock import FileLock, Timeout
from PIL import Image

from mmengine_exact.command import run_to_exit_code
from mmengine_exact.errors import InputError
from mmengine_exact.files import remove_partial, write_bytes
from mmengine_exact.workers import run_jobs

#: Number of unusable files after which a conversion stops.
MAX_FAILURES = 5
#: The last chunk of a PNG.
_PNG_END = b'\0\0\0\0IEND\xaeB\x60\x82'


class Job(NamedTuple):
    """An image to convert: its entry of ``images`` (id, file_name, height,
    width), its label map ('': none), where the panoptic PNG goes (None:
    nowhere), what the result depends on, as JSON, its COCO annotations, its
    map of instances, and the orientation tag by which labels are turned."""

    image: dict
    label: str
    png: Optional[str] = None
    stamp: Sequence = ()
    instances: Sequence[dict] = ()
    numbers: str = ''
    turn: int = 1

    @property
    def size(self) -> Tuple[int, int]:
        """Size (h, w) of the image as it is shown."""
        return self.image['height'], self.image['width']


class Journal:
    """Entries of finished images, open in one process at a time; the file is
    gone after a ``with`` block that ends well."""

    def __init__(self, path: str) -> None:
        self.path = path
        os.makedirs(osp.dirname(path), exist_ok=True)
        self._lock = FileLock(f'{path}.lock', timeout=0)
        try:
            self._lock.acquire()
        except Timeout:
            raise InputError(f'{path}: another process converts these '
                             'images. Wait for it.') from None
        self._file = open(path, 'a+b', buffering=0)
        self._file.seek(0)
        self.entries: List[Dict] = []
        for line in self._file.read().splitlines():
            with suppress(ValueError):  # torn by a kill
                self.entries.append(json.loads(line))

    def add(self, entry: Dict) -> None:
        """Append an entry; the break before it ends a torn line."""
        self._file.write(b'\n' + json.dumps(entry).encode())

    def __enter__(self) -> 'Journal':
        return self

    def __exit__(self, error: Optional[type], *_: Any) -> None:
        self._file.close()
        if error is None:
            os.unlink(self.path)
            os.unlink(self._lock.lock_file)
        self._lock.release()


def fresh_entries(jobs: Sequence[Job],
                  entries: Sequence[Dict]) -> Dict[Any, Dict]:
    """Entries that a new conversion would only repeat, by image id."""
    by_id = {entry.get('image_id'): entry for entry in entries}
    pairs = [(job, by_id.get(job.image['id'])) for job in jobs]
    return {
        job.image['id']: entry
        for job, entry in pairs if entry and entry['stamp'] == job.stamp and (
            entry['height'], entry['width']) == job.size and (
                job.png is None or png_size(job.png) == job.size)
    }


def convert_images(convert: Callable[[Job], Tuple[Dict, Optional[bytes]]],
                   jobs: Sequence[Job], journal: Journal,
                   num_workers: Optional[int],
                   report: Callable[[str], None]) -> Dict[Any, Dict]:
    """Entries of all images by their ids: ``image_id``, ``stamp``, ``height``,
    ``width`` and what ``convert`` gives in a worker process, beside the
    content of the PNG. At the end, or after ``MAX_FAILURES``, one InputError
    names the files that cannot be used."""
    entries = fresh_entries(jobs, journal.entries)
    if entries:
        report(f'{len(entries)} of {len(jobs)} images are converted already')
    jobs = [job for job in jobs if job.image['id'] not in entries]
    failures = []
    with closing(run_jobs(partial(_convert, convert), jobs,
                          num_workers)) as results:
        for count, (entry, failure) in enumerate(results, 1):
            if count % 500 == 0 or count == len(jobs):
                report(f'{count}/{len(jobs)} images')
            if failure:
                failures.append(failure)
            else:
                journal.add(entry)
                entries[entry['image_id']] = entry
            if len(failures) == MAX_FAILURES:
                break
    # sorted, since processes finish in any order
    raise_failures(sorted(failures))
    return entries


def _convert(convert: Callable, job: Job) -> Tuple[Optional[Dict], str]:
    """Write the PNG of one image; its entry, or None and what is wrong."""
    try:
        described, png = convert(job)
    except InputError as error:
        return None, str(error)
    if job.png is not None and png is not None:
        write_bytes(job.png, png)
    entry = dict(image_id=job.image['id'], stamp=job.stamp)
    entry.update(zip(('height', 'width'), job.size))
    return dict(entry, **described), ''


def raise_failures(failures: Sequence[str]) -> None:
    """Raise one error for all messages, which begin with 'PATH: '."""
    if failures:
        others = [failure.split(': ')[0] for failure in failures[1:]]
        more = f' Also unusable: {some(others)}.' if others else ''
        raise InputError(failures[0] + more)


def some(names: Sequence[str]) -> str:
    """The first few names of a list, and how many there are."""
    more = f', ... ({len(names)} in all)' if len(names) > 3 else ''
    return ', '.join(names[:3]) + more


def file_stamp(*paths: str) -> List[int]:
    """Size in bytes and time of the last change in nanoseconds of each file
    that is there."""
    found = map(os.stat, filter(osp.isfile, paths))
    return [number for s in found for number in (s.st_size, s.st_mtime_ns)]


def png_size(path: str) -> Optional[Tuple[int, int]]:
    """(h, w) in the header of a PNG that is not cut off, else None; pixels are
    not read: a folder of photographs has gigabytes of them."""
    with suppress(OSError, ValueError, Image.DecompressionBombError):
        with open(path, 'rb') as file, Image.open(file) as image:
            file.seek(-len(_PNG_END), os.SEEK_END)
            if image.format == 'PNG' and file.read() == _PNG_END:
                return image.size[::-1]
    return None


def write_if_changed(path: str, content: bytes) -> None:
    """Write a file unless it has this content already: those who cannot write
    to a finished data set may still check it."""
    with suppress(OSError), open(path, 'rb') as file:
        if file.read() == content:
            return
    remove_partial(*osp.split(path))
    write_bytes(path, content)


def run_resumable(run: Callable[[], None]) -> int:
    """Same as ``run_to_exit_code``, but Ctrl-C gives 1, too."""
    try:
        return run_to_exit_code(run)
    except KeyboardInterrupt:
        print(
            'interrupted: nothing is half written; running again continues',
            file=sys.stderr)
        return 1
