"""Maps of category ids: COCO-Stuff's, and others."""
import json

import cv2
import numpy as np
import pytest
import torch
from mmdet.registry import TRANSFORMS
from PIL import Image

from mmengine_exact.errors import CorruptFileError, InputError
from panoptic_fpn.data import CocoStuffDataset, SemanticMapDataset
from panoptic_fpn.metrics import SemanticIoUMetric
from panoptic_fpn.training.label_check import check_annotated
from tests.oracles.semantic import (confusion_matrix, gt_channels,
                                    semantic_scores)
from tests.panoptic_fpn.metrics.data import run_metric

from . import coco_stuff

LOAD = [dict(type='LoadPanopticImage'), dict(type='LoadPanopticMap')]
DERIVE = dict(type='DerivePanopticTargets', panoptic=True)


@pytest.fixture
def written(tmp_path):
    return tmp_path, coco_stuff.write_coco_stuff(tmp_path)


def build(root,
          split='val',
          cls=CocoStuffDataset,
          pipeline=(*LOAD, DERIVE),
          **kwargs):
    kwargs = dict(
        dict(
            data_prefix=dict(
                img=f'{split}2017/',
                seg=f'annotations/stuff_{split}2017_pixelmaps/'),
            test_mode=split == 'val'), **kwargs)
    return cls(
        data_root=str(root),
        ann_file=f'annotations/stuff_{split}2017.json',
        pipeline=list(pipeline),
        **kwargs)


def map_of(root, image_id, split='val'):
    return (root / 'annotations' / f'stuff_{split}2017_pixelmaps' /
            f'{image_id:012d}.png')


def test_classes_are_91_stuff_and_other(written):
    root, _ = written
    space = build(root).label_space
    assert (space.num_things, space.num_stuff) == (1, 91)
    assert space.thing_names == ('other', )
    assert list(space.category_ids) == [183, *range(92, 183)]


@pytest.mark.parametrize('split', ['train', 'val'])
def test_targets_say_what_the_maps_say(written, split):
    root, maps = written
    dataset = build(root, split)
    check_annotated(dataset)
    assert len(dataset) == len(maps[split])
    for results in dataset:
        ids = maps[split][results['img_id']]
        labels = coco_stuff.labels_of(ids)
        assert (results['gt_seg_map'] == labels).all()
        # one segment a class, so that the code of a pixel is its label
        codes = np.where(labels < 0, dataset.label_space.void, labels)
        assert (results['gt_panoptic_map'] == codes).all()
        present = sorted(set(codes.ravel()) - {92})
        assert sorted(results['gt_codes']) == present
        # all things of a class are one crowd
        assert results['crowd_codes'] == [c for c in present if c == 0]
        assert results['gt_ignore_flags'].all()


def test_a_sample_does_not_change_the_next(written):
    """All images share one list of classes."""
    root, maps = written
    dataset = build(root)
    first = [dataset[0]['gt_seg_map'], dataset[1]['gt_seg_map']]
    again = [dataset[0]['gt_seg_map'], dataset[1]['gt_seg_map']]
    assert all((a == b).all() for a, b in zip(first, again))
    assert len(dataset.get_data_info(0)['segments_info']) == 92


def test_scores_are_the_oracles(written):
    """mIoU and fIoU over 91 stuff classes and 'other'."""
    root, maps = written
    dataset = build(root)
    pack = TRANSFORMS.build(dict(type='PackPanopticInputs'))
    rng = np.random.default_rng(3)
    samples, matrix = [], np.zeros((92, 92), np.int64)
    for results in dataset:
        truth = gt_channels(
            coco_stuff.labels_of(maps['val'][results['img_id']]), 1, 91)
        noise = rng.integers(0, 92, truth.shape)
        pred = np.where(rng.random(truth.shape) < 0.6, truth, noise)
        pred[truth < 0] = 5
        sample = pack.transform(results)['data_samples'].to_dict()
        sample['pred_sem_seg'] = dict(
            sem_seg=torch.from_numpy(pred)[None], predict_things=False)
        samples.append(sample)
        matrix += confusion_matrix(truth, pred, 92)
    expected = semantic_scores(matrix, range(91))
    scores = run_metric(SemanticIoUMetric(), samples, dataset.metainfo)
    assert expected['mIoU'] > 0.1
    for key, value in expected.items():
        assert scores[key] == pytest.approx(100 * value, abs=1e-9)


def test_geometry_and_colour_of_training(written):
    """Nearest neighbour at twice the size repeats each pixel."""
    root, maps = written
    pipeline = [
        *LOAD,
        dict(type='PanopticResize', scale_factor=2.0),
        dict(type='RandomFlip', prob=1.0),
        dict(type='PhotoMetricDistortion'),
        dict(type='DerivePanopticTargets', instances=False),
        dict(type='PackPanopticInputs')
    ]
    dataset = build(root, 'train', pipeline=pipeline)
    for sample in dataset:
        sample = sample['data_samples']
        labels = coco_stuff.labels_of(maps['train'][sample.img_id])
        doubled = labels.repeat(2, axis=0).repeat(2, axis=1)[:, ::-1]
        assert (sample.gt_sem_seg.sem_seg[0].numpy() == doubled).all()


@pytest.mark.parametrize(
    'lines', ['7\n13\n', '000000000007.png\n13', '000000000007 000000000013'])
def test_image_list(written, lines):
    root, _ = written
    (root / 'list.txt').write_text(lines)
    dataset = build(root, 'train', image_list='list.txt')
    assert [info['img_id'] for info in dataset] == [7, 13]


