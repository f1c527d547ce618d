"""What all benchmarks share: rounds in turn, peak memory, rows of a table.

A stage is a module ``benchmarks/STAGE.py`` with

    def measure(rounds: int, seed: int = 0) -> List[Row]

and ``sys.exit(stage_main(measure, __doc__))`` below ``__main__``. Times are
seconds, memory is bytes; a ratio of times above 1 is in our favour. A stage
is run from the root of the repository: ``python -m benchmarks.STAGE``.
"""
import argparse
import ctypes
import dataclasses
import gc
import io
import json
import logging
import os
import platform
import resource
import statistics
import textwrap
import time
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager, redirect_stdout
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Callable, Dict, List, Optional, Sequence, Tuple

ROOT = Path(__file__).resolve().parents[1]


@dataclasses.dataclass
class Row:
    """One line of the table: a stage on one input, ours beside theirs."""
    stage: str
    #: the input in words
    case: str
    #: seconds of each round
    ours: List[float]
    theirs: List[float]
    #: the ratio asked for
    ask: Optional[float] = None
    per: str = 'image'
    #: peak memory above the inputs
    ours_bytes: Optional[int] = None
    theirs_bytes: Optional[int] = None
    against: str = 'mmdet'
    #: what theirs does less, or how well the results agree
    note: str = ''

    @property
    def key(self) -> Tuple[str, str, str]:
        """What is compared: no two rows of a report have it."""
        return self.stage, self.case, self.against

    @property
    def seconds(self) -> float:
        """Ours, median."""
        return statistics.median(self.ours)

    @property
    def their_seconds(self) -> float:
        return statistics.median(self.theirs)

    @property
    def ratio(self) -> float:
        """Times that ours is faster."""
        return self.their_seconds / self.seconds

    @property
    def met(self) -> Optional[bool]:
        """Whether the ratio is the one asked for; None without an ask."""
        return None if self.ask is None else self.ratio >= self.ask

    @property
    def memory_ratio(self) -> Optional[float]:
        """Our peak over theirs; None where it was not measured."""
        if self.ours_bytes is None or not self.theirs_bytes:
            return None
        return self.ours_bytes / self.theirs_bytes

    def to_dict(self) -> dict:
        """Fields, and for readers the ratio and whether it is enough."""
        return dict(
            dataclasses.asdict(self), ratio=round(self.ratio, 4), met=self.met)

    @classmethod
    def from_dict(cls, content: dict) -> 'Row':
        names = [field.name for field in dataclasses.fields(cls)]
        return cls(**{k: v for k, v in content.items() if k in names})


def alternate(functions: Dict[str, Callable[[], Any]],
              rounds: int,
              warmup: int = 1) -> Dict[str, List[float]]:
    """Seconds of each round by name, of functions that take turns, so that
    what else the machine does meets all of them.

    Each round calls each once; every other round in the reversed order;
    ``warmup`` rounds do not count. Results are dropped and garbage is
    collected between the calls. A function for a GPU waits for it by itself.
    """
    seconds = {name: [] for name in functions}
    for i in range(-warmup, rounds):
        order = list(functions)[::-1 if i % 2 else 1]
        for name in order:
            gc.collect()
            begin = time.perf_counter()
            result = functions[name]()
            spent = time.perf_counter() - begin
            del result
            if i >= 0:
                seconds[name].append(spent)
    return seconds


def peak_of_process() -> int:
    """Bytes of memory this process has held at most since the last reset."""
    try:
        with open('/proc/self/status') as f:
            line = next(line for line in f if line.startswith('VmHWM'))
        return int(line.split()[1]) * 1024
    except (OSError, StopIteration):
        # bytes on macOS, kilobytes elsewhere
        unit = 1 if platform.system() == 'Darwin' else 1024
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def reset_peak_of_process():
    """To what is held now: importing may have held more for a moment."""
    gc.collect()
    try:
        # what was freed, and malloc keeps, would hide as much of the peak
        ctypes.CDLL(None).malloc_trim(0)
    except (AttributeError, OSError, TypeError):
        pass
    try:
        with open('/proc/self/clear_refs', 'w') as f:
            f.write('5')
    except OSError:
        pass


