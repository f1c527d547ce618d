"""Reading files through mmengine's backends (local, S3, Petrel, LMDB, ...)."""
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
