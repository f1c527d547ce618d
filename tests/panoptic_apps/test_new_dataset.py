"""tools/new_dataset.py: a config that fits a data set and trains as it is."""
import json
import os
import runpy
import subprocess

import numpy as np
import pytest
import torch
from mmdet.registry import DATASETS, EVALUATOR, MODELS, TASK_UTILS
from mmdet.structures.bbox import bbox_overlaps
from mmengine.config import Config
from mmengine.registry import PARAM_SCHEDULERS, DefaultScope

from mmengine_exact import read_config
from mmengine_exact.errors import InputError
from panoptic_apps.new_dataset.fit import anchor_scales, raised_limits
from panoptic_apps.new_dataset.new_dataset import (Split, new_dataset_config,
                                                   place_paths)
from panoptic_apps.new_dataset.schedule import scaled_schedule
from panoptic_fpn.training.label_check import check_class_counts, label_spaces
from panoptic_fpn.training.scale_check import scale_warning
from tests.conftest import REPO_ROOT, call_tool
from tests.oracles.perturb import (PanopticData, PanopticImage,
                                   write_coco_panoptic)

from .check_dataset import data

CONFIGS = REPO_ROOT / 'configs'
COCO = CONFIGS / 'coco/panoptic-fpn_r50_fpn_1x_coco.py'
SMALL = CONFIGS / 'custom/panoptic-fpn_efficientnet-lite0_custom.py'
BASES = [
    COCO, SMALL, CONFIGS / 'coco/semantic-fpn_r50_fpn_1x_coco.py',
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
    if base == SMALL:
        pytest.importorskip('efficientnet_lite_pytorch')
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
    pipeline = cfg.train_dataloader.dataset.pipeline
    if base == BASES[-1]:  # drawn images of another size
        assert [s.pop('scale') for s in pipeline if 'scale' in s] == [(64, 64)]
        old.train_pipeline[2].pop('scale')
        assert pipeline == old.train_pipeline
    else:
        assert pipeline == old.train_dataloader.dataset.pipeline


@pytest.mark.parametrize('base', [
    'panoptic-fpn_r50_fpn_mmdet-1x_coco', 'maskformer_r50_90k_cityscapes',
    'mask2former_r50_lsj-50e_coco'
])
def test_mmdets_models_take_the_classes(root, tmp_path, monkeypatch, base):
    base = CONFIGS / 'mmdet_models' / f'{base}.py'
    cfg = written(monkeypatch,
                  *arguments(root, tmp_path / 'my.py', '--base', base))
    with torch.device('meta'):
        model = MODELS.build(cfg.model)
    for loader in (cfg.train_dataloader, cfg.val_dataloader):
        dataset = DATASETS.build(loader.dataset)
        check_class_counts(model, label_spaces(dataset)[0])
    found = [metric.type for metric in cfg.test_evaluator.metrics]
    assert found == [
        'PanopticQualityMetric', 'PanopticInstanceAPMetric',
        'SemanticIoUMetric'
    ]
    if 'former' in base.stem:
        assert model.panoptic_head.class_weight == [1.0] * 9 + [0.1]
        assert model.panoptic_head.cls_embed.out_features == 10
    else:  # 64 x 64 pixels instead of COCO's
        assert cfg.model.test_cfg.panoptic.stuff_area_limit == 55
    sample = dataset[0]['data_samples']
    assert sample.gt_panoptic_seg.sem_seg.shape == (1, 64, 64)


@pytest.mark.parametrize('base', BASES, ids=lambda path: path.stem)
@pytest.mark.parametrize('size', [64, 150])
def test_training_and_validation_see_one_scale(tmp_path, monkeypatch, base,
                                               size):
    root = data.shapes(tmp_path / 'data', size=size, num_train=2, num_val=1)
    cfg = written(monkeypatch,
                  *arguments(root, tmp_path / 'my.py', '--base', base))
    train, val = [
        DATASETS.build(cfg[f'{split}_dataloader'].dataset)
        for split in ('train', 'val')
    ]
    for shape in ((size, size), (size, 2 * size)):
        assert scale_warning([train.pipeline], val.pipeline, shape, '') is None
    if base == BASES[-1]:
        assert train[0]['inputs'].shape == val[0]['inputs'].shape == (3, size,
                                                                      size)


def test_photographs_keep_their_size_up_to_cocos(tmp_path, monkeypatch, capfd):
    """Medians of longer and shorter sides, of whatever orientation."""
    for sizes, scale in [([(40, 60), (80, 44), (50, 70)], (70, 44)),
                         ([(900, 2000)], (1333, 600))]:
        folder = tmp_path / f'{scale[0]}'
        train = write_objects(folder, [(shape, [BALL]) for shape in sizes])
        cfg = written(monkeypatch,
                      *objects_arguments(train, folder / 'my.py', BASES[-1]))
        for loader in (cfg.train_dataloader, cfg.val_dataloader):
            found = [s for s in loader.dataset.pipeline if 'scale' in s]
            assert [step.scale for step in found] == [scale]
        assert f'resize images to {scale[0]} x {scale[1]} pixels' in \
            capfd.readouterr().out


def test_transforms_are_found_whatever_ran_before(root, tmp_path):
    DefaultScope._instance_dict.clear()  # as in a process of its own
    train = Split(f'{root}/annotations/panoptic_train.json', f'{root}/train',
                  f'{root}/annotations/panoptic_train')
    text, _ = new_dataset_config('my', train, None, str(BASES[-1]),
                                 str(tmp_path / 'my.py'))
    assert "type='PanopticResize'" in text


def test_schedule_of_few_images(root, tmp_path, monkeypatch, capfd):
    """90000 * 16 / 118287 = 12.2 epochs, 74 iterations of 2 images: too few.
    4096 pixels of 640 x 480 are 55 of 64 x 64."""
    cfg = written(monkeypatch,
                  *arguments(root, tmp_path / 'my.py', '--base', COCO))
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
    args = arguments(root, tmp_path / 'my.py', '--base', COCO, '--batch-size',
                     4, *more)
    cfg = written(monkeypatch, *args)
    assert cfg.train_cfg.max_iters == iters
    longer = read_config(cfg.filename, dict(max_iters=500))
    assert longer.train_cfg.max_iters == 500
    assert longer.param_scheduler[-1].end == 500
    assert cfg.train_dataloader.batch_size == 4
    assert cfg.optim_wrapper.optimizer.lr == 0.005


@pytest.mark.parametrize('gpu, base', [(True, COCO), (False, SMALL)])
def test_the_default_base_is_one_that_the_machine_can_train(
        monkeypatch, capfd, gpu, base):
    tool = runpy.run_path(str(REPO_ROOT / 'tools' / 'new_dataset.py'))
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: gpu)
    assert tool['default_base']() == str(base)
    needs = 'pip install -r requirements/small.txt'
    assert (needs in capfd.readouterr().out) != gpu


