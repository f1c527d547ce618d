"""Reading through mmengine's backends (local, S3, Petrel, LMDB, ...), and
writing local files that are complete or not there."""
import os
import os.path as osp
from contextlib import suppress
from secrets import token_hex
from typing import Optional

from mmengine.fileio import get

from .errors import CorruptFileError


def read_bytes(path: str, what: str, backend_args: Optional[dict]) -> bytes:
    """Content of a file.

    Args:
        path (str): A file, or anything mmengine's fileio reads.
        what (str): What it is, for the error.
        backend_args (dict, optional): Of mmengine's fileio.

    Raises:
        CorruptFileError: It does not exist or cannot be read.
    """
    try:
        content = get(path, backend_args=backend_args)
        if content is None:  # what LMDB answers to an unknown key
            raise KeyError('no such key')
        return content
    except (OSError, KeyError) as error:
        raise CorruptFileError(
            f'{path}: cannot read the {what} ({error}). Restore the file, or '
            'correct data_root, data_prefix or file_name.') from None


def write_bytes(path: str, content: bytes) -> None:
    """Write a local file that is either complete or not there at all.

    Raises:
        OSError: The folder cannot be written to, or the disk is full; what
            was there before is still there.
    """
    folder, name = osp.split(osp.abspath(path))
    os.makedirs(folder, exist_ok=True)
    partial = osp.join(folder, f'.{name}{token_hex(4)}')
    # as open() does: the umask decides who may read it
    flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY
    try:
        with os.fdopen(os.open(partial, flags, 0o666), 'wb') as file:
            file.write(content)
        os.replace(partial, path)
    except BaseException as error:
        with suppress(OSError):
            os.unlink(partial)
        if isinstance(error, OSError) and error.errno is not None:
            error.filename = path  # not that of the partial one
        raise
