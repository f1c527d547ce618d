"""Data sets of docs/datasets.md, drawn in their layouts: commands of the page,
and PQ against panopticapi."""
import csv
import json
import re
import subprocess
from os.path import relpath
from pathlib import Path

import cv2
import numpy as np
import panopticapi.evaluation as panopticapi
import pytest
from cityscapesscripts.helpers.labels import trainId2label
from mmdet.datasets import ADE20KPanopticDataset, VOCDataset
from mmdet.registry import DATASETS
from mmseg.datasets import PascalVOCDataset
from PIL import Image
from pycocotools import mask as mask_util

from mmengine_exact import read_config
from mmengine_exact.errors import InputError
from panoptic_apps.convert_data import convert_label_folders
from panoptic_apps.convert_data.channels import parse_channels
from panoptic_fpn.metrics import PanopticQualityMetric
from tests.conftest import REPO_ROOT
from tests.oracles.perturb import (PanopticImage, annotation_of, perturb,
                                   rgb_of_ids)
from tests.panoptic_fpn.metrics.data import as_map, panoptic_codes, run_metric

from .conftest import box, names_of, written

SIZE = 40, 60
SPLITS = 'train', 'val'


class Scene:
    """Pixels (h, w): names of classes ('' void) and numbers of instances (0
    none). The smaller lies on top, below all a crowd of the first thing."""

    def __init__(self, seed, stuff, things, crowd=True, void=True):
        rng = np.random.default_rng(seed)
        self.names = np.full(SIZE, stuff[0], object)
        self.names[:15] = stuff[len(stuff) > 1]
        self.numbers = np.zeros(SIZE, int)
        self.boxes = [(things[0], 0, (25, 2, 36, 20))] if crowd else []
        corners = rng.integers(0, (26, 40), (6, 2))
        sides = rng.permutation(np.arange(6, 18))[:12].reshape(6, 2)
        boxes = [(*a, *(a + b)) for a, b in zip(corners, sides)]
        boxes.sort(key=lambda b: -(b[2] - b[0]) * (b[3] - b[1]))
        self.boxes += [(things[i % len(things)], i, tuple(map(int, box)))
                       for i, box in enumerate(boxes, 1)]
        for name, number, (y1, x1, y2, x2) in self.boxes:
            self.names[y1:y2, x1:x2] = name
            self.numbers[y1:y2, x1:x2] = number
        if void:
            self.names[37:] = ''
            self.numbers[37:] = 0
        self.things = things

    def ids(self, id_of, default=0):
        """Values (h, w) of classes by name."""
        return np.vectorize(lambda name: id_of.get(name, default))(self.names)

    def check(self, content, ids, index):
        """Whether a panoptic annotation has these classes and instances."""
        names = self.names.copy()
        thing = np.isin(names, self.things)
        names[thing & (self.numbers == 0)] += ' crowd'
        assert (names_of(content, ids, index) == names).all()
        pairs = {*zip(self.numbers[thing].tolist(), ids[thing].tolist())}
        assert len(pairs) == len(dict(pairs)) == len({id_ for _, id_ in pairs})


