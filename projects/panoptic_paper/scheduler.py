"""Carry out steps: side by side, each logged, one failure not the end.

A step starts when what it needs is there. It holds a lock on its folder,
which the started process inherits: a second call, or one after a kill of
this process alone, does not train the same run twice.
"""
import json
import shlex
import time
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import IO, Any, Callable, Dict, List, Optional, Sequence, Set

from mmengine_exact.files import write_bytes

from .plan import pending
from .processes import (Starter, end, interruptible, last_line, lock_beside,
                        machine, versions)
from .rows import PaperError
from .run import RECORD
from .steps import Step


@dataclass
class Failure:
    """A step that did not give its output, and why."""

    step: Step
    reason: str


@dataclass
class _Child:
    """A step at work."""

    step: Step
    process: Any
    slot: int
    started: float
    files: List[IO] = field(default_factory=list)

    def close(self) -> None:
        for file in self.files:
            file.close()


def run_steps(steps: Sequence[Step],
              jobs: int,
              gpus: int,
              device_count: int,
              dry_run: bool = False) -> None:
    """Carry out steps on this machine, or print them as a shell script.

    Args:
        steps (Sequence[Step]): See :func:`carry_out`.
        jobs (int): Steps at a time.
        gpus (int): Processes of each; 0 without a launcher.
        device_count (int): GPUs that are visible.
        dry_run (bool): Print what is left to do.

    Raises:
        PaperError: Some failed; names them and their logs.
    """
    here = machine(jobs, gpus, device_count)
    if dry_run:
        left = pending(steps)
        print(f'# {len(left)} of {len(steps)} steps are left')
        for name, value in here.environ(0).items():
            print(f'export {name}={shlex.quote(value)}')
        for step in left:
            print(f'# {step.refused}' if step.refused else shlex.join(step.
                                                                      command))
        return
    failures = carry_out(steps, here.start, jobs)
    if failures:
        lines = [
            f'  {_name(failure.step)}: {failure.reason} '
            f'({failure.step.log})' for failure in failures
        ]
        raise PaperError(f'{len(failures)} of {len(steps)} steps failed; the '
                         'same command tries them again:\n' + '\n'.join(lines))


def carry_out(steps: Sequence[Step],
              start: Starter,
              jobs: int = 1,
              say: Callable[[str], None] = partial(print, flush=True),
              clock: Callable[[], float] = time.monotonic,
              pause: float = 0.2) -> List[Failure]:
    """Start what is left of some steps, ``jobs`` at a time.

    Args:
        steps (Sequence[Step]): In an order that works.
        start (Callable): See :data:`Starter`.
        jobs (int): Steps at a time.
        say (Callable): Takes the lines of progress.
        clock (Callable): Seconds.
        pause (float): Seconds between two looks at the processes.

    Returns:
        list[Failure]: Of steps that failed or could not begin.

    Raises:
        KeyboardInterrupt: After all processes have ended.
    """
    todo = pending(steps)
    done = len(steps) - len(todo)
    say(f'{len(todo)} steps to do' +
        (f', {done} of {len(steps)} are finished or not needed' if done else ''
         ) + '.')
    return _Scheduler(todo, start, jobs, say, clock).run(pause)


