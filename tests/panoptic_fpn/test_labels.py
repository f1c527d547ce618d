"""Labels, channels and segment ids against numbers worked out by hand."""
import subprocess
import sys

import numpy as np
import pytest

from mmengine_exact.errors import InputError
from panoptic_fpn.labels import (LabelSpace, channel_labels, default_color,
                                 encode_panoptic, id_to_rgb, rgb_to_id,
                                 semantic_channels)

STUFF_FIRST = [
    dict(id=92, name='sky', isthing=0, color=[1, 2, 3]),
    dict(id=7, name='car', isthing=1),
    dict(id=11, name='road', isthing=0),
    dict(id=3, name='person', isthing=1),
]


def test_things_come_first_in_order_of_ids_whatever_the_file():
    space = LabelSpace.from_coco(STUFF_FIRST)
    assert space.names == ('person', 'car', 'road', 'sky')
    assert space.category_ids == (3, 7, 11, 92)
    assert (space.num_things, space.num_stuff, space.void) == (2, 2, 4)
    assert [space.label(i) for i in (3, 7, 11, 92)] == [0, 1, 2, 3]
    assert space.palette[3] == (1, 2, 3)
    assert LabelSpace.from_coco(STUFF_FIRST[::-1]) == space


def test_metainfo_round_trip():
    space = LabelSpace.from_coco(STUFF_FIRST, 'a.json')
    meta = space.metainfo()
    assert meta['thing_classes'] == ('person', 'car')
    assert meta['stuff_classes'] == ('road', 'sky')
    assert LabelSpace.from_metainfo(meta) == space
    chosen = space.choose(['sky', 'car', 'road', 'person'], 'a config')
    assert chosen.category_ids == (7, 3, 92, 11)
    assert LabelSpace.from_metainfo(chosen.metainfo()) == chosen != space


def test_channels_of_both_modes():
    # two things, three stuff classes
    assert semantic_channels(2, 3).tolist() == [3, 3, 0, 1, 2]
    assert channel_labels(2, 3).tolist() == [2, 3, 4, 5]
    assert semantic_channels(2, 3, True).tolist() == [0, 1, 2, 3, 4]
    assert channel_labels(2, 3, True).tolist() == [5, 5, 2, 3, 4]


def test_segment_id_codec():
    ids = np.array([[0, 1, 255], [256, 65536, 256**3 - 1]])
    rgb = id_to_rgb(ids)
    assert rgb[1].tolist() == [[0, 1, 0], [0, 0, 1], [255, 255, 255]]
    assert (rgb_to_id(rgb) == ids).all()


def test_panoptic_codec():
    assert encode_panoptic([3, 999], [0, 2]).tolist() == [3, 2999]


def test_metainfo_without_classes_is_refused():
    with pytest.raises(InputError, match='a.pth.*"thing_classes"'):
        LabelSpace.from_metainfo(dict(classes=('a', )), 'a.pth')


def test_default_colors_are_valid_and_differ():
    colors = [default_color(i) for i in range(133)]
    assert len(set(colors)) > 120
    assert all(0 <= c <= 255 for color in colors for c in color)


def test_labels_and_fusion_need_no_mm_package():
    code = ('import sys\n'
            'class Block:\n'
            '    def find_spec(self, name, path=None, target=None):\n'
            '        if name.split(".")[0] in ("mmengine", "mmcv", "mmdet", '
            '"mmseg"):\n'
            '            raise ModuleNotFoundError(name)\n'
            'sys.meta_path.insert(0, Block())\n'
            'import importlib.util as u\n'
            'real = u.find_spec\n'
            'u.find_spec = lambda n, *a: None if n in ("mmdet", "mmengine") '
            'else real(n, *a)\n'
            'import panoptic_fpn.labels\n'
            'import panoptic_fpn.fusion\n')
    subprocess.run([sys.executable, '-c', code], check=True)


def test_difference_names_what_one_alone_has():
    one = LabelSpace.from_coco(
        [dict(id=1, name='cat', isthing=1),
         dict(id=2, name='sky', isthing=0)])
    two = LabelSpace.from_coco(
        [dict(id=1, name='cow', isthing=1),
         dict(id=2, name='sky', isthing=0)])
    names = [name for _, name, _ in one.difference(two)]
    assert names == ['cat', 'cow'] and one != two
    assert one.difference(one) == []
