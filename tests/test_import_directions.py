"""Imports run one way: tools -> apps, paper -> panoptic_fpn -> mmengine_exact.

The rules stand in ``ROOMS``; :func:`find_violations` reads every Python file
of a repository and lists the imports that break them. Files are parsed, never
imported. Imports inside functions and ``TYPE_CHECKING`` blocks count.
"""
import ast
import sys
from pathlib import Path

import pytest

REPO_ROOT = Path(__file__).resolve().parents[1]

_BELOW = {
    'mmengine_exact', 'panoptic_fpn.labels', 'panoptic_fpn.fusion',
    'panoptic_fpn.cityscapes', 'panoptic_fpn.ops', 'panoptic_fpn.coco_format'
}
_CORE = {
    'panoptic_fpn.models', 'panoptic_fpn.data', 'panoptic_fpn.metrics',
    'panoptic_fpn.training', 'panoptic_fpn.visualization'
}
_ALL_CORE = _BELOW | _CORE | {
    'panoptic_fpn', 'panoptic_fpn.config_files', 'panoptic_fpn.inference'
}
_APPS = {
    'browse_dataset', 'check_dataset', 'class_frequencies', 'complexity',
    'convert_data', 'convert_weights', 'export_onnx', 'new_dataset', 'report',
    'submission', 'sweep_merge', 'toy_data', 'web_page'
}

#: What each room may import from other rooms. A room is a top-level package,
#: or a part of panoptic_fpn or panoptic_apps.
ROOMS = {
    'mmengine_exact': set(),
    'panoptic_onnx': set(),
    'panoptic_fpn':
    _BELOW | _CORE | {'panoptic_fpn.config_files', 'panoptic_fpn.registry'},
    'panoptic_fpn.registry': set(),
    'panoptic_fpn.labels': {'mmengine_exact'},
    'panoptic_fpn.fusion': {'panoptic_fpn.labels'},
    'panoptic_fpn.cityscapes': {'mmengine_exact', 'panoptic_fpn.labels'},
    'panoptic_fpn.ops': {'mmengine_exact'},
    'panoptic_fpn.coco_format':
    {'mmengine_exact', 'panoptic_fpn.labels', 'panoptic_fpn.ops'},
    **{room: _BELOW
       for room in _CORE},
    'panoptic_fpn.config_files': {'mmengine_exact'},
    'panoptic_fpn.inference':
    _BELOW | _CORE | {'panoptic_fpn.config_files'},
    'panoptic_apps': set(),
    **{f'panoptic_apps.{app}': _ALL_CORE
       for app in _APPS},
    # compares the exported model with the runtime
    'panoptic_apps.export_onnx': _ALL_CORE | {'panoptic_onnx'},
    # compute and memory of the paper's rows
    'panoptic_paper': _ALL_CORE | {'panoptic_apps.complexity'},
}
PACKAGES = {room.split('.')[0] for room in ROOMS}

#: Third-party packages of the rooms that run without the mm packages.
THIRD_PARTY = {
    'panoptic_fpn.labels': {'numpy'},
    'panoptic_fpn.fusion': {'numpy', 'torch'},
    'panoptic_fpn.cityscapes': {'numpy', 'cityscapesscripts'},
    'panoptic_onnx': {'numpy', 'cv2', 'onnxruntime'},
}

#: Folders beside the packages, what they must not import, and why.
BESIDE = (
    ('tools', {'tests', 'configs'}, 'tools must not import tests or configs'),
    ('configs', PACKAGES | {'tools', 'tests'},
     'configs use registry names and custom_imports'),
    ('tests/oracles', PACKAGES | {'tools'},
     'an oracle shares no code with the packages'),
)


def imported_modules(tree, package):
    """(line, dotted name) of every import below a syntax tree.

    ``from a import b`` gives ``a.b``: only the file system knows whether b is
    a module. Relative names are resolved against ``package``, the dotted name
    of the folder. Literal ``import_module('a.b')`` counts too.
    """
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name
        elif isinstance(node, ast.ImportFrom):
            base = resolve('.' * node.level + (node.module or ''), package)
            for alias in node.names:
                yield node.lineno, f'{base}.{alias.name}'.strip('.')
        elif isinstance(node, ast.Call) and node.args:
            name = getattr(node.func, 'attr', getattr(node.func, 'id', ''))
            first = node.args[0]
            if name in ('import_module', '__import__') and isinstance(
                    first, ast.Constant) and isinstance(first.value, str):
                yield node.lineno, resolve(first.value, package)


