"""What all metrics share, on a data set of COCO's and one of Cityscapes'."""
import math

import numpy as np
import pytest
import torch
from mmdet.registry import METRICS as REGISTRY

from mmengine_exact.errors import InputError
from panoptic_fpn.ops import to_host
from tests.oracles.cityscapes_scenes import random_scenes

from .cityscapes import META, sample_of
from .data import as_map, clone, make_case, run_metric, same_samples, space_of
from .test_evaluator import CITYSCAPES_METRICS, METRICS


@pytest.fixture(scope='module')
def data_sets():
    data, _, samples = make_case(5)
    return dict(
        coco=(samples, space_of(data).metainfo()),
        cityscapes=([sample_of(scene) for scene in random_scenes(3)], META))


@pytest.fixture(
    params=[('coco', metric)
            for metric in METRICS] + [('cityscapes', metric)
                                      for metric in CITYSCAPES_METRICS],
    ids=lambda param: '-'.join([param[0], param[1]['type']]))
def case(request, data_sets):
    """Builds the metric; data samples; metainfo."""
    name, config = request.param
    return (lambda **kwargs: REGISTRY.build(dict(config, **kwargs)),
            *data_sets[name])


def same(a, b):
    return str(a) == str(b)  # NaN, too


def test_nothing_is_changed_written_or_counted_twice(case, tmp_path,
                                                     monkeypatch, capfd):
    build, samples, meta = case
    monkeypatch.chdir(tmp_path)
    before = clone(samples)
    once = run_metric(build(), samples, meta)
    assert same_samples(before, samples)
    padded = samples[2:] + samples[:3] + samples[::-1]
    assert same(run_metric(build(), padded, meta, size=len(samples)), once)
    assert list(tmp_path.rglob('*')) == []
    assert 'Average Precision' not in capfd.readouterr().out


def test_rows_are_the_same_from_a_gpu(case, tmp_path, monkeypatch):
    """Its ways of copying, run on CPU tensors; files, too."""
    build, samples, meta = case
    found = []
    for name in ('cpu', 'gpu'):
        options = {}
        if getattr(build(), 'writes_results', False):
            options = dict(outfile_prefix=str(tmp_path / name / 'r'))
        metric = build(**options)
        metric.dataset_meta = meta
        for sample in samples:
            none = {k: v[:0] for k, v in sample['pred_instances'].items()}
            metric.process(None, [
                sample,
                dict(
                    sample,
                    img_id=f'{sample["img_id"]} none',
                    pred_instances=none)
            ])
        files = {
            path.relative_to(tmp_path / name): path.read_bytes()
            for path in tmp_path.glob(f'{name}/**/*') if path.is_file()
        }
        found.append((plain(metric.results), files))
        monkeypatch.setattr(to_host, 'is_remote', lambda data: True)
    assert found[0] == found[1]


def plain(row):
    """A row with arrays as type, shape and bytes."""
    if isinstance(row, np.ndarray):
        return str(row.dtype), row.shape, row.tobytes()
    if isinstance(row, dict):
        return {key: plain(value) for key, value in row.items()}
    return [*map(plain, row)] if isinstance(row, (list, tuple)) else row


def test_ids_may_be_of_two_types(case):
    build, samples, meta = case
    ids = (10, '9', np.int64(2), 'x')
    renamed = [dict(s, img_id=id_) for s, id_ in zip(samples, ids)]
    once = run_metric(build(), renamed, meta)
    assert same(run_metric(build(), renamed[::-1], meta), once)


def test_classwise_logs_a_line_for_each_class(case, log):
    build, samples, meta = case
    metric = build(classwise=True)
    run_metric(metric, samples, meta)
    assert metric.by_class
    assert all(f'\n{name} ' in log.getvalue() for name in metric.by_class)


def test_scores_without_predictions_are_nan(case, log):
    build, samples, meta = case
    field = build().prediction
    without = [dict(s, **{field: None}) for s in samples]
    for images in (without, samples[:1] + without[1:]):
        scores = run_metric(build(), images, meta)
        assert scores and all(map(math.isnan, scores.values()))
        lacking = sum(s[field] is None for s in images)
        text = f'{lacking} of {len(images)} images have no {field}'
        assert log.getvalue().count(text) == 1


def test_errors_name_the_image(case):
    build, samples, meta = case
    sample, metric = samples[1], build()
    with pytest.raises(InputError, match=f'{sample["img_id"]}.*no panoptic'):
        run_metric(metric, [dict(sample, gt_panoptic_seg=None)], meta)
    small = as_map(np.zeros((7, 9)))
    if metric.prediction == 'pred_instances':
        small = dict(sample[metric.prediction], masks=torch.ones(1, 7, 9) > 0)
    changed = dict(sample, **{metric.prediction: small})
    shape = ', '.join(map(str, sample['ori_shape']))
    with pytest.raises(
            InputError, match=rf'{sample["img_id"]}.*\(7, 9\).*\({shape}\)'):
        run_metric(metric, [changed], meta)


def test_labels_outside_of_the_classes(case):
    build, samples, meta = case
    sample, metric = samples[1], build()
    pred = sample[metric.prediction]
    if metric.prediction == 'pred_instances':
        wrong = dict(pred, labels=0 * pred['labels'] + 99)
    else:
        wrong = dict(pred, sem_seg=0 * pred['sem_seg'] + 1099)
    with pytest.raises(InputError, match=r'99 is predicted.*num_things'):
        run_metric(metric, [dict(sample, **{metric.prediction: wrong})], meta)