@pytest.mark.parametrize('images, iters', [(2, 300), (100, 300), (500, 300),
                                           (501, 301), (1000, 600)])
def test_a_base_that_states_its_data(images, iters):
    """300 iterations of 4 images are 2.4 epochs of 500: not fewer."""
    cfg = Config.fromfile(SMALL)
    assert scaled_schedule(cfg, images, batch=4).max_iters == iters


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
    """500 iterations of batch 8: 100 of batch 4 at half the rate."""
    cfg = Config.fromfile(BASES[-1])
    found = scaled_schedule(cfg, images=10, batch=4, max_iters=100)
    warm_up, cosine = found.param_scheduler
    assert warm_up['end'] == cosine['begin'] == 10
    assert cosine['end'] == 100
    assert cosine['eta_min'] == pytest.approx(5e-7)
    assert found.lr == pytest.approx(0.001)


@pytest.mark.parametrize('iters', [1, 2, 3, 5, 10, 20, 45])
@pytest.mark.parametrize('base', [COCO, BASES[-1]], ids=lambda path: path.stem)
def test_however_short_the_run_is_the_rate_gets_up(base, iters):
    """A warm-up of one iteration would leave the rate at its start, and one
    that ends with the run leaves nothing to the schedule after it."""
    found = scaled_schedule(
        Config.fromfile(base), images=10, batch=2, max_iters=iters)
    optimizer = torch.optim.SGD([torch.zeros(1)], lr=found.lr)
    schedulers = [
        PARAM_SCHEDULERS.build(
            dict(item), default_args=dict(optimizer=optimizer))
        for item in found.param_scheduler
    ]
    rates = []
    for _ in range(iters):
        rates.append(optimizer.param_groups[0]['lr'])
        optimizer.step()
        for scheduler in schedulers:
            scheduler.step()
    assert max(rates) == pytest.approx(found.lr)
    assert min(found.val_interval, iters) >= 1


