"""A device that is right, and ones that are not, each in one thing."""
import json

import pytest
import torch

from panoptic_apps.check_gpu import agreement
from panoptic_apps.check_gpu.report import Report
from panoptic_apps.check_gpu.scenes import CITYSCAPES, COCO
from panoptic_apps.check_gpu.units import Heads
from tests.pretended_gpu import pretended_gpu

CPU = torch.device('cpu')


@pytest.fixture
def report(tmp_path):
    return Report(str(tmp_path), {})


def wrong(report):
    with open(report.path) as file:
        checks = json.load(file)['checks']
    assert checks
    return [c['name'] for c in checks if c['verdict'] != 'right']


def test_operators(report):
    agreement.check_operators(report, CPU)
    assert wrong(report) == []


@pytest.mark.parametrize(
    'case', [COCO, CITYSCAPES], ids=lambda case: case.name)
def test_heads(report, case):
    agreement.check_heads(report, CPU, case.quick(), 2)
    assert wrong(report) == []


def test_the_ways_of_a_gpu(report):
    """What runs on a GPU alone agrees, also computed by a CPU."""
    device = torch.device('cuda')
    with pretended_gpu():
        agreement.check_operators(report, device)
        for case in (COCO, CITYSCAPES):
            agreement.check_heads(report, device, case.quick(), 2)
    assert wrong(report) == []


@pytest.mark.parametrize('method, change, name', [
    ('loss', lambda loss: 1.001 * loss, 'semantic loss'),
    ('semantic_map', lambda channels: channels.roll(1, 0), 'semantic map'),
    ('merge', lambda panoptic: panoptic.roll(1, 0), 'merge'),
])
def test_a_head_that_errs_on_the_device_is_named(report, monkeypatch, method,
                                                 change, name):
    plain, calls = getattr(Heads, method), []

    def wrong_at_first(self, *args):
        calls.append(self)
        result = plain(self, *args)
        # the CPU's heads come first
        return result if self is calls[0] else change(result)

    monkeypatch.setattr(Heads, method, wrong_at_first)
    agreement.check_heads(report, CPU, COCO.quick(), 2)
    assert wrong(report) == [f'{name}, COCO']


def test_errors_are_those_of_the_losses():
    expected = dict(loss=2., loss_cls=1., acc=50.)
    errors = agreement.loss_errors(
        dict(loss=2., loss_cls=1.2, acc=9.), expected)
    assert errors == dict(loss=0., loss_cls=pytest.approx(.2))
