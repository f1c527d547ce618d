"""tools/new_dataset.py: a config that fits a data set and trains as it is."""
import json

import pytest
import torch
from mmdet.registry import DATASETS, EVALUATOR, MODELS
from mmengine.config import Config

from mmengine_exact import read_config
from mmengine_exact.errors import InputError
from panoptic_apps.new_dataset.new_dataset import Split, place_paths
from panoptic_apps.new_dataset.schedule import scaled_schedule
from panoptic_fpn.training.label_check import check_class_counts, label_spaces
from tests.conftest import REPO_ROOT, call_tool

from .check_dataset import data

CONFIGS = REPO_ROOT / 'configs'
COCO = CONFIGS / 'coco/panoptic-fpn_r50_fpn_1x_coco.py'
BASES = [
    COCO, CONFIGS / 'coco/semantic-fpn_r50_fpn_1x_coco.py',
    CONFIGS / 'cityscapes/panoptic-fpn_r50_fpn_65k_cityscapes.py',
    CONFIGS / 'custom/panoptic-fpn_tiny_custom.py',
    CONFIGS / 'synthetic/panoptic-fpn_tiny_synthetic.py'
]


@pytest.fixture(scope='module', name='root')
def _root(tmp_path_factory):
    """Synthetic shapes: 12 images to train on, 6 to validate on."""
    return data.shapes(tmp_path_factory.mktemp('shapes') / 'data')


def arguments(root, out, *more, val=True):
    notes = root / 'annotations'
    given = ['my', '--out', out]
    for split in ('train', 'val') if val else ('train', ):
        given += [
            f'--{split}', notes / f'panoptic_{split}.json',
            f'--{split}-images', root / split, f'--{split}-panoptic',
            notes / f'panoptic_{split}'
        ]
    return [*given, *more]


def written(monkeypatch, *args):
    assert call_tool(monkeypatch, 'new_dataset', *args) == 0
    return read_config(args[2])


@pytest.mark.parametrize('base', BASES, ids=lambda path: path.stem)
def test_model_data_and_evaluator_of_every_kind_of_base(
        root, tmp_path, monkeypatch, base):
    out = tmp_path / 'my.py'
    cfg = written(monkeypatch, *arguments(root, out, '--base', base))
    lines = out.read_text().splitlines()
    assert all(len(li) < 80 for li in lines if not li.startswith('_base_'))
    with torch.device('meta'):
        model = MODELS.build(cfg.model)
    truth = json.loads((root / 'annotations/panoptic_val.json').read_text())
    names = {c['name'] for c in truth['categories']}
    assert len(cfg.classes) == 9 and set(cfg.classes) == names
    assert (cfg.num_things, cfg.num_stuff) == (4, 5)
    for loader, count in ((cfg.train_dataloader, 12), (cfg.val_dataloader, 6),
                          (cfg.test_dataloader, 6)):
        dataset = DATASETS.build(loader.dataset)
        assert len(dataset) == count
        assert dataset.metainfo['classes'] == tuple(cfg.classes)
        check_class_counts(model, label_spaces(dataset)[0])
        assert dataset.get_data_info(0)['img_path'].startswith(str(root))
    evaluator = EVALUATOR.build(cfg.test_evaluator)
    found = [type(metric).__name__ for metric in evaluator.metrics]
    region = [] if 'semantic' in base.stem else ['PanopticInstanceAPMetric']
    assert found == ['PanopticQualityMetric', *region, 'SemanticIoUMetric']
    for metric in evaluator.metrics:
        if hasattr(metric, 'check_model'):
            metric.check_model(model)
    if base == BASES[-1]:
        sample = DATASETS.build(cfg.train_dataloader.dataset)[0]
        assert len(sample['data_samples'].gt_instances)
    # what the base says of everything else stays
    old = Config.fromfile(base)
    assert cfg.train_dataloader.sampler == old.train_dataloader.sampler
    assert cfg.model.neck == old.model.neck
    assert cfg.train_dataloader.dataset.pipeline == \
        old.train_dataloader.dataset.pipeline


def test_schedule_of_few_images(root, tmp_path, monkeypatch, capfd):
    """90000 * 16 / 118287 = 12.2 epochs, 74 iterations of 2 images: too few.
    4096 pixels of 640 x 480 are 55 of 64 x 64."""
    cfg = written(monkeypatch, *arguments(root, tmp_path / 'my.py'))
    assert cfg.train_cfg.max_iters == cfg.max_iters == 1000
    assert cfg.train_cfg.val_interval == 111
    assert cfg.default_hooks.checkpoint.interval == 111
    assert cfg.default_hooks.logger.interval == 50
    warm_up, steps = cfg.param_scheduler
    assert (warm_up.begin, warm_up.end) == (0, 100)
    assert (steps.end, steps.milestones) == (1000, [667, 889])
    assert cfg.optim_wrapper.optimizer.lr == 0.0025
    assert cfg.optim_wrapper.optimizer.momentum == 0.9
    assert cfg.auto_scale_lr.base_batch_size == 2
    assert cfg.model.test_cfg.panoptic.stuff_area == 55
    assert cfg.model.test_cfg.panoptic.score_thr == 0.5
    out = capfd.readouterr().out
    assert 'the 12.2 of the base would be 74 iterations' in out
    assert '4 thing and 5 stuff classes, 12 images to train on' in out


@pytest.mark.parametrize('more,iters', [(['--epochs', '40'], 120),
                                        (['--max-iters', '77'], 77)])
def test_length_that_is_asked_for(root, tmp_path, monkeypatch, more, iters):
    args = arguments(root, tmp_path / 'my.py', '--batch-size', 4, *more)
    cfg = written(monkeypatch, *args)
    assert cfg.train_cfg.max_iters == iters
    assert cfg.train_dataloader.batch_size == 4
    assert cfg.optim_wrapper.optimizer.lr == 0.005


