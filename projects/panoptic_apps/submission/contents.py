"""The files of an archive, and the images and classes that it is about.

Rules read local files, before they are zipped or after they are unpacked, by
their names in the archive, with '/'.
"""
import os
import shutil
import zipfile
import zlib
from functools import partial
from pathlib import Path
from typing import (Any, Callable, Dict, Iterable, Iterator, List, Mapping,
                    NamedTuple, Optional, Sequence, Tuple, Union)

import numpy as np

from mmengine_exact.errors import InputError
from mmengine_exact.files import write_atomically
from mmengine_exact.workers import run_jobs
from panoptic_fpn.coco_format import Fault, collect, png_pixels
from panoptic_fpn.coco_format.faults import Found
from panoptic_fpn.labels import LabelSpace

#: Oldest time of a file that a zip file can hold.
_DATE = (1980, 1, 1, 0, 0, 0)
#: Suffixes of files that are compressed already.
_STORED = ('.png', '.jpg')
#: What archive tools and file managers leave behind.
_JUNK = ('__MACOSX', 'Thumbs.db', 'desktop.ini')
#: Errors that zipfile raises for a damaged file.
_DAMAGE = (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError)

#: Name in the archive -> local file.
Members = Mapping[str, Path]
#: Called with the name of a step and its size; returns a function to call with
#: the number of items that are done.
Progress = Callable[[str, int], Callable[[int], None]]


def silent(step: str, size: int) -> Callable[[int], None]:
    """No progress."""
    return lambda done: None


class Expected(NamedTuple):
    """Size (h, w) of each image by id, and the classes."""

    sizes: Dict[Any, Tuple[int, int]]
    space: LabelSpace


class PngJob(NamedTuple):
    """A PNG, its name, size (h, w) and channels, and its segments in the
    JSON."""

    member: Path
    name: str
    size: Tuple[int, int]
    channels: int = 1
    segments: Sequence[dict] = ()


#: Faults of the pixels of a PNG.
PngRules = Callable[[np.ndarray, PngJob], Iterable[Fault]]


class Archive(NamedTuple):
    """What rules look at: files, the images and classes that they should be
    about, and the stem that a JSON must have (None: any)."""

    members: Members
    expected: Expected
    stem: Optional[str] = None
    num_workers: Optional[int] = None
    progress: Progress = silent

    def ending(self, suffix: str) -> List[str]:
        """Names with a suffix."""
        return [n for n in self.members if n.lower().endswith(suffix)]

    def find_in_pngs(self, step: str, rules: PngRules,
                     jobs: Sequence[PngJob]) -> Iterator[Fault]:
        """Faults of PNGs by themselves and by ``rules``, a function of a
        module, found in several processes."""
        update = self.progress(step, len(jobs))
        for faults in run_jobs(
                partial(_png_faults, rules), jobs, self.num_workers,
                in_order=True):
            yield from faults
            update(1)


def _png_faults(rules: PngRules, job: PngJob) -> List[Fault]:
    faults: List[Fault] = []
    pixels = collect(
        png_pixels(job.member.read_bytes(), job.name, job.size, job.channels),
        faults.append)
    return faults if pixels is None else [*faults, *rules(pixels, job)]


def unzip(path: str, folder: str) -> Found[Members]:
    """Faults of a zip file by itself; returns its files, unpacked. Raises an
    InputError if it is not a zip file."""
    members: Dict[str, Path] = {}
    try:
        archive = zipfile.ZipFile(path)
    except (OSError, zipfile.BadZipFile) as error:
        raise InputError(f'{path}: cannot be read as a zip file ({error}). '
                         'Write it again.') from None
    with archive:
        for info in archive.infolist():
            name = info.filename
            if name in members:
                yield Fault('layout', name, 'twice in the archive')
            elif not info.is_dir():
                try:
                    members[name] = Path(archive.extract(info, folder))
                except _DAMAGE as error:  # also what is encrypted
                    yield Fault('damage', name, f'cannot be read ({error})')
    return members


def name_faults(names: Iterable[str]) -> Iterator[Fault]:
    """Whether files belong in an archive at all, by their names."""
    for name in names:
        parts = name.split('/')
        if name.startswith('/') or '..' in parts or set(name) & set('\\:'):
            yield Fault('layout', name, 'not a relative name with /')
        if any(
                part in _JUNK or part.startswith('.') and part != '..'
                for part in parts):
            yield Fault('layout', name, 'hidden, or left by another tool')


def files_below(folder: str, prefix: str = '') -> Dict[str, Path]:
    """Files of a folder, except hidden ones, by ``prefix`` and relative
    name."""
    return {
        prefix + path.relative_to(folder).as_posix(): path
        for path in sorted(Path(folder).rglob('*'))
        if path.is_file() and not path.name.startswith('.')
    }


def write_archive(path: Union[str, Path],
                  files: Members,
                  update: Callable[[int], None],
                  scratch: Optional[str] = None) -> None:
    """Zip files; the archive is complete or not there.

    The same files give the same bytes, whenever they are zipped. ``update`` is
    called with 1 after each; ``scratch``: see ``write_atomically``.
    """

    def write(partial_path: str) -> None:
        with zipfile.ZipFile(partial_path, 'w') as archive:
            for name, source in files.items():
                _add(archive, name, source)
                update(1)

    write_atomically(str(path), write, scratch=scratch)


def _add(archive: zipfile.ZipFile, name: str, source: Path) -> None:
    info = zipfile.ZipInfo(name, _DATE)
    stored = name.lower().endswith(_STORED)
    info.compress_type = zipfile.ZIP_STORED if stored else zipfile.ZIP_DEFLATED
    info.external_attr = 0o644 << 16
    info.file_size = os.path.getsize(source)  # may need 64 bits
    with open(source, 'rb') as file, archive.open(info, 'w') as target:
        shutil.copyfileobj(file, target, 1 << 20)
