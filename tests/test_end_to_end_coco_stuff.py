"""Table 1b's entry in small: train, count classes, test with --tta."""
import json

import pytest
import torch
from mmdet.registry import DATASETS, EVALUATOR, MODELS
from mmengine.config import Config

import panoptic_fpn  # noqa: F401  registers
from tests.conftest import call_tool

from .panoptic_fpn.data.coco_stuff import write_coco_stuff
from .tiny import REPO_ROOT

ENTRY = (
    REPO_ROOT / 'configs' / 'paper' / 'table1b' /
    'semantic-fpn_x152_fpn_65k_coco-stuff.py')


def test_config_is_table_1b(monkeypatch):
    """Section 4.2 and the caption of Table 1b."""
    monkeypatch.setenv('RESNEXT152_32X8D', '/elsewhere/x152.pth')
    cfg = Config.fromfile(ENTRY)
    backbone = cfg.model.backbone
    assert (backbone.type, backbone.depth, backbone.groups,
            backbone.base_width) == ('ResNeXt', 152, 32, 8)
    assert backbone.init_cfg.checkpoint == '/elsewhere/x152.pth'
    assert cfg.train_cfg.max_iters == 65000
    assert cfg.param_scheduler[1].milestones == [40000, 55000]
    # double the rate, half the batch of Cityscapes
    assert cfg.optim_wrapper.optimizer.lr == 0.02
    assert cfg.auto_scale_lr.base_batch_size == 16
    assert cfg.train_dataloader.batch_size * 8 == 16
    steps = [step.type for step in cfg.train_dataloader.dataset.pipeline]
    assert 'PhotoMetricDistortion' in steps
    assert cfg.train_dataloader.dataset.image_list.endswith('train-ids.txt')
    with torch.device('meta'):
        model = MODELS.build(cfg.model)
    assert not model.with_rpn and not model.with_roi_head
    head = model.semantic_head
    # 91 stuff classes and 'other', from the concatenated levels
    assert head.conv_seg.weight.shape == (92, 4 * 128, 1, 1)
    convs = [
        m for m in head.scale_heads.modules()
        if isinstance(m, torch.nn.Conv2d)
    ]
    assert len(convs) == 2 * (1 + 1 + 2 + 3)


def small_config(root):
    """The config with a ResNet-18 of few channels and small images."""
    cfg = Config.fromfile(ENTRY)
    cfg.model.backbone = dict(
        type='ResNet', depth=18, base_channels=8, norm_cfg=dict(type='BN'))
    cfg.model.neck.update(in_channels=[8, 16, 32, 64], out_channels=32)
    cfg.model.semantic_head.update(in_channels=[32] * 4, channels=32)
    for name in ('train', 'val', 'test'):
        loader = cfg[f'{name}_dataloader']
        loader.update(num_workers=0, persistent_workers=False)
        loader.dataset.data_root = str(root)
        for step in loader.dataset.pipeline:
            if 'scale' in step:
                step.scale = (256, 64)
            if 'crop_size' in step:
                step.crop_size = (64, 64)
    for step, side in zip(cfg.tta_pipeline[-1].transforms[0],
                          (32, 48, 64, 80, 96)):
        step.scale = (4 * side, side)
    cfg.train_dataloader.dataset.image_list = 'annotations/list.txt'
    cfg.tta_model.class_balance.file = str(root / 'frequencies.json')
    cfg.train_cfg.max_iters = 1
    cfg.default_hooks.checkpoint.interval = 1
    return cfg


@pytest.fixture
def run(tmp_path):
    """A config file and the folder of its data."""
    root = tmp_path / 'data'
    write_coco_stuff(root, num_train=3, num_val=2)
    (root / 'annotations' / 'list.txt').write_text('7\n10\n13\n')
    small_config(root).dump(tmp_path / 'small.py')
    return tmp_path / 'small.py', root


def metrics_of(folder):
    return json.loads((folder / 'metrics.json').read_text())


