"""A miniature Cityscapes, drawn once; the tools of this folder."""
import shutil
from pathlib import Path

import pytest

from panoptic_apps.check_dataset import check_dataset
from panoptic_apps.toy_data.miniature import make_miniature
from tests.conftest import call_tool

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
    """Call a tool with a command line; gives the exit code."""

    def run(name, *args):
        return call_tool(monkeypatch, f'dataset_converters/{name}', *args)

    return run


def faults_of(root):
    """How often the checker finds each fault in what was converted."""
    out, images = str(root / 'out/set'), str(root / 'images')
    result = check_dataset(f'{out}.json', images, out, num_workers=1)
    return dict(result.faults.counts)
