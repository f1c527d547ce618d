"""Imports run one way: tools -> apis -> models, ... -> fusion -> labels.

The rules stand in ``AREAS``; :func:`find_violations` reads every Python file
below a root and tells which imports break them. Files are parsed, never
imported. Imports inside functions and ``TYPE_CHECKING`` blocks count.
"""
import ast
import sys
from pathlib import Path

import pytest

REPO_ROOT = Path(__file__).resolve().parents[1]
PACKAGE = 'projects.panoptic_fpn'

_BASE = {
    'errors', 'files', 'workers', 'labels', 'fusion', 'cityscapes',
    'allocator', 'decoding', 'runs'
}
_MIDDLE = {
    'models', 'datasets', 'transforms', 'metrics', 'visualization', 'engine'
}
_TOP = {
    'apis', 'analysis', 'checkpoints', 'converters', 'dataset_check', 'deploy',
    'paper', 'report', 'submission'
}
_ALL = _BASE | _MIDDLE | _TOP

#: What each part of the package may import from other parts. '' is the
#: package's own ``__init__``, which registers everything below the apis.
AREAS = {
    'errors': set(),
    'files': {'errors'},
    'workers': {'errors'},
    'allocator': set(),
    'decoding': {'allocator'},
    'runs': set(),
    'labels': {'errors'},
    'fusion': {'errors', 'labels'},
    'cityscapes': {'errors', 'labels'},
    **{
        name: _BASE
        for name in _MIDDLE
    },
    # a sample's random state is the engine's; the data set draws it
    'datasets': _BASE | {'engine'},
    **{
        name: _BASE | _MIDDLE
        for name in _TOP
    },
    # compute and memory of the paper's rows
    'paper': _BASE | _MIDDLE | {'analysis'},
    '': _BASE | _MIDDLE,
}

#: Third-party packages of the parts that are tested without the mm packages.
THIRD_PARTY = {
    'errors': set(),
    'labels': {'numpy'},
    'fusion': {'numpy', 'torch'},
    'cityscapes': {'numpy', 'cityscapesscripts'},
    'runs': {'numpy'}
}

#: Folders of the repository that hold Python files.
TOP_LEVEL = ('projects', 'tools', 'tests', 'configs', 'benchmarks')


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


def area_of(module, known):
    """Part of the package that a dotted name is in; None outside of it.

    '' stands for the package itself or a name from its ``__init__``.
    """
    if module == 'projects' or module == PACKAGE:
        return ''
    if not module.startswith(PACKAGE + '.'):
        return None
    part = module[len(PACKAGE) + 1:].split('.')[0]
    return part if part in known else ''


def complaint(area, module, known):
    """Why a file of ``area`` must not import ``module``; None if it may."""
    top = module.split('.')[0]
    if top in TOP_LEVEL and top != 'projects':
        return f'the package must not import {top}'
    target = area_of(module, known)
    if target is None:
        allowed = THIRD_PARTY.get(area)
        if allowed is None or top in allowed | sys.stdlib_module_names:
            return None
        return f'{area} needs {sorted(allowed)} alone'
    if target == area or target in AREAS[area]:
        return None
    if target == '':
        return f'{area} must not import the package\'s __init__'
    return f'{area or "__init__"} must not import {target}'


def violations_in_package(path, package_dir):
    """Broken rules of one file of the package: (line, module, reason)."""
    relative = path.relative_to(package_dir)
    area = '' if relative.name == '__init__.py' and len(
        relative.parts) == 1 else relative.with_suffix('').parts[0]
    if area not in AREAS:
        return [(1, area, 'is no part of the package that AREAS knows')]
    known = _ALL | {
        child.stem
        for child in package_dir.iterdir()
        if child.is_dir() or child.suffix == '.py'
    }
    folder = '.'.join((PACKAGE, ) + relative.parts[:-1])
    found = []
    for line, module in imported_modules(ast.parse(path.read_text()), folder):
        reason = complaint(area, module, known)
        if reason:
            found.append((line, module, reason))
    return found


def violations_beside(path, root, forbidden, reason):
    """Broken rules of a file outside the package."""
    folder = '.'.join(path.relative_to(root).parts[:-1])
    return [(line, module, reason) for line, module in imported_modules(
        ast.parse(path.read_text()), folder)
            if module.split('.')[0] in forbidden]


