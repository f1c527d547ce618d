"""Hook that draws what the model sees during validation and testing."""
import logging
import os.path as osp
from typing import Any, Optional, Sequence, Set

from mmdet.registry import HOOKS
from mmdet.structures import DetDataSample
from mmengine.dist import get_world_size, is_main_process
from mmengine.hooks import Hook
from mmengine.logging import print_log
from mmengine.runner import Runner

from mmengine_exact.errors import CorruptFileError

from .image_io import free_stem, read_image

Samples = Sequence[DetDataSample]


@HOOKS.register_module()
class PanopticVisualizationHook(Hook):
    """Draw panoptic predictions beside their ground truth.

    In validation the same images are drawn every time and sent to the
    visualizer's backends, one tag for each image and the training iteration
    as step. In testing nothing is drawn unless a folder is given or
    ``show`` is set: 5000 pictures take longer than the evaluation.

    Args:
        draw (bool): Whether to draw at all.
        interval (int): Draw every ``interval``-th image.
        num_images (int, optional): Pictures of each validation; None for no
            limit.
        test_num_images (int, optional): Pictures of each test; None for no
            limit.
        test_out_dir (str, optional): Folder of the test's pictures, relative
            to the run's own folder (as ``--show-dir`` of mmdet's test.py).
        score_thr (float): Least score of instances where a sample has no
            panoptic map.
        show (bool): Whether to open a window for each picture.
        wait_time (float): Seconds a window stays; 0 is forever.
        backend_args (dict, optional): Where the images lie, as in the
            datasets.
    """

    priority = 'NORMAL'

    def __init__(self,
                 draw: bool = True,
                 interval: int = 1,
                 num_images: Optional[int] = 4,
                 test_num_images: Optional[int] = None,
                 test_out_dir: Optional[str] = None,
                 score_thr: float = 0.3,
                 show: bool = False,
                 wait_time: float = 0.,
                 backend_args: Optional[dict] = None) -> None:
        self.draw = draw
        self.interval = interval
        self.num_images = num_images
        self.test_num_images = test_num_images
        self.test_out_dir = test_out_dir
        self.score_thr = score_thr
        self.show = show
        self.wait_time = wait_time
        self.backend_args = backend_args
        self.before_val_epoch()

    def before_val_epoch(self, runner: Any = None) -> None:
        """Count from the first image again."""
        self._seen = 0
        self._stems: Set[str] = set()

    def before_test_epoch(self, runner: Runner) -> None:
        """Count from the first image again; warn about several processes."""
        self.before_val_epoch()
        if self.draw and self.test_out_dir and get_world_size() > 1:
            print_log(
                'Pictures are drawn of the images of the first process alone. '
                'Start one process to have all.', 'current', logging.WARNING)

    def after_val_iter(self, runner: Runner, batch_idx: int, data_batch: dict,
                       outputs: Samples) -> None:
        """Draw the first images of a validation."""
        self._draw(runner, outputs, self.num_images, 'val')

    def after_test_iter(self, runner: Runner, batch_idx: int, data_batch: dict,
                        outputs: Samples) -> None:
        """Draw the images of a test, where pictures are asked for."""
        if self.test_out_dir is not None or self.show:
            self._draw(runner, outputs, self.test_num_images, 'test',
                       self.test_out_dir)

    def _draw(self,
              runner: Runner,
              outputs: Samples,
              limit: Optional[int],
              mode: str,
              folder: Optional[str] = None) -> None:
        """Draw the chosen samples, each under a name of its own; in the main
        process alone, as the visualizer draws there alone."""
        if not self.draw or not is_main_process():
            return
        for sample in outputs:
            number, rest = divmod(self._seen, self.interval)
            self._seen += 1
            if rest or (limit is not None and number >= limit):
                continue
            stem = free_stem(sample.img_path, self._stems)
            try:
                image = read_image(sample.img_path, self.backend_args)
            except CorruptFileError as error:
                # A missing picture must not end a run that can go on.
                print_log(f'No picture is drawn: {error}', 'current',
                          logging.WARNING)
                continue
            runner.visualizer.add_datasample(
                f'{mode}_{stem}',
                image[..., ::-1],
                data_sample=sample,
                show=self.show,
                wait_time=self.wait_time,
                pred_score_thr=self.score_thr,
                out_file=None if folder is None else osp.join(
                    runner.work_dir, runner.timestamp, folder, f'{stem}.png'),
                step=runner.iter)
