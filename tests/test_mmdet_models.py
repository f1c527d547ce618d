"""configs/mmdet_models: mmdet's own panoptic models on this project's data.

Small ones are trained for some iterations; one evaluation has this project's
metrics and mmdet's, which judge the same predictions.
"""
import copy
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from mmdet.registry import MODELS
from mmdet.structures import DetDataSample
from mmengine.config import Config
from mmengine.hub import get_config
from mmengine.structures import InstanceData, PixelData
from PIL import Image
from pycocotools import mask as rle

from mmengine_exact import read_config
from mmengine_exact.errors import InputError
from panoptic_apps.sweep_merge import save_branches
from panoptic_apps.toy_data.synthetic_shapes import write_dataset
from panoptic_fpn.inference import PanopticInferencer
from panoptic_fpn.labels import LabelSpace
from panoptic_fpn.training import (PanopticRunner, enable_panoptic_only,
                                   enable_tta)
from panoptic_fpn.training.label_check import check_class_counts

from .oracles.derive import derive_instances, derive_semantic

CONFIGS = Path(__file__).resolve().parents[1] / 'configs' / 'mmdet_models'
NAMES = sorted(path.stem for path in CONFIGS.glob('*.py'))
TINY = [name for name in NAMES if 'synthetic' in name]
#: mmdet's config of each model.
THEIRS = {
    'panoptic-fpn': 'panoptic_fpn/panoptic-fpn_r50_fpn_1x_coco.py',
    'maskformer': 'maskformer/maskformer_r50_ms-16xb1-75e_coco.py',
    'mask2former': 'mask2former/mask2former_r50_8xb2-lsj-50e_coco-panoptic.py'
}
RECIPE = dict(num_train=4, num_val=4, size=96, seed=5)
ITERATIONS = 16


def load(name):
    return Config.fromfile(CONFIGS / f'{name}.py')


def theirs(name):
    return get_config(f'mmdet::{THEIRS[name.split("_")[0]]}')


def space_of(things, stuff):
    return LabelSpace.from_coco([
        dict(id=i, name=f'c{i}', isthing=int(i < things))
        for i in range(things + stuff)
    ], 'my.json')


@pytest.mark.parametrize('name', NAMES)
def test_it_builds_with_the_classes_of_its_data(name):
    counts = dict(coco=(80, 53), cityscapes=(8, 11), synthetic=(4, 5))
    cfg, (things, stuff) = load(name), counts[name.split('_')[-1]]
    with torch.device('meta'):
        model = MODELS.build(cfg.model)
    check_class_counts(model, space_of(things, stuff))
    with pytest.raises(InputError, match=f'={stuff}, .* {stuff + 1} stuff'):
        check_class_counts(model, space_of(things, stuff + 1))
    with pytest.raises(InputError, match=f'={things}, .* {things + 1} thing'):
        check_class_counts(model, space_of(things + 1, stuff))
    assert cfg.default_hooks.checkpoint.save_best == 'coco_panoptic/PQ'
    assert 'LabelSpaceCheckHook' in [hook.type for hook in cfg.custom_hooks]
    ends = {item.end for item in cfg.param_scheduler}
    assert cfg.train_cfg.max_iters in ends
    # mmdet takes objects from the panoptic PNGs
    assert not cfg.train_dataloader.dataset.get('instances_ann_file')
    if name.endswith('coco'):
        assert_solver_and_weights_are(theirs(name), cfg, model)


def assert_solver_and_weights_are(other, cfg, model):
    """Weights by name and shape: a file of mmdet's zoo loads."""
    with torch.device('meta'):
        expected = MODELS.build(other.model).state_dict()
    found = model.state_dict()
    assert found.keys() == expected.keys()
    assert all(found[key].shape == expected[key].shape for key in found)
    for key in ('optimizer', 'clip_grad'):
        assert cfg.optim_wrapper.get(key) == other.optim_wrapper.get(key)
    assert (cfg.optim_wrapper.paramwise_cfg or None) == (
        other.optim_wrapper.get('paramwise_cfg'))


@pytest.mark.parametrize('wrong, words', [
    (dict(class_weight=[1.0] * 134), ['134', '9 classes', '10', 'loss_cls']),
    (dict(pad=3), ['seg_pad_value=3', "'c3'", 'my.json']),
])
def test_class_weights_and_padding_are_checked(wrong, words):
    model = torch.nn.Module()
    model.panoptic_head = torch.nn.Module()
    model.panoptic_head.class_weight = wrong.get('class_weight', [1.0] * 10)
    model.data_preprocessor = torch.nn.Module()
    model.data_preprocessor.pad_seg = True
    model.data_preprocessor.seg_pad_value = wrong.get('pad', 255)
    with pytest.raises(InputError) as error:
        check_class_counts(model, space_of(4, 5))
    assert all(word in str(error.value) for word in words)


