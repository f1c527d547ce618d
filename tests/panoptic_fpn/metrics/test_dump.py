"""The pickle of ``tools/test.py --out``, beside mmdet's own."""
import mmengine
import numpy as np
import pytest
import torch
from mmdet.evaluation import DumpDetResults

from panoptic_fpn.metrics import PredictionDump
from panoptic_fpn.ops import to_host

from .data import clone, make_case, same_samples

MAPS = ('pred_panoptic_seg', 'pred_sem_seg')


@pytest.fixture(scope='module')
def samples():
    samples = make_case(5)[2]
    samples[0]['pred_sem_seg'] = dict(
        sem_seg=samples[0]['pred_sem_seg']['sem_seg'].long() + 300,
        predict_things=False)
    for key in MAPS:
        del samples[1][key]
    samples[2]['pred_instances'] = {
        key: value[:0]
        for key, value in samples[2]['pred_instances'].items()
    }
    return samples


def dumped(metric, samples):
    for i in range(0, len(samples), 2):
        metric.process(None, clone(samples[i:i + 2]))
    assert metric.evaluate(len(samples)) == {}
    return mmengine.load(metric.out_file_path)


def of_32_bits(sample):
    return dict(
        sample, **{
            key: dict(sample[key], sem_seg=sample[key]['sem_seg'].int())
            for key in MAPS if key in sample
        })


@pytest.mark.filterwarnings('ignore:Panoptic segmentation map')
@pytest.mark.parametrize('remote', [False, True])
def test_reads_as_mmdets_does(samples, tmp_path, monkeypatch, remote):
    theirs = dumped(DumpDetResults(str(tmp_path / 'b.pkl')), samples)
    if remote:
        monkeypatch.setattr(to_host, 'is_remote', lambda data: True)
    before = clone(samples)
    found = dumped(PredictionDump(str(tmp_path / 'a.pkl')), samples)
    assert same_samples(found, list(map(of_32_bits, theirs)))
    assert same_samples(samples, before)


def test_maps_are_packed(tmp_path):
    """Only an unpickler makes them again: they are not sent either."""
    plane = torch.zeros(1, 500, 500, dtype=torch.int32)
    plane[:, 100:] = 1000
    metric = PredictionDump(str(tmp_path / 'a.pkl'))
    found = dumped(metric, [dict(pred_panoptic_seg=dict(sem_seg=plane))] * 3)
    assert all(s['pred_panoptic_seg']['sem_seg'].equal(plane) for s in found)
    assert (tmp_path / 'a.pkl').stat().st_size < 30_000 < plane.nbytes


def test_in_the_order_of_the_sampler(tmp_path, monkeypatch):
    """Of two processes; the second one has the image that is missing to
    equal shares."""
    from panoptic_fpn.metrics import dump
    metric = PredictionDump(str(tmp_path / 'a.pkl'))
    first, second = (np.arange(5)[[0, 2, 4]], np.arange(5)[[1, 3, 0]])
    shares = []
    for share in (second, first):
        metric.results.clear()
        metric.process(None, [dict(img_id=int(i)) for i in share])
        shares.insert(0, list(metric.results))
    monkeypatch.setattr(dump, 'gather_rows', lambda rows: sum(shares, []))
    metric.evaluate(5)
    found = mmengine.load(metric.out_file_path)
    assert [s['img_id'] for s in found] == list(range(5))
