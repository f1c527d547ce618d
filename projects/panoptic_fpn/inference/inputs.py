"""What an inferencer is given: images, folders and videos, named and loaded.

Arrays are BGR uint8 (h, w, 3).
"""
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import (Dict, Iterable, Iterator, List, Optional, Sequence, Tuple,
                    Union)

import numpy as np

from mmengine_exact.errors import CorruptFileError

from ..labels import LabelSpace
from ..visualization.video import (VIDEO_SUFFIXES, SteadyOverlay, VideoFrames,
                                   VideoWriter)
from .inference import ImageInput, ImageLoader, Loaded, PanopticResult
from .results import find_images, unique_stems


@dataclass
class NamedInput:
    """One image or video.

    Attributes:
        value (str | np.ndarray): A file or a BGR array.
        source (str): The file, or 'image N' for the N-th array.
        stem (str): First part of the names of its results.
    """

    value: Union[str, np.ndarray]
    source: str
    stem: str

    @property
    def is_video(self) -> bool:
        """Whether it is a file with the suffix of a video."""
        return isinstance(self.value,
                          str) and self.value.lower().endswith(VIDEO_SUFFIXES)

    @property
    def num_images(self) -> int:
        """Frames of a video by its own account (0: it gives none), or 1."""
        if not self.is_video:
            return 1
        assert isinstance(self.value, str)  # a video is a file
        try:
            frames = VideoFrames(self.value)
        except CorruptFileError:
            return 1  # the one result that says so
        frames.close()
        return frames.num_frames


@dataclass
class VideoResult:
    """What frames of one video share."""

    frames: VideoFrames
    overlay: SteadyOverlay
    writer: Optional[VideoWriter] = None

    def discard(self) -> None:
        """Close the file that is read; remove one that is unfinished."""
        self.frames.close()
        if self.writer is not None:
            self.writer.discard()


@dataclass
class NamedResult(PanopticResult):
    """What became of one image or frame, and where it belongs.

    Attributes:
        stem (str): First part of the names of its files.
        frame (int | None): Of a video, counted from 0.
        video (VideoResult | None): Its video.
        last (bool): Whether it is the last frame.
        files (dict[str, str]): Paths of what was written.
    """

    stem: str = ''
    frame: Optional[int] = None
    video: Optional[VideoResult] = None
    last: bool = False
    files: Dict[str, str] = field(default_factory=dict)


def name_inputs(inputs: Union[ImageInput, Sequence[ImageInput]],
                first_number: int = 1) -> List[NamedInput]:
    """One entry for each image and video; folders become their images.

    Args:
        inputs (str | Path | np.ndarray | Sequence): Files, folders, arrays.
        first_number (int): Of the first array.

    Returns:
        list[NamedInput]: In order; each file once.
    """
    if isinstance(inputs, (str, Path, np.ndarray)):
        inputs = [inputs]
    values: List[Union[str, np.ndarray]] = []
    known = set()
    for entry in inputs:
        if isinstance(entry, np.ndarray):
            values.append(entry)
            continue
        files = [f for f in find_images([os.fspath(entry)]) if f not in known]
        known.update(files)
        values += files
    sources: List[str] = []
    number = first_number
    for value in values:
        if isinstance(value, str):
            sources.append(value)
        else:
            sources.append(f'image {number}')
            number += 1
    stems = unique_stems([
        source if isinstance(value, str) else source.replace(' ', '_')
        for source, value in zip(sources, values)
    ])
    return [
        NamedInput(value, source, stem)
        for value, source, stem in zip(values, sources, stems)
    ]


def load_inputs(inputs: Iterable[NamedInput], load: ImageLoader,
                space: LabelSpace) -> Iterator[Loaded]:
    """Load images and the frames of videos, one after another.

    Args:
        inputs (Iterable[NamedInput]): What to load.
        load (ImageLoader): How an image is loaded.
        space (LabelSpace): The classes.

    Yields:
        tuple[NamedResult, dict | None]: As ``segment_batch`` takes it.
    """
    for entry in inputs:
        if entry.is_video:
            yield from _load_video(entry, load, space)
        else:
            result = NamedResult(entry.source, stem=entry.stem)
            yield result, load(entry.value, result)


def _load_video(entry: NamedInput, load: ImageLoader,
                space: LabelSpace) -> Iterator[Loaded]:
    assert isinstance(entry.value, str)  # a video is a file
    try:
        frames = VideoFrames(entry.value)
    except CorruptFileError as error:
        yield NamedResult(
            entry.source, error=str(error), stem=entry.stem), None
        return
    video = VideoResult(frames, SteadyOverlay(space))
    try:
        # until it is known not to be the last one
        waiting: Optional[Tuple[NamedResult, Optional[dict]]] = None
        for number, frame in enumerate(frames):
            if waiting is not None:
                yield waiting
            result = NamedResult(
                entry.source,
                stem=os.path.join(f'{entry.stem}_frames', f'{number:06d}'),
                frame=number,
                video=video)
            waiting = result, load(frame, result)
        assert waiting is not None  # a video has a frame, see VideoFrames
        waiting[0].last = True
        yield waiting
    finally:
        frames.close()
