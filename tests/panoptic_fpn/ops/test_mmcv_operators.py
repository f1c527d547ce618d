"""What stands in for mmcv's compiled operators: beside oracles, beside mmcv's
kernels where they are compiled, and in processes that find none."""
import importlib
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
from mmcv.ops import nms, roi_align
from mmdet.registry import MODELS
from mmengine.config import Config

from mmengine_exact.errors import RunError
from panoptic_fpn.config_files import find_config
from panoptic_fpn.ops import mmcv_operators
from tests.conftest import REPO_ROOT, needs_compiled
from tests.oracles.region_operators import roi_align as roi_align_by_pixels
from tests.oracles.region_operators import textbook_nms
from tests.pretended_gpu import pretended_gpu

# A torchvision whose operators call mmcv's kernels, so results are equal. The
# signatures are torchvision's.
TORCHVISION = '''
from importlib.util import module_from_spec, spec_from_file_location
import torch
__version__ = '0.0'
spec = spec_from_file_location('_ext', {extension!r})
ext = module_from_spec(spec)
spec.loader.exec_module(ext)
library = torch.library.Library('torchvision', 'DEF')

def operator(signature):
    name = library.define(signature)
    return lambda function: library.impl(name, function, 'CPU')

@operator('nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor')
def nms(dets, scores, iou_threshold):
    return ext.nms(dets, scores, iou_threshold, 0)

@operator('roi_align(Tensor input, Tensor rois, float spatial_scale, '
          'SymInt pooled_height, SymInt pooled_width, int sampling_ratio, '
          'bool aligned) -> Tensor')
def roi_align(input, rois, spatial_scale, pooled_height, pooled_width,
              sampling_ratio, aligned):
    out = input.new_zeros(len(rois), input.shape[1], pooled_height,
                          pooled_width)
    none = input.new_zeros(0)
    ext.roi_align_forward(
        input, rois, out, none, none, aligned_height=pooled_height,
        aligned_width=pooled_width, spatial_scale=spatial_scale,
        sampling_ratio=sampling_ratio, pool_mode=1, aligned=aligned)
    return out

@operator('_roi_align_backward(Tensor grad, Tensor rois, float spatial_scale, '
          'SymInt pooled_height, SymInt pooled_width, SymInt batch_size, '
          'SymInt channels, SymInt height, SymInt width, int sampling_ratio, '
          'bool aligned) -> Tensor')
def roi_align_backward(grad, rois, spatial_scale, pooled_height, pooled_width,
                       batch_size, channels, height, width, sampling_ratio,
                       aligned):
    out = grad.new_zeros(batch_size, channels, height, width)
    none = grad.new_zeros(0)
    ext.roi_align_backward(
        grad, rois, none, none, out, aligned_height=pooled_height,
        aligned_width=pooled_width, spatial_scale=spatial_scale,
        sampling_ratio=sampling_ratio, pool_mode=1, aligned=aligned)
    return out
'''
SCRIPT = '''
import torch
import panoptic_fpn
from mmcv.ops import get_compiler_version, nms, roi_align, soft_nms
from tests.panoptic_fpn.ops.test_mmcv_operators import results
refused = []
for call in (lambda: nms(torch.rand(2, 4).to('meta'), torch.rand(2), 0.5),
             lambda: roi_align(torch.rand(1, 1, 4, 4), torch.zeros(1, 5), 2, 1,
                               0, 'max'),
             lambda: soft_nms(torch.rand(2, 4), torch.rand(2))):
    try:
        call()
    except ValueError as error:
        refused.append(str(error))
torch.save(dict(results=results(), refused=refused,
                compiler=get_compiler_version()), 'out.pth')
'''
COMMAND = 'make env OPERATORS=mmcv'


def random_boxes(number, spread=90., seed=0):
    generator = torch.Generator().manual_seed(seed)
    boxes = torch.rand(number, 4, generator=generator)
    boxes[:, :2] *= spread
    boxes[:, 2:] = boxes[:, :2] + boxes[:, 2:] * 45
    return boxes, torch.rand(number, generator=generator)