# A training and its evaluation ---------------------------------------------


@pytest.fixture(scope='module')
def root(tmp_path_factory):
    """Shapes, and the things of the validation as an instances JSON."""
    root = tmp_path_factory.mktemp('mmdet') / 'shapes'
    write_dataset(str(root), **RECIPE)
    notes = root / 'annotations'
    for split in ('train', 'val'):
        content = json.loads((notes / f'panoptic_{split}.json').read_text())
        things = [c for c in content['categories'] if c['isthing']]
        instances = []
        for note in content['annotations']:
            ids = np.array(
                Image.open(notes / f'panoptic_{split}' / note['file_name']))
            found = derive_instances(
                ids.astype(int) @ [1, 256, 65536], note['segments_info'],
                content['categories'])
            ids = sorted(c['id'] for c in things)
            for box, mask, label, crowd in zip(*(found[key]
                                                 for key in ('boxes', 'masks',
                                                             'labels',
                                                             'crowd'))):
                code = rle.encode(np.asfortranarray(mask.astype(np.uint8)))
                x1, y1, x2, y2 = map(int, box)
                instances.append(
                    dict(
                        id=len(instances) + 1,
                        image_id=note['image_id'],
                        category_id=ids[label],
                        iscrowd=int(crowd),
                        area=int(mask.sum()),
                        bbox=[x1, y1, x2 - x1, y2 - y1],
                        segmentation=dict(
                            size=code['size'],
                            counts=code['counts'].decode())))
        (notes / f'instances_{split}.json').write_text(
            json.dumps(
                dict(
                    images=content['images'],
                    # mmdet's metrics take labels in the order of the JSON
                    categories=sorted(things, key=lambda c: c['id']),
                    annotations=instances)))
    return root


def small(name, work_dir, root, iterations=ITERATIONS):
    """The config on few images, trained and evaluated on the same ones."""
    cfg = read_config(CONFIGS / f'{name}.py')
    for loader in (cfg.train_dataloader, cfg.val_dataloader):
        loader.update(batch_size=2, num_workers=0, persistent_workers=False)
        loader.dataset.update(data_root=f'{root}/', generate=RECIPE)
        for step in loader.dataset.pipeline:
            step.update(dict(scale=(96, 96)) if 'scale' in step else {})
    cfg.val_dataloader.dataset.update(
        ann_file='annotations/panoptic_train.json',
        data_prefix=dict(img='train/', seg='annotations/panoptic_train/'))
    notes = root / 'annotations'
    cfg.val_evaluator.metrics += [
        dict(
            type='CocoPanopticMetric',
            seg_prefix=str(notes / 'panoptic_train'),
            prefix='theirs'),
        dict(
            type='CocoMetric',
            ann_file=str(notes / 'instances_train.json'),
            metric=['bbox', 'segm'],
            prefix='their_ap')
    ]
    cfg.train_cfg.update(max_iters=iterations, val_interval=iterations)
    cfg.param_scheduler = []
    cfg.test_dataloader = cfg.test_cfg = cfg.test_evaluator = None
    # what is learned by then shows on the map
    cfg.model.test_cfg.update(object_mask_thr=0.2, iou_thr=0.2)
    if 'panoptic' in cfg.model.test_cfg:
        cfg.model.test_cfg.panoptic.score_thr = 0.2
    cfg.default_hooks.checkpoint.update(save_best=None)
    cfg.work_dir = str(work_dir)
    cfg.experiment_name = f'{name}-{work_dir.name}'
    cfg.launcher = 'none'
    return cfg


class Run:
    """A finished run: losses, batches of training, predicted samples,
    scores and the last log."""

    def __init__(self, cfg):
        self.losses, self.batches, self.predicted = [], [], []
        self.runner = PanopticRunner.from_cfg(cfg)
        model = self.runner.model
        for name, taken in (('loss', self.batches),
                            ('train_step', self.losses), ('val_step',
                                                          self.predicted)):
            self._note(model, name, taken)
        self.runner.train()
        folder = Path(self.runner.work_dir)
        self.scores = json.loads((folder / 'metrics.json').read_text())
        self.log = next(folder.glob('*/*.log')).read_text()
        self.total = [sum_of(one) for one in self.losses]

    @staticmethod
    def _note(model, name, taken):
        method = getattr(model, name)

        def noting(*args, **kwargs):
            out = method(*args, **kwargs)
            if name == 'loss':
                taken.append(args[1])
            else:
                # mmdet's metric overwrites void in the maps
                taken.extend(
                    copy.deepcopy(out) if isinstance(out, list) else [out])
            return out

        setattr(model, name, noting)


