"""The runner: MMEngine's, where it starts processes, loads and saves.

Select it with ``runner_type='ExactRunner'``. On machines with an
accelerator, process start and wrapping are MMEngine's own.
"""
import logging
import os
import os.path as osp
import sys
from contextlib import contextmanager
from functools import partial
from typing import Any, Dict, Iterator, List, Optional, Tuple, Union

import torch
import torch.nn as nn
from mmengine.config import Config
from mmengine.dist import (broadcast_object_list, is_main_process,
                           sync_random_seed)
from mmengine.fileio import join_path
from mmengine.hooks import EMAHook
from mmengine.logging import MMLogger
from mmengine.model import is_model_wrapper
from mmengine.optim import OptimWrapperDict
from mmengine.registry import RUNNERS
from mmengine.runner import BaseLoop, EpochBasedTrainLoop, Runner
from torch.utils.data import DataLoader

from .allocator import LARGEST_IN_TRAINING, keep_freed_memory
from .auto_scale import batch_size_warning, effective_batch, scale_to_batch
from .checkpoint import (is_local, read_checkpoint, to_plain,
                         usable_checkpoint, weights_only)
from .checkpoint_hook import TidyHook
from .errors import CheckpointError, InputError, RunError
from .files import write_atomically
from .launch import (cpu_wrapper_cfg, host_group, init_process_group,
                     launched_world_size, on_cpu, unequal_kernels,
                     without_sync_bn)
from .match import (EXACT, FINETUNE, RESUME, STREAM, bare_model,
                    classes_warning, frozen_warning, load_weights, require,
                    resume_faults, settings_warning, stream_warning)
from .numerics import require_finite_weights
from .optimizers import merge_saved_groups
from .record import run_record
from .threads import fit_threads

#: Key of ``checkpoint['meta']``: threads of a run on a CPU.
THREADS = 'threads'
_FIX = ('Resume from iter_N.pth with the config that wrote it, or use it as '
        'load_from to fine-tune.')


def _of_train_loop(name: str) -> Any:
    """Property of the training loop. MMEngine's builds the loop, and with it
    the training data, when a hook asks for the iteration of a test."""

    def get(self: 'ExactRunner') -> int:
        loop = self._train_loop
        return getattr(loop, name) if isinstance(loop, BaseLoop) else 0

    return property(get, doc=f'int: {name}; 0 without training.')