def results():
    """Kept boxes; bins and the features' gradient."""
    boxes, scores = random_boxes(200)
    kept = nms(boxes, scores, 0.5)
    generator = torch.Generator().manual_seed(0)
    features = torch.rand(2, 3, 20, 30, generator=generator)
    features.requires_grad_()
    index = torch.arange(200)[:, None] % 2
    bins = roi_align(features, torch.cat([index, boxes], 1), (7, 5), 0.25, 2,
                     'avg', True)
    bins.square().sum().backward()
    return [*kept, bins.detach(), features.grad]


@pytest.fixture
def without_operators(tmp_path):
    """Environment of a process that finds mmcv without its extension."""
    installed = Path(find_spec('mmcv').origin).parent
    (tmp_path / 'mmcv').mkdir()
    for path in installed.iterdir():
        if not path.match('_ext*.so'):
            (tmp_path / 'mmcv' / path.name).symlink_to(path)
    paths = [tmp_path, REPO_ROOT / 'projects', REPO_ROOT]
    return dict(os.environ, PYTHONPATH=os.pathsep.join(map(str, paths)))


def run(environment, folder, script):
    return subprocess.run([sys.executable, '-c', script],
                          cwd=folder,
                          env=environment,
                          capture_output=True,
                          text=True)


def results_without_operators(environment, folder):
    done = run(environment, folder, SCRIPT)
    assert done.returncode == 0, done.stderr
    assert 'mmcv' not in done.stdout + done.stderr  # no noise at import
    found = torch.load(folder / 'out.pth')
    elsewhere, maximum, soft = found['refused']
    assert 'meta' in elsewhere and 'Install the torchvision' in elsewhere
    assert "pool_mode='max'" in maximum and 'softnms' in soft
    assert all(COMMAND in line for line in found['refused'])
    return found


def test_plain_operators_stand_in(without_operators, tmp_path):
    found = results_without_operators(without_operators, tmp_path)
    kept, index, *floats = found['results']
    assert found['compiler'] == 'none: NMS and RoIAlign are plain, for CPUs'
    expected = results()
    assert torch.equal(kept, expected[0]) and torch.equal(index, expected[1])
    for a, b in zip(floats, expected[2:]):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=2e-5)


@needs_compiled
def test_torchvision_stands_in(without_operators, tmp_path):
    extension, = Path(find_spec('mmcv').origin).parent.glob('_ext*.so')
    (tmp_path / 'torchvision').mkdir()
    (tmp_path / 'torchvision' / '__init__.py').write_text(
        TORCHVISION.format(extension=str(extension)))
    found = results_without_operators(without_operators, tmp_path)
    assert all(map(torch.equal, found['results'], results()))
    assert "torchvision 0.0's" in found['compiler']


def test_a_torchvision_of_another_torch_is_left_out(without_operators,
                                                    tmp_path):
    (tmp_path / 'torchvision.py').write_text(
        'raise RuntimeError("operator torchvision::nms does not exist")')
    done = run(
        without_operators, tmp_path, 'import panoptic_fpn, torch\n'
        'from mmcv.ops import get_compiler_version, nms\n'
        'print(get_compiler_version())\n'
        'try:\n'
        '    nms(torch.ones(1, 4, device="meta"),\n'
        '        torch.ones(1, device="meta"), 0.5)\n'
        'except Exception as error:\n'
        '    print(error)')
    assert 'plain' in done.stdout, done.stderr
    assert 'on meta here (operator torchvision::nms does not' in done.stdout


@needs_compiled
def test_compiled_operators_stay():
    mmcv_operators.stand_in()
    assert sys.modules['mmcv._ext'] is not mmcv_operators
    assert mmcv_operators.stands_in() is None


@pytest.fixture
def plain(monkeypatch):
    """The module, standing in without torchvision."""
    monkeypatch.setattr(mmcv_operators, '_torchvision', None)
    monkeypatch.setitem(sys.modules, mmcv_operators.COMPILED, mmcv_operators)
    return mmcv_operators


def test_deformable_layers_are_refused_when_the_model_is_built(plain):
    name = 'options/panoptic-fpn_r50-mdconv-c3-c5_fpn_1x_coco'
    model = Config.fromfile(find_config(name)).model
    with pytest.raises(RunError, match=f'DCN of the mdconv .*{COMMAND}'):
        with torch.device('meta'):
            MODELS.build(model)


# Deformable attention.


