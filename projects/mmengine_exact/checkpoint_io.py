"""Checkpoint files: plain content, atomic writes, protected reads.

Written   state_dict as it is; everything else as plain python and tensors,
          so that ``torch.load(..., weights_only=True)`` reads it unaided.
          A ``HistoryBuffer`` becomes ``{'__history_buffer__': ...}``.
Read      ``weights_only=True`` always. For files that MMEngine wrote itself,
          numpy's numbers and a stand-in for ``HistoryBuffer`` are allowed
          while reading. Such a file pickles ``getattr(HistoryBuffer, 'min')``
          and three more; the stand-in of ``getattr`` knows these four names
          and refuses every other object and name. The checksums of a file
          are compared first (``checkpoint_sums``).
"""
import errno
import os
import os.path as osp
import pickle
import re
from collections import Counter, OrderedDict
from contextlib import contextmanager, nullcontext
from typing import (Any, Callable, ContextManager, Iterator, List, Mapping,
                    Optional, Sequence, Tuple)
from urllib.error import URLError

import numpy as np
import torch
from mmengine.fileio import LocalBackend, get_file_backend
from mmengine.logging import HistoryBuffer
from mmengine.runner import CheckpointLoader

from .checkpoint_sums import damaged, require_unchanged
from .errors import CheckpointError

#: Errors of the system that mean a full disk, or a quota that is used up.
FULL = (errno.ENOSPC, errno.EDQUOT)

#: Where MMEngine keeps weights in a checkpoint.
WEIGHT_KEYS = ('state_dict', )

#: Suffix of a file that is being written; never a checkpoint.
PARTIAL_SUFFIX = '.part'
_HISTORY_KEY = '__history_buffer__'
#: torch's own switch.
_FORCE = 'TORCH_FORCE_WEIGHTS_ONLY_LOAD'
_ATOMS = (type(None), bool, int, float, complex, str, bytes, torch.Tensor,
          torch.Size, torch.dtype, torch.device)


class _Unsupported(Exception):
    """A value that has no plain form."""


def to_plain(value: Any) -> Any:
    """Copy of nested containers that weights-only loading accepts.

    numpy numbers and arrays become python numbers and lists, mappings
    become dicts (``OrderedDict`` and ``Counter`` stay), enumerations and
    other subclasses of numbers and strings lose their class. Entries of a
    mapping that have no plain form are left out.

    Raises:
        _Unsupported: The value itself has no plain form.
    """
    if type(value) in _ATOMS or isinstance(value, torch.Tensor):
        return value
    if isinstance(value, HistoryBuffer):
        return _plain_history(value)
    if isinstance(value, (np.ndarray, np.generic)):
        if value.dtype.hasobject:
            raise _Unsupported(f'numpy objects {value!r}')
        return value.tolist()
    if isinstance(value, Mapping):
        return _plain_mapping(value)
    if isinstance(value, (list, tuple, set, frozenset)):
        kind: Any = next(
            k for k in (list, tuple, set, frozenset) if isinstance(value, k))
        kind = set if kind is frozenset else kind
        return kind(to_plain(item) for item in value)
    for kind in (bool, int, float, complex, str, bytes):
        if isinstance(value, kind):
            return kind(value)
    raise _Unsupported(f'{type(value).__name__} {value!r}'[:80])


def _plain_mapping(value: Mapping) -> dict:
    kind: Any = next((k for k in (OrderedDict, Counter) if type(value) is k),
                     dict)
    plain = kind()
    for key, item in value.items():
        try:
            plain[to_plain(key)] = to_plain(item)
        except _Unsupported:
            continue
    return plain


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
        if key.endswith('state_dict'):
            continue
        checkpoint[key] = to_plain(checkpoint[key])


def _restore_history(checkpoint: dict) -> None:
    """Turn plain or stand-in histories into ``HistoryBuffer``, in place."""
    hub = checkpoint.get('message_hub')
    scalars = hub.get('log_scalars') if isinstance(hub, dict) else None
    if not isinstance(scalars, dict):
        return
    for key, value in list(scalars.items()):
        try:
            if isinstance(value, dict) and _HISTORY_KEY in value:
                log, count = value['log'].cpu(), value['count'].cpu()
                scalars[key] = HistoryBuffer(log.numpy(), count.numpy(),
                                             int(value['max_length']))
            elif isinstance(value, _HistoryStandIn):
                scalars[key] = value.restore()
        except (KeyError, AttributeError, TypeError, ValueError,
                AssertionError, RuntimeError):
            continue  # no history: a resumed run begins a new one, and says so


