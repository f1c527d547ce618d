"""What all metrics share: one small row for each image, gathered by id.

``BaseMetric`` interleaves the ranks' results and cuts the list at the size of
the data set, which keeps the padding of a distributed sampler, and loses real
images, as soon as ranks do not hold them in turns; its default also asks for
a directory that all ranks see. Here the first process gathers the rows as
objects (over gloo or nccl), a part at a time; rows of an image that was seen
twice are dropped by image id, and the rest is summed in the order of the ids:
one process and many give the same bits.
"""
import logging
from itertools import chain
from operator import index
from typing import (Any, Dict, Iterable, List, Mapping, Optional, Sequence,
                    Tuple, Union)

import numpy as np
import torch
from mmengine.dist import (all_gather_object, broadcast_object_list,
                           gather_object, get_world_size, is_main_process)
from mmengine.evaluator import BaseMetric
from mmengine.logging import print_log
from torch import nn

from mmengine_exact.errors import InputError

from ..labels import INSTANCE_OFFSET, LabelSpace

ImageId = Union[int, str]
Row = Tuple[ImageId, Any]

#: Rows that a process sends at once: pickled ones of all processes, and their
#: copies, need not fit into memory beside what is gathered.
SENT = 256


class CodeError(InputError):
    """A map holds a value that stands for no class or segment."""


def plain_id(image_id: Any) -> ImageId:
    """An image id as int or str (numpy and torch scalars become int)."""
    return image_id if isinstance(image_id, str) else index(image_id)


def unique_rows(rows: Sequence[Row]) -> List[Row]:
    """First row of each image id: integers ascending, then strings.

    Args:
        rows (Sequence[tuple]): (image id, anything), in any order.
    """
    first: Dict[ImageId, Any] = {}
    for image_id, row in rows:
        first.setdefault(image_id, row)
    order = sorted(first, key=lambda i: (isinstance(i, str), i))
    return [(i, first[i]) for i in order]


def gather_rows(rows: List[Row]) -> List[Row]:
    """Rows of all processes, one process after the other.

    Args:
        rows (list[tuple]): Of this process; emptied on all but the first.

    Returns:
        list[tuple]: All on the first process, none on the others.
    """
    longest = max(all_gather_object(len(rows)))
    if get_world_size() == 1:
        return list(rows)
    gathered: List[List[Row]] = [[] for _ in range(get_world_size())]
    for _ in range(0, longest, SENT):
        # the first one has its own already
        sent = [] if is_main_process() else rows[:SENT]
        parts = gather_object(sent)
        if is_main_process():
            for whole, part in zip(gathered, parts):
                whole += part
        else:
            del rows[:SENT]
    if is_main_process():
        gathered[0] = rows
    return list(chain(*gathered))


def image_name(sample: Dict) -> str:
    """How an error names the image of a data sample."""
    path = sample.get('img_path')
    return f'image {sample.get("img_id")!r}' + (f' ({path})' if path else '')


def to_array(data: Any) -> np.ndarray:
    """Array of a tensor on any device; a view where possible."""
    if isinstance(data, torch.Tensor):
        return data.detach().cpu().numpy()
    return np.asarray(data)


def to_plane(data: Any) -> np.ndarray:
    """(h, w) array of a (1, h, w) or (h, w) map; a view where possible."""
    data = to_array(data)
    return data.reshape(data.shape[-2:])


def check_same_shape(sample: Dict, name: str, shape: Tuple[int, ...],
                     truth: Tuple[int, ...]) -> None:
    """Raise where a prediction has not the size of its ground truth.

    Raises:
        InputError: Names the image and both (h, w).
    """
    if tuple(shape) != tuple(truth):
        raise InputError(
            f'{image_name(sample)}: {name} is {tuple(shape)} (h, w) but the '
            f'ground truth is {tuple(truth)}. Predict at the original size of '
            'the image (rescale=True) and check that image and PNG agree.')


def leaves_instances_out(model: nn.Module) -> bool:
    """Whether a model, or its instance network, is ``panoptic_only``."""
    networks = (model, getattr(model, 'instance_network', None))
    return any(getattr(n, 'panoptic_only', False) for n in networks)


