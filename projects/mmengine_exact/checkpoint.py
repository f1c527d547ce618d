"""Checkpoint files: plain content, protected reads, the one to resume from.

Written   state_dict as it is; everything else as plain python and tensors,
          so that ``torch.load(..., weights_only=True)`` reads it unaided.
          A ``HistoryBuffer`` becomes ``{'__history_buffer__': ...}``.
Read      ``weights_only=True`` always. For files that MMEngine wrote itself,
          numpy's numbers and a stand-in for ``HistoryBuffer`` are allowed
          while reading. Such a file pickles ``getattr(HistoryBuffer, 'min')``
          and three more; the stand-in of ``getattr`` knows these four names
          and refuses every other object and name.
Checked   torch writes a CRC-32 of each part of a checkpoint (a zip archive)
          and does not look at it when it reads: a bit that flipped on a disk
          becomes another weight. Here the sums are compared first. A file
          from before torch 1.6 has none.
"""
import logging
import os
import os.path as osp
import pickle
import re
import zipfile
from collections import Counter, OrderedDict
from contextlib import contextmanager, nullcontext
from typing import (Any, ContextManager, Iterator, List, Mapping, Optional,
                    Sequence, Tuple)
from urllib.error import URLError

import numpy as np
import torch
from mmengine.fileio import LocalBackend, get_file_backend
from mmengine.logging import HistoryBuffer, print_log
from mmengine.runner import CheckpointLoader

from .errors import CheckpointError

#: Where MMEngine keeps weights in a checkpoint.
WEIGHT_KEYS = ('state_dict', )
_HISTORY_KEY = '__history_buffer__'
#: The plain form of what has none.
_NO_FORM = object()
#: torch's own switch.
_FORCE = 'TORCH_FORCE_WEIGHTS_ONLY_LOAD'
_ATOMS: Tuple[Any, ...] = (type(None), bool, int, float, complex, str, bytes,
                           torch.Size, torch.dtype, torch.device)
_ZIP = b'PK\x03\x04'


def to_plain(value: Any) -> Any:
    """Copy of nested containers that weights-only loading accepts.

    numpy numbers and arrays become python numbers and lists, mappings
    become dicts (``OrderedDict`` and ``Counter`` stay), enumerations and
    other subclasses of numbers and strings lose their class. What has no
    plain form is left out of its container.
    """
    if type(value) in _ATOMS or isinstance(value, torch.Tensor):
        return value
    if isinstance(value, HistoryBuffer):
        return _plain_history(value)
    if isinstance(value, (np.ndarray, np.generic)):
        return to_plain(value.tolist())
    if isinstance(value, Mapping):
        kind = type(value)
        plain: Any = kind() if kind in (OrderedDict, Counter) else {}
        for key, item in value.items():
            pair = to_plain(key), to_plain(item)
            if not any(part is _NO_FORM for part in pair):
                plain[pair[0]] = pair[1]
        return plain
    for container in (list, tuple, set, frozenset):
        if isinstance(value, container):
            items = [
                item for item in map(to_plain, value) if item is not _NO_FORM
            ]
            return set(items) if container is frozenset else container(items)
    for atom in _ATOMS:
        if isinstance(value, atom):
            return atom(value)
    return _NO_FORM


def _plain_history(buffer: HistoryBuffer) -> dict:
    log, count = buffer.data
    return {
        _HISTORY_KEY: 1,
        'log': torch.from_numpy(np.array(log)),
        'count': torch.from_numpy(np.array(count)),
        'max_length': int(buffer.max_length)
    }


def make_plain(checkpoint: dict) -> None:
    """Give everything but the weights its plain form, in place."""
    for key in list(checkpoint):
        if not key.endswith('state_dict'):
            checkpoint[key] = to_plain(checkpoint[key])


class _HistoryStandIn:
    """What a pickled ``HistoryBuffer`` becomes while it is read."""

    def __setstate__(self, state: dict) -> None:
        self.buffer = HistoryBuffer(
            np.asarray(state['_log_history']),
            np.asarray(state['_count_history']), int(state['max_length']))


def _restore_history(checkpoint: dict) -> None:
    """Turn plain or stand-in histories into ``HistoryBuffer``, in place."""
    scalars = (checkpoint.get('message_hub') or {}).get('log_scalars') or {}
    for key, value in scalars.items():
        if isinstance(value, _HistoryStandIn):
            scalars[key] = value.buffer
        elif isinstance(value, dict) and _HISTORY_KEY in value:
            scalars[key] = HistoryBuffer(value['log'].cpu().numpy(),
                                         value['count'].cpu().numpy(),
                                         int(value['max_length']))


def _history_statistic(owner: Any, name: str) -> str:
    """The only ``getattr`` there is while reading; see the module's top."""
    if owner is not _HistoryStandIn or name not in ('min', 'max', 'current',
                                                    'mean'):
        raise pickle.UnpicklingError(
            f'Unsupported global: GLOBAL getattr of {name!r}')
    return name