# Of which kind the classes are ----------------------------------------------


def keep(root, chosen):
    """Reduce a data set to the categories that ``chosen`` returns true for;
    others become void."""
    for path in (root / 'annotations').glob('panoptic_*.json'):
        content = json.loads(path.read_text())
        kept = [c for c in content['categories'] if chosen(c)]
        ids = {c['id'] for c in kept}
        content['categories'] = kept
        for note in content['annotations']:
            png = path.with_suffix('') / note['file_name']
            note['segments_info'] = [
                s for s in note['segments_info'] if s['category_id'] in ids
            ]
            pixels = data.read_ids(png)
            left = [s['id'] for s in note['segments_info']]
            data.write_ids(png, np.where(np.isin(pixels, left), pixels, 0))
        path.write_text(json.dumps(content))


#: Classes, the score that the best checkpoint is named after.
KINDS = dict(
    no_val=(lambda c: True, 'coco_panoptic_PQ'),
    things=(lambda c: c['isthing'], 'coco_panoptic_PQ'),
    stuff=(lambda c: not c['isthing'], 'mIoU'),
    one_thing=(lambda c: c['name'] == 'disk', 'coco_panoptic_PQ'),
    one_stuff=(lambda c: c['name'] == 'sky', 'mIoU'))


@pytest.mark.parametrize('kind', KINDS)
def test_what_is_printed_can_be_run(tmp_path, monkeypatch, capfd, kind):
    """After one iteration there is a best checkpoint, which the printed
    command finds beside that of an earlier training."""
    monkeypatch.chdir(tmp_path)
    chosen, score = KINDS[kind]
    root = data.shapes(tmp_path / 'data', num_train=8, num_val=2)
    keep(root, chosen)
    old = tmp_path / 'work_dirs/my/best_coco_panoptic_PQ_iter_9.pth'
    old.parent.mkdir(parents=True)
    old.touch()
    os.utime(old, (1, 1))
    written(
        monkeypatch,
        *arguments(
            root,
            'my.py',
            '--base',
            BASES[-1],
            '--batch-size',
            2,
            '--max-iters',
            1,
            val=kind != 'no_val'))
    train, test = capfd.readouterr().out.splitlines()[-2:]
    assert train.split() == ['python', 'tools/train.py', 'my.py']
    options = [
        f'{name}_dataloader.num_workers=0' for name in ('train', 'val', 'test')
    ]
    assert call_tool(monkeypatch, 'train', 'my.py', '--cfg-options',
                     *options) == 0
    assert 'TWO SCALES' not in ''.join(capfd.readouterr())
    # as the shell reads it
    words = subprocess.check_output(['bash', '-c', f'printf "%s\\n" {test}'],
                                    text=True).splitlines()
    assert words == [
        'python', 'tools/test.py', 'my.py',
        f'work_dirs/my/best_{score}_iter_1.pth'
    ]
    assert call_tool(monkeypatch, 'test', *words[2:], '--cfg-options',
                     options[-1]) == 0


