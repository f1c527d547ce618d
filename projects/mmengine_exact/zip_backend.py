"""Files inside zip archives, for mmengine's fileio.

``ARCHIVE.zip/NAME`` is the file ``NAME`` of a local archive; a path that goes
through no archive is a local file. Paths that begin with ``zip://`` are read
so, and all with ``backend_args=dict(backend='zip')``.
"""
import os
import posixpath
import re
import zlib
from functools import lru_cache
from pathlib import Path
from typing import Tuple, Union
from zipfile import BadZipFile, ZipFile

from mmengine.fileio import LocalBackend, register_backend

_INSIDE = re.compile(r'(.+?\.zip)/(.+)', re.IGNORECASE)
#: Archives stay open.
_opened = lru_cache(maxsize=None)(ZipFile)
# forked processes share the position in an open file
os.register_at_fork(after_in_child=_opened.cache_clear)


@register_backend('zip', prefixes='zip')
class ZipBackend(LocalBackend):
    """Files inside zip archives, and local ones; see the module."""

    def get(self, filepath: Union[str, Path]) -> bytes:
        """Content of a file.

        Raises:
            OSError: Archive or file are missing, or the archive is damaged,
                encrypted or compressed in a way that Python does not know.
        """
        archive, name = _split(filepath)
        if not archive:
            return super().get(name)
        try:
            opened = _opened(archive)
            return opened.read(name)
        except KeyError:
            first = ', '.join(opened.namelist()[:2])
            raise FileNotFoundError(
                f'no {name} in {archive}, which begins with {first}') from None
        except (BadZipFile, zlib.error, EOFError, RuntimeError) as error:
            raise OSError(f'{archive}: {error}') from None

    def get_text(self,
                 filepath: Union[str, Path],
                 encoding: str = 'utf-8') -> str:
        """Same as :meth:`get`, decoded."""
        return self.get(filepath).decode(encoding)

    def exists(self, filepath: Union[str, Path]) -> bool:
        """Whether there is such a file."""
        archive, name = _split(filepath)
        return super().exists(
            archive or name) and (not archive
                                  or name in _opened(archive).NameToInfo)


def _split(filepath: Union[str, Path]) -> Tuple[str, str]:
    """Archive ('': none) and name in it."""
    path = str(filepath).removeprefix('zip://')
    inside = _INSIDE.fullmatch(path)
    if inside is None:
        return '', path
    return inside[1], posixpath.normpath(inside[2])
