"""Videos: frames in, complete files out, colours that stay."""
import av
import cv2
import numpy as np
import pytest

from mmengine_exact.errors import CorruptFileError
from panoptic_fpn.visualization.drawing import draw_panoptic
from panoptic_fpn.visualization.video import (SteadyOverlay, VideoFrames,
                                              VideoWriter, is_stream,
                                              stream_name)

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


def encode(path, codec, count=60):
    """A video of noise, which does not compress well."""
    rng = np.random.default_rng(0)
    with av.open(str(path), 'w', options=dict(movflags='faststart')) as file:
        stream = file.add_stream(codec, rate=30)
        stream.width, stream.height, stream.pix_fmt = 64, 48, 'yuv420p'
        for _ in range(count):
            picture = rng.integers(0, 256, (48, 64, 3)).astype(np.uint8)
            file.mux(stream.encode(av.VideoFrame.from_ndarray(picture)))
        file.mux(stream.encode())
    return path


@pytest.mark.parametrize('name, codec', [('a.mp4', 'libx264'),
                                         ('a.mkv', 'libx264'),
                                         ('a.avi', 'mpeg4')])
@pytest.mark.parametrize('harm', ['none', 'cut off', 'a hole'])
def test_a_video_that_ends_early_is_named(tmp_path, log, name, codec, harm):
    """With how many frames were read; those are there."""
    path = encode(tmp_path / name, codec)
    content = bytearray(path.read_bytes())
    size = len(content)
    if harm == 'cut off':
        content = content[:size * 6 // 10]
    elif harm == 'a hole':
        content[size // 2:size * 7 // 10] = bytes(size * 7 // 10 - size // 2)
    path.write_bytes(content)
    count = len(list(VideoFrames(str(path))))
    if harm == 'none':
        assert count == 60 and not log.getvalue()
    else:
        assert 20 < count < 59
        assert f'{path}: {count} frames could be read of 60' in log.getvalue()


def test_no_more_frames_than_asked_for(tmp_path, log):
    path = tmp_path / 'clip.mp4'
    write(path).close()
    frames = VideoFrames(str(path), max_frames=2)
    assert [frames.at_end for _ in frames] == [False, True]
    assert not log.getvalue()


@pytest.mark.parametrize('address, name', [
    ('rtsp://me:secret@10.0.0.1:554/ch1?x=2', 'ch1'),
    ('RTSP://10.0.0.1', '10_0_0_1'),
    ('http://host/live/index.m3u8?token=a.b', 'index'),
    ('https://host:8080/video', 'video'),
    ('http://host/clip.mp4', 'clip'),
    ('udp://@:1234', 'stream'),
    ('0', '0'),
    ('/dev/video0', 'video0'),
    ('http://host/photo.JPG', None),
    ('https://host/get?file=photo.png', None),
    ('s3://bucket/clip.mp4', None),
    ('clip.mp4', None),
    ('2024/photo.jpg', None),
])
def test_addresses_of_streams(address, name):
    assert is_stream(address) == (name is not None)
    if name is not None:
        assert stream_name(address) == name


def test_a_file_is_no_camera(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert is_stream('7')
    (tmp_path / '7').touch()
    assert not is_stream('7')


@pytest.mark.parametrize('address', ['rtsp://127.0.0.1:1/x', '97'])
def test_a_stream_that_does_not_send(address):
    with pytest.raises(CorruptFileError, match=f'{address}: a stream.*camera'):
        VideoFrames(address)


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


def test_a_stream_may_change_its_size():
    overlay = SteadyOverlay(SPACE)
    for size in ((60, 90), (120, 160)):
        image, panoptic = scene(*size)
        assert overlay.draw(image, sample(panoptic), 1).shape == (*size, 3)