def test_attention_on_a_gpu_is_that_of_a_cpu(monkeypatch):
    """What mmcv calls on a GPU, here on a CPU; gradients by autograd."""
    from mmcv.ops import multi_scale_deform_attn as theirs
    monkeypatch.setattr(theirs, 'ext_module', mmcv_operators)
    torch.manual_seed(0)
    shapes = torch.tensor([[5, 7], [3, 4]])
    value = torch.randn(2, 47, 4, 8)
    locations = torch.rand(2, 6, 4, 2, 3, 2) * 1.2 - 0.1
    weights = torch.rand(2, 6, 4, 2, 3)
    gradient = torch.randn(2, 6, 32)
    outcomes = []
    for function in (lambda v, x, w: theirs.MultiScaleDeformableAttnFunction.
                     apply(v, shapes, torch.tensor([0, 35]), x, w, 64),
                     lambda v, x, w: theirs.
                     multi_scale_deformable_attn_pytorch(v, shapes, x, w)):
        given = [
            t.clone().requires_grad_() for t in (value, locations, weights)
        ]
        found = function(*given)
        found.backward(gradient)
        outcomes.append([found, *(t.grad for t in given)])
    for one, two in zip(*outcomes):
        assert torch.equal(one, two)


# NMS.

SAME = torch.tensor([[0., 0, 9, 9]])
ODD_BOXES = {
    'none': torch.zeros(0, 4),
    'one': SAME,
    'equal': SAME.repeat(3, 1),
    'without area': torch.tensor([[5., 5, 5, 5]]).repeat(3, 1),
    'inside out': torch.tensor([[9., 9, 0, 0], [0, 0, 9, 9], [8, 8, 1, 1]]),
    'no numbers': torch.tensor([[0., 0, float('nan'), 9], [0, 0, 9, 9],
                                [0, 0, float('inf'), 9], [0, 0, 9, 8]]),
    'at the threshold': torch.tensor([[0., 0, 10, 10], [0, 0, 10, 5]]),
    'ties': torch.cat([SAME, SAME + 2, SAME + 1, SAME + 30, SAME + 31])
}  # yapf: disable


@pytest.mark.parametrize('offset', [0, 1])
@pytest.mark.parametrize('boxes', ODD_BOXES.values(), ids=ODD_BOXES)
def test_nms_of_odd_boxes(plain, boxes, offset):
    for scores in (torch.ones(len(boxes)), torch.arange(float(len(boxes)))):
        found = plain.nms(boxes, scores, 0.5, offset)
        assert found.dtype == torch.int64
        assert found.tolist() == textbook_nms(boxes, scores.tolist(), 0.5,
                                              offset)


@pytest.mark.parametrize('spread', [10., 90., 400.])
@pytest.mark.parametrize('number', [63, 64, 65, 300])
def test_nms_is_the_textbooks(plain, number, spread):
    boxes, scores = random_boxes(number, spread)
    ties = (scores * 50).round()
    # whatever the order in which torch, and so mmcv, sorts equal scores
    ranks = -ties.sort(descending=True)[1].argsort()
    for threshold in (0., 0.3, 0.7):
        for given, unlike in ((scores, scores), (ties, ranks)):
            found = plain.nms(boxes, given, threshold, 0)
            assert found.tolist() == textbook_nms(boxes, unlike.tolist(),
                                                  threshold)
            assert threshold or len(found) < number


@pytest.mark.parametrize('offset', [0, 1])
@pytest.mark.parametrize('gap', [0, 1, 2, 200])
def test_nms_of_boxes_that_are_moved_apart(plain, gap, offset):
    """Classes of whole pixels, 0 to 40 wide, as ``batched_nms`` moves them:
    they overlap, touch by an offset, just do not, or are far."""
    generator = torch.Generator().manual_seed(1)
    boxes = torch.randint(1, 20, (600, 4), generator=generator).float()
    boxes[:, 2:] += boxes[:, :2]
    boxes += (torch.arange(600) % 6)[:, None] * (38. + gap)
    boxes[::97, 2] = float('nan')
    scores = torch.rand(600, generator=generator)
    found = plain.nms(boxes, scores, 0.1, offset).tolist()
    assert found == textbook_nms(boxes, scores.tolist(), 0.1, offset)
    assert len(found) < 600


