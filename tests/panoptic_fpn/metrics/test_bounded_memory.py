"""An evaluation holds a bounded amount of memory for each image, once."""
import pickle
import tracemalloc

import numpy as np
import pytest
from mmengine.registry import DefaultScope

from benchmarks import probe
from panoptic_fpn.metrics import (PanopticEvaluator, PanopticInstanceAPMetric,
                                  base)
from panoptic_fpn.metrics.instance_ap import join_rles, split_rles
from panoptic_fpn.ops.run_length import encode_mask

from .data import make_case, space_of
from .test_evaluator import METRICS


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
    truth = len(row.truth.masks)
    entries = len(row.found.labels) + len(row.truth.labels)
    size = len(pickle.dumps(row)) - masks - truth
    # 30 bytes an entry, and eight arrays
    assert size < 30 * entries + 1600
    assert entries > 4


def test_rles_in_one_string():
    rng = np.random.default_rng(0)
    rles = [encode_mask(rng.random((7, 9)) < p) for p in (0.5, 0., 1., 0.1)]
    text = [dict(rle, counts=rle['counts'].decode()) for rle in rles]
    assert split_rles(join_rles(rles), (7, 9)) == text
    assert split_rles(join_rles([]), (7, 9)) == []


def test_evaluations_one_after_another_hold_no_more(log):
    data, _, samples = make_case(6)
    with DefaultScope.overwrite_default_scope('mmdet'):
        evaluator = PanopticEvaluator(METRICS)
    evaluator.dataset_meta = space_of(data).metainfo()
    looks = []
    for i in range(1, 13):
        for sample in samples:
            evaluator.process([sample])
        evaluator.evaluate(len(samples))
        log.truncate(0)
        log.seek(0)
        if i == 1:
            tracemalloc.start()
        if i in (3, 12):
            found = probe.snapshot()
            traced = tracemalloc.get_traced_memory()[0]
            looks.append(dict(found, traced=traced))
    tracemalloc.stop()
    growth = {key: looks[1][key] - looks[0][key] for key in looks[0]}
    assert growth['objects'] < 20 and growth['traced'] < 20_000, growth
    assert growth['descriptors'] == growth['threads'] == 0, growth


def test_rows_are_sent_a_part_at_a_time(monkeypatch):
    """Of three processes, played one after another."""
    shares = [['a', 'b'], ['c', 'd', 'e', 'f', 'g'], []]
    sent = {rank: [] for rank in range(3)}
    monkeypatch.setattr(base, 'SENT', 2)
    monkeypatch.setattr(base, 'get_world_size', lambda: 3)
    monkeypatch.setattr(base, 'all_gather_object',
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

        monkeypatch.setattr(base, 'is_main_process', lambda: rank == 0)
        monkeypatch.setattr(base, 'gather_object', gather)
        found = base.gather_rows(rows)
        assert found == (sum(shares, []) if rank == 0 else [])
        # what is sent is not kept
        assert len(rows) == (2 if rank == 0 else 0)
    assert sent[1] == [['c', 'd'], ['e', 'f'], ['g']]
    assert sent[0] == sent[2] == [[], [], []]
