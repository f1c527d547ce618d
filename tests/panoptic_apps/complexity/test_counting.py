"""Counts against numbers by hand, published ones and two other counters."""
import warnings

import pytest
import torch
from mmdet.models.backbones import ResNet, ResNeXt
from mmengine.analysis import ActivationAnalyzer, FlopAnalyzer
from torch import nn
from torch.nn import functional as F

from panoptic_apps.complexity import Cost, measure


def small_net():
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, stride=2, padding=1), nn.BatchNorm2d(8),
        nn.Conv2d(8, 8, 1, groups=4, bias=False), nn.ReLU(inplace=True),
        nn.ConvTranspose2d(8, 4, 2, stride=2), nn.Flatten(),
        nn.Linear(4 * 32 * 32, 10))


@pytest.mark.parametrize('device', ['meta', 'cpu'])
def test_a_small_net_by_hand(device):
    net = small_net().to(device).eval()
    image = torch.zeros(1, 3, 32, 32, device=device)
    output, cost = measure(lambda: net(image), net)
    assert output.shape == (1, 10)
    strided = 8 * 3 * 3 * 3 * 16 * 16
    grouped = 8 * (8 // 4) * 16 * 16
    transposed = 8 * 4 * 2 * 2 * 16 * 16
    linear = 10 * 4 * 32 * 32
    assert cost == Cost(
        multiply_adds=strided + grouped + transposed + linear,
        activations=2 * 8 * 16 * 16,
        transposed_outputs=4 * 32 * 32,
        linear_outputs=10,
        parameters=(8 * 27 + 8) + 16 + 8 * 2 + (8 * 4 * 4 + 4) +
        (4096 * 10 + 10))


def test_functional_calls_count_and_shared_parameters_count_once():
    conv = nn.Conv2d(2, 2, 1, bias=False)

    def run():
        return F.conv2d(conv(torch.zeros(1, 2, 5, 7)), conv.weight)

    _, cost = measure(run, conv, nn.Sequential(conv))
    assert cost == Cost(
        multiply_adds=2 * 4 * 35, activations=2 * 2 * 35, parameters=4)


@pytest.mark.parametrize('backbone, multiply_adds, activations, parameters', [
    (dict(depth=50), 4.1e9, 11.1e6, 25.6e6),
    (dict(depth=101), 7.8e9, 16.2e6, 44.5e6),
    (dict(depth=101, groups=64, base_width=4), 15.5e9, 31.2e6, 83.5e6),
])
def test_published_numbers_at_224(backbone, multiply_adds, activations,
                                  parameters):
    """Literature counts classifiers of 1000 classes, with their layer."""
    kind = ResNeXt if 'groups' in backbone else ResNet
    with torch.device('meta'):
        net, classifier = kind(**backbone), nn.Linear(2048, 1000)
        net.eval()

        def run():
            maps = net(torch.empty(1, 3, 224, 224))
            return classifier(maps[-1].mean((2, 3)))

        _, cost = measure(run, net, classifier)
    assert round(cost.multiply_adds / 1e9, 1) == multiply_adds / 1e9
    assert round(cost.activations / 1e6, 1) == activations / 1e6
    assert round(cost.parameters / 1e6, 1) == parameters / 1e6


@pytest.mark.parametrize('net', [
    ResNet(50, base_channels=8, style='caffe'),
    ResNet(18, base_channels=8, strides=(1, 2, 2, 1), dilations=(1, 1, 1, 2)),
    ResNeXt(depth=50, groups=4, base_width=4, base_channels=8),
])
def test_mmengines_analysis_agrees(net):
    net.eval()
    image = torch.zeros(1, 3, 64, 96)
    _, cost = measure(lambda: net(image), net)
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        flops = FlopAnalyzer(net, image).by_operator()
        outputs = ActivationAnalyzer(net, image).by_operator()
    assert cost.multiply_adds == flops['conv']
    assert cost.activations == outputs['conv']