def save(path, pixels, palette=None):
    """A map of integers as PNG; the mode by its shape and largest value."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.asarray(pixels)
    if pixels.ndim == 2:
        pixels = pixels.astype(np.uint16 if pixels.max() > 255 else np.uint8)
    picture = Image.fromarray(pixels if pixels.ndim ==
                              2 else pixels.astype(np.uint8))
    if palette is not None:
        picture = picture.convert('P')
        picture.putpalette(np.array(palette, np.uint8).ravel().tolist())
        picture.frombytes(pixels.tobytes())
    picture.save(path)


def photo(path, size=SIZE):
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(0).integers(0, 255, (*size, 3))
    Image.fromarray(noise.astype(np.uint8)).save(path)


def class_table(folder):
    """Ids by name, of things and of stuff, in a list of the project."""
    path = REPO_ROOT / 'configs' / folder / 'classes.csv'
    rows = [r for r in csv.DictReader(path.open()) if r['ignore'] != '1']
    return [{
        row['name']: int(row['id'])
        for row in rows if row['isthing'] == kind
    } for kind in '10']


def scenes(seed, things, stuff, **kwargs):
    """Two for each split."""
    return {
        (split, i): Scene(seed + 2 * n + i, [*stuff], [*things], **kwargs)
        for n, split in enumerate(SPLITS)
        for i in range(2)
    }


def draw_kitti_step():
    things, stuff = class_table('kitti_step')
    root, drawn = Path('data/kitti_step'), {}
    for (split, i), scene in scenes(0, things, stuff).items():
        name = f'{split}/000{i}/00000{i}.png'
        ids = scene.ids({**things, **stuff}, 255)
        number = 77 * scene.numbers  # up to 462
        save(root / 'panoptic_maps' / name,
             np.stack([ids, number // 256, number % 256], -1))
        photo(root / 'images' / name)
        drawn[name.partition('/')[2]] = scene
    return drawn


def draw_bdd100k():
    """One more instance is marked as ignored; the crowd has a number."""
    things, stuff = class_table('bdd100k')
    root, drawn = Path('data/bdd100k'), {}
    for (split, i), scene in scenes(4, things, stuff).items():
        ids = scene.ids({**things, **stuff})
        thing = np.isin(scene.names, [*things])
        crowd = thing & (scene.numbers == 0)
        # stuff has the number of its class, things the next ones
        number = np.where(thing, 290 + scene.numbers, ids)
        marks = 2 * crowd + 4 * (scene.numbers % 2) + 8 * (scene.numbers == 3)
        ids[5:9, 5:9], marks[5:9, 5:9] = things['train'], 1
        scene.names[5:9, 5:9], scene.numbers[5:9, 5:9] = '', 0
        save(root / f'labels/pan_seg/bitmasks/{split}/{split}-{i}.png',
             np.stack([ids, marks, number // 256, number % 256], -1))
        photo(root / f'images/10k/{split}/{split}-{i}.jpg')
        drawn[f'{split}-{i}.jpg'] = scene
    return drawn


def draw_voc():
    """With the palette of VOC; one image more, without label maps."""
    things, stuff = class_table('pascal_voc')
    root, drawn = Path('data/VOCdevkit/VOC2012'), {}
    palette = np.zeros((256, 3), int)
    palette[:21], palette[255] = PascalVOCDataset.METAINFO['palette'], 224
    photo(root / 'JPEGImages/2007_000001.jpg')
    lists = {split: '' for split in SPLITS}
    for (split, i), scene in scenes(8, things, stuff, crowd=False).items():
        name = f'2007_{split}{i}'
        void = scene.names == ''
        save(root / f'SegmentationClass/{name}.png',
             scene.ids({
                 **things,
                 **stuff
             }, 255), palette)
        save(root / f'SegmentationObject/{name}.png',
             np.where(void, 255, scene.numbers), palette)
        photo(root / f'JPEGImages/{name}.jpg')
        lists[split] += name + '\n'
        drawn[f'{name}.jpg'] = scene
    (root / 'ImageSets/Segmentation').mkdir(parents=True)
    for split, text in lists.items():
        (root / f'ImageSets/Segmentation/{split}.txt').write_text(text)
    return drawn


def draw_coco_instances():
    names = DATASETS.get('CocoDataset').METAINFO['classes']
    id_of = {name: 2 * i + 1 for i, name in enumerate(names)}
    root, drawn = Path('data/coco'), {}
    parts = {split: dict(images=[], annotations=[]) for split in SPLITS}
    made = scenes(12, names[5:8], ['background'], void=False)
    for n, ((split, i), scene) in enumerate(made.items(), 1):
        name = f'{n:012}.jpg'
        photo(root / f'{split}2017' / name)
        parts[split]['images'].append(
            dict(id=n, file_name=name, height=SIZE[0], width=SIZE[1]))
        for thing, number, corners in scene.boxes:
            mask = np.zeros(SIZE, np.uint8)
            mask[corners[0]:corners[2], corners[1]:corners[3]] = 1
            rle = mask_util.encode(np.asfortranarray(mask))
            parts[split]['annotations'].append(
                dict(
                    id=len(parts[split]['annotations']) + 1,
                    image_id=n,
                    category_id=id_of[thing],
                    area=float(mask.sum()),
                    bbox=mask_util.toBbox(rle).tolist(),
                    segmentation=box(*corners) if number else dict(
                        rle, counts=rle['counts'].decode()),
                    iscrowd=int(number == 0)))
        drawn[name] = scene
    (root / 'annotations').mkdir()
    for split, part in parts.items():
        part['categories'] = [
            dict(id=id_, name=name, supercategory='')
            for name, id_ in id_of.items()
        ]
        (root / f'annotations/instances_{split}2017.json').write_text(
            json.dumps(part))
    return drawn


def draw_panoptic(root, seed, categories, image, label, path, **more):
    """In COCO panoptic format: patterns of image, PNG and JSON by split."""
    things, stuff = [{
        c['name']: c['id']
        for c in categories if c['isthing'] == kind
    } for kind in (1, 0)]
    drawn = {}
    content = {
        split: dict(images=[], annotations=[], categories=categories)
        for split in SPLITS
    }
    for (split, i), scene in scenes(seed, things, stuff).items():
        thing = np.isin(scene.names, [*things])
        classes = scene.ids({**things, **stuff}, -1)
        ids = np.where(scene.names == '', 0,
                       1 + scene.numbers + 1000 * (1 + classes))
        segments = [
            dict(
                id=int(id_),
                category_id=int(classes[ids == id_][0]),
                iscrowd=int((thing & (scene.numbers == 0))[ids == id_][0]))
            for id_ in np.unique(ids[ids > 0])
        ]
        name = f'{split}_{i}'
        note = annotation_of(
            PanopticImage(name, '', f'{name}.png', ids, segments))
        for segment in note['segments_info']:
            segment.update(more)
        folder = dict(train='training', val='validation')[split]
        photo(root / image.format(folder) / f'{name}.jpg')
        save(root / label.format(split, folder) / f'{name}.png',
             rgb_of_ids(ids))
        content[split]['annotations'].append(note)
        content[split]['images'].append(
            dict(
                id=name,
                file_name=f'{name}.jpg',
                height=SIZE[0],
                width=SIZE[1]))
        drawn[f'{name}.jpg'] = scene
    for split, part in content.items():
        folder = dict(train='training', val='validation')[split]
        (root / path.format(split, folder)).write_text(json.dumps(part))
    return drawn


def draw_ade20k():
    meta = ADE20KPanopticDataset.METAINFO
    categories = [
        dict(id=i, name=name, isthing=int(name in meta['thing_classes']))
        for i, name in enumerate(sorted(meta['classes']))
    ]
    root = Path('data/ADEChallengeData2016')
    drawn = draw_panoptic(root, 16, categories, 'images/{0}',
                          'ade20k_panoptic_{0}', 'ade20k_panoptic_{0}.json')
    # Mask2Former's names the PNG; mmdet's names the image
    path = root / 'ade20k_panoptic_val.json'
    content = json.loads(path.read_text())
    for note in content['annotations']:
        note['file_name'] = note['file_name'].replace('.png', '.jpg')
    path.write_text(json.dumps(content))
    return drawn


def draw_mapillary():
    drawn = {}
    for version, year, things, count in (('v1.2', 2018, 37, 65), ('v2.0', 2020,
                                                                  70, 116)):
        folder = f'{{1}}/{version}/panoptic'
        # ids from 1, things and stuff mixed; empty boxes
        categories = [
            dict(
                id=1 + 5 * i % 117,
                name=f'{"thing" if i < things else "stuff"} {i % things}',
                isthing=int(i < things)) for i in range(count)
        ]
        drawn = draw_panoptic(
            Path('data/mapillary'),
            20,
            categories,
            '{0}/images',
            folder,
            f'{folder}/panoptic_{year}.json',
            bbox=[])
    # the scenes of both versions are equal, names too
    return drawn


def commands_of(section):
    """Words of each command in the blocks of a section of the page."""
    page = (REPO_ROOT / 'docs/datasets.md').read_text()
    _, part = page.split(f'\n## {section}\n')
    text = ''.join(
        re.findall('```bash\n(.*?)```',
                   part.split('\n## ')[0], re.S))
    show = ''.join(f'{name}() {{ echo {name} "$@"; }}\n'
                   for name in ('python', 'tools/dist_train.sh',
                                'tools/dist_test.sh'))
    shown = subprocess.run(['bash', '-euc', show + text],
                           check=True,
                           capture_output=True,
                           text=True).stdout
    return [line.split() for line in shown.splitlines()]


@pytest.mark.parametrize('section, draw, configs', [
    ('ADE20K', draw_ade20k, 1),
    ('Mapillary Vistas', draw_mapillary, 2),
    ('KITTI-STEP', draw_kitti_step, 1),
    ('BDD100K', draw_bdd100k, 1),
    ('Pascal VOC', draw_voc, 1),
    ('COCO without stuff', draw_coco_instances, 1),
])
def test_commands_of_the_page(section, draw, configs, tmp_path, monkeypatch,
                              run_tool):
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'configs').symlink_to(REPO_ROOT / 'configs')
    drawn = draw()
    commands = commands_of(section)
    for command in commands:
        if command[0] == 'python':
            assert run_tool(Path(command[1]).stem, *command[2:]) == 0
    trained = [c[1] for c in commands if 'train' in c[0]]
    tested = [c for c in commands if 'test' in c[0]]
    assert len(trained) == configs and [c[1] for c in tested] == trained
    for command in tested:
        cfg = read_config(command[1])
        assert command[2] == (f'work_dirs/{Path(command[1]).stem}/'
                              f'iter_{cfg.train_cfg.max_iters}.pth')
        check_config(cfg, drawn)


def check_config(cfg, drawn):
    """The data are what was drawn; the model has their classes; training can
    begin; the truth has PQ 100, and a wrong prediction panopticapi's."""
    train = DATASETS.build(cfg.train_dataloader.dataset)
    val = DATASETS.build(cfg.val_dataloader.dataset)
    space, head = val.label_space, cfg.model.semantic_head
    assert train.label_space == space
    assert (space.num_things, space.num_stuff) == (head.num_things_classes,
                                                   head.num_stuff_classes)
    item = train[0]
    assert len(item['data_samples'].gt_instances) > 1
    assert tuple(item['inputs'].shape[1:]) == item['data_samples'].img_shape
    truth = Path(val.ann_file)
    content = json.loads(truth.read_text())
    images, samples = [], []
    for index, (entry, note) in enumerate(
            zip(content['images'], content['annotations'])):
        sample = val[index]['data_samples'].to_dict()
        samples.append(sample)
        ids = np.asarray(Image.open(sample['seg_map_path'])).astype(int)
        ids = ids @ [1, 256, 65536]
        note['file_name'] = relpath(sample['seg_map_path'],
                                    val.data_prefix['seg'])
        drawn[entry['file_name']].check(content, ids, index)
        images.append(
            PanopticImage(entry['id'], entry['file_name'], note['file_name'],
                          ids, note['segments_info']))
    assert len(images) == 2
    rng = np.random.default_rng(0)
    for predict in (as_is,
                    lambda image: perturb(rng, image, content['categories'])):
        for image, sample in zip(images, samples):
            codes = panoptic_codes(predict(image), content['categories'])
            sample['pred_panoptic_seg'] = as_map(codes)
        metric = PanopticQualityMetric(outfile_prefix='found')
        scores = run_metric(metric, samples, val.metainfo)
        if predict is as_is:
            assert scores['coco_panoptic/PQ'] == pytest.approx(100, abs=1e-9)
        else:
            assert 5 < scores['coco_panoptic/PQ'] < 95
        compare(scores, content, val.data_prefix['seg'])


