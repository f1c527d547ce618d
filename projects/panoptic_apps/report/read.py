"""What a work directory has to report; what is missing becomes a note."""
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Dict, List, Optional, Tuple, TypeGuard

from mmengine_exact.errors import InputError
from panoptic_fpn.training.metrics_json import IMAGES

from .comparison import ImageCounts, read_images
from .segment_errors import FILE_NAME, panoptic_quality

#: No score or loss is as large; NaN and infinity are not below it either.
_LARGEST = 1e30
#: (x, y) of a curve.
Curve = Tuple[List[float], List[float]]


@dataclass
class Run:
    """A work directory: curves over iterations by scalar; scores of
    ``metrics.json`` and, by class, ``classwise``; contents of ``record.json``,
    ``segments.json`` and ``images.json`` (None: not there); ``notes``: what is
    missing, and how to get it."""
    folder: Path
    curves: Dict[str, Curve] = field(default_factory=dict)
    scores: Dict[str, Any] = field(default_factory=dict)
    classwise: Dict[str, Dict[str, Any]] = field(default_factory=dict)
    record: Dict[str, Any] = field(default_factory=dict)
    segments: Dict[str, Any] = field(default_factory=dict)
    images: Optional[ImageCounts] = None
    notes: List[str] = field(default_factory=list)

    @property
    def name(self) -> str:
        return self.folder.resolve().name


def read_run(folder: Path) -> Run:
    """Read a work directory of ``tools/train.py`` or ``tools/test.py``.

    Raises:
        InputError: There is no such directory, or nothing of a run in it.
    """
    run = Run(Path(folder))
    run.curves = _curves(run)
    run.scores = _object(run, 'metrics.json')
    run.scores.pop('record', None)  # also beside it, with the date
    run.classwise = run.scores.pop('classwise', {})
    run.record = _object(run, 'record.json')
    run.segments = _segments(run)
    path = run.folder / IMAGES
    try:
        run.images = read_images(path) if path.is_file() else None
    except InputError as error:
        run.notes.append(str(error))
    if not (run.curves or run.scores or run.segments):
        raise InputError(
            f'{folder}: neither losses (*/vis_data/scalars.json) nor scores '
            '(metrics.json). Give the --work-dir of a training or a test.')
    run.notes += [
        note for found, note in (
            (run.curves, 'No losses or scores over time: this is the '
             'directory of a test, not of a training.'),
            (run.scores, 'No scores: nothing was evaluated yet. Run '
             'tools/test.py.'),
            (run.segments, 'No errors by segment and no pictures: run '
             f'tools/test.py CONFIG CHECKPOINT --work-dir {folder} --report.'))
        if not found
    ]
    return run


def _object(run: Run, name: str) -> Dict[str, Any]:
    """Content of a JSON of a run; empty where missing or not an object."""
    path = run.folder / name
    if not path.is_file():
        return {}
    try:
        return dict(json.loads(path.read_text(encoding='utf-8')).items())
    except (OSError, ValueError, AttributeError) as error:
        run.notes.append(f'{name} cannot be read ({error}), so it is left '
                         'out. Evaluate again.')
        return {}


def _segments(run: Run) -> Dict[str, Any]:
    """Outcomes of segments; empty where the file is of another kind."""
    content = _object(run, FILE_NAME)
    if not content:
        return {}
    try:
        own = panoptic_quality(content)
    except (LookupError, TypeError, ValueError):
        run.notes.append(f'{FILE_NAME} is not what tools/test.py --report '
                         'writes, so it is left out. Write it again.')
        return {}
    shown = run.scores.get('coco_panoptic/PQ')
    if is_number(shown) and abs(shown - own) > 0.05:
        run.notes.append(
            f'Errors and pictures are of another evaluation (PQ {own:.2f}) '
            f'than the scores (PQ {shown:.2f}). Run tools/test.py --report '
            'once more.')
    return content


def _curves(run: Run) -> Dict[str, Curve]:
    """Scalars of all logs of the directory: a resumed run has several, and
    the later one counts for an iteration that both have."""
    points: Dict[str, Dict[float, float]] = {}
    for path in sorted(run.folder.glob('*/vis_data/scalars.json')):
        broken, trained = 0, None
        for line in path.read_text(errors='replace').splitlines():
            try:
                entry = json.loads(line)
                step = float(entry['step'])
            except (ValueError, KeyError, TypeError, OverflowError):
                broken += bool(line.strip())
                continue
            if 'loss' in entry:
                if trained is None:  # what an earlier run had from here on
                    for found in points.values():
                        for late in [x for x in found if x >= step]:
                            del found[late]
                trained = step
            else:  # MMEngine's default has a validation at step 0
                step = max(step, trained or 0)
            # a validation has times of its own
            others = () if 'loss' in entry else ('time', 'data_time')
            for name, value in entry.items():
                if name not in ('step', 'iter', *others) and is_number(value):
                    points.setdefault(name, {})[step] = value
        if broken:
            run.notes.append(f'{path.relative_to(run.folder)}: {broken} lines '
                             'cannot be read and are left out.')
    # a resumed run can delete all points of some
    return {
        name: (sorted(found), [found[step] for step in sorted(found)])
        for name, found in points.items() if found
    }


def is_number(value: Any) -> TypeGuard[float]:
    """Whether a value of a JSON is a finite number."""
    return (isinstance(value, (int, float)) and not isinstance(value, bool)
            and -_LARGEST < value < _LARGEST)
