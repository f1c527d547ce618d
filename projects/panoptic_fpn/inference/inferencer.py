"""Images, folders and videos in; results, pictures and files out.

``PanopticInferencer`` is to panoptic maps what mmdet's ``DetInferencer`` is
to boxes, with its steps (preprocess, forward, visualize, postprocess) and, as
far as they make sense here, its arguments. It differs where files are many or
bad: one that cannot be read is reported and the others go on, results can be
had one by one (:meth:`PanopticInferencer.stream`), and no image changes the
result of another one in its batch.

Images given as arrays are BGR uint8 (h, w, 3); pictures are RGB.
"""
import logging
import os
import os.path as osp
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import (Any, Dict, Iterator, List, NamedTuple, Optional, Sequence,
                    Tuple, Union)

import numpy as np
import torch
from mmdet.structures import DetDataSample
from mmengine.config import Config
from mmengine.infer import BaseInferencer
from mmengine.logging import print_log
from mmengine.utils import ProgressBar, mkdir_or_exist
from torch import nn

from mmengine_exact import model_record
from mmengine_exact.errors import CorruptFileError, InputError

from ..visualization.drawing import display_scale
from ..visualization.image_io import write_image
from ..visualization.video import (VIDEO_SUFFIXES, SteadyOverlay, VideoFrames,
                                   VideoWriter)
from .inference import (Checkpoints, ImageInput, ImageLoader, Loaded,
                        PanopticResult, batches, init_model, load_config,
                        segment_batch)
from .results import (OVERLAY_SIZE, describe_result, draw_overlay, find_images,
                      unique_stems, write_segments)

Inputs = Union[ImageInput, Sequence[ImageInput]]


class NamedInput(NamedTuple):
    """One image or video.

    ``value`` is a file or a BGR array, ``source`` the file or 'image N' for
    the N-th array, ``stem`` the first part of the names of its results.
    """

    value: Union[str, np.ndarray]
    source: str
    stem: str

    @property
    def is_video(self) -> bool:
        """Whether it is a file with the suffix of a video."""
        return isinstance(self.value,
                          str) and self.value.lower().endswith(VIDEO_SUFFIXES)


class VideoResult:
    """What the frames of one video share: the file that is read, how they are
    drawn, and the overlay video ``STEM_overlay.mp4``."""

    def __init__(self, frames: VideoFrames, overlay: SteadyOverlay,
                 stem: str) -> None:
        self.frames, self.overlay, self.stem = frames, overlay, stem
        self.writer: Optional[VideoWriter] = None

    def write(self, picture: np.ndarray, folder: str, is_last: bool) -> str:
        """Append an overlay, RGB uint8 (h, w, 3); the path of the video."""
        if self.writer is None:
            path = osp.join(folder, f'{self.stem}_overlay.mp4')
            self.writer = VideoWriter(path, self.frames.fps)
        self.writer.write(picture)
        if is_last:
            self.writer.close()
        return self.writer.path

    def discard(self) -> None:
        """Close the file that is read; remove one that is unfinished."""
        self.frames.close()
        if self.writer is not None:
            self.writer.discard()


