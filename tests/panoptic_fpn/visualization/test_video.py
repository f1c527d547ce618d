"""Videos: frames in, complete files out, colours that stay."""
import av
import cv2
import numpy as np
import pytest

from mmengine_exact.errors import CorruptFileError
from panoptic_fpn.visualization.drawing import draw_panoptic
from panoptic_fpn.visualization.video import (SteadyOverlay, VideoFrames,
                                              VideoWriter)

from .scenes import BOX, SPACE, sample, scene

SHADES = [20, 80, 140, 200, 250]


def write(path, shades=SHADES, size=(64, 96)):
    writer = VideoWriter(str(path), 12.5)
    for shade in shades:
        # RGB: red has the shade
        picture = np.zeros((*size, 3), np.uint8)
        picture[..., 0] = shade
        writer.write(picture)
    return writer


def test_frames_come_back(tmp_path):
    """H.264 is lossy: flat colours come back up to a few steps. Of odd sizes a
    row and a column are lost."""
    path = tmp_path / 'new' / 'clip.mp4'
    write(path, size=(65, 97)).close()
    frames = VideoFrames(str(path))
    assert frames.fps == pytest.approx(12.5)
    found = list(frames)
    assert len(found) == len(SHADES)
    assert all(f.shape == (64, 96, 3) and f.dtype == np.uint8 for f in found)
    assert [f[..., 2].mean() for f in found] == pytest.approx(SHADES, abs=6)
    assert max(f[..., :2].max() for f in found) < 16
    # browsers play H.264 of 4:2:0 with the index before the frames
    with av.open(str(path)) as file:
        stream, = file.streams.video
        assert stream.codec_context.name == 'h264'
        assert stream.pix_fmt == 'yuv420p'
        assert stream.average_rate == 12.5
    content = path.read_bytes()
    assert content.index(b'moov') < content.index(b'mdat')


def test_an_unfinished_video_leaves_what_was_there(tmp_path):
    path = tmp_path / 'clip.mp4'
    writer = write(path)
    assert not path.exists()
    writer.discard()
    writer.close()  # nothing left to finish
    assert list(tmp_path.iterdir()) == []
    write(path).close()
    before = path.read_bytes()
    writer = write(path, SHADES[:2])
    assert path.read_bytes() == before
    writer.close()
    writer.discard()
    assert len(list(VideoFrames(str(path)))) == 2


def test_files_that_are_no_videos(tmp_path):
    with pytest.raises(CorruptFileError, match='none.mp4: no such video'):
        VideoFrames(str(tmp_path / 'none.mp4'))
    broken = tmp_path / 'broken.mp4'
    broken.write_bytes(b'\0\0\0\x18ftypmp42 cut off')
    with pytest.raises(CorruptFileError, match='broken.mp4: 20 bytes .*MP4'):
        VideoFrames(str(broken))


def color_of(picture, panoptic, code):
    """Median colour in the middle of a segment."""
    inside = (panoptic == code).astype(np.uint8)
    inside = cv2.erode(inside, np.ones((5, 5)), borderValue=0) > 0
    return np.median(picture[inside], axis=0).tolist()


def test_a_thing_keeps_its_color():
    """Three boxes move and come in another order: numbers change, colours do
    not; a single frame would change them. The result is not changed."""
    image = np.full((240, 360, 3), 128, np.uint8)
    _, first = scene(240, 360)
    second = np.roll(first, 8, axis=1)
    swapped = second.copy()
    for old, new in ((1, 3), (2, 1), (3, 2)):
        swapped[second == BOX + 1000 * old] = BOX + 1000 * new
    kept = swapped.copy()
    overlay = SteadyOverlay(SPACE)
    one = overlay.draw(image, sample(first), scale=1)
    two = overlay.draw(image, sample(swapped), scale=1)
    assert np.array_equal(swapped, kept)
    alone = draw_panoptic(image, swapped, SPACE, names=False, scale=1)
    changed = 0
    for old, new in ((1, 3), (2, 1), (3, 2)):
        before = color_of(one, first, BOX + 1000 * old)
        after = color_of(two, swapped, BOX + 1000 * new)
        assert before == pytest.approx(after, abs=2)
        changed += color_of(alone, swapped, BOX + 1000 * new) != after
    assert changed == 3
    assert not np.array_equal(one, two)
