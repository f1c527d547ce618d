"""Cityscapes' archives: the official scripts read them, faults are named."""
import zipfile

import numpy as np
import pytest

from panoptic_apps.submission import SERVERS, check_archive
from panoptic_fpn.coco_format import ERROR, WARNING
from panoptic_fpn.metrics import (CityscapesInstanceAPMetric,
                                  CityscapesSemanticIoUMetric,
                                  PanopticEvaluator, PanopticQualityMetric)
from tests.oracles.cityscapes_official import (instance_scores,
                                               panoptic_scores, pixel_scores,
                                               write_panoptic_truth)
from tests.oracles.cityscapes_scenes import write_ground_truth
from tests.panoptic_fpn.metrics.cityscapes import META, sample_of

from .archives import (CITYSCAPES, cityscapes_results, edit_json, edit_png,
                       read_all, write_all, zip_task)

SERVER = SERVERS['cityscapes']


@pytest.fixture(scope='module')
def made(tmp_path_factory):
    """Scenes, archives by task, and what they have to be about."""
    folder = tmp_path_factory.mktemp('cityscapes')
    scenes, expected = cityscapes_results(folder)
    paths = {key: zip_task(CITYSCAPES[key], folder) for key in CITYSCAPES}
    return scenes, paths, expected


def test_the_official_scripts_score_them_as_we_do(made, tmp_path):
    scenes, paths, expected = made
    for task, path in paths.items():
        assert check_archive(str(path), SERVER, None, expected, 1).counts == {}
        with zipfile.ZipFile(path) as archive:
            archive.extractall(tmp_path / task)
    evaluator = PanopticEvaluator([
        PanopticQualityMetric(),
        CityscapesInstanceAPMetric(),
        CityscapesSemanticIoUMetric()
    ])
    evaluator.dataset_meta = META
    evaluator.process([sample_of(scene) for scene in scenes])
    ours = evaluator.evaluate(len(scenes))
    truth = write_ground_truth(scenes, tmp_path)
    pixels = pixel_scores(truth, tmp_path / 'pixel')
    assert ours['mIoU'] == pytest.approx(
        100 * pixels['averageScoreClasses'], abs=1e-9)
    official = instance_scores(truth, tmp_path / 'instance')
    for name, column in official.items():
        assert evaluator.by_class[name].get('AP', np.nan) == pytest.approx(
            np.mean([0. if v is None else v for v in column]), nan_ok=True)
    found_json, = (tmp_path / 'panoptic').glob('*.json')
    scores, _ = panoptic_scores(write_panoptic_truth(tmp_path), found_json)
    assert ours['coco_panoptic/PQ'] == pytest.approx(
        100 * scores['All']['pq'], abs=1e-9)


def a_text(files):
    """The text file with the most lines."""
    return max((name for name in files if name.endswith('.txt')),
               key=lambda name: files[name].count(b'\n'))


def a_png(files):
    return min(name for name in files if name.endswith('.png'))


def by_png(change):
    return lambda files: edit_png(files, change)


def set_pixel(pixels, value):
    pixels[0, 0] = value
    return pixels


def by_line(change):
    """Change the first line of a text file, given as its three parts."""

    def edit(files):
        name = a_text(files)
        first, *others = files[name].decode().splitlines()
        lines = [' '.join(change(*first.split(' '))), *others]
        files[name] = ('\n'.join(lines) + '\n').encode()

    return edit


def copy(choose, name):
    """Copy a file under another name, or to another folder."""
    return lambda files: files.update(
        {name.format(choose(files)): files[choose(files)]})


def remove(choose):
    return lambda files: files.pop(choose(files)) and None


#: (task, rule, change of the files); the last ones are warnings.
FAULTS = [
    ('pixel', 'no_result', remove(a_png)),
    ('pixel', 'result_twice', copy(a_png, 'b/{}')),
    ('pixel', 'unknown_image', copy(a_png, 'ulm_000000_000000.png')),
    ('pixel', 'unknown_image', copy(a_png, 'map.png')),
    ('pixel', 'layout', lambda files: files.update({'note.txt': b''})),
    ('pixel', 'png_format', by_png(lambda p: np.dstack([p, p, p]))),
    ('pixel', 'png_format', by_png(lambda p: p.astype(np.uint16))),
    ('pixel', 'png_size', by_png(lambda p: p[::2, ::2])),
    ('pixel', 'label_id', by_png(lambda p: set_pixel(p, 255))),
    ('instance', 'no_result', remove(a_text)),
    ('instance', 'result_twice', copy(a_text, 'b/{}')),
    ('instance', 'layout', copy(a_png, 'masks/other.png')),
    ('instance', 'mask_missing', by_line(lambda p, i, s: ['masks/x', i, s])),
    ('instance', 'line', by_line(lambda p, i, s: ['/x.png', i, s])),
    ('instance', 'line', by_line(lambda p, i, s: ['../x.png', i, s])),
    ('instance', 'line', by_line(lambda p, i, s: [p, i])),
    ('instance', 'line', by_line(lambda p, i, s: [p, '', i, s])),
    ('instance', 'label_id', by_line(lambda p, i, s: [p, '7', s])),
    ('instance', 'label_id', by_line(lambda p, i, s: [p, 'car', s])),
    ('instance', 'score', by_line(lambda p, i, s: [p, i, '1.5'])),
    ('instance', 'score', by_line(lambda p, i, s: [p, i, 'nan'])),
    ('instance', 'score', by_line(lambda p, i, s: [p, i, 'high'])),
    ('instance', 'mask_twice',
     lambda files: files.update({a_text(files): 2 * files[a_text(files)]})),
    ('instance', 'empty_mask', by_png(lambda p: 0 * p)),
    ('instance', 'png_size', by_png(lambda p: p[:, 1:])),
    # string ids of images
    ('panoptic', 'unknown_image', lambda files: edit_json(
        files, lambda c: c['annotations'][0].update(image_id=1))),
    # train ids
    ('pixel', 'ignored_id', by_png(lambda p: set_pixel(p, 0))),
    ('instance', 'mask_values', by_png(lambda p: set_pixel(p, 7))),
]


@pytest.mark.parametrize('number', range(len(FAULTS)))
def test_faults_are_named(made, tmp_path, number):
    _, paths, expected = made
    task, rule, change = FAULTS[number]
    files = read_all(paths[task])
    change(files)
    path = write_all(tmp_path / f'{task}.zip', files)
    found = check_archive(path, SERVER, task, expected, 1)
    if rule in ('ignored_id', 'mask_values'):
        assert found.kinds(WARNING) == [rule] and not found.kinds(ERROR)
    else:
        assert rule in found.kinds(ERROR), found.examples
