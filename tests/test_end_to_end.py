"""Whole runs through the tools, as a user starts them. Slow."""
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from panoptic_apps.toy_data.synthetic_shapes import write_dataset

ROOT = Path(__file__).resolve().parents[1]
TINY = ROOT / 'configs' / 'synthetic' / 'panoptic-fpn_tiny_synthetic.py'
R50 = ROOT / 'configs' / 'coco' / 'panoptic-fpn_r50_fpn_1x_coco.py'
RECIPE = dict(num_train=24, num_val=4, size=128, seed=3)

pytestmark = pytest.mark.slow


@pytest.fixture(scope='module')
def shapes(tmp_path_factory):
    root = tmp_path_factory.mktemp('shapes') / 'data'
    write_dataset(str(root), **RECIPE)
    return root


def command(shapes, work_dir, iters=12, workers=0, processes=1, resume=False):
    """Train the tiny config for a few iterations, saving every third."""
    start = [sys.executable, str(ROOT / 'tools' / 'train.py'), str(TINY)]
    if processes > 1:
        tool = ROOT / 'tools' / 'dist_train.sh'
        start = ['bash', str(tool), str(TINY), str(processes)]
    options = [
        f'train_cfg.max_iters={iters}', f'train_cfg.val_interval={iters}',
        'train_dataloader.batch_size=2',
        f'train_dataloader.num_workers={workers}',
        f'train_dataloader.persistent_workers={bool(workers)}',
        'val_dataloader.num_workers=0',
        'val_dataloader.persistent_workers=False',
        'default_hooks.checkpoint.interval=3',
        'default_hooks.logger.interval=1',
        'default_hooks.visualization.draw=False'
    ]
    for split in ('train', 'val'):
        prefix = f'{split}_dataloader.dataset'
        options += [
            f'{prefix}.data_root={shapes}/',
            f'{prefix}.generate.num_train={RECIPE["num_train"]}',
            f'{prefix}.generate.num_val={RECIPE["num_val"]}',
            f'{prefix}.generate.seed={RECIPE["seed"]}'
        ]
    return [
        *start, '--work-dir',
        str(work_dir), *(['--resume'] if resume else []), '--cfg-options',
        *options
    ]


def environment():
    return dict(
        os.environ,
        OMP_NUM_THREADS='1',
        PYTHON=sys.executable,
        PORT=str(29600 + os.getpid() % 300))