@pytest.mark.parametrize('content, match', [
    (None, 'list.txt: cannot read the image list'),
    ('7\n99\n98\n', "2 lines name no image .*, one is '98'"),
])
def test_wrong_image_list(written, content, match):
    root, _ = written
    if content:
        (root / 'list.txt').write_text(content)
    with pytest.raises(InputError, match=match):
        build(root, 'train', image_list='list.txt')


def test_an_image_list_names_files_before_ids(tmp_path):
    """Of two images, each has the id that the other's file is named after."""
    (tmp_path / 'info.json').write_text(
        json.dumps(
            dict(
                images=[
                    dict(id=1, file_name='2.png', height=2, width=3),
                    dict(id=2, file_name='1.png', height=2, width=3)
                ],
                categories=[dict(id=1, name='sky')])))
    (tmp_path / 'list.txt').write_text('1.png')
    dataset = SemanticMapDataset(
        data_root=str(tmp_path),
        ann_file='info.json',
        image_list='list.txt',
        data_prefix=dict(img='', seg='maps/'))
    assert [info['img_id'] for info in dataset] == [2]


def plain(ids):
    return Image.fromarray(ids)


def test_a_map_may_have_no_palette(written):
    root, maps = written
    plain(maps['val'][7]).save(map_of(root, 7))
    labels = coco_stuff.labels_of(maps['val'][7])
    assert (build(root)[0]['gt_seg_map'] == labels).all()


def spoil(ids):
    ids = ids.copy()
    ids[3, 5:9] = (17, 91, 184, 255)
    return ids


@pytest.mark.parametrize('image, match', [
    (lambda ids: plain(spoil(ids)), r'4 pixels have category ids that the '
     r'JSON does not list: \[17, 91, 184, 255\]. Add these classes .*void_ids'
     ),
    (lambda ids: plain(ids[:-1]), r'PNG is \(47, 64\) .* \(48, 64\)'),
    (lambda ids: plain(ids).convert('RGB'), 'a map of classes has one '
     'channel'),
    (lambda ids: plain(ids).convert('1'), r'the JSON does not list: \[1\]'),
])
def test_wrong_map(written, image, match):
    root, maps = written
    image(maps['val'][7]).save(map_of(root, 7))
    with pytest.raises(CorruptFileError, match=match) as error:
        build(root)[0]
    assert str(map_of(root, 7)) in str(error.value)


def test_wrong_categories(written):
    root, _ = written
    with pytest.raises(InputError, match='category id 4 is in thing_ids'):
        build(root, thing_ids=(183, 4))
    with pytest.raises(InputError, match='id 183.* in void_ids although'):
        build(root, void_ids=(0, 183))


def test_without_a_folder_of_maps(written):
    root, _ = written
    with pytest.raises(InputError, match='no image is left.*unannotated'):
        build(root, 'train', data_prefix=dict(img='train2017/'))
    dataset = build(root, data_prefix=dict(img='val2017/'))
    assert len(dataset.unannotated) == len(dataset) == 3
    assert 'gt_seg_map' not in dataset[0]


def test_any_semantic_map(tmp_path):
    """16 bits, a class 0, void 65535, things of the JSON, folders."""
    ids = np.array([[0, 0, 300], [65535, 1000, 1000]], np.uint16)
    for folder in ('images/a', 'maps/a'):
        (tmp_path / folder).mkdir(parents=True)
    cv2.imwrite(str(tmp_path / 'images/a/x.png'), np.zeros((2, 3, 3)))
    cv2.imwrite(str(tmp_path / 'maps/a/x_ids.png'), ids)
    (tmp_path / 'info.json').write_text(
        json.dumps(
            dict(
                images=[dict(id=1, file_name='a/x.png', height=2, width=3)],
                categories=[
                    dict(id=1000, name='car', isthing=1),
                    dict(id=0, name='road'),
                    dict(id=300, name='sky'),
                    dict(id=301, name='never')
                ])))
    dataset = SemanticMapDataset(
        data_root=str(tmp_path),
        ann_file='info.json',
        data_prefix=dict(img='images/', seg='maps/'),
        map_suffix='_ids.png',
        void_ids=(65535, ),
        filter_cfg=dict(filter_empty_gt=True),
        pipeline=[*LOAD, DERIVE])
    assert dataset.label_space.names == ('car', 'road', 'sky', 'never')
    assert dataset[0]['gt_seg_map'].tolist() == [[1, 1, 2], [-1, 0, 0]]


def test_panoptic_data_keep_their_checks(written):
    """Without ``class_map`` an id without a pixel is an error still."""
    root, _ = written
    info = dict(build(root).get_data_info(0), ori_shape=(48, 64))
    load = TRANSFORMS.build(dict(type='LoadPanopticMap'))
    load.transform(dict(info))
    plain(np.array(Image.open(info['seg_map_path']))).save(map_of(root, 7))
    info.pop('class_map')
    with pytest.raises(CorruptFileError, match='segments without a pixel'):
        load.transform(info)


def test_a_subset_of_classes(written):
    root, _ = written
    whole = build(root)
    names = ['other', *whole.label_space.stuff_names[1::2]]
    some = build(root, metainfo=dict(classes=names))
    assert some.label_space.names == tuple(names)
    new = np.array([
        names.index(name) if name in names else -1
        for name in (*whole.label_space.names, None)
    ])
    for a, b in zip(whole, some):
        assert np.array_equal(new[a['gt_seg_map']], b['gt_seg_map'])
        assert {s['category']
                for s in b['segments_info']
                } == set(np.unique(b['gt_seg_map'])) - {-1}
