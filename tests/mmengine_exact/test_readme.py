"""The example of mmengine_exact's README, in a process of its own."""
import os
import re
import subprocess
import sys

from tests.conftest import REPO_ROOT


def test_the_example_runs(tmp_path):
    text = (REPO_ROOT / 'projects' / 'mmengine_exact' /
            'README.md').read_text()
    code, = re.findall(r'```python\n(.*?)```', text, re.S)
    path = os.pathsep.join([str(REPO_ROOT / 'projects'), *sys.path])
    subprocess.run([sys.executable, '-c', code],
                   cwd=tmp_path,
                   env=dict(os.environ, PYTHONPATH=path),
                   check=True)
    assert (tmp_path / 'parts' / 'iter_20.pth').is_file()
