"""What the page shows, and its tool: without gradio and without a browser."""
import sys
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from panoptic_apps import web_page
from panoptic_fpn.inference.inferencer import PanopticInferencer
from panoptic_fpn.visualization.image_io import write_image
from panoptic_fpn.visualization.video import VideoFrames, VideoWriter
from tests import tiny
from tests.conftest import call_tool


@pytest.fixture(scope='module')
def files(tmp_path_factory):
    return tiny.write_tiny_model(tmp_path_factory.mktemp('model'))


@pytest.fixture(scope='module')
def segmenter(files):
    return web_page.Segmenter(PanopticInferencer(*map(str, files), 'cpu'))


def test_an_image(segmenter, tmp_path):
    path = str(tmp_path / 'a <b>.png')
    write_image(path, tiny.picture(96, 128))
    message, photo, panoptic, *others, rows = segmenter(path, 0.3)
    pictures = [photo, *others]
    assert message.startswith('a &lt;b&gt;.png: 128 x 96 pixels')
    base, masks = panoptic['value']
    assert base.shape == (720, 960, 3)
    assert {picture.shape for picture in pictures} == {(768, 1024, 3)}
    assert len({picture.tobytes() for picture in pictures}) == 3
    prediction, = segmenter.inferencer(path, pred_score_thr=0.3)['predictions']
    areas = [s['area'] for s in prediction['segments']]
    assert [row[4] for row in rows] == sorted(areas, reverse=True)
    # a name and a colour for each segment
    names = [name for _, name in masks]
    assert list(panoptic['color_map']) == names and len(names) == len(areas)
    shares = [(mask > 0).mean() for mask, _ in masks]
    assert shares == pytest.approx([a / (96 * 128) for a in areas], abs=2e-3)


def test_what_cannot_be_used(segmenter, tmp_path, monkeypatch):
    nothing = [None, dict(value=None), None, None, []]
    assert segmenter(None, 0.5) == ('', *nothing)
    path = str(tmp_path / 'bad.png')
    for content in (b'', b'no picture'):
        with open(path, 'wb') as file:
            file.write(content)
        message, *rest = segmenter(path, 0.5)
        assert 'Cannot be used' in message and 'bad.png: ' in message
        assert str(tmp_path) not in message
        assert rest == nothing
    write_image(path, tiny.picture(96, 128))
    monkeypatch.setattr(web_page, 'MAX_PIXELS', 96 * 128 - 1)
    assert 'bad.png: more than 0 million' in segmenter(path, 0.5)[0]


def test_masks_have_names_and_colours():
    """A map of 1 x 4 pixels, drawn three times as large."""
    codes, colors = [1002, 2002, 5], np.array([[1, 2, 3], [16, 32, 255],
                                               [9] * 3])
    found = web_page.annotate(
        np.zeros((3, 12, 3), np.uint8), np.array([[5, 1002, 1002, 2002]]),
        codes, colors.astype(np.uint8), [
            dict(id=1, isthing=1, category_name='cat'),
            dict(id=2, isthing=1, category_name='cat'),
            dict(id=3, isthing=0, category_name='sky')
        ])
    base, masks = found['value']
    assert base.shape == (3, 12, 3)
    assert [name for _, name in masks] == ['cat 1', 'cat 2', 'sky']
    assert found['color_map'] == {
        'cat 1': '#010203',
        'cat 2': '#1020ff',
        'sky': '#090909'
    }
    for (mask,
         _), columns in zip(masks,
                            ('000111111000', '000000000111', '111000000000')):
        assert ((mask > 0) == [c == '1' for c in columns]).all()


def test_masks_of_a_thin_picture():
    found = web_page.annotate(
        np.zeros((2, 6000, 3), np.uint8), np.full((2, 6000), 5), [5],
        np.zeros((1, 3), np.uint8),
        [dict(id=1, isthing=0, category_name='sky')])
    base, ((mask, _), ) = found['value']
    assert base.shape == (1, 960, 3) and mask.shape == (1, 960)


def write_video(path, frames):
    writer = VideoWriter(str(path), 10)
    for i in range(frames):
        writer.write(tiny.picture(64, 96, seed=i))
    writer.close()
    return str(path)


