"""Class counts that do not fit are named before training starts."""
import pytest
from torch import nn

from projects.panoptic_fpn.engine.label_check import (LabelSpaceCheckHook,
                                                      check_class_counts)
from projects.panoptic_fpn.errors import PanopticError
from projects.panoptic_fpn.labels import LabelSpace


def module(**attributes):
    result = nn.Module()
    for name, value in attributes.items():
        setattr(result, name, value)
    return result


def model(boxes=2, masks=2, things=2, stuff=3, cascade=False):
    box_head = module(num_classes=boxes)
    if cascade:
        box_head = nn.ModuleList([module(num_classes=2), box_head])
    counts = dict(num_things_classes=things, num_stuff_classes=stuff)
    return module(
        roi_head=module(
            bbox_head=box_head, mask_head=module(num_classes=masks)),
        semantic_head=module(**counts),
        panoptic_fusion_head=module(**counts))


def space(things=2, stuff=3, source='my.json'):
    return LabelSpace.from_coco([
        dict(id=i, name=f'c{i}', isthing=int(i < things))
        for i in range(things + stuff)
    ], source)


def test_counts_that_fit():
    check_class_counts(model(), space())
    check_class_counts(model(cascade=True), space())
    check_class_counts(
        module(semantic_head=module(num_stuff_classes=3)), space())


@pytest.mark.parametrize('kwargs, words', [
    (dict(boxes=3), ['model.roi_head.bbox_head.num_classes=3', '2 thing']),
    (dict(boxes=3, cascade=True),
     ['model.roi_head.bbox_head[1].num_classes=3', '2 thing']),
    (dict(masks=80), ['model.roi_head.mask_head.num_classes=80', '2 thing']),
    (dict(stuff=4), ['model.semantic_head.num_stuff_classes=4', '3 stuff']),
    (dict(things=1), ['model.semantic_head.num_things_classes=1', '2 thing']),
])
def test_one_off_names_both_numbers_and_the_key(kwargs, words):
    with pytest.raises(PanopticError) as error:
        check_class_counts(model(**kwargs), space())
    assert all(word in str(error.value) for word in words + ['my.json'])


def dataset(label_space):
    return type('Data', (), dict(metainfo=label_space.metainfo()))


def test_train_and_val_must_list_the_same_categories():
    train, val = space(), space(source='val.json')
    LabelSpaceCheckHook._compare(dataset(train), dataset(val))
    swapped = LabelSpace.from_coco(
        [dict(id=i, name=f'c{i}', isthing=int(i > 2)) for i in range(5)],
        'val.json')
    with pytest.raises(PanopticError, match='val.json'):
        LabelSpaceCheckHook._compare(dataset(train), dataset(swapped))
