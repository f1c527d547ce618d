"""The oracles themselves: numbers worked out by hand, and panopticapi.

More numbers by hand are those of the tests that compare with an oracle.
"""
import json
from collections import defaultdict

import numpy as np
import pytest

from .oracles.derive import (derive_instances, derive_panoptic,
                             derive_semantic, labels_of, same_partition)
from .oracles.merge import merge_by_sets, merge_segments
from .oracles.panoptic_quality import Counts, add_counts, pq_counts, pq_table
from .oracles.perturb import (PanopticData, ids_of_kind, perturbed_data,
                              random_data, write_coco_panoptic)
from .oracles.semantic import (class_ious, confusion_matrix, gt_channels,
                               semantic_scores)

CATEGORIES = [
    dict(id=3, name='grass', isthing=0),
    dict(id=9, name='dog', isthing=1),
    dict(id=7, name='cat', isthing=1),
]

# Panoptic quality.


def test_pq_of_a_4x4_image():
    gt = np.array([[1, 1, 2, 2], [1, 1, 2, 2], [4, 4, 4, 0], [4, 4, 4, 0]])
    gt_segments = [
        dict(id=1, category_id=7, iscrowd=0),
        dict(id=2, category_id=7, iscrowd=0),
        dict(id=4, category_id=3, iscrowd=0),
    ]
    pred = np.array([[5, 5, 5, 6], [5, 5, 6, 6], [8, 8, 8, 8], [9, 9, 9, 9]])
    pred_segments = [
        dict(id=5, category_id=7),
        dict(id=6, category_id=7),
        dict(id=8, category_id=3),
        dict(id=9, category_id=9),
    ]
    counts = pq_counts(gt, gt_segments, pred, pred_segments)
    # cat: 5 meets 1 in 4 of 5 pixels, 6 meets 2 in 3 of 4.
    assert counts[7] == Counts(tp=2, fp=0, fn=0, iou=4 / 5 + 3 / 4)
    # grass: 8 meets 4 in 3 pixels; union 4 + 6 - 3 - 1 void = 6; 3/6 is not
    # more than a half; 1 of 4 pixels on void does not excuse it.
    assert counts[3] == Counts(tp=0, fp=1, fn=1, iou=0.0)
    # dog: spurious, 1 of 4 pixels on void.
    assert counts[9] == Counts(tp=0, fp=1, fn=0, iou=0.0)

    table = pq_table(counts, CATEGORIES)
    assert table['per_class'][7] == pytest.approx((0.775, 0.775, 1.0))
    assert table['per_class'][3] == (0.0, 0.0, 0.0)
    assert table['things'] == pytest.approx((0.3875, 0.3875, 0.5))
    assert table['stuff'] == (0.0, 0.0, 0.0)
    assert table['all'] == pytest.approx((0.775 / 3, 0.775 / 3, 1 / 3))


def test_only_the_last_crowd_of_a_category_excuses():
    gt = np.array([[5, 5, 0, 0], [5, 5, 0, 0], [6, 6, 8, 8], [6, 6, 8, 8]])
    first = dict(id=5, category_id=7, iscrowd=1)
    second = dict(id=6, category_id=7, iscrowd=1)
    dog = dict(id=8, category_id=9, iscrowd=0)
    pred = np.array([[1, 1, 2, 2], [1, 1, 2, 2], [0, 0, 2, 2], [0, 0, 0, 0]])
    pred_segments = [dict(id=1, category_id=7), dict(id=2, category_id=9)]
    # 1 lies on crowd 5 alone, which is the last in one of the two orders.
    # 2 meets 8 in 2 of 6 + 4 - 2 - 4 void = 4 pixels: no match, but 4 of its
    # 6 pixels are void: no false positive either.
    counts = pq_counts(gt, [first, dog, second], pred, pred_segments)
    assert counts == {7: Counts(fp=1), 9: Counts(fn=1)}
    counts = pq_counts(gt, [second, dog, first], pred, pred_segments)
    assert counts == {9: Counts(fn=1)}


def panopticapi_counts(gt, pred, root):
    """What panopticapi reads from files: ({category: Counts}, PQStat)."""
    evaluation = pytest.importorskip('panopticapi.evaluation')
    sides = []
    for name, data in (('gt', gt), ('pred', pred)):
        path = write_coco_panoptic(data, root, name=name)
        sides.append(json.loads(path.read_text())['annotations'])
    categories = {c['id']: c for c in gt.categories}
    stat = evaluation.pq_compute_single_core(0, list(zip(*sides)),
                                             str(root / 'gt'),
                                             str(root / 'pred'), categories)
    counts = {
        id_: Counts(int(c.tp), int(c.fp), int(c.fn), float(c.iou))
        for id_, c in stat.pq_per_cat.items()
    }
    return counts, stat


