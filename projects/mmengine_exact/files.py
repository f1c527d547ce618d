"""Files: read through mmengine's backends (local, S3, LMDB, ...), named by
annotations, written so that they are complete or not there at all.
"""
import errno
import gc
import json
import os
import os.path as osp
import re
from contextlib import suppress
from glob import escape, glob
from secrets import token_hex
from typing import Any, Callable, List, Optional, Tuple

import msgspec
from mmengine.fileio import get

from .errors import CorruptFileError, InputError

#: Errors of the system that mean a full disk, or a quota that is used up.
FULL = (errno.ENOSPC, errno.EDQUOT)
#: Suffix of a file that is being written.
PARTIAL_SUFFIX = '.part'
_GZIP = b'\x1f\x8b'
_RESTORE = (
    'Restore the file, or correct data_root, data_prefix or file_name.')


def read_bytes(path: str,
               what: str,
               backend_args: Optional[dict],
               fix: str = _RESTORE) -> bytes:
    """Content of a file, or of anything mmengine's fileio reads.

    Raises:
        CorruptFileError: It does not exist or cannot be read; says ``what``
            it is, and the ``fix``.
    """
    content, cause = None, 'no such key'
    try:
        content = get(path, backend_args=backend_args)  # LMDB may find None
    except Exception as error:  # each backend has errors of its own
        cause = str(error)
    if content is None:
        raise CorruptFileError(
            f'{path}: cannot read the {what} ({cause}). {fix}')
    return content


def parse_json(content: bytes, path: str) -> Any:
    """Parse the content of a JSON file: UTF-8, 16 or 32, with or without a
    byte order mark.

    Raises:
        InputError: It is not JSON, is nested too deeply, or has an object
            with the same key twice, of which other readers drop one.
    """
    collecting = gc.isenabled()
    gc.disable()  # nothing of it is garbage
    try:
        with suppress(ValueError, RecursionError):
            found = msgspec.json.decode(content)
            # of equal keys it keeps the last
            if msgspec.json.encode(found).count(b':') == content.count(b':'):
                return found
        # several times as slow: other encodings, and errors
        return json.loads(content, object_pairs_hook=_object)
    except RecursionError:
        cause = 'it is nested too deeply'
    except ValueError as error:
        cause = str(error) if content.strip() else 'it is empty'
        if content[:2] == _GZIP:
            cause = 'it is compressed by gzip: unpack it'
    finally:
        if collecting:
            gc.enable()
    raise InputError(
        f'{path}: not a JSON file ({cause}). Copy or export it again.')


def _object(pairs: List[Tuple[str, Any]]) -> dict:
    found = dict(pairs)
    if len(found) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in found if keys.count(key) > 1)
        raise ValueError(f'an object has the key {twice[:80]!r} twice')
    return found


def find_name_fault(name: Any) -> Optional[str]:
    """Why a ``file_name`` of an annotation is not allowed, or None: it must be
    relative to its folder and not lead out of it (symbolic links may)."""
    if not isinstance(name, str) or not name:
        return 'it is not a string, or empty'
    if re.search('[\0\ud800-\udfff]', name):
        return 'it has a null character or half of a surrogate pair'
    if '\\' in name:
        return 'folders are separated by /'
    drive = name[0].isalpha() and name[1:2] == ':'
    if name.startswith('/') or '://' in name or drive:
        return ('it must be relative; name its folder in data_prefix (for '
                'tools, in the option for that folder)')
    if '..' in name.split('/'):
        return 'it must not lead out of its folder'
    return None


def write_atomically(path: str,
                     write: Callable[[str], Any],
                     durable: bool = False,
                     scratch: Optional[str] = None) -> None:
    """Let a local file appear under its name only when it is complete.

    Args:
        path (str): Its folder is made where it is missing.
        write (Callable): Writes the file whose path it gets: another name,
            '.NAME.XXXXXXXX.part'.
        durable (bool): Whether the content must be on the disk before the
            name changes, so that a power failure leaves the old file or the
            new one.
        scratch (str, optional): Folder, on the same disk, of the file that
            is not complete; by default that of ``path``.

    Raises:
        OSError: The folder cannot be written to, or the disk is full. It
            names ``path``, whose former content is still there.
    """
    folder, name = osp.split(osp.abspath(path))
    os.makedirs(folder, exist_ok=True)
    partial = osp.join(scratch or folder,
                       f'.{name}.{token_hex(4)}{PARTIAL_SUFFIX}')
    try:
        write(partial)
        if durable:
            _sync(partial)
        os.replace(partial, path)
        if durable:
            _sync(folder)
    except BaseException as error:
        with suppress(OSError):
            os.unlink(partial)
        if isinstance(error, OSError) and error.errno is not None:
            error.filename = path  # instead of the partial one
        raise


def write_bytes(path: str, content: bytes) -> None:
    """Write a local file that is either complete or not there at all; see
    :func:`write_atomically`."""

    def write(partial: str) -> None:
        with open(partial, 'wb') as file:
            file.write(content)

    write_atomically(path, write)


def _sync(path: str) -> None:
    """Flush a file or folder to the disk where the system can do so.

    Raises:
        OSError: The disk is full, or broken.
    """
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        # others: some network file systems refuse it for folders
        if error.errno in (*FULL, errno.EIO):
            raise
    finally:
        os.close(descriptor)


def remove_partial(folder: str, name: str = '*') -> None:
    """Delete what interrupted writes have left in a folder of the files that
    ``name``, which may have wildcards, matches."""
    for path in glob(osp.join(escape(folder), f'.{name}.*{PARTIAL_SUFFIX}')):
        os.remove(path)