def resolve(name, package):
    """Absolute dotted name of a relative one; others stay as they are."""
    level = len(name) - len(name.lstrip('.'))
    if not level:
        return name
    parents = package.split('.')
    kept = parents[:max(0, len(parents) - level + 1)]
    return '.'.join(kept + [part for part in name[level:].split('.') if part])


def room_of(module):
    """Room of a dotted name; None for packages of others."""
    parts = module.split('.')
    if parts[0] not in PACKAGES:
        return None
    two = '.'.join(parts[:2])
    return two if two in ROOMS else parts[0]


def complaint(room, module):
    """Why a file of ``room`` must not import ``module``; None if it may."""
    top = module.split('.')[0]
    if top in ('tools', 'tests', 'configs', 'benchmarks'):
        return f'the packages must not import {top}'
    target = room_of(module)
    if target is None:
        allowed = THIRD_PARTY.get(room)
        if allowed is None or top in allowed | sys.stdlib_module_names:
            return None
        return f'{room} needs {sorted(allowed)} alone'
    if target == room or target in ROOMS[room]:
        return None
    return f'{room} must not import {target}'


def violations_in_package(path, root):
    """Broken rules of one file of the packages: (line, module, reason)."""
    parts = path.relative_to(root / 'projects').with_suffix('').parts
    name = '.'.join(parts[:-1] if parts[-1] == '__init__' else parts)
    room = room_of(name)
    if room is None or '.'.join(parts[:2]) not in (room, f'{room}.__init__') \
            and room in ('panoptic_fpn', 'panoptic_apps'):
        return [(1, name, 'is in no room that ROOMS knows')]
    folder = '.'.join(parts[:-1])
    found = []
    for line, module in imported_modules(ast.parse(path.read_text()), folder):
        reason = complaint(room, module)
        if reason:
            found.append((line, module, reason))
    return found


def violations_beside(path, root, forbidden, reason):
    """Broken rules of a file outside the packages."""
    folder = '.'.join(path.relative_to(root).parts[:-1])
    return [(line, module, reason) for line, module in imported_modules(
        ast.parse(path.read_text()), folder)
            if module.split('.')[0] in forbidden]


def find_violations(root):
    """Every import below a repository that runs the wrong way.

    Args:
        root (Path): Holds ``projects``, ``tools``, ``configs`` and ``tests``;
            missing folders are passed over.

    Returns:
        list[str]: ``file:line: module: reason``, sorted; empty if all is well.
    """
    root = Path(root)
    found = []
    for path in (root / 'projects').rglob('*.py'):
        found += [(path, *v) for v in violations_in_package(path, root)]
    for folder, forbidden, reason in BESIDE:
        for path in (root / folder).rglob('*.py'):
            found += [(path, *v)
                      for v in violations_beside(path, root, forbidden, reason)
                      ]
    return sorted(f'{path.relative_to(root).as_posix()}:{line}: {module}: '
                  f'{reason}' for path, line, module, reason in found)


def test_this_repository():
    assert list((REPO_ROOT / 'projects' / 'panoptic_fpn').rglob('*.py'))
    assert find_violations(REPO_ROOT) == []


def test_mmengine_exact_knows_nothing_panoptic():
    for path in (REPO_ROOT / 'projects' / 'mmengine_exact').rglob('*'):
        if path.suffix in ('.py', '.md'):
            assert 'panoptic' not in path.read_text().lower(), path