@RUNNERS.register_module()
class ExactRunner(Runner):
    """Runner with CPU processes, exact resume and protected checkpoints.

    Arguments are those of ``Runner``. Without an accelerator, launchers use
    gloo and DDP runs on the CPU. Checkpoints are plain, written atomically,
    read with protection on, and have to fit (``match``).
    ``auto_scale_lr.enable`` also scales the schedule (``auto_scale``).

    Attributes:
        base_seed (int): The run's seed, equal on all ranks, from which loops
            and samplers derive theirs.
        host_group (ProcessGroup, optional): For what hosts tell each other.
    """

    _policy = FINETUNE
    # attributes of MMEngine's runner
    _load_from: Any
    _resume: bool
    optim_wrapper: Any
    param_schedulers: Any

    epoch = _of_train_loop('epoch')
    iter = _of_train_loop('iter')
    max_epochs = _of_train_loop('max_epochs')
    max_iters = _of_train_loop('max_iters')

    @classmethod
    def from_cfg(cls, cfg: Union[Config, dict]) -> 'ExactRunner':
        """Build from a config, scaled to the batch size where it asks."""
        cfg = cfg if isinstance(cfg, Config) else Config(cfg)
        world_size = launched_world_size(cfg.get('launcher', 'none'))
        return super().from_cfg(scale_to_batch(cfg, world_size))

    def setup_env(self, env_cfg: Dict) -> None:
        """Set up; without an accelerator join gloo, and keep freed memory."""
        if on_cpu():
            keep_freed_memory()
        if self.distributed:
            init_process_group(self.launcher, env_cfg.get('dist_cfg') or {})
        super().setup_env(env_cfg)
        self.host_group = host_group(env_cfg.get('dist_cfg') or {})

    def build_logger(self, *args: Any, **kwargs: Any) -> MMLogger:
        """Build the logger; a log that cannot be written is reported once."""
        logger = super().build_logger(*args, **kwargs)
        for handler in logger.handlers:
            if isinstance(handler, logging.FileHandler):
                handler.handleError = partial(  # type: ignore[method-assign]
                    _report_once, handler)
        return logger

    def set_randomness(self,
                       seed: Optional[int] = None,
                       diff_rank_seed: bool = False,
                       deterministic: bool = False) -> None:
        """Set the seed, and keep the one that all ranks share."""
        if deterministic:  # cuBLAS reads it at the first matrix product
            os.environ.setdefault('CUBLAS_WORKSPACE_CONFIG', ':4096:8')
        self.base_seed = int(sync_random_seed() if seed is None else seed)
        super().set_randomness(self.base_seed, diff_rank_seed, deterministic)

    def build_model(self, model: Union[nn.Module, Dict]) -> nn.Module:
        """Build the model, laid out in memory as ``channels_last`` says."""
        model = super().build_model(model)
        apply_memory_format(model, self.cfg)
        return model

    def wrap_model(self, model_wrapper_cfg: Optional[Dict],
                   model: nn.Module) -> nn.Module:
        """Wrap the model; on the CPU without device ids and SyncBN."""
        if self.distributed and on_cpu() and not is_model_wrapper(model):
            model_wrapper_cfg = cpu_wrapper_cfg(self.cfg, model_wrapper_cfg)
            model = without_sync_bn(model)
        return super().wrap_model(model_wrapper_cfg, model)

    def build_optim_wrapper(self, optim_wrapper: Any) -> Any:
        """Build it with few groups of parameters, see ``optimizers``."""
        if isinstance(optim_wrapper, dict) and isinstance(
                optim_wrapper.get('optimizer'), dict):
            own = dict(constructor='GroupingOptimWrapperConstructor')
            optim_wrapper = dict(own, **optim_wrapper)
        return super().build_optim_wrapper(optim_wrapper)

    def register_default_hooks(self, hooks: Optional[dict] = None) -> None:
        """Register the defaults; outputs are recorded without a wait."""
        hooks, own = dict(hooks or {}), dict(type='RuntimeInfoHook')
        if hooks.get('runtime_info', own) == own:
            hooks['runtime_info'] = dict(type='DelayedRuntimeInfoHook')
        super().register_default_hooks(hooks)

    def register_hooks(self, *args: Any, **kwargs: Any) -> None:
        """Register the config's hooks and :class:`TidyHook`."""
        super().register_hooks(*args, **kwargs)
        self.register_hook(TidyHook())

    @staticmethod
    def build_dataloader(dataloader: Union[DataLoader, Dict], *args: Any,
                         **kwargs: Any) -> DataLoader:
        """Same as MMEngine's; for an accelerator, batches are in pinned
        memory, from which copies do not wait, unless the config says
        ``pin_memory=False``."""
        if isinstance(dataloader, dict) and not on_cpu():
            dataloader = dict(dict(pin_memory=True), **dataloader)
        return Runner.build_dataloader(dataloader, *args, **kwargs)

    def build_train_loop(self, loop: Union[BaseLoop, Dict]) -> BaseLoop:
        """Build the training loop.

        Raises:
            RunError: It counts epochs of an endless sampler.
        """
        built = super().build_train_loop(loop)
        sampler = getattr(built.dataloader.batch_sampler, 'sampler', None)
        if isinstance(built, EpochBasedTrainLoop) and hasattr(
                sampler, 'start_at'):
            raise RunError(
                'train_cfg is an EpochBasedTrainLoop, but the sampler of '
                'train_dataloader never ends. Set train_dataloader.sampler='
                "dict(type='DefaultSampler', shuffle=True) and batch_sampler="
                'None, or train by iterations (ResumableIterTrainLoop).')
        return built

    def _init_model_weights(self) -> None:
        with weights_only():  # some backbones load files themselves
            super()._init_model_weights()

    def _maybe_compile(self, target: str) -> None:
        """Compile backbones and necks with the options ``cfg.compile``.

        MMEngine would compile ``target``, a whole step, whose losses and
        detections have no graph to compile. Names of weights stay.
        """
        options = self.cfg.get('compile')
        if options is None or options is False:
            return
        for name, module in bare_model(self.model).named_modules():
            if name.rpartition('.')[2] in ('backbone', 'neck'):
                module.compile(**({} if options is True else options))
                self.logger.info(f'{name} is compiled as it is first used.')

    def train(self) -> nn.Module:
        """Train, after warnings about the batch size and unequal kernels.

        Raises:
            RunError: The config checkpoints activations MMEngine's way.
        """
        modules = self.cfg.get('activation_checkpointing')
        if modules:
            raise RunError(
                f'activation_checkpointing={modules}: what comes before a '
                'module that takes images or several maps would get no '
                'gradient. Set model.backbone.with_cp=True instead.')
        if on_cpu():
            keep_freed_memory(LARGEST_IN_TRAINING)
        self._warn(batch_size_warning(self.cfg, self.world_size))
        if self._randomness_cfg.get('deterministic') and not on_cpu():
            self._warn(unequal_kernels(bare_model(self.model)))
        return super().train()

    def val(self) -> dict:
        """Validate; the checkpoint has to fill the whole model."""
        with self._loading(EXACT):
            return super().val()

    def test(self) -> dict:
        """Test; the checkpoint has to fill the whole model."""
        with self._loading(EXACT):
            return super().test()

    def _warn(self, *warnings: Optional[str]) -> None:
        for warning in filter(None, warnings):
            self.logger.warning(warning)

    @contextmanager
    def _loading(self, policy: str) -> Iterator[None]:
        """Set what a checkpoint loaded inside the block has to match."""
        former, self._policy = self._policy, policy
        try:
            yield
        finally:
            self._policy = former

    def load_or_resume(self) -> None:
        """Load or resume; rank 0 finds the last checkpoint that is usable.

        Raises:
            CheckpointError: There are checkpoints, and none can be read.
        """
        if self._resume and self._load_from is None and not self._has_loaded:
            self._load_from = self._find_checkpoint()
            if self._load_from is None:
                self._warn(f'Nothing to resume in {self.work_dir}: training '
                           'starts at iteration 0.')
                self._resume = False
        if not self._resume:
            self._fit_threads()
            if self._load_from is None and not self._has_loaded:
                self._warn(frozen_warning(bare_model(self.model)))
        super().load_or_resume()

    def _fit_threads(self, number: Optional[int] = None) -> None:
        """Take as many threads on a CPU as the run that is continued or,
        unless equal bits are asked for, as there are free cores."""
        equal = self.distributed or self._randomness_cfg.get('deterministic')
        if on_cpu() and (number or not equal):
            fit_threads(number)

    def _find_checkpoint(self) -> Optional[str]:
        """The checkpoint that rank 0 finds, on all ranks."""
        found: list = [None, []]
        if is_main_process():
            found[:] = usable_checkpoint(self.work_dir)
        broadcast_object_list(found)
        path, problems = found
        if problems and path is None:
            raise CheckpointError(
                f'{self.work_dir}: none of {len(problems)} checkpoints can be '
                f'resumed, so training does not start. {problems[0]} To '
                'begin anew, choose another --work-dir.')
        for problem in problems:
            self.logger.error(f'PASSED OVER: {problem} Training continues '
                              f'from the one before, {path}.')
        return path

    def load_checkpoint(
            self,
            filename: str,
            map_location: Any = 'cpu',
            strict: bool = False,
            revise_keys: List[Tuple[str, str]] = [(r'^module\.', '')]) -> dict:
        """Load weights with protection on and check that they fit.

        Arguments and result are those of ``Runner.load_checkpoint``.

        Raises:
            CheckpointError: Names the file, what is wrong and the fix.
        """
        policy = EXACT if strict and self._policy != RESUME else self._policy
        checkpoint = read_checkpoint(filename, map_location)
        if policy == RESUME:
            self._begin_resume(checkpoint, filename)
        self.call_hook('after_load_checkpoint', checkpoint=checkpoint)
        if policy == EXACT:
            self._check_contents(checkpoint, filename)
            self._warn_of_classes(checkpoint, filename)
        report = load_weights(self.model, checkpoint['state_dict'],
                              revise_keys)
        self._warn(require(report, policy, filename))
        self._has_loaded = True
        self.logger.info(f'Loaded {len(report.loaded)} tensors from '
                         f'{filename}')
        return checkpoint

    def _begin_resume(self, checkpoint: dict, filename: str) -> None:
        """Build what a checkpoint fills, and compare the two."""
        self.optim_wrapper = self.build_optim_wrapper(self.optim_wrapper)
        if self.param_schedulers is not None:
            self.param_schedulers = self.build_param_scheduler(
                self.param_schedulers)
        meta = checkpoint.get('meta') or {}
        meta.pop('config', None)  # MMEngine would run that text
        self._fit_threads(meta.get(THREADS))
        for fault in resume_faults(
                checkpoint,
                self.param_schedulers,
                averaged=any(isinstance(hook, EMAHook) for hook in self.hooks),
                stream=self._stream(),
                scaled=bool((self.cfg.get('auto_scale_lr')
                             or {}).get('scaled'))):
            raise CheckpointError(
                f'Checkpoint {filename} cannot be resumed: {fault}. {_FIX}')
        if 'ema_state_dict' in checkpoint:  # EMAHook pairs them by name
            require(
                load_weights(self.model, checkpoint['state_dict']), RESUME,
                filename)
        self._warn(stream_warning(meta.get(STREAM), self._stream(), filename))
        if not isinstance(self.optim_wrapper, OptimWrapperDict):
            merge_saved_groups(checkpoint, self.optim_wrapper.optimizer)
            self._warn(
                settings_warning(checkpoint, self.optim_wrapper,
                                 self.param_schedulers or [], filename))
        # MMEngine compares pickles, which differ between equal metainfo.
        metainfo = getattr(self.train_dataloader.dataset, 'metainfo', None)
        if to_plain(metainfo) == meta.get('dataset_meta'):
            meta['dataset_meta'] = metainfo

    def _check_contents(self, checkpoint: dict, filename: str) -> None:
        """Further demands of a subclass on a file to evaluate."""

    def _warn_of_classes(self, checkpoint: dict, filename: str) -> None:
        loop = self._test_loop if isinstance(self._test_loop,
                                             BaseLoop) else self._val_loop
        data = loop.dataloader.dataset if isinstance(loop, BaseLoop) else None
        now = getattr(data, 'metainfo', None)
        then = (checkpoint.get('meta') or {}).get('dataset_meta')
        if isinstance(now, dict) and isinstance(then, dict):
            self._warn(classes_warning(then, now, filename))

    def resume(self,
               filename: str,
               resume_optimizer: bool = True,
               resume_param_scheduler: bool = True,
               map_location: Any = 'cpu') -> None:
        """Resume, with the checks of :meth:`load_checkpoint`.

        The file is read to the host: on a GPU weights and state would be
        there twice.

        Raises:
            CheckpointError: Also for an optimizer that does not fit.
        """
        with self._loading(RESUME):
            try:
                super().resume(filename, resume_optimizer,
                               resume_param_scheduler, map_location)
                own = getattr(self.optim_wrapper, 'optimizer', None)
                lost = own and own.defaults.keys() - own.param_groups[0].keys()
                if lost:
                    raise ValueError('it was written by one without '
                                     f'{", ".join(sorted(lost))}')
            except InputError:
                raise
            except (ValueError, LookupError) as error:
                raise CheckpointError(
                    f'Checkpoint {filename}: its optimizer or schedule does '
                    f'not fit the config ({error}). {_FIX}') from error
        if self.iter >= self.max_iters:
            self._warn(f'{filename} is from iteration {self.iter} of '
                       f'{self.max_iters}: nothing is left to train.')

    def save_checkpoint(self,
                        out_dir: str,
                        filename: str,
                        file_client_args: Optional[dict] = None,
                        meta: Optional[dict] = None,
                        backend_args: Optional[dict] = None,
                        **kwargs: Any) -> None:
        """Save finite weights only, atomically on local disks.

        Arguments are those of ``Runner.save_checkpoint``, most by keyword.

        Raises:
            NonFiniteLossError: A loss or a weight is NaN or infinite (on all
                ranks).
        """
        self.call_hook('read_outputs')
        meta = dict(meta or {}, **{STREAM: self._stream()})
        require_finite_weights(
            bare_model(self.model), meta.get('iter', self.iter + 1), filename)
        if on_cpu():
            meta[THREADS] = torch.get_num_threads()
        if is_main_process():  # which writes; it reads whole files once
            meta['record'] = run_record(self, self.train_dataloader.dataset)
        write = partial(
            super().save_checkpoint,
            file_client_args=file_client_args,
            meta=meta,
            backend_args=backend_args,
            **kwargs)
        if file_client_args is not None or not is_local(out_dir, backend_args):
            write(out_dir, filename)
        elif is_main_process():
            write_atomically(
                join_path(out_dir, filename, backend_args=backend_args),
                lambda partial_path: write(*osp.split(partial_path)),
                durable=True)

    def _stream(self) -> Dict[str, int]:
        """What, besides the seed, decides which images batch i holds."""
        per_iteration = self.world_size
        if self.cfg.get('train_dataloader') is not None:
            per_iteration, _ = effective_batch(self.cfg, self.world_size)
        return dict(
            world_size=self.world_size, images_per_iteration=per_iteration)


def apply_memory_format(model: nn.Module, cfg: Config) -> None:
    """Apply ``cfg.channels_last`` to all networks that support it."""
    if not cfg.get('channels_last', False):
        return
    for module in model.modules():
        if hasattr(module, 'set_memory_format'):
            module.set_memory_format(torch.channels_last)


def _report_once(handler: logging.FileHandler,
                 record: logging.LogRecord) -> None:
    """Print one line instead of a traceback for each line of the log."""
    cause = str(sys.exc_info()[1])
    if getattr(handler, 'reported', None) != cause:
        setattr(handler, 'reported', cause)
        print(
            f'{handler.baseFilename}: lines of the log are lost ({cause}).',
            file=sys.stderr)
