"""Photographs that an EXIF tag turns, against OpenCV's reading."""
import io
import json

import numpy as np
import pytest
from PIL import ExifTags, Image

from mmengine_exact.errors import InputError
from panoptic_apps.convert_data import convert_label_folders
from panoptic_apps.convert_data.panoptic_folder import as_shown
from panoptic_fpn.ops.decode import claimed_size, decode_image, orientation_tag

from .conftest import faults_of, written

CLASSES = [
    dict(id=1, name='ball', isthing=1),
    dict(id=2, name='wall', isthing=0)
]


def photo(size, tag, fmt='PNG'):
    """Bytes of a picture (h, w) without two equal pixels, stored."""
    values = np.arange(size[0] * size[1], dtype=np.uint8).reshape(size)
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = tag
    buffer = io.BytesIO()
    Image.fromarray(values).convert('RGB').save(
        buffer, fmt, exif=exif.tobytes(), lossless=True)
    return values, buffer.getvalue()


@pytest.mark.parametrize('fmt', ['PNG', 'WEBP', 'JPEG', 'TIFF'])
@pytest.mark.parametrize('tag', range(1, 9))
def test_maps_are_turned_as_photographs_are(tag, fmt):
    values, content = photo((9, 14), tag, fmt)
    assert orientation_tag(content) == tag
    assert claimed_size(content) == (9, 14)
    shown, mine = decode_image(content)[..., 0], as_shown(values, tag)
    assert shown.shape == mine.shape
    if fmt != 'JPEG':
        assert (shown == mine).all()


@pytest.mark.parametrize('content', [
    photo((9, 14), 99)[1],
    photo((9, 14), 1)[1],
    photo((9, 14), 6)[1].replace(b'MM', b'??'),
    b'no image',
])
def test_no_tag_that_turns(content):
    assert orientation_tag(content) == 1


def write(root, size, tag, values):
    """A photograph (h, w) as stored, and its label map."""
    for folder in ('images', 'labels'):
        (root / folder).mkdir(exist_ok=True)
    (root / 'images/a.png').write_bytes(photo(size, tag)[1])
    Image.fromarray(values).save(root / 'labels/a.png')
    (root / 'classes.json').write_text(json.dumps(CLASSES))


def convert(root, **kwargs):
    convert_label_folders(
        str(root / 'images'),
        str(root / 'labels'),
        str(root / 'classes.json'),
        str(root / 'out'),
        'set',
        num_workers=1,
        report=str,
        **kwargs)
    content, ids = written(root / 'out/set')
    image = content['images'][0]
    assert (image['height'], image['width']) == ids.shape
    # a warning where the tag keeps the size
    assert set(faults_of(root)) <= {'image_turned'}
    return ids


def labels(size):
    values = np.full(size, 2, np.uint16)
    values[1:4, 2:7] = 1001
    return values


@pytest.mark.parametrize('tag', [5, 6, 7, 8])
def test_labels_that_fit_only_one_way(tmp_path, tag):
    stored, shown = labels((9, 14)), labels((14, 9))
    write(tmp_path, (9, 14), tag, stored)
    assert (convert(tmp_path) == as_shown(stored, tag)).all()
    assert (convert(tmp_path, orientation='shown') == as_shown(stored,
                                                               tag)).all()
    write(tmp_path, (9, 14), tag, shown)
    assert (convert(tmp_path) == shown).all()
    write(tmp_path, (9, 14), tag, labels((9, 9)))
    with pytest.raises(InputError, match=r'\(9, 9\).* its image is \(14, 9'):
        convert(tmp_path)


@pytest.mark.parametrize('tag, size', [(2, (9, 14)), (3, (9, 14)),
                                       (4, (9, 14)), (6, (9, 9))])
def test_labels_that_fit_both_ways(tmp_path, tag, size):
    values = labels(size)
    write(tmp_path, size, tag, values)
    with pytest.raises(InputError, match=rf'a.png: .*\({tag}\).*--orientatio'):
        convert(tmp_path)
    assert (convert(tmp_path, orientation='shown') == values).all()
    turned = convert(tmp_path, orientation='stored')
    assert (turned == as_shown(values, tag)).all()