P = 'projects/panoptic_fpn/'
A = 'projects/panoptic_apps/'
X = 'projects/mmengine_exact/'
WRONG = [
    (P + 'labels.py', 'import torch'),
    (P + 'labels.py', 'from . import fusion'),
    (P + 'labels.py', 'from .fusion import fuse'),
    (P + 'fusion.py', 'from mmdet.registry import MODELS'),
    (P + 'fusion.py', 'def f():\n    import mmengine.logging'),
    (P + 'fusion.py', 'from . import models'),
    (P + 'ops/a.py', 'from ..fusion import fuse'),
    (P + 'coco_format/a.py', 'from ..metrics import x'),
    (P + 'models/head.py', 'from ..data.coco import D'),
    (P + 'models/head.py', 'from .. import metrics'),
    (P + 'models/head.py', 'import panoptic_fpn'),
    (P + 'models/head.py', 'from panoptic_fpn import LabelSpace'),
    (P + 'models/deep/er.py', 'from ...data import geometry'),
    (P + 'models/__init__.py', 'from ..data import geometry'),
    (P + 'data/coco.py', 'import panoptic_fpn.metrics.x as x'),
    (P + 'data/coco.py', 'from panoptic_fpn import inference'),
    (P + 'metrics/a.py', 'from ..models.head import Head'),
    (P + 'metrics/a.py', 'import importlib\n'
     'importlib.import_module("panoptic_fpn.models")'),
    (P + 'metrics/a.py', 'from importlib import import_module\n'
     'import_module("..models", __package__)'),
    (P + 'metrics/a.py', 'from typing import TYPE_CHECKING\n'
     'if TYPE_CHECKING:\n    from ..data import coco'),
    (P + 'visualization/a.py', 'from ..metrics import pq'),
    (P + 'training/a.py', 'from ..models import head'),
    (P + 'training/a.py', 'from ..visualization import overlay'),
    (P + 'models/a.py', 'from ..inference import Inferencer'),
    (P + 'models/a.py', 'from tests.oracles import merge'),
    (P + 'models/a.py', 'from panoptic_apps.report import page'),
    (P + 'inference/a.py', 'import tools.train'),
    (P + 'inference/a.py', 'import configs'),
    (P + '__init__.py', 'from . import inference'),
    (P + 'helpers.py', 'import os'),
    (X + 'runner.py', 'from panoptic_fpn.labels import LabelSpace'),
    (A + 'report/a.py', 'from panoptic_apps.sweep_merge import sweep'),
    (A + 'report/a.py', 'from ..toy_data import make'),
    (A + 'report/a.py', 'import panoptic_paper'),
    (A + 'helpers.py', 'import os'),
    ('projects/panoptic_onnx/a.py', 'import torch'),
    ('projects/panoptic_onnx/a.py', 'import mmengine_exact'),
    ('projects/panoptic_paper/a.py', 'import panoptic_apps.report'),
    ('tools/train.py', 'from tests.oracles import merge'),
    ('configs/coco/a.py', 'from panoptic_fpn.labels import x'),
    ('tests/oracles/a.py', 'from panoptic_fpn.labels import x'),
]

RIGHT = [
    (P + 'labels.py', 'import dataclasses\nimport numpy as np\n'
     'from mmengine_exact.errors import InputError'),
    (P + 'fusion.py', 'import torch\nfrom torch import Tensor\n'
     'from .labels import LabelSpace\nfrom . import labels'),
    (P + 'models/head.py', 'from mmdet.registry import MODELS\n'
     'from ..fusion import fuse\nfrom .. import labels\nfrom .b import B\n'
     'from panoptic_fpn.models.b import B\n'
     'from mmdet.datasets import coco\nimport tests_of_somebody'),
    (P + 'models/__init__.py', 'from .head import Head\nfrom . import b'),
    (P + 'training/a.py', 'from ..labels import LabelSpace\n'
     'from mmengine_exact import ExactRunner'),
    (P + 'inference/inferencer.py', 'from ..visualization import overlay\n'
     'from ..models import head\nfrom ..labels import LabelSpace'),
    (P + '__init__.py', 'from . import models, data\n'
     'from .metrics import pq'),
    (A + 'report/a.py', 'from panoptic_fpn.inference import init_model\n'
     'from .b import c\nimport mmengine_exact'),
    (X + 'a.py', 'import mmengine\nfrom .b import c'),
    ('projects/panoptic_paper/a.py', 'import panoptic_apps.complexity'),
    ('tools/train.py', 'from panoptic_fpn.models import head\n'
     'import panoptic_apps.report'),
    ('configs/coco/a.py', 'from mmengine.config import read_base\n'
     'with read_base():\n    from .._base_.b import *'),
    ('tests/test_a.py', 'from panoptic_fpn.models import head'),
    ('tests/oracles/a.py', 'import numpy\nfrom .b import c'),
]


def plant(root, path, source):
    file = root / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(source + '\n')


@pytest.mark.parametrize('path,source', WRONG)
def test_finds_a_planted_wrong_import(tmp_path, path, source):
    for right_path, right_source in RIGHT:
        plant(tmp_path, right_path, right_source)
    assert find_violations(tmp_path) == []
    plant(tmp_path, path, source)
    found = find_violations(tmp_path)
    assert len(found) == 1 and found[0].startswith(path + ':'), found


def test_a_violation_names_file_line_module_and_reason(tmp_path):
    plant(tmp_path, P + 'metrics/a.py', '"""Doc."""\nfrom ..models import b')
    assert find_violations(tmp_path) == [
        P + 'metrics/a.py:2: panoptic_fpn.models.b: '
        'panoptic_fpn.metrics must not import panoptic_fpn.models'
    ]
