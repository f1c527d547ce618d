"""Configs of the package are found by name and inherited from any folder."""
import os
import subprocess
import sys

import pytest
from mmdet.registry import MODELS, TRANSFORMS
from mmengine.config import Config

from mmengine_exact.errors import InputError
from panoptic_fpn import find_config
from tests.conftest import REPO_ROOT

USERS = '''
_base_ = 'panoptic_fpn::synthetic/panoptic-fpn_tiny_synthetic.py'
model = dict(loss_weights=dict(semantic=0.25))
train_pipeline = {{_base_.train_pipeline}}
'''


@pytest.mark.parametrize('name, path', [
    ('panoptic-fpn_r50_fpn_1x_coco', 'coco/panoptic-fpn_r50_fpn_1x_coco.py'),
    ('panoptic-fpn_tiny_synthetic.py',
     'synthetic/panoptic-fpn_tiny_synthetic.py'),
    ('mmseg/semantic-fpn_r50_fpn_65k_cityscapes',
     'mmseg/semantic-fpn_r50_fpn_65k_cityscapes.py'),
])
def test_a_config_by_name(name, path):
    found = Config.fromfile(find_config(name))
    expected = Config.fromfile(REPO_ROOT / 'configs' / path)
    assert found.to_dict() == expected.to_dict()


def test_a_wrong_name_gives_the_nearest():
    with pytest.raises(InputError, match='panoptic-fpn_r50_fpn_1x_coco'):
        find_config('panoptic-fpn_r50_fpn_1x_coc')


def test_a_config_elsewhere_inherits_and_builds(tmp_path):
    path = tmp_path / 'users.py'
    path.write_text(USERS)
    cfg = Config.fromfile(path)
    model = MODELS.build(cfg.model)
    assert model.loss_weights == dict(instance=1.0, semantic=0.25)
    # the runner builds by MMEngine's registry, in the scope of the base
    assert type(MODELS.parent.build(cfg.model)) is type(model)
    assert type(TRANSFORMS.build(cfg.train_pipeline[0])).__name__ == (
        'LoadPanopticImage')


@pytest.mark.slow
def test_installed_from_a_wheel(tmp_path):
    """What pip builds has the packages and the configs."""
    subprocess.run([
        sys.executable, '-m', 'pip', 'install', '--no-deps',
        '--no-build-isolation', '--target',
        str(tmp_path / 'site'),
        str(REPO_ROOT)
    ],
                   check=True)
    (tmp_path / 'users.py').write_text(USERS)
    code = ('import panoptic_fpn, panoptic_apps, panoptic_paper, '
            'panoptic_onnx, mmengine_exact\n'
            'from mmengine.config import Config\n'
            'assert "/site/" in panoptic_fpn.__file__, panoptic_fpn.__file__\n'
            'panoptic_fpn.find_config("panoptic-fpn_r50_fpn_1x_coco")\n'
            'Config.fromfile("users.py")\n')
    subprocess.run([sys.executable, '-c', code],
                   check=True,
                   cwd=tmp_path,
                   env=dict(os.environ, PYTHONPATH=str(tmp_path / 'site')))
