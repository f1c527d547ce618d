"""Processes that take turns: what sets a whole process up, such as its
allocator, must not help the other side."""
import time
from multiprocessing import get_context
from typing import Any, Callable, Dict, List, Tuple

from benchmarks.harness import peak_above, set_threads


class Worker:
    """A function in a process of its own, which waits between its calls.

    Args:
        prepare (Callable): Importable; ``prepare(*args)`` makes inputs and
            models and returns the function.
        *args: Picklable.
    """

    def __init__(self, prepare: Callable[..., Callable], *args: Any) -> None:
        context = get_context('spawn')
        self.pipe, other = context.Pipe()
        self.process = context.Process(
            target=_serve, args=(other, prepare, args), daemon=True)
        self.process.start()
        other.close()
        self._receive()

    def __call__(self) -> Any:
        """Call it.

        Returns:
            tuple: Seconds, peak bytes above what was held before, result.
        """
        self.pipe.send('run')
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
                pipe.recv()
            except EOFError:
                return
            pipe.send((False, _timed(run)))
    except Exception as error:
        pipe.send((True, f'{type(error).__name__}: {error}'))


def _timed(run: Callable) -> Tuple[float, int, Any]:
    found = []

    def measured():
        begin = time.perf_counter()
        result = run()
        found.extend([time.perf_counter() - begin, result])

    peak = peak_above(measured)
    return found[0], peak, found[1]


def in_turns(prepare: Callable[..., Callable],
             cases: Dict[str, tuple],
             rounds: int,
             warmup: int = 1) -> Tuple[Dict[str, List[float]], dict, dict]:
    """Each case once a round, every other round in the reversed order.

    Args:
        prepare (Callable): As of :class:`Worker`.
        cases (dict[str, tuple]): Its arguments, by name.
        rounds (int): That count.
        warmup (int): Rounds before.

    Returns:
        tuple: By name, seconds of each round, largest peak in bytes and
        result of the last round.
    """
    seconds = {name: [] for name in cases}
    peaks, results = dict.fromkeys(cases, 0), {}
    workers = {name: Worker(prepare, *args) for name, args in cases.items()}
    try:
        for i in range(-warmup, rounds):
            for name in list(cases)[::-1 if i % 2 else 1]:
                spent, peak, results[name] = workers[name]()
                peaks[name] = max(peak, peaks[name])
                if i >= 0:
                    seconds[name].append(spent)
    finally:
        for worker in workers.values():
            worker.close()
    return seconds, peaks, results
