"""``tools/setup_env.sh`` and the Makefile, with stubs for interpreters.

A stub Python writes what it is asked to a log, so the order of the steps and
what a second, an interrupted or a changed set-up does are seen in a second.
"""
import json
import os
import re
import shutil
import subprocess
import sysconfig
from pathlib import Path

import pytest

from .conftest import REPO_ROOT

#: Obeys the calls of setup_env.sh. FAIL holds a word: the call that contains
#: it fails. `-m venv DIR` copies the stub to DIR/bin/python.
STUB = r"""#!/bin/bash
case "$*" in
  -V) echo "Python $VERSION" ;;
  "-c import sys; "*) case "$VERSION" in 3.1[0123]*) ;; *) exit 1 ;; esac ;;
  "-c import torch;"*) cat torch_version ;;
  *)
    with=${MMCV_WITH_OPS:+ WITH_OPS=$MMCV_WITH_OPS JOBS=$MAX_JOBS}
    echo "${0#$PWD/} $*$with" >>calls
    if [ -n "$FAIL" ] && [[ "$*" == *"$FAIL"* ]]; then
      echo "stub: $FAIL fails"; exit 1
    fi
    if [ "$1 $2" = '-m venv' ]; then
      mkdir -p "$3/bin"; cp "$0" "$3/bin/python"
    fi ;;
esac
"""

STEPS = ['runtime', 'torch', 'project']
COMPILED = ['runtime', 'torch', 'build', 'mmcv', 'project']


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
    (stubs / 'nvidia-smi').write_text('#!/bin/sh\necho "$GPU"')
    for path in stubs.iterdir():
        path.chmod(0o755)
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
        text=True,
        timeout=60)
    return process, log.read_text().splitlines()


def pip_steps(calls):
    """Installations in the order in which pip carried them out."""
    return [
        'project' if call.endswith('-e .') else re.findall(
            r'(\w+)\.txt', call)[-1] for call in calls
        if '-m pip' in call and ' uninstall ' not in call
    ]


def uninstalled(calls):
    return [call.split(' -y ')[1] for call in calls if ' uninstall ' in call]


def test_a_fresh_clone_installs_in_order_and_then_nothing(clone):
    process, calls = run(clone)
    assert process.returncode == 0, process.stdout
    assert pip_steps(calls) == STEPS
    assert 'mmcv-lite==' in (clone / '.venv/.stamps/runtime.txt').read_text()

    process, calls = run(clone)
    assert (process.returncode, process.stdout, calls) == (0, '', [])


def test_mmcv_is_compiled_on_request_and_stays(clone):
    process, calls = run(clone, OPERATORS='mmcv')
    assert process.returncode == 0, process.stdout
    assert pip_steps(calls) == COMPILED
    mmcv = next(call for call in calls if 'mmcv.txt' in call)
    assert '--no-build-isolation' in mmcv and 'WITH_OPS=1' in mmcv
    assert '--force-reinstall' not in mmcv
    assert '12 minutes' in process.stdout
    runtime = clone / '.venv/.stamps/runtime.txt'
    assert 'mmdet==' in runtime.read_text()
    assert 'mmcv-lite' not in runtime.read_text()
    assert run(clone)[1] == []

    process, calls = run(clone, OPERATORS='lite')
    assert process.returncode == 0, process.stdout
    assert uninstalled(calls) == ['mmcv mmcv-lite onedl-mmcv']
    assert pip_steps(calls) == STEPS
    assert 'mmcv-lite==' in runtime.read_text()
    assert run(clone)[1] == []


def test_the_threads_of_openmp_do_not_bound_the_compilers(clone):
    (clone / 'stubs/nproc').write_text(
        '#!/bin/sh\necho ${OMP_THREAD_LIMIT:-${OMP_NUM_THREADS:-2}}')
    (clone / 'stubs/nproc').chmod(0o755)
    found = set()
    for environ in ({}, {'OMP_NUM_THREADS': '1'}, {'OMP_THREAD_LIMIT': '1'}):
        _, calls = run(clone, OPERATORS='mmcv', **environ)
        found |= {*re.findall(r' JOBS=(\d+)', '\n'.join(calls))}
        shutil.rmtree(clone / '.venv')
    assert len(found) == 1


