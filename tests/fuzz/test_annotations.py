"""JSONs with faults of all kinds: refused, or read as plain Python does.

COCO panoptic files and those of prepared Cityscapes go to the data sets, to
the pipeline and to the data set check, COCO instances to the metric and the
converter. ``pytest -m slow -s tests/fuzz/test_annotations.py`` prints what
became of the files.
"""
import copy
import json
import math
import os
import random
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from mmengine_exact.errors import InputError
from mmengine_exact.files import find_name_fault
from panoptic_apps.check_dataset import check_dataset
from panoptic_apps.convert_data import convert_instances_and_semantic, prepare
from panoptic_apps.toy_data.miniature import make_miniature
from panoptic_fpn.coco_format import ERROR
from panoptic_fpn.data import CityscapesPanopticDataset, CocoPanopticFPNDataset
from panoptic_fpn.metrics import (CityscapesInstanceAPMetric,
                                  CityscapesSemanticIoUMetric,
                                  PanopticInstanceAPMetric,
                                  PanopticQualityMetric)
from tests.oracles.cityscapes_scenes import random_scenes
from tests.oracles.coco_ap import evaluate_by_pycocotools
from tests.oracles.derive import labels_of
from tests.oracles.perturb import random_data, write_coco_panoptic
from tests.panoptic_fpn.metrics.cityscapes import META, sample_of
from tests.panoptic_fpn.metrics.data import (detections, make_case, run_metric,
                                             space_of)
from tests.panoptic_fpn.metrics.test_instance_ap import instances_json

from .mutate import mutated_bytes, mutated_json, owner_of, places
from .test_images import MEMORY, judge_all, peak

LOAD = [
    dict(type='LoadPanopticImage'),
    dict(type='LoadPanopticMap'),
    dict(type='DerivePanopticTargets', panoptic=True)
]


class Coco:
    """A small data set in COCO panoptic format.

    ``own_rules``: what errors say about rules of a data set that the check,
    which is for all, does not know.
    """

    own_rules = ()
    kind = CocoPanopticFPNDataset

    def __init__(self, folder):
        data = random_data(3, num_images=2, string_ids=False)
        self.path = write_coco_panoptic(data, folder, with_images=True)
        self.images, self.pngs = folder / 'images', folder / 'panoptic'
        self.good = json.loads(self.path.read_text())

    def dataset(self, path, **kwargs):
        return self.kind(
            ann_file=str(path),
            data_prefix=dict(img=str(self.images), seg=str(self.pngs)),
            pipeline=LOAD,
            serialize_data=False,  # collects garbage each time
            **kwargs)

    def ids_of(self, path):
        return np.asarray(Image.open(path)).astype(np.int64) @ (1, 256, 65536)


class Cityscapes(Coco):
    """A prepared split; its label images are read as they are."""

    own_rules = ('not those of Cityscapes', )
    kind = CityscapesPanopticDataset

    def __init__(self, folder):
        folder = folder / 'cityscapes'
        make_miniature(
            str(folder), splits=dict(train=1, val=1, test=1), size=(96, 160))
        prepare(str(folder), num_workers=1, report=str)
        self.path = folder / 'gtFine/panoptic_fpn_val.json'
        self.images = folder / 'leftImg8bit/val'
        self.pngs = folder / 'gtFine/val'
        self.good = json.loads(self.path.read_text())

    def ids_of(self, path):
        return np.asarray(Image.open(path)).astype(np.int64)


@pytest.fixture(scope='module')
def coco(tmp_path_factory):
    return Coco(tmp_path_factory.mktemp('coco'))


@pytest.fixture(scope='module')
def prepared(tmp_path_factory):
    return Cityscapes(tmp_path_factory.mktemp('cityscapes'))


def is_right(bench, sample, content):
    """Whether a sample is what the JSON and the files say."""
    image = next(i for i in content['images'] if i['id'] == sample['img_id'])
    categories = content['categories']
    if sample['img_path'] != str(bench.images / image['file_name']):
        return False
    with Image.open(sample['img_path']) as photo:
        if photo.size != (image['width'], image['height']):
            return False
    note = next((n for n in content.get('annotations', [])
                 if n['image_id'] == image['id']), None)
    if note is None:
        return sample.get('gt_panoptic_map') is None
    if sample['seg_map_path'] != str(bench.pngs / note['file_name']):
        return False
    ids = bench.ids_of(sample['seg_map_path'])
    found, left = sample['gt_panoptic_map'], np.ones(ids.shape, bool)
    label_of = labels_of([dict(c, id=int(c['id'])) for c in categories])
    codes, crowd = [], []
    for segment in note['segments_info']:
        inside = ids == segment['id']
        code, = set(found[inside].tolist())
        if code % 1000 != label_of[segment['category_id']]:
            return False
        codes.append(code)
        crowd += [code] * int(segment.get('iscrowd', 0))
        left &= ~inside
    return ((found[left] % 1000 == len(categories)).all()
            and len(set(codes)) == len(codes)
            and sorted(sample['gt_codes']) == sorted(codes)
            and sorted(sample['crowd_codes']) == sorted(crowd))


