"""Scores of each evaluation as ``metrics.json``, those of each image as
``images.json``."""
import json
import math
import os.path as osp
from pathlib import Path
from typing import Any, Dict, Mapping

from mmdet.registry import HOOKS
from mmengine.dist import master_only
from mmengine.hooks import Hook

from mmengine_exact.files import write_bytes
from mmengine_exact.record import score_record

#: File with the scores of each image.
IMAGES = 'images.json'


@HOOKS.register_module()
class MetricsJsonHook(Hook):
    """Writes the metrics of each evaluation to ``work_dir/metrics.json``.

    One object of flat scores, e.g. ``{"coco_panoptic/PQ": 41.5, "mIoU":
    null}``; NaN and infinity are null. Where the evaluator knows scores of
    single classes (``by_class``), ``"classwise"`` holds them, e.g.
    ``{"car": {"PQ": 53.1, "IoU": 92.0}}``, in the units of the flat scores;
    neither the log nor the scalars of the logger do. In training the file
    holds the last validation.

    Where the evaluator knows scores of single images (``by_image``), they are
    in ``images.json``, see :func:`write_images`.

    Args:
        filename (str): Name of the file. Defaults to 'metrics.json'.
        record (bool): Whether ``"record"`` says what the scores were made
            with, see :func:`score_record`. Defaults to False.
    """

    priority = 'BELOW_NORMAL'

    def __init__(self,
                 filename: str = 'metrics.json',
                 record: bool = False) -> None:
        self.filename = filename
        self.record = record

    def after_val_epoch(self, runner: Any, metrics: Any = None) -> None:
        self._write(runner, metrics, getattr(runner, 'val_loop', None))

    def after_test_epoch(self, runner: Any, metrics: Any = None) -> None:
        self._write(runner, metrics, getattr(runner, 'test_loop', None))

    @master_only
    def _write(self, runner: Any, metrics: Any, loop: Any) -> None:
        if not metrics:  # results were written, nothing was scored
            return
        more = {}
        if self.record:
            more['record'] = score_record(runner, loop.dataloader.dataset)
        write_scores(
            osp.join(runner.work_dir, self.filename), metrics,
            getattr(loop, 'evaluator', None), **more)


def write_scores(path: str, metrics: Mapping, evaluator: Any,
                 **more: Any) -> None:
    """Write the scores of an evaluation, see :class:`MetricsJsonHook`, to this
    file and to ``images.json`` beside it; ``more`` goes into the former."""
    content = flat_metrics(metrics)
    by_class = getattr(evaluator, 'by_class', None)
    if by_class:
        content['classwise'] = {
            name: flat_metrics(scores)
            for name, scores in by_class.items()
        }
    content.update(more)
    text = json.dumps(content, indent=1, default=str) + '\n'
    write_bytes(path, text.encode())
    images = Path(path).with_name(IMAGES)
    by_image = getattr(evaluator, 'by_image', None)
    if by_image:
        write_images(str(images), by_image, evaluator.dataset_meta)
    else:  # not those of an earlier evaluation
        images.unlink(missing_ok=True)


def write_images(path: str, by_image: Mapping[Any, Mapping],
                 metainfo: Mapping) -> None:
    """Write ``PanopticQualityMetric.by_image``: an object with
    ``thing_classes``, ``stuff_classes`` and ``images``, which has a line for
    each: ``{"image_id": 7, "PQ": 41.5, "counts": {"car": [2, 0, 1, 1.7]}}``
    with tp, fp, fn and the sum of the IoUs; a PQ that is NaN is null."""
    head = {key: metainfo[key] for key in ('thing_classes', 'stuff_classes')}
    lines = [
        json.dumps(
            dict(
                flat_metrics(dict(image_id=image_id, PQ=scores['PQ'])),
                counts=scores['counts']),
            ensure_ascii=False) for image_id, scores in by_image.items()
    ]
    text = (
        json.dumps(head, ensure_ascii=False)[:-1] + ', "images": [\n' +
        ',\n'.join(lines) + '\n]}\n')
    write_bytes(path, text.encode())


def flat_metrics(metrics: Mapping, prefix: str = '') -> Dict[str, Any]:
    """Numbers (not finite: None) and strings; nested keys joined by '/'."""
    flat: Dict[str, Any] = {}
    for key, value in metrics.items():
        name = f'{prefix}{key}'
        if isinstance(value, Mapping):
            flat.update(flat_metrics(value, f'{name}/'))
            continue
        if hasattr(value, 'tolist'):  # of numpy or torch
            value = value.tolist()
        if isinstance(value, float) and not math.isfinite(value):
            value = None
        if value is None or isinstance(value, (bool, int, float, str)):
            flat[name] = value
    return flat