def find_violations(root):
    """Every import below a repository that runs the wrong way.

    Args:
        root (Path): Holds ``projects/panoptic_fpn``, ``tools``, ``configs``
            and ``tests``; missing folders are passed over.

    Returns:
        list[str]: ``file:line: module: reason``, sorted; empty if all is well.
    """
    root = Path(root)
    beside = [('tools', {'tests',
                         'configs'}, 'tools must not import tests or configs'),
              ('configs', {'projects', 'tools', 'tests'},
               'configs use registry names and custom_imports'),
              ('tests/oracles', {'projects', 'tools'},
               'an oracle shares no code with the package')]
    found = []
    package_dir = root / 'projects' / 'panoptic_fpn'
    for path in package_dir.rglob('*.py'):
        found += [(path, *v) for v in violations_in_package(path, package_dir)]
    for folder, forbidden, reason in beside:
        for path in (root / folder).rglob('*.py'):
            found += [(path, *v)
                      for v in violations_beside(path, root, forbidden, reason)
                      ]
    return sorted(f'{path.relative_to(root).as_posix()}:{line}: {module}: '
                  f'{reason}' for path, line, module, reason in found)


def test_this_repository():
    assert list((REPO_ROOT / 'projects' / 'panoptic_fpn').rglob('*.py'))
    assert find_violations(REPO_ROOT) == []


P = 'projects/panoptic_fpn/'
WRONG = [
    (P + 'labels.py', 'import torch'),
    (P + 'labels.py', 'from . import fusion'),
    (P + 'labels.py', 'from .fusion import fuse'),
    (P + 'fusion.py', 'from mmdet.registry import MODELS'),
    (P + 'fusion.py', 'def f():\n    import mmengine.logging'),
    (P + 'fusion.py', 'from . import models'),
    (P + 'models/head.py', 'from ..datasets.coco import D'),
    (P + 'models/head.py', 'from .. import metrics'),
    (P + 'models/head.py', 'from ... import panoptic_fpn'),
    (P + 'models/head.py', 'import projects.panoptic_fpn'),
    (P + 'models/head.py', 'from projects.panoptic_fpn import LabelSpace'),
    (P + 'models/deep/er.py', 'from ...transforms import geometry'),
    (P + 'models/__init__.py', 'from ..transforms import geometry'),
    (P + 'datasets/coco.py', 'import projects.panoptic_fpn.transforms.x as x'),
    (P + 'datasets/coco.py', 'from projects.panoptic_fpn import apis'),
    (P + 'transforms/a.py', 'from projects.panoptic_fpn.models import head'),
    (P + 'metrics/a.py', 'from ..models.head import Head'),
    (P + 'metrics/a.py', 'import importlib\n'
     'importlib.import_module("projects.panoptic_fpn.models")'),
    (P + 'metrics/a.py', 'from importlib import import_module\n'
     'import_module("..models", __package__)'),
    (P + 'metrics/a.py', 'from typing import TYPE_CHECKING\n'
     'if TYPE_CHECKING:\n    from ..datasets import coco'),
    (P + 'visualization/a.py', 'from ..metrics import pq'),
    (P + 'engine/a.py', 'from ..models import head'),
    (P + 'engine/a.py', 'from ..visualization import overlay'),
    (P + 'models/a.py', 'from ..apis import Inferencer'),
    (P + 'models/a.py', 'from tests.oracles import merge'),
    (P + 'apis/a.py', 'import tools.train'),
    (P + 'apis/a.py', 'import configs'),
    (P + '__init__.py', 'from . import apis'),
    (P + 'helpers.py', 'import os'),
    ('tools/train.py', 'from tests.oracles import merge'),
    ('configs/coco/a.py', 'from projects.panoptic_fpn.labels import x'),
    ('tests/oracles/a.py', 'from projects.panoptic_fpn.labels import x'),
]

RIGHT = [
    (P + 'labels.py', 'import dataclasses\nimport numpy as np'),
    (P + 'fusion.py', 'import torch\nfrom torch import Tensor\n'
     'from .labels import LabelSpace\nfrom . import labels'),
    (P + 'models/head.py', 'from mmdet.registry import MODELS\n'
     'from ..fusion import fuse\nfrom .. import labels\nfrom .b import B\n'
     'from projects.panoptic_fpn.models.b import B\n'
     'from mmdet.datasets import coco\nimport tests_of_somebody'),
    (P + 'models/__init__.py', 'from .head import Head\nfrom . import b'),
    (P + 'engine/a.py', 'from ..labels import LabelSpace'),
    (P + 'apis/inferencer.py', 'from ..visualization import overlay\n'
     'from ..models import head\nfrom ..labels import LabelSpace'),
    (P + '__init__.py', 'from . import models, datasets\n'
     'from .metrics import pq'),
    ('tools/train.py', 'from projects.panoptic_fpn.models import head\n'
     'import projects.panoptic_fpn'),
    ('configs/coco/a.py', 'from mmengine.config import read_base\n'
     'with read_base():\n    from .._base_.b import *'),
    ('tests/test_a.py', 'from projects.panoptic_fpn.models import head'),
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
        P + 'metrics/a.py:2: projects.panoptic_fpn.models.b: '
        'metrics must not import models'
    ]
