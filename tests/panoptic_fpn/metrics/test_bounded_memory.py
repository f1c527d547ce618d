"""What an evaluation holds: so much for each image, and no more than once."""
import json
import pickle
import tracemalloc

import numpy as np
import pytest
from mmengine.registry import DefaultScope

from benchmarks import probe
from mmengine_exact.errors import InputError
from panoptic_fpn.metrics import (PanopticEvaluator, PanopticInstanceAPMetric,
                                  coco_ap, instance_ap, per_image)
from panoptic_fpn.metrics.instance_rows import join_rles, split_rles
from panoptic_fpn.ops.run_length import encode_mask

from .data import make_case, run_metric, space_of
from .test_evaluator import METRICS
from .test_instance_ap import instances_json


def scores_of(metric, samples, meta):
    """Every score, also of each class, as text."""
    scores = run_metric(metric, samples, meta)
    return str(scores), str(metric.by_class)


@pytest.mark.parametrize('backend', coco_ap.BACKENDS)
@pytest.mark.parametrize('named', [False, True])
@pytest.mark.parametrize('seed', range(3))
def test_classes_apart_have_the_scores_of_all_at_once(tmp_path, monkeypatch,
                                                      backend, named, seed):
    if backend == 'hotcoco':
        pytest.importorskip('hotcoco')
    data, _, samples = make_case(seed, string_ids=seed == 1)
    meta, path = space_of(data).metainfo(), None
    if named:
        path = str(tmp_path / 'instances.json')
        instances_json(data, tmp_path / 'instances.json', shuffle=seed)
    found = []
    for most in (10**9, 3, 1):
        monkeypatch.setattr(instance_ap, 'PART', most)
        metric = PanopticInstanceAPMetric(
            ann_file=path, backend=backend, classwise=True)
        found.append(scores_of(metric, samples, meta))
    assert found[0] == found[1] == found[2]


def test_annotations_with_equal_ids_stay_together(tmp_path, monkeypatch):
    """pycocotools takes the last one for all, of whatever class it is."""
    data, _, samples = make_case(0)
    path = tmp_path / 'instances.json'
    content = instances_json(data, path)
    ids = {}
    for ann in content['annotations']:
        ids.setdefault(ann['category_id'], ann)
    first, second = list(ids.values())[:2]
    second['id'] = first['id']
    path.write_text(json.dumps(content))
    found = []
    for most in (10**9, 1):
        monkeypatch.setattr(instance_ap, 'PART', most)
        metric = PanopticInstanceAPMetric(ann_file=str(path))
        found.append(scores_of(metric, samples, space_of(data).metainfo()))
    assert found[0] == found[1]


def test_classes_that_are_judged_together():
    numbers = [5, 0, 7, 2, 2, 30]

    def joined(most):
        return list(
            instance_ap.joined_classes([4, 0, 1, 2, 3, 5], numbers, most))

    assert joined(9) == [[4, 0, 1], [2, 3], [5]]
    assert joined(1) == [[4], [0], [1], [2], [3], [5]]
    assert joined(10**9) == [[4, 0, 1, 2, 3, 5]]
    assert list(instance_ap.joined_classes([], [], 1)) == []


def test_the_peak_is_that_of_a_part(monkeypatch):
    """pycocotools' annotations are Python objects, which are counted."""
    data, _, samples = make_case(5, num_images=6)
    meta = space_of(data).metainfo()
    peaks = []
    for most in (10**9, 1):
        monkeypatch.setattr(instance_ap, 'PART', most)
        metric = PanopticInstanceAPMetric(metric='segm', backend='pycocotools')
        metric.dataset_meta = meta
        for i in range(60):
            metric.process(None, [dict(samples[i % 6], img_id=i)])
        tracemalloc.start()
        metric.evaluate(60)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 0.7 * peaks[0], peaks


