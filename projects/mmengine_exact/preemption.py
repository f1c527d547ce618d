"""A signal ends the run: it saves first, and exits with a code of its own.

Slurm sends SIGTERM (or what ``--signal`` names) to all processes of a job
some seconds before it takes the machine away, and so do Kubernetes and
``kill``.
"""
import os
import signal
import threading
from functools import partial
from typing import Any, Callable, Optional, Sequence

from mmengine.hooks import EMAHook
from mmengine.registry import HOOKS

from .checkpoint_hook import saving_hook
from .errors import PreemptedError
from .stopping import StoppingHook


@HOOKS.register_module()
class PreemptionHook(StoppingHook):
    """Saves a checkpoint and ends the run when a signal asks for it.

    All processes stop after the same iteration, whichever got the signal, so
    ``--resume`` continues with the same bits. In a validation each one
    stops on its own (all get the signal), and the validation is repeated.
    Workers of the loaders obey their parent alone, because their last batches
    are still needed. A second signal ends the process at once. Without a
    ``SafeCheckpointHook`` that saves by iterations there is only a warning.

    Args:
        signals (Sequence[str]): Names of the signals. Slurm's
            ``--signal=USR1@120`` needs 'SIGUSR1'.
    """

    # after the hook that saves by interval, so that nothing is saved twice
    priority = 'LOWEST'

    def __init__(self, signals: Sequence[str] = ('SIGTERM', )) -> None:
        self.signals = [signal.Signals[name] for name in signals]
        self.received: Optional[str] = None
        self._iterations = 0  # done, in the whole run; 0 before the first one
        self._before: dict = {}

    def before_train(self, runner: Any) -> None:
        if saving_hook(runner) is None:
            runner.logger.warning(
                'PreemptionHook: a signal will end this run at once, because '
                'no SafeCheckpointHook with by_epoch=False saves.')
            return
        loops = runner.train_loop, runner.val_loop
        for loader in (loop.dataloader for loop in loops if loop is not None):
            loader.worker_init_fn = partial(_outlive, self.signals,
                                            loader.worker_init_fn)
        if threading.current_thread() is not threading.main_thread():
            return  # in a notebook, perhaps; Python cannot handle it there
        for signum in self.signals:
            self._before[signum] = signal.signal(signum, self._receive)

    def _receive(self, signum: int, frame: Any) -> None:
        self.received = signal.Signals(signum).name
        self._restore_handlers()

    def after_train_iter(self, runner: Any, *args: Any, **kwargs: Any) -> None:
        """Raises:
            PreemptedError: On all processes, after the checkpoint.
        """
        self._iterations = runner.iter + 1
        super().after_train_iter(runner)

    def wants_stop(self, runner: Any) -> bool:
        return (self.received is not None
                and self._iterations not in (0, runner.max_iters)
                and saving_hook(runner, self._iterations) is not None)

    def after_val_iter(self, runner: Any, *args: Any, **kwargs: Any) -> None:
        """Raises:
            PreemptedError: On this process; the first one has saved.
        """
        loop = runner.train_loop
        if self.received and hasattr(loop, 'repeat_validation'):
            loop.repeat_validation()
            for hook in runner.hooks:
                if isinstance(hook, EMAHook):  # the averages are in the model
                    hook.after_val_epoch(runner)
            self._iterations = runner.iter
            self.stop(runner)

    def stop(self, runner: Any) -> None:
        iteration, hook = self._iterations, saving_hook(runner)
        assert hook is not None  # before_train has looked
        hook.save_now(runner, iteration)
        raise PreemptedError(
            f'Stopped by {self.received or "a signal to another process"} '
            f'after iteration {iteration} of {runner.max_iters}; '
            f'{hook.last_ckpt} is complete. Continue with --resume.')

    def after_train(self, runner: Any) -> None:
        self._restore_handlers()

    def _restore_handlers(self) -> None:
        for signum, handler in self._before.items():
            signal.signal(signum, handler)
        self._before.clear()


def _outlive(signals: Sequence[int], then: Optional[Callable],
             worker_id: int) -> None:
    """First thing that a worker of a loader does: obey its parent alone.

    torch and Python end a worker by SIGTERM, and wait until it has ended.
    """
    parent = os.getppid()

    def obey() -> None:
        while signal.sigwaitinfo(signals).si_pid != parent:
            pass
        os._exit(0)

    if hasattr(signal, 'sigwaitinfo'):  # not on macOS
        signal.pthread_sigmask(signal.SIG_BLOCK, signals)
        threading.Thread(target=obey, daemon=True).start()
    if then is not None:
        then(worker_id)
