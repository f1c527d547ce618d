"""Cityscapes' archives: the official scripts read them, faults are named."""
import zipfile

import numpy as np
import pytest

from panoptic_apps.submission import SERVERS, check_archive
from panoptic_fpn.coco_format import ERROR
from panoptic_fpn.metrics import (CityscapesInstanceAPMetric,
                                  CityscapesSemanticIoUMetric,
                                  PanopticEvaluator, PanopticQualityMetric)
from tests.oracles.cityscapes_official import (instance_scores,
                                               panoptic_scores, pixel_scores,
                                               write_panoptic_truth)
from tests.oracles.cityscapes_scenes import write_ground_truth
from tests.panoptic_fpn.metrics.cityscapes import META, sample_of

from .archives import (CITYSCAPES, cityscapes_results, edit_json, pixels_of,
                       png, read_all, write_all, zip_task)

SERVER = SERVERS['cityscapes']


@pytest.fixture(scope='module')
def made(tmp_path_factory):
    """Scenes, archives by task, and what they have to be about."""
    folder = tmp_path_factory.mktemp('cityscapes')
    scenes, expected = cityscapes_results(folder)
    paths = {key: zip_task(CITYSCAPES[key], folder) for key in CITYSCAPES}
    return scenes, paths, expected


@pytest.mark.parametrize('task', CITYSCAPES)
def test_archives_are_valid(made, task):
    _, paths, expected = made
    assert check_archive(str(paths[task]), SERVER, None, expected,
                         1).counts == {}


def test_the_official_scripts_score_them_as_we_do(made, tmp_path):
    scenes, paths, _ = made
    for task, path in paths.items():
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


def check(made, task, change, folder):
    """Kinds of faults of a changed archive, with whether as an error."""
    _, paths, expected = made
    files = read_all(paths[task])
    changed = change(files, folder)
    path = write_all(folder / f'{task}.zip',
                     files if changed is None else changed)
    found = check_archive(path, SERVER, task, expected, 1)
    return {(f.kind, f.severity == ERROR)
            for faults in found.examples.values()
            for f in faults}


def a_png(files):
    return sorted(name for name in files if name.endswith('.png'))[0]


def a_text(files):
    """The text file with the most lines."""
    return max((name for name in files if name.endswith('.txt')),
               key=lambda name: files[name].count(b'\n'))


def set_png(files, folder, change):
    name = a_png(files)
    files[name] = png(change(pixels_of(files[name], folder)), folder)


def set_pixel(pixels, value):
    pixels[0, 0] = value
    return pixels


def edit_line(files, change):
    """Change the first line of a text file, given as its three parts."""
    name = a_text(files)
    first, *others = files[name].decode().splitlines()
    lines = [' '.join(change(first.split(' '))), *others]
    files[name] = ('\n'.join(lines) + '\n').encode()


def copy_file(files, name, new):
    files[new] = files[name]


PIXEL_FAULTS = dict(
    missing=('no_result', lambda f, d: f.pop(a_png(f)) and None),
    twice=('result_twice',
           lambda f, d: copy_file(f, a_png(f), 'b/' + a_png(f))),
    unknown=('unknown_image',
             lambda f, d: copy_file(f, a_png(f), 'ulm_000000_000000.png')),
    unnamed=('unknown_image', lambda f, d: copy_file(f, a_png(f), 'map.png')),
    text=('layout', lambda f, d: f.update({'note.txt': b''})),
    rgb=('png_format',
         lambda f, d: set_png(f, d, lambda p: np.dstack([p, p, p]))),
    depth=('png_format',
           lambda f, d: set_png(f, d, lambda p: p.astype(np.uint16))),
    size=('png_size', lambda f, d: set_png(f, d, lambda p: p[::2, ::2])),
    padding=('label_id',
             lambda f, d: set_png(f, d, lambda p: set_pixel(p, 255))),
)  # yapf: disable


@pytest.mark.parametrize('name', PIXEL_FAULTS)
def test_faults_of_maps_are_named(made, tmp_path, name):
    rule, change = PIXEL_FAULTS[name]
    assert (rule, True) in check(made, 'pixel', change, tmp_path)


def test_train_ids_are_odd(made, tmp_path):
    found = check(made, 'pixel',
                  lambda f, d: set_png(f, d, lambda p: set_pixel(p, 0)),
                  tmp_path)
    assert found == {('ignored_id', False)}


INSTANCE_FAULTS = dict(
    missing=('no_result', lambda f, d: f.pop(a_text(f)) and None),
    twice=('result_twice',
           lambda f, d: copy_file(f, a_text(f), 'b/' + a_text(f))),
    stray=('layout', lambda f, d: copy_file(f, a_png(f), 'masks/other.png')),
    lost=('mask_missing',
          lambda f, d: edit_line(f, lambda p: ['masks/x.png', *p[1:]])),
    absolute=('line', lambda f, d: edit_line(f, lambda p: ['/x.png', *p[1:]])),
    outside=('line',
             lambda f, d: edit_line(f, lambda p: ['../x.png', *p[1:]])),
    parts=('line', lambda f, d: edit_line(f, lambda p: p[:2])),
    blank=('line', lambda f, d: edit_line(f, lambda p: [p[0], '', *p[1:]])),
    stuff=('label_id',
           lambda f, d: edit_line(f, lambda p: [p[0], '7', p[2]])),
    name=('label_id',
          lambda f, d: edit_line(f, lambda p: [p[0], 'car', p[2]])),
    train_id=('label_id',
              lambda f, d: edit_line(f, lambda p: [p[0], '13', p[2]])),
    score=('score', lambda f, d: edit_line(f, lambda p: [*p[:2], '1.5'])),
    nan=('score', lambda f, d: edit_line(f, lambda p: [*p[:2], 'nan'])),
    word=('score', lambda f, d: edit_line(f, lambda p: [*p[:2], 'high'])),
    again=('mask_twice', lambda f, d: f.update(
        {a_text(f): f[a_text(f)] + f[a_text(f)]})),
    empty=('empty_mask', lambda f, d: set_png(f, d, lambda p: 0 * p)),
    size=('png_size', lambda f, d: set_png(f, d, lambda p: p[:, 1:])),
    rgb=('png_format',
         lambda f, d: set_png(f, d, lambda p: np.dstack([p, p, p]))),
)  # yapf: disable


@pytest.mark.parametrize('name', INSTANCE_FAULTS)
def test_faults_of_instances_are_named(made, tmp_path, name):
    rule, change = INSTANCE_FAULTS[name]
    assert (rule, True) in check(made, 'instance', change, tmp_path)


def test_masks_of_several_values_are_odd(made, tmp_path):
    found = check(made, 'instance',
                  lambda f, d: set_png(f, d, lambda p: set_pixel(p, 7)),
                  tmp_path)
    assert found == {('mask_values', False)}


def test_string_ids_of_the_panoptic_json(made, tmp_path):

    def number(files, folder):
        edit_json(files, lambda c: c['annotations'][0].update(image_id=1))

    assert {('unknown_image', True),
            ('no_result', True)} <= check(made, 'panoptic', number, tmp_path)
