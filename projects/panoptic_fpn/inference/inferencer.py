"""Images, folders, videos and streams in; results, pictures, files out.

``PanopticInferencer`` is to panoptic maps what mmdet's ``DetInferencer`` is
to boxes, with its arguments as far as they make sense here. It differs where
files are many or bad: one that cannot be read is reported and the others go
on, results are available one by one (:meth:`PanopticInferencer.stream`), and
no image changes the result of another one in its batch.

Images given as arrays are BGR uint8 (h, w, 3); pictures are RGB.
"""
import logging
import os
import os.path as osp
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Dict, Iterator, List, Optional, Sequence, Tuple, Union

import numpy as np
import torch
from mmdet.structures import DetDataSample
from mmengine.config import Config
from mmengine.logging import print_log
from mmengine.utils import mkdir_or_exist, track_iter_progress

from mmengine_exact import model_record
from mmengine_exact.amp import Amp
from mmengine_exact.errors import CorruptFileError, InputError

from ..visualization.image_io import write_image
from ..visualization.video import (VIDEO_SUFFIXES, SteadyOverlay, VideoFrames,
                                   VideoWriter, is_stream, stream_name)
from .inference import (Checkpoints, ImageInput, ImageLoader, PanopticResult,
                        batches, init_model, segment_batch)
from .results import describe_result, find_images, unique_stems, write_segments

Inputs = Union[ImageInput, Sequence[ImageInput]]
Value = Union[str, np.ndarray]
#: What is found on an image or frame, and its overlay.
Found = Tuple[Union[dict, DetDataSample], Optional[np.ndarray]]


