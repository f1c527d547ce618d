"""Time, memory, kernel launches and waits of the host, part by part."""
import statistics
import time
from collections import defaultdict
from typing import Dict, Iterable, List, Tuple

import torch
from torch.profiler import ProfilerActivity, profile, record_function

from .parts import Work

#: Calls of the CUDA runtime and driver, by what they count as.
CALLS = dict(
    launches=('cudaLaunchKernel', 'cudaLaunchKernelExC', 'cuLaunchKernel',
              'cuLaunchKernelEx', 'cudaGraphLaunch'),
    waits=('cudaStreamSynchronize', 'cudaDeviceSynchronize',
           'cudaEventSynchronize'))
_MARK = 'end of '

Figures = Dict[str, Dict[str, float]]


class Clock:
    """Milliseconds and peak memory of each part; a part ends when the device
    has done it."""

    def __init__(self, device: torch.device) -> None:
        self.cuda = device.type == 'cuda'
        self.parts: Dict[str, Dict[str, List[float]]] = defaultdict(
            lambda: defaultdict(list))

    def start(self) -> None:
        if self.cuda:
            torch.cuda.synchronize()
            torch.cuda.reset_peak_memory_stats()
        self.begin = time.perf_counter()

    def note(self, part: str) -> None:
        """End a part and begin the next one."""
        found = self.parts[part]
        found['host ms'].append(1e3 * (time.perf_counter() - self.begin))
        if self.cuda:
            torch.cuda.synchronize()
            found['peak MB'].append(torch.cuda.max_memory_allocated() / 1e6)
        found['ms'].append(1e3 * (time.perf_counter() - self.begin))
        self.start()


def measure(work: Work, device: torch.device, repeats: int,
            deadline: float) -> Figures:
    """Medians of each part, and of 'all': from the start to the end of the
    last part that both sides have, without a wait between the parts.

    Args:
        repeats (int): Fewer once ``deadline`` (``time.perf_counter``) has
            passed; one for the profiler and one to warm up come before.
    """
    clock = Clock(device)

    def whole(part: str) -> None:
        if part == work.last:
            clock.note('all')

    found = calls_of(work, device)
    for _ in range(repeats):
        for note in (clock.note, whole):
            inputs = work.inputs()
            clock.start()
            work.run(inputs, note)
        if time.perf_counter() > deadline:
            break
    for part, columns in clock.parts.items():
        for column, values in columns.items():
            found[part][column] = statistics.median(values)
    return found


def calls_of(work: Work, device: torch.device) -> Figures:
    """Launches and waits of each part and of 'all'; on a CPU empty."""
    work.run(work.inputs(), lambda part: None)
    found: Figures = defaultdict(dict)
    if device.type == 'cuda':
        inputs = work.inputs()
        torch.cuda.synchronize()
        with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA
                                 ]) as prof:
            work.run(inputs, _mark)
        found.update(
            count_calls((event.time_range.start, event.name)
                        for event in prof.events()))
        reached = list(found)[:list(found).index(work.last) + 1]
        found['all'] = {
            kind: sum(found[part][kind] for part in reached)
            for kind in CALLS
        }
    return found


def _mark(part: str) -> None:
    with record_function(_MARK + part):
        pass


def count_calls(events: Iterable[Tuple[float, str]]) -> Figures:
    """Calls before each mark, and after the mark before it.

    Args:
        events (Iterable[tuple[float, str]]): Start and name, in any order.
    """
    found: Figures = {}
    counts = dict.fromkeys(CALLS, 0)
    for _, name in sorted(events):
        if name.startswith(_MARK):
            found[name[len(_MARK):]] = dict(counts)
            counts = dict.fromkeys(CALLS, 0)
        for kind, names in CALLS.items():
            counts[kind] += name in names
    return found