def _foreign_globals() -> List[Any]:
    """What MMEngine's own checkpoints hold beside tensors."""
    try:
        from numpy._core import multiarray
    except ImportError:  # numpy < 2
        from numpy.core import multiarray  # type: ignore[no-redef]
    allowed: List[Any] = [(_HistoryStandIn,
                           'mmengine.logging.history_buffer.HistoryBuffer'),
                          (_history_statistic, 'builtins.getattr'),
                          (_history_statistic, '__builtin__.getattr'),
                          (bytes, 'builtins.bytes'), np.ndarray, np.dtype]
    for name in ('scalar', '_reconstruct'):
        function = getattr(multiarray, name)
        allowed += [(function, f'numpy.core.multiarray.{name}'),
                    (function, f'numpy._core.multiarray.{name}')]
    kinds = {type(np.dtype(code)) for code in '?bBhHiIlLqQefdFDSU'}
    return allowed + list(kinds)


def _allow_foreign() -> ContextManager:
    """Allow :func:`_foreign_globals` inside (torch >= 2.5)."""
    safe_globals = getattr(torch.serialization, 'safe_globals', None)
    return safe_globals(_foreign_globals()) if safe_globals else nullcontext()


def read_checkpoint(filename: str,
                    map_location: Any = 'cpu',
                    keys: Sequence[str] = WEIGHT_KEYS) -> dict:
    """Read a checkpoint with torch's protection on.

    Args:
        filename (str): Local path, or an address that MMEngine can load
            (``https://``, ``s3://``, ``open-mmlab://``, ...).
        map_location: As for ``torch.load``.
        keys (Sequence[str]): Where the weights may be; the first that is
            there counts.

    Returns:
        dict: With ``state_dict``; a file of bare weights is wrapped.

    Raises:
        CheckpointError: Missing, damaged, unsafe, or without weights.
    """
    try:
        with _allow_foreign():
            checkpoint = _load(filename, map_location)
        checkpoint = _with_state_dict(checkpoint, filename, keys)
        _drop_odd_meta(checkpoint)
        _restore_history(checkpoint)
        return checkpoint
    except Exception as error:  # torch raises anything for odd bytes
        raise CheckpointError(_describe(filename, error)) from error


def _describe(filename: str, error: Exception) -> str:
    """What is wrong with a checkpoint, and the fix."""
    if isinstance(error, CheckpointError):
        return str(error)
    if isinstance(error, FileNotFoundError):
        return f'Checkpoint {filename} does not exist. Check the path.'
    if isinstance(error, URLError):
        return (f'Checkpoint {filename} cannot be downloaded ({error.reason}).'
                ' Check address and connection, or give a file.')
    if not isinstance(error, pickle.UnpicklingError):
        return damaged(filename, error)
    # a name that no module has is a damaged one
    match = re.search(r'GLOBAL ([\w.]{1,200})(?=\s|$)', str(error))
    if match is None:
        cause = re.search(r'WeightsUnpickler error: *(.*)', str(error))
        return damaged(
            filename, cause[1] if cause and cause[1] else error,
            'not a checkpoint of weights alone (others could run code)')
    return (f'Checkpoint {filename} holds the python object {match[1]}, which '
            'is not loaded because it could run code. Where you trust the '
            "file, save its 'state_dict' alone and use that.")


def _load(filename: str, map_location: Any) -> Any:
    if '://' in filename:
        with weights_only():
            return CheckpointLoader.load_checkpoint(filename, map_location)
    filename = osp.expanduser(filename)
    require_unchanged(filename)
    return torch.load(filename, map_location=map_location, weights_only=True)


@contextmanager
def weights_only() -> Iterator[None]:
    """torch's protection on, also where others switch it off, and checksums
    compared.

    ``torch.hub``, through which MMEngine reads ``http://`` and
    ``open-mmlab://``, loads with ``weights_only=False``.
    """
    former, load = os.environ.get(_FORCE), torch.load

    def checked(file: Any, *args: Any, **kwargs: Any) -> Any:
        if isinstance(file, (str, os.PathLike)):
            require_unchanged(os.fspath(file))
        return load(file, *args, **kwargs)

    os.environ[_FORCE] = '1'
    torch.load = checked
    try:
        yield
    finally:
        torch.load = load
        if former is None:
            os.environ.pop(_FORCE, None)
        else:
            os.environ[_FORCE] = former