def oracle_counts(gt, pred):
    return add_counts(
        pq_counts(a.id_map, a.segments, b.id_map, b.segments)
        for a, b in zip(gt.images, pred.images))


def assert_same_counts(ours, theirs):
    for id_ in set(ours) | set(theirs):
        a, b = ours.get(id_, Counts()), theirs.get(id_, Counts())
        assert (a.tp, a.fp, a.fn) == (b.tp, b.fp, b.fn)
        assert a.iou == pytest.approx(b.iou, abs=1e-12, rel=0)


@pytest.mark.parametrize('seed', range(6))
def test_pq_agrees_with_panopticapi(seed, tmp_path):
    gt = random_data(seed, num_images=8, string_ids=seed % 2 == 1)
    pred = perturbed_data(100 + seed, gt, unite_stuff=seed % 3 != 0)
    theirs, stat = panopticapi_counts(gt, pred, tmp_path)
    assert_same_counts(oracle_counts(gt, pred), theirs)
    categories = {c['id']: c for c in gt.categories}
    table = pq_table(oracle_counts(gt, pred), gt.categories)
    for group, isthing in (('all', None), ('things', True), ('stuff', False)):
        mean, per_class = stat.pq_average(categories, isthing)
        expected = (mean['pq'], mean['sq'], mean['rq'])
        assert table[group] == pytest.approx(expected, abs=1e-12, rel=0)
        for id_, row in per_class.items():
            expected = (row['pq'], row['sq'], row['rq'])
            found = table['per_class'][id_] or (0, 0, 0)
            assert found == pytest.approx(expected, abs=1e-12, rel=0)


def test_images_with_several_crowds_agree_one_by_one(tmp_path):
    """The data do tell 'the last crowd' from other rules."""
    sensitive = 0
    gt = random_data(50, num_images=30, shape=(32, 40))
    pred = perturbed_data(51, gt)
    for i, (a, b) in enumerate(zip(gt.images, pred.images)):
        results = []
        for order in (1, -1):
            one = PanopticData(gt.categories, [
                type(a)(a.image_id, a.file_name, a.png_name, a.id_map,
                        a.segments[::order])
            ])
            other = PanopticData(gt.categories, [b])
            results.append(oracle_counts(one, other))
            theirs, _ = panopticapi_counts(one, other,
                                           tmp_path / f'{i}_{order}')
            assert_same_counts(results[-1], theirs)
        fp = [{k: c.fp for k, c in r.items() if c.fp} for r in results]
        sensitive += fp[0] != fp[1]
    assert sensitive >= 5


# Merge.


def masks_of(*rows):
    """Masks (n, 1, w) of strings such as '##..'."""
    return np.array([[[c == '#' for c in row]] for row in rows])


def test_merge_of_one_row():
    #                 0123456789
    masks = masks_of('####......', '..####....', '...####...', '..........',
                     '........##')
    scores = np.array([0.9, 0.8, 0.7, 0.99, 0.4])
    labels = np.array([1, 0, 1, 0, 0])
    # T = 2, S = 2: stuff labels 2 and 3, void 4; channel 2 is 'other'.
    channels = np.array([[0, 0, 0, 0, 0, 0, 0, 1, 2, 0]])
    # Instance 0 is whole. 1 has 2 of 4 pixels taken: not more than a half,
    # keeps 4 and 5. 2 has 3, 4, 5 of 4 pixels taken: dropped. 3 is empty and
    # gets no number. 4 is below the score threshold. Then stuff: pixel 6 is
    # channel 0, 7 channel 1, 8 'other', 9 channel 0.
    expected = [[1001, 1001, 1001, 1001, 2000, 2000, 2, 3, 4, 2]]
    options = dict(num_things=2, num_stuff=2, stuff_area=0)
    found = merge_by_sets(masks, scores, labels, channels, **options)
    assert found.tolist() == expected
    # Channel 0 has 2 free pixels (of 8 in all), channel 1 has 1.
    options['stuff_area'] = 2
    found = merge_by_sets(masks, scores, labels, channels, **options)
    assert found.tolist()[0][6:] == [2, 4, 4, 2]
    options['stuff_area'] = 3
    found = merge_by_sets(masks, scores, labels, channels, **options)
    assert found.tolist()[0][6:] == [4, 4, 4, 4]


