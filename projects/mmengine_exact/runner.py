"""The runner: MMEngine's, where it starts processes, loads and saves.

Select it with ``runner_type='ExactRunner'``. On machines with an
accelerator, process start and wrapping are MMEngine's own.
"""
import logging
import os
import os.path as osp
import pickle
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
from mmengine.hooks import EMAHook, Hook
from mmengine.logging import MMLogger
from mmengine.model import is_model_wrapper
from mmengine.registry import RUNNERS
from mmengine.runner import BaseLoop, EpochBasedTrainLoop, Runner

from .allocator import LARGEST_IN_TRAINING, keep_freed_memory
from .auto_scale import batch_size_warning, effective_batch, scale_to_batch
from .building import building, hint, place, reason
from .checkpoint_io import (is_local, read_checkpoint, to_plain,
                            usable_checkpoint, weights_only, write_atomically)
from .checkpoint_match import (EXACT, FINETUNE, RESUME, MatchReport,
                               bare_model, load_weights, pretrained_weights,
                               require, require_pretrained)
from .config_difference import classes_warning, model_warning
from .config_values import require_values
from .determinism import fix_workspaces, unequal_kernels
from .distributed import (cpu_wrapper_cfg, init_process_group,
                          launched_world_size, on_cpu, without_sync_bn)
from .errors import CheckpointError, ConfigError, NonFiniteLossError, RunError
from .failures import explain
from .history import BoundedHistoryHook
from .hooks import KeptMemoryHook, PlainCheckpointHook
from .memory_format import apply_memory_format
from .peers import watch_peers
from .pretrained import CheckedPretrainedInit  # noqa: F401  registers
from .record import run_record
from .run_state import (require_ema, require_fitting_averages,
                        require_run_state, require_schedules)

#: Key of ``checkpoint['meta']``: what else the batch stream depends on.
_STREAM = 'data_stream'


