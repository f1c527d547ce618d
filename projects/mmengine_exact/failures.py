"""What torch and the system raise when something beside the program fails, in
one line: a full disk, a dead worker of a loader, another process that died.
"""
import io
import re
from traceback import walk_tb
from typing import Optional

from torch.distributed import DistBackendError

from .checkpoint_io import FULL
from .errors import InputError
from .peers import told_by_peers

_LOST = re.compile('Connection (closed|reset) by peer|Broken pipe|'
                   'Timed out waiting|gloo/transport|client socket has timed '
                   'out|failed to (recv|connect)')


def explain(error: BaseException) -> Optional[str]:
    """One line about an error that is no fault of the program.

    Args:
        error (BaseException): With its traceback.

    Returns:
        str or None: What happened, to which file or process, and the fix.
        None for any other error, which needs its traceback.
    """
    if isinstance(error, InputError):
        return one_line(error)
    if isinstance(error, OSError):
        return _of_the_system(error)
    if isinstance(error, RuntimeError):
        if 'DataLoader worker' in str(error):
            return _dead_worker(error)
        if isinstance(error, DistBackendError) or _LOST.search(str(error)):
            return _lost_process(error)
    return None


def one_line(error: BaseException) -> str:
    """The message; of an error in a loader worker, without its traceback."""
    text = str(error).strip()
    if 'Original Traceback' not in text:
        return text
    last = text.splitlines()[-1]
    name = type(error).__name__
    return last.split(f'{name}: ', 1)[-1]


def _of_the_system(error: OSError) -> Optional[str]:
    if error.errno is None:  # built again from the text of a loader worker
        text = one_line(error)
        return f'{text}. Check the file.' if text != str(error) else None
    name = error.filename or _open_file(error)
    if name is None:
        return None
    if error.errno in FULL:
        return (f'{name} cannot be written: the disk is full '
                f'({error.strerror}). Make room and continue.')
    return (f'{name}: {error.strerror}. Check the path, who may read and '
            'write there, and the room on the disk.')


def _open_file(error: BaseException) -> Optional[str]:
    """File that was open where an error arose: write() does not tell it."""
    for frame, _ in reversed(list(walk_tb(error.__traceback__))):
        for value in frame.f_locals.values():
            name = getattr(value, 'name', None)
            if isinstance(value, io.IOBase) and isinstance(name, str):
                return name
    return None


def _dead_worker(error: RuntimeError) -> str:
    reason = str(error).strip().splitlines()[0].rstrip('. ')
    return (f'A process that loads images died ({reason}), most likely for '
            'want of memory: --cfg-options train_dataloader.num_workers=N (or '
            'that of val_ and test_dataloader) with a smaller N needs less.')


def _lost_process(error: RuntimeError) -> str:
    told = told_by_peers()
    if told is not None:
        return f'Another process of this run has failed. {told}'
    reason = str(error).strip().splitlines()[0][:200].rstrip('. ')
    return ('Another process of this run ended without a word, as one does '
            'that is killed (for want of memory, perhaps), or did not answer '
            f'in time ({reason}). Look at the output of the others and the '
            "system's log; the time is env_cfg.dist_cfg.timeout, in seconds.")