def test_train_count_and_test(run, tmp_path, monkeypatch, capfd):
    config, root = run
    assert call_tool(monkeypatch, 'train', config, '--work-dir',
                     tmp_path / 'run') == 0
    trained = metrics_of(tmp_path / 'run')
    assert 0 <= trained['mIoU'] and 0 <= trained['fIoU']
    assert len(trained['classwise']) == 92
    assert {'stuff-92', 'stuff-182',
            'other (things)'} <= set(trained['classwise'])
    checkpoint = tmp_path / 'guess.pth'
    save_guesses(tmp_path / 'run' / 'iter_1.pth', checkpoint)
    test = [config, checkpoint, '--work-dir']
    assert call_tool(monkeypatch, 'test', *test, tmp_path / 'plain') == 0
    plain = metrics_of(tmp_path / 'plain')

    # the balance needs the classes' frequencies
    assert call_tool(monkeypatch, 'test', *test, tmp_path / 'tta',
                     '--tta') == 1
    error = capfd.readouterr().err.strip().splitlines()[-1]
    assert error.startswith(f'error: {root}/frequencies.json: no class '
                            'frequencies (FileNotFoundError: ')
    assert 'tools/class_frequencies.py CONFIG' in error
    assert call_tool(monkeypatch, 'class_frequencies', config, '--out',
                     root / 'frequencies.json') == 0
    content = json.loads((root / 'frequencies.json').read_text())
    assert content['images'] == 3
    assert call_tool(monkeypatch, 'test', *test, tmp_path / 'tta', '--tta',
                     '--show-dir', tmp_path / 'pictures') == 0
    balanced = metrics_of(tmp_path / 'tta')
    assert len(list((tmp_path / 'pictures').rglob('*.png'))) == 2
    assert balanced['fIoU'] != plain['fIoU']
    for key, score in averaged_scores(*test[:2]).items():
        assert balanced[key] == pytest.approx(score)


def save_guesses(path, out):
    """An iteration teaches nothing: other weights, whose scores differ.

    They guess among the channels that all images have: the first stuff class,
    the last one and 'other'.
    """
    content = torch.load(path, weights_only=True)
    torch.manual_seed(0)
    content['state_dict']['semantic_head.conv_seg.weight'].normal_(std=3.0)
    content['state_dict']['semantic_head.conv_seg.bias'][[0, -2, -1]] += 100
    torch.save(content, out)


def averaged_scores(config, checkpoint):
    """What the wrapper says of each image alone, judged by the metric."""
    cfg = Config.fromfile(config)
    tta = MODELS.build(dict(cfg.tta_model, module=cfg.model)).eval()
    tta.module.load_state_dict(
        torch.load(checkpoint, weights_only=True)['state_dict'])
    cfg.test_dataloader.dataset.pipeline = cfg.tta_pipeline
    dataset = DATASETS.build(cfg.test_dataloader.dataset)
    evaluator = EVALUATOR.build(cfg.test_evaluator)
    evaluator.dataset_meta = dataset.metainfo
    for data in dataset:
        assert len(data['inputs']) == 10
        samples = tta.test_step(
            {key: [[v] for v in data[key]]
             for key in data})
        evaluator.process(data_samples=samples)
    return evaluator.evaluate(len(dataset))


def test_a_model_of_other_counts_is_refused(run, tmp_path, monkeypatch, capfd):
    config, root = run
    assert call_tool(monkeypatch, 'train', config, '--work-dir',
                     tmp_path / 'run', '--cfg-options',
                     'model.semantic_head.num_stuff_classes=92') == 1
    assert 'has 91 stuff classes' in capfd.readouterr().err


def test_tta_needs_its_keys(run, tmp_path, monkeypatch, capfd):
    config, _ = run
    checkpoint = tmp_path / 'none.pth'
    checkpoint.write_bytes(b'')
    cfg = Config.fromfile(config)
    cfg.pop('tta_model')
    cfg.dump(tmp_path / 'without.py')
    assert call_tool(monkeypatch, 'test', tmp_path / 'without.py', checkpoint,
                     '--work-dir', tmp_path / 'run', '--tta') == 1
    assert 'without.py has no tta_model. Leave --tta out' in capfd.readouterr(
    ).err
