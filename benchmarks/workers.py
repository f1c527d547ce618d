"""Processes that take turns: what sets a whole process up, such as its
allocator, must not help the other side."""
import gc
import time
from multiprocessing import get_context
from typing import Any, Callable, Dict, List, Tuple

from benchmarks.harness import peak_above, set_threads


class Worker:
    """A function in a process of its own, which waits between its calls;
    ``prepare(*args)``, importable, makes inputs and models and returns it.
    """

    def __init__(self, prepare: Callable[..., Callable], *args: Any) -> None:
        context = get_context('spawn')
        self.pipe, other = context.Pipe()
        self.process = context.Process(
            target=_serve, args=(other, prepare, args), daemon=True)
        self.process.start()
        other.close()
        self._receive()

    def __call__(self, with_peak: bool = False) -> Any:
        """Seconds, peak bytes above what was held before (or 0: measuring
        them costs time), and the result of a call."""
        self.pipe.send(with_peak)
        return self._receive()

    def _receive(self) -> Any:
        try:
            failed, answer = self.pipe.recv()
        except EOFError:
            self.process.join()
            raise RuntimeError('a process of the benchmark was killed (exit '
                               f'code {self.process.exitcode})') from None
        if failed:
            raise RuntimeError(answer)
        return answer

    def close(self) -> None:
        self.pipe.close()
        self.process.join()


def _serve(pipe, prepare: Callable, args: tuple) -> None:
    try:
        set_threads()
        run = prepare(*args)
        pipe.send((False, None))
        while True:
            try:
                with_peak = pipe.recv()
            except EOFError:
                return
            pipe.send((False, _timed(run, with_peak)))
    except Exception as error:
        pipe.send((True, f'{type(error).__name__}: {error}'))


def _timed(run: Callable, with_peak: bool) -> Tuple[float, int, Any]:
    found = []

    def measured():
        begin = time.perf_counter()
        result = run()
        found.extend([time.perf_counter() - begin, result])

    gc.collect()
    peak = 0
    if with_peak:
        # gives the process's freed memory back first, which costs time
        peak = peak_above(measured)
    else:
        measured()
    return found[0], peak, found[1]


def in_turns(prepare: Callable[..., Callable],
             cases: Dict[str, tuple],
             rounds: int,
             warmup: int = 0) -> Tuple[Dict[str, List[float]], dict, dict]:
    """Each case, arguments of ``prepare`` by name, once a round, every other
    round in the reversed order: seconds of each round, peak in bytes, result.

    Memory is measured in a round before, which does not count; neither do
    ``warmup`` rounds: a heap takes some to settle.
    """
    seconds = {name: [] for name in cases}
    peaks, results = {}, {}
    workers = {name: Worker(prepare, *args) for name, args in cases.items()}
    try:
        for name, worker in workers.items():
            _, peaks[name], _ = worker(with_peak=True)
        for i in range(-warmup, rounds):
            for name in list(cases)[::-1 if i % 2 else 1]:
                spent, _, results[name] = workers[name]()
                if i >= 0:
                    seconds[name].append(spent)
    finally:
        for worker in workers.values():
            worker.close()
    return seconds, peaks, results