class PanopticInferencer:
    """Panoptic segmentation of images, folders, videos and streams.

    Example:
        >>> inferencer = PanopticInferencer('CONFIG.py', 'CHECKPOINT.pth')
        >>> found = inferencer('photo.jpg', out_dir='work_dirs/photos')
        >>> found['predictions'][0]['segments']

    Args:
        config, checkpoint, cfg_options: See :func:`init_model`.
        device (str, optional): 'cpu', 'cuda:0', ...; by default the first
            GPU, or else the CPU.
        amp (bool or str): See :func:`inference_panoptic`.
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
                 amp: Amp = False,
                 cfg_options: Optional[dict] = None,
                 show_progress: bool = True,
                 record: bool = False) -> None:
        if device is None:
            device = 'cuda:0' if torch.cuda.is_available() else 'cpu'
        if isinstance(checkpoint, Path):
            checkpoint = str(checkpoint)  # as records have it
        self.model = init_model(config, checkpoint, device, cfg_options)
        self.cfg = self.model.cfg
        self.load = ImageLoader(self.model)
        self.amp, self.show_progress = amp, show_progress
        self.made_with: dict = {}
        if record:
            self.made_with = dict(model=model_record(self.cfg, checkpoint))
        self.num_arrays = 0  # over all calls: each has a name of its own

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
        values = _list_inputs(inputs)
        stream = self.stream(values, batch_size, **kwargs)
        if self.show_progress:
            total = 0 if any(map(_is_video, values)) else len(values)
            stream = track_iter_progress((stream, total), file=sys.stdout)
        found = list(stream)
        for prediction, _ in found:
            if isinstance(prediction, dict) and 'error' in prediction:
                print_log(prediction['error'], 'current', logging.WARNING)
        return dict(
            predictions=[prediction for prediction, _ in found],
            visualization=[picture for _, picture in found]
            if kwargs.get('return_vis') else [])

    def stream(self,
               inputs: Inputs,
               batch_size: int = 1,
               return_vis: bool = False,
               no_save_vis: bool = False,
               pred_score_thr: Optional[float] = None,
               return_datasamples: bool = False,
               no_save_pred: bool = False,
               out_dir: str = '',
               save_frames: bool = False,
               max_frames: Optional[int] = None) -> Iterator[Found]:
        """Segment inputs; results come as they are computed.

        With ``out_dir`` an image gets ``STEM_overlay.png``,
        ``STEM_panoptic.png`` and ``STEM_segments.json``, a video
        ``STEM_overlay.mp4``.

        Args:
            inputs (str | Path | np.ndarray | Sequence): Images (files or BGR
                arrays), videos, folders of both, streams (addresses such as
                'rtsp://...', numbers of cameras such as '0'), or a list of
                those.
            batch_size, pred_score_thr: See :func:`inference_panoptic`.
            return_vis (bool): Whether to return the overlays.
            no_save_vis (bool): Whether to write no overlay.
            return_datasamples (bool): Whether a prediction is the
                ``DetDataSample``, which has instances and semantic map, too.
            no_save_pred (bool): Whether to write no PNG and JSON.
            out_dir (str): Folder of the files; without it none is written.
            save_frames (bool): Whether frames of a video get PNG and JSON,
                too, as ``STEM_frames/NUMBER_*``.
            max_frames (int, optional): How many frames of each video or
                stream to read at most. A stream is read until it ends or the
                caller stops, and its overlay is kept then.

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
        values = _list_inputs(inputs)
        with _writing_to(out_dir):
            mkdir_or_exist(out_dir)
        writers: List[VideoWriter] = []
        try:
            loaded = self._load(values, out_dir, max_frames)
            for batch in batches(loaded, batch_size):
                segment_batch(self.model, batch, self.amp, pred_score_thr)
                writers = [each.writer for each in batch if each.writer]
                with _writing_to(out_dir):
                    found = [
                        self._finish(result, return_vis, return_datasamples,
                                     '' if no_save_vis else out_dir,
                                     '' if no_save_pred else out_dir,
                                     save_frames) for result in batch
                    ]
                yield from found
        finally:
            for writer in writers:
                writer.discard()

    def _load(self, values: List[Value], out_dir: str,
              max_frames: Optional[int]) -> Iterator[PanopticResult]:
        sources, names = [], []
        for value in values:
            if isinstance(value, str):
                sources.append(value)
                names.append(stream_name(value) if is_stream(value) else value)
            else:
                self.num_arrays += 1
                sources.append(f'image {self.num_arrays}')
                names.append(f'image_{self.num_arrays}')
        for value, source, stem in zip(values, sources, unique_stems(names)):
            if _is_video(value):
                path = osp.join(out_dir, f'{stem}_overlay.mp4')
                yield from self._load_video(source, stem, path, max_frames)
            else:
                overlay = SteadyOverlay(self.model.label_space)
                yield self.load(
                    value, PanopticResult(source, stem=stem, overlay=overlay))

    def _load_video(self, path: str, stem: str, overlay_path: str,
                    max_frames: Optional[int]) -> Iterator[PanopticResult]:
        try:
            frames = VideoFrames(path, max_frames)
        except CorruptFileError as error:
            yield PanopticResult(path, error=str(error))
            return
        overlay = SteadyOverlay(self.model.label_space)
        writer = VideoWriter(overlay_path, frames.fps, frames.is_live)
        for number, frame in enumerate(frames):
            yield self.load(
                frame,
                PanopticResult(
                    path,
                    stem=osp.join(f'{stem}_frames', f'{number:06d}'),
                    frame=number,
                    last_frame=frames.at_end,
                    overlay=overlay,
                    writer=writer))

    def _finish(self, result: PanopticResult, return_vis: bool,
                return_datasamples: bool, vis_dir: str, pred_dir: str,
                save_frames: bool) -> Found:
        """Draw, describe and write a result; see :meth:`stream`."""
        if result.error:
            return dict(image=result.source, error=result.error), None
        ids, description = describe_result(result.sample,
                                           self.model.label_space,
                                           result.source)
        video = result.writer
        if video:
            description['frame'] = result.frame
        found = dict(description)
        if not pred_dir:
            found['panoptic_seg'] = ids
        elif save_frames or not video:
            paths = write_segments(ids, dict(self.made_with, **description),
                                   pred_dir, result.stem)
            found.update(
                panoptic_seg_path=paths['panoptic'],
                segments_path=paths['segments'])
        if video:
            found['last_frame'] = result.last_frame
        picture: Any = None
        if return_vis or vis_dir:
            picture = result.overlay.draw(result.image, result.sample)
        if vis_dir and video:
            video.write(picture)
            if result.last_frame:
                video.close()
            found['overlay_path'] = video.path
        elif vis_dir:
            path = osp.join(vis_dir, f'{result.stem}_overlay.png')
            write_image(path, picture)
            found['overlay_path'] = path
        return (result.sample if return_datasamples else found,
                picture if return_vis else None)


def _is_video(value: Value) -> bool:
    return isinstance(value, str) and (value.lower().endswith(VIDEO_SUFFIXES)
                                       or is_stream(value))


def _list_inputs(inputs: Inputs) -> List[Value]:
    """Arrays, and each file once; folders become their images and videos."""
    if isinstance(inputs, (str, Path, np.ndarray)):
        inputs = [inputs]
    found: Dict[Any, Value] = {}
    for number, entry in enumerate(inputs):
        if isinstance(entry, np.ndarray):
            found[number] = entry
        else:
            found.update((f, f) for f in find_images([os.fspath(entry)]))
    if not found:
        raise InputError(f'{inputs}: no image. Give images, videos, folders '
                         'of them, streams or arrays.')
    return list(found.values())


@contextmanager
def _writing_to(folder: str) -> Iterator[None]:
    """Name the folder where a file cannot be written."""
    try:
        yield
    except OSError as error:
        raise InputError(f'{folder}: cannot write ({error}). Choose '
                         'another folder or make room.') from None