def test_a_switch_there_and_back_compiles_again(clone):
    for operators in ('mmcv', 'lite', 'mmcv'):
        process, calls = run(clone, OPERATORS=operators)
        assert process.returncode == 0, process.stdout
    assert pip_steps(calls) == COMPILED


@pytest.mark.parametrize('former, other, steps',
                         [('lite', 'mmcv', ['runtime']),
                          ('mmcv', 'lite', ['runtime', 'build', 'mmcv'])])
def test_an_interrupted_switch_can_be_taken_back(clone, former, other, steps):
    """Half of the old mmcv may be gone then."""
    run(clone, OPERATORS=former)
    process, _ = run(clone, OPERATORS=other, FAIL=' uninstall ')
    assert process.returncode != 0
    process, calls = run(clone)
    assert process.returncode == 0, process.stdout
    assert pip_steps(calls) == steps
    assert run(clone)[1] == []


def test_an_environment_from_before_the_choice_stays_compiled(clone):
    run(clone, OPERATORS='mmcv')
    (clone / '.venv/.stamps/operators').unlink()
    assert run(clone)[1] == []


def test_a_switch_that_the_machine_does_not_allow_changes_nothing(clone):
    run(clone)
    process, calls = run(clone, OPERATORS='mmcv', FAIL='check_env.py machine')
    assert process.returncode != 0
    assert len(calls) == 1
    assert run(clone)[1] == []


@pytest.mark.parametrize('environ, wanted', [
    (dict(), 'torch'),
    (dict(GPU='GPU 0: A100'), 'torchvision'),
    (dict(GPU='GPU 0: A100', CUDA_VISIBLE_DEVICES=''), 'torch'),
    (dict(OPERATORS='torchvision'), 'torchvision'),
    (dict(GPU='GPU 0: A100', OPERATORS='lite'), 'torchvision'),
    (dict(GPU='GPU 0: A100', OPERATORS='mmcv'), 'torch'),
])
def test_torchvision_comes_beside_torch_where_a_gpu_is(clone, environ, wanted):
    _, calls = run(clone, TORCH_INDEX='file:///wheels', **environ)
    call, = (call for call in calls if 'torch.txt' in call)
    assert pip_steps([call]) == [wanted]
    assert '--index-url file:///wheels' in call
    # remembered, whether or not a GPU is seen now
    assert run(clone)[1] == run(clone, GPU='GPU 0: A100')[1] == []


def test_operators_that_there_are_not(clone):
    process, calls = run(clone, OPERATORS='mmvc')
    assert process.returncode != 0 and calls == []
    assert 'OPERATORS=mmvc: it is lite, torchvision or mmcv' in process.stdout


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
    assert pip_steps(calls) == ['runtime', 'torch', 'onedl', 'project']
    forks, = (call for call in calls if 'onedl.txt' in call)
    # pip builds it where torch is not, so nothing is compiled
    assert '--no-deps' in forks and '--no-build-isolation' not in forks
    # what the forks replace is not installed beside them
    runtime = (clone / '.venv-onedl/.stamps/runtime.txt').read_text()
    assert 'numpy==' in runtime
    assert 'mmdet==' not in runtime and 'mmcv-lite==' not in runtime
    assert run(clone, ONEDL='1')[1] == []
    assert pip_steps(run(clone)[1]) == STEPS and (clone / '.venv').exists()

    _, calls = run(clone, ONEDL='1', OPERATORS='mmcv')
    assert uninstalled(calls) == ['mmcv mmcv-lite onedl-mmcv']
    assert pip_steps(calls) == [
        'runtime', 'torch', 'build', 'onedl', 'project'
    ]
    forks, = (call for call in calls if 'onedl.txt' in call)
    assert '--no-build-isolation' in forks and 'WITH_OPS=1' in forks


def test_the_machine_is_checked_before_anything_is_made(clone):
    process, calls = run(clone, FAIL='check_env.py machine')
    assert process.returncode != 0
    assert len(calls) == 1
    assert not (clone / '.venv').exists()