def as_is(image):
    """The truth as prediction, in which there is no crowd."""
    segments = [s for s in image.segments if not s['iscrowd']]
    ids = np.where(
        np.isin(image.id_map, [s['id'] for s in segments]), image.id_map, 0)
    return PanopticImage(image.image_id, '', '', ids, segments)


def compare(scores, content, pngs):
    """With panopticapi, from files."""
    found = json.loads(Path('found.panoptic.json').read_text())
    found = {note['image_id']: note for note in found['annotations']}
    categories = {c['id']: c for c in content['categories']}
    stat = panopticapi.pq_compute_single_core(
        0, [(note, found[note['image_id']])
            for note in content['annotations']], pngs, 'found.panoptic',
        categories)
    for group, isthing in (('', None), ('_th', True), ('_st', False)):
        quality, _ = stat.pq_average(categories, isthing)
        for key in ('PQ', 'SQ', 'RQ'):
            difference = scores[f'coco_panoptic/{key}{group}'] - (
                100 * quality[key.lower()])
            print(f'{key}{group}: {difference:.1e}')
            assert abs(difference) <= 1e-9


def test_class_lists_are_the_published_ones():
    things, stuff = class_table('kitti_step')
    assert {
        **things,
        **stuff
    } == {
        label.name: id_
        for id_, label in trainId2label.items() if 0 <= id_ < 19
    }
    assert [*things] == ['person', 'car']
    things, stuff = class_table('pascal_voc')
    assert (*things, ) == VOCDataset.METAINFO['classes'] and stuff == dict(
        background=0)
    assert [*things.values()] == [*range(1, 21)]
    things, stuff = class_table('bdd100k')
    assert [*stuff.values(), *things.values()] == [*range(1, 41)]
    assert len(things) == 10


