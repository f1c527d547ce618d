"""Visualizer of panoptic results: prediction beside ground truth.

Images are RGB uint8 (h, w, 3), as everywhere in mmengine's visualizers.
``drawing.py`` draws them; no figure of matplotlib is made for a picture.
"""
from typing import Any, Dict, List, Optional, Sequence, Union

import numpy as np
from mmdet.registry import VISUALIZERS
from mmdet.structures import DetDataSample
from mmdet.visualization import DetLocalVisualizer
from mmengine.dist import master_only

from ..labels import LabelSpace
from .backends import backend_configs
from .drawing import MIN_DISPLAY_SIZE, display_scale, enlarge, side_by_side
from .image_io import write_image
from .samples import draw_ground_truth, draw_prediction


@VISUALIZERS.register_module()
class PanopticVisualizer(DetLocalVisualizer):
    """Draw panoptic predictions and ground truth side by side.

    Class names, colours and the number of thing classes come from
    ``dataset_meta``, which runners and :func:`init_model` fill.

    Args:
        name (str): Name of the instance.
        vis_backends (list, optional): Where pictures and scalars go.
        alpha (float): Opacity of the colours.
        min_size (int): Images with a longer side below this many pixels are
            enlarged, by a whole number of times.
        log_to (str | Sequence[str]): Backends besides ``vis_backends``:
            'tensorboard', 'wandb' or both.
        **kwargs: As mmdet's ``DetLocalVisualizer``.

    Raises:
        InputError: A backend of ``log_to`` is unknown, or its package is
            missing.
    """

    def __init__(self,
                 name: str = 'visualizer',
                 *,
                 vis_backends: Optional[Union[List, Dict]] = None,
                 alpha: float = 0.6,
                 min_size: int = MIN_DISPLAY_SIZE,
                 log_to: Union[str, Sequence[str]] = (),
                 **kwargs: Any) -> None:
        self._picture: Optional[np.ndarray] = None
        if isinstance(vis_backends, dict):
            vis_backends = [vis_backends]
        if log_to:
            vis_backends = [*(vis_backends or []), *backend_configs(log_to)]
        super().__init__(
            name=name, vis_backends=vis_backends, alpha=alpha, **kwargs)
        self.min_size = min_size

    @master_only
    def add_datasample(self,
                       name: str,
                       image: np.ndarray,
                       data_sample: Optional[DetDataSample] = None,
                       draw_gt: bool = True,
                       draw_pred: bool = True,
                       show: bool = False,
                       wait_time: float = 0,
                       out_file: Optional[str] = None,
                       pred_score_thr: float = 0.3,
                       step: int = 0) -> None:
        """Draw one image and write, show or send the picture.

        Arguments are those of ``DetLocalVisualizer``; ``image`` is RGB
        (h, w, 3), ``data_sample`` has ``pred_panoptic_seg``,
        ``gt_panoptic_seg``, both or none, ``out_file`` replaces the backends,
        and ``pred_score_thr`` is the least score of instances where there is
        no panoptic map.
        """
        self._picture = self.draw(image, data_sample, draw_gt, draw_pred,
                                  pred_score_thr)
        if show:
            self.show(self._picture, win_name=name, wait_time=wait_time)
        if out_file is not None:
            write_image(out_file, self._picture)
        else:
            self.add_image(name, self._picture, step)

    def draw(self,
             image: np.ndarray,
             data_sample: Optional[DetDataSample] = None,
             draw_gt: bool = True,
             draw_pred: bool = True,
             pred_score_thr: float = 0.3) -> np.ndarray:
        """The picture of :meth:`add_datasample`, RGB uint8: 'Prediction |
        Ground truth' where there are both, a single one without a caption, or
        the image."""
        image = np.ascontiguousarray(image.clip(0, 255).astype(np.uint8))
        scale = display_scale(image.shape, self.min_size)
        panels: Dict[str, Optional[np.ndarray]] = {}
        if data_sample is not None and (draw_gt or draw_pred):
            space = LabelSpace.from_metainfo(self.dataset_meta or {})
            args = image, data_sample, space, self.alpha, scale
            if draw_pred:
                panels['Prediction'] = draw_prediction(*args, pred_score_thr)
            if draw_gt:
                panels['Ground truth'] = draw_ground_truth(*args)
        drawn = {k: panel for k, panel in panels.items() if panel is not None}
        if len(drawn) > 1:
            return side_by_side(drawn)
        return next(iter(drawn.values()), enlarge(image, scale))

    @master_only
    def set_image(self, image: np.ndarray) -> None:
        """Start a new drawing with mmengine's own methods."""
        self._picture = None
        super().set_image(image)

    @master_only
    def get_image(self) -> np.ndarray:
        """The last picture, RGB uint8 of shape (h, w, 3)."""
        if self._picture is not None:
            return self._picture
        return super().get_image()