def sum_of(losses):
    return float(losses['loss'].detach())


@pytest.fixture(scope='module')
def runs(root, tmp_path_factory):
    finished = {}

    def get(name):
        if name not in finished:
            folder = tmp_path_factory.mktemp('run')
            finished[name] = Run(small(name, folder, root))
        return finished[name]

    return get


def assert_same_scores(scores):
    """PQ, SQ and RQ of both metrics; AP, which mmdet rounds."""
    for group in ('', '_th', '_st'):
        for key in ('PQ', 'SQ', 'RQ'):
            ours = scores[f'coco_panoptic/{key}{group}']
            assert ours == pytest.approx(
                scores[f'theirs/{key}{group}'], abs=1e-9), key
    for kind in ('bbox', 'segm'):
        for item in ('', '_50', '_75', '_s', '_m', '_l'):
            ours = scores.get(f'coco/{kind}_mAP{item}')
            other = scores[f'their_ap/{kind}_mAP{item}']
            if other == -1:  # no object of such a size
                assert ours is None
            else:
                assert ours == pytest.approx(other, abs=6e-4)


@pytest.mark.parametrize('name', TINY)
def test_it_trains_and_one_pass_gives_all_scores(name, runs):
    run = runs(name)
    assert len(run.total) == ITERATIONS and np.isfinite(run.total).all()
    assert np.mean(run.total[-4:]) < 0.95 * np.mean(run.total[:4])
    assert_same_scores(run.scores)
    # MaskFormer learns more slowly, see below
    assert 'maskformer' in name or run.scores['coco_panoptic/PQ'] > 0
    assert run.scores['coco/segm_mAP'] is not None
    derived = 'prediction derived from the panoptic map' in run.log
    assert derived == ('former' in name)


@pytest.mark.parametrize('name', TINY)
def test_the_demo_shows_the_map_of_the_evaluation(name, runs, root, tmp_path):
    """Overlay, PNG and JSON; what is this project's own is refused."""
    run = runs(name)
    folder = Path(run.runner.work_dir)
    weights = str(next(folder.glob('iter_*.pth')))
    cfg = run.runner.cfg.copy()
    cfg.test_dataloader = cfg.val_dataloader
    inferencer = PanopticInferencer(cfg, weights, 'cpu')
    sample = max(
        run.predicted, key=lambda s: len(s.pred_panoptic_seg.sem_seg.unique()))
    found = inferencer(sample.img_path, out_dir=str(tmp_path))['predictions']
    codes, areas = sample.pred_panoptic_seg.sem_seg.unique(return_counts=True)
    areas = areas[codes != 9].tolist()
    assert [one['area'] for one in found[0]['segments']] == areas
    ids = np.array(Image.open(found[0]['panoptic_seg_path']))[..., 0]
    assert np.bincount(ids.ravel(), minlength=1)[1:].tolist() == areas
    assert Path(found[0]['overlay_path']).is_file()
    with pytest.raises(InputError, match='takes no other score threshold'):
        inferencer(sample.img_path, pred_score_thr=0.5)
    with pytest.raises(InputError, match='merge of branches'):
        save_branches(run.runner, str(tmp_path))


@pytest.mark.parametrize('name', TINY)
def test_the_export_is_refused(name, tmp_path):
    pytest.importorskip('onnxruntime')
    from panoptic_apps.export_onnx import export_model
    model = MODELS.build(load(name).model)
    with pytest.raises(InputError, match='TwoStagePanopticFPN is'):
        export_model(model, str(tmp_path / 'onnx'))


@pytest.mark.parametrize('option,enable',
                         [('--tta', enable_tta),
                          ('--panoptic-only', enable_panoptic_only)])
@pytest.mark.parametrize('name', TINY)
def test_options_of_this_projects_model_are_refused(name, option, enable):
    cfg = load(name)
    with pytest.raises(
            InputError, match=f'{option}: .*{name}.py is .*{option} out'):
        enable(cfg)
    if option == '--tta':
        cfg.update(tta_model=dict(type='PanopticTTAModel'), tta_pipeline=[])
        with pytest.raises(InputError, match='for TwoStagePanopticFPN'):
            enable(cfg)


