"""tools/test.py --tta on a panoptic config that says nothing of it."""
import json

import pytest
import torch
from mmdet.registry import DATASETS, EVALUATOR, MODELS
from mmengine.config import Config
from mmengine.dataset import pseudo_collate

from mmengine_exact import RunError
from panoptic_apps.toy_data.synthetic_shapes import write_dataset
from panoptic_fpn.training.test_options import enable_tta
from tests.conftest import call_tool
from tests.mmengine_exact.toy import REPO_ROOT

SIZE = 64
RECIPE = dict(num_train=1, num_val=2, size=SIZE, seed=3)
SYNTHETIC = REPO_ROOT / 'configs/synthetic/panoptic-fpn_tiny_synthetic.py'
COCO = REPO_ROOT / 'configs/coco/panoptic-fpn_r50_fpn_1x_coco.py'


def types(pipeline):
    return [step['type'] for step in pipeline]


def test_augmentations_of_a_config_without_any():
    cfg, plain = Config.fromfile(COCO), Config.fromfile(COCO)
    enable_tta(cfg)
    assert cfg.model.type == 'PanopticTTAModel'
    assert cfg.model.module == plain.model
    *once, views = cfg.test_dataloader.dataset.pipeline
    pipeline = plain.test_dataloader.dataset.pipeline
    assert types(once) == [
        'LoadPanopticImage', 'LoadPanopticMap', 'DerivePanopticTargets'
    ]
    assert views['type'] == 'TestTimeAug'
    sizes, flips, (pack, ) = views['transforms']
    # the first view is the test pipeline's
    assert [*once[:1], sizes[0], *once[1:], pack] == pipeline
    assert flips[0]['prob'] == 0
    assert [step['scale'] for step in sizes] == [(1333, 800), (666, 400),
                                                 (2000, 1200)]
    assert all(step['keep_ratio'] for step in sizes)
    assert flips[1] == dict(type='RandomFlip', prob=1.0)
    # the validation of a training is without
    assert cfg.val_dataloader == plain.val_dataloader


@pytest.mark.parametrize('kind', ['ConcatDataset', 'ClassBalancedDataset'])
def test_data_sets_inside_a_wrapper(kind):
    cfg = Config.fromfile(COCO)
    dataset = cfg.test_dataloader.dataset
    cfg.test_dataloader.dataset = dict(
        type=kind, datasets=[dataset]) if 'Concat' in kind else dict(
            type=kind, dataset=dataset)
    enable_tta(cfg)
    outer = cfg.test_dataloader.dataset
    inner = outer['datasets'][0] if 'Concat' in kind else outer['dataset']
    assert inner['pipeline'][-1]['type'] == 'TestTimeAug'


@pytest.mark.parametrize('change', ['no size', 'two sizes', 'no packing'])
def test_a_pipeline_that_is_not_understood(change):
    cfg = Config.fromfile(COCO)
    pipeline = cfg.test_dataloader.dataset.pipeline
    if change == 'no packing':
        pipeline.pop()
    elif change == 'no size':
        pipeline.pop(1)
    else:
        pipeline.insert(1, pipeline[1])
    with pytest.raises(RunError, match='_1x_coco.py has no tta_pipeline'):
        enable_tta(cfg)


@pytest.mark.parametrize('key', ['tta_model', 'tta_pipeline'])
def test_half_of_the_settings(key):
    cfg = Config.fromfile(COCO)
    cfg[key] = dict(type='PanopticTTAModel')
    other = dict(tta_model='tta_pipeline', tta_pipeline='tta_model')[key]
    with pytest.raises(RunError, match=f'has no {other}. Leave --tta out'):
        enable_tta(cfg)


@pytest.fixture
def run(tmp_path):
    """A config file with small images, and weights that guess."""
    cfg = Config.fromfile(SYNTHETIC)
    data = tmp_path / 'shapes'
    write_dataset(str(data), **RECIPE)
    for name in ('train', 'val', 'test'):
        loader = cfg[f'{name}_dataloader']
        loader.update(batch_size=2, num_workers=0, persistent_workers=False)
        loader.dataset.update(data_root=f'{data}/', generate=RECIPE)
    for step in cfg.test_dataloader.dataset.pipeline:
        if 'scale' in step:
            step.scale = (SIZE, SIZE)
    cfg.model.test_cfg.panoptic = dict(
        score_thr=0.2, overlap_thr=0.5, stuff_area=20)
    torch.manual_seed(0)
    model = MODELS.build(cfg.model)
    model.init_weights()
    with torch.no_grad():
        model.roi_head.bbox_head.fc_cls.weight *= 30
        model.semantic_head.conv_seg.weight *= 10
    torch.save(
        dict(state_dict=model.state_dict(), meta={}), tmp_path / 'w.pth')
    cfg.dump(tmp_path / 'small.py')
    return tmp_path / 'small.py', tmp_path / 'w.pth'


def scores_image_by_image(config, checkpoint):
    """What the wrapper says of each image alone, judged by the metrics."""
    cfg = Config.fromfile(config)
    enable_tta(cfg)
    tta = MODELS.build(cfg.model).eval()
    tta.module.load_state_dict(
        torch.load(checkpoint, weights_only=True)['state_dict'])
    dataset = DATASETS.build(cfg.test_dataloader.dataset)
    evaluator = EVALUATOR.build(cfg.test_evaluator)
    evaluator.dataset_meta = dataset.metainfo
    for data in dataset:
        assert len(data['inputs']) == 6
        evaluator.process(data_samples=tta.test_step(pseudo_collate([data])))
    return evaluator.evaluate(len(dataset))


def metrics_of(folder):
    return json.loads((folder / 'metrics.json').read_text())


def test_the_tool_gives_pq_ap_and_miou(run, tmp_path, monkeypatch):
    config, checkpoint = run
    test = [config, checkpoint, '--work-dir']
    assert call_tool(monkeypatch, 'test', *test, tmp_path / 'plain') == 0
    assert call_tool(monkeypatch, 'test', *test, tmp_path / 'tta', '--tta',
                     '--show-dir', tmp_path / 'pictures') == 0
    assert len(list((tmp_path / 'pictures').rglob('*.png'))) == 2
    plain, averaged = metrics_of(tmp_path / 'plain'), metrics_of(tmp_path /
                                                                 'tta')
    wanted = scores_image_by_image(config, checkpoint)
    keys = ('coco_panoptic/PQ', 'coco/segm_mAP', 'coco/bbox_mAP', 'mIoU')
    for key in keys:
        assert averaged[key] == pytest.approx(wanted[key], rel=1e-3)
    assert averaged['mIoU'] != plain['mIoU']
    # without instances that cannot reach the map: the same map
    assert call_tool(monkeypatch, 'test', *test, tmp_path / 'only', '--tta',
                     '--panoptic-only') == 0
    only = metrics_of(tmp_path / 'only')
    assert only['coco_panoptic/PQ'] == averaged['coco_panoptic/PQ']
    assert 'coco/segm_mAP' not in only
