"""The metric of panoptic quality, with the measures that are asked for.

Row   of an image: labels with anything to count, and their counts; those of
      PQ first, then those of each further measure
Out   scores in percent, of all classes, things (_th) and stuff (_st)
"""
from typing import Any, Dict, List, Optional, Sequence, Tuple

import numpy as np
from mmdet.registry import METRICS
from mmengine.logging import print_log
from torch import nn

from mmengine_exact.errors import InputError

from ..coco_format.results import (ImageId, number_segments, png_name,
                                   png_names, write_image, write_json)
from ..labels import id_to_rgb
from .base import Row, WritingMetric, labels_of_codes
from .extra_measures import (EXTRA, INTERVAL, MEASURES, PlainQuality,
                             resampled_quality)
from .panoptic_quality import (Scene, class_quality, group_quality,
                               match_segments, mean_quality)


@METRICS.register_module()
class PanopticQualityMetric(WritingMetric):
    """PQ, SQ and RQ from counts in memory.

    Compares ``pred_panoptic_seg`` with ``gt_panoptic_seg`` of the data
    samples (with ``gt_codes`` and ``crowd_codes`` in their metainfo). Keys
    and numbers are those of mmdet's ``CocoPanopticMetric``.

    A model with one branch (lambda_i or lambda_s = 0, Table 2) is judged by
    what it predicts: PQ_th or PQ_st; the rest is NaN ('n/a').

    Args:
        outfile_prefix (str, optional): Write ``PREFIX.panoptic.json`` and
            ``PREFIX.panoptic/*.png``, in COCO's format.
        png_name (str, optional): Names of the PNGs, such as
            '{img_id}_panoptic.png'. By default those of the annotation, or
            else of the images; with their folders where two are alike.
        extra (Sequence[str]): Further measures, any of ``EXTRA``: those of
            :mod:`.extra_measures`; 'images', PQ and counts of each image as
            ``by_image``; 'interval', ``PQ_low`` and ``PQ_high``, the 95 %
            interval of PQ in resampled images.
        **kwargs: See :class:`WritingMetric`.
    """
    default_prefix = 'coco_panoptic'
    prediction = 'pred_panoptic_seg'
    task = 'panoptic'

    #: ``{image id: {'PQ': percent, 'counts': {class: [tp, fp, fn, iou]}}}`` of
    #: the last evaluation, on the first process.
    by_image: Dict[ImageId, Dict] = {}
    #: Kind of class that the model has no branch for.
    _lacking: Optional[str] = None

    def __init__(self,
                 *args: Any,
                 png_name: Optional[str] = None,
                 extra: Sequence[str] = (),
                 **kwargs: Any) -> None:
        unknown = sorted({*extra}.difference(EXTRA))
        if isinstance(extra, str) or unknown:
            raise InputError(
                f'PanopticQualityMetric: extra={extra!r} is no list of '
                f'measures among {list(EXTRA)}.')
        self.extra = extra
        self.measures = [
            PlainQuality(), *(MEASURES[n] for n in extra if n in MEASURES)
        ]
        self.score_keys = tuple(k for m in self.measures for k in m.keys)
        if 'interval' in extra:
            self.score_keys += ('PQ_low', 'PQ_high')
        super().__init__(*args, **kwargs)
        self.png_name = png_name
        self._names: Dict[ImageId, str] = {}

    def check_images(self, images: Sequence[Dict]) -> None:
        """Name the PNGs; refuse images that would share one."""
        if self.outfile_prefix is not None:
            self._names = png_names(images, self.png_name)

    def check_model(self, model: nn.Module) -> None:
        """Note whether the model has only one branch."""
        branches = dict(
            things=getattr(model, 'roi_head', None),
            stuff=getattr(model, 'semantic_head', None))
        lacking = [kind for kind, head in branches.items() if head is None]
        # a model of another kind has neither, and predicts both
        self._lacking = lacking[0] if len(lacking) == 1 else None

    @property
    def note(self) -> Optional[str]:
        """Note for a table of these scores."""
        if self._lacking is None:
            return None
        return f'no branch for {self._lacking}: their PQ is not judged'

    def judge(self, sample: Dict,
              pred: np.ndarray) -> Tuple[np.ndarray, np.ndarray]:
        """Labels (k, ) with anything to count, and their counts (k, 4)."""
        gt, codes, crowd = self.ground_truth(sample, shape=pred.shape)
        num_classes = self.space.num_classes
        scene = Scene(gt, codes, labels_of_codes(codes), crowd, pred,
                      num_classes, num_classes)
        found = match_segments(*scene)
        counts = np.concatenate(
            [measure.count(scene, found) for measure in self.measures], axis=1)
        labels = np.flatnonzero(counts.any(axis=1)).astype(np.int16)
        return labels, counts[labels]

    def write(self, sample: Dict, pred: np.ndarray) -> Dict:
        """Write the PNG; return its JSON entry, without ``image_id``."""
        name = self._names.get(sample['img_id']) or png_name(
            sample, self.png_name)
        ids, segments = number_segments(pred, self.space.void,
                                        self.space.category_ids)
        write_image(self.task_folder / name, id_to_rgb(ids))
        return dict(file_name=name, segments_info=segments)

    def finish(self, written: Dict[ImageId, Any]) -> None:
        """List the PNGs of all images in the JSON."""
        path = write_json([
            dict(image_id=image_id, **entry)
            for image_id, entry in written.items()
        ], str(self.outfile_prefix))
        print_log(f'Panoptic results are in {path}.', logger='current')
        super().finish({i: [e['file_name']] for i, e in written.items()})

    def compute(self, rows: List[Row]) -> Dict[str, float]:
        """Scores of all images; those of each one as ``by_image``."""
        if 'images' in self.extra and not self.format_only:
            self.by_image = {i: self._image(*row) for i, (row, _) in rows}
        return super().compute(rows)

    def _image(self, labels: np.ndarray, counts: np.ndarray) -> Dict:
        """PQ (of all classes, as that of a data set) and counts."""
        counts = counts[:, :4]
        return dict(
            PQ=mean_quality(counts) if self._lacking is None else np.nan,
            counts={
                self.space.names[label]: [*map(int, row[:3]), row[3]]
                for label, row in zip(labels, counts.tolist())
            })

    def score(self, counts: List[Tuple[np.ndarray,
                                       np.ndarray]]) -> Dict[str, float]:
        """Scores of the summed counts."""
        space = self.space
        ends = np.cumsum([measure.columns for measure in self.measures])
        total = np.zeros((space.num_classes, ends[-1]))
        for labels, row in counts:  # in the order of the ids
            total[labels] += row
        scores: Dict[str, float] = {}
        shown: Dict[str, np.ndarray] = {}
        plain = class_quality(total[:, :4])
        things = np.arange(space.num_classes) < space.num_things
        parts = np.split(total, ends[:-1], axis=1)
        for measure, part in zip(self.measures, parts):
            quality = measure.quality(part, plain, space.num_things)
            if self._lacking is not None:
                quality[things == (self._lacking == 'things')] = np.nan
            shown.update(zip(measure.names, 100 * quality.T))
            means = group_quality(quality, space.num_things, measure.names)
            scores.update({key: means[key] for key in measure.keys})
        self.report_classes('Panoptic quality by class', space.names, shown)
        if self._lacking is not None:
            of_all = [key for key in scores if f'{key}_th' in scores]
            scores.update(dict.fromkeys(of_all, np.nan))
        if 'interval' in self.extra:
            bounds = [np.nan, np.nan]
            if not np.isnan(scores['PQ']):
                resampled = resampled_quality(counts, space.num_classes,
                                              space.num_things)
                bounds = np.nanpercentile(resampled[:, 0], INTERVAL).tolist()
            scores['PQ_low'], scores['PQ_high'] = bounds
        return scores