def outcome(bench, text, train):
    """What becomes of one JSON (bytes)."""
    path = bench.path.parent / f'{os.getpid()}.json'
    path.write_bytes(text)
    before, samples, own = peak(), None, False
    try:
        dataset = bench.dataset(path, test_mode=not train)
        samples = [dataset[i] for i in range(len(dataset))]
    except InputError as error:
        # the JSON, or a file that it names
        if str(bench.path.parent) not in str(error) and str(
                bench.images.parent) not in str(error):
            return f'unclear {error}'
        own = any(rule in str(error) for rule in bench.own_rules)
    except Exception as error:
        return f'raw {type(error).__name__}: {error}'
    try:
        found = check_dataset(
            str(path),
            str(bench.images),
            str(bench.pngs),
            num_workers=1,
            repair=True).faults.total(ERROR)
    except Exception as error:
        return f'raw check {type(error).__name__}: {error}'
    if peak() - before > MEMORY:
        return f'memory {peak() - before:.0f} MB'
    if samples is None and not found:
        # a test set has no annotations, and no fault
        annotated = json.loads(text).get('annotations')
        known = own or not annotated and train
        return 'refused' if known else 'unchecked'
    if samples is None:
        return 'refused'
    content = json.loads(text)
    if not all(is_right(bench, sample, content) for sample in samples):
        return 'wrong'
    return 'right'


def as_bytes(draw, kind, content, good):
    """The text of a JSON; now and then its bytes are damaged."""
    text = json.dumps(content).encode()
    if draw.random() < 0.75:
        return kind, text
    kind, text = mutated_bytes(draw, json.dumps(good).encode())
    return f'bytes {kind}', text


def run(bench, judge, count, seed, title, processes=1):
    """``judge(own, text)`` says what becomes of a damaged JSON."""
    draw = random.Random(seed)

    def work(state):
        own = random.Random(state)
        kind, content = mutated_json(own, bench.good)
        kind, text = as_bytes(own, kind, content, bench.good)
        return [kind, judge(own, text)]

    judge_all([draw.random() for _ in range(count)], work, title, processes)


def run_panoptic(bench, *args):
    run(bench, lambda own, text: outcome(bench, text,
                                         own.random() < 0.5), *args)


@pytest.mark.parametrize('name', ['coco', 'prepared'])
def test_good_files_are_right(name, request):
    bench = request.getfixturevalue(name)
    for train in (True, False):
        assert outcome(bench, bench.path.read_bytes(), train) == 'right'


def test_damaged_coco_panoptic(coco):
    run_panoptic(coco, 100, 1, 'COCO panoptic')


def test_damaged_cityscapes(prepared):
    run_panoptic(prepared, 50, 1, 'Cityscapes, prepared')


@pytest.mark.slow
def test_many_damaged_coco_panoptic(coco):
    run_panoptic(coco, 3000, 2, 'COCO panoptic', 2)


@pytest.mark.slow
def test_many_damaged_cityscapes(prepared):
    run_panoptic(prepared, 3000, 2, 'Cityscapes, prepared', 2)


# COCO instances ------------------------------------------------------------


