"""PNG and JSON of a result, against the map they were written from."""
import json

import cv2
import numpy as np
import pytest

from panoptic_fpn.inference import (describe_result, find_images, unique_stems,
                                    write_segments)
from panoptic_fpn.labels import rgb_to_id
from tests.panoptic_fpn.visualization.scenes import (BOX, DISK, GRASS, SKY,
                                                     SPACE, VOID, sample,
                                                     scene)


@pytest.fixture(scope='module')
def written(tmp_path_factory):
    _, panoptic = scene()
    made = sample(panoptic, scores=[0.91, 0.82, 0.73, 0.64], img_path='a.jpg')
    ids, description = describe_result(made, SPACE)
    paths = write_segments(ids, description,
                           str(tmp_path_factory.mktemp('x') / 'out'), 'a')
    png = cv2.imread(paths['panoptic'], cv2.IMREAD_UNCHANGED)[..., ::-1]
    assert np.array_equal(rgb_to_id(png), ids)
    with open(paths['segments']) as file:
        return panoptic, ids, json.load(file)


def test_png_holds_the_segments_of_the_map(written):
    """Ids 1 .. K, and two pixels share an id where they share a code."""
    panoptic, ids, content = written
    assert sorted(np.unique(ids)) == list(range(7))
    assert [segment['id']
            for segment in content['segments']] == [1, 2, 3, 4, 5, 6]
    pairs = set(zip(panoptic.ravel().tolist(), ids.ravel().tolist()))
    assert len(pairs) == 7 and (VOID, 0) in pairs


def test_json_agrees_with_the_png(written):
    panoptic, ids, content = written
    assert content['image'] == 'a.jpg'
    assert (content['height'], content['width']) == panoptic.shape
    assert content['panoptic'] == 'a_panoptic.png'
    for segment in content['segments']:
        ys, xs = np.nonzero(ids == segment['id'])
        assert segment['area'] == len(ys)
        assert segment['bbox'] == [
            xs.min(), ys.min(),
            np.ptp(xs) + 1, np.ptp(ys) + 1
        ]
    labels = panoptic[panoptic != VOID] % 1000
    for label, category in enumerate(SPACE.categories):
        found = [
            s for s in content['segments'] if s['category_id'] == category.id
        ]
        assert {s['category_name'] for s in found} == {category.name}
        assert {s['isthing'] for s in found} == {int(category.isthing)}
        assert sum(s['area'] for s in found) == (labels == label).sum()


def test_scores_of_things(written):
    """Null where the model gave none."""
    panoptic, ids, content = written
    codes = {int(i): int(panoptic[ids == i][0]) for i in range(1, 7)}
    scores = {codes[s['id']]: s.get('score') for s in content['segments']}
    assert scores == {
        BOX + 1000: 0.91,
        BOX + 2000: 0.82,
        BOX + 3000: 0.73,
        DISK + 4000: 0.64,
        SKY: None,
        GRASS: None
    }
    for segments in (content['segments'],
                     describe_result(sample(panoptic), SPACE)[1]['segments']):
        assert all(('score' in s) == bool(s['isthing']) for s in segments)
    assert [s['score'] for s in segments if s['isthing']] == [None] * 4


def test_map_of_void_has_no_segment():
    ids, found = describe_result(sample(np.full((60, 90), VOID)), SPACE)
    assert found['segments'] == [] and not ids.any()


def test_find_images(tmp_path):
    """Also videos; neither results nor hidden files."""
    for name in ('b.JPG', 'a.png', 'notes.txt', 'a_overlay.png', 'd.mkv',
                 'D.MP4', 'd_overlay.mp4', '._b.JPG', 'a_panoptic.png'):
        (tmp_path / name).touch()
    # as Cityscapes has its images, in folders of cities
    (tmp_path / 'folder.jpg').mkdir()
    (tmp_path / 'folder.jpg' / 'c.png').touch()
    (tmp_path / '.thumbnails').mkdir()
    (tmp_path / '.thumbnails' / 'a.png').touch()
    found = ('D.MP4', 'a.png', 'b.JPG', 'd.mkv', 'folder.jpg/c.png')
    listed = [str(tmp_path / name) for name in found]
    assert find_images([str(tmp_path)]) == listed
    assert find_images([listed[1], str(tmp_path), 'missing.jpg'
                        ]) == [*listed[1::-1], *listed[2:], 'missing.jpg']


def test_unique_stems():
    assert unique_stems(
        ['x/a.jpg', 'y/a.png', 'a_2.jpg', 'z/A.jpg',
         'b.c.jpg']) == ['a', 'a_2', 'a_2_2', 'A_3', 'b.c']