def test_a_video(segmenter, tmp_path):
    path = write_video(tmp_path / 'a<b.mp4', 4)
    found = segmenter.video(path, 0.3, 3)
    said = [next(found) for _ in range(4)]
    assert [file for _, file in said[:3]] == [None] * 3
    message, overlay = said[3]
    assert message == 'a&lt;b.mp4: 3 frames, done'
    frames = list(VideoFrames(overlay))
    assert [frame.shape for frame in frames] == [(640, 960, 3)] * 3
    assert list(found) == [] and not Path(overlay).exists()


@pytest.mark.parametrize('name, content, told', [
    ('bad.mp4', b'no video', 'bad.mp4: 8 bytes'),
    ('bad.mp4', b'', 'bad.mp4: 0 bytes'),
    ('bad.txt', b'no video', 'bad.txt: not a video. Drop one of .mp4'),
])
def test_what_is_no_video(segmenter, tmp_path, name, content, told):
    path = tmp_path / name
    path.write_bytes(content)
    (message, file), = segmenter.video(str(path), 0.3, 3)
    assert message.startswith('**Cannot be used.** ' + told)
    assert file is None and str(tmp_path) not in message
    assert list(segmenter.video(None, 0.3,
                                3)) == [('Drop a video first.', None)]


def test_table():
    """Worked by hand: shares of 1000 pixels, the largest first."""
    segments = [
        dict(category_name='<cat>', isthing=1, area=250, score=0.876),
        dict(category_name='grass', isthing=0, area=600),
        dict(category_name='dog', isthing=1, area=5, score=None),
    ]
    colors = np.array([[1, 2, 3], [4, 5, 6], [7, 8, 9]], np.uint8)
    rows = web_page.segment_rows(segments, colors, 1000)
    assert [row[1:] for row in rows] == [
        ['grass', 'stuff', None, 600, '60.0 %'],
        ['<cat>', 'thing', 0.876, 250, '25.0 %'],
        ['dog', 'thing', None, 5, '0.5 %'],
    ]
    assert 'rgb(4,5,6)' in rows[0][0] and 'rgb(1,2,3)' in rows[1][0]


@pytest.fixture
def tool(monkeypatch):
    """The tool, on a machine with gradio but for the page itself."""
    monkeypatch.setitem(sys.modules, 'gradio', SimpleNamespace(__spec__='x'))
    monkeypatch.setattr(web_page, 'build_page', lambda *args: args)
    monkeypatch.setenv('GRADIO_ANALYTICS_ENABLED', 'True')
    return partial(call_tool, monkeypatch, 'webdemo')


def test_what_is_served(tool, files, monkeypatch):
    served = []
    monkeypatch.setattr(web_page, 'serve', lambda *args: served.append(args))
    assert tool(*files, '--port', 8123, '--cfg-options',
                'model.test_cfg.panoptic.score_thr=0.7') == 0
    (inferencer, name, examples), host, port = served[0]
    assert (name, examples, host, port) == ('tiny', [], '127.0.0.1', 8123)
    assert inferencer.model.label_space == tiny.SPACE
    merge = inferencer.model.panoptic_fusion_head
    assert merge.thresholds['score_thr'] == 0.7


def test_without_gradio_and_with_a_port_that_is_taken(tool, files, monkeypatch,
                                                      capsys):

    def taken(*args):
        raise OSError('Cannot find empty port')

    monkeypatch.setattr(web_page, 'serve', taken)
    assert tool(*files, '--port', 8123) == 1
    assert '127.0.0.1:8123 (Cannot' in capsys.readouterr().err
    monkeypatch.setitem(sys.modules, 'gradio', None)
    assert tool(*files) == 1
    said = capsys.readouterr().err
    assert 'pip install -r requirements/webdemo.txt' in said
    assert (tiny.REPO_ROOT / 'requirements' / 'webdemo.txt').is_file()


def test_wrong_arguments(tool, files, tmp_path, capsys):
    config, checkpoint = files
    assert tool(config, tmp_path / 'none.pth') == 2
    assert 'none.pth: no such file' in capsys.readouterr().err
    (tmp_path / 'bad.pth').write_bytes(b'no checkpoint')
    assert tool(config, tmp_path / 'bad.pth') == 1
    assert 'bad.pth' in capsys.readouterr().err
    assert tool(*files, '--examples', tmp_path / 'none') == 2
    assert 'none: no such folder' in capsys.readouterr().err
    for port in ('0', '70000', 'x'):
        assert tool(*files, '--port', port) == 2
        assert '--port' in capsys.readouterr().err
