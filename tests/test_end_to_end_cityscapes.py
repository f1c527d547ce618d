"""Cityscapes from the download to the official scripts, by tools. Slow."""
import json
import os
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from .oracles.cityscapes_official import (instance_mean, instance_scores,
                                          panoptic_scores, pixel_scores)

ROOT = Path(__file__).resolve().parents[1]
CONFIGS = ROOT / 'configs' / 'cityscapes'
TINY = CONFIGS / 'panoptic-fpn_tiny_miniature.py'
R50 = CONFIGS / 'panoptic-fpn_r50_fpn_65k_cityscapes.py'
CONVERTERS = 'dataset_converters'

pytestmark = pytest.mark.slow


def run(tool, *arguments, config_options=()):
    command = [sys.executable, str(ROOT / 'tools' / tool)]
    if tool.endswith('.sh'):
        command = ['bash', command[1]]
    if config_options:
        arguments = [*arguments, '--cfg-options', *config_options]
    environment = dict(
        os.environ,
        OMP_NUM_THREADS='1',
        PYTHON=sys.executable,
        PORT=str(29300 + os.getpid() % 300))
    done = subprocess.run([*command, *map(str, arguments)],
                          env=environment,
                          cwd=ROOT,
                          capture_output=True,
                          text=True)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout + done.stderr


def make(folder, size, **counts):
    run(f'{CONVERTERS}/miniature_cityscapes.py', folder, '--size', *size,
        *(f'--num-{split}={count}' for split, count in counts.items()))
    return run(f'{CONVERTERS}/cityscapes.py', folder, '--num-workers', 2)


def data_options(root, *splits):
    return [
        f'{split}_dataloader.dataset.data_root={root}/' for split in splits
    ]


@pytest.fixture(scope='module')
def data(tmp_path_factory):
    root = tmp_path_factory.mktemp('miniature') / 'data'
    log = make(root, (128, 256), train=12, val=4, test=2)
    assert 'motorcycle' in log and '2971 fewer' not in log
    return root


@pytest.fixture(scope='module')
def trained(data, tmp_path_factory):
    work_dir = tmp_path_factory.mktemp('trained')
    log = run(
        'train.py',
        TINY,
        '--work-dir',
        work_dir,
        config_options=[
            'train_cfg.max_iters=60', 'train_cfg.val_interval=60',
            'default_hooks.checkpoint.interval=60',
            'train_dataloader.dataset.pipeline.2.scale=(256,128)',
            'train_dataloader.dataset.pipeline.2.crop_size=(64,128)',
            *data_options(data, 'train', 'val')
        ])
    assert '| classes ' in log and '| categories ' in log
    return work_dir / 'iter_60.pth'


def evaluate(data, trained, work_dir, *arguments, tool='test.py', options=()):
    extra = [2] if tool.endswith('.sh') else []
    run(
        tool,
        TINY,
        trained,
        *extra,
        '--work-dir',
        work_dir,
        *arguments,
        config_options=[
            # many detections and stuff of a model that has seen little
            'model.test_cfg.rcnn.score_thr=0.01',
            'model.test_cfg.panoptic.score_thr=0.05',
            'model.test_cfg.panoptic.stuff_area=16',
            *data_options(data, 'test'),
            *options
        ])
    path = Path(work_dir) / 'metrics.json'
    return json.loads(path.read_text()) if path.exists() else None


def test_scores_are_those_of_the_official_scripts(data, trained, tmp_path):
    ours = evaluate(data, trained, tmp_path / 'test')
    prefix = tmp_path / 'results' / 'val'
    assert evaluate(data, trained, tmp_path / 'files', '--format-only',
                    prefix) is None
    by_class = ours['classwise']
    truth = sorted((data / 'gtFine/val').glob('*/*_instanceIds.png'))

    panoptic_json = data / 'gtFine' / 'cityscapes_panoptic_val.json'
    names = {
        c['id']: c['name']
        for c in json.loads(panoptic_json.read_text())['categories']
    }
    official, counts = panoptic_scores(panoptic_json,
                                       f'{prefix}.panoptic.json')
    for id_, scores in official['per_class'].items():
        if sum(counts[id_]):
            for key in ('pq', 'sq', 'rq'):
                assert by_class[names[id_]][key.upper()] == pytest.approx(
                    100 * scores[key], abs=1e-6)
    for kind, suffix in (('All', ''), ('Things', '_th'), ('Stuff', '_st')):
        assert ours[f'coco_panoptic/PQ{suffix}'] == pytest.approx(
            100 * official[kind]['pq'], abs=1e-6)

    folder = Path(f'{prefix}.instances')
    for name, scores in instance_scores(truth, folder).items():
        assert None not in scores
        assert by_class[name]['AP'] == pytest.approx(np.mean(scores), abs=1e-6)
    assert ours['cityscapes/mAP'] == pytest.approx(
        instance_mean(truth, folder), abs=1e-6)

    pixels = pixel_scores(truth, f'{prefix}.semantic')
    for name, scores in by_class.items():
        assert scores['IoU'] == pytest.approx(
            100 * pixels['classScores'][name], abs=1e-6)
    for key, theirs in (('mIoU', 'Classes'), ('iIoU', 'InstClasses'),
                        ('mIoU_category', 'Categories'), ('iIoU_category',
                                                          'InstCategories')):
        assert ours[key] == pytest.approx(
            100 * pixels[f'averageScore{theirs}'], abs=1e-6)
    assert ours['mIoU'] > 10


