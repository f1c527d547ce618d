"""``tools/setup_env.sh`` and the Makefile, with stubs for interpreters.

A stub Python writes what it is asked to a log, so the order of the steps and
what a second, an interrupted or a changed set-up does are seen in a second.
"""
import os
import shutil
import subprocess
from pathlib import Path

import pytest

REPO_ROOT = Path(__file__).resolve().parents[1]

#: Obeys the calls of setup_env.sh. FAIL holds a word: the call that contains
#: it fails. `-m venv DIR` copies the stub to DIR/bin/python.
STUB = r"""#!/bin/bash
case "$*" in
  -V) echo "Python $VERSION" ;;
  "-c import sys; "*) case "$VERSION" in 3.1[012]*) ;; *) exit 1 ;; esac ;;
  "-W ignore -c import torch"*) cat torch_version ;;
  *)
    echo "${0#$PWD/} $*" >>calls
    if [ -n "$FAIL" ] && [[ "$*" == *"$FAIL"* ]]; then
      echo "stub: $FAIL fails"; exit 1
    fi
    if [ "$1 $2" = '-m venv' ]; then
      mkdir -p "$3/bin"; cp "$0" "$3/bin/python"
    fi ;;
esac
"""

STEPS = ['build', 'torch', 'mmcv', 'runtime', 'project']


@pytest.fixture
def clone(tmp_path):
    """A folder with what the set-up needs, and stub interpreters on PATH."""
    for name in ('Makefile', 'requirements', 'setup.cfg', 'pyproject.toml',
                 'tools/setup_env.sh'):
        target = tmp_path / name
        target.parent.mkdir(exist_ok=True)
        copy = shutil.copytree if (REPO_ROOT / name).is_dir() else shutil.copy
        copy(REPO_ROOT / name, target)
    (tmp_path / 'torch_version').write_text('2.13.0\n')
    stubs = tmp_path / 'stubs'
    stubs.mkdir()
    for name in ('python3', 'python3.10', 'python3.11', 'python3.12'):
        (stubs / name).write_text(STUB)
        (stubs / name).chmod(0o755)
    return tmp_path


def run(clone, *command, **environ):
    """Run a command in the clone.

    Returns:
        tuple[CompletedProcess, list[str]]: The process and the stub's calls.
    """
    log = clone / 'calls'
    log.write_text('')
    path = f'{clone / "stubs"}:{os.environ["PATH"]}'
    # Nothing else is inherited: make's and the set-up's own variables may be
    # set where the tests run.
    process = subprocess.run(
        command or ('tools/setup_env.sh', 'runtime'),
        cwd=clone,
        env={'VERSION': '3.11.7', 'FAIL': '', 'PATH': path, **environ},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        universal_newlines=True,
        timeout=60)
    return process, log.read_text().splitlines()


def pip_steps(calls):
    """Steps in the order in which pip carried them out."""
    return [
        'project' if call.endswith('-e .') else call.rsplit(
            'requirements/', 1)[1].split('.txt')[0] for call in calls
        if '-m pip' in call
    ]


def test_a_fresh_clone_installs_in_order_and_then_nothing(clone):
    process, calls = run(clone)
    assert process.returncode == 0, process.stdout
    assert pip_steps(calls) == STEPS
    mmcv = next(call for call in calls if 'mmcv.txt' in call)
    assert '--no-build-isolation' in mmcv
    assert '--force-reinstall' not in mmcv
    assert '12 minutes' in process.stdout

    process, calls = run(clone)
    assert (process.returncode, process.stdout, calls) == (0, '', [])


def test_tests_need_two_more_steps(clone):
    run(clone)
    process, calls = run(clone, 'tools/setup_env.sh', 'tests')
    assert process.returncode == 0, process.stdout
    assert pip_steps(calls) == ['tests', 'oracle']
    assert '--no-deps' in calls[-1]
    # The shorter set-up is complete, too.
    assert run(clone)[1] == []


def test_the_forks_have_an_environment_of_their_own(clone):
    process, calls = run(clone, ONEDL='1')
    assert process.returncode == 0, process.stdout
    assert (clone / '.venv-onedl').exists() and not (clone / '.venv').exists()
    installed = [call for call in calls if '-m pip' in call]
    assert [name.rsplit('/', 1)[1] for name in installed[:4]] == [
        'build.txt', 'torch.txt', 'runtime.txt', 'onedl.txt'
    ]
    assert '--no-deps' in installed[3]
    # what the forks replace is not installed beside them
    runtime = (clone / '.venv-onedl/.stamps/runtime.txt').read_text()
    assert 'numpy==' in runtime and 'mmdet==' not in runtime
    assert run(clone, ONEDL='1')[1] == []
    assert len(run(clone)[1]) > 4 and (clone / '.venv').exists()