def test_a_threshold_that_is_an_iou_drops_nothing(plain):
    """0.3 in float32 is above 0.3."""
    boxes = torch.tensor([[0., 0, 10, 10], [0, 0, 10, 3]])
    assert plain.nms(boxes, torch.ones(2), 0.3, 0).tolist() == [0, 1]


def test_nms_with_an_offset_on_a_gpu(plain):
    """torchvision has no offset: the CPU computes."""
    boxes, scores = random_boxes(50)
    expected = plain.nms(boxes, scores, 0.3, 1)
    with pretended_gpu():
        found = plain.nms(boxes.cuda(), scores.cuda(), 0.3, 1)
        assert found.is_cuda and found.cpu().tolist() == expected.tolist()


@needs_compiled
@pytest.mark.parametrize('offset', [0, 1])
@pytest.mark.parametrize('spread', [50., 500., 5000.])
def test_nms_is_mmcvs(plain, spread, offset):
    kernel = importlib.import_module('mmcv.ops.nms').ext_module.nms
    sets = [
        random_boxes(2500, spread),
        *((boxes, torch.ones(len(boxes))) for boxes in ODD_BOXES.values())
    ]
    for boxes, scores in sets:
        for given in (scores, (scores * 50).round()):
            for threshold in (0.3, 0.5, 0.7):
                expected = kernel(
                    boxes, given, iou_threshold=threshold, offset=offset)
                assert torch.equal(
                    plain.nms(boxes, given, threshold, offset), expected)


# RoIAlign.

ROIS = torch.tensor([
    [0., 8, 8, 40, 40],  # inside
    [1, -30, 2, 50, 9],  # beyond the left and the right edge
    [1, 9, 20, 9, 20],  # no area
    [0, 43, 3.5, 44, 44],  # a part of a pixel wide
    [1, 500, 500, 600, 600],  # outside
    [0, -90, -90, -80, -70]])  # yapf: disable


def forward_and_backward(operators, features, rois, size, **settings):
    """Bins, and the gradient of their sum weighted by 0, 1, 2, ..."""
    settings.update(aligned_height=size[0], aligned_width=size[1], pool_mode=1)
    bins = features.new_zeros(len(rois), features.shape[1], *size)
    none, gradient = features.new_zeros(0), torch.zeros_like(features)
    operators.roi_align_forward(features, rois, bins, none, none, **settings)
    weights = torch.arange(float(bins.numel())).view_as(bins) / bins.numel()
    operators.roi_align_backward(weights, rois, none, none, gradient,
                                 **settings)
    return bins, gradient, weights


@pytest.mark.parametrize('ratio', [0, 1, 2])
@pytest.mark.parametrize('aligned', [True, False])
@pytest.mark.parametrize('rois', [ROIS, ROIS[:0]], ids=['rois', 'none'])
def test_roi_align_is_the_oracles(plain, rois, ratio, aligned):
    features = torch.rand(2, 3, 10, 11)
    bins, gradient, weights = forward_and_backward(
        plain,
        features,
        rois, (3, 2),
        spatial_scale=0.25,
        sampling_ratio=ratio,
        aligned=aligned)
    expected = roi_align_by_pixels(features.numpy(), rois.numpy(), (3, 2),
                                   0.25, ratio, aligned, weights.numpy())
    np.testing.assert_allclose(bins, expected[0], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(gradient, expected[1], rtol=1e-4, atol=1e-5)


@needs_compiled
@pytest.mark.parametrize('ratio', [0, 2])
@pytest.mark.parametrize('aligned', [True, False])
def test_roi_align_is_mmcvs(plain, ratio, aligned):
    kernels = importlib.import_module('mmcv.ops.roi_align').ext_module
    boxes, _ = random_boxes(300, 200.)
    rois = torch.cat([torch.arange(300.)[:, None] % 2, boxes - 20], 1)
    features = torch.rand(2, 8, 40, 44)
    for given in (rois, ROIS, rois[:0]):
        found, expected = (
            forward_and_backward(
                operators,
                features,
                given, (7, 7),
                spatial_scale=0.25,
                sampling_ratio=ratio,
                aligned=aligned) for operators in (plain, kernels))
        for a, b in zip(found, expected):
            torch.testing.assert_close(a, b, rtol=1e-4, atol=2e-5)
