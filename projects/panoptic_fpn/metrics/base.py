"""What the metrics share: one small row per image, gathered by image id.

``BaseMetric`` interleaves the results of the processes and cuts the list at
the size of the data set: it keeps the padding of a sampler and may lose real
images. Here the first process gathers the rows, drops those of an image that
was seen before, and sums the rest in the order of the ids: one process and
many give the same bits.
"""
import logging
from abc import abstractmethod
from itertools import chain
from pathlib import Path
from typing import (Any, Callable, Dict, Iterable, List, Mapping, Optional,
                    Sequence, Tuple)

import numpy as np
from mmengine.dist import (all_gather_object, broadcast_object_list,
                           gather_object, get_world_size, is_main_process)
from mmengine.evaluator import BaseMetric
from mmengine.logging import print_log
from tabulate import tabulate
from torch import nn

from mmengine_exact.errors import InputError
from mmengine_exact.launch import explain

from ..coco_format.results import ImageId, plain_id, write_result
from ..labels import INSTANCE_OFFSET, LabelSpace
from ..ops.to_host import to_plane

Row = Tuple[ImageId, Any]
#: ``{class: {score: value}}`` in the units of the flat scores, NaN where
#: there is nothing to judge.
ByClass = Dict[str, Dict[str, float]]

#: Rows that a process sends at once: the pickled rows of all processes need
#: not fit into memory together with what is gathered.
SENT = 256

#: Marker in a folder whose files are still being written.
INCOMPLETE = '.incomplete'


class CodeError(InputError):
    """A predicted map or instance has a label that stands for no class."""


def unique_rows(rows: Sequence[Row]) -> List[Row]:
    """First row of each image id: integers ascending, then strings."""
    first: Dict[ImageId, Any] = {}
    for image_id, row in rows:
        first.setdefault(image_id, row)
    return sorted(
        first.items(), key=lambda item: (isinstance(item[0], str), item[0]))


def gather_rows(rows: List[Row]) -> List[Row]:
    """Rows of all processes on the first one, none on the others, whose
    ``rows`` are emptied."""
    longest = max(all_gather_object(len(rows)))
    if get_world_size() == 1:
        return list(rows)
    gathered: List[List[Row]] = [[] for _ in range(get_world_size())]
    for _ in range(0, longest, SENT):
        # the first process has its own rows already
        parts = gather_object([] if is_main_process() else rows[:SENT])
        if is_main_process():
            for whole, part in zip(gathered, parts):
                whole += part
        else:
            del rows[:SENT]
    if is_main_process():
        gathered[0] = rows
    return list(chain(*gathered))


def from_first_process(compute: Callable[[], Dict]) -> Dict:
    """What the first process computes, on all of them; where it fails, the
    others, which would wait for it, raise an InputError."""
    outcome: List[Any] = [None, None]  # result, error
    failure: Optional[Exception] = None
    if is_main_process():
        try:
            outcome[0] = compute()
        except Exception as error:
            failure = error
            outcome[1] = explain(error) or (
                f'The first process failed: {error!r}')
    broadcast_object_list(outcome)
    if outcome[1] is not None:
        raise failure or InputError(outcome[1])
    return outcome[0]


def image_name(sample: Dict) -> str:
    """Name of a data sample's image in errors."""
    path = sample.get('img_path')
    return f'image {sample.get("img_id")!r}' + (f' ({path})' if path else '')


def labels_of_codes(codes: np.ndarray) -> np.ndarray:
    """Labels of panoptic codes ``label + 1000 * number``."""
    return codes % INSTANCE_OFFSET


def check_labels(labels: np.ndarray, count: int, kind: str = 'label') -> None:
    """Raise where a predicted label or channel is outside 0..count - 1."""
    wrong = labels[(labels < 0) | (labels >= count)]
    if wrong.size:
        raise CodeError(
            f'{kind} {wrong[0]} is predicted, but this data set has {count} '
            f'(0..{count - 1}). Check num_things, num_stuff, num_classes and '
            'predict_things of the model.')


def check_same_shape(sample: Dict, name: str, shape: Tuple[int, ...],
                     truth: Tuple[int, ...]) -> None:
    """Raise unless a prediction has the size (h, w) of its ground truth."""
    if tuple(shape) != tuple(truth):
        raise InputError(
            f'{image_name(sample)}: {name} is {tuple(shape)} (h, w) but the '
            f'ground truth is {tuple(truth)}. Predict at the original size of '
            'the image (rescale=True) and check that image and PNG agree.')


def leaves_instances_out(model: nn.Module) -> bool:
    """Whether a model, or its instance network, is ``panoptic_only``."""
    networks = (model, getattr(model, 'instance_network', None))
    return any(getattr(n, 'panoptic_only', False) for n in networks)


def mean_of_known(values: np.ndarray) -> float:
    """Mean without NaN; NaN where nothing is left (and no warning)."""
    known = values[~np.isnan(values)]
    return float(known.mean()) if known.size else float('nan')


def ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """``part / whole`` as float64; NaN where ``whole`` is 0."""
    whole = np.asarray(whole, dtype=np.float64)
    return np.divide(
        part, whole, out=np.full(whole.shape, np.nan), where=whole > 0)


