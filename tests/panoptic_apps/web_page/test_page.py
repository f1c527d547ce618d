"""What the page shows, without gradio and without a browser."""
import numpy as np
import pytest

from panoptic_apps import web_page
from panoptic_fpn.inference.inferencer import PanopticInferencer
from panoptic_fpn.visualization.image_io import write_image
from tests import tiny


@pytest.fixture(scope='module')
def segmenter(tmp_path_factory):
    files = tiny.write_tiny_model(tmp_path_factory.mktemp('model'))
    return web_page.Segmenter(PanopticInferencer(*map(str, files), 'cpu'))


def test_an_image(segmenter, tmp_path):
    path = str(tmp_path / 'a <b>.png')
    write_image(path, tiny.picture(96, 128))
    message, *pictures, rows = segmenter(path, 0.3)
    assert message.startswith('a &lt;b&gt;.png: 128 x 96 pixels')
    assert {picture.shape for picture in pictures} == {(768, 1024, 3)}
    assert len({picture.tobytes() for picture in pictures}) == 3
    prediction, = segmenter.inferencer(path, pred_score_thr=0.3)['predictions']
    areas = [s['area'] for s in prediction['segments']]
    assert [row[4] for row in rows] == sorted(areas, reverse=True)


def test_what_cannot_be_used(segmenter, tmp_path, monkeypatch):
    path = str(tmp_path / 'bad.png')
    for content in (b'', b'no picture'):
        with open(path, 'wb') as file:
            file.write(content)
        message, *rest = segmenter(path, 0.5)
        assert 'Cannot be used' in message and 'bad.png: ' in message
        assert str(tmp_path) not in message
        assert rest == [None, None, None, []]
    write_image(path, tiny.picture(96, 128))
    monkeypatch.setattr(web_page, 'MAX_PIXELS', 96 * 128 - 1)
    assert 'bad.png: more than 0 million' in segmenter(path, 0.5)[0]


def test_no_image(segmenter):
    assert segmenter(None, 0.5) == ('', None, None, None, [])


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
