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

Files of safetensors are read, too, see ``safetensor``.
"""
import os
import os.path as osp
import pickle
import re
import zipfile
from collections import Counter, OrderedDict
from contextlib import contextmanager, nullcontext
from typing import Any, Iterator, List, Mapping, Optional, Sequence, Tuple
from urllib.error import URLError

import numpy as np
import torch
from mmengine.fileio import LocalBackend, get_file_backend, get_local_path
from mmengine.logging import HistoryBuffer
from mmengine.runner import CheckpointLoader
from numpy._core import multiarray

from .errors import CheckpointError, InputError
from .safetensor import SUFFIX, is_safetensors, read_safetensors

#: Where MMEngine keeps weights in a checkpoint.
WEIGHT_KEYS = ('state_dict', )
_HISTORY_KEY = '__history_buffer__'
#: torch's own switch.
_FORCE = 'TORCH_FORCE_WEIGHTS_ONLY_LOAD'
_ATOMS: Tuple[Any, ...] = (type(None), bool, int, float, complex, str, bytes,
                           torch.Size, torch.dtype, torch.device)


def to_plain(value: Any) -> Any:
    """Copy of nested containers that weights-only loading accepts.

    numpy numbers and arrays become python numbers and lists, mappings
    become dicts (``OrderedDict`` and ``Counter`` stay), enumerations and
    other subclasses of numbers and strings lose their class. What has no
    plain form becomes None.
    """
    if type(value) in _ATOMS or isinstance(value, torch.Tensor):
        return value
    if isinstance(value, HistoryBuffer):
        log, count = value.data
        return {
            _HISTORY_KEY: 1,
            'log': torch.from_numpy(np.array(log)),
            'count': torch.from_numpy(np.array(count)),
            'max_length': int(value.max_length)
        }
    if isinstance(value, (np.ndarray, np.generic)):
        return to_plain(value.tolist())
    if isinstance(value, Mapping):
        kind: Any = type(value) if type(value) in (OrderedDict,
                                                   Counter) else dict
        return kind({
            to_plain(key): to_plain(item)
            for key, item in value.items()
        })
    for container in (list, tuple, set):
        if isinstance(value, container):
            return container(map(to_plain, value))
    return next((atom(value) for atom in _ATOMS if isinstance(value, atom)),
                None)


def make_plain(checkpoint: dict) -> None:
    """Give everything but the weights its plain form, in place."""
    for key in checkpoint:
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
    scalars = checkpoint.get('message_hub', {}).get('log_scalars', {})
    for key, value in scalars.items():
        if isinstance(value, _HistoryStandIn):
            scalars[key] = value.buffer
        elif _HISTORY_KEY in value:
            scalars[key] = HistoryBuffer(value['log'].cpu().numpy(),
                                         value['count'].cpu().numpy(),
                                         int(value['max_length']))


def _history_statistic(owner: Any, name: str) -> str:
    """Stand-in for ``getattr`` while reading; see the top of the module."""
    if owner is not _HistoryStandIn or name not in ('min', 'max', 'current',
                                                    'mean'):
        raise pickle.UnpicklingError(
            f'Unsupported global: GLOBAL getattr of {name!r}')
    return name


def _foreign_globals() -> List[Any]:
    """What MMEngine's own checkpoints hold besides tensors."""
    allowed: List[Any] = [(_HistoryStandIn,
                           'mmengine.logging.history_buffer.HistoryBuffer'),
                          (_history_statistic, 'builtins.getattr'),
                          (_history_statistic, '__builtin__.getattr'),
                          (bytes, 'builtins.bytes'), np.ndarray, np.dtype]
    for name in ('scalar', '_reconstruct'):
        function = getattr(multiarray, name)
        allowed += [(function, f'numpy.core.multiarray.{name}'),
                    (function, f'numpy._core.multiarray.{name}')]
    return allowed + [type(np.dtype(code)) for code in '?bBhHiIlLqQefdFDSU']


def read_checkpoint(filename: str,
                    map_location: Any = 'cpu',
                    keys: Sequence[str] = WEIGHT_KEYS) -> dict:
    """Read a checkpoint with torch's protection on.

    Args:
        filename (str): Local path, or an address that MMEngine can load
            (``https://``, ``s3://``, ``open-mmlab://``, ...).
        map_location: As for ``torch.load``; safetensors stay on the host.
        keys (Sequence[str]): Where the weights may be; the first that is
            there counts.

    Returns:
        dict: With ``state_dict``; a file of bare weights is wrapped.

    Raises:
        CheckpointError: Missing, damaged, unsafe, or without weights.
        RuntimeError: A GPU fails or has no memory left.
    """
    try:
        # torch before 2.5 has a list of its own
        allow = getattr(torch.serialization, 'safe_globals', nullcontext)
        with allow(_foreign_globals()):
            checkpoint = _load(filename, map_location)
        checkpoint = _with_state_dict(checkpoint, keys)
        for key in ('meta', 'message_hub'):  # of a file from elsewhere
            if not isinstance(checkpoint.get(key, {}), dict):
                del checkpoint[key]
        _restore_history(checkpoint)
        return checkpoint
    except InputError:  # of a registered scheme
        raise
    except Exception as error:  # torch raises anything for odd bytes
        if str(error).startswith('CUDA'):  # out of memory: not the file's
            raise
        raise CheckpointError(describe_fault(filename, error)) from error