def require_all_instances(model: nn.Module) -> None:
    """AP counts all instances, also those that the merge would not take.

    Raises:
        InputError: The model leaves them out.
    """
    if leaves_instances_out(model):
        raise InputError(
            'model.test_cfg.panoptic_only leaves out instances that AP '
            'counts. Take the metrics of instances out of the evaluator, or '
            'panoptic_only out of the model.')


def check_thing_labels(sample: Dict, labels: np.ndarray,
                       num_things: int) -> None:
    """Raise where an instance is predicted that is no thing.

    Raises:
        InputError: Names the image, the labels and the config key.
    """
    if labels.size and not 0 <= labels.min() <= labels.max() < num_things:
        raise InputError(
            f'{image_name(sample)}: predicted labels {labels.min()} to '
            f'{labels.max()}, but the data set has {num_things} thing '
            'classes. Set num_classes of the region heads to that.')


class PerImageMetric(BaseMetric):
    """Base of metrics that add up one row for each image.

    Subclasses define :attr:`prediction`, :attr:`keys`, :meth:`image_row` and
    :meth:`compute`. The processes need no common directory.
    """

    #: Field of the data sample that holds what is judged.
    prediction: str = ''

    # Built once for each data set, not once for each image.
    _space: Optional[LabelSpace] = None

    @property
    def keys(self) -> Sequence[str]:
        """Names of the scores, NaN ('n/a') without any prediction."""
        raise NotImplementedError

    @property
    def dataset_meta(self) -> Optional[dict]:
        """dict: Metainfo of the data set, which the evaluator sets."""
        return self._dataset_meta

    @dataset_meta.setter
    def dataset_meta(self, dataset_meta: dict) -> None:
        self._dataset_meta = dataset_meta
        self._space = None

    @property
    def space(self) -> LabelSpace:
        """Classes of the data set.

        Raises:
            InputError: The metainfo of the data set has no thing classes,
                or lists stuff before things.
        """
        if self._space is None:
            self._space = self._checked_space()
        return self._space

    def _checked_space(self) -> LabelSpace:
        meta = self.dataset_meta or {}
        missing = {'classes', 'thing_classes'} - set(meta)
        if missing:
            raise InputError(
                f'{type(self).__name__}: dataset_meta has no '
                f'{sorted(missing)}. Use a panoptic dataset, whose metainfo '
                'tells things from stuff.')
        space = LabelSpace.from_metainfo(meta)
        if space.names != tuple(meta['classes']):
            raise InputError(
                f'{type(self).__name__}: the classes of dataset_meta are not '
                'things first, then stuff, each by category id. Build the '
                'metainfo with LabelSpace.metainfo().')
        return space

    def image_row(self, sample: Dict) -> Any:
        """Small, picklable row of one image; must not change the sample."""
        raise NotImplementedError

    def compute(self, rows: List[Row]) -> Dict[str, float]:
        """Scores of (image id, row) of all images, in the order of ids."""
        raise NotImplementedError

    def process(self, data_batch: Any, data_samples: Sequence[Dict]) -> None:
        """Add one row for each data sample to ``self.results``.

        Args:
            data_batch (Any): Not used.
            data_samples (Sequence[dict]): Data samples as dicts.
        """
        for sample in data_samples:
            judged = sample.get(self.prediction) is not None
            self.results.append((plain_id(sample['img_id']),
                                 self.image_row(sample) if judged else None))

    def compute_metrics(self, results: List[Row]) -> Dict[str, float]:
        """Scores of all images; NaN where the model predicts no such thing.

        Raises:
            InputError: Some images have the prediction and others not.
        """
        without = [image_id for image_id, row in results if row is None]
        if len(without) == len(results):
            print_log(
                f'{type(self).__name__}: no image has {self.prediction}; its '
                'scores are n/a.',
                logger='current',
                level=logging.WARNING)
            return {key: float('nan') for key in self.keys}
        if without:
            raise InputError(
                f'{type(self).__name__}: image {without[0]!r} and '
                f'{len(without) - 1} others have no {self.prediction}, '
                f'{len(results) - len(without)} images have it. Let the model '
                'fill it for every image.')
        return self.compute(results)

    def evaluate(self, size: int) -> Dict[str, float]:
        """Gather the rows of all processes on the first one, which computes
        the scores.

        Args:
            size (int): Number of images of the data set.

        Returns:
            dict: Scores with their prefix, on every process.

        Raises:
            InputError: On every process, what the first one could not
                compute or write.
            Exception: Any other error passes through on the first process;
                the others have it as a InputError.
        """
        rows = unique_rows(gather_rows(self.results))
        self.results.clear()
        outcome: List[Any] = [None, None]  # scores, failure
        own: Optional[Exception] = None
        if is_main_process():
            if len(rows) != size:
                print_log(
                    f'{type(self).__name__}: {len(rows)} different image ids '
                    f'for a data set of {size} images.',
                    logger='current',
                    level=logging.WARNING)
            try:
                outcome[0] = self._prefixed(self.compute_metrics(rows))
            except Exception as error:
                # for all processes: the others would wait for scores
                own, outcome[1] = error, told(error)
        broadcast_object_list(outcome)
        scores, failure = outcome
        if own is not None:
            raise own
        if failure is not None:
            raise InputError(failure)
        return scores

    def _prefixed(self, scores: Dict[str, float]) -> Dict[str, float]:
        prefix = f'{self.prefix}/' if self.prefix else ''
        return {prefix + key: value for key, value in scores.items()}

    def ground_truth(self, sample: Dict,
                     remedy: str) -> Tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Panoptic ground truth of a data sample.

        Args:
            sample (dict): Data sample.
            remedy (str): End of the error without ground truth.

        Returns:
            tuple[np.ndarray, np.ndarray, np.ndarray]: Map (h, w) of
            ``label + 1000 * number``; the codes of its G segments in the
            order of the annotation; bool (G, ), whether they are crowd.

        Raises:
            InputError: The sample has no panoptic annotation.
        """
        truth = sample.get('gt_panoptic_seg')
        if truth is None:
            raise InputError(
                f'{image_name(sample)} has no panoptic annotation '
                f'(gt_panoptic_seg), which {type(self).__name__} compares '
                f'with. {remedy}')
        codes = np.asarray(sample['gt_codes'], dtype=np.int64).reshape(-1)
        return (to_plane(truth['sem_seg']), codes,
                np.isin(codes, np.asarray(sample['crowd_codes'])))


def told(error: Exception) -> str:
    """What the other processes are told of an error of the first one."""
    if isinstance(error, InputError):
        return str(error)
    return f'The first process failed with {type(error).__name__}: {error}'


def labels_of_codes(codes: np.ndarray) -> np.ndarray:
    """Labels of panoptic codes ``label + 1000 * number``."""
    return codes % INSTANCE_OFFSET


def check_labels(codes: np.ndarray, num_classes: int, void: int) -> None:
    """Raise where a predicted code names no class.

    Args:
        codes (np.ndarray): (P, ) of ``label + 1000 * number``.
        num_classes (int): C.
        void (int): Label of void pixels.

    Raises:
        CodeError: A label is neither void nor below ``num_classes``.
    """
    labels = labels_of_codes(codes)
    wrong = (labels >= num_classes) & (labels != void) | (codes < 0)
    if wrong.any():
        raise CodeError(
            f'the prediction holds {int(codes[wrong][0])}, whose label is not '
            f'one of the {num_classes} classes (0..{num_classes - 1}) or void '
            f'({void}).')


def format_classwise(title: str, names: Sequence[str],
                     columns: Mapping[str, Iterable[float]]) -> str:
    """Text table of one line for each class, NaN as 'n/a'.

    Args:
        title (str): First line.
        names (Sequence[str]): Names of the n classes.
        columns (dict): Head -> n percentages.
    """
    width = max(map(len, [*names, 'class']))
    lines = [title, 'class'.ljust(width) + ''.join(f'{h:>9}' for h in columns)]
    for name, *values in zip(names, *columns.values()):
        lines.append(
            name.ljust(width) + ''.join(f'{number(v):>9}' for v in values))
    return '\n'.join(lines)


def number(value: Optional[float], digits: int = 2) -> str:
    """A score as text; 'n/a' for None and NaN."""
    if value is None or np.isnan(value):
        return 'n/a'
    return f'{value:.{digits}f}'
