"""The Cityscapes metrics: numbers by hand, files, errors."""
import math

import numpy as np
import pytest
import torch
from PIL import Image

from mmengine_exact.errors import InputError
from panoptic_fpn.cityscapes import label_space
from panoptic_fpn.metrics import (CityscapesInstanceAPMetric,
                                  CityscapesSemanticIoUMetric,
                                  PanopticQualityMetric)
from panoptic_fpn.metrics.cityscapes_ap import (average_precision,
                                                image_overlaps, join_overlaps)
from panoptic_fpn.metrics.cityscapes_semantic import (category_labels,
                                                      cityscapes_scores,
                                                      image_counts)
from tests.oracles.cityscapes_scenes import random_scenes

from .cityscapes import META, sample_of
from .data import as_map, make_case, run_metric, space_of

BOTH = (CityscapesInstanceAPMetric, CityscapesSemanticIoUMetric)
ALL = (*BOTH, PanopticQualityMetric)


@pytest.fixture(scope='module')
def samples():
    return [sample_of(scene) for scene in random_scenes(3)]


@pytest.mark.parametrize(
    'scores,right,wanted,expected',
    [
        ([], [], 3, 0),
        ([.5], [True], 1, 1),
        ([.5], [False], 1, 0),
        ([.9, .1], [True, False], 2, .5),
        # (recall, precision): (1, 2/3), (1/2, 1/2), (1/2, 1) and (0, 1)
        ([.8, .5, .2], [True, False, True], 2, (2 / 3 + 1 / 2 + 1 + 1) / 4),
        ([.5, .5], [True, False], 1, .75),
    ])
def test_area_below_the_curve_by_hand(scores, right, wanted, expected):
    """Half a step to both sides of each point; the last has precision 1."""
    found = average_precision(
        np.array(scores), np.array(right, dtype=bool), wanted)
    assert found == pytest.approx(expected)


def test_overlaps_by_hand():
    """A car, a group of cars, a caravan (void with a number) and void."""
    gt = np.array([[1002, 1002, 2, 2], [1002, 9, 1019, 19]])
    masks = np.array([[[1, 1, 1, 0], [1, 1, 1, 1]], [[0] * 4, [0] * 4],
                      [[0, 0, 0, 0], [0, 0, 0, 1]]])
    found = image_overlaps(gt, [2], 8, 19, [2, 2, 0], [.5, .7, .6], masks)
    # label, score, pixels, pixels on void
    assert found.preds.tolist() == [(2, .5, 7, 1), (0, .6, 1, 1)]
    assert found.gts.tolist() == [(2, 2, True), (2, 3, False)]
    assert found.pairs.tolist() == [(0, 0, 1), (0, 1, 3)]
    joined = join_overlaps([found, found, found])
    assert joined.pairs['pred'].tolist() == [0, 0, 2, 2, 4, 4]
    assert joined.pairs['gt'].tolist() == [0, 1, 2, 3, 4, 5]


def test_counts_of_instances_by_hand():
    """Two classes of one category and one of another; C = 3, T = 2."""
    codes = np.array([0, 2, 3, 1000, 1001, 2000])
    counts = np.array([[1, 1, 0], [0, 0, 5], [9, 9, 9], [4, 1, 3], [1, 0, 1],
                       [0, 0, 2]])
    row = image_counts(codes, counts, [0], dict(a=[0, 1], b=[2]),
                       np.array([16., 10.]))
    assert row['confusion'].tolist() == [[5, 2, 5], [1, 0, 1], [0, 0, 5]]
    # weights 16 / 8 and 16 / 2 of label 0, 10 / 2 of label 1
    assert row['weighted'].tolist() == [[8, 0], [8 + 16, 10], [10, 5],
                                        [6 + 16, 5]]
    scores = cityscapes_scores(row['confusion'], row['weighted'],
                               dict(a=[0, 1], b=[2]))
    assert scores['classes'] == pytest.approx(
        100 * np.array([[5 / 13, 0, 5 / 11], [8 / 33, 0, math.nan]]),
        nan_ok=True)
    assert scores['categories'] == pytest.approx(
        100 * np.array([[8 / 14, 5 / 11], [15 / 42, math.nan]]), nan_ok=True)
    assert scores['mIoU_category'] == pytest.approx(50 * (8 / 14 + 5 / 11))
    assert scores['fIoU'] == pytest.approx(
        100 * (12 / 19 * 5 / 13 + 5 / 19 * 5 / 11))


def test_categories():
    groups = category_labels(label_space())
    assert list(groups) == [
        'flat', 'construction', 'object', 'nature', 'sky', 'human', 'vehicle'
    ]
    assert groups['human'] == [0, 1] and groups['sky'] == [18]
    assert sorted(sum(groups.values(), [])) == list(range(19))


def test_perfect_predictions(samples):
    """The ground truth itself: groups and small instances cost nothing."""
    perfect = []
    for sample in samples:
        codes = sample['gt_panoptic_seg']['sem_seg'][0].numpy()
        things = [c for c in sample['gt_codes'] if c % 1000 < 8]
        masks = np.array([codes == c for c in things])
        perfect.append(
            dict(
                sample,
                pred_sem_seg=as_map(codes % 1000 % 19),
                pred_instances=dict(
                    labels=torch.tensor([c % 1000 for c in things]),
                    scores=torch.ones(len(things)),
                    masks=torch.from_numpy(masks))))
    scores = run_metric(CityscapesInstanceAPMetric(), perfect, META)
    assert set(scores.values()) == {1}
    scores = run_metric(CityscapesSemanticIoUMetric(), perfect, META)
    assert list(scores.values()) == pytest.approx([100] * 5)


