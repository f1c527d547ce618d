"""The files of an archive, before it is zipped and after, and what it has to
be about.

Rules read both alike: names as they are in the archive, with '/', and bytes.
"""
import os
import shutil
import zipfile
import zlib
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from secrets import token_hex
from typing import (Any, Callable, Dict, Iterable, Iterator, List, Mapping,
                    Optional, Sequence, Tuple, Union)

from mmengine_exact.errors import InputError
from mmengine_exact.workers import run_jobs
from panoptic_fpn.coco_format import Fault
from panoptic_fpn.labels import LabelSpace

#: A zip file cannot say that a file is older.
_DATE = (1980, 1, 1, 0, 0, 0)
#: What is compressed already.
_STORED = ('.png', '.jpg')
#: What archive tools and file managers leave behind.
_JUNK = ('__MACOSX', 'Thumbs.db', 'desktop.ini')


@dataclass(frozen=True)
class Expected:
    """Size (h, w) of each image by id, and the classes."""

    sizes: Dict[Any, Tuple[int, int]]
    space: LabelSpace


def expected_of(dataset: Any) -> Expected:
    """Images and classes of a data set.

    Args:
        dataset (CocoPanopticFPNDataset): Annotated or not.
    """
    infos = (dataset.get_data_info(i) for i in range(len(dataset)))
    sizes = {info['img_id']: (info['height'], info['width']) for info in infos}
    return Expected(sizes, dataset.label_space)


@dataclass(frozen=True)
class FileMember:
    """A file that will be in the archive."""

    path: str

    def read(self) -> bytes:
        with open(self.path, 'rb') as file:
            return file.read()


@dataclass(frozen=True)
class ZipMember:
    """A file of an archive; small, so that a job can carry it."""

    archive: str
    name: str
    stamp: Tuple[int, ...]

    def read(self) -> bytes:
        return _open(self.archive, self.stamp, os.getpid()).read(self.name)


@lru_cache(2)
def _open(path: str, stamp: Tuple[int, ...], process: int) -> zipfile.ZipFile:
    """Each process has a file position of its own; a file that was replaced
    is another one."""
    return zipfile.ZipFile(path)


#: Called with the name of a step and its size; gives what is called with the
#: number of those that are done.
Progress = Callable[[str, int], Callable[[int], None]]


def silent(step: str, size: int) -> Callable[[int], None]:
    """Progress that nobody looks at."""
    return lambda done: None


Members = Mapping[str, Union[FileMember, ZipMember]]


def folder_members(files: Mapping[str, Union[str, Path]]) -> Members:
    """Members of an archive that is yet to be written.

    Args:
        files (Mapping): Name in the archive -> local file.
    """
    return {name: FileMember(str(path)) for name, path in files.items()}


def zip_members(path: Union[str, Path]) -> Members:
    """Members of an archive; folders are none.

    Raises:
        InputError: It is no zip file.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            infos = archive.infolist()
        status = os.stat(path)
    except (OSError, zipfile.BadZipFile) as error:
        raise InputError(f'{path}: cannot be read as a zip file ({error}). '
                         'Write it again.') from None
    stamp = (status.st_ino, status.st_size, status.st_mtime_ns)
    return {
        info.filename: ZipMember(str(path), info.filename, stamp)
        for info in infos if not info.is_dir()
    }


def zip_faults(path: Union[str, Path]) -> Iterator[Fault]:
    """What only a zip file can have: names twice, and damage."""
    seen = set()
    with zipfile.ZipFile(path) as archive:
        for info in archive.infolist():
            if info.filename in seen:
                yield Fault('layout', info.filename, 'twice in the archive')
            seen.add(info.filename)
            if info.flag_bits & 1:
                yield Fault('damage', info.filename, 'is encrypted')
                return
        try:
            broken = archive.testzip()
        except (NotImplementedError, zlib.error, EOFError) as error:
            yield Fault('damage', str(path), f'cannot be read ({error})')
            return
    if broken is not None:
        yield Fault('damage', broken, 'its checksum does not fit')


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


def find_in_files(step: str, rules: Callable[[Any],
                                             Iterable[Fault]], jobs: Sequence,
                  num_workers: int, progress: 'Progress') -> Iterator[Fault]:
    """Faults of many files, in several processes.

    Args:
        step (str): What is done, for the progress.
        rules (Callable): Faults of one job, of a module.
        jobs (Sequence): Its arguments.
        num_workers (int): Processes.
        progress (Callable): See ``panoptic_rules``.
    """
    update = progress(step, len(jobs))
    for faults in run_jobs(
            partial(_listed, rules), jobs, num_workers, in_order=True):
        yield from faults
        update(1)


def _listed(rules: Callable[[Any], Iterable[Fault]], job: Any) -> List[Fault]:
    return list(rules(job))


def files_below(folder: Union[str, Path], prefix: str = '') -> Dict[str, str]:
    """Files of a folder by the names they get in an archive.

    Args:
        folder (str | Path): Need not exist; hidden files are passed over.
        prefix (str): Put before each name.

    Returns:
        dict[str, str]: Name -> path, in the order of names.
    """
    found = {}
    for root, _, names in os.walk(folder):
        for name in names:
            path = Path(root) / name
            relative = path.relative_to(folder).as_posix()
            if not name.startswith('.'):
                found[prefix + relative] = str(path)
    return dict(sorted(found.items()))


def write_archive(path: Union[str, Path],
                  files: Mapping[str, str],
                  update: Callable[[int], None],
                  scratch: Optional[Union[str, Path]] = None) -> None:
    """Zip files; the archive is complete or not there.

    The same files give the same bytes, whenever they are zipped.

    Args:
        path (str | Path): Is replaced.
        files (Mapping): Name in the archive -> local file.
        update (Callable): Called with 1 after each file.
        scratch (str | Path, optional): Folder, on the same disk, of what is
            not complete; by default that of ``path``.

    Raises:
        OSError: It cannot be written.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(scratch or path.parent, f'.{path.name}{token_hex(4)}')
    try:
        with zipfile.ZipFile(partial, 'w') as archive:
            for name, source in files.items():
                _add(archive, name, source)
                update(1)
        os.replace(partial, path)
    except BaseException as error:
        with suppress(OSError):
            partial.unlink()
        if isinstance(error, OSError) and error.errno is not None:
            error.filename = str(path)  # not that of the partial one
        raise


def _add(archive: zipfile.ZipFile, name: str, source: str) -> None:
    info = zipfile.ZipInfo(name, _DATE)
    stored = name.lower().endswith(_STORED)
    info.compress_type = zipfile.ZIP_STORED if stored else zipfile.ZIP_DEFLATED
    info.external_attr = 0o644 << 16
    info.file_size = os.path.getsize(source)  # may need 64 bits
    with open(source, 'rb') as file, archive.open(info, 'w') as target:
        shutil.copyfileobj(file, target, 1 << 20)


def names_ending(members: Members, suffix: str) -> List[str]:
    return [name for name in members if name.lower().endswith(suffix)]