@RUNNERS.register_module()
class ExactRunner(Runner):
    """Runner with CPU processes, exact resume and protected checkpoints.

    Arguments are those of ``Runner``. Differences:

    - Without an accelerator, launchers use gloo and DDP runs on the CPU.
    - ``base_seed`` is the run's seed, equal on all ranks, from which loops
      and samplers derive theirs.
    - Checkpoints are plain, written atomically, read with protection on,
      and have to fit: see ``checkpoint_match``.
    - ``auto_scale_lr.enable`` also scales the schedule: see ``auto_scale``.
    """

    _policy = FINETUNE
    #: What is under way, and of what an iteration has been.
    _under_way = 'train'
    _begun: frozenset = frozenset()
    # of MMEngine's runner
    _has_loaded: bool
    _load_from: Any
    optim_wrapper: Any
    param_schedulers: Any

    @classmethod
    def from_cfg(cls, cfg: Union[Config, dict]) -> 'ExactRunner':
        """Build from a config, scaled to the batch size where it asks.

        Raises:
            ConfigError: A value of the config is none that it can be, or what
                it names cannot be built; names the key.
        """
        cfg = cfg if isinstance(cfg, Config) else Config(cfg)
        require_values(cfg)
        for key in ('model', 'work_dir'):
            if not cfg.get(key):
                raise ConfigError(f'{cfg.filename or "The config"}: {key} is '
                                  'not set. Set it, or give the config of a '
                                  'whole run.')
        _make_folder(cfg.work_dir)
        world_size = launched_world_size(cfg.get('launcher', 'none'))
        with building(cfg, 'model', 'default_hooks', 'custom_hooks',
                      'visualizer', 'log_processor', 'env_cfg', 'randomness',
                      'log_level', 'train_dataloader', 'val_dataloader',
                      'test_dataloader', 'param_scheduler'):
            return super().from_cfg(scale_to_batch(cfg, world_size))

    @property
    def epoch(self) -> int:
        """int: Current epoch; 0 without training."""
        return self._of_train_loop('epoch')

    @property
    def iter(self) -> int:
        """int: Current iteration; 0 without training."""
        return self._of_train_loop('iter')

    @property
    def max_epochs(self) -> int:
        """int: Epochs to train; 0 without training."""
        return self._of_train_loop('max_epochs')

    @property
    def max_iters(self) -> int:
        """int: Iterations to train; 0 without training."""
        return self._of_train_loop('max_iters')

    def _of_train_loop(self, name: str) -> int:
        # MMEngine's properties build the loop, and with it the training
        # data: a hook that asks for the iteration during a test would load
        # them, on one rank alone perhaps.
        loop = self._train_loop
        return getattr(loop, name) if isinstance(loop, BaseLoop) else 0

    def setup_env(self, env_cfg: Dict) -> None:
        """As MMEngine's; joins gloo first where there is no accelerator, and
        keeps freed memory there."""
        if on_cpu():
            keep_freed_memory()
        if self.distributed:
            init_process_group(self.launcher, env_cfg.get('dist_cfg') or {})
        super().setup_env(env_cfg)
        watch_peers()

    def build_logger(self, *args: Any, **kwargs: Any) -> MMLogger:
        """As MMEngine's; a log that cannot be written is told once."""
        logger = super().build_logger(*args, **kwargs)
        for handler in logger.handlers:
            if isinstance(handler, logging.FileHandler):
                handler.handleError = partial(  # type: ignore[method-assign]
                    _tell_once, handler)
        return logger

    def set_randomness(self,
                       seed: Optional[int] = None,
                       diff_rank_seed: bool = False,
                       deterministic: bool = False) -> None:
        """As MMEngine's; keeps the seed that all ranks share.

        Raises:
            RunError: The environment forbids ``deterministic``.
        """
        if deterministic:
            fix_workspaces()
        self.base_seed = int(sync_random_seed() if seed is None else seed)
        super().set_randomness(self.base_seed, diff_rank_seed, deterministic)

    def build_model(self, model: Union[nn.Module, Dict]) -> nn.Module:
        """As MMEngine's; laid out as ``channels_last`` of the config says."""
        model = super().build_model(model)
        apply_memory_format(model, self.cfg)
        return model

    def wrap_model(self, model_wrapper_cfg: Optional[Dict],
                   model: nn.Module) -> nn.Module:
        """As MMEngine's; on the CPU without device ids and SyncBN."""
        if self.distributed and on_cpu() and not is_model_wrapper(model):
            model_wrapper_cfg = cpu_wrapper_cfg(self.cfg, model_wrapper_cfg)
            model = without_sync_bn(model)
        return super().wrap_model(model_wrapper_cfg, model)

    def register_hooks(
            self,
            default_hooks: Optional[Dict] = None,
            custom_hooks: Optional[List[Union[Hook, Dict]]] = None) -> None:
        """As MMEngine's, one that makes checkpoints plain, and two that bound
        the histories in them and the memory that is kept."""
        super().register_hooks(default_hooks, custom_hooks)
        self.register_hook(PlainCheckpointHook())
        self.register_hook(BoundedHistoryHook())
        self.register_hook(KeptMemoryHook())

    def build_train_loop(self, loop: Union[BaseLoop, Dict]) -> BaseLoop:
        """As MMEngine's; refuses an epoch over an endless sampler.

        Raises:
            RunError: The epoch would never end.
        """
        with building(self.cfg, 'train_dataloader', 'train_cfg'):
            built = super().build_train_loop(loop)
        loader = built.dataloader
        endless = any(
            hasattr(sampler, 'start_at')
            for sampler in (loader.sampler, loader.batch_sampler))
        if isinstance(built, EpochBasedTrainLoop) and endless:
            raise RunError(
                'train_cfg is an EpochBasedTrainLoop, but the sampler of '
                'train_dataloader never ends. Set train_dataloader.sampler='
                "dict(type='DefaultSampler', shuffle=True) and batch_sampler="
                'None, or train by iterations (ResumableIterTrainLoop).')
        return built

    def train(self) -> nn.Module:
        if on_cpu():
            keep_freed_memory(LARGEST_IN_TRAINING)
        require_pretrained(self.cfg.get('model') or {})
        warnings = [batch_size_warning(self.cfg, self.world_size)]
        if self._randomness_cfg.get('deterministic') and not on_cpu():
            warnings.append(unequal_kernels(bare_model(self.model)))
        for warning in filter(None, warnings):
            self.logger.warning(warning)
        with self._loading(FINETUNE), self._starting():
            return super().train()

    @contextmanager
    def _starting(self) -> Iterator[None]:
        """Before the first iteration is over, an error is one of the config.

        Raises:
            ConfigError: In the place of an error in the first iteration.
        """
        self._begun = frozenset()
        try:
            yield
        except Exception as error:
            if self._under_way in self._begun or explain(error) is not None:
                raise
            raise ConfigError(
                f'{self.cfg.filename or "The config"}: the first iteration '
                f'({self._under_way}) fails: {reason(error)}{place(error)}. '
                f'{hint()}') from error

    def call_hook(self, fn_name: str, **kwargs: Any) -> None:
        """As MMEngine's; notes of what an iteration has been."""
        if fn_name in ('before_train', 'before_val', 'before_test'):
            self._under_way = fn_name[len('before_'):]
        super().call_hook(fn_name, **kwargs)
        if fn_name == 'after_val':
            self._under_way = 'train'
        elif fn_name == f'after_{self._under_way}_iter':
            self._begun |= {self._under_way}

    def build_val_loop(self, loop: Union[BaseLoop, Dict]) -> BaseLoop:
        """As MMEngine's; its errors name the key."""
        with building(self.cfg, 'val_dataloader', 'val_cfg', 'val_evaluator'):
            return super().build_val_loop(loop)

    def build_test_loop(self, loop: Union[BaseLoop, Dict]) -> BaseLoop:
        """As MMEngine's; its errors name the key."""
        with building(self.cfg, 'test_dataloader', 'test_cfg',
                      'test_evaluator'):
            return super().build_test_loop(loop)

    def build_optim_wrapper(self, optim_wrapper: Any) -> Any:
        """As MMEngine's; its errors name the key."""
        with building(self.cfg, 'optim_wrapper'):
            return super().build_optim_wrapper(optim_wrapper)

    def build_param_scheduler(self, scheduler: Any) -> Any:
        """As MMEngine's.

        Raises:
            RunError: A schedule does not fit the length of the training.
        """
        try:
            with building(self.cfg, 'param_scheduler'):
                built = super().build_param_scheduler(scheduler)
            self._require_steps(built)
            return built
        except ConfigError as error:
            cause = error.__cause__
            if not isinstance(cause, ValueError):
                raise
            raise RunError(
                f'param_scheduler does not fit the config: {cause}. Set begin '
                f'and end of its entries within train_cfg.max_iters='
                f'{self.max_iters}.') from cause

    def _require_steps(self, schedulers: Any) -> None:
        """Raises:
            RunError: A schedule counts epochs, of which there is but one.
        """
        if isinstance(self._train_loop, EpochBasedTrainLoop):
            return
        several = isinstance(schedulers, dict)
        lists = schedulers.values() if several else [schedulers]
        for one in (one for some in lists for one in some):
            if one.by_epoch:
                raise RunError(
                    f'param_scheduler: {type(one).__name__} counts epochs, '
                    'the training iterations, so it would never step. Set '
                    'by_epoch=False and its numbers in iterations.')

    def _init_model_weights(self) -> None:
        try:
            with weights_only():
                super()._init_model_weights()
        except pickle.UnpicklingError as error:
            raise CheckpointError(
                f'Pretrained weights ({self._pretrained()}) hold python '
                'objects, which are not loaded because they could run code '
                f'({error}). Set it to a file of weights alone.') from None
        except CheckpointError as error:
            keys = dict(pretrained_weights(self.cfg.model))
            raise CheckpointError(
                f'{self._pretrained()}: {error} To train from scratch set '
                f'{next(iter(keys), "init_cfg")}=None.') from None

    def _pretrained(self) -> str:
        """Keys and files of pretrained weights, for messages."""
        files = dict(pretrained_weights(self.cfg.model))
        return ', '.join(f'{key}.checkpoint={files[key]}' for key in files)

    def val(self) -> dict:
        with self._loading(EXACT), self._starting():
            return super().val()

    def test(self) -> dict:
        with self._loading(EXACT), self._starting():
            return super().test()

    @contextmanager
    def _loading(self, policy: str) -> Iterator[None]:
        """What a checkpoint that is loaded inside has to match."""
        former, self._policy = self._policy, policy
        try:
            yield
        finally:
            self._policy = former

    def load_or_resume(self) -> None:
        """As MMEngine's; finds a usable last checkpoint, on rank 0.

        Raises:
            CheckpointError: There are checkpoints, and none can be read.
        """
        if self._resume and self._load_from is None and not self._has_loaded:
            found: list = [None, [], None]
            if is_main_process():
                try:
                    found[:2] = usable_checkpoint(self.work_dir)
                except CheckpointError as error:
                    found[2] = str(error)
            broadcast_object_list(found)
            if found[2] is not None:
                raise CheckpointError(found[2])
            for problem in found[1]:
                self.logger.error(f'PASSED OVER: {problem} Training continues '
                                  f'from the one before, {found[0]}.')
            if found[0] is None:
                self.logger.warning(
                    f'Nothing to resume in {self.work_dir}: training starts '
                    'at iteration 0.')
                return
            self._load_from = found[0]
        super().load_or_resume()

    def load_checkpoint(
            self,
            filename: str,
            map_location: Any = 'cpu',
            strict: bool = False,
            revise_keys: List[Tuple[str, str]] = [(r'^module\.', '')]) -> dict:
        """Load weights with protection on and check that they fit.

        Args and return value are those of ``Runner.load_checkpoint``.

        Raises:
            CheckpointError: Names the file, what is wrong and the fix.
        """
        policy = EXACT if strict and self._policy != RESUME else self._policy
        checkpoint = read_checkpoint(filename, map_location)
        if policy == RESUME:
            require_run_state(checkpoint, filename, self.param_schedulers
                              is not None)
            self.optim_wrapper = self.build_optim_wrapper(self.optim_wrapper)
            if self.param_schedulers is not None:
                self.param_schedulers = self.build_param_scheduler(
                    self.param_schedulers)
                require_schedules(checkpoint['param_schedulers'],
                                  self.param_schedulers, filename)
            self._check_stream(checkpoint, filename)
            self._check_averages(checkpoint, filename)
        self.call_hook('after_load_checkpoint', checkpoint=checkpoint)
        if policy == EXACT:
            self._check_contents(checkpoint, filename)
            self._warn_of_differences(checkpoint, filename)
        report = load_weights(self.model, checkpoint['state_dict'],
                              revise_keys)
        warning = require(report, policy, filename)
        if warning:
            self.logger.warning(warning)
        self._has_loaded = True
        self.logger.info(f'Loaded {len(report.loaded)} tensors from '
                         f'{filename}')
        return checkpoint

    def _check_contents(self, checkpoint: dict, filename: str) -> None:
        """What else a subclass demands of a file to evaluate."""

    def _warn_of_differences(self, checkpoint: dict, filename: str) -> None:
        """Of the model and the classes that a test takes as trained."""
        meta = checkpoint.get('meta') or {}
        model = self.cfg.get('model') or {}
        loops = [
            loop for loop in (self._test_loop, self._val_loop)
            if isinstance(loop, BaseLoop)
        ]
        data = loops[0].dataloader.dataset if loops else None
        warnings = (
            # test-time augmentation wraps the model
            model_warning(
                meta.get('cfg'), model.get('module', model), filename),
            classes_warning(
                meta.get('dataset_meta'), getattr(data, 'metainfo', None),
                filename))
        for warning in filter(None, warnings):
            self.logger.warning(warning)

    def resume(self, filename: str, *args: Any, **kwargs: Any) -> None:
        """As MMEngine's, with :meth:`load_checkpoint`'s checks.

        Raises:
            CheckpointError: Also for an optimizer that does not fit.
        """
        with self._loading(RESUME):
            try:
                super().resume(filename, *args, **kwargs)
            except RunError:
                raise
            except (ValueError, LookupError, TypeError, AttributeError,
                    AssertionError) as error:
                raise CheckpointError(
                    f'Checkpoint {filename}: its optimizer or schedule does '
                    f'not fit the config ({error}). Resume with the config '
                    'that wrote it, or use it as load_from to fine-tune.'
                ) from error
        if self.iter:
            require_fitting_averages(self.optim_wrapper, filename)
        if self.iter >= self.max_iters:
            self.logger.warning(f'{filename} is from iteration {self.iter} of '
                                f'{self.max_iters}: nothing is left to train.')

    def save_checkpoint(self,
                        out_dir: str,
                        filename: str,
                        file_client_args: Optional[dict] = None,
                        save_optimizer: bool = True,
                        save_param_scheduler: bool = True,
                        meta: Optional[dict] = None,
                        by_epoch: bool = True,
                        backend_args: Optional[dict] = None) -> None:
        """As MMEngine's; finite weights only, atomically on local disks.

        Raises:
            NonFiniteLossError: A weight is NaN or infinite (on all ranks).
        """
        self._check_weights(filename)
        meta = dict(meta or {}, **{_STREAM: self._stream()})
        if is_main_process():  # which writes; it reads whole files once
            meta['record'] = run_record(self, self.train_dataloader.dataset)
        kwargs = dict(
            file_client_args=file_client_args,
            save_optimizer=save_optimizer,
            save_param_scheduler=save_param_scheduler,
            meta=meta,
            by_epoch=by_epoch,
            backend_args=backend_args)
        write = super().save_checkpoint
        if file_client_args is not None or not is_local(out_dir, backend_args):
            write(out_dir, filename, **kwargs)
        elif is_main_process():
            path = join_path(out_dir, filename, backend_args=backend_args)
            write_atomically(
                path, lambda partial: write(
                    osp.dirname(partial), osp.basename(partial), **kwargs))

    def _check_weights(self, filename: str) -> None:
        """Parameters are equal on all ranks, so all ranks decide alike."""
        named = list(bare_model(self.model).named_parameters())
        if not named:
            return
        finite = torch.stack([p.detach().isfinite().all() for _, p in named])
        if bool(finite.all()):
            return
        broken = [n for (n, _), ok in zip(named, finite.tolist()) if not ok]
        raise NonFiniteLossError(
            f'Iteration {self.iter + 1}: {len(broken)} weights are NaN or '
            f'infinite (first: {broken[0]}), so {filename} is not written '
            'and the checkpoint before it stays the last. Start a run from '
            'it with load_from and a lower optim_wrapper.optimizer.lr '
            '(--resume keeps the old rate) or with gradient clipping '
            '(optim_wrapper.clip_grad).')

    def _stream(self) -> Dict[str, int]:
        """What else than the seed decides which images batch i holds."""
        per_iteration = self.world_size
        if self.cfg.get('train_dataloader') is not None:
            per_iteration, _ = effective_batch(self.cfg, self.world_size)
        return dict(
            world_size=self.world_size, images_per_iteration=per_iteration)

    def _check_averages(self, checkpoint: dict, filename: str) -> None:
        """With EMAHook the weights of a file are averages, which it swaps for
        those of the run.

        Raises:
            CheckpointError: There is no such hook to do so, or it would fail
                because shapes differ.
        """
        if 'ema_state_dict' not in checkpoint:
            return
        if not any(isinstance(hook, EMAHook) for hook in self.hooks):
            raise CheckpointError(
                f'Checkpoint {filename} was written with EMAHook: its weights '
                'are averages, from which no run continues. Resume with '
                'EMAHook in custom_hooks, or use it as load_from to '
                'fine-tune.')
        own = bare_model(self.model).state_dict()
        shapes = {
            key: (tuple(value.shape), tuple(own[key].shape))
            for key, value in checkpoint['state_dict'].items() if key in own
        }
        different = {
            key: pair
            for key, pair in shapes.items() if pair[0] != pair[1]
        }
        require(MatchReport(mismatched=different), RESUME, filename)
        require_ema(checkpoint['ema_state_dict'], bare_model(self.model),
                    filename)

    def _check_stream(self, checkpoint: dict, filename: str) -> None:
        meta = checkpoint['meta']
        former, current = meta.get(_STREAM), self._stream()
        if former is not None and former != current:
            auto = self.cfg.get('auto_scale_lr') or {}
            if auto.get('scaled') and former['images_per_iteration'] \
                    != current['images_per_iteration']:
                raise CheckpointError(
                    f'{filename} was written with {former}, this run has '
                    f'{current}: its learning rate and milestones are of '
                    'another batch than --auto-scale-lr scales to. Resume '
                    'with the same number of images per iteration.')
            self.logger.warning(
                f'{filename} was written with {former}, this run has '
                f'{current}: it continues at the same iteration, with other '
                'images than the former run would have seen.')
        # MMEngine compares pickles, which differ between equal metainfo.
        metainfo = getattr(self.train_dataloader.dataset, 'metainfo', None)
        if metainfo is not None and to_plain(metainfo) == meta.get(
                'dataset_meta'):
            meta['dataset_meta'] = metainfo


def _tell_once(handler: logging.FileHandler,
               record: logging.LogRecord) -> None:
    """In the place of a traceback for each line; the run goes on."""
    reason = sys.exc_info()[1]
    if getattr(handler, 'told', None) != str(reason):
        setattr(handler, 'told', str(reason))
        print(
            f'{handler.baseFilename}: lines of the log are lost ({reason}).',
            file=sys.stderr)


def _make_folder(path: str) -> None:
    """Raises:
        RunError: The work directory cannot be made.
    """
    try:
        os.makedirs(path, exist_ok=True)
    except OSError as error:
        raise RunError(f'work_dir {path} cannot be made ({error}). Set '
                       'another --work-dir.') from None
