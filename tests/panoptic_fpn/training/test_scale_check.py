"""A run whose training and evaluation see two scales says so, no other."""
from itertools import product
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.dataset import Compose
from mmengine.registry import DefaultScope
from PIL import Image

from panoptic_fpn.training.scale_check import (ScaleCheckHook, drawn_scale,
                                               image_sizes, scale_warning)
from tests.conftest import REPO_ROOT

CONFIGS = REPO_ROOT / 'configs'
TEST = [dict(type='PanopticResize', scale=(128, 128), keep_ratio=True)]
FLIP = dict(type='RandomFlip', prob=0.5)
CROP = dict(type='PanopticRandomCrop', crop_size=32)


def resize(width, height, **kwargs):
    return dict(
        type='PanopticResize',
        scale=(width, height),
        keep_ratio=True,
        **kwargs)


def choice(*scales):
    return dict(
        type='RandomChoiceResize',
        resize_type='PanopticResize',
        scales=list(scales),
        keep_ratio=True)


def ranged(low, high, type='RandomResize', **kwargs):
    return dict(type=type, scale=(128, 128), ratio_range=(low, high), **kwargs)


def warning(train, test=TEST, size=(64, 64)):
    """``train``: one pipeline, or a tuple of those of several data sets."""
    trains = train if isinstance(train, tuple) else (train, )
    return scale_warning([Compose(steps) for steps in trains], Compose(test),
                         size, 'val')


ONE_SCALE = dict(
    same=[resize(128, 128), FLIP],
    near=[resize(120, 120)],
    choice=[choice((96, 96), (128, 128))],
    ratio_range=[ranged(0.5, 2.0, keep_ratio=True), CROP],
    resize_crop=[
        ranged(0.5, 2.0, 'PanopticRandomResizeCrop', crop_size=(32, 32))
    ],
    # as DETR's: sizes, or sizes, a crop and sizes again
    lists=[
        dict(
            type='RandomChoice',
            transforms=[[resize(96, 96)],
                        [resize(64, 64), CROP,
                         resize(160, 160)]])
    ],
    several_data_sets=([resize(64, 64)], [resize(256, 256)]))
TWO_SCALES = dict(
    none=[FLIP],
    crop_alone=[CROP],
    choice=[choice((32, 32), (96, 96))],
    ratio_range=[ranged(0.3, 0.6, keep_ratio=True)],
    crop_after=[resize(64, 64), CROP],
    other_shape=[dict(type='PanopticResize', scale=(128, 64))])


@pytest.mark.parametrize('kind', ONE_SCALE)
def test_one_scale_or_an_augmentation_that_includes_it(kind):
    assert warning(ONE_SCALE[kind]) is None


@pytest.mark.parametrize('kind', TWO_SCALES)
def test_two_scales(kind):
    assert '128 x 128 by val_dataloader' in warning(TWO_SCALES[kind])


def test_both_sizes_are_named():
    """Twice the size in validation; and a range below it, 0.25 to 0.5."""
    text = warning([FLIP], [resize(200, 100)], (50, 80))
    assert 'an image of 50 x 80 pixels (h x w) is resized to 50 x 80 by ' \
        'train_dataloader and to 100 x 160 by val_dataloader' in text
    text = warning([choice((32, 32), (64, 64))], TEST, (128, 96))
    assert 'resized to 32 x 24 to 64 x 48 by' in text


def test_a_crop_of_images_that_keep_their_size_is_one_scale():
    assert warning([CROP], [resize(64, 64)]) is None
    # another size of image, which the test enlarges
    assert warning([CROP], [resize(64, 64)], (40, 40))


def test_several_images_at_once_are_not_judged():
    views = dict(
        type='TestTimeAug',
        transforms=[[resize(64, 64), resize(128, 128)],
                    [dict(type='PackPanopticInputs')]])
    assert drawn_scale(Compose([views]).transforms, (64, 64)) is None
    assert warning([FLIP], [views]) is None
    packed = Compose([*TEST, dict(type='PackPanopticInputs')])
    assert drawn_scale(packed.transforms, (32, 64)).tolist() == [2, 2]


def test_no_false_alarm_for_any_config():
    """Whatever the size of the images, unless the config needs one size."""
    seen = set()
    for path in sorted(CONFIGS.rglob('*.py')):
        cfg = Config.fromfile(path)
        if '_base_' in path.parts or not cfg.get('train_dataloader'):
            continue
        loaders = (
            cfg.get(f'{name}_dataloader') for name in ('train', 'val', 'test'))
        pipelines = [loader.dataset.pipeline for loader in loaders if loader]
        if repr(pipelines) in seen:
            continue
        seen.add(repr(pipelines))
        sizes = [(480, 640), (128, 128)]
        if 'mmseg' in path.parts:  # its test images keep their size
            sizes = [(1024, 2048)]
        with DefaultScope.overwrite_default_scope(cfg.default_scope):
            train, *tests = [Compose(steps) for steps in pipelines]
            for test, size in product(tests, sizes):
                assert scale_warning([train], test, size, '') is None, path
    assert len(seen) > 5


class Data:
    """Images of 64 x 64 pixels with a pipeline."""

    def __init__(self, *steps):
        self.pipeline, self.metainfo = Compose(steps), {}

    def __len__(self):
        return 3

    def get_data_info(self, index):
        return dict(height=64, width=64)


def logged(dataset, **pipelines):
    """Warnings of the hook; one pipeline for each loader."""
    found = []
    ScaleCheckHook().before_train(
        SimpleNamespace(
            cfg=Config({
                f'{name}_dataloader': dict(dataset=dict(pipeline=steps))
                for name, steps in pipelines.items()
            }),
            train_dataloader=SimpleNamespace(dataset=dataset),
            logger=SimpleNamespace(warning=found.append)))
    return found


def test_the_hook_compares_validation_and_test():
    assert logged(Data(FLIP)) == []
    assert len(logged(Data(FLIP), val=TEST, test=TEST)) == 1
    found = logged(Data(*TEST), val=TEST, test=[resize(64, 64)])
    assert len(found) == 1 and 'by test_dataloader' in found[0]
    joined = SimpleNamespace(datasets=[Data(FLIP), Data(FLIP)])
    assert len(logged(joined, val=TEST)) == 1
    # mmdet's mixing of images has a pipeline around the data set's
    mixed = SimpleNamespace(dataset=Data(FLIP), pipeline=[len])
    assert logged(mixed, val=TEST) == []


def test_the_hook_leaves_random_numbers_as_they_are():
    torch.manual_seed(1)
    np.random.seed(1)
    states = torch.get_rng_state(), np.random.get_state()[1].tolist()
    assert logged(Data(ranged(0.1, 0.2), FLIP), val=TEST)
    assert torch.equal(torch.get_rng_state(), states[0])
    assert np.random.get_state()[1].tolist() == states[1]


def test_sizes_of_data_sets_that_state_none(tmp_path):
    path = tmp_path / 'a.png'
    Image.new('RGB', (30, 20)).save(path)
    dataset = Data(FLIP)
    dataset.get_data_info = lambda index: dict(img_path=str(path))
    assert image_sizes(dataset) == {(20, 30)}
    dataset.get_data_info = lambda index: dict(img_path='none')
    assert image_sizes(dataset) == set()