def high_byte_first(values):
    return np.stack([values >> 16, values >> 8 & 255, values & 255], -1)


@pytest.mark.parametrize('encode, options', [
    (lambda c, n: dict(labels=np.stack([c, n, n * 0], -1)),
     dict(channels=['class=R', 'instance=G'])),
    (lambda c, n: dict(labels=np.stack([c, n], -1)),
     dict(channels=['class=R', 'instance=A'])),
    (lambda c, n: dict(labels=high_byte_first(np.where(n, c * 1000 + n, c))),
     dict(channels=['class=RGB'])),
    (lambda c, n: dict(labels=c, numbers=np.stack([c * 0, n, c], -1)),
     dict(channels=['instance=G'])),
    (lambda c, n: dict(labels=c, numbers=n * 1000), dict()),
])
def test_codings_in_channels(encode, options, tmp_path):
    id_of = dict(sky=7, road=20, car=70)
    scene = Scene(1, ['sky', 'road'], ['car'])
    for name, pixels in encode(scene.ids(id_of), scene.numbers).items():
        save(tmp_path / name / 'a.png', pixels)
        if name == 'numbers':
            options = dict(options, instances=str(tmp_path / name))
    rows = [
        dict(id=id_, name=name, isthing=int(name == 'car'))
        for name, id_ in id_of.items()
    ]
    convert(tmp_path, rows, **options)
    scene.check(*written(tmp_path / 'out/set'), 0)


