"""Fixtures and settings of all tests."""
import importlib.util
import os
import sys
from pathlib import Path
from unittest import mock

import pytest

# Before torch and cv2 are imported, and inherited by processes that tests
# start: several threads each would fight over the cores.
for _name in ('OMP_NUM_THREADS', 'MKL_NUM_THREADS', 'OPENCV_FOR_THREADS_NUM'):
    os.environ.setdefault(_name, '1')

import panoptic_fpn  # noqa: E402,F401  before tests ask for mmcv's operators
from panoptic_fpn.ops.mmcv_operators import stands_in  # noqa: E402

#: Tests of mmcv's own kernels.
needs_compiled = pytest.mark.skipif(
    stands_in() is not None,
    reason="mmcv's own operators are not here: make env OPERATORS=mmcv")
REPO_ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope='session')
def sample_dir():
    """Path of the two COCO photographs with ``panoptic.json``; or skips.

    ``PANOPTIC_SAMPLE_DIR`` names it, or it lies beside the repository.
    """
    named = os.environ.get('PANOPTIC_SAMPLE_DIR')
    path = Path(named) if named else (REPO_ROOT.parent / 'shared' / 'data' /
                                      'coco_panoptic_sample')
    if not (path / 'panoptic.json').is_file():
        pytest.skip(f'no panoptic.json in {path}: set PANOPTIC_SAMPLE_DIR to '
                    'the folder of the two-photograph COCO sample.')
    return path


def forget_runs():
    """Forget the loggers of former runs; names are mmdet's, as in a run.

    MMEngine names them by the second, so a run that begins within a second
    of another would log to that one's file and captured output.
    """
    from mmengine.logging import MessageHub, MMLogger
    from mmengine.registry import DefaultScope, init_default_scope
    from mmengine.visualization import Visualizer
    kinds = [MMLogger, MessageHub, Visualizer, DefaultScope]
    for kind in kinds:  # each keeps those of its own
        kind._instance_dict.clear()
        kinds += kind.__subclasses__()
    init_default_scope('mmdet')


def call_tool(monkeypatch, name, *args):
    """Run tools/NAME.py in this process; its exit code."""
    forget_runs()
    path = REPO_ROOT / 'tools' / f'{name}.py'
    spec = importlib.util.spec_from_file_location(f'tool_{path.stem}', path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(sys, 'argv', [name, *map(str, args)])
    try:
        return module.main()
    except SystemExit as stop:
        return stop.code


@pytest.fixture(scope='session', autouse=True)
def default_scope():
    """Fixtures of modules build before the first test begins."""
    from mmengine.registry import init_default_scope
    init_default_scope('mmdet')


@pytest.fixture(scope='session', autouse=True)
def plain_configs():
    """A run lays out its config with yapf six times, which takes longer than
    a tiny training. (onedl-mmengine has another way to it, which stays.)"""
    with mock.patch(
            'mmengine.config.config.FormatCode',
            lambda text, **_: (text, True),
            create=True):
        yield


@pytest.fixture(autouse=True)
def no_former_run():
    """Each test begins without the loggers of the last one."""
    forget_runs()