def _with_state_dict(checkpoint: Any, filename: str,
                     keys: Sequence[str]) -> dict:
    if isinstance(checkpoint, dict):
        key = next((key for key in keys if key in checkpoint), None)
        weights = checkpoint if key is None else checkpoint[key]
        if isinstance(weights, dict) and weights and all(
                isinstance(k, str) and isinstance(v, torch.Tensor)
                for k, v in weights.items()):
            if key is None:
                return dict(state_dict=checkpoint)
            checkpoint['state_dict'] = weights
            return checkpoint
        found = f'its keys are {[str(key) for key in checkpoint][:8]}'
    else:
        found = f'it holds a {type(checkpoint).__name__}'
    raise CheckpointError(f"Checkpoint {filename} has no 'state_dict' of "
                          f'tensors ({found}). Use a checkpoint of MMEngine.')


def _drop_odd_meta(checkpoint: dict) -> None:
    """Files of other projects may have a ``meta`` of their own: unless it and
    what it says of classes are dicts, they count as absent."""
    meta = checkpoint.get('meta')
    if not isinstance(meta, dict):
        checkpoint.pop('meta', None)
    elif not isinstance(meta.get('dataset_meta'), dict):
        meta.pop('dataset_meta', None)


def require_unchanged(path: str) -> None:
    """Compare a file with the checksums that it carries.

    Reads the file once, at 1 GB/s and more where the disk allows it. A file
    without checksums passes; one that torch was asked to write without them
    after a warning.

    Raises:
        CheckpointError: They differ, or the archive is incomplete.
    """
    with open(path, 'rb') as file:
        if file.read(len(_ZIP)) != _ZIP:
            return
    fault: object = None
    try:
        with zipfile.ZipFile(path) as archive:
            broken = archive.testzip()
            # with torch.serialization.set_crc32_options(False) all are 0
            if broken and any(part.CRC for part in archive.infolist()):
                fault = f'the checksum of {broken} is another'
            elif broken:
                print_log(
                    f'{path} was written without checksums: damage to its '
                    'weights would not be noticed.', 'current',
                    logging.WARNING)
    except Exception as error:  # zipfile raises anything for odd bytes
        fault = error
    if fault is not None:
        raise CheckpointError(damaged(path, fault))


def damaged(path: str,
            cause: object,
            otherwise: str = 'not a checkpoint') -> str:
    """The message about a file that cannot be what was written."""
    lines = str(cause).strip().splitlines() or [type(cause).__name__]
    return (f'Checkpoint {path} cannot be read; it is damaged or {otherwise} '
            f'({lines[0][:120]}). Copy or download it again, or use an '
            'earlier one.')


def is_local(path: str, backend_args: Optional[dict] = None) -> bool:
    """Whether a path lies on a file system that can rename."""
    return isinstance(
        get_file_backend(path, backend_args=backend_args), LocalBackend)


def latest_checkpoint(work_dir: str) -> Optional[str]:
    """The checkpoint to resume from.

    What ``last_checkpoint`` names, also where the whole directory was moved.
    Where that file is missing, empty (a kill while MMEngine wrote it) or
    names a file that is gone: the complete ``iter_N.pth`` or ``epoch_N.pth``
    with the highest N.

    Returns:
        str or None: Path, or None in a directory without checkpoints.
    """
    pointer = osp.join(work_dir, 'last_checkpoint')
    named = ''
    if osp.isfile(pointer):
        with open(pointer, encoding='utf-8', errors='replace') as file:
            named = file.read().strip()
    if '://' in named:
        return named
    for path in (osp.join(work_dir, osp.basename(named)), named):
        if osp.isfile(path):
            return path
    return next(iter(_numbered(work_dir)), None)


def _numbered(work_dir: str) -> List[str]:
    """``iter_N.pth`` and ``epoch_N.pth``, the highest N first."""
    found = []
    for name in os.listdir(work_dir) if osp.isdir(work_dir) else ():
        match = re.fullmatch(r'(?:iter|epoch)_(\d+)\.pth', name)
        if match:
            found.append((int(match[1]), osp.join(work_dir, name)))
    return [path for _, path in sorted(found, reverse=True)]


def usable_checkpoint(work_dir: str) -> Tuple[Optional[str], List[str]]:
    """The checkpoint to resume from, as :func:`latest_checkpoint`; where it
    is damaged, as after a power failure, the highest one that is not.

    Returns:
        tuple[str or None, list[str]]: Path, or None in a directory without
        checkpoints; what is wrong with each one that was passed over.

    Raises:
        CheckpointError: There are checkpoints, and none can be read.
    """
    last = latest_checkpoint(work_dir)
    if last is None or '://' in last:
        return last, []
    problems = []
    others = [path for path in _numbered(work_dir) if path != last]
    for path in (last, *others):
        try:
            read_checkpoint(path)
        except CheckpointError as error:
            problems.append(str(error))
        else:
            return path, problems
    raise CheckpointError(
        f'{work_dir}: none of {len(problems)} checkpoints can be resumed, so '
        f'nothing is trained over them. {problems[0]} To begin anew, choose '
        'another --work-dir.')
