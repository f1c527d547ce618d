"""The properties on thousands of examples that no run had before.

Those of whole evaluations have a number of their own.

``pytest -m slow -s tests/properties`` prints how many of each;
``PROPERTY_EXAMPLES`` sets their number.
"""
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import REPO_ROOT

HERE = Path(__file__).parent


@pytest.mark.slow
def test_every_property_on_many_examples():
    command = [sys.executable, '-m', 'pytest', str(HERE)]
    run = subprocess.run(
        command + ['--ignore-glob=*test_metamorphic*'],
        cwd=REPO_ROOT,
        env={
            'PROPERTY_EXAMPLES': '2000',
            **os.environ
        },
        capture_output=True,
        text=True)
    print(run.stdout)
    assert run.returncode == 0, run.stdout + run.stderr
