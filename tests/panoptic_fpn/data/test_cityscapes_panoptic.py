"""Cityscapes as prepared here and as cityscapesscripts converts it."""
import json
import shutil

import numpy as np
import pytest
from cityscapesscripts.preparation.createPanopticImgs import convert2panoptic
from PIL import Image

from mmengine_exact.errors import CorruptFileError, InputError
from panoptic_apps.convert_data import prepare
from panoptic_apps.toy_data.miniature import make_miniature
from panoptic_fpn import cityscapes
from panoptic_fpn.data import CityscapesPanopticDataset

LOAD = [
    dict(type='LoadPanopticImage'),
    dict(type='LoadPanopticMap'),
    dict(type='DerivePanopticTargets', panoptic=True),
]


@pytest.fixture(scope='module')
def prepared(tmp_path_factory):
    root = tmp_path_factory.mktemp('data') / 'cityscapes'
    make_miniature(
        str(root), splits=dict(train=4, val=4, test=2), size=(128, 256))
    prepare(str(root), num_workers=1)
    return root


@pytest.fixture
def root(prepared, tmp_path):
    """A copy that a test may spoil."""
    return shutil.copytree(prepared, tmp_path / 'cityscapes')


def build(root, split='val', ann_file=None, seg=None, **kwargs):
    kwargs.setdefault('test_mode', True)
    return CityscapesPanopticDataset(
        data_root=str(root),
        ann_file=ann_file or f'gtFine/panoptic_fpn_{split}.json',
        data_prefix=dict(
            img=f'leftImg8bit/{split}/', seg=seg or f'gtFine/{split}/'),
        pipeline=LOAD,
        **kwargs)


def test_samples_say_what_the_label_images_say(prepared):
    dataset = build(prepared)
    space = cityscapes.label_space()
    assert dataset.metainfo['classes'] == space.names
    groups = ignored = 0
    for i in range(len(dataset)):
        results = dataset[i]
        assert results['img_id'] == cityscapes.image_id(results['img_path'])
        values = np.array(Image.open(results['seg_map_path']))
        panoptic = results['gt_panoptic_map']
        segments, void, alone = cityscapes.split_values(
            np.unique(values).tolist())
        codes = dict(
            zip([s['id'] for s in results['segments_info']],
                results['gt_codes']))
        assert set(codes) == set(segments)
        for value, meaning in segments.items():
            code = codes[value]
            assert (panoptic[values == value] == code).all()
            assert code % 1000 == space.label(meaning.category_id)
            assert (code in results['crowd_codes']) == meaning.crowd
            groups += meaning.crowd
        assert (panoptic[np.isin(values, void)] == space.void).all()
        for value in alone:
            found = np.unique(panoptic[values == value])
            assert len(found) == 1 and found[0] % 1000 == space.void
            assert found[0] > 1000
        ignored += len(alone)
        ignore = np.isin(values, void + alone)
        assert ((results['gt_seg_map'] == -1) == ignore).all()
    assert groups and ignored


def test_json_of_cityscapesscripts_gives_the_same(prepared, tmp_path, log):
    expected = build(prepared)
    for use_train_id in (False, True):
        out = tmp_path / str(use_train_id)
        out.mkdir()
        convert2panoptic(
            str(prepared / 'gtFine'), str(out), use_train_id, ['val'])
        name = 'cityscapes_panoptic_val' + ('_trainId' * use_train_id)
        assert '_gtFine_leftImg8bit.png' in (out / f'{name}.json').read_text()
        dataset = CityscapesPanopticDataset(
            ann_file=str(out / f'{name}.json'),
            data_prefix=dict(
                img=str(prepared / 'leftImg8bit' / 'val'),
                seg=str(out / name)),
            test_mode=True,
            pipeline=LOAD)
        assert '4 images were named *_gtFine_leftImg8bit' in log.getvalue()
        assert ('train ids' in log.getvalue()) == use_train_id
        assert len(dataset) == len(expected) == 4
        assert dataset.metainfo == expected.metainfo
        for i in range(4):
            ours, theirs = expected[i], dataset[i]
            assert ours['img_path'] == theirs['img_path']
            assert (ours['img'] == theirs['img']).all()
            assert (ours['gt_seg_map'] == theirs['gt_seg_map']).all()
            assert ours['gt_codes'] == theirs['gt_codes']
            assert ours['crowd_codes'] == theirs['crowd_codes']
            for value in np.unique(ours['gt_panoptic_map']):
                if value % 1000 != 19:
                    assert ((ours['gt_panoptic_map'] == value) == (
                        theirs['gt_panoptic_map'] == value)).all()


def test_images_without_labels(prepared):
    dataset = build(prepared, 'test')
    assert len(dataset) == 2 and len(dataset.unannotated) == 2
    assert dataset[0]['img'].shape == (128, 256, 3)


def test_instances_of_all_things_reach_training(prepared):
    dataset = build(prepared, 'train', test_mode=False)
    labels = {int(x) for r in dataset for x in r['gt_bboxes_labels']}
    assert labels == set(range(8))


def test_a_missing_preparation_is_named(root):
    (root / 'gtFine' / 'panoptic_fpn_val.json').unlink()
    with pytest.raises(
            InputError,
            match='panoptic_fpn_val.json: .*No such file.*'
            'dataset_converters/cityscapes.py'):
        build(root)


def test_other_classes_are_refused(root):
    path = root / 'gtFine' / 'panoptic_fpn_val.json'
    content = json.loads(path.read_text())
    content['categories'][0].update(name='lawn')
    path.write_text(json.dumps(content))
    with pytest.raises(InputError, match='lawn'):
        build(root)


@pytest.mark.parametrize('spoil, words', [
    (lambda values: values.astype(np.uint8), 'do(es)? not list'),
    (lambda values: np.stack([values.astype(np.uint8)] * 3, -1), 'void_ids'),
    (lambda values: values[:-1], r'\(127, 256\)'),
    (lambda values: np.where(values == 23, 24321, values).astype(np.uint16),
     '24321'),
    (lambda values: np.where(values == 7, 0, values).astype(np.uint16),
     r'without a pixel.*\[7\]'),
])
def test_label_images_that_disagree(root, spoil, words):
    dataset = build(root)
    path = dataset.get_data_info(0)['seg_map_path']
    Image.fromarray(spoil(np.array(Image.open(path)))).save(path)
    with pytest.raises(CorruptFileError, match=words) as error:
        dataset[0]
    assert path in str(error.value)