def test_a_run_with_two_scales_says_so(root, tmp_path, monkeypatch, capfd):
    out = tmp_path / 'my.py'
    written(
        monkeypatch,
        *arguments(root, out, '--base', BASES[-1], '--max-iters', 1,
                   '--batch-size', 2))
    options = [
        *(f'{name}_dataloader.num_workers=0' for name in ('train', 'val')),
        'val_dataloader.dataset.pipeline.1.scale=(128,96)'
    ]
    assert call_tool(monkeypatch, 'train', out, '--work-dir', tmp_path,
                     '--cfg-options', *options) == 0
    assert 'TWO SCALES: an image of 64 x 64 pixels (h x w) is resized to 64 ' \
        'x 64 by train_dataloader and to 96 x 96 by val_dataloader' in \
        capfd.readouterr().out


def test_the_best_of_a_base_without_a_semantic_branch(root, tmp_path,
                                                      monkeypatch):
    base = CONFIGS / 'paper/table2a/panoptic-fpn_r50_fpn_1x_coco_' \
        'lambda-s-0.0.py'
    cfg = written(monkeypatch,
                  *arguments(root, tmp_path / 'my.py', '--base', base))
    assert cfg.default_hooks.checkpoint.save_best == 'coco_panoptic/PQ_th'


# Their sizes and numbers ----------------------------------------------------

BALL, PERSON = ('ball', 13, 13), ('person', 60, 30)


def write_objects(root, images):
    """A data set of boxes on grass, and the path of its JSON.

    Args:
        images (list): For each the shape (h, w) and objects (name, h, w), in
            rows with a gap of one pixel.
    """
    names = ['grass', 'ball', 'person']
    categories = [
        dict(id=i, name=name, isthing=int(i > 0), color=[70 * i, 90, 40])
        for i, name in enumerate(names)
    ]
    written = []
    for number, (shape, objects) in enumerate(images):
        ids = np.ones(shape, np.int64)
        segments = [dict(id=1, category_id=0, iscrowd=0)]
        y = x = bottom = 0
        for name, h, w in objects:
            if x + w > shape[1]:
                y, x = bottom + 1, 0
            segments.append(
                dict(
                    id=len(segments) + 1,
                    category_id=names.index(name),
                    iscrowd=0))
            ids[y:y + h, x:x + w] = len(segments)
            x, bottom = x + w + 1, max(bottom, y + h)
        written.append(
            PanopticImage(number, f'{number}.png', f'{number}.png', ids,
                          segments))
    return write_coco_panoptic(
        PanopticData(categories, written), root, with_images=True)


def objects_arguments(path, out, base):
    folder = path.parent
    return [
        'my', '--out', out, '--train', path, '--train-images',
        folder / 'images', '--train-panoptic', folder / 'panoptic', '--base',
        base
    ]


