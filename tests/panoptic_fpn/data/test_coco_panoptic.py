"""The COCO panoptic data set on files with every freedom the format has."""
import json
import shutil
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from mmengine_exact.errors import InputError
from panoptic_fpn.data import CocoPanopticFPNDataset
from panoptic_fpn.training.label_check import check_class_counts, label_spaces
from tests.oracles.derive import count_things, labels_of
from tests.oracles.perturb import random_data, write_coco_panoptic


def build(path, **kwargs):
    return CocoPanopticFPNDataset(
        data_root=str(path.parent),
        ann_file=path.name,
        data_prefix=dict(img='images/', seg='panoptic/'),
        **kwargs)


@pytest.fixture(params=[False, True], ids=['int_ids', 'str_ids'])
def written(request, tmp_path):
    data = random_data(3, num_images=3, string_ids=request.param)
    return data, write_coco_panoptic(data, tmp_path, with_images=True)


def edit(path, change):
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def test_ids_labels_and_paths_come_from_the_file(written):
    data, path = written
    dataset = build(path)
    label_of = labels_of(data.categories)
    assert dataset.label_space.num_things == count_things(data.categories)
    assert len(dataset) == len(data.images)
    for i, image in enumerate(data.images):
        info = dataset.get_data_info(i)
        assert info['img_id'] == image.image_id
        assert type(info['img_id']) is type(image.image_id)
        assert info['seg_map_path'].endswith('panoptic/' + image.png_name)
        assert info['img_path'].endswith('images/' + image.file_name)
        expected = {
            s['id']: (label_of[s['category_id']], s.get('iscrowd', 0))
            for s in image.segments
        }
        assert {
            s['id']: (s['category'], s['iscrowd'])
            for s in info['segments_info']
        } == expected


def test_images_with_stuff_only_are_kept_and_empty_ones_dropped(written):
    data, path = written
    things = {c['id'] for c in data.categories if c['isthing']}

    def change(content):
        first, second = content['annotations'][:2]
        first['segments_info'] = [
            s for s in first['segments_info'] if s['category_id'] not in things
        ]
        second['segments_info'] = []

    edit(path, change)
    dataset = build(path, filter_cfg=dict(filter_empty_gt=True))
    assert [info['img_id'] for info in dataset
            ] == [data.images[0].image_id, data.images[2].image_id]


def test_images_without_annotation_are_for_tests_only(written):
    data, path = written
    edit(path, lambda content: content['annotations'].pop(0))
    assert len(build(path)) == len(data.images) - 1
    tested = build(path, test_mode=True)
    assert len(tested) == len(data.images)
    assert tested.get_data_info(0)['seg_map_path'] is None


def test_nothing_left_to_train_on(written):
    _, path = written
    with pytest.raises(InputError, match='no image is left.*small'):
        build(path, filter_cfg=dict(min_size=800))


def test_the_first_fault_is_raised_with_value_and_fix(written):
    """All kinds: tests/panoptic_apps/check_dataset/test_faults.py."""
    data, path = written
    edit(path, lambda content: content['images'].append(content['images'][0]))
    image_id = data.images[0].image_id
    with pytest.raises(InputError) as error:
        build(path)
    assert str(error.value) == (f'{path}: images[3]: two images have '
                                f'id={image_id!r}. Keep one of them.')


def test_missing_and_broken_json(tmp_path):
    for path, cause in ((tmp_path / 'none.json', 'No such file'),
                        (tmp_path, 'Is a directory')):
        with pytest.raises(
                InputError,
                match=f'{path}: cannot read .*{cause}.*Set data_root and'):
            build(path)
    (tmp_path / 'bad.json').write_text('{"images": [')
    with pytest.raises(InputError, match='not a JSON file'):
        build(tmp_path / 'bad.json')


@pytest.mark.parametrize('classes, text', [
    (['thing_5', 'thing'], "has 'thing', which .*similar: thing_"),
    (['thing_5', 'zebra'], "has 'zebra', which .*similar: none"),
    (['thing_5', 'thing_6', 'thing_5'], "has 'thing_5' twice"),
    ([], 'no class'),
])
def test_wrong_classes_of_the_config(written, classes, text):
    _, path = written
    with pytest.raises(InputError, match=f'^{path}: metainfo.classes.*{text}'):
        build(path, metainfo=dict(classes=classes))


PIPELINE = [dict(type='LoadPanopticImage'), dict(type='LoadPanopticMap')]


def test_a_corrupt_image_stops_training_unless_skipping_was_asked_for(written):
    data, path = written
    broken = path.parent / 'images' / data.images[1].file_name
    broken.write_bytes(broken.read_bytes()[:40])
    with pytest.raises(InputError, match=broken.name):
        build(path, pipeline=PIPELINE)[1]
    lenient = build(path, pipeline=PIPELINE, skip_corrupt=True)
    # The other is drawn: of three images, often the same one several times.
    for _ in range(100):
        assert lenient[1]['img_id'] != data.images[1].image_id
    assert lenient.num_skipped >= 100
    with pytest.raises(InputError, match=broken.name):
        build(path, pipeline=PIPELINE, skip_corrupt=True, test_mode=True)[1]