def unannotated():
    return [sample_of(s, annotated=False) for s in random_scenes(3)]


def test_files_of_the_benchmark_server(tmp_path):
    """Without annotation; every file under the name that the server wants."""
    scenes, prefix = random_scenes(3), str(tmp_path / 'out' / 'r')
    for kind, more in zip(ALL, ({}, {}, dict(png_name='{img_id}_p.png'))):
        metric = kind(format_only=True, outfile_prefix=prefix, **more)
        found = run_metric(metric, unannotated(), META)
        assert found == {} and metric.by_class == {}
    for scene in scenes:
        text = tmp_path / f'out/r.instances/{scene.image_id}_pred.txt'
        lines = text.read_text().splitlines()
        kept = [x for x in scene.instances if x[2].any()]
        assert len(lines) == len(kept)
        for n, (line, (id_, score, mask)) in enumerate(zip(lines, kept)):
            name, label, confidence = line.split(' ')
            assert name == f'masks/{scene.image_id}_{n}.png'
            assert int(label) == id_ and float(confidence) == float(score)
            image = Image.open(text.parent / name)
            assert image.mode == 'L'
            assert (np.array(image) == 255 * mask).all()
        image = Image.open(
            tmp_path / f'out/r.semantic/{scene.image_id}_pred_labelIds.png')
        assert image.mode == 'L' and (np.array(image) == scene.semantic).all()
        assert (tmp_path / f'out/r.panoptic/{scene.image_id}_p.png').exists()
    assert (tmp_path / 'out/r.panoptic.json').exists()
    empty = tmp_path / f'out/r.instances/{scenes[0].image_id}_pred.txt'
    assert empty.read_text() == ''


def test_masks_of_an_earlier_export_of_an_image_go(tmp_path):
    prefix, some = str(tmp_path / 'r'), unannotated()[1:2]

    def masks():
        run_metric(
            CityscapesInstanceAPMetric(
                format_only=True, outfile_prefix=prefix), some, META)
        return len(list((tmp_path / 'r.instances/masks').iterdir()))

    before = masks()
    pred = some[0]['pred_instances']
    some[0]['pred_instances'] = {key: pred[key][:2] for key in pred}
    assert before > 2 >= masks()


@pytest.mark.parametrize('kind', ALL)
def test_results_of_other_images_do_not_mix_in(tmp_path, samples, kind, log):
    prefix, some = str(tmp_path / 'r'), unannotated()
    run_metric(kind(format_only=True, outfile_prefix=prefix), some, META)
    run_metric(kind(format_only=True, outfile_prefix=prefix), some, META)
    with pytest.raises(InputError, match=r'r\.\w+ holds \d+ files that'):
        run_metric(
            kind(format_only=True, outfile_prefix=prefix), some[:3], META)
    assert 'hand the folder in' not in log.getvalue()
    scores = run_metric(kind(outfile_prefix=prefix), samples[:3], META)
    assert scores and 'hand the folder in' in log.getvalue()


def test_a_folder_that_cannot_be_written(tmp_path, samples):
    (tmp_path / 'file').touch()
    for kind in ALL:
        with pytest.raises(InputError, match='file.*could not be written'):
            run_metric(
                kind(outfile_prefix=str(tmp_path / 'file' / 'r')), samples,
                META)


@pytest.mark.parametrize('kind', ALL)
def test_format_only_without_a_place_is_an_error(kind):
    with pytest.raises(InputError, match=f'{kind.__name__}.*outfile_pref'):
        kind(format_only=True)


def test_nothing_to_find_is_nan():
    """All void, in the ground truth, and nothing predicted."""
    sample = dict(
        unannotated()[0],
        gt_panoptic_seg=as_map(np.full((128, 256), 19)),
        gt_codes=[],
        crowd_codes=[])
    for kind in BOTH:
        scores = run_metric(kind(), [sample], META)
        assert all(map(math.isnan, scores.values()))


def test_other_classes_have_no_categories():
    data, _, other = make_case(0)
    metric = CityscapesSemanticIoUMetric()
    metric.dataset_meta = space_of(data).metainfo()
    with pytest.raises(InputError, match='Use SemanticIoUMetric'):
        metric.check_model(torch.nn.Module())
    # AP needs no table: any data set with things
    scores = run_metric(CityscapesInstanceAPMetric(), other,
                        space_of(data).metainfo())
    assert 0 <= scores['cityscapes/mAP'] <= 1


def test_a_head_without_things_is_refused_before_training():
    metric = CityscapesSemanticIoUMetric()
    metric.dataset_meta = META
    model = torch.nn.Module()
    metric.check_model(model)  # no semantic branch: n/a
    model.semantic_head = torch.nn.Module()
    model.semantic_head.predict_things = True
    metric.check_model(model)
    model.semantic_head.predict_things = False
    with pytest.raises(InputError, match='use SemanticIoUMetric'):
        metric.check_model(model)
    sample = unannotated()[0]
    sample['pred_sem_seg']['predict_things'] = False
    with pytest.raises(InputError, match='predict_things=True'):
        metric.process(None, [sample])