def describe_fault(filename: str, error: Exception) -> str:
    """What is wrong with a checkpoint, and the fix."""
    if isinstance(error, FileNotFoundError):
        return f'Checkpoint {filename} does not exist. Check the path.'
    if isinstance(error, URLError):
        return (f'Checkpoint {filename} cannot be downloaded ({error.reason}).'
                ' Check address and connection, or give a file.')
    # a name that no module has is damaged
    code = re.search(r'GLOBAL ([\w.]{1,200})(?=\s|$)', str(error))
    if isinstance(error, pickle.UnpicklingError) and code:
        return (f'Checkpoint {filename} holds the python object {code[1]}, '
                'which is not loaded because it could run code. Where you '
                "trust the file, save its 'state_dict' alone and use that.")
    # torch puts its advice to switch the protection off before the cause
    cause = str(error).split('WeightsUnpickler error:')[-1].strip()
    cause = (cause.splitlines() or [type(error).__name__])[0][:200]
    return (f'Checkpoint {filename} cannot be read; it is damaged or not a '
            f'checkpoint of weights alone ({cause}). Copy or download it '
            'again, or use an earlier one.')


def _load(filename: str, map_location: Any) -> Any:
    if '://' in filename and not filename.endswith(SUFFIX):
        with weights_only():
            return CheckpointLoader.load_checkpoint(filename, map_location)
    with get_local_path(osp.expanduser(filename)) as path:
        if is_safetensors(path):
            return read_safetensors(path)
        _compare_checksums(path)
        with open(path, 'rb') as file:  # torch, too, judges by the name
            return torch.load(file, map_location, weights_only=True)


@contextmanager
def weights_only() -> Iterator[None]:
    """Keep torch's protection on, even where others switch it off.

    ``torch.hub``, through which MMEngine reads ``http://`` and
    ``open-mmlab://``, loads with ``weights_only=False``.
    """
    former = os.environ.get(_FORCE)
    os.environ[_FORCE] = '1'
    try:
        yield
    finally:
        del os.environ[_FORCE]
        if former is not None:
            os.environ[_FORCE] = former


def _with_state_dict(checkpoint: Any, keys: Sequence[str]) -> dict:
    """The checkpoint with its tensors below ``state_dict``."""
    found = checkpoint if isinstance(checkpoint, dict) else {}
    key = next((key for key in keys if key in found), None)
    weights = found if key is None else found[key]
    if not isinstance(weights, dict) or not weights or not all(
            isinstance(name, str) and isinstance(item, torch.Tensor)
            for name, item in weights.items()):
        raise ValueError("it has no 'state_dict' of tensors; its keys are "
                         f'{[str(key) for key in found][:8]}')
    return dict({} if key is None else found, state_dict=weights)


def _compare_checksums(path: str) -> None:
    """Compare an archive with the checksums that it carries.

    Reads the file once, at 1 GB/s and more where the disk allows it.
    """
    with open(path, 'rb') as file:
        if file.read(4) != b'PK\x03\x04':
            return
    with zipfile.ZipFile(path) as archive:
        broken = archive.testzip()
        # with torch.serialization.set_crc32_options(False) all are 0
        if broken and any(part.CRC for part in archive.infolist()):
            raise ValueError(f'the checksum of {broken} differs')


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
    return next(iter(_candidates(work_dir)), None)


def _candidates(work_dir: str) -> List[str]:
    """Checkpoints of a directory, the one to resume from first."""
    pointer = osp.join(work_dir, 'last_checkpoint')
    named = ''
    if osp.isfile(pointer):
        with open(pointer, encoding='utf-8', errors='replace') as file:
            named = file.read().strip()
    if '://' in named:
        return [named]
    numbered = {}
    for name in os.listdir(work_dir) if osp.isdir(work_dir) else ():
        match = re.fullmatch(r'(?:iter|epoch)_(\d+)\.pth', name)
        if match:
            numbered[osp.join(work_dir, name)] = int(match[1])
    pointed = [osp.join(work_dir, osp.basename(named)), named]
    found = [path for path in pointed if osp.isfile(path)][:1]
    found += sorted(numbered, key=numbered.__getitem__, reverse=True)
    return list(dict.fromkeys(found))


def usable_checkpoint(work_dir: str) -> Tuple[Optional[str], List[str]]:
    """Same as :func:`latest_checkpoint`, but where that file is damaged (by a
    power failure, say), the highest one that is not.

    Returns:
        tuple[str or None, list[str]]: Path, or None where there is none; what
        is wrong with each one that was passed over.
    """
    problems: List[str] = []
    for path in _candidates(work_dir):
        try:
            if '://' not in path:
                read_checkpoint(path)
            return path, problems
        except CheckpointError as error:
            problems.append(str(error))
    return None, problems