def convert(root, rows, **options):
    photo(root / 'images/a.png')
    (root / 'classes.json').write_text(json.dumps(rows))
    return convert_label_folders(
        str(root / 'images'), str(root / 'labels'), str(root / 'classes.json'),
        str(root / 'out'), 'set',
        **dict(dict(num_workers=1, report=str), **options))


CELLS = [
    dict(id=0, name='around', isthing=0),
    dict(id=1, name='cell', isthing=1)
]


def test_instances_of_one_class(tmp_path):
    scene = Scene(2, ['around'], ['cell'], crowd=False, void=False)
    save(tmp_path / 'labels/a.png', scene.numbers * 9000)
    convert(tmp_path, CELLS, channels=['instance=L'])
    scene.check(*written(tmp_path / 'out/set'), 0)


@pytest.mark.parametrize('pixels, channels, why', [
    (np.full((*SIZE, 3), 77), 'class=R instance=GB', 'value 77: no class has'),
    (np.ones((*SIZE, 3)), 'class=R instance=A', 'its channels are R, G, B, of '
     '8 bits; --channels names A'),
    (np.ones((*SIZE, 3)), 'instance=L', '--channels names L'),
    (np.ones(SIZE), 'class=R', 'its channels are L'),
    (np.ones(SIZE), 'instance=LLLLL', 'instance=LLLLL is none of'),
    (np.ones(
        (*SIZE, 3), np.uint16), 'class=R instance=RGB', 'at most 32 bits'),
    (np.ones((20, 60, 3)), 'class=R', 'but its image is (40, 60)'),
])
def test_files_that_do_not_fit_the_channels(tmp_path, pixels, channels, why):
    (tmp_path / 'labels').mkdir()
    kind = np.uint16 if pixels.dtype == np.uint16 else np.uint8
    cv2.imwrite(str(tmp_path / 'labels/a.png'), pixels.astype(kind))
    with pytest.raises(InputError) as error:
        convert(tmp_path, CELLS, channels=channels.split())
    assert why in str(error.value)


@pytest.mark.parametrize(
    'words', [['class=X'], ['class'], ['crowd=G2'], ['class=R', 'crowd=G2'],
              ['class=R', 'class=G'], ['class=R', 'crowd=G'], ['things=R']])
def test_channels_that_mean_nothing(words):
    with pytest.raises(InputError, match='--channels'):
        parse_channels(words)


def test_a_list_of_images(tmp_path):
    save(tmp_path / 'labels/b/1.png', np.ones(SIZE))
    photo(tmp_path / 'images/b/1.jpg')
    photo(tmp_path / 'images/b/2.jpg')
    path = tmp_path / 'list.txt'
    for line in (b'b/1', b'b/1.jpg\r', b' b/1 \n\n',
                 'b/1\n'.encode('utf-8-sig'), 'b/1\r\n'.encode('utf-16')):
        path.write_bytes(line)
        convert(tmp_path, CELLS, split=str(path))
        content, _ = written(tmp_path / 'out/set')
        assert [i['id'] for i in content['images']] == ['b/1']
    for line, why in ((b'b/1\nb/3', 'b/3: no such image in'), (b'', 'empty'),
                      (b'b/\xe9', 'b/.: no such image in')):
        path.write_bytes(line)
        with pytest.raises(InputError, match=why):
            convert(tmp_path, CELLS, split=str(path))
    with pytest.raises(InputError, match='none.txt: .*Correct --split'):
        convert(tmp_path, CELLS, split=str(tmp_path / 'none.txt'))