@pytest.mark.parametrize('suffix', ['.jpg', '.jpeg', '.JPG', '.png'])
def test_the_png_is_the_one_the_annotation_names(written, suffix):
    data, path = written
    name = data.images[0].file_name
    image = cv2.imread(str(path.parent / 'images' / name))
    cv2.imwrite(str(path.parent / 'images' / f'photo{suffix}'), image)
    shutil.move(path.parent / 'panoptic' / data.images[0].png_name,
                path.parent / 'panoptic' / 'other name.png')

    def change(content):
        content['images'][0]['file_name'] = f'photo{suffix}'
        content['annotations'][0]['file_name'] = 'other name.png'

    edit(path, change)
    results = build(path, pipeline=PIPELINE)[0]
    assert results['img'].shape[:2] == results['gt_seg_map'].shape


@pytest.mark.parametrize('name, png', [('a/b.jpg', 'a/b.png'),
                                       ('b.JPEG', 'b.png'), ('b.PNG', 'b.PNG'),
                                       ('b.bmp', 'b.bmp')])
def test_an_annotation_that_names_its_photograph(written, name, png):
    """As in mmdet's ADE20K files; others may hold ids themselves."""
    _, path = written

    def change(content):
        content['images'][0]['file_name'] = name
        content['annotations'][0]['file_name'] = name

    edit(path, change)
    info = build(path).get_data_info(0)
    assert info['img_path'].endswith(f'images/{name}')
    assert info['seg_map_path'].endswith(f'panoptic/{png}')


def test_the_sample_photographs_load(sample_dir):
    dataset = CocoPanopticFPNDataset(
        data_root=str(sample_dir),
        ann_file='panoptic.json',
        data_prefix=dict(img='images/', seg='panoptic/'),
        pipeline=PIPELINE)
    space = dataset.label_space
    assert (space.num_things, space.num_stuff) == (80, 53)
    assert space.names[0] == 'person' and space.names[80] == 'banner'
    counts = [len(np.unique(dataset[i]['gt_seg_map'])) for i in range(2)]
    # 18 and 32 segments, and void in both
    assert counts == [19, 33]


def test_categories_of_another_file(written):
    """COCO's test-dev JSON does not say what is a thing."""
    data, path = written

    def change(content):
        content.pop('annotations')
        for category in content['categories']:
            category.pop('isthing')

    full = path.with_name('full.json')
    shutil.copy(path, full)
    edit(path, change)
    with pytest.raises(InputError, match='isthing'):
        build(path, test_mode=True)
    dataset = build(path, test_mode=True, categories_file=full.name)
    assert dataset.label_space.num_things == count_things(data.categories)
    assert dataset.unannotated == [i.image_id for i in data.images]


def test_nothing_but_corrupt_images_ends(written):
    data, path = written
    for image in data.images:
        (path.parent / 'images' / image.file_name).write_bytes(b'')
    with pytest.raises(InputError, match='corrupt images in a row'):
        build(path, pipeline=PIPELINE, skip_corrupt=True)[0]


def test_a_subset_of_classes_in_the_order_of_the_config(written):
    """Others are void: no instance, no label; the PNG may have them."""
    data, path = written
    by_name = {c['name']: c['id'] for c in data.categories}
    names = ['stuff_3', 'thing_8', 'stuff_0', 'thing_5', 'thing_6']
    dataset = build(
        path,
        metainfo=dict(classes=names),
        pipeline=[*PIPELINE, dict(type='DerivePanopticTargets')])
    space = dataset.label_space
    assert space.names == ('thing_8', 'thing_5', 'thing_6', 'stuff_3',
                           'stuff_0')
    assert (space.num_things, space.void) == (3, 5)
    assert dataset.metainfo['classes'] == space.names
    assert label_spaces(dataset) == [space]
    label_of = {by_name[name]: i for i, name in enumerate(space.names)}
    for i, image in enumerate(data.images):
        info = dataset.get_data_info(i)
        kept = [s for s in image.segments if s['category_id'] in label_of]
        assert len(kept) < len(image.segments)
        assert [s['id']
                for s in info['segments_info']] == [s['id'] for s in kept]
        results = dataset[i]
        expected = np.full(image.id_map.shape, -1)
        for segment in kept:
            expected[image.id_map == segment['id']] = label_of[
                segment['category_id']]
        assert np.array_equal(results['gt_seg_map'], expected)
        things = [s for s in kept if label_of[s['category_id']] < 3]
        assert results['gt_bboxes_labels'].tolist() == [
            label_of[s['category_id']] for s in things
        ]


def test_one_class_by_its_name_and_images_without_it(written):
    data, path = written
    wanted = next(c for c in data.categories if c['isthing'])
    dataset = build(
        path,
        metainfo=dict(classes=wanted['name']),
        filter_cfg=dict(filter_empty_gt=True))
    assert dataset.label_space.names == (wanted['name'], )
    assert [info['img_id'] for info in dataset] == [
        image.image_id for image in data.images
        if any(s['category_id'] == wanted['id'] for s in image.segments)
    ]
    with pytest.raises(InputError, match='=4, but metainfo.classes .*json'):
        check_class_counts(
            SimpleNamespace(
                roi_head=SimpleNamespace(
                    bbox_head=SimpleNamespace(num_classes=4))),
            dataset.label_space)