def test_the_machine_is_checked_before_anything_is_made(clone):
    process, calls = run(clone, FAIL='check_env.py machine')
    assert process.returncode != 0
    assert len(calls) == 1
    assert not (clone / '.venv').exists()


@pytest.mark.parametrize('name', STEPS)
def test_an_interrupted_set_up_continues_at_its_step(clone, name):
    failing = dict(runtime='-r requirements/runtime.txt', project='-e .')
    process, _ = run(clone, FAIL=failing.get(name, f'{name}.txt'))
    assert process.returncode != 0
    assert 'stub: ' in process.stdout  # the end of pip's log

    process, calls = run(clone)
    assert process.returncode == 0, process.stdout
    assert pip_steps(calls) == STEPS[STEPS.index(name):]


def test_a_half_made_venv_is_started_again(clone):
    process, _ = run(clone, FAIL='-m venv')
    assert process.returncode != 0
    process, calls = run(clone)
    assert process.returncode == 0, process.stdout
    assert 'half made' in process.stdout
    assert pip_steps(calls) == STEPS


def test_a_broken_venv_of_the_user_is_not_removed(clone):
    (clone / '.venv' / 'bin').mkdir(parents=True)
    (clone / '.venv' / 'mine').write_text('')
    process, calls = run(clone)
    assert process.returncode != 0
    assert 'make clean-env' in process.stdout
    assert (clone / '.venv' / 'mine').exists()
    assert calls == []


def test_a_changed_pin_is_followed(clone):
    run(clone)
    path = clone / 'requirements' / 'runtime.txt'
    path.write_text(path.read_text() + 'tqdm==4.0\n')
    assert pip_steps(run(clone)[1]) == ['runtime', 'project']
    # Comments and times do not matter to pip, but a checksum is simpler:
    # what comes after a changed file is done again, which takes seconds.
    path = clone / 'requirements' / 'build.txt'
    path.write_text(path.read_text() + '# new\n')
    assert pip_steps(run(clone)[1]) == STEPS


def test_another_torch_compiles_mmcv_again(clone):
    run(clone)
    (clone / 'torch_version').write_text('2.14.0\n')
    path = clone / 'requirements' / 'torch.txt'
    path.write_text('torch==2.14.0\n')
    _, calls = run(clone)
    mmcv = next(call for call in calls if 'mmcv.txt' in call)
    assert '--no-cache-dir --force-reinstall --no-deps' in mmcv


def test_a_cached_wheel_that_does_not_import_is_compiled_again(clone):
    process, calls = run(clone, FAIL='import mmcv.ops')
    assert process.returncode != 0  # the stub's mmcv never imports
    builds = [call for call in calls if 'mmcv.txt' in call]
    assert len(builds) == 2
    assert '--no-cache-dir' in builds[1]
    assert not (clone / '.venv/.stamps/mmcv').exists()


def test_torch_index_reaches_torch_alone(clone):
    _, calls = run(clone, TORCH_INDEX='file:///wheels')
    assert ['torch.txt' in c for c in calls if '--index-url' in c] == [True]


def test_no_python_that_fits(clone):
    process, calls = run(clone, VERSION='3.13.0')
    assert process.returncode != 0
    assert 'Python 3.10, 3.11 or 3.12 is needed' in process.stdout
    assert 'Python 3.13.0 (python3)' in process.stdout
    assert 'apt-get install' in process.stdout
    assert calls == []


def test_make_with_a_python_of_the_user_installs_nothing(clone):
    mine = clone / 'mine'
    mine.write_text(STUB)
    mine.chmod(0o755)
    process, calls = run(clone, 'make', 'test', f'PYTHON={mine}')
    assert process.returncode == 0, process.stdout
    assert [call.split(' ', 1)[1] for call in calls] == [
        'tools/check_env.py', '-m pytest -n logical'
    ]
    assert not (clone / '.venv').exists()

    process, calls = run(
        clone, 'make', 'demo', f'PYTHON={mine}', FAIL='check_env.py')
    assert process.returncode != 0
    assert len(calls) == 1  # its advice, and no training


def test_make_ignores_an_exported_python(clone):
    process, calls = run(clone, 'make', 'test', PYTHON='/no/such/python')
    assert process.returncode == 0, process.stdout
    assert calls[-1] == '.venv/bin/python -m pytest -n logical'
