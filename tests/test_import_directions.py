"""Imports run one way: tools -> apps, paper -> panoptic_fpn -> mmengine_exact.

The contracts stand in setup.cfg, ``[importlinter]``; import-linter reads the
packages without importing them. Here they are run, and tried on wrong imports.
"""
import ast
import os
import shutil
import subprocess
import sys

import pytest

from .conftest import REPO_ROOT

PROJECTS = REPO_ROOT / 'projects'
PACKAGES = {path.parent.name for path in PROJECTS.glob('*/__init__.py')}

#: One line that is planted in a file, and the import that is refused.
WRONG = {
    'mmengine_exact/runner.py':
    ('import panoptic_fpn.labels', 'panoptic_fpn.labels'),
    'mmengine_exact/loop.py': ('import panoptic_onnx', 'panoptic_onnx'),
    'panoptic_fpn/labels.py': ('import torch', 'torch'),
    'panoptic_fpn/fusion.py': ('def f():\n    import mmdet.models', 'mmdet'),
    'panoptic_fpn/cityscapes.py':
    ('from .ops import use_fast', 'panoptic_fpn.ops'),
    'panoptic_fpn/ops/decode.py':
    ('from ..coco_format import pngs', 'panoptic_fpn.coco_format.pngs'),
    'panoptic_fpn/coco_format/pngs.py': ('from ..metrics import base',
                                         'panoptic_fpn.metrics.base'),
    'panoptic_fpn/models/tta.py': ('from ..data import geometry',
                                   'panoptic_fpn.data.geometry'),
    'panoptic_fpn/data/geometry.py':
    ('if TYPE_CHECKING:\n    from ..metrics import base',
     'panoptic_fpn.metrics.base'),
    'panoptic_fpn/metrics/base.py': ('from ..visualization import colors',
                                     'panoptic_fpn.visualization.colors'),
    'panoptic_fpn/training/runner.py': ('import panoptic_fpn.models.tta as x',
                                        'panoptic_fpn.models.tta'),
    'panoptic_fpn/visualization/text.py': ('from ..inference import results',
                                           'panoptic_fpn.inference.results'),
    'panoptic_fpn/inference/results.py': ('import panoptic_apps.report',
                                          'panoptic_apps.report'),
    'panoptic_fpn/helpers.py': ('import os', 'panoptic_fpn.helpers'),
    'panoptic_apps/report/read.py': ('from ..toy_data import miniature',
                                     'panoptic_apps.toy_data.miniature'),
    'panoptic_apps/web_page.py': ('import panoptic_paper', 'panoptic_paper'),
    'panoptic_paper/runs.py': ('import panoptic_apps.report',
                               'panoptic_apps.report'),
    'panoptic_onnx/maps.py': ('import torch', 'torch'),
    'panoptic_onnx/boxes.py': ('import mmengine_exact', 'mmengine_exact')
}


def check_contracts(projects):
    """Exit code and output for the packages of a folder."""
    run = subprocess.run([
        sys.executable, '-c', 'import sys; from importlinter.cli import '
        'lint_imports; sys.exit(lint_imports("setup.cfg", no_cache=True))'
    ],
                         cwd=REPO_ROOT,
                         env=dict(
                             os.environ,
                             PYTHONPATH=str(projects),
                             COLUMNS='300'),
                         capture_output=True,
                         text=True)
    return run.returncode, run.stdout + run.stderr


def test_contracts_are_kept():
    code, output = check_contracts(PROJECTS)
    assert code == 0, output


def test_contracts_refuse_wrong_imports(tmp_path):
    copy = tmp_path / 'projects'
    shutil.copytree(PROJECTS, copy, ignore=shutil.ignore_patterns('configs'))
    for path, (line, _) in WRONG.items():
        with open(copy / path, 'a') as file:
            file.write(f'\n{line}\n')
    code, output = check_contracts(copy)
    assert code == 1
    lines = output.splitlines()
    for path, (_, module) in WRONG.items():
        source = path[:-3].replace('/', '.')
        assert any(
            module in line and (source in line or source == module)
            for line in lines), (path, output)


def test_mmengine_exact_knows_nothing_panoptic():
    for path in (PROJECTS / 'mmengine_exact').rglob('*'):
        if path.suffix in ('.py', '.md'):
            assert 'panoptic' not in path.read_text().lower(), path


@pytest.mark.parametrize('folder,forbidden', [
    ('projects', {'tools', 'tests', 'configs', 'benchmarks'}),
    ('tools', {'tests', 'configs'}),
    ('configs', PACKAGES | {'tools', 'tests'}),
    ('tests/oracles', PACKAGES | {'tools'}),
])
def test_folders_beside_the_packages(folder, forbidden):
    """Configs use registry names; oracles share no code with the packages."""
    for path in (REPO_ROOT / folder).rglob('*.py'):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [
                alias.name for alias in getattr(node, 'names', [])
                if isinstance(node, ast.Import)
            ]
            if isinstance(node, ast.ImportFrom) and not node.level:
                names.append(node.module)
            assert not {name.split('.')[0] for name in names} & forbidden, path
