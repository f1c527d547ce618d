"""Start of processes on machines without an accelerator.

MMEngine's ``init_dist`` selects a CUDA device first, which a CPU-only torch
refuses. With an accelerator everything here steps aside.
"""
import datetime
import os
import socket
import subprocess
from typing import Mapping, Optional

import torch
import torch.nn as nn
from mmengine.device import get_device
from mmengine.dist import is_distributed
from mmengine.logging import print_log
from mmengine.model import revert_sync_batchnorm
from torch import distributed as torch_dist

from .errors import LaunchError

_WORLD_SIZE_VARIABLES = dict(
    pytorch='WORLD_SIZE', slurm='SLURM_NTASKS', mpi='OMPI_COMM_WORLD_SIZE')


def on_cpu() -> bool:
    """Whether torch has no accelerator here."""
    return get_device() == 'cpu'


def launched_world_size(launcher: str,
                        environ: Optional[Mapping[str, str]] = None) -> int:
    """Number of processes, before or after the process group exists.

    Raises:
        LaunchError: The launcher's variable is missing.
    """
    if launcher == 'none':
        return 1
    environ = os.environ if environ is None else environ
    variable = _WORLD_SIZE_VARIABLES[launcher]
    if variable not in environ:
        raise LaunchError(
            f"launcher='{launcher}', but {variable} is not set. Start with "
            'tools/dist_train.sh (torchrun) or tools/slurm_train.sh, or use '
            '--launcher none.')
    return int(environ[variable])


def init_process_group(launcher: str, dist_cfg: Mapping) -> None:
    """Join the gloo process group of a CPU run; no-op with an accelerator.

    Args:
        launcher (str): 'pytorch', 'slurm' or 'mpi'.
        dist_cfg (Mapping): ``env_cfg.dist_cfg``; ``timeout`` (seconds) and
            ``port`` are used, any ``backend`` gives gloo.

    Raises:
        LaunchError: The launcher's variables are missing.
    """
    if is_distributed():
        return
    if not on_cpu():
        _check_local_rank(launcher)
        return
    launched_world_size(launcher)
    if launcher == 'slurm':
        _export_slurm(dist_cfg.get('port'))
    elif launcher == 'mpi':
        _export_mpi()
    kwargs = {}
    if dist_cfg.get('timeout') is not None:
        kwargs['timeout'] = datetime.timedelta(seconds=dist_cfg['timeout'])
    print_log('No accelerator: processes talk through gloo on the CPU.')
    torch_dist.init_process_group(backend='gloo', **kwargs)


def _check_local_rank(launcher: str) -> None:
    """More processes on a machine than GPUs: say so, before CUDA does."""
    if launcher != 'pytorch' or not torch.cuda.is_available():
        return
    rank, count = int(os.environ.get('LOCAL_RANK', 0)), \
        torch.cuda.device_count()
    if rank >= count:
        raise LaunchError(
            f'Process {rank + 1} of this machine has no GPU: {count} are '
            f'visible. Start at most {count} processes, or hide all GPUs '
            '(CUDA_VISIBLE_DEVICES=-1) to run on the CPU.')


def _export_slurm(port: Optional[int]) -> None:
    """Translate SLURM's variables into torch's, as MMEngine does."""
    environ = os.environ
    environ['RANK'] = environ['SLURM_PROCID']
    environ['WORLD_SIZE'] = environ['SLURM_NTASKS']
    environ['LOCAL_RANK'] = environ.get('SLURM_LOCALID', '0')
    if port is not None:
        environ['MASTER_PORT'] = str(port)
    environ.setdefault('MASTER_PORT', '29500')
    if 'MASTER_ADDR' not in environ:
        environ['MASTER_ADDR'] = _first_slurm_host()


def _first_slurm_host() -> str:
    nodes = os.environ.get('SLURM_NODELIST', '')
    try:
        answer = subprocess.run(['scontrol', 'show', 'hostnames', nodes],
                                capture_output=True,
                                text=True,
                                check=True).stdout.split()
    except (OSError, subprocess.CalledProcessError):
        answer = []
    if answer:
        return answer[0]
    if os.environ.get('SLURM_NNODES', '1') == '1':
        return socket.gethostname()
    raise LaunchError(f'The first of the nodes {nodes!r} is not known '
                      '(scontrol failed). Set MASTER_ADDR.')


def _export_mpi() -> None:
    environ = os.environ
    environ['RANK'] = environ['OMPI_COMM_WORLD_RANK']
    environ['WORLD_SIZE'] = environ['OMPI_COMM_WORLD_SIZE']
    environ['LOCAL_RANK'] = environ.get('OMPI_COMM_WORLD_LOCAL_RANK', '0')
    environ.setdefault('MASTER_PORT', '29500')
    if 'MASTER_ADDR' not in environ:
        raise LaunchError("launcher='mpi' needs MASTER_ADDR. Set it to the "
                          'address of the first machine.')


def cpu_wrapper_cfg(cfg: Mapping,
                    model_wrapper_cfg: Optional[Mapping]) -> dict:
    """``model_wrapper_cfg`` for a CPU run.

    ``DistributedDataParallel`` refuses device ids on the CPU; a key that is
    given keeps MMEngine from filling it in.

    Args:
        cfg (Mapping): The whole config, for ``find_unused_parameters``.
        model_wrapper_cfg (Mapping, optional): The user's own.
    """
    if cfg.get('sync_bn') is not None:
        raise LaunchError(f'sync_bn={cfg["sync_bn"]!r} needs GPUs. Remove it '
                          'for a run on the CPU.')
    wrapper = dict(model_wrapper_cfg) if model_wrapper_cfg else dict(
        type='MMDistributedDataParallel',
        broadcast_buffers=False,
        find_unused_parameters=cfg.get('find_unused_parameters', False))
    wrapper.setdefault('type', 'MMDistributedDataParallel')
    wrapper['device_ids'] = None
    return wrapper


def without_sync_bn(model: nn.Module) -> nn.Module:
    """SyncBatchNorm refuses CPU tensors; use plain BatchNorm instead."""
    if any(isinstance(m, nn.SyncBatchNorm) for m in model.modules()):
        print_log('SyncBatchNorm needs GPUs: each process normalises alone.')
    return revert_sync_batchnorm(model)