@pytest.mark.parametrize('name', COMPILED)
def test_an_interrupted_set_up_continues_at_its_step(clone, name):
    failing = '-e .' if name == 'project' else f'{name}.txt'
    process, _ = run(clone, OPERATORS='mmcv', FAIL=failing)
    assert process.returncode != 0
    assert 'stub: ' in process.stdout  # the end of pip's log

    process, calls = run(clone)
    assert process.returncode == 0, process.stdout
    first = 'build' if name == 'mmcv' else name  # one step
    assert pip_steps(calls) == COMPILED[COMPILED.index(first):]


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
    # Comments and times do not matter to pip, but a checksum is simpler:
    # what comes after a changed file is done again, which takes seconds.
    assert pip_steps(run(clone)[1]) == STEPS
    path = clone / 'requirements' / 'torch.txt'
    path.write_text(path.read_text() + '# new\n')
    assert pip_steps(run(clone)[1]) == STEPS[1:]
    assert uninstalled(run(clone)[1]) == []


def test_another_torch_compiles_mmcv_again(clone):
    run(clone, OPERATORS='mmcv')
    (clone / 'torch_version').write_text('2.14.0\n')
    path = clone / 'requirements' / 'torch.txt'
    path.write_text('torch==2.14.0\n')
    _, calls = run(clone)
    mmcv = next(call for call in calls if 'mmcv.txt' in call)
    assert '--no-cache-dir --force-reinstall' in mmcv and '--no-deps' in mmcv


def test_a_cached_wheel_that_does_not_import_is_compiled_again(clone):
    process, calls = run(clone, OPERATORS='mmcv', FAIL='import mmcv.ops')
    assert process.returncode != 0  # the stub's mmcv never imports
    builds = [call for call in calls if 'mmcv.txt' in call]
    assert len(builds) == 2
    assert '--no-cache-dir' in builds[1]
    assert not (clone / '.venv/.stamps/mmcv').exists()


def test_torch_index_reaches_torch_alone(clone):
    _, calls = run(clone, 'make', 'demo', 'TORCH_INDEX=file:///wheels',
                   'OPERATORS=mmcv')
    assert 'tools/train.py' in calls[-2]
    assert ['torch.txt' in c for c in calls if '--index-url' in c] == [True]


def test_no_python_that_fits(clone):
    process, calls = run(clone, VERSION='3.9.0')
    assert process.returncode != 0
    assert 'Python 3.10 to 3.13 is needed' in process.stdout
    assert 'Python 3.9.0 (python3)' in process.stdout
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


@pytest.fixture(scope='module')
def real_clone(tmp_path_factory):
    """A fresh clone, and what runs a command in it as a user would."""
    if not (REPO_ROOT / '.git').exists():
        pytest.skip('the project is no clone')
    folder = tmp_path_factory.mktemp('real') / 'clone'
    subprocess.run(['git', 'clone', '-q', REPO_ROOT, folder], check=True)
    environ = {
        name: value
        for name, value in os.environ.items()
        if not re.match('PYTHON|MAKE|PYTEST|OPERATORS|ONEDL|COV', name)
    }

    def make_test(*variables):
        made = subprocess.run(['make', 'test', 'JOBS=1', *variables],
                              cwd=folder,
                              env=environ,
                              stdin=subprocess.DEVNULL,
                              stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT,
                              text=True)
        assert made.returncode == 0, made.stdout[-4000:]
        report = subprocess.run(
            ['.venv/bin/python', 'tools/check_env.py', '--json'],
            cwd=folder,
            env=environ,
            capture_output=True)
        return json.loads(report.stdout)['facts']

    return make_test


OPERATOR_TESTS = 'PYTEST_ARGS=tests/panoptic_fpn/ops'


@pytest.mark.slow
def test_without_a_compiler_the_operators_are_right(real_clone):
    facts = real_clone(OPERATOR_TESTS, 'CXX=/no/compiler')
    assert 'mmcv-lite' in facts['distributions']
    assert 'mmcv' not in facts['distributions']
    assert facts['operators'].startswith('none: ')


@pytest.mark.slow
def test_the_compiled_operators_are_right_and_stay(real_clone):
    """12 minutes on 2 cores, one where pip kept the wheel."""
    headers = Path(sysconfig.get_paths()['include'], 'Python.h')
    compiler = shutil.which(os.environ.get('CXX') or 'g++')
    if not (compiler and headers.exists()):
        pytest.skip('compiling mmcv needs g++ and Python.h')
    real_clone(OPERATOR_TESTS, 'OPERATORS=mmcv')
    facts = real_clone('PYTEST_ARGS=--version')
    assert 'mmcv' in facts['distributions']
    assert 'mmcv-lite' not in facts['distributions']
    assert not facts['operators'].startswith('none')
