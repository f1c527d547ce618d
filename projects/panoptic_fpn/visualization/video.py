"""Video files: frames in, overlays out.

Frames are uint8 (h, w, 3), BGR when read and RGB when written, as images are.
"""
import errno
import os
import os.path as osp
from contextlib import suppress
from secrets import token_hex
from typing import Iterator, Optional

import cv2
import numpy as np
from mmdet.structures import DetDataSample

from mmengine_exact.errors import CorruptFileError

from ..labels import INSTANCE_OFFSET, LabelSpace
from .colors import match_numbers
from .drawing import draw_panoptic
from .samples import panoptic_map, thing_scores

#: Suffixes of files that are read as videos.
VIDEO_SUFFIXES = ('.mp4', '.avi', '.mov', '.mkv', '.webm', '.m4v')

#: Frames a second where a file does not say.
_DEFAULT_FPS = 25.

#: Colours start anew before numbers of things get too large for a table.
_MAX_NUMBER = 10_000


class VideoFrames:
    """Frames of a video file, one after another.

    Args:
        path (str): A local file.

    Attributes:
        fps (float): Frames a second.
        num_frames (int): What the file says of itself, which may not be how
            many can be read; 0 where it says nothing.

    Raises:
        CorruptFileError: It is missing, or OpenCV cannot read any frame.
    """

    def __init__(self, path: str) -> None:
        if not osp.isfile(path):
            raise CorruptFileError(f'{path}: no such video. Correct the path.')
        self._capture = cv2.VideoCapture(path)
        read, self._first = self._capture.read()
        if not read:
            self.close()
            raise CorruptFileError(
                f'{path}: {osp.getsize(path)} bytes of which OpenCV can read '
                'no frame. Replace the file or convert it to MP4 (H.264).')
        fps = self._capture.get(cv2.CAP_PROP_FPS)
        self.fps = fps if 0 < fps < 1000 else _DEFAULT_FPS
        count = self._capture.get(cv2.CAP_PROP_FRAME_COUNT)
        self.num_frames = int(count) if 0 < count < 2**31 else 0

    def __iter__(self) -> Iterator[np.ndarray]:
        """Yields: BGR frames; once."""
        frame, self._first = self._first, None
        while frame is not None:
            yield frame
            _, frame = self._capture.read()
        self.close()

    def close(self) -> None:
        """Give the file back."""
        self._capture.release()


class VideoWriter:
    """An MP4 that is complete or not there at all.

    The codec is MPEG-4 part 2, which every OpenCV has; browsers do not play
    it. It leaves out the last row or column of an odd number.

    Args:
        path (str): Local file ``*.mp4``; its folder is made.
        fps (float): Frames a second.
    """

    def __init__(self, path: str, fps: float) -> None:
        self.path = path
        self.fps = fps
        folder, name = osp.split(osp.abspath(path))
        os.makedirs(folder, exist_ok=True)
        self._partial = osp.join(folder, f'.{token_hex(4)}{name}')
        self._writer: Optional[cv2.VideoWriter] = None

    def write(self, picture: np.ndarray) -> None:
        """Append a frame, RGB uint8 (h, w, 3), all of one size.

        Raises:
            OSError: The folder cannot be written to.
        """
        if self._writer is None:
            self._writer = cv2.VideoWriter(self._partial,
                                           cv2.VideoWriter.fourcc(*'mp4v'),
                                           self.fps, picture.shape[1::-1])
            if not self._writer.isOpened():
                raise OSError(errno.EIO, 'no video can be written here',
                              self.path)
        self._writer.write(picture[..., ::-1])

    def close(self) -> None:
        """Finish the file and give it its name.

        Raises:
            OSError: Nothing was written, as on a full disk.
        """
        if self._writer is not None:
            self._writer.release()
            self._writer = None
            os.replace(self._partial, self.path)

    def discard(self) -> None:
        """Remove a file that was not closed."""
        if self._writer is not None:
            self._writer.release()
            self._writer = None
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
        """Draw the next frame.

        Args:
            image (np.ndarray): RGB uint8 of shape (h, w, 3).
            sample (:obj:`DetDataSample`): With ``pred_panoptic_seg``.
            scale (int, optional): Enlargement.

        Returns:
            np.ndarray: RGB uint8 of shape (scale * h, scale * w, 3).
        """
        space = self.space
        panoptic = panoptic_map(sample, 'pred_panoptic_seg')
        notes = {c: f'{s:.2f}' for c, s in thing_scores(sample).items()}
        if (self._before is not None
                and self._before.max() < _MAX_NUMBER * INSTANCE_OFFSET):
            panoptic, new = match_numbers(panoptic, self._before,
                                          space.num_things, space.void)
            notes = {new[c]: note for c, note in notes.items() if c in new}
        self._before = panoptic
        return draw_panoptic(
            image,
            panoptic,
            space.names,
            space.palette,
            space.num_things,
            notes,
            scale=scale)