def best_iou(cfg, shape, box):
    """Best IoU of a box (x1, y1, x2, y2) with any anchor of an image of a
    shape (h, w), by mmdet's grid of anchors."""
    generator = TASK_UTILS.build(cfg.model.rpn_head.anchor_generator)
    maps = [(shape[0] // s, shape[1] // s) for s, _ in generator.strides]
    anchors = torch.cat(generator.grid_priors(maps, device='cpu'))
    return float(bbox_overlaps(torch.tensor([box]), anchors).max())


@pytest.mark.parametrize('base, ball', [(BASES[-1], 13), (COCO, 13),
                                        (COCO, 8)])
def test_a_small_ball_has_an_anchor(tmp_path, monkeypatch, capfd, base, ball):
    """Of the size that the network sees, wherever in the image it lies."""
    height, width = 480, 640
    train = write_objects(tmp_path / 'data',
                          [((height, width), [('ball', ball, ball), PERSON])])
    cfg = written(monkeypatch,
                  *objects_arguments(train, tmp_path / 'my.py', base))
    assert "objects of class 'ball' are below" in capfd.readouterr().out
    scale = 1 if base == BASES[-1] else 800 / height
    box = np.array([100, 50, 100 + ball, 50 + ball], np.float32)
    for offset in np.random.default_rng(0).uniform(0, 32, (20, 2)):
        seen = (box + [*offset, *offset]) * scale
        iou = best_iou(cfg, (800, 1067), seen.astype(np.float32).tolist())
        assert iou > 0.5
    # as many at each position as in published weights
    assert len(cfg.model.rpn_head.anchor_generator.scales) == 1


def test_anchors_of_the_base_stay_where_they_fit():
    """From 16 to 256 pixels; 16 * sqrt(0.7) is 13.4."""
    base = Config.fromfile(BASES[-1]).model.rpn_head.anchor_generator
    assert anchor_scales(base, []) == anchor_scales(base, [14., 250.]) == [4]
    assert anchor_scales(base, [13., 100.]) == [3.2]
    # too large for anchors of up to 205 pixels alone
    assert anchor_scales(base, [250., 13.]) == [3.2, 4]
    # none below the finest map's stride
    assert anchor_scales(base, [2., 30.]) == [1.0]
    # anchors that are described in another way stay
    assert anchor_scales(dict(strides=[8, 16], octave_base_scale=4),
                         [2.]) is None


def test_more_objects_in_an_image_than_the_base_finds(tmp_path, monkeypatch,
                                                      capfd):
    """225 objects: the next hundred; twice as many proposals, where the base
    has fewer."""
    train = write_objects(tmp_path / 'data',
                          [((240, 240), [('ball', 14, 14)] * 225),
                           ((240, 240), [PERSON])])
    for base, proposals in ((BASES[-1], (600, 600, 600)), (COCO, (1000, 1000,
                                                                  1000))):
        cfg = written(
            monkeypatch,
            *objects_arguments(train, tmp_path / f'{base.stem}.py', base))
        assert '225 objects in an image, where the base finds 100' in \
            capfd.readouterr().out
        test = cfg.model.test_cfg
        assert test.rcnn.max_per_img == 300 and test.rcnn.score_thr == 0.05
        assert (test.rpn.nms_pre, test.rpn.max_per_img,
                cfg.model.train_cfg.rpn_proposal.max_per_img) == proposals
        with torch.device('meta'):
            assert MODELS.build(cfg.model).roi_head.test_cfg.max_per_img == 300
        assert raised_limits(cfg, 300) == {}


def test_without_things_it_is_semantic_fpn(root, tmp_path, monkeypatch):
    copy = data.shapes(tmp_path / 'data')
    for split in ('train', 'val'):
        data.edit(copy / f'annotations/panoptic_{split}.json', no_things)
    cfg = written(monkeypatch,
                  *arguments(copy, tmp_path / 'my.py', '--base', COCO))
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


def test_without_val_all_training_images_are_validated_on(
        tmp_path, monkeypatch, capfd):
    """Also one without a segment, which training leaves out."""
    copy = data.shapes(tmp_path / 'data', num_train=3, num_val=1)

    def empty(content):
        content['annotations'][0]['segments_info'] = []

    data.edit(copy / 'annotations/panoptic_train.json', empty)
    cfg = written(monkeypatch, *arguments(copy, tmp_path / 'my.py', val=False))
    assert '2 images to train on, 3 to validate on' in capfd.readouterr().out
    assert len(DATASETS.build(cfg.train_dataloader.dataset)) == 2
    assert len(DATASETS.build(cfg.val_dataloader.dataset)) == 3


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
    (['--epochs', 'nan'], 'above 0'),
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
    base = tmp_path / 'base.py'
    base.write_text(f'_base_ = {str(COCO)!r}\nval_dataloader = None\n')
    assert call_tool(monkeypatch, 'new_dataset',
                     *arguments(root, out, '--base', base)) == 1
    assert 'base.py: no val_dataloader.dataset.pipeline to inherit' in \
        capfd.readouterr().err
