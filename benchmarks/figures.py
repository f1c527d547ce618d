"""Files of measured figures: ``docs/benchmark``, and what a run leaves."""
import json
from pathlib import Path
from typing import Callable, Optional

import numpy as np

from .harness import ROOT
from .machine import describe_machine, one_line, when

#: Where committed figures are, and where a run leaves its own.
FOLDER = ROOT / 'docs' / 'benchmark'
WORK = Path('work_dirs/benchmark')


class PageError(Exception):
    """A page cannot be written; says which file or line is missing."""


def save(path: Path, report: dict, picture: Optional[np.ndarray] = None):
    """Write ``path`` with .json, and .png where there is a picture."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.with_suffix('.json').write_text(json.dumps(report, indent=1) + '\n')
    if picture is not None:
        from panoptic_fpn.visualization.image_io import write_image
        write_image(str(path.with_suffix('.png')), picture)


def publish(path: Path,
            content: dict,
            text_of: Callable[[dict], str],
            draw: Optional[Callable[[dict], np.ndarray]] = None) -> None:
    """Print what was measured here and now, draw it, and save both."""
    report = dict(content, machine=describe_machine(), **when())
    print(text_of(report))
    print(one_line(report['machine']))
    save(path, report, draw and draw(report))


def figures(name: str, folder: Path = FOLDER) -> dict:
    """A report of docs/benchmark.

    Raises:
        PageError: It is not there; says how to measure it.
    """
    path = folder / f'{name}.json'
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError) as error:
        command = ('run.py --write-docs' if name == 'benchmark' else
                   f'{name}.py --out docs/benchmark')
        raise PageError(f'{path}: {error}. Measure it: python benchmarks/'
                        f'{command}') from None
