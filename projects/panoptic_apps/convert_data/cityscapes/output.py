"""Writing: whole files only, and what is done of a run that may be stopped.
"""
import fcntl
import json
import os
import os.path as osp
from contextlib import suppress
from glob import escape, glob
from typing import Any, BinaryIO, Dict, List

from mmengine_exact.errors import InputError
from mmengine_exact.files import write_bytes


class WriteError(InputError):
    """Nothing can be written: no use in trying the next file."""

    @classmethod
    def of(cls, path: str, error: OSError) -> 'WriteError':
        return cls(f'{path}: cannot write ({error.strerror or error}). Make '
                   'room, or the folder writable, or write elsewhere '
                   '(--out-dir), and run again: it continues where it '
                   'stopped.')


def write_file(path: str, content: bytes) -> None:
    """Write a file that is either complete or not there at all.

    Raises:
        WriteError: The folder cannot be written to, or the disk is full.
    """
    try:
        write_bytes(path, content)
    except OSError as error:
        raise WriteError.of(path, error) from None


def write_if_changed(path: str, content: bytes) -> None:
    """As :func:`write_file`, but leave a file alone that is as it should be.

    A finished data set may so be checked by those who cannot write to it.
    """
    try:
        with open(path, 'rb') as file:
            if file.read() == content:
                return
    except OSError:
        pass
    write_file(path, content)


def remove_leftovers(pattern: str) -> None:
    """Delete what a killed process had not yet given its name.

    Args:
        pattern (str): Of the names that :func:`write_file` was called with;
            the folder is taken as it is.
    """
    folder, name = osp.split(pattern)
    for path in glob(osp.join(escape(folder), f'.{name}????????')):
        with suppress(OSError):
            os.unlink(path)


class Journal:
    """Entries of finished images, one JSON object a line.

    A line that a killed process left half written is dropped. While it is
    open no other process can open it.

    Args:
        path (str): The file; :meth:`remove` it when all is done.

    Raises:
        WriteError: It cannot be written.
        InputError: Another process has it open.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        try:
            os.makedirs(osp.dirname(path), exist_ok=True)
            self._file = self._open_locked()
            self.entries = self._read()
        except OSError as error:
            raise WriteError.of(path, error) from None

    def _open_locked(self) -> BinaryIO:
        while True:
            file = open(self.path, 'a+b')
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                file.close()
                raise InputError(
                    f'{self.path}: another process is preparing this split. '
                    'Wait for it.') from None
            except OSError:
                return file  # a file system without locks
            # Whoever had the lock may have removed the file meanwhile.
            if osp.exists(self.path) and osp.samestat(
                    os.fstat(file.fileno()), os.stat(self.path)):
                return file
            file.close()

    def _read(self) -> List[Dict]:
        self._file.seek(0)
        lines = self._file.read().splitlines(keepends=True)
        entries = []
        for line in lines:
            try:
                entries.append(json.loads(line))
            except ValueError:
                continue
        if lines and not lines[-1].endswith(b'\n'):
            self._file.write(b'\n')
        return entries

    def add(self, entry: Dict) -> None:
        """Append an entry; it is on its way to the disk on return."""
        try:
            self._file.write(json.dumps(entry).encode() + b'\n')
            self._file.flush()
        except OSError as error:
            raise WriteError.of(self.path, error) from None

    def remove(self) -> None:
        """Delete the file: everything is where it belongs."""
        with suppress(OSError):
            os.unlink(self.path)
        self.close()

    def close(self) -> None:
        with suppress(OSError):  # a full disk was told already
            self._file.close()

    def __enter__(self) -> 'Journal':
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()
