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
from glob import escape, glob
from typing import (Any, Callable, Dict, Iterable, List, NamedTuple, Optional,
                    Sequence, Tuple)

from filelock import FileLock, Timeout

from mmengine_exact.command import run_to_exit_code
from mmengine_exact.errors import InputError
from mmengine_exact.files import write_bytes
from mmengine_exact.workers import run_jobs

from .label_map import png_size

#: After so many unusable files a conversion stops.
MAX_FAILURES = 5


class Job(NamedTuple):
    """An image to convert.

    ``image_id`` and ``size`` (h, w) as in the JSON; ``stamp`` is what the
    result depends on, as JSON; ``png`` where the panoptic PNG goes, None for
    none; ``source`` what the conversion reads.
    """

    image_id: Any
    size: Tuple[int, int]
    stamp: list
    png: Optional[str]
    source: Any


#: Gives what the entry of an image holds, and the content of its PNG; runs
#: in worker processes.
Conversion = Callable[[Job], Tuple[Dict, Optional[bytes]]]


class Journal:
    """Entries of finished images, open in one process at a time.

    Args:
        path (str): The file; :meth:`remove` it when all is done.

    Raises:
        InputError: Another process has it open.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        os.makedirs(osp.dirname(path), exist_ok=True)
        self._lock = FileLock(f'{path}.lock', timeout=0)
        try:
            self._lock.acquire()
        except Timeout:
            raise InputError(f'{path}: another process converts these '
                             'images. Wait for it.') from None
        self._file = open(path, 'a+b')
        self._file.seek(0)
        lines = self._file.read().splitlines(keepends=True)
        self.entries: List[Dict] = []
        for line in lines:
            with suppress(ValueError):  # torn by a kill
                self.entries.append(json.loads(line))
        if lines and not lines[-1].endswith(b'\n'):
            self._file.write(b'\n')

    def add(self, entry: Dict) -> None:
        """Append an entry; it is on its way to the disk on return."""
        file = self._file
        file.write(json.dumps(entry).encode() + b'\n')
        file.flush()

    def remove(self) -> None:
        """Delete the file: everything is where it belongs."""
        os.unlink(self.path)
        os.unlink(self._lock.lock_file)

    def close(self) -> None:
        with suppress(OSError):  # the full disk that ended the run
            self._file.close()
        self._lock.release()

    def __enter__(self) -> 'Journal':
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()


def fresh_entries(jobs: Iterable[Job],
                  entries: Iterable[Dict]) -> Dict[Any, Dict]:
    """Entries that a new conversion would only repeat, by image id."""
    by_id = {entry.get('image_id'): entry for entry in entries}
    return {
        job.image_id: by_id[job.image_id]
        for job in jobs
        if job.image_id in by_id and _is_fresh(job, by_id[job.image_id])
    }


def _is_fresh(job: Job, entry: Dict) -> bool:
    return (entry['stamp'] == job.stamp
            and (entry['height'], entry['width']) == job.size
            and (job.png is None or png_size(job.png) == job.size))


def convert_images(convert: Conversion,
                   jobs: Sequence[Job],
                   journal: Journal,
                   num_workers: int,
                   report: Callable[[str], None],
                   label: str = '',
                   done: Iterable[Dict] = ()) -> dict:
    """Entries of all images by their ids.

    Args:
        report (Callable): Called with lines about the progress, which begin
            with ``label``.
        done (Iterable[dict]): Entries of an earlier run beside the journal's.

    Returns:
        dict: Of each image ``image_id``, ``stamp``, ``height``, ``width`` and
        what ``convert`` gives.

    Raises:
        InputError: At the end, or after ``MAX_FAILURES``: names the files
            that cannot be used.
    """
    entries = fresh_entries(jobs, [*done, *journal.entries])
    if entries:
        report(f'{label}{len(entries)} of {len(jobs)} images are converted '
               'already')
    jobs = [job for job in jobs if job.image_id not in entries]
    failures = []
    with closing(run_jobs(partial(_convert, convert), jobs,
                          num_workers)) as results:
        for count, (entry, failure) in enumerate(results, 1):
            if count % 500 == 0 or count == len(jobs):
                report(f'{label}{count}/{len(jobs)} images')
            if entry is not None:
                journal.add(entry)
                entries[entry['image_id']] = entry
                continue
            failures.append(failure)
            if len(failures) == MAX_FAILURES:
                break
    if failures:
        # the order in which processes finish is no order for a message
        raise one_error(sorted(failures))
    return entries


def _convert(convert: Conversion, job: Job) -> Tuple[Optional[Dict], str]:
    """Entry of one image, its PNG written; or None and what is wrong."""
    try:
        described, png = convert(job)
    except InputError as error:
        return None, str(error)
    if job.png is not None and png is not None:
        write_bytes(job.png, png)
    entry = dict(
        image_id=job.image_id,
        stamp=job.stamp,
        height=job.size[0],
        width=job.size[1])
    return dict(entry, **described), ''


def one_error(failures: Sequence[str]) -> InputError:
    """One error of several messages that begin with 'PATH: '."""
    text = failures[0]
    if len(failures) > 1:
        paths = [failure.split(': ')[0] for failure in failures[1:]]
        text += f' Neither can be used: {some(paths)}.'
    return InputError(text)


def some(names: Sequence[str]) -> str:
    """The first few names of a list, and how many there are."""
    more = f', ... ({len(names)} in all)' if len(names) > 3 else ''
    return ', '.join(names[:3]) + more


def write_if_changed(path: str, content: bytes) -> None:
    """Write a file, but leave it alone where it is as it should be: a
    finished data set may be checked by those who cannot write to it."""
    with suppress(OSError), open(path, 'rb') as file:
        if file.read() == content:
            return
    remove_leftovers(path)
    write_bytes(path, content)


def remove_leftovers(pattern: str) -> None:
    """Delete unfinished files of a killed process.

    Args:
        pattern (str): Path of files that ``write_bytes`` writes; the name may
            have wildcards.
    """
    folder, name = osp.split(pattern)
    for end in ('????????', '.????????.part'):
        for path in glob(osp.join(escape(folder), f'.{name}{end}')):
            with suppress(OSError):
                os.unlink(path)


def run_resumable(run: Callable[[], None]) -> int:
    """As ``run_to_exit_code``; a run that Ctrl-C ends gives 1, too."""
    try:
        return run_to_exit_code(run)
    except KeyboardInterrupt:
        print(
            'interrupted: nothing is half written; running again continues',
            file=sys.stderr)
        return 1