def run(arguments):
    done = subprocess.run(
        arguments, env=environment(), cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout + done.stderr


def kill_after(arguments, path):
    """Start, and SIGKILL all processes as soon as ``path`` exists."""
    psutil = pytest.importorskip('psutil')
    process = psutil.Popen(
        arguments,
        env=environment(),
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL)
    deadline = time.time() + 300
    while not path.exists() and time.time() < deadline:
        assert process.poll() is None, 'ended before it was killed'
        time.sleep(0.05)
    # torchrun starts its workers in sessions of their own
    family = [process, *process.children(recursive=True)]
    for member in family:
        member.suspend()
    for member in family:
        member.kill()
    psutil.wait_procs(family)


def assert_same_bits(*work_dirs):
    first, second = (
        torch.load(folder / 'iter_12.pth', weights_only=True)['state_dict']
        for folder in work_dirs)
    assert first.keys() == second.keys()
    for name in first:
        assert torch.equal(first[name], second[name]), name


def iterations(log):
    """Numbers of the training iterations that a log tells of."""
    return [
        int(line.split('Iter(train) [')[1].split('/')[0])
        for line in log.splitlines() if 'Iter(train) [' in line
    ]


@pytest.mark.parametrize(
    'setting', [{}, dict(workers=2), dict(processes=2)], ids=str)
def test_killed_and_resumed_ends_with_the_same_bits(shapes, tmp_path, setting):
    whole, killed = tmp_path / 'whole', tmp_path / 'killed'
    run(command(shapes, whole, **setting))
    kill_after(command(shapes, killed, **setting), killed / 'iter_6.pth')
    log = run(command(shapes, killed, resume=True, **setting))
    assert iterations(log)[0] in (7, 10) and iterations(log)[-1] == 12
    assert_same_bits(whole, killed)
    assert json.loads((whole / 'metrics.json').read_text()) == json.loads(
        (killed / 'metrics.json').read_text())


def photo_options(sample_dir, split):
    prefix = f'{split}_dataloader.dataset'
    return [
        f'{prefix}.data_root={sample_dir}/',
        f'{prefix}.ann_file=panoptic.json',
        f'{prefix}.instances_ann_file=None',
        f'{prefix}.data_prefix.img=images/',
        f'{prefix}.data_prefix.seg=panoptic/'
    ]


def test_full_size_r50_trains_and_evaluates_on_photographs(
        sample_dir, tmp_path):
    """One iteration and one evaluation at 800 pixels, on the CPU."""
    log = run([
        sys.executable,
        str(ROOT / 'tools' / 'train.py'),
        str(R50), '--work-dir',
        str(tmp_path), '--cfg-options', 'model.backbone.init_cfg=None',
        'train_cfg.max_iters=1', 'default_hooks.logger.interval=1',
        'val_evaluator.metrics.1.ann_file=None',
        *photo_options(sample_dir, 'train'), *photo_options(sample_dir, 'val')
    ])
    assert iterations(log) == [1]
    metrics = json.loads((tmp_path / 'metrics.json').read_text())
    for key in ('coco_panoptic/PQ', 'coco/segm_mAP', 'mIoU', 'fIoU'):
        assert metrics[key] is not None and metrics[key] >= 0


@pytest.fixture(scope='module')
def trained(shapes, tmp_path_factory):
    """Checkpoint that finds most things of the few images."""
    work_dir = tmp_path_factory.mktemp('trained')
    run(command(shapes, work_dir, iters=300))
    return work_dir / 'iter_300.pth'


def test_scores_of_a_run_are_panopticapis(shapes, trained, tmp_path):
    """From the files that it wrote, by the official code."""
    evaluation = pytest.importorskip('panopticapi.evaluation')
    prefix = tmp_path / 'results'
    options = command(shapes, tmp_path)
    options = options[options.index('--cfg-options') + 1:]
    run([
        sys.executable,
        str(ROOT / 'tools' / 'test.py'),
        str(TINY),
        str(trained), '--work-dir',
        str(tmp_path), '--cfg-options', *options,
        'test_evaluator.metrics.0.type=PanopticQualityMetric',
        f'test_evaluator.metrics.0.outfile_prefix={prefix}',
        f'test_dataloader.dataset.data_root={shapes}/',
        f'test_dataloader.dataset.generate.num_train={RECIPE["num_train"]}',
        f'test_dataloader.dataset.generate.num_val={RECIPE["num_val"]}',
        f'test_dataloader.dataset.generate.seed={RECIPE["seed"]}',
        'test_dataloader.num_workers=0',
        'test_dataloader.persistent_workers=False'
    ])
    truth = json.loads((shapes / 'annotations/panoptic_val.json').read_text())
    found = json.loads((tmp_path / 'results.panoptic.json').read_text())
    pairs = list(zip(truth['annotations'], found['annotations']))
    assert all(a['image_id'] == b['image_id'] for a, b in pairs)
    categories = {c['id']: c for c in truth['categories']}
    stat = evaluation.pq_compute_single_core(
        0, pairs, str(shapes / 'annotations/panoptic_val'),
        f'{prefix}.panoptic', categories)
    ours = json.loads((tmp_path / 'metrics.json').read_text())
    for suffix, kind in (('', None), ('_th', True), ('_st', False)):
        mean, _ = stat.pq_average(categories, isthing=kind)
        for name in ('PQ', 'SQ', 'RQ'):
            assert ours[f'coco_panoptic/{name}{suffix}'] == pytest.approx(
                100 * mean[name.lower()], abs=1e-7)
    assert ours['coco_panoptic/PQ'] > 30


def test_results_for_images_without_annotation(shapes, trained, tmp_path):
    """As on a test server: no annotations, no isthing in the categories."""
    truth = json.loads((shapes / 'annotations/panoptic_val.json').read_text())
    names = [dict(id=c['id'], name=c['name']) for c in truth['categories']]
    info = tmp_path / 'image_info.json'
    info.write_text(json.dumps(dict(images=truth['images'], categories=names)))
    config = tmp_path / 'server.py'
    config.write_text(f"""
_base_ = '{TINY}'
test_dataloader = dict(
    num_workers=0,
    persistent_workers=False,
    dataset=dict(
        _delete_=True,
        type='CocoPanopticFPNDataset',
        ann_file='{info}',
        categories_file='{shapes}/annotations/panoptic_val.json',
        data_prefix=dict(img='{shapes}/val/'),
        test_mode=True,
        pipeline={{{{_base_.test_pipeline}}}}))
""")
    run([
        sys.executable,
        str(ROOT / 'tools' / 'test.py'),
        str(config),
        str(trained), '--work-dir',
        str(tmp_path), '--format-only',
        str(tmp_path / 'out')
    ])
    found = json.loads((tmp_path / 'out.panoptic.json').read_text())
    assert len(found['annotations']) == RECIPE['num_val']
    for note in found['annotations']:
        assert (tmp_path / 'out.panoptic' / note['file_name']).is_file()
        assert note['segments_info']