class Instances:
    """An instances JSON, predictions, and folders for the converter."""

    def __init__(self, folder):
        data, _, self.samples = make_case(3)
        self.folder, self.path = folder, folder / 'instances.json'
        self.good = instances_json(data, self.path)
        self.meta = space_of(data).metainfo()
        self.classes = folder / 'classes.json'
        self.classes.write_text(json.dumps(data.categories))
        (folder / 'semantic').mkdir()
        for image in data.images:
            void = np.zeros(image.id_map.shape, np.uint8)
            name = image.file_name.rsplit('.', 1)[0]
            Image.fromarray(void).save(folder / f'semantic/{name}.png')

    def plain(self, content):
        """AP of boxes and masks by pycocotools alone, -1 for none; it needs
        ids of annotations from 1, each once."""
        for id_, annotation in enumerate(content['annotations'], 1):
            annotation['id'] = id_
        sizes = {s['img_id']: s['ori_shape'] for s in self.samples}
        for image in content['images']:
            height, width = sizes.get(image['id'], (1, 1))
            image.update(height=height, width=width)
        by_name = {c['name']: c['id'] for c in content['categories']}
        ids = [by_name[name] for name in self.meta['thing_classes']]
        return [
            evaluate_by_pycocotools(
                content, detections(self.samples, ids, kind), kind,
                imgIds=[*sizes], catIds=ids, maxDets=[100, 300, 1000]).stats[0]
            for kind in ('bbox', 'segm')
        ]  # yapf: disable

    def outcome(self, text):
        path = self.folder / f'{os.getpid()}.json'
        path.write_bytes(text)
        before, scores = peak(), None
        try:
            scores = run_metric(
                PanopticInstanceAPMetric(
                    ann_file=str(path), backend='pycocotools'), self.samples,
                self.meta)
        except InputError as error:
            if str(path) not in str(error):
                return f'unclear {error}'
        except Exception as error:
            return f'raw {type(error).__name__}: {error}'
        try:
            convert_instances_and_semantic(
                str(path), str(self.folder / 'semantic'), str(self.classes),
                str(self.folder / f'{os.getpid()}'), 'out', num_workers=1,
                report=str)  # yapf: disable
        except (InputError, OSError) as error:  # commands report both
            if str(self.folder) not in str(error):
                return f'unclear {error}'
        except Exception as error:
            return f'raw converter {type(error).__name__}: {error}'
        if peak() - before > MEMORY:
            return f'memory {peak() - before:.0f} MB'
        if scores is None:
            return 'refused'
        found = [scores['coco/bbox_mAP'], scores['coco/segm_mAP']]
        expected = self.plain(json.loads(text))
        same = all(
            math.isclose(a, round(b, 3)) or (math.isnan(a) and b == -1)
            for a, b in zip(found, expected))
        return 'right' if same else f'wrong {found} {expected}'


@pytest.fixture(scope='module')
def instances(tmp_path_factory):
    return Instances(tmp_path_factory.mktemp('instances'))


def run_instances(bench, *args):
    run(bench, lambda own, text: bench.outcome(text), *args)


def test_good_instances_are_right(instances):
    assert instances.outcome(instances.path.read_bytes()) == 'right'


def test_damaged_instances(instances):
    run_instances(instances, 40, 1, 'COCO instances')


@pytest.mark.slow
def test_many_damaged_instances(instances):
    run_instances(instances, 3000, 2, 'COCO instances', 2)


# Texts that are no JSON, or too much of one --------------------------------

DEEP = 100_000
TEXTS = {
    'an empty file': (b'', 'it is empty'),
    'blanks': (b' \n\t', 'it is empty'),
    'gzip': (b'\x1f\x8b\x08' + bytes(40), 'compressed by gzip: unpack it'),
    'not UTF-8': (b'{"images": "\xff\xfe"}', 'not a JSON file'),
    'lists': (b'[' * DEEP + b']' * DEEP, 'nested too deeply'),
    'objects': (b'{"a":' * DEEP + b'1' + b'}' * DEEP, 'nested too deeply'),
    'a huge integer':
    (b'{"images": ' + b'9' * 100_000 + b'}', 'not a JSON file'),
    'a key twice':
    (b'{"images": [], "images": []}', "has the key 'images' twice"),
    'a list': (b'[]', 'no "images"|at the top level'),
    'a number': (b'NaN', 'no "images"|at the top level'),
}


@pytest.mark.parametrize('name', TEXTS)
def test_no_json(coco, instances, tmp_path, name):
    text, message = TEXTS[name]
    path = tmp_path / 'a.json'
    path.write_bytes(text)
    with pytest.raises(InputError, match=message) as info:
        coco.dataset(path)
    assert str(path) in str(info.value)
    result = check_dataset(str(path), str(coco.images), str(coco.pngs))
    assert result.faults.counts['json_unreadable'] or name in ('a list')
    with pytest.raises(InputError):
        PanopticInstanceAPMetric(ann_file=str(path))
    with pytest.raises(InputError, match='a.json'):
        convert_instances_and_semantic(
            str(path), str(tmp_path), str(instances.classes),
            str(tmp_path / 'out'), 'x')


@pytest.mark.parametrize('encoding', ['utf-8-sig', 'utf-16', 'utf-8'])
def test_encodings_of_json(coco, encoding):
    text = json.dumps(coco.good).encode(encoding)
    assert outcome(coco, text, False) == 'right'


@pytest.mark.parametrize('depth', [100, 400, 900, 980, 2000])
def test_a_value_that_is_nested(coco, depth):
    """Below the depth that Python reads, messages print it, too."""
    for path in (('annotations', ), ('images', 0, 'height'),
                 ('annotations', 0, 'segments_info', 0), ('categories', 0),
                 ('categories', 0, 'color'), ('images', 0, 'file_name'),
                 ('annotations', 0, 'segments_info', 0, 'iscrowd')):
        content = copy.deepcopy(coco.good)
        owner_of(content, path)[path[-1]] = 'deep'
        text = json.dumps(content).replace('"deep"',
                                           '[' * depth + ']' * depth).encode()
        assert outcome(coco, text, True) == 'refused', path


