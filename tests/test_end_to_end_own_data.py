"""The tutorial's way from own data to PQ, through the tools. Slow."""
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from panoptic_apps.toy_data.synthetic_shapes import CATEGORIES, draw_scene

from .oracles.perturb import rgb_of_ids

ROOT = Path(__file__).resolve().parents[1]
TINY = ROOT / 'configs' / 'synthetic' / 'panoptic-fpn_tiny_synthetic.py'
COUNTS = dict(train=40, val=8)

pytestmark = pytest.mark.slow


def own_categories(rng):
    """The shapes' classes with other ids: stuff first, shuffled."""
    ids = rng.choice(np.arange(1, 400), len(CATEGORIES), replace=False)
    entries = [
        dict(old, id=int(id_), name=f'my {old["name"]}')
        for old, id_ in zip(CATEGORIES, ids)
    ]
    entries = [entries[i] for i in rng.permutation(len(entries))]
    entries.sort(key=lambda entry: entry['isthing'])
    return entries, {old['id']: int(id_) for old, id_ in zip(CATEGORIES, ids)}


@pytest.fixture(scope='module', name='root')
def _root(tmp_path_factory):
    """Pictures and PNGs under names of their own, string ids."""
    root = tmp_path_factory.mktemp('own')
    categories, new_id = own_categories(np.random.default_rng(7))
    (root / 'photos').mkdir()
    for seed, (split, count) in enumerate(COUNTS.items()):
        (root / f'{split}_masks').mkdir()
        images, notes = [], []
        for index in range(count):
            picture, ids, segments = draw_scene(seed, index, 96)
            name = f'{split}_{index:02d}'
            Image.fromarray(picture).save(root / 'photos' / f'{name}.png')
            Image.fromarray(rgb_of_ids(ids)).save(root / f'{split}_masks' /
                                                  f'mask-{name}.png')
            images.append(
                dict(
                    id=f'shot_{name}_b',
                    file_name=f'{name}.png',
                    height=96,
                    width=96))
            notes.append(
                dict(
                    image_id=f'shot_{name}_b',
                    file_name=f'mask-{name}.png',
                    segments_info=[
                        dict(s, category_id=new_id[s['category_id']])
                        for s in segments
                    ]))
        (root / f'{split}.json').write_text(
            json.dumps(
                dict(images=images, annotations=notes, categories=categories)))
    return root


def run(tool, *arguments):
    environment = dict(os.environ, OMP_NUM_THREADS='1')
    done = subprocess.run(
        [sys.executable,
         str(ROOT / 'tools' / tool), *map(str, arguments)],
        env=environment,
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=1200)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout


def test_check_new_dataset_train_and_test(root, tmp_path):
    data = {
        split: [
            root / f'{split}.json', '--images', root / 'photos', '--panoptic',
            root / f'{split}_masks'
        ]
        for split in COUNTS
    }
    report = run('check_dataset.py', *data['train'])
    assert '40 images (40 annotated)' in report and 'error' not in report
    report = run('check_dataset.py', *data['val'], '--against',
                 root / 'train.json', '--against-images', root / 'photos')
    assert 'error' not in report

    config = tmp_path / 'own.py'
    given = []
    for split in COUNTS:
        given += [
            f'--{split}', root / f'{split}.json', f'--{split}-images',
            root / 'photos', f'--{split}-panoptic', root / f'{split}_masks'
        ]
    told = run('new_dataset.py', 'own', *given, '--base', TINY, '--out',
               config, '--batch-size', 2, '--max-iters', 240)
    assert '4 thing and 5 stuff classes' in told

    run('train.py', config, '--work-dir', tmp_path / 'run')
    checkpoint = tmp_path / 'run' / 'iter_240.pth'
    run('test.py', config, checkpoint, '--work-dir', tmp_path / 'test')
    metrics = json.loads((tmp_path / 'test' / 'metrics.json').read_text())
    assert metrics['coco_panoptic/PQ'] > 10
    assert metrics['mIoU'] > 20
    names = {f'my {c["name"]}' for c in CATEGORIES}
    assert names <= set(metrics['classwise'])
    by_class = metrics['classwise']
    # a class that is found at all is found under its own name
    sky, grass = by_class['my sky'], by_class['my grass']
    assert max(sky['PQ'] or 0, grass['PQ'] or 0) > 10