def test_the_bases_own_data_give_the_bases_own_schedule():
    cfg = Config.fromfile(COCO)
    found = scaled_schedule(cfg, images=118287, batch=16)
    assert (found.max_iters, found.val_interval) == (90000, 10000)
    assert found.lr == 0.02
    assert [dict(s) for s in cfg.param_scheduler] == found.param_scheduler
    cfg.train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=12)
    with pytest.raises(InputError, match='train_cfg.max_iters is not set'):
        scaled_schedule(cfg, images=10, batch=2)


def test_cosine_begins_where_the_warm_up_ends():
    """600 iterations of batch 8: 100 of batch 4 at half the rate."""
    cfg = Config.fromfile(BASES[-1])
    found = scaled_schedule(cfg, images=10, batch=4, max_iters=100)
    warm_up, cosine = found.param_scheduler
    assert warm_up['end'] == cosine['begin'] == 10
    assert cosine['end'] == 100
    assert cosine['eta_min'] == pytest.approx(5e-7)
    assert found.lr == pytest.approx(0.001)


def test_without_things_it_is_semantic_fpn(root, tmp_path, monkeypatch):
    copy = data.shapes(tmp_path / 'data')
    for split in ('train', 'val'):
        data.edit(copy / f'annotations/panoptic_{split}.json', no_things)
    cfg = written(monkeypatch, *arguments(copy, tmp_path / 'my.py'))
    assert cfg.model.loss_weights == dict(instance=0.0, semantic=1.0)
    with torch.device('meta'):
        model = MODELS.build(cfg.model)
    dataset = DATASETS.build(cfg.train_dataloader.dataset)
    check_class_counts(model, label_spaces(dataset)[0])


def no_things(content):
    for category in content['categories']:
        category['isthing'] = 0


def test_a_cascade_has_several_heads(root, tmp_path, monkeypatch):
    base = tmp_path / 'cascade.py'
    base.write_text(f'_base_ = {str(COCO)!r}\n'
                    'model = dict(roi_head=dict(_delete_=True, type="R", '
                    'bbox_head=[dict(type="A", num_classes=80, other=1), '
                    'dict(type="B", num_classes=80)]))\n')
    cfg = written(monkeypatch,
                  *arguments(root, tmp_path / 'my.py', '--base', base))
    heads = cfg.model.roi_head.bbox_head
    assert [(h.type, h.num_classes) for h in heads] == [('A', 4), ('B', 4)]
    assert heads[0].other == 1


def test_splits_and_instances_that_are_optional(root, tmp_path, monkeypatch,
                                                capfd):
    instances = root / 'annotations' / 'panoptic_val.json'
    cfg = written(
        monkeypatch,
        *arguments(root, tmp_path / 'a.py', '--val-instances', instances))
    assert cfg.test_evaluator.metrics[1].ann_file == str(instances)
    cfg = written(monkeypatch, *arguments(root, tmp_path / 'b.py', val=False))
    assert 'no --val: scores will be those of training images' in \
        capfd.readouterr().out
    assert len(DATASETS.build(cfg.test_dataloader.dataset)) == 12


def test_paths_below_the_folder_of_the_start(tmp_path):
    split = Split(f'{tmp_path}/a/train.json', f'{tmp_path}/a',
                  f'{tmp_path}/a/png')
    root, paths = place_paths([split, split], start=str(tmp_path))
    assert root == 'a/'
    assert paths['train'] == Split('train.json', '', 'png/')
    for start in (None, str(tmp_path / 'b')):
        root, _ = place_paths([split, split], start=start)
        assert root == f'{tmp_path}/a/'
    other = Split('/else/val.json', '/else/images', '/else/png')
    root, paths = place_paths([split, other])
    assert root == '/' and paths['val'].images == 'else/images/'


@pytest.mark.parametrize('more,why', [
    (['--base', 'none.py'], 'no such file'),
    (['--batch-size', '0'], 'above 0'),
    (['--epochs', '1', '--max-iters', '1'], 'not allowed with'),
    (['--out', 'x.txt'], 'must be a file that ends with .py'),
    (['--val-images', 'none'], 'no such folder'),
])
def test_wrong_arguments(root, tmp_path, monkeypatch, capfd, more, why):
    out = tmp_path / 'my.py'
    assert call_tool(monkeypatch, 'new_dataset', *arguments(root, out,
                                                            *more)) == 2
    assert why in capfd.readouterr().err
    assert not out.exists()


def test_no_file_is_overwritten_unasked(root, tmp_path, monkeypatch, capfd):
    out = tmp_path / 'my.py'
    out.write_text('mine')
    args = arguments(root, out)
    assert call_tool(monkeypatch, 'new_dataset', *args) == 2
    assert out.read_text() == 'mine' and '--overwrite' in \
        capfd.readouterr().err
    assert call_tool(monkeypatch, 'new_dataset', *args, '--overwrite') == 0
    assert Config.fromfile(out).num_things == 4


def test_data_or_a_base_that_does_not_fit(root, tmp_path, monkeypatch, capfd):
    copy, out = data.shapes(tmp_path / 'data'), tmp_path / 'my.py'
    data.edit(copy / 'annotations/panoptic_val.json', no_things)
    assert call_tool(monkeypatch, 'new_dataset', *arguments(copy, out)) == 1
    assert 'list different categories' in capfd.readouterr().err
    base = CONFIGS / 'mmseg/semantic-fpn_r50_fpn_65k_cityscapes.py'
    assert call_tool(monkeypatch, 'new_dataset',
                     *arguments(root, out, '--base', base)) == 1
    assert '--base: ' in capfd.readouterr().err and not out.exists()
