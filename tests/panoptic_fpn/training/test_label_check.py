"""Class counts that do not fit are named before training starts."""
from types import SimpleNamespace

import pytest
from torch import nn

from mmengine_exact.errors import InputError
from panoptic_fpn.labels import LabelSpace
from panoptic_fpn.training.label_check import (LabelSpaceCheckHook,
                                               check_annotated,
                                               check_class_counts,
                                               check_same_categories,
                                               label_spaces)


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
    with pytest.raises(InputError) as error:
        check_class_counts(model(**kwargs), space())
    assert all(word in str(error.value) for word in words + ['my.json'])
    with pytest.raises(InputError, match='loss_weights.instance=0'):
        check_class_counts(model(0, 0, 0), space(things=0))


def dataset(label_space, **kwargs):
    return SimpleNamespace(
        metainfo=label_space.metainfo(), ann_file=label_space.source, **kwargs)


def test_all_data_sets_must_list_the_same_categories():
    train, val = space(), space(source='val.json')
    check_same_categories([train, val])
    swapped = LabelSpace.from_coco(
        [dict(id=i, name=f'c{i}', isthing=int(i > 2)) for i in range(5)],
        'val.json')
    with pytest.raises(InputError, match='my.json and val.json'):
        check_same_categories([train, train, swapped])


def test_wrappers_are_looked_into():
    first, second = dataset(space()), dataset(space(source='b.json'))
    wrapped = SimpleNamespace(
        metainfo=[{}, {}],
        datasets=[first, SimpleNamespace(metainfo={}, dataset=second)])
    assert [s.source for s in label_spaces(wrapped)] == ['my.json', 'b.json']


def test_mmdets_concatenation_of_two_files_keeps_one_metainfo(tmp_path):
    from mmdet.datasets import ConcatDataset

    from panoptic_fpn.data import CocoPanopticFPNDataset
    from tests.oracles.perturb import random_data, write_coco_panoptic
    data = random_data(1)
    paths = [write_coco_panoptic(data, tmp_path / name) for name in ('a', 'b')]
    both = ConcatDataset([
        CocoPanopticFPNDataset(
            ann_file=str(path), data_prefix=dict(img='', seg=''))
        for path in paths
    ])
    assert both.metainfo['classes']
    assert [s.source for s in label_spaces(both)] == [str(p) for p in paths]


def test_validation_needs_every_annotation():
    check_annotated(dataset(space(), unannotated=[]))
    with pytest.raises(InputError, match="my.json: 2 images.*id='x'"):
        check_annotated(dataset(space(), unannotated=['x', 'y']))


class Images(SimpleNamespace):
    """A data set of one image."""

    def __init__(self, space, img_id, unannotated=()):
        super().__init__(**vars(dataset(space, unannotated=unannotated)))
        self.img_id = img_id

    def __len__(self):
        return 1

    def get_data_info(self, index):
        return dict(img_id=self.img_id)


def test_the_hook_stops_a_run_before_it_starts():
    loader = SimpleNamespace(dataset=dataset(space()))
    runner = SimpleNamespace(
        model=model(boxes=3),
        train_dataloader=loader,
        val_dataloader=loader,
        test_dataloader=loader,
        val_loop=object())
    hook = LabelSpaceCheckHook()
    for start in (hook.before_train, hook.before_val, hook.before_test):
        with pytest.raises(InputError, match='num_classes=3'):
            start(runner)
    runner.model = model()
    hook.before_train(runner)

    class Metric:

        needs_truth = True

        def check_model(self, model):
            pass

        def check_images(self, images):
            if images[0]['img_id'] == 7:
                raise InputError('cannot judge it')

    runner.val_loop = runner.test_loop = SimpleNamespace(
        evaluator=SimpleNamespace(metrics=[object(), Metric()]))
    loader.dataset = Images(space(), img_id=3)
    hook.before_train(runner)
    hook.before_test(runner)
    loader.dataset = Images(space(), img_id=7)
    for start in (hook.before_train, hook.before_val, hook.before_test):
        with pytest.raises(InputError, match='cannot judge'):
            start(runner)
    loader.dataset = Images(space(), img_id=3, unannotated=[7])
    for start in (hook.before_train, hook.before_val, hook.before_test):
        with pytest.raises(InputError, match='no annotation.*--format-only'):
            start(runner)
    runner.val_loop = runner.test_loop = object()
    loader.dataset.unannotated = [7]
    with pytest.raises(InputError, match='no annotation'):
        hook.before_train(runner)
    hook.before_test(runner)
