"""A miniature Cityscapes, drawn once; the tools of this folder."""
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

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


def box(y1, x1, y2, x2):
    """A polygon that covers rows y1..y2 - 1 and columns x1..x2 - 1."""
    return [[x1, y1, x2, y1, x2, y2, x1, y2]]


def written(out, index=0):
    """The JSON of a data set OUT.json, and the ids (h, w) of an image."""
    content = json.loads(out.with_suffix('.json').read_text())
    name = content['annotations'][index]['file_name']
    rgb = np.asarray(Image.open(out / name)).astype(int)
    return content, rgb @ [1, 256, 65536]


def names_of(content, ids, index=0):
    """Name and crowd flag of each pixel."""
    by_id = {c['id']: c['name'] for c in content['categories']}
    result = np.full(ids.shape, '', object)
    for segment in content['annotations'][index]['segments_info']:
        crowd = ' crowd' * segment['iscrowd']
        result[ids == segment['id']] = by_id[segment['category_id']] + crowd
    return result
