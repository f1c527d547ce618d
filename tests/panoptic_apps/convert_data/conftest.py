"""A miniature Cityscapes, drawn once; and the tools as modules."""
import importlib.util
import shutil
import sys
from pathlib import Path

import pytest

from panoptic_apps.toy_data.miniature import make_miniature
from tests.conftest import REPO_ROOT

TOOLS = REPO_ROOT / 'tools' / 'dataset_converters'
SPLITS = dict(train=8, val=4, test=2)


@pytest.fixture(scope='session')
def miniature(tmp_path_factory):
    """Read-only: for tests that change nothing."""
    root = tmp_path_factory.mktemp('miniature') / 'data'
    make_miniature(str(root), SPLITS)
    return root


@pytest.fixture
def root(miniature, tmp_path):
    """A copy, with the same times of change."""
    return Path(shutil.copytree(miniature, tmp_path / 'data'))


@pytest.fixture
def run_tool(monkeypatch):
    """Call a tool's ``main`` with a command line; gives the exit code."""

    def run(name, *args):
        spec = importlib.util.spec_from_file_location(f'tool_{name}',
                                                      TOOLS / f'{name}.py')
        tool = importlib.util.module_from_spec(spec)
        with monkeypatch.context() as patch:
            patch.setattr(sys, 'argv', [f'{name}.py', *map(str, args)])
            spec.loader.exec_module(tool)
            return tool.main()

    return run