class _Scheduler:
    """The state of :func:`carry_out`."""

    def __init__(self, todo: List[Step], start: Starter, jobs: int,
                 say: Callable[[str], None], clock: Callable[[],
                                                             float]) -> None:
        self.todo, self.total = list(todo), len(todo)
        self.start, self.jobs, self.say, self.clock = start, jobs, say, clock
        self.began = clock()
        self.children: List[_Child] = []
        self.failures: List[Failure] = []
        self.lost: Set[Path] = set()
        self.seconds: Dict[str, List[float]] = {}
        self.ended = 0

    def run(self, pause: float) -> List[Failure]:
        with interruptible():
            try:
                while self.todo or self.children:
                    if not (self._begin() or self._collect()):
                        time.sleep(pause)
            finally:
                end([child.process for child in self.children])
                for child in self.children:
                    self.say(f'interrupted: {_name(child.step)}')
                    child.close()
        return self.failures

    def _begin(self) -> bool:
        """Begin, or give up, the first step that can be; False if none."""
        making = {child.step.output for child in self.children}
        making.update(step.output for step in self.todo)
        for step in self.todo:
            missing = [p for p in step.needs if not p.exists()]
            # what was refused is there, but is another config's
            lost = [
                path for path in step.needs if path in self.lost or (
                    path in missing and path not in making)
            ]
            if step.refused or lost:
                self.todo.remove(step)
                self._fail(step, step.refused
                           or f'needs {lost[0]}, which failed')
                return True
            if not missing and len(self.children) < self.jobs:
                self.todo.remove(step)
                self._launch(step)
                return True
        return False

    def _launch(self, step: Step) -> None:
        free = set(range(self.jobs)) - {c.slot for c in self.children}
        lock = None
        try:
            step.log.parent.mkdir(parents=True, exist_ok=True)
            lock = lock_beside(step.log)
            if lock is None:
                self._fail(
                    step, f'another process is at {step.log.parent}: '
                    'wait for it to end')
                return
            if step.record:
                _write_record(step)
            log = open(step.log, 'ab')
        except OSError as error:
            if lock:
                lock.close()
            self._fail(step, f'cannot write to {step.log.parent} ({error})')
            return
        child = _Child(step, None, min(free), self.clock(), [lock, log])
        try:
            child.process = self.start(step.command, log, child.slot,
                                       [lock.fileno()])
        except OSError as error:
            child.close()
            self._fail(step, f'cannot be started ({error})')
            return
        self.children.append(child)
        self.say(f'start   {_name(step)}, log {step.log}')

    def _collect(self) -> bool:
        """Take in the processes that have ended; False if none has."""
        over = [c for c in self.children if c.process.poll() is not None]
        for child in over:
            self.children.remove(child)
            child.close()
            step, code = child.step, child.process.poll()
            seconds = self.clock() - child.started
            if code == 0 and step.output.exists():
                self.ended += 1
                self.seconds.setdefault(step.kind, []).append(seconds)
                self.say(f'done    {_name(step)} in {_time(seconds)}; '
                         f'{self._progress()}')
            else:
                why = f'exit code {code}' if code else f'no {step.output}'
                said = last_line(step.log)
                self._fail(step, f'{why}: {said}{_advice(step, said)}')
        return bool(over)

    def _fail(self, step: Step, reason: str) -> None:
        self.ended += 1
        self.lost.add(step.output)
        self.failures.append(Failure(step, reason))
        self.say(f'failed  {_name(step)}: {reason}; {self._progress()}')

    def _progress(self) -> str:
        gone = _time(self.clock() - self.began)
        text = f'{self.ended} of {self.total}, {gone} gone'
        left = self._left()
        return text if left is None else f'{text}, about {_time(left)} left'

    def _left(self) -> Optional[float]:
        """Seconds, from the mean of each kind; None before all are known."""
        total = 0.
        now = self.clock()
        ahead = [(step, 0.) for step in self.todo]
        ahead += [(c.step, now - c.started) for c in self.children]
        for step, spent in ahead:
            known = self.seconds.get(step.kind)
            if not known:
                return None
            total += max(0., sum(known) / len(known) - spent)
        return total / self.jobs


def _name(step: Step) -> str:
    return f'{step.kind:<7} {step.what}'


def _advice(step: Step, said: str) -> str:
    """A checkpoint that was finished and is damaged stays finished."""
    damaged = [
        path for path in step.needs
        if path.suffix == '.pth' and path.name in said and 'damaged' in said
    ]
    if not damaged:
        return ''
    return (f' Delete {damaged[0]}: the same command then trains on from the '
            'checkpoint before it.')


def _time(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f'{hours}:{minutes:02}:{rest:02}' if hours else \
        f'{minutes}:{rest:02}'


def _write_record(step: Step) -> None:
    text = json.dumps(dict(step.record, versions=versions()), indent=1)
    write_bytes(str(step.log.parent / RECORD), text.encode())
