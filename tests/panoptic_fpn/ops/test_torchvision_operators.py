"""mmcv without compiled operators, and a torchvision that has them: here one
whose operators call mmcv's kernels, so results have to be equal."""
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from mmcv.ops import nms, roi_align

from panoptic_fpn.ops import torchvision_operators
from tests.conftest import REPO_ROOT

# The signatures are torchvision's.
TORCHVISION = '''
from importlib.util import module_from_spec, spec_from_file_location
import torch
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
from tests.panoptic_fpn.ops.test_torchvision_operators import results
refused = []
for call in (lambda: nms(torch.rand(2, 4), torch.rand(2), 0.5, offset=1),
             lambda: roi_align(torch.rand(1, 1, 4, 4), torch.zeros(1, 5), 2, 1,
                               0, 'max'),
             lambda: soft_nms(torch.rand(2, 4), torch.rand(2))):
    try:
        call()
    except NotImplementedError as error:
        refused.append(str(error))
torch.save(dict(results=results(), refused=refused,
                compiler=get_compiler_version()), 'out.pth')
'''


def results():
    """Kept boxes; bins and the features' gradient."""
    generator = torch.Generator().manual_seed(0)
    boxes = torch.rand(200, 4, generator=generator) * 90
    boxes[:, 2:] += boxes[:, :2]
    kept = nms(boxes, torch.rand(200, generator=generator), 0.5)
    features = torch.rand(2, 3, 20, 30, generator=generator)
    features.requires_grad_()
    index = torch.arange(200)[:, None] % 2
    bins = roi_align(features, torch.cat([index, boxes], 1), (7, 5), 0.25, 2,
                     'avg', True)
    bins.square().sum().backward()
    return [*kept, bins.detach(), features.grad]


@pytest.fixture
def without_operators(tmp_path):
    """Environment of a process that finds mmcv without its extension, and a
    torchvision."""
    installed = Path(find_spec('mmcv').origin).parent
    extension, = installed.glob('_ext*.so')
    (tmp_path / 'mmcv').mkdir()
    for path in installed.iterdir():
        if path != extension:
            (tmp_path / 'mmcv' / path.name).symlink_to(path)
    (tmp_path / 'torchvision').mkdir()
    (tmp_path / 'torchvision' / '__init__.py').write_text(
        TORCHVISION.format(extension=str(extension)))
    paths = [tmp_path, REPO_ROOT / 'projects', REPO_ROOT]
    return dict(os.environ, PYTHONPATH=os.pathsep.join(map(str, paths)))


def run(environment, folder, script):
    return subprocess.run([sys.executable, '-c', script],
                          cwd=folder,
                          env=environment,
                          capture_output=True,
                          text=True)


def test_torchvision_stands_in(without_operators, tmp_path):
    done = run(without_operators, tmp_path, SCRIPT)
    assert done.returncode == 0, done.stderr
    found = torch.load(tmp_path / 'out.pth')
    assert all(map(torch.equal, found['results'], results()))
    assert 'torchvision' in found['compiler']
    offset, maximum, soft = found['refused']
    assert 'offset=1' in offset
    assert "pool_mode='max'" in maximum
    assert 'softnms' in soft


def test_without_torchvision_mmcv_says_what_is_missing(without_operators,
                                                       tmp_path):
    (tmp_path / 'torchvision' / '__init__.py').unlink()
    (tmp_path / 'torchvision').rmdir()
    done = run(without_operators, tmp_path, 'import panoptic_fpn')
    assert "No module named 'mmcv._ext'" in done.stderr


def test_compiled_operators_stay():
    torchvision_operators.stand_in()
    assert sys.modules['mmcv._ext'] is not torchvision_operators
