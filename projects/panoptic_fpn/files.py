"""Reading through mmengine's backends (local, S3, Petrel, LMDB, ...), and
writing local files that are complete or not there."""
import os
import os.path as osp
import tempfile
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
    """Write a local file that is either complete or not there at all."""
    folder = osp.dirname(osp.abspath(path))
    os.makedirs(folder, exist_ok=True)
    handle, temporary = tempfile.mkstemp(
        dir=folder, prefix='.' + osp.basename(path))
    try:
        with os.fdopen(handle, 'wb') as file:
            file.write(content)
        # mkstemp makes files for their owner alone; pictures are shared.
        umask = os.umask(0)
        os.umask(umask)
        os.chmod(temporary, 0o666 & ~umask)
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise
