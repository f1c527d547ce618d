"""PQ against panopticapi, mmdet's metric and the oracle made of pixel sets."""
import json
import math
from dataclasses import replace

import numpy as np
import panopticapi.evaluation as panopticapi
import pytest
from mmdet.evaluation import CocoPanopticMetric
from PIL import Image
from torch import nn

from mmengine_exact.errors import InputError
from panoptic_fpn.coco_format.results import png_names
from panoptic_fpn.metrics import PanopticQualityMetric, panoptic_counts
from tests.oracles.perturb import (PanopticData, PanopticImage, perturbed_data,
                                   random_data, things_first_copy,
                                   write_coco_panoptic)

from .data import clone, make_case, make_sample, run_metric, space_of

TOLERANCE = 1e-9


def our_quality(samples, metainfo):
    """(C, 3) quality of each label, through the metric."""
    metric = PanopticQualityMetric()
    run_metric(metric, samples, metainfo)
    return np.array([[*row.values()]
                     for row in metric.by_class.values()]) / 100


def panopticapi_stat(gt_json, pred_json, pred_folder):
    """Summed PQStat and categories of files on disk."""
    gt = json.loads(gt_json.read_text())
    pred = json.loads(pred_json.read_text())
    pred_of = {entry['image_id']: entry for entry in pred['annotations']}
    categories = {c['id']: c for c in gt['categories']}
    stat = panopticapi.pq_compute_single_core(
        0,
        [(entry, pred_of[entry['image_id']]) for entry in gt['annotations']],
        str(gt_json.with_suffix('')), str(pred_folder), categories)
    return stat, categories


def assert_same_classes(stat, categories, quality, category_ids):
    """PQ, SQ, RQ of every class, and which classes occur at all."""
    per_class = stat.pq_average(categories, isthing=None)[1]
    for label, id_ in enumerate(category_ids):
        counted = stat[id_].tp + stat[id_].fp + stat[id_].fn
        if not counted:
            assert np.isnan(quality[label]).all()
            continue
        for i, key in enumerate(('pq', 'sq', 'rq')):
            assert abs(per_class[id_][key] - quality[label, i]) <= TOLERANCE


@pytest.mark.parametrize('seed', range(3))
def test_every_class_agrees_with_mmdet_on_a_things_first_copy(tmp_path, seed):
    data = things_first_copy(random_data(seed))
    preds = perturbed_data(seed + 1, data)
    rng = np.random.default_rng(seed)
    samples = [
        make_sample(gt, pred, data.categories, rng)
        for gt, pred in zip(data.images, preds.images)
    ]
    gt_json = write_coco_panoptic(data, tmp_path)
    space = space_of(data)
    theirs = CocoPanopticMetric(
        ann_file=str(gt_json), seg_prefix=str(tmp_path / 'panoptic'))
    theirs.dataset_meta = space.metainfo()
    # It overwrites void in the map that it is given.
    theirs.process(None, clone(samples))
    stat = panopticapi.PQStat()
    for image_stat in theirs.results:
        stat += image_stat
    assert_same_classes(stat, theirs.categories,
                        our_quality(samples, space.metainfo()),
                        space.category_ids)
    expected = theirs.evaluate(len(samples))
    ours = run_metric(PanopticQualityMetric(), samples, space.metainfo())
    assert ours.keys() == expected.keys()
    for key, value in expected.items():
        assert abs(ours[key] - value) <= TOLERANCE


def test_photographs_agree_with_panopticapi(sample_dir, tmp_path):
    """COCO's own annotation with crowd; the prediction is moved sideways."""
    gt_json = sample_dir / 'panoptic.json'
    content = json.loads(gt_json.read_text())
    images = []
    for entry in content['annotations']:
        png = Image.open(sample_dir / 'panoptic' / entry['file_name'])
        images.append(
            PanopticImage(entry['image_id'], 'a.jpg', entry['file_name'],
                          np.array(png).astype(int) @ [1, 256, 65536],
                          entry['segments_info']))
    data = PanopticData(content['categories'], images)
    preds = [
        replace(image, id_map=np.roll(image.id_map, 5, axis=1))
        for image in images
    ]
    rng = np.random.default_rng(0)
    samples = [
        make_sample(gt, pred, data.categories, rng)
        for gt, pred in zip(images, preds)
    ]
    space = space_of(data)
    run_metric(
        PanopticQualityMetric(outfile_prefix=str(tmp_path / 'r')), samples,
        space.metainfo())
    stat, categories = panopticapi_stat(gt_json, tmp_path / 'r.panoptic.json',
                                        tmp_path / 'r.panoptic')
    quality = our_quality(samples, space.metainfo())
    assert_same_classes(stat, categories, quality, space.category_ids)
    assert 0.3 < np.nanmean(quality[:, 0]) < 1


@pytest.mark.parametrize('seed', range(4))
def test_hotcoco_agrees(tmp_path, seed):
    """A second implementation, on files."""
    panoptic = pytest.importorskip('hotcoco.panoptic')
    data, _, samples = make_case(seed)
    truth = write_coco_panoptic(data, tmp_path, name='gt')
    prefix = str(tmp_path / 'found')
    ours = run_metric(
        PanopticQualityMetric(outfile_prefix=prefix), samples,
        space_of(data).metainfo())
    theirs = panoptic.pq_compute(
        str(truth), f'{prefix}.panoptic.json', str(tmp_path / 'gt'),
        f'{prefix}.panoptic')
    for suffix, group in (('', 'All'), ('_th', 'Things'), ('_st', 'Stuff')):
        for key in ('PQ', 'SQ', 'RQ'):
            assert abs(ours[f'coco_panoptic/{key}{suffix}'] -
                       100 * theirs[group][key.lower()]) <= TOLERANCE


def counts_of(gt, codes, crowd, pred, num_classes=2):
    codes = np.array(codes, dtype=np.int64)
    return panoptic_counts(
        np.array(gt), codes, codes % 1000, np.array(crowd, bool),
        np.array(pred), num_classes, num_classes).tolist()


def test_an_iou_of_one_half_is_no_match():
    counts = counts_of([[0, 0, 1, 1]], [0, 1], [0, 0], [[1000, 2, 1, 1]])
    assert counts == [[0, 1, 1, 0], [1, 0, 0, 1]]


def test_void_is_left_out_of_the_union():
    # 3 of 4 predicted pixels lie on void: IoU = 1 / (4 + 1 - 1 - 3) = 1.
    assert counts_of([[0, 2, 2, 2]], [0], [0],
                     [[0, 0, 0, 0]])[0] == [1, 0, 0, 1]


def test_exactly_half_on_void_is_spurious():
    assert counts_of([[2, 2, 0, 0]], [0], [0],
                     [[1, 1, 1, 1]])[1] == [0, 1, 0, 0]
    assert counts_of([[2, 2, 2, 0]], [0], [0],
                     [[1, 1, 1, 1]])[1] == [0, 0, 0, 0]


@pytest.mark.parametrize('codes,fp', [([1000, 2000], 1), ([2000, 1000], 0)])
def test_only_the_last_crowd_of_a_class_forgives(codes, fp):
    counts = counts_of([[1000, 1000, 1000, 2000]], codes, [1, 1], [[0] * 4])
    assert counts == [[0, fp, 0, 0], [0, 0, 0, 0]]


def test_a_segment_without_pixel_is_missed_and_a_lost_crowd_forgives_none():
    counts = counts_of([[1000, 1000]], [1000, 1, 3000], [1, 0, 1], [[0, 0]])
    assert counts == [[0, 1, 0, 0], [0, 0, 1, 0]]


def test_void_with_a_number_and_all_void_maps():
    assert counts_of([[2, 2]], [], [], [[2, 5002]]) == [[0] * 4, [0] * 4]
    assert counts_of([[1, 1]], [1], [0], [[2, 2]]) == [[0] * 4, [0, 0, 1, 0]]


def test_written_results_have_areas_and_boxes(tmp_path):
    data, _, samples = make_case(8)
    prefix = str(tmp_path / 'out' / 'results')
    run_metric(
        PanopticQualityMetric(outfile_prefix=prefix), samples[::-1],
        space_of(data).metainfo())
    result = json.loads((tmp_path / 'out/results.panoptic.json').read_text())
    assert [e['image_id'] for e in result['annotations']
            ] == sorted(image.image_id for image in data.images)
    assert {e['file_name']
            for e in result['annotations']
            } == {image.png_name
                  for image in data.images}
    for entry in result['annotations']:
        rgb = np.array(
            Image.open(tmp_path / 'out/results.panoptic' /
                       entry['file_name'])).astype(int)
        ids = rgb @ [1, 256, 65536]
        for segment in entry['segments_info']:
            ys, xs = np.nonzero(ids == segment['id'])
            assert segment['area'] == len(ys) and segment['iscrowd'] == 0
            assert segment['bbox'] == [
                xs.min(), ys.min(),
                np.ptp(xs) + 1,
                np.ptp(ys) + 1
            ]


def test_format_only_needs_no_ground_truth(tmp_path):
    data, _, samples = make_case(9)
    for sample in samples:
        for key in ('gt_panoptic_seg', 'gt_codes', 'crowd_codes'):
            del sample[key]
        sample['seg_map_path'] = None
    metric = PanopticQualityMetric(
        format_only=True, outfile_prefix=str(tmp_path / 'r'))
    padded = samples + samples[:1]
    meta = space_of(data).metainfo()
    assert run_metric(metric, padded, meta, size=len(samples)) == {}
    result = json.loads((tmp_path / 'r.panoptic.json').read_text())
    names = sorted(f'{image.image_id}.png' for image in data.images)
    assert sorted(e['file_name'] for e in result['annotations']) == names
    assert sorted(p.name for p in (tmp_path / 'r.panoptic').iterdir()) == names


def test_two_images_of_one_png_name_are_an_error(tmp_path):
    data, _, samples = make_case(11)
    for sample in samples:
        sample['seg_map_path'] = f'{sample["img_id"]}/same.png'
    metric = PanopticQualityMetric(outfile_prefix=str(tmp_path / 'r'))
    with pytest.raises(ValueError, match='same.png'):
        run_metric(metric, samples, space_of(data).metainfo())


NAMES = ['a/0001.png', 'b/0001.png', 'b/c d/ü.png', '100%d#?&.png']


@pytest.mark.parametrize('annotated', [True, False])
def test_images_of_one_name_keep_their_folders(tmp_path, annotated):
    """As in panopticapi, which reads ``folder/file_name``; of the same counts
    as flat names."""
    data, _, samples = make_case(11)
    meta, flat = space_of(data).metainfo(), str(tmp_path / 'flat')
    run_metric(PanopticQualityMetric(outfile_prefix=flat), samples, meta)
    for sample, name in zip(samples, NAMES):
        sample['seg_map_path'] = f'x/panoptic/{name}' if annotated else None
        sample['img_path'] = f'x/images/{name[:-4]}.jpg'
    metric = PanopticQualityMetric(outfile_prefix=str(tmp_path / 'r'))
    metric.check_images(samples)
    run_metric(metric, samples, meta)
    found, expected = (
        json.loads((tmp_path / f'{name}.panoptic.json').read_text())
        for name in ('r', 'flat'))
    name_of = {sample['img_id']: name for sample, name in zip(samples, NAMES)}
    for entry, other in zip(found['annotations'], expected['annotations']):
        assert entry['file_name'] == name_of[entry['image_id']]
        assert entry['segments_info'] == other['segments_info']
        assert (tmp_path / 'r.panoptic' / entry['file_name']).read_bytes() == (
            tmp_path / 'flat.panoptic' / other['file_name']).read_bytes()


def test_different_names_stay_flat():
    """As Cityscapes' server wants them, whose images lie by city."""
    samples = [
        dict(img_id=i, img_path='', seg_map_path=f'val/{name}')
        for i, name in enumerate(['aachen/a_1.png', 'ulm/u_1.png'])
    ]
    assert png_names(samples) == {0: 'a_1.png', 1: 'u_1.png'}
    assert png_names(samples, 'x{img_id}.png') == {0: 'x0.png', 1: 'x1.png'}


@pytest.mark.parametrize('ids, paths, template', [
    ((1, 2), ('a/1.jpg', 'a/1.png'), None),
    ((1, '1'), ('a/1.jpg', 'a/2.jpg'), '{img_id}.png'),
])
def test_one_name_for_two_images_is_found_before_they_are_predicted(
        ids, paths, template):
    metric = PanopticQualityMetric(outfile_prefix='x', png_name=template)
    with pytest.raises(InputError, match=f'{ids[0]} and {ids[1]!r}.*1.png'):
        metric.check_images(
            [dict(img_id=i, img_path=p) for i, p in zip(ids, paths)])


def test_classes_must_be_things_first():
    data, _, samples = make_case(14)
    meta = space_of(data).metainfo()
    with pytest.raises(ValueError, match='things first'):
        run_metric(PanopticQualityMetric(), samples, {
            **meta, 'classes': meta['classes'][::-1]
        })
    with pytest.raises(ValueError, match='thing_classes'):
        run_metric(PanopticQualityMetric(), samples,
                   dict(classes=meta['classes']))


def a_model(*branches):
    model = nn.Module()
    for branch in branches:
        setattr(model, branch, nn.Identity())
    return model


@pytest.mark.parametrize('branch, judged', [('roi_head', '_th'),
                                            ('semantic_head', '_st')])
def test_a_model_of_one_branch_is_judged_by_what_it_predicts(branch, judged):
    """Table 2's baselines have PQ_th or PQ_st, the same as any model's."""
    data, _, samples = make_case(3)
    meta = space_of(data).metainfo()
    metric = PanopticQualityMetric(classwise=True)
    metric.check_model(a_model(branch))
    scores = run_metric(metric, samples, meta)
    whole = run_metric(PanopticQualityMetric(), samples, meta)
    for key, score in scores.items():
        if key.endswith(judged):
            assert score == whole[key] > 0
        else:
            assert math.isnan(score), key
    assert 'no branch' in metric.note
    known = {
        name
        for name, row in metric.by_class.items() if not math.isnan(row['PQ'])
    }
    space = space_of(data)
    assert known <= set(space.thing_names if judged ==
                        '_th' else space.stuff_names)


@pytest.mark.parametrize('branches', [('roi_head', 'semantic_head'), ()])
def test_other_models_are_judged_by_everything(branches):
    """Of both branches, or (another kind of model) of neither."""
    data, _, samples = make_case(3)
    metric = PanopticQualityMetric()
    metric.check_model(a_model('roi_head'))
    metric.check_model(a_model(*branches))
    scores = run_metric(metric, samples, space_of(data).metainfo())
    assert not math.isnan(scores['coco_panoptic/PQ']) and metric.note is None
