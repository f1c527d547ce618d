"""How the processes of a run start, and how they end.

Start     MMEngine's ``init_dist`` selects a CUDA device first, which a
          CPU-only torch refuses: without an accelerator processes join gloo.
Equal     ``randomness.deterministic``: a run that is begun twice has equal
bits      bits. MMEngine has cuDNN choose its kernels by rule and torch take
          deterministic ones, or stop where it has none. A warning names
          operators of mmcv, whose backward may add in any order.
End       by a full disk, a dead worker of a loader, another process that
          died: one line. torchrun, srun and mpirun end the other processes.
"""
import datetime
import io
import os
import re
import subprocess
from traceback import walk_tb
from typing import Dict, Mapping, Optional

import torch.nn as nn
from mmengine.device import get_device
from mmengine.dist import is_distributed
from mmengine.logging import print_log
from mmengine.model import revert_sync_batchnorm
from torch import distributed as torch_dist

from .errors import InputError, RunError
from .files import FULL

_WORLD_SIZE_VARIABLES = dict(
    pytorch='WORLD_SIZE', slurm='SLURM_NTASKS', mpi='OMPI_COMM_WORLD_SIZE')
#: Messages of gloo and of torch's store about a process that is gone.
_LOST = re.compile('Connection (closed|reset) by peer|Broken pipe|'
                   'Timed out waiting|gloo/transport|client socket has timed '
                   'out|failed to (recv|connect)')


def on_cpu() -> bool:
    """Whether torch has no accelerator here."""
    return get_device() == 'cpu'


def launched_world_size(launcher: str) -> int:
    """Number of processes, before or after the process group exists.

    Raises:
        RunError: The launcher's variable is missing.
    """
    if launcher == 'none':
        return 1
    variable = _WORLD_SIZE_VARIABLES[launcher]
    if variable not in os.environ:
        raise RunError(
            f"launcher='{launcher}', but {variable} is not set. Start with "
            'tools/dist_train.sh (torchrun) or tools/slurm_train.sh, or use '
            '--launcher none.')
    return int(os.environ[variable])


def init_process_group(launcher: str, dist_cfg: Mapping) -> None:
    """Join the gloo process group of a CPU run; no-op with an accelerator.

    The variables of SLURM and MPI become torch's, as in MMEngine.
    """
    if is_distributed() or not on_cpu():
        return
    environ = os.environ
    if launcher == 'slurm':
        environ['RANK'] = environ['SLURM_PROCID']
        environ['WORLD_SIZE'] = environ['SLURM_NTASKS']
        environ['LOCAL_RANK'] = environ.get('SLURM_LOCALID', '0')
        if dist_cfg.get('port') is not None:
            environ['MASTER_PORT'] = str(dist_cfg['port'])
        if 'MASTER_ADDR' not in environ:
            environ['MASTER_ADDR'] = subprocess.check_output(
                ['scontrol', 'show', 'hostnames', environ['SLURM_NODELIST']],
                text=True).split()[0]
    elif launcher == 'mpi':
        environ['RANK'] = environ['OMPI_COMM_WORLD_RANK']
        environ['WORLD_SIZE'] = environ['OMPI_COMM_WORLD_SIZE']
        environ['LOCAL_RANK'] = environ.get('OMPI_COMM_WORLD_LOCAL_RANK', '0')
    environ.setdefault('MASTER_PORT', '29500')
    print_log('No accelerator: processes talk through gloo on the CPU.')
    torch_dist.init_process_group(backend='gloo', **_timeout(dist_cfg))


def host_group(dist_cfg: Mapping) -> Optional[torch_dist.ProcessGroup]:
    """Group in which hosts exchange flags; all processes call this.

    Returns:
        ProcessGroup or None: gloo's beside NCCL, for which flags would go to
        the GPU and wait for all that is queued there. None: the default one.

    Raises:
        RunError: gloo finds no way to another machine.
    """
    if not is_distributed() or torch_dist.get_backend() == 'gloo':
        return None
    try:
        return torch_dist.new_group(backend='gloo', **_timeout(dist_cfg))
    except RuntimeError as error:
        raise RunError(
            f'gloo, by which hosts exchange flags, does not reach all of them '
            f'({error}). Set GLOO_SOCKET_IFNAME to the name of the network '
            'interface between them, such as NCCL_SOCKET_IFNAME has.'
        ) from error