def score_text(value: Optional[float]) -> str:
    """A score with two digits; 'n/a' for None and NaN."""
    return 'n/a' if value is None or np.isnan(value) else f'{value:.2f}'


def log_classes(title: str, names: Sequence[str],
                columns: Mapping[str, Iterable[float]]) -> None:
    """Log percentages, ``columns`` (head -> n), of n classes as a table."""
    table = tabulate([[name, *map(score_text, values)]
                      for name, *values in zip(names, *columns.values())],
                     headers=['class', *columns],
                     tablefmt='plain',
                     disable_numparse=True,
                     colalign=['left'] + ['right'] * len(columns))
    print_log(f'{title}\n{table}', logger='current')


class PerImageMetric(BaseMetric):
    """Base of metrics that add up one row per image.

    Subclasses define :attr:`prediction`, :attr:`keys`, :meth:`image_row` and
    :meth:`compute`. The processes need no common directory.
    """

    #: Field of the data sample that is judged.
    prediction: str = ''
    #: Names of the scores, NaN ('n/a') without any prediction.
    keys: Sequence[str] = ()
    #: Whether to log a line for each class.
    classwise: bool = False
    #: Scores of each class in the last evaluation, on the first process.
    by_class: ByClass = {}
    space: LabelSpace

    @property
    def needs_truth(self) -> bool:
        """Whether each image must have a panoptic annotation."""
        return not getattr(self, 'format_only', False)

    @BaseMetric.dataset_meta.setter
    def dataset_meta(self, dataset_meta: dict) -> None:
        """Metainfo of the data set, which the evaluator sets."""
        self._dataset_meta = dataset_meta
        self.space = LabelSpace.from_metainfo(dataset_meta, 'dataset_meta')
        if self.space.names != tuple(dataset_meta['classes']):
            raise InputError(
                f'{type(self).__name__}: the classes of dataset_meta are not '
                'things first, then stuff. Build the metainfo with '
                'LabelSpace.metainfo().')

    def check_model(self, model: nn.Module) -> None:
        """Refuse a model that cannot be judged, before the first iteration."""
        if self.prediction == 'pred_instances' and leaves_instances_out(model):
            raise InputError(
                'model.test_cfg.panoptic_only leaves out instances that AP '
                'counts. Take the metrics of instances out of the evaluator, '
                'or panoptic_only out of the model.')

    def check_images(self, images: Sequence[Dict]) -> None:
        """Refuse images, ``get_data_info`` of all, that cannot be judged or
        written, before the first iteration."""

    @abstractmethod
    def image_row(self, sample: Dict) -> Any:
        """Small, picklable row of one image; must not change the sample."""

    @abstractmethod
    def compute(self, rows: List[Row]) -> Dict[str, float]:
        """Scores of (image id, row) of all images, in the order of ids."""

    def process(self, data_batch: Any, data_samples: Sequence[Dict]) -> None:
        """Add one row for each data sample to ``self.results``."""
        for sample in data_samples:
            judged = sample.get(self.prediction) is not None
            self.results.append((plain_id(sample['img_id']),
                                 self.image_row(sample) if judged else None))

    def compute_metrics(self, results: List[Row]) -> Dict[str, float]:
        """Scores of all images; NaN where the model predicts no such thing."""
        lacking = sum(row is None for _, row in results)
        if lacking or not results:
            print_log(
                f'{type(self).__name__}: {lacking} of {len(results)} images '
                f'have no {self.prediction}; its scores are n/a.',
                logger='current',
                level=logging.WARNING)
            return {key: float('nan') for key in self.keys}
        return self.compute(results)

    def evaluate(self, size: int) -> Dict[str, float]:
        """Scores with their prefix, on every process.

        Args:
            size (int): Number of images of the data set.
        """
        rows = unique_rows(gather_rows(self.results))
        self.results.clear()
        if is_main_process() and len(rows) != size:
            print_log(
                f'{type(self).__name__}: {len(rows)} different image ids '
                f'for a data set of {size} images.',
                logger='current',
                level=logging.WARNING)
        scores = from_first_process(lambda: self.compute_metrics(rows))
        prefix = f'{self.prefix}/' if self.prefix else ''
        return {prefix + key: value for key, value in scores.items()}

    def ground_truth(
        self,
        sample: Dict,
        shape: Optional[Tuple[int, ...]] = None
    ) -> Tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Panoptic ground truth of a data sample.

        Args:
            sample (dict): Data sample.
            shape (tuple[int, int], optional): (h, w) of the prediction.

        Returns:
            tuple[np.ndarray, np.ndarray, np.ndarray]: Map (h, w) of
            ``label + 1000 * number``; the codes of its G segments in the
            order of the annotation; bool (G, ), whether they are crowd.

        Raises:
            InputError: There is none, or the prediction has another size.
        """
        truth = sample.get('gt_panoptic_seg')
        if truth is None:
            raise InputError(
                f'{image_name(sample)} has no panoptic annotation '
                f'(gt_panoptic_seg), which {type(self).__name__} needs. Give '
                'the dataset its annotation file, take this metric out of the '
                'evaluator, or write results without scores (tools/test.py '
                '--format-only PREFIX).')
        plane = to_plane(truth['sem_seg'])
        if shape is not None:
            check_same_shape(sample, self.prediction, shape, plane.shape)
        codes = np.asarray(sample['gt_codes'], dtype=np.int64).reshape(-1)
        return plane, codes, np.isin(codes, np.asarray(sample['crowd_codes']))

    def report_classes(self,
                       title: str,
                       names: Sequence[str],
                       columns: Mapping[str, np.ndarray],
                       percent: float = 1.,
                       more: Mapping[str, np.ndarray] = {}) -> None:
        """Keep scores as ``by_class``; log them where that is asked for.

        Args:
            title (str): First line of the log.
            names (Sequence[str]): Names of n classes.
            columns (Mapping): Score -> n values.
            percent (float): One percent in the units of ``columns``.
            more (Mapping): Scores that are only logged.
        """
        self.by_class = {
            name: dict(zip(columns, map(float, values)))
            for name, *values in zip(names, *columns.values())
        }
        if self.classwise:
            shown = {**columns, **more}
            log_classes(title, names, {
                k: v / percent
                for k, v in shown.items()
            })


class WritingMetric(PerImageMetric):
    """Base of metrics that also write results, into ``PREFIX.TASK/``.

    Every process writes the files of its own images, the first one looks at
    the folder in the end, so several machines must share it. Until then
    ``PREFIX.TASK/.incomplete`` is there: the folder of a run that was killed
    may hold files of an earlier one.

    Args:
        classwise (bool): Whether to log a line for each class.
        format_only (bool): Whether to write results and compute nothing, as
            for images without annotation.
        outfile_prefix (str, optional): Folder and first part of the names of
            all files; None writes none.
        prefix (str, optional): First part of the keys.
    """

    #: What ``--format-only`` of the test tool looks for.
    writes_results = True
    #: End of the folder's name.
    task: str = ''
    #: Names of the scores.
    score_keys: Sequence[str] = ()

    def __init__(self,
                 classwise: bool = False,
                 format_only: bool = False,
                 outfile_prefix: Optional[str] = None,
                 prefix: Optional[str] = None) -> None:
        super().__init__(prefix=prefix)
        if format_only and outfile_prefix is None:
            raise InputError(f'{type(self).__name__}: format_only=True writes '
                             'files; set where with outfile_prefix.')
        self.classwise = classwise
        self.format_only = format_only
        self.outfile_prefix = outfile_prefix
        self.keys = () if format_only else self.score_keys

    def predicted(self, sample: Dict) -> Any:
        """What is judged of a data sample; by default a map (h, w)."""
        return to_plane(sample[self.prediction]['sem_seg'])

    @abstractmethod
    def judge(self, sample: Dict, pred: Any) -> Any:
        """Counts of one image: what :meth:`score` adds up."""

    @abstractmethod
    def write(self, sample: Dict, pred: Any) -> Any:
        """Write one image; return the names of its files in the folder."""

    @abstractmethod
    def score(self, counts: List[Any]) -> Dict[str, float]:
        """Scores of the counts of all images."""

    @property
    def task_folder(self) -> Path:
        return Path(f'{self.outfile_prefix}.{self.task}')

    def image_row(self, sample: Dict) -> Tuple[Any, Any]:
        """What is judged and what was written, None where not asked for."""
        pred, counts, written = self.predicted(sample), None, None
        if not self.format_only:
            counts = self.judge(sample, pred)
        if self.outfile_prefix is not None:
            marker = self.task_folder / INCOMPLETE
            if not marker.exists():
                write_result(marker, b'')
            written = self.write(sample, pred)
        return counts, written

    def compute(self, rows: List[Row]) -> Dict[str, float]:
        """Finish the folder where one is written; scores where asked for."""
        if self.outfile_prefix is not None:
            self.finish({image_id: written for image_id, (_, written) in rows})
        if self.format_only:
            return {}
        return self.score([counts for _, (counts, _) in rows])

    def finish(self, written: Dict[ImageId, Any]) -> None:
        """Log where the results are and whether other files lie among them.

        Results of other images, such as those of another split, must not be
        handed in by mistake, and are not this metric's to delete: an error
        where nothing but results was asked for, else a warning.

        Args:
            written (dict): What :meth:`write` returned for each image.
        """
        (self.task_folder / INCOMPLETE).unlink(missing_ok=True)
        print_log(f'Results are in {self.task_folder}.', logger='current')
        found = {
            path.relative_to(self.task_folder).as_posix()
            for path in self.task_folder.rglob('[!.]*') if path.is_file()
        }
        others = sorted(found.difference(*written.values()))
        if not others:
            return
        text = (f'{self.task_folder} holds {len(others)} files that this '
                f'evaluation has not written (the first is {others[0]}). The '
                'new results are complete; remove the other files before you '
                'hand the folder in, or choose another prefix.')
        if self.format_only:
            raise InputError(text)
        print_log(text, logger='current', level=logging.WARNING)
