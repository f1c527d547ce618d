"""The tutorial's way from own data to PQ, through the tools. Slow."""
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from panoptic_apps.toy_data.synthetic_shapes import CATEGORIES, write_dataset

ROOT = Path(__file__).resolve().parents[1]
TINY = ROOT / 'configs' / 'synthetic' / 'panoptic-fpn_tiny_synthetic.py'
COUNTS = dict(train=40, val=8)

pytestmark = pytest.mark.slow


@pytest.fixture(scope='module', name='root')
def _root(tmp_path_factory):
    """Pictures and PNGs under names of their own, string ids, and the shapes'
    classes with other ids, stuff first."""
    root = tmp_path_factory.mktemp('own')
    write_dataset(
        str(root / 'x'),
        num_train=COUNTS['train'],
        num_val=COUNTS['val'],
        size=96)
    (root / 'photos').mkdir()
    for split in COUNTS:
        annotations = root / 'x' / 'annotations'
        content = json.loads(
            (annotations / f'panoptic_{split}.json').read_text())
        (annotations / f'panoptic_{split}').rename(root / f'{split}_masks')
        for image, note in zip(content['images'], content['annotations']):
            name = f'{split}_{image["file_name"]}'
            (root / 'x' / split / image['file_name']).rename(root / 'photos' /
                                                             name)
            image.update(id=f'shot_{name}_b', file_name=name)
            note.update(image_id=image['id'])
            for segment in note['segments_info']:
                segment['category_id'] = 400 - segment['category_id']
        for category in content['categories']:
            category.update(
                id=400 - category['id'], name=f'my {category["name"]}')
        content['categories'].sort(key=lambda entry: entry['isthing'])
        (root / f'{split}.json').write_text(json.dumps(content))
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
    notes = run('new_dataset.py', 'own', *given, '--base', TINY, '--out',
                config, '--batch-size', 2, '--max-iters', 240)
    assert '4 thing and 5 stuff classes' in notes

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
