"""Browsing draws what the pipeline packed."""
import cv2
import numpy as np
import pytest
import torch
from mmdet.structures.mask import BitmapMasks
from mmengine.config import Config
from mmengine.structures import InstanceData, PixelData

import panoptic_apps.toy_data  # noqa: F401
import panoptic_fpn  # noqa: F401
from mmengine_exact.errors import InputError
from panoptic_apps.browse_dataset import browse_dataset, draw_sample
from panoptic_fpn.inference import init_model
from tests.conftest import REPO_ROOT
from tests.panoptic_fpn.visualization.scenes import BOX, SPACE, sample, scene

DATA = REPO_ROOT / 'configs/_base_/datasets/synthetic_panoptic.py'


@pytest.fixture
def config(tmp_path_factory):
    cfg = Config.fromfile(DATA)
    cfg.pop('test_dataloader')
    for loader in (cfg.train_dataloader, cfg.val_dataloader):
        loader.dataset.update(
            data_root=f'{tmp_path_factory.getbasetemp()}/browsed/',
            generate=dict(num_train=3, num_val=2, size=64, seed=0))
    return cfg


@pytest.mark.parametrize('split,num,expected,panels', [('train', 1, 1, 3),
                                                       ('val', 9, 2, 2)])
def test_pictures(config, tmp_path, split, num, expected, panels):
    paths = browse_dataset(config, split, num, str(tmp_path / 'out'))
    assert len(set(paths)) == expected
    for path in paths:
        picture = cv2.imread(path)
        # Panels of 640 x 640 below a caption, gaps of paper between them
        assert picture.shape[0] > 640
        assert picture.shape[1] // 640 == panels
        assert len(np.unique(picture @ [1, 256, 65536])) > 50


def annotated(factor):
    """A sample with all annotation, each pixel ``factor`` times as long."""
    image, panoptic = scene(360, 640)
    image, panoptic = (
        array.repeat(factor, 0).repeat(factor, 1)
        for array in (image, panoptic))
    masks = np.stack([panoptic == BOX + 1000 * i for i in (1, 2, 3)])
    boxes = [cv2.boundingRect(mask.astype(np.uint8)) for mask in masks]
    found = sample(truth=panoptic)
    found.gt_instances = InstanceData(
        bboxes=torch.tensor([[x, y, x + w, y + h] for x, y, w, h in boxes],
                            dtype=torch.float32),
        labels=torch.tensor([BOX] * 3),
        masks=BitmapMasks(masks.astype(np.uint8), *panoptic.shape))
    found.gt_sem_seg = PixelData(
        sem_seg=torch.from_numpy(panoptic % 1000)[None])
    inputs = torch.from_numpy(image[..., ::-1].transpose(2, 0, 1).copy())
    return draw_sample(inputs, found, SPACE)


def test_a_large_photograph_is_drawn_as_a_small_one():
    """Of 3840 x 2160 pixels: text and lines are those of 640 x 360, as both
    are drawn after the photograph is made smaller."""
    large = annotated(6)
    assert 1900 < large.shape[1] <= 2000
    assert np.array_equal(large, annotated(1))


@pytest.mark.parametrize('size', [(2, 4000), (4000, 2), (1, 1), (300, 1999)])
def test_width_of_a_picture(size):
    found = sample(truth=np.full(size, BOX + 1000))
    inputs = torch.zeros(3, *size, dtype=torch.uint8)
    assert draw_sample(inputs, found, SPACE).shape[1] <= 2000


def test_the_seed_decides_what_is_drawn(config, tmp_path):

    def run(seed, name):
        paths = browse_dataset(
            config, num=2, out_dir=str(tmp_path / name), seed=seed)
        return [open(path, 'rb').read() for path in paths]

    assert run(0, 'a') == run(0, 'b')
    assert run(0, 'a') != run(1, 'c')


def test_a_config_of_mmseg_is_refused():
    path = REPO_ROOT / ('configs/mmseg/semantic-fpn_r50_fpn_65k_cityscapes.py')
    for use in (browse_dataset, init_model):
        with pytest.raises(InputError, match='a config of mmseg'):
            use(str(path))


def test_a_split_the_config_lacks(config, tmp_path):
    with pytest.raises(InputError, match='no test_dataloader'):
        browse_dataset(config, 'test', out_dir=str(tmp_path))