def _timeout(dist_cfg: Mapping) -> dict:
    seconds = dist_cfg.get('timeout')
    return {} if seconds is None else dict(
        timeout=datetime.timedelta(seconds=seconds))


def cpu_wrapper_cfg(cfg: Mapping,
                    model_wrapper_cfg: Optional[Mapping]) -> dict:
    """``model_wrapper_cfg`` for a CPU run.

    ``DistributedDataParallel`` refuses device ids on the CPU; a key that is
    given keeps MMEngine from filling it in.
    """
    wrapper = model_wrapper_cfg or dict(
        broadcast_buffers=False,
        find_unused_parameters=cfg.get('find_unused_parameters', False))
    return {'type': 'MMDistributedDataParallel', **wrapper, 'device_ids': None}


def without_sync_bn(model: nn.Module) -> nn.Module:
    """Replace SyncBatchNorm, which refuses CPU tensors, by BatchNorm."""
    if any(isinstance(m, nn.SyncBatchNorm) for m in model.modules()):
        print_log('SyncBatchNorm needs GPUs: each process normalises alone.')
    return revert_sync_batchnorm(model)


def unequal_kernels(model: nn.Module) -> Optional[str]:
    """Warning about operators of mmcv that the switch does not reach.

    Modules of ``mmcv.ops`` count, and those derived from them, except those
    with ``equal_bits = True``.
    """
    first: Dict[str, str] = {}
    for name, module in model.named_modules():
        if not getattr(module, 'equal_bits', False) and any(
                kind.__module__.startswith('mmcv.ops.')
                for kind in type(module).__mro__):
            first.setdefault(type(module).__name__, name)
    if not first:
        return None
    named = ', '.join(f'{kind} ({name})' for kind, name in first.items())
    return ('randomness.deterministic=True does not reach operators of mmcv '
            f'whose gradients may be added in any order on a GPU: {named}. '
            'Two runs of this model differ by rounding. For RoIAlign set '
            "type='SeparableRoIExtractor' in model.roi_head.")


def explain(error: BaseException) -> Optional[str]:
    """One line about an error that is not a fault of the program.

    Returns:
        str or None: What happened, to which file or process, and the fix.
        None for any other error, which needs its traceback.
    """
    if isinstance(error, InputError):
        return one_line(error)
    if isinstance(error, OSError):
        return _explain_os_error(error)
    if not isinstance(error, RuntimeError):
        return None
    cause = (str(error).strip().splitlines() or [''])[0][:200].rstrip('. ')
    if 'DataLoader worker' in str(error):
        return (f'A process that loads images died ({cause}), most likely for '
                'want of memory: --cfg-options train_dataloader.num_workers=N '
                '(or that of val_ and test_dataloader) with a smaller N needs '
                'less.')
    if isinstance(error, torch_dist.DistBackendError) or _LOST.search(
            str(error)):
        return ('Another process of this run ended, or did not answer in time '
                f'({cause}). Look at its output; one that was killed (for '
                "want of memory, perhaps) is in the system's log. The limit "
                'is env_cfg.dist_cfg.timeout, in seconds.')
    return None


def one_line(error: BaseException) -> str:
    """Message of an error, without the traceback of a loader worker."""
    text = str(error).strip()
    if 'Original Traceback' not in text:
        return text
    last = text.splitlines()[-1]
    name = type(error).__name__
    return last.split(f'{name}: ', 1)[-1]


def _explain_os_error(error: OSError) -> Optional[str]:
    if error.errno is None:  # built again from the text of a loader worker
        text = one_line(error)
        return f'{text}. Check the file.' if text != str(error) else None
    name = error.filename or _open_file(error)
    if name is None:
        return None
    if error.errno in FULL:
        return (f'{name} cannot be written: the disk is full '
                f'({error.strerror}). Make room and continue.')
    return (f'{name}: {error.strerror}. Check the path, its permissions and '
            'the free space on the disk.')


def _open_file(error: BaseException) -> Optional[str]:
    """File that was open where an error arose: write() does not name it."""
    for frame, _ in reversed(list(walk_tb(error.__traceback__))):
        for value in frame.f_locals.values():
            name = getattr(value, 'name', None)
            if isinstance(value, io.IOBase) and isinstance(name, str):
                return name
    return None
