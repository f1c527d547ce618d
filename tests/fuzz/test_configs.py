"""Configs with mistakes, in a process that has not trained before.

``pytest -m slow -s tests/fuzz/test_configs.py`` prints what became of them.
"""
import subprocess
import sys

import pytest

from tests.conftest import REPO_ROOT


def bench(*options):
    """Run ``configs_bench.py``; its output is that of this process."""
    command = [sys.executable, '-m', 'pytest', '-p', 'no:cacheprovider']
    return subprocess.run([*command, *options, 'tests/fuzz/configs_bench.py'],
                          cwd=REPO_ROOT).returncode


def test_some_mistakes():
    assert bench() == 0


@pytest.mark.slow
def test_many_mistakes():
    assert bench('-s', '-m', 'slow') == 0