class PanopticInferencer(BaseInferencer):
    """Panoptic segmentation of images, folders and videos.

    Example:
        >>> inferencer = PanopticInferencer('CONFIG.py', 'CHECKPOINT.pth')
        >>> found = inferencer('photo.jpg', out_dir='work_dirs/photos')
        >>> found['predictions'][0]['segments']

    Args:
        config (str | Path | Config): The config the model was trained with.
        checkpoint (str | Sequence[str], optional): Weights; random ones
            without it. One file for each network of a
            ``TwoNetworkPanopticFPN``.
        device (str, optional): 'cpu', 'cuda:0', ...; by default the first
            GPU, or else the CPU.
        amp (bool): Whether convolutions run in bfloat16 (float16 on a GPU).
        cfg_options (dict, optional): Keys of the config to override.
        show_progress (bool): Whether a call draws a progress bar.
        record (bool): Whether ``STEM_segments.json`` says under ``model``
            which config, weights (with SHA-256) and versions it is from.

    Raises:
        InputError: See :func:`init_model`.
    """

    def __init__(self,
                 config: Union[str, Path, Config],
                 checkpoint: Checkpoints = None,
                 device: Optional[str] = None,
                 amp: bool = False,
                 cfg_options: Optional[dict] = None,
                 show_progress: bool = True,
                 record: bool = False) -> None:
        if device is None:
            device = 'cuda:0' if torch.cuda.is_available() else 'cpu'
        self.amp, self.record = amp, record
        self.made_with: dict = {}
        self.num_arrays = 0  # of all calls: each has a name of its own
        # mmengine would look for a name in the model zoos
        super().__init__(
            load_config(config, cfg_options), checkpoint, device, 'mmdet')
        self.cfg = self.model.cfg
        self.show_progress = show_progress

    def _init_model(self, cfg: Config, weights: Checkpoints,
                    device: str) -> nn.Module:
        """By our own function, which never executes code of a checkpoint."""
        model = init_model(cfg, weights, device)
        if self.record:
            self.made_with = dict(model=model_record(model.cfg, weights))
        return model

    def _init_pipeline(self, cfg: Config) -> ImageLoader:
        return ImageLoader(self.model)

    def _init_collate(self, cfg: Config) -> None:
        """``segment_batch`` forms the batches."""

    def _init_visualizer(self, cfg: Config) -> None:
        """Functions draw; no visualizer is started."""

    def __call__(self,
                 inputs: Inputs,
                 batch_size: int = 1,
                 **kwargs: Any) -> Dict[str, list]:
        """Segment inputs and gather the results; see :meth:`stream`.

        Returns:
            dict[str, list]: ``predictions`` and ``visualization`` (empty
            without ``return_vis``), as :meth:`stream` yields them. What
            cannot be read is logged, too.
        """
        named = self._inputs_to_list(inputs)
        gathered: Dict[str, list] = dict(predictions=[], visualization=[])
        bar = None
        if self.show_progress:
            videos = any(entry.is_video for entry in named)
            bar = ProgressBar(0 if videos else len(named), file=sys.stdout)
        for prediction, picture in self.stream(named, batch_size, **kwargs):
            gathered['predictions'].append(prediction)
            if kwargs.get('return_vis'):
                gathered['visualization'].append(picture)
            if bar is not None:
                bar.update()
        if bar is not None:
            print()  # ends the line of the bar
        for prediction in gathered['predictions']:
            if isinstance(prediction, dict) and 'error' in prediction:
                print_log(prediction['error'], 'current', logging.WARNING)
        return gathered

    def stream(
        self,
        inputs: Union[Inputs, List[NamedInput]],
        batch_size: int = 1,
        return_vis: bool = False,
        no_save_vis: bool = False,
        pred_score_thr: Optional[float] = None,
        return_datasamples: bool = False,
        no_save_pred: bool = False,
        out_dir: str = '',
        save_frames: bool = False
    ) -> Iterator[Tuple[Union[dict, DetDataSample], Optional[np.ndarray]]]:
        """Segment inputs; results come as they are computed.

        With ``out_dir`` an image gets ``STEM_overlay.png``,
        ``STEM_panoptic.png`` and ``STEM_segments.json``, a video
        ``STEM_overlay.mp4``.

        Args:
            inputs (str | Path | np.ndarray | Sequence): Images (files or BGR
                arrays), folders of images, videos, or a list of those.
            batch_size (int): How many images are read at a time; those of
                one padded size go through the network together.
            return_vis (bool): Whether to return the overlays.
            no_save_vis (bool): Whether to write no overlay.
            pred_score_thr (float, optional): Least score of an instance on
                the panoptic map; the config's by default.
            return_datasamples (bool): Whether a prediction is the
                ``DetDataSample``, which has instances and semantic map, too.
            no_save_pred (bool): Whether to write no PNG and JSON.
            out_dir (str): Folder of the files; without it none is written.
            save_frames (bool): Whether frames of a video get PNG and JSON,
                too, as ``STEM_frames/NUMBER_*``.

        Yields:
            tuple[dict, np.ndarray | None]: For each image or frame, in
            order, ``image``, ``height``, ``width``, ``segments`` (see
            ``results.py``); of a video ``frame``, the number from 0, and
            ``last_frame``, whether it is the last one;
            ``overlay_path``, ``panoptic_seg_path``, ``segments_path`` of
            what was written; without PNG files ``panoptic_seg``, the ids
            (h, w), 0 = void. For a file that cannot be read ``image`` and
            ``error``. And the overlay, RGB uint8, or None.

        Raises:
            InputError: An argument is wrong, there is no input, or
                ``out_dir`` cannot be written to.
        """
        named = self._inputs_to_list(inputs)
        if out_dir:
            with _writing_to(out_dir):
                mkdir_or_exist(out_dir)
        videos: List[VideoResult] = []
        try:
            for batch in self.preprocess(named, batch_size):
                results = self.forward(batch, pred_score_thr)
                videos = [each.video for each in results if each.video]
                with _writing_to(out_dir):
                    pictures = self.visualize(named, results, return_vis,
                                              '' if no_save_vis else out_dir)
                    found = self.postprocess(results, pictures,
                                             return_datasamples,
                                             '' if no_save_pred else out_dir,
                                             save_frames)
                yield from zip(found['predictions'], found['visualization'])
        finally:
            for video in videos:
                video.discard()

    def _inputs_to_list(self, inputs: Any) -> List[NamedInput]:
        """One entry for each image and video; folders become their images,
        each file occurs once. What is named already stays.

        Raises:
            InputError: There is none.
        """
        if isinstance(inputs, list) and inputs and all(
                isinstance(entry, NamedInput) for entry in inputs):
            return inputs
        if isinstance(inputs, (str, Path, np.ndarray)):
            inputs = [inputs]
        values: Dict[str, Union[str, np.ndarray]] = {}
        for entry in inputs:
            if isinstance(entry, np.ndarray):
                self.num_arrays += 1
                values[f'image {self.num_arrays}'] = entry
            else:
                values.update((f, f) for f in find_images([os.fspath(entry)]))
        if not values:
            raise InputError(f'{inputs}: no image. Give image files, '
                             'folders of images, arrays or videos.')
        stems = unique_stems([
            source if isinstance(value, str) else source.replace(' ', '_')
            for source, value in values.items()
        ])
        return [
            NamedInput(value, source, stem)
            for (source, value), stem in zip(values.items(), stems)
        ]

    def preprocess(self,
                   inputs: List[NamedInput],
                   batch_size: int = 1) -> Iterator[List[Loaded]]:
        """Load images and frames.

        Yields:
            list[tuple]: ``batch_size`` results to be filled, each with what
            was loaded for it.
        """
        return batches(self._load(inputs), batch_size)

    def _load(self, inputs: List[NamedInput]) -> Iterator[Loaded]:
        for entry in inputs:
            if entry.is_video:
                yield from self._load_video(entry)
            else:
                result = PanopticResult(entry.source, stem=entry.stem)
                yield result, self.pipeline(entry.value, result)

    def _load_video(self, entry: NamedInput) -> Iterator[Loaded]:
        try:
            frames = VideoFrames(entry.source)
        except CorruptFileError as error:
            yield PanopticResult(
                entry.source, error=str(error), stem=entry.stem), None
            return
        video = VideoResult(frames, SteadyOverlay(self.model.label_space),
                            entry.stem)
        before: Optional[Loaded] = None  # until its successor is read
        try:
            for number, frame in enumerate(frames):
                if before is not None:
                    yield before
                result = PanopticResult(
                    entry.source,
                    stem=osp.join(f'{entry.stem}_frames', f'{number:06d}'),
                    frame=number,
                    video=video)
                before = result, self.pipeline(frame, result)
            assert before is not None  # a video has a frame, see VideoFrames
            before[0].last_frame = True
            yield before
        finally:
            frames.close()

    def forward(
            self,
            inputs: List[Loaded],
            pred_score_thr: Optional[float] = None) -> List[PanopticResult]:
        """Segment a batch; see :func:`segment_batch`."""
        with _score_threshold(self.model, pred_score_thr):
            return segment_batch(self.model, inputs, self.amp)

    def visualize(self,
                  inputs: List[NamedInput],
                  preds: List[PanopticResult],
                  return_vis: bool = False,
                  img_out_dir: str = '') -> List[Optional[np.ndarray]]:
        """Draw overlays, and write them where there is a folder.

        Returns:
            list[np.ndarray | None]: RGB uint8; None for what cannot be read,
            and for all if neither is wanted.
        """
        pictures: List[Optional[np.ndarray]] = []
        for pred in preds:
            picture = None
            if not pred.error and (return_vis or img_out_dir):
                picture = self._draw(pred, img_out_dir)
            pictures.append(picture if return_vis else None)
        return pictures

    def _draw(self, pred: PanopticResult, folder: str) -> np.ndarray:
        assert pred.image is not None  # as there is no error
        if pred.video is None:
            picture = draw_overlay(pred.image, pred.sample,
                                   self.model.label_space)
        else:
            scale = display_scale(pred.image.shape, OVERLAY_SIZE)
            picture = pred.video.overlay.draw(pred.image, pred.sample, scale)
        if folder and pred.video is None:
            path = osp.join(folder, f'{pred.stem}_overlay.png')
            write_image(path, picture)
            pred.files['overlay_path'] = path
        elif folder:
            pred.files['overlay_path'] = pred.video.write(
                picture, folder, pred.last_frame)
        return picture

    def postprocess(self,
                    preds: List[PanopticResult],
                    visualization: List[Optional[np.ndarray]],
                    return_datasamples: bool = False,
                    pred_out_dir: str = '',
                    save_frames: bool = False) -> Dict[str, list]:
        """Describe results, and write PNG and JSON where there is a folder.

        Returns:
            dict[str, list]: ``predictions`` and ``visualization``.
        """
        predictions: List[Union[dict, DetDataSample]] = []
        for pred in preds:
            if pred.error:
                predictions.append(dict(image=pred.source, error=pred.error))
                continue
            prediction = self._describe(pred, pred_out_dir, save_frames)
            predictions.append(
                pred.sample if return_datasamples else prediction)
        return dict(predictions=predictions, visualization=visualization)

    def _describe(self, pred: PanopticResult, out_dir: str,
                  save_frames: bool) -> dict:
        ids, description = describe_result(pred.sample, self.model.label_space,
                                           pred.source)
        if pred.frame is not None:
            description['frame'] = pred.frame
        found = dict(description)
        if not out_dir:
            found['panoptic_seg'] = ids
        elif pred.frame is None or save_frames:
            paths = write_segments(ids, dict(self.made_with, **description),
                                   out_dir, pred.stem)
            found.update(
                panoptic_seg_path=paths['panoptic'],
                segments_path=paths['segments'])
        if pred.frame is not None:
            found['last_frame'] = pred.last_frame
        return dict(found, **pred.files)


@contextmanager
def _score_threshold(model: nn.Module,
                     score: Optional[float]) -> Iterator[None]:
    """Let the merge keep instances from another score on."""
    if score is None:
        yield
        return
    if not 0 <= score <= 1:
        raise InputError(f'pred_score_thr={score}: is not within 0 .. 1.')
    merge = model.panoptic_fusion_head
    own, merge.thresholds = merge.thresholds, dict(
        merge.thresholds, score_thr=score)
    try:
        yield
    finally:
        merge.thresholds = own


@contextmanager
def _writing_to(folder: str) -> Iterator[None]:
    """Name the folder where a file cannot be written."""
    try:
        yield
    except OSError as error:
        if not folder:
            raise
        raise InputError(f'{folder}: cannot write ({error}). Choose '
                         'another folder or make room.') from None
