"""configs/mmseg: the recipe, and mmseg's segmentor under our runner."""
import json
import uuid

import cv2
import numpy as np
import pytest
import torch
from mmdet.registry import RUNNERS
from mmengine.config import Config
from mmengine.registry import DefaultScope
from mmengine.runner import Runner
from mmseg.registry import DATASETS
from mmseg.registry import MODELS as MMSEG_MODELS

from mmengine_exact import enable_amp
from mmengine_exact.errors import InputError
from panoptic_fpn.training.test_options import draw_test_pictures
from tests.conftest import REPO_ROOT

ROOT = REPO_ROOT / 'configs'
CONFIG = ROOT / 'mmseg/semantic-fpn_r50_fpn_65k_cityscapes.py'
SIZE = (64, 96)


@pytest.fixture
def root(tmp_path):
    """Noise with a label for each 16 pixels, named as Cityscapes names."""
    rng = np.random.default_rng(0)
    for split, count in (('train', 4), ('val', 3)):
        for i in range(count):
            stem = f'{split}/aachen/aachen_{i:06d}_000019'
            labels = rng.integers(0, 20, [side // 16 for side in SIZE])
            labels = np.where(labels == 19, 255, labels).astype(np.uint8)
            write(tmp_path / f'gtFine/{stem}_gtFine_labelTrainIds.png',
                  labels.repeat(16, 0).repeat(16, 1))
            write(tmp_path / f'leftImg8bit/{stem}_leftImg8bit.png',
                  rng.integers(0, 256, (*SIZE, 3)).astype(np.uint8))
    return tmp_path


def write(path, image):
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), image)


def tiny(root, work_dir, **options):
    """The config with a small ResNet-18 on small crops."""
    cfg = Config.fromfile(CONFIG)
    cfg.work_dir = str(root / work_dir)
    # mmengine keeps loggers and visualizers by these names
    cfg.experiment_name = cfg.visualizer.name = uuid.uuid4().hex
    loader = dict(num_workers=0, persistent_workers=False)
    cfg.merge_from_dict({
        'model.data_preprocessor.size': (32, 64),
        'model.backbone': dict(
            depth=18,
            base_channels=8,
            stem_channels=8,
            init_cfg=None),
        'model.neck': dict(in_channels=[8, 16, 32, 64], out_channels=32),
        'model.decode_head': dict(in_channels=[32] * 4, channels=32),
        'model.test_cfg': dict(crop_size=SIZE, stride=SIZE),
        'train_dataloader': dict(batch_size=2, **loader),
        'train_dataloader.dataset.data_root': str(root),
        'train_dataloader.dataset.pipeline.2.scale': SIZE[::-1],
        'train_dataloader.dataset.pipeline.3.crop_size': (32, 64),
        'train_cfg': dict(max_iters=3, val_interval=3),
        'default_hooks.checkpoint.interval': 1,
        'default_hooks.checkpoint.max_keep_ckpts': -1,
    })  # yapf: disable
    for name in ('val_dataloader', 'test_dataloader'):
        cfg[name].update(loader)
        cfg[name].dataset.data_root = str(root)
    cfg.merge_from_dict(options)
    return cfg


def metrics(root, work_dir):
    return json.loads((root / work_dir / 'metrics.json').read_text())


def test_recipe_is_the_papers():
    cfg = Config.fromfile(CONFIG)
    assert cfg.train_dataloader.batch_size * 8 == 32
    assert cfg.auto_scale_lr.base_batch_size == 32
    assert cfg.train_cfg.max_iters == 65000
    assert cfg.param_scheduler[1].milestones == [40000, 55000]
    optimizer = cfg.optim_wrapper.optimizer
    assert (optimizer.lr, optimizer.momentum,
            optimizer.weight_decay) == (0.01, 0.9, 0.0001)
    resize, crop = cfg.train_dataloader.dataset.pipeline[2:4]
    assert tuple(resize.scale) == (2048, 1024)
    assert tuple(resize.ratio_range) == (0.5, 2.0)
    assert tuple(crop.crop_size) == (512, 1024) and 'cat_max_ratio' not in crop
    assert cfg.model.test_cfg.mode == 'whole'
    assert cfg.val_dataloader.dataset.test_mode


