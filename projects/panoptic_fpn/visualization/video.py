"""Video files and streams: frames in, overlays out.

Frames are uint8 (h, w, 3), BGR when read and RGB when written, as images are.
"""
import logging
import os
import os.path as osp
import re
from contextlib import suppress
from fractions import Fraction
from pathlib import Path
from secrets import token_hex
from typing import Any, Iterator, Optional
from urllib.parse import urlsplit

import av
import cv2
import numpy as np
from mmdet.structures import DetDataSample
from mmengine.logging import print_log

from mmengine_exact.errors import CorruptFileError

from ..labels import LabelSpace
from .drawing import OVERLAY_SIZE, display_scale
from .samples import draw_numbered

#: Suffixes of files that are read as videos.
VIDEO_SUFFIXES = ('.mp4', '.avi', '.mov', '.mkv', '.webm', '.m4v')

#: Numbers of cameras and addresses; what http serves may be an image.
_STREAM = re.compile(
    r'\d+$|/dev/video\d+$|(rtsps?|rtmps?|rtp|udp|tcp|srt|mms)://|'
    r'https?://(?!.*\.(jpe?g|png|bmp|webp|tiff?)($|\?))', re.IGNORECASE)

#: Frames a second where a file does not say.
_DEFAULT_FPS = 25.


def is_stream(path: str) -> bool:
    """Whether a path is the number of a camera ('0') or the address of a
    stream (rtsp://, http://...m3u8), and no file."""
    return bool(_STREAM.match(path)) and not osp.isfile(path)


def stream_name(address: str) -> str:
    """Name of a stream for files, without user, password and options."""
    parts = urlsplit(address)
    name = Path(parts.path).stem or parts.hostname or 'stream'
    return re.sub(r'\W+', '_', name)


class VideoFrames:
    """Frames of a local video file or a stream, one after another, once.

    A file with fewer frames than it says is logged.

    Args:
        path (str): The file, or see :func:`is_stream`.
        max_frames (int, optional): How many frames to read at most.

    Attributes:
        fps (float): Frames a second.
        is_live (bool): Whether it is a stream, which may have no end.
        at_end (bool): Whether the frame just returned is the last one.

    Raises:
        CorruptFileError: It is missing, or OpenCV cannot read any frame.
    """

    def __init__(self, path: str, max_frames: Optional[int] = None) -> None:
        self.path, self.is_live = path, is_stream(path)
        self.max_frames, self._count = max_frames, 0
        if not self.is_live and not osp.isfile(path):
            raise CorruptFileError(f'{path}: no such video. Correct the path.')
        camera = int(path) if path.isdecimal() else path
        self._capture = cv2.VideoCapture(camera)
        self._next = self._read()
        if self.at_end:
            what, fix = 'a stream', 'Correct its address or the camera number'
            if not self.is_live:
                what = f'{osp.getsize(path)} bytes'
                fix = 'Replace the file or convert it to MP4 (H.264)'
            raise CorruptFileError(
                f'{path}: {what} of which OpenCV can read no frame. {fix}.')
        fps = self._capture.get(cv2.CAP_PROP_FPS)
        self.fps = fps if 0 < fps < 1000 else _DEFAULT_FPS

    def _read(self) -> Any:
        """The next frame; None at the end."""
        if self._count == self.max_frames:
            return None
        frame = self._capture.read()[1]
        if frame is not None:
            self._count += 1
            return frame
        stated = int(self._capture.get(cv2.CAP_PROP_FRAME_COUNT))
        # some files count by the clock
        if self._count and stated - self._count > max(1, stated // 50):
            print_log(
                f'{self.path}: {self._count} frames could be read of {stated} '
                'that it claims to have: it is cut off or damaged. The '
                'results are those of the frames before.',
                logger='current',
                level=logging.WARNING)
        return None

    @property
    def at_end(self) -> bool:
        return self._next is None

    def __iter__(self) -> Iterator[np.ndarray]:
        while self._next is not None:
            frame, self._next = self._next, self._read()
            yield frame


class VideoWriter:
    """An MP4 (H.264, as browsers play it), complete or not there at all.

    H.264 halves the resolution of colour, so the last row or column of an
    odd size is left out.

    Args:
        path (str): Local file ``*.mp4``; its folder is created.
        fps (float): Frames a second.
        keep (bool): Whether what there is is kept where it is discarded.

    Raises:
        OSError: From any method: the folder cannot be written to, or the disk
            is full.
    """

    def __init__(self, path: str, fps: float, keep: bool = False) -> None:
        self.path, self.keep = path, keep
        folder, name = osp.split(osp.abspath(path))
        self._partial = osp.join(folder, f'.{token_hex(4)}{name}')
        self._rate = Fraction(fps).limit_denominator(1001)
        self._file: Any = None

    def write(self, picture: np.ndarray) -> None:
        """Append a frame, RGB uint8 (h, w, 3), all of one size."""
        height, width = (side - side % 2 for side in picture.shape[:2])
        if self._file is None:
            os.makedirs(osp.dirname(self._partial), exist_ok=True)
            self._file = av.open(
                self._partial, 'w', options=dict(movflags='faststart'))
            self._stream = self._file.add_stream('libx264', rate=self._rate)
            self._stream.height, self._stream.width = height, width
            self._stream.pix_fmt = 'yuv420p'
        frame = av.VideoFrame.from_ndarray(
            np.ascontiguousarray(picture[:height, :width]), 'rgb24')
        self._file.mux(self._stream.encode(frame))

    def close(self) -> None:
        """Finish the file and give it its name."""
        if self._file is not None:
            self._file.mux(self._stream.encode())
            self._file.close()
            self._file = None
            os.replace(self._partial, self.path)

    def discard(self) -> None:
        """Remove a file that was not closed, unless it is to be kept."""
        if self.keep:
            self.close()
        if self._file is not None:
            with suppress(OSError):
                self._file.close()
            self._file = None
            with suppress(OSError):
                os.unlink(self._partial)


class SteadyOverlay:
    """Overlays of successive frames, in which a thing keeps its colour.

    A thing has the number, and so the colour, of the thing that it overlaps
    by more than half in the frame before (IoU, same class). That is for the
    eye: nothing is tracked, and results have the numbers of their own frame.

    Args:
        space (LabelSpace): The classes.
    """

    def __init__(self, space: LabelSpace) -> None:
        self.space = space
        self._before: Optional[np.ndarray] = None

    def draw(self,
             image: np.ndarray,
             sample: DetDataSample,
             scale: Optional[int] = None) -> np.ndarray:
        """Draw the next frame, RGB uint8 (h, w, 3), with its
        ``pred_panoptic_seg``: (scale * h, scale * w, 3)."""
        scale = scale or display_scale(image.shape, OVERLAY_SIZE)
        picture, self._before = draw_numbered(
            image, sample, self.space, self._before, scale=scale)
        return picture