class _HistoryStandIn:
    """What a pickled ``HistoryBuffer`` becomes while it is read."""

    def __setstate__(self, state: dict) -> None:
        self.log = np.asarray(state['_log_history'])
        self.count = np.asarray(state['_count_history'])
        self.max_length = int(state['max_length'])

    def restore(self) -> HistoryBuffer:
        return HistoryBuffer(self.log, self.count, self.max_length)


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
    for code in '?bBhHiIlLqQefdFDSU':
        kind = type(np.dtype(code))
        if kind not in allowed:
            allowed.append(kind)
    return allowed


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
    if '://' not in filename:
        filename = osp.expanduser(filename)
        if not osp.isfile(filename):
            raise CheckpointError(
                f'Checkpoint {filename} does not exist. Check the path.')
    try:
        with _allow_foreign():
            checkpoint = _load(filename, map_location)
    except CheckpointError:
        raise
    except pickle.UnpicklingError as error:
        raise CheckpointError(_unpickling_message(filename, error)) from error
    except URLError as error:
        raise CheckpointError(
            f'Checkpoint {filename} cannot be downloaded ({error.reason}). '
            'Check address and connection, or give a file.') from error
    except Exception as error:  # what torch makes of any bytes
        raise CheckpointError(damaged(filename, error)) from error
    checkpoint = _with_state_dict(checkpoint, filename, keys)
    _drop_odd_meta(checkpoint)
    _restore_history(checkpoint)
    return checkpoint


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


def _load(filename: str, map_location: Any) -> Any:
    if '://' in filename:
        with weights_only():
            return CheckpointLoader.load_checkpoint(filename, map_location)
    require_unchanged(filename)
    return torch.load(filename, map_location=map_location, weights_only=True)


def _unpickling_message(filename: str, error: Exception) -> str:
    # a name that no module has is a damaged one
    match = re.search(r'GLOBAL ([\w.]{1,200})(?=\s|$)', str(error))
    if match is None:
        reason = re.search(r'WeightsUnpickler error: *(.*)', str(error))
        return damaged(
            filename, reason[1] if reason and reason[1] else error,
            'not a checkpoint of weights alone (others could run code)')
    return (f'Checkpoint {filename} holds the python object {match[1]}, which '
            'is not loaded because it could run code. Where you trust the '
            "file, save its 'state_dict' alone and use that.")


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
    """A ``meta`` that is no dict, and what it says of classes, count as
    absent, as they are in a file of bare weights."""
    meta = checkpoint.get('meta')
    if not isinstance(meta, dict):
        checkpoint.pop('meta', None)
    elif not isinstance(meta.get('dataset_meta'), dict):
        meta.pop('dataset_meta', None)


def is_local(path: str, backend_args: Optional[dict] = None) -> bool:
    """Whether a path lies on a file system that can rename."""
    return isinstance(
        get_file_backend(path, backend_args=backend_args), LocalBackend)


def write_atomically(path: str, write: Callable[[str], None]) -> None:
    """Let a file appear under its name only when it is complete on disk.

    Args:
        path (str): Local path of the file.
        write (Callable): Writes the file whose path it is given, in the
            same directory.

    Raises:
        CheckpointError: The disk is full or the folder not writable; names
            the file. Nothing is left half written.
    """
    folder, name = osp.split(osp.abspath(path))
    partial = osp.join(folder, f'.{name}{PARTIAL_SUFFIX}')
    try:
        write(partial)
        _sync(partial)
        os.replace(partial, path)
        _sync(folder)
    except (OSError, RuntimeError) as error:
        # RuntimeError is what torch's zip writer makes of a full disk
        if osp.exists(partial):
            os.remove(partial)
        if 'DataLoader worker' in str(error):
            raise  # torch's signal handler, which interrupts anything
        full = getattr(error, 'errno', None) in FULL
        raise CheckpointError(
            f'{path} cannot be written '
            f'({"the disk is full: " if full else ""}{one_sentence(error)}). '
            'Make room, or choose another folder (of a run: --work-dir); what '
            'is there already stays as it is.') from error


def one_sentence(error: Exception) -> str:
    """First sentence of a message that may be long."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0].split('. ')[0][:200]


def _sync(path: str) -> None:
    """Flush a file or directory to disk where the system can do so.

    Raises:
        OSError: What was written has not come to the disk: full, or broken.
    """
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        # others: some network file systems refuse it for directories
        if error.errno in (*FULL, errno.EIO):
            raise
    finally:
        os.close(descriptor)


def remove_partial(folder: str) -> None:
    """Delete what an interrupted write left behind."""
    for name in os.listdir(folder) if osp.isdir(folder) else ():
        if name.startswith('.') and name.endswith(PARTIAL_SUFFIX):
            os.remove(osp.join(folder, name))


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