def test_network_is_that_of_the_panoptic_model():
    ours = Config.fromfile(ROOT /
                           '_base_/models/panoptic-fpn_r50_fpn.py').model
    theirs = Config.fromfile(CONFIG).model
    for part in ('backbone', 'neck', 'data_preprocessor'):
        shared = set(ours[part]) & set(theirs[part]) - {'type', 'num_outs'}
        assert len(shared) > 1
        for key in shared:
            assert ours[part][key] == theirs[part][key], (part, key)
    assert theirs.decode_head.channels == ours.semantic_head.channels
    with DefaultScope.overwrite_default_scope('mmseg'), torch.device('meta'):
        model = MMSEG_MODELS.build(theirs)
    names = {k.split('.')[0] for k in model.state_dict()}
    assert names == {'backbone', 'neck', 'decode_head'}


def test_train_resume_and_test(root):
    """Weights after a resume are those of a run without; slide is whole."""
    RUNNERS.build(tiny(root, 'whole_run')).train()
    assert (root / 'whole_run/best_mIoU_iter_3.pth').is_file()
    validated = metrics(root, 'whole_run')
    assert 0 <= validated['mIoU'] <= 100

    first = tiny(root, 'parts', **{'train_cfg.max_iters': 2})
    RUNNERS.build(first).train()
    RUNNERS.build(tiny(root, 'parts', resume=True)).train()
    states = [
        torch.load(root / run / 'iter_3.pth')['state_dict']
        for run in ('whole_run', 'parts')
    ]
    assert all(torch.equal(states[0][k], states[1][k]) for k in states[0])

    for mode in ('whole', 'slide'):
        cfg = tiny(
            root,
            mode,
            load_from=str(root / 'whole_run/iter_3.pth'),
            **{'model.test_cfg.mode': mode})
        RUNNERS.build(cfg).test()
        assert metrics(root, mode) == validated


def test_windows_and_pictures(root):
    cfg = tiny(
        root, 'run', **{
            'model.test_cfg':
            dict(mode='slide', crop_size=(32, 64), stride=(32, 32))
        })
    draw_test_pictures(cfg, str(root / 'pictures'))
    RUNNERS.build(cfg).test()
    assert 'mIoU' in metrics(root, 'run')
    assert len(list((root / 'pictures').rglob('*.png'))) == 3


def test_mixed_precision_and_mmengines_own_runner(root):
    cfg = tiny(root, 'run', **{'train_cfg.max_iters': 1})
    enable_amp(cfg)
    RUNNERS.build(cfg).train()
    assert (root / 'run/iter_1.pth').is_file()
    runner = Runner.from_cfg(tiny(root, 'own', **{'train_cfg.max_iters': 1}))
    assert type(runner) is Runner
    runner.train()
    assert (root / 'own/iter_1.pth').is_file()


def dataset(root, split='train', **kwargs):
    cfg = tiny(root, 'run')[f'{split}_dataloader'].dataset
    cfg.update(kwargs)
    with DefaultScope.overwrite_default_scope('mmseg'):
        return DATASETS.build(cfg)


def test_files_and_labels_that_cannot_be_used(root):
    assert len(dataset(root)) == 4
    first = root / ('gtFine/train/aachen/'
                    'aachen_000000_000019_gtFine_labelTrainIds.png')
    write(first, np.full(SIZE, 26, np.uint8))  # an id, not a train id
    with pytest.raises(InputError, match='000000_.*: 26 is not a train id'):
        dataset(root)[0]
    first.unlink()
    with pytest.raises(InputError, match='1 of 4.*csCreateTrainIdLabelImg'):
        dataset(root)
    # a test that only writes results loads no labels
    assert len(dataset(root, pipeline=[dict(type='LoadImageFromFile')])) == 4
    with pytest.raises(FileNotFoundError, match='nowhere/leftImg8bit/train'):
        dataset(root, data_root=str(root / 'nowhere'))


def test_a_class_count_that_is_not_the_datas(root):
    cfg = tiny(root, 'run', **{'model.decode_head.num_classes': 18})
    with pytest.raises(
            InputError,
            match='model.decode_head.num_classes=18, but '
            'SeededCityscapesDataset has 19'):
        RUNNERS.build(cfg).train()