# Names that lead out of the data -------------------------------------------

AWAY = ('/etc/hostname', '../secret.png', 'a/../../secret.png', '..',
        'C:\\x.png', 'C:x.png', 'a\\b.png', '\\\\host\\x.png', 'a\0.png',
        '\ud800.png', 'https://host/x.png', 's3://bucket/x.png',
        'file:///etc/hostname', '', 7, None, ['a'])


@pytest.mark.parametrize('name', AWAY, ids=repr)
def test_names_that_lead_away(coco, instances, tmp_path, name):
    assert find_name_fault(name) is not None
    for key in ('images', 'annotations'):
        content = copy.deepcopy(coco.good)
        content[key][0]['file_name'] = name
        path = tmp_path / 'a.json'
        path.write_text(json.dumps(content))
        with pytest.raises(InputError, match='file_name'):
            coco.dataset(path)
        result = check_dataset(
            str(path), str(coco.images), str(coco.pngs), num_workers=1)
        assert result.faults.counts['bad_file_name']
    if name == 'a\\b.png':
        return  # the converter writes a/b.png
    content = copy.deepcopy(instances.good)
    content['images'][0]['file_name'] = name
    path.write_text(json.dumps(content))
    with pytest.raises(InputError, match='file_name'):
        convert_instances_and_semantic(
            str(path), str(instances.folder / 'semantic'),
            str(instances.classes), str(tmp_path / 'out'), 'x')
    assert not list(tmp_path.glob('**/*.png'))


def image_path(folder, name):
    """As the data set joins folder and name."""
    dataset = SimpleNamespace(data_prefix=dict(img=folder))
    return CocoPanopticFPNDataset._path(dataset, 'img', dict(file_name=name))


@pytest.mark.parametrize('name', [
    'a.png', 'a/b c.png', 'ä/..b.png', './a.png', 'a..b/c', '1:2',
    'cam1-2024-05-01T10:22:33.png', 'cam:1/a.png', 's3:a.png'
])
def test_names_that_stay(name):
    assert find_name_fault(name) is None
    assert image_path('folder', name) == os.path.join('folder', name)
    assert image_path('', name) == name


def test_names_below_a_remote_folder():
    from mmengine.fileio import BaseStorageBackend, register_backend

    class Remote(BaseStorageBackend):

        def get(self, filepath):
            raise FileNotFoundError(filepath)

        get_text = get

        def join_path(self, filepath, *filepaths):
            return '/'.join([filepath.rstrip('/'), *filepaths])

    register_backend('fuzz', Remote, force=True, prefixes='fuzz')
    assert image_path('fuzz://bucket/images/',
                      'a/b.png') == 'fuzz://bucket/images/a/b.png'


def test_links_within_the_data_are_followed(coco, tmp_path):
    (tmp_path / 'images').symlink_to(coco.images)
    dataset = CocoPanopticFPNDataset(
        ann_file=str(coco.path),
        data_prefix=dict(img=str(tmp_path / 'images'), seg=str(coco.pngs)),
        pipeline=LOAD)
    assert dataset[0]['img'].ndim == 3


@pytest.mark.parametrize('metric, name', [
    (PanopticQualityMetric, dict(png_name='{img_id}.png')),
    (CityscapesSemanticIoUMetric, {}),
    (CityscapesInstanceAPMetric, {}),
])
def test_results_stay_in_their_folder(tmp_path, metric, name):
    """Files that are called by an image id."""
    sample = sample_of(random_scenes(0)[1])
    for image_id in ('../x', 'a/b', 'a\\b', '/x', 'a\0b'):
        with pytest.raises(InputError, match='image id'):
            run_metric(
                metric(outfile_prefix=str(tmp_path / 'out' / 'run'), **name),
                [dict(sample, img_id=image_id)], META)
    assert [p.name for p in tmp_path.rglob('*.png')] == []


def test_every_place_and_value_once(coco):
    """Each key dropped, and each value another kind: none is raw."""
    jobs = []
    for path in places(coco.good):
        for value in (None, 'x', -1, 1.5, [], {}):
            jobs.append((path, value))
    draw = random.Random(4)

    def work(job):
        path, value = job
        content = copy.deepcopy(coco.good)
        owner_of(content, path)[path[-1]] = value
        return [
            str(path[-1]),
            outcome(coco,
                    json.dumps(content).encode(), True)
        ]

    judge_all(draw.sample(jobs, 60), work, 'Values of other kinds')