def peak_above(run: Callable[[], Any], cuda: bool = False) -> int:
    """Peak bytes of a call above what is held before it, in this process.

    What an earlier call left in the allocators counts as held: one call a
    process, see :func:`peak_bytes`. ``cuda``: of the GPU instead.
    """
    if cuda:
        import torch
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        run()
        return torch.cuda.max_memory_allocated() - before
    reset_peak_of_process()
    before = peak_of_process()
    run()
    return peak_of_process() - before


def in_fresh_process(function: Callable, *args) -> Any:
    """Result of an importable function in a spawned process; its exception
    is raised here, also where the process was killed."""
    with ProcessPoolExecutor(1, mp_context=get_context('spawn')) as pool:
        return pool.submit(function, *args).result()


def peak_bytes(function: Callable, *args) -> int:
    """Peak bytes of an importable function in a fresh process, above what it
    held. Where it returns a callable, that one is measured: ``prepare(*args)``
    makes inputs and models, the ``run()`` it returns uses them.
    """
    return in_fresh_process(_peak_of_stage, function, args)


def _peak_of_stage(function, args):
    set_threads()
    found = []
    peak = peak_above(lambda: found.append(function(*args)))
    return peak_above(found[0]) if callable(found[0]) else peak


@contextmanager
def quiet():
    """Without what mmdet and pycocotools print and log below errors."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with redirect_stdout(io.StringIO()):
            yield
    finally:
        logging.disable(before)


def set_threads():
    """OpenCV's and PyTorch's threads to OMP_NUM_THREADS, where it is set."""
    number = os.environ.get('OMP_NUM_THREADS', '')
    if number.isdigit():
        import cv2
        import torch
        cv2.setNumThreads(int(number))
        torch.set_num_threads(int(number))


def add_arguments(parser: argparse.ArgumentParser):
    """``--rounds`` and ``--seed``, as all stages have them."""
    parser.add_argument(
        '--rounds', type=positive, default=5, help='default: 5')
    parser.add_argument('--seed', type=int, default=0, help='of the inputs')


def positive(text: str) -> int:
    """An argument that is an integer of at least 1."""
    number = int(text) if text.isdigit() else 0
    if number < 1:
        raise argparse.ArgumentTypeError(f'{text!r} is no number above 0')
    return number


def output_file(text: str) -> Path:
    """An argument that names a file in a folder which exists."""
    path = Path(text)
    if path.is_dir() or not path.absolute().parent.is_dir():
        raise argparse.ArgumentTypeError(
            f'{text}: name a file in a folder that exists')
    return path


def stage_main(measure: Callable[..., List[Row]],
               description: str,
               argv: Optional[Sequence[str]] = None) -> int:
    """Command line of a stage, ``--rounds --seed --json OUT``; its exit code,
    0: a time is no test, an ask that is missed is marked.

    Threads: OMP_NUM_THREADS, of OpenCV too. Of ``description``, the module's
    docstring, the first line is shown.
    """
    parser = argparse.ArgumentParser(description=description.split('\n')[0])
    add_arguments(parser)
    parser.add_argument(
        '--json', type=output_file, metavar='OUT', help='writes the rows')
    args = parser.parse_args(argv)
    set_threads()
    rows = measure(args.rounds, args.seed)
    print(text_table(rows))
    if args.json:
        args.json.write_text(
            json.dumps([row.to_dict() for row in rows], indent=1) + '\n')
    return 0


def text_table(rows: Sequence[Row]) -> str:
    """Rows as text: figures, and below them what else is to be said."""
    lines = [
        f'{"stage, input":<58}{"theirs s":>10}{"ours s":>10}'
        f'{"ratio":>9}{"ask":>7}{"memory":>8}'
    ]
    for row in rows:
        ask = '' if row.ask is None else f'{row.ask:g}x'
        memory = row.memory_ratio
        memory = '' if memory is None else f'{memory:.2f}'
        name, *more = textwrap.wrap(f'{row.stage}, {row.case}', 57)
        lines.append(f'{name:<58}{row.their_seconds:10.4f}{row.seconds:10.4f}'
                     f'{row.ratio:8.2f}x{ask:>7}{memory:>8}'
                     f'{"  BELOW THE ASK" if row.met is False else ""}')
        lines += [f'  {text}' for text in more]
        against = '' if row.against == 'mmdet' else f'against {row.against}'
        notes = '; '.join(filter(None, [against, row.note]))
        lines += [f'    {text}' for text in textwrap.wrap(notes, 96)]
    return '\n'.join(lines)
