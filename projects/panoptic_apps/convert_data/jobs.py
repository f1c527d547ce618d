"""Images converted in several processes, one after the other collected."""
import sys
from typing import Callable, Dict, Generator, Sequence

from mmengine.utils import ProgressBar

from mmengine_exact.errors import InputError
from mmengine_exact.workers import run_jobs

#: So many files that cannot be used are enough to stop.
MAX_FAILURES = 5


def convert_all(convert: Callable,
                jobs: Sequence,
                num_workers: int,
                report: Callable[[str], None],
                name: str = '') -> Generator[Dict, None, None]:
    """Entries of jobs as they are finished.

    Args:
        convert (Callable): Of a job; gives its entry and '', or None and what
            is wrong with a file.
        jobs (Sequence): One for each image.
        num_workers (int): Processes.
        report (Callable): Takes a line of progress.
        name (str): What a line begins with.

    Raises:
        InputError: At the end, or after ``MAX_FAILURES``: the files that
            cannot be used.
    """
    failures = []
    bar = None
    if jobs and sys.stdout.isatty():
        report(f'{name}{len(jobs)} images')
        bar = ProgressBar(len(jobs))
    results = run_jobs(convert, jobs, num_workers)
    try:
        for done, (entry, failure) in enumerate(results, 1):
            if bar:
                bar.update()
            elif done % 500 == 0 or done == len(jobs):
                report(f'{name}{done}/{len(jobs)} images')
            if entry is not None:
                yield entry
                continue
            failures.append(failure)
            if len(failures) == MAX_FAILURES:
                break
    finally:
        results.close()
        if bar:
            print()
    if failures:
        # The order in which processes finish is no order for a message.
        raise one_error(sorted(failures))


def one_error(failures: Sequence[str]) -> InputError:
    """One error of several messages that begin with 'PATH: '."""
    text = failures[0]
    if len(failures) > 1:
        paths = [failure.split(': ')[0] for failure in failures[1:]]
        text += f' Neither can be used: {some(paths)}.'
    return InputError(text)


def some(names: Sequence[str]) -> str:
    """The first few names of a list, and how many there are."""
    names = list(names)
    more = f', ... ({len(names)} in all)' if len(names) > 3 else ''
    return ', '.join(names[:3]) + more