def test_two_processes_give_the_same_scores_and_files(data, trained, tmp_path):
    one, two = (evaluate(
        data,
        trained,
        tmp_path / f'run{n}',
        '--save-branches',
        tmp_path / f'branches{n}',
        tool=tool) for n, tool in ((1, 'test.py'), (2, 'dist_test.sh')))
    processes = [s.pop('record')['processes'] for s in (one, two)]
    assert processes == [1, 2] and one == two
    files = [sorted((tmp_path / f'branches{n}').glob('*.npz')) for n in (1, 2)]
    assert len(files[0]) == 4
    for first, second in zip(*files, strict=True):
        assert first.name == second.name
        with np.load(first) as a, np.load(second) as b:
            assert a.files == b.files
            assert all(np.array_equal(a[key], b[key]) for key in a.files)
    sweeps = []
    for number in (1, 2):
        folder = tmp_path / f'branches{number}'
        log = run('sweep_merge.py', folder, '--score-thr', 0.05, 0.5,
                  '--overlap-thr', 0.5, '--stuff-area', 16, 512)
        assert '<- config' in log
        assert cv2.imread(str(folder / 'sweep.png')) is not None
        sweeps.append(json.loads((folder / 'sweep.json').read_text()))
        assert sweeps[-1].pop('record')['processes'] == number
    assert sweeps[0] == sweeps[1]
    assert sweeps[0]['config']['PQ'] == one['coco_panoptic/PQ']
    settings = {
        (s['score_thr'], s['stuff_area']): s
        for s in sweeps[0]['settings']
    }
    assert settings[0.05, 16]['PQ'] == one['coco_panoptic/PQ']


def test_files_for_the_server(data, trained, tmp_path):
    prefix = tmp_path / 'test'
    evaluate(
        data,
        trained,
        tmp_path / 'log',
        '--format-only',
        prefix,
        options=[
            'test_dataloader.dataset.ann_file=gtFine/panoptic_fpn_test.json',
            'test_dataloader.dataset.data_prefix.img=leftImg8bit/test/'
        ])
    images = sorted(
        p.name.replace('_leftImg8bit.png', '')
        for p in (data / 'leftImg8bit/test').glob('*/*'))
    found = json.loads(Path(f'{prefix}.panoptic.json').read_text())
    assert sorted(a['image_id'] for a in found['annotations']) == images
    ids = set(range(7, 34))
    for image in images:
        labels = cv2.imread(f'{prefix}.semantic/{image}_pred_labelIds.png',
                            cv2.IMREAD_UNCHANGED)
        assert labels.shape == (128, 256) and set(np.unique(labels)) <= ids
        assert Path(f'{prefix}.instances/{image}_pred.txt').is_file()


def test_semantic_fpn_alone(data, tmp_path):
    options = [
        'model.loss_weights.instance=0', 'train_cfg.max_iters=2',
        'train_cfg.val_interval=2', *data_options(data, 'train', 'val')
    ]
    run('train.py', TINY, '--work-dir', tmp_path, config_options=options)
    scores = json.loads((tmp_path / 'metrics.json').read_text())
    assert scores['mIoU'] >= 0 and scores['iIoU'] >= 0
    assert scores['cityscapes/mAP'] is None


@pytest.mark.gpu
@pytest.mark.parametrize('amp', [[], ['--amp']], ids=['float32', 'float16'])
def test_an_iteration_and_an_evaluation_on_a_gpu(data, tmp_path, amp):
    if not torch.cuda.is_available():
        pytest.skip('no GPU')
    run('train.py',
        TINY,
        '--work-dir',
        tmp_path,
        *amp,
        config_options=[
            'train_cfg.max_iters=2', 'train_cfg.val_interval=2',
            *data_options(data, 'train', 'val')
        ])
    scores = json.loads((tmp_path / 'metrics.json').read_text())
    assert scores['mIoU'] >= 0 and scores['coco_panoptic/PQ'] >= 0


def test_full_size_crops_and_a_full_size_image(tmp_path):
    """One iteration on two crops, one evaluation at 1024 x 2048."""
    root = tmp_path / 'full'
    make(root, (1024, 2048), train=2, val=1, test=0)
    log = run(
        'train.py',
        R50,
        '--work-dir',
        tmp_path / 'work',
        config_options=[
            'model.backbone.init_cfg=None', 'train_dataloader.batch_size=2',
            'train_dataloader.num_workers=1', 'train_cfg.max_iters=1',
            'val_dataloader.num_workers=1', 'default_hooks.logger.interval=1',
            *data_options(root, 'train', 'val')
        ])
    assert 'Iter(train) [1/1]' in log
    scores = json.loads((tmp_path / 'work' / 'metrics.json').read_text())
    for key in ('coco_panoptic/PQ', 'cityscapes/mAP', 'mIoU', 'iIoU'):
        assert scores[key] is not None and scores[key] >= 0