@pytest.mark.parametrize('name', TINY)
def test_mIoU_is_that_of_the_labels_on_the_map(name, runs, root):
    """By plain counting over all pixels of 5 stuff channels and one."""
    run = runs(name)
    content = json.loads(
        (root / 'annotations/panoptic_train.json').read_text())
    counts = np.zeros((10, 10), int)
    for note, sample in zip(content['annotations'], run.predicted):
        assert note['image_id'] == sample.img_id
        ids = np.array(
            Image.open(root / 'annotations/panoptic_train' /
                       note['file_name'])).astype(int)
        truth = derive_semantic(ids @ [1, 256, 65536], note['segments_info'],
                                content['categories'])
        if 'pred_sem_seg' in sample:  # channels: 5 stuff, then 'other'
            found = (sample.pred_sem_seg.sem_seg[0].numpy() + 4) % 9
        else:
            found = sample.pred_panoptic_seg.sem_seg[0].numpy() % 1000
        np.add.at(counts, (truth[truth >= 0], found[truth >= 0]), 1)
    things = [0, 1, 2, 3]
    groups = [things, *([i] for i in range(4, 9))]
    ious = []
    for group in groups:
        both = counts[np.ix_(group, group)].sum()
        union = counts[group].sum() + counts[:, group].sum() - both
        if counts[group].sum():
            ious.append(100 * both / union)
    assert run.scores['mIoU'] == pytest.approx(np.mean(ious), abs=1e-9)


@pytest.mark.parametrize('name', TINY)
def test_void_and_padding_are_255_in_training(name, runs):
    """What mmdet's heads leave out; the data have void pixels."""
    found = set()
    for samples in runs(name).batches:
        for sample in samples:
            labels = set(sample.gt_sem_seg.sem_seg.unique().tolist())
            assert labels <= {*range(9), 255}
            found |= labels
            assert sample.gt_instances.labels.max() < 4
    assert 255 in found and len(found) > 6


def test_panoptic_fpn_of_mmdet_gives_the_map_that_mmdet_gives(runs):
    """With mmdet's settings, from the same weights and images."""
    run = runs('panoptic-fpn_tiny_mmdet_synthetic')
    cfg = run.runner.cfg.model.copy()
    settings = theirs('panoptic-fpn').model.test_cfg
    settings.rcnn.score_thr = 0.1  # little is learned
    cfg.test_cfg.rcnn = settings.rcnn
    cfg.test_cfg.panoptic = dict(mask_overlap=0.5, stuff_area_limit=64)
    models = []
    for kind, head in ((cfg.type, cfg.panoptic_fusion_head.type),
                       ('PanopticFPN', 'HeuristicFusionHead')):
        cfg.type, cfg.panoptic_fusion_head.type = kind, head
        model = MODELS.build(cfg).eval()
        model.load_state_dict(run.runner.model.state_dict())
        models.append(model)
    instances = 0
    for batch in run.runner.val_dataloader:
        with torch.no_grad():
            ours, other = (model.val_step(batch) for model in models)
        for one, two in zip(ours, other):
            assert torch.equal(one.pred_panoptic_seg.sem_seg,
                               two.pred_panoptic_seg.sem_seg)
            assert 'pred_instances' not in two
            instances += len(one.pred_instances)
    assert instances


@pytest.mark.slow
@pytest.mark.parametrize('name', TINY)
def test_it_learns_the_shapes(name, root, tmp_path):
    """From scratch on four images, which it then knows."""
    run = Run(small(name, tmp_path, root, 300))
    scores = {k: v for k, v in run.scores.items() if isinstance(v, float)}
    print(f'{name}: loss {run.total[0]:.2f} -> {run.total[-1]:.2f}', scores)
    assert_same_scores(scores)
    # MaskFormer needs many more iterations
    falls_to, least = (0.7, 0) if 'maskformer' in name else (0.5, 30)
    assert run.total[-1] < falls_to * run.total[0]
    assert scores['coco_panoptic/PQ'] > least


# Layers on this project's structures ---------------------------------------


def test_void_is_padding_where_padding_is_no_label():
    """-1, as the transforms have it, in maps of two sizes."""
    samples = []
    for side in (3, 4):
        sample = DetDataSample(metainfo=dict(img_shape=(side, side)))
        sample.gt_instances = InstanceData()
        labels = torch.arange(side * side).reshape(1, side, side) - 1
        sample.gt_sem_seg = PixelData(sem_seg=labels.to(torch.int16))
        samples.append(sample)
    layer = MODELS.build(
        dict(
            type='PanopticDataPreprocessor',
            pad_size_divisor=4,
            pad_seg=True,
            seg_pad_value=255))
    images = [torch.zeros(3, side, side) for side in (3, 4)]
    data = layer(dict(inputs=images, data_samples=samples), training=True)
    small_map, large_map = (
        s.gt_sem_seg.sem_seg[0] for s in data['data_samples'])
    assert small_map.tolist() == [[255, 0, 1, 255], [2, 3, 4, 255],
                                  [5, 6, 7, 255], [255] * 4]
    assert large_map.flatten().tolist() == [255, *range(15)]
