"""The class table in three orders, and the values of label images."""
import numpy as np
import pytest
from cityscapesscripts.helpers.labels import (id2label, name2label,
                                              trainId2label)
from mmseg.datasets import CityscapesDataset

from mmengine_exact.errors import InputError
from panoptic_fpn import cityscapes

THINGS = ('person', 'rider', 'car', 'truck', 'bus', 'train', 'motorcycle',
          'bicycle')


def test_things_first_each_by_id():
    space = cityscapes.label_space()
    assert space.thing_names == THINGS
    assert (space.num_things, space.num_stuff) == (8, 11)
    assert space.category_ids == (24, 25, 26, 27, 28, 31, 32, 33, 7, 8, 11, 12,
                                  13, 17, 19, 20, 21, 22, 23)
    for name, color in zip(space.names, space.palette):
        assert name2label[name].color == color


def test_permutation_to_mmsegs_order():
    ours = cityscapes.label_space().names
    theirs = CityscapesDataset.METAINFO['classes']
    order = cityscapes.train_ids()
    assert [theirs[i] for i in order] == list(ours)
    assert [ours[i] for i in np.argsort(order)] == list(theirs)
    assert [trainId2label[i].name for i in order] == list(ours)


def test_every_value_of_the_label_table():
    for id_, label in id2label.items():
        if id_ < 0:
            with pytest.raises(InputError, match=str(id_)):
                cityscapes.pixel_value(id_)
            continue
        bare = cityscapes.pixel_value(id_)
        assert bare.category_id == id_ and not bare.instance
        assert bare.evaluated == (not label.ignoreInEval)
        assert bare.crowd == (label.name in THINGS)
        if label.hasInstances:
            one = cityscapes.pixel_value(id_ * 1000 + 7)
            assert one.category_id == id_ and one.instance and not one.crowd
        elif id_ > 0:
            with pytest.raises(InputError, match=str(id_ * 1000 + 7)):
                cityscapes.pixel_value(id_ * 1000 + 7)
    for value in (34, 255, 999, 34001, 65535):
        with pytest.raises(InputError, match=str(value)):
            cityscapes.pixel_value(value)


def test_split_of_an_image():
    segments, void, ignored = cityscapes.split_values(
        [0, 3, 7, 26, 26000, 29, 29000, 30001, 9])
    assert list(segments) == [7, 26, 26000]
    assert segments[26].crowd and not segments[26000].crowd
    assert void == [0, 3, 29, 9]
    assert ignored == [29000, 30001]


def test_image_ids():
    for name in ('a/frankfurt_000000_000294_leftImg8bit.png',
                 'frankfurt_000000_000294_gtFine_instanceIds.png'):
        assert cityscapes.image_id(name) == 'frankfurt_000000_000294'
    with pytest.raises(InputError, match='holiday.png'):
        cityscapes.image_id('photos/holiday.png')