@pytest.mark.parametrize('i', range(len(METRICS)))
def test_a_row_does_not_depend_on_the_images_before(i):
    """And holds no view, which would keep what it is taken from."""
    data, _, samples = make_case(3)
    with DefaultScope.overwrite_default_scope('mmdet'):
        metric = PanopticEvaluator(METRICS[i]).metrics[0]
    metric.dataset_meta = space_of(data).metainfo()
    for number in range(60):
        metric.process(None, [dict(samples[0], img_id=number)])
    sizes = {len(pickle.dumps(row)) for _, row in metric.results}
    assert len(sizes) == 1
    arrays = list(arrays_of(metric.results[0][1]))
    assert arrays
    for array in arrays:
        assert array.base is None or array.base.nbytes == array.nbytes


def arrays_of(value):
    if isinstance(value, np.ndarray):
        yield value
    elif isinstance(value, dict):
        yield from arrays_of(list(value.values()))
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from arrays_of(item)


def test_a_row_of_detections_has_few_bytes_beside_its_masks():
    data, _, samples = make_case(3)
    metric = PanopticInstanceAPMetric()
    metric.dataset_meta = space_of(data).metainfo()
    sample = samples[0]
    metric.process(None, [sample])
    pred = sample['pred_instances']
    masks = sum(len(encode_mask(m)['counts']) for m in pred['masks'].numpy())
    row = metric.results[0][1]
    truth = len(row.truth.masks.counts)
    entries = len(row.found.labels) + len(row.truth.labels)
    size = len(pickle.dumps(row)) - masks - truth
    # 34 bytes an entry, and ten arrays
    assert size < 34 * entries + 2000
    assert entries > 4


def test_rles_in_one_string():
    rng = np.random.default_rng(0)
    rles = [encode_mask(rng.random((7, 9)) < p) for p in (0.5, 0., 1., 0.1)]
    assert split_rles(join_rles(rles, (7, 9)), (7, 9)) == rles
    text = [dict(rle, counts=rle['counts'].decode()) for rle in rles]
    assert split_rles(join_rles(text, (7, 9)), (7, 9)) == rles
    assert split_rles(join_rles([], (7, 9)), (7, 9)) == []
    with pytest.raises(InputError, match=r'\(7, 9\).*\(9, 7\)'):
        join_rles(rles, (9, 7))


def test_evaluations_one_after_another_hold_no_more(log):
    data, _, samples = make_case(6)
    with DefaultScope.overwrite_default_scope('mmdet'):
        evaluator = PanopticEvaluator(METRICS)
    evaluator.dataset_meta = space_of(data).metainfo()
    looks = []
    for i in range(1, 7):
        for sample in samples:
            evaluator.process([sample])
        evaluator.evaluate(len(samples))
        log.truncate(0)
        log.seek(0)
        if i == 1:
            tracemalloc.start()
        if i in (3, 6):
            found = probe.snapshot()
            traced = tracemalloc.get_traced_memory()[0]
            looks.append(dict(found, traced=traced))
    tracemalloc.stop()
    growth = {key: looks[1][key] - looks[0][key] for key in looks[0]}
    assert growth['objects'] < 20 and growth['traced'] < 10_000, growth
    assert growth['descriptors'] == growth['threads'] == 0, growth


def test_rows_are_sent_a_part_at_a_time(monkeypatch):
    """Of three processes, played one after another."""
    shares = [['a', 'b'], ['c', 'd', 'e', 'f', 'g'], []]
    sent = {rank: [] for rank in range(3)}
    monkeypatch.setattr(per_image, 'SENT', 2)
    monkeypatch.setattr(per_image, 'get_world_size', lambda: 3)
    monkeypatch.setattr(per_image, 'all_gather_object',
                        lambda number: [len(share) for share in shares])
    rounds = iter(range(99))

    for rank in (1, 2, 0):
        rows = list(shares[rank])

        def gather(part):
            sent[rank].append(list(part))
            if rank:
                return None
            i = next(rounds)
            return [sent[other][i] for other in range(3)]

        monkeypatch.setattr(per_image, 'is_main_process', lambda: rank == 0)
        monkeypatch.setattr(per_image, 'gather_object', gather)
        found = per_image.gather_rows(rows)
        assert found == (sum(shares, []) if rank == 0 else [])
        # what is sent is not kept
        assert len(rows) == (2 if rank == 0 else 0)
    assert sent[1] == [['c', 'd'], ['e', 'f'], ['g']]
    assert sent[0] == sent[2] == [[], [], []]