def test_merge_with_thing_channels_and_with_one_branch():
    options = dict(num_things=2, num_stuff=1, stuff_area=0)
    channels = np.array([[0, 1, 2, 2]])
    masks, scores, labels = masks_of('...#'), np.array([0.9]), np.array([0])
    found = merge_by_sets(
        masks, scores, labels, channels, predict_things=True, **options)
    assert found.tolist() == [[3, 3, 2, 1000]]
    found = merge_by_sets(masks, scores, labels, None, **options)
    assert found.tolist() == [[3, 3, 3, 1000]]
    found = merge_by_sets(
        None, None, None, channels, predict_things=True, **options)
    assert found.tolist() == [[3, 3, 2, 2]]
    with pytest.raises(ValueError, match='size'):
        merge_by_sets(None, None, None, None, **options)


@pytest.mark.parametrize('seed', range(10))
def test_merge_agrees_with_panopticapi(seed, tmp_path):
    combine = pytest.importorskip(
        'panopticapi.combine_semantic_and_instance_predictions')
    coco_mask = pytest.importorskip('pycocotools.mask')
    from PIL import Image

    from .oracles.perturb import random_blob
    rng = np.random.default_rng(seed)
    (h, w), things, stuff = (24, 30), 3, 4
    masks = np.stack([random_blob(rng, (h, w)) for _ in range(15)])
    scores = rng.integers(3, 10, 15) / 10  # with ties
    labels = rng.integers(0, things, 15)
    channels = np.repeat(rng.integers(0, stuff + 1, (h, w // 5)), 5, axis=1)
    thresholds = dict(score_thr=0.5, overlap_thr=0.5, stuff_area=45)
    segments = merge_segments(masks, scores, labels, channels, things, stuff,
                              **thresholds)

    def rle(mask):
        return coco_mask.encode(np.asfortranarray(mask, dtype=np.uint8))

    order = sorted((i for i in range(15) if scores[i] >= 0.5),
                   key=lambda i: -scores[i])
    instances = [
        dict(category_id=int(labels[i]), segmentation=rle(masks[i]))
        for i in order
    ]
    regions = [
        dict(category_id=things + s, segmentation=rle(channels == s))
        for s in range(stuff)
    ]
    categories = {
        i: dict(id=i, isthing=int(i < things), color=[20 + 30 * i, 200, 90])
        for i in range(things + stuff)
    }
    result, = combine.combine_to_panoptic_single_core(
        0, [1], {1: dict(height=h, width=w, file_name='1.jpg')},
        {1: instances}, {1: regions}, str(tmp_path), 0.5, 45, categories)
    rgb = np.asarray(Image.open(tmp_path / '1.png'), dtype=np.int64)
    ids = rgb @ np.array([1, 256, 65536])
    theirs = [(s['category_id'], frozenset(zip(*np.nonzero(ids == s['id']))))
              for s in result['segments_info']]
    ours = [(code % 1000, frozenset(p)) for code, p in segments.items()]
    assert ours == theirs  # the order is the order of confidence, too
    numbers = [code // 1000 for code in segments]
    kept = sum(n > 0 for n in numbers)
    assert numbers == list(range(1, kept + 1)) + [0] * (len(numbers) - kept)


# Semantic scores.


def test_semantic_scores_by_hand():
    # T = 2, S = 2: things 0, 1 are 'other' = channel 2; stuff 2, 3; void -1.
    labels = np.array([[0, 1, 2, 2], [2, 2, -1, -1]])
    gt = gt_channels(labels, 2, 2)
    assert gt.tolist() == [[2, 2, 0, 0], [0, 0, -1, -1]]
    pred = np.array([[2, 0, 0, 0], [0, 1, 1, 2]])
    matrix = confusion_matrix(gt, pred, 3)
    # Channel 0: 3 right, 1 predicted as 1. Other: 1 right, 1 predicted as 0.
    assert matrix.tolist() == [[3, 1, 0], [0, 0, 0], [1, 0, 1]]
    # IoU: 3 / (4 + 4 - 3), not in the ground truth, 1 / (2 + 1 - 1).
    assert class_ious(matrix) == [0.6, None, 0.5]
    scores = semantic_scores(matrix, stuff_channels=range(2))
    assert scores['mIoU'] == pytest.approx(0.55)
    assert scores['fIoU'] == pytest.approx(4 / 6 * 0.6 + 2 / 6 * 0.5)
    assert scores['mIoU_stuff'] == pytest.approx(0.6)


# What follows from an annotation.


def test_derive_by_hand():
    ids = np.array([[70, 70, 0], [70, 90, 91], [30, 31, 99]])
    segments = [
        dict(id=30, category_id=3),
        dict(id=91, category_id=7, iscrowd=1),
        dict(id=31, category_id=3, iscrowd=0),
        dict(id=90, category_id=9, iscrowd=0),
        dict(id=70, category_id=7, iscrowd=0),
        dict(id=95, category_id=9, iscrowd=0),  # cropped away
    ]  # id 99 is not listed
    assert labels_of(CATEGORIES) == {7: 0, 9: 1, 3: 2}
    found = derive_instances(ids, segments, CATEGORIES)
    assert found['ids'] == [91, 90, 70]
    assert found['labels'].tolist() == [0, 1, 0]
    assert found['crowd'].tolist() == [True, False, False]
    assert found['boxes'].tolist() == [[2, 1, 3, 2], [1, 1, 2, 2],
                                       [0, 0, 2, 2]]
    assert found['masks'].sum(axis=(1, 2)).tolist() == [1, 1, 3]
    semantic = derive_semantic(ids, segments, CATEGORIES)
    assert semantic.tolist() == [[0, 0, -1], [0, 1, 0], [2, 2, -1]]
    panoptic = derive_panoptic(ids, segments, CATEGORIES)
    assert panoptic['codes'] == [2, 0, 1002, 1, 1000, 1001]
    assert panoptic['crowd_codes'] == [0]
    assert panoptic['map'].tolist() == [[1000, 1000, 3], [1000, 1, 0],
                                        [2, 1002, 3]]


def test_same_partition():
    a = [[1, 1, 1001, 7]]
    assert same_partition(a, [[3001, 3001, 1, 7]])  # other numbers
    assert not same_partition(a, [[1, 1, 1001, 1007 + 1]])  # other label
    assert not same_partition(a, [[1, 1, 1, 7]])  # merged
    assert not same_partition(a, [[1, 2001, 1001, 7]])  # split
    assert not same_partition(a, [[1, 1, 1001]])


# Random data.


@pytest.mark.parametrize('string_ids', [False, True])
def test_random_data_are_awkward_and_consistent(string_ids):
    seen = defaultdict(int)
    for seed in range(10):
        data = random_data(seed, string_ids=string_ids)
        isthing = [c['isthing'] for c in data.categories]
        ids = [c['id'] for c in data.categories]
        assert isthing == sorted(isthing)  # stuff first
        seen['shuffled'] += ids != sorted(ids)
        seen['mixed'] += min(ids_of_kind(data.categories, 1)) < max(
            ids_of_kind(data.categories, 0))
        for image in data.images:
            assert isinstance(image.image_id, str if string_ids else int)
            listed = [s['id'] for s in image.segments]
            assert sorted(listed) == sorted(set(image.id_map.flat) - {0})
            crowds = [s for s in image.segments if s['iscrowd']]
            names = [s['category_id'] for s in crowds]
            seen['images'] += 1
            seen['crowds of a class'] += len(names) > len(set(names))
            order = [s['id'] for s in crowds]
            seen['order of crowds'] += order != sorted(order)
            seen['void'] += bool((image.id_map == 0).any())
            seen['three bytes'] += image.id_map.max() > 65535
            stuff = [
                s['category_id'] for s in image.segments
                if s['category_id'] in ids_of_kind(data.categories, 0)
            ]
            seen['stuff twice'] += len(stuff) > len(set(stuff))
    assert seen['crowds of a class'] >= 0.8 * seen['images']
    assert seen['shuffled'] >= 9 and seen['mixed'] == 10
    for key in ('order of crowds', 'void', 'three bytes', 'stuff twice'):
        assert seen[key] >= 0.3 * seen['images'], key


def test_perturbed_predictions_make_every_kind_of_mistake():
    data = random_data(5, num_images=20)
    counts = oracle_counts(data, perturbed_data(6, data)).values()
    for kind in ('tp', 'fp', 'fn'):
        assert sum(getattr(c, kind) for c in counts) > 20, kind
