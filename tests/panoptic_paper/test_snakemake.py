"""What Snakemake makes of the steps; the tools are scripts of a few lines."""
import json
import os
import shutil
import signal
import stat
import subprocess
import sys
import time

import pytest

from mmengine_exact.errors import InputError
from panoptic_paper import plan as module
from panoptic_paper.plan import (LaunchOptions, _setup, plan_steps,
                                 start_snakemake)

from .fakes import TABLES

ROWS = ['table1d/coco-concat', 'table3a/coco-r50x2']
#: Writes its output; fails while 'fail-RUN' is there, waits for 'wait'.
TOOL = r'''
import json, os, pathlib, sys, time
here = pathlib.Path(__file__).parent
folder = pathlib.Path(sys.argv[sys.argv.index('--work-dir') + 1])
kind, run = pathlib.Path(__file__).stem, pathlib.Path(sys.argv[1]).stem
with open(here / 'started', 'a') as file:
    print(kind, run, os.environ['OMP_NUM_THREADS'], file=file, flush=True)
if (here / f'fail-{run}').exists():
    sys.exit('error: lr is 0. Set it.')
while (here / 'wait').exists():
    time.sleep(0.05)
folder.mkdir(parents=True, exist_ok=True)
if kind == 'test':
    (folder / 'metrics.json').write_text('{"mIoU": 3.0}')
else:
    (folder / 'iter_400.pth').write_text('weights')
'''


@pytest.fixture
def tools(tmp_path):
    folder = tmp_path / 'tools'
    folder.mkdir()
    for name in ('train', 'test'):
        (folder / f'{name}.py').write_text(TOOL)
    return folder


@pytest.fixture
def command(tmp_path, tools, monkeypatch):
    """The command line of Snakemake for the rows in miniature."""

    def command(*rows, jobs=1, dry_run=False, **kwargs):
        launch = LaunchOptions(tmp_path / 'work dir', tools)
        steps = plan_steps(TABLES, TABLES.select(rows or ROWS), launch, 1,
                           True)
        called = []
        with monkeypatch.context() as patch:
            patch.setattr(module.os, 'execv',
                          lambda _, args: called.append(args))
            start_snakemake(steps, launch, jobs, 0, dry_run, **kwargs)
        return called[0]

    places = os.pathsep.join(
        [os.path.dirname(sys.executable), os.environ['PATH']])
    if shutil.which('snakemake', path=places) is None:
        pytest.skip('needs requirements/paper.txt')
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'cache'))
    return command


def call(args):
    result = subprocess.run(args, capture_output=True, text=True)
    return result.returncode, result.stdout + result.stderr


def started(tools):
    """What was started since the last call."""
    file = tools / 'started'
    lines = file.read_text().splitlines() if file.exists() else []
    file.unlink(missing_ok=True)
    return [' '.join(line.split()[:2]) for line in lines]


NETWORKS = {'train lambda-s-0.0', 'train lambda-i-0.0'}
ALL = {'train concat', 'test concat', 'test x2', *NETWORKS}


def test_everything_once_in_order_and_then_nothing(command, tools, tmp_path):
    work_dir = tmp_path / 'work dir'
    code, said = call(command(dry_run=True))
    assert code == 0 and started(tools) == []
    assert said.count('train.py') == 3 and said.count('test.py') == 2
    assert '--seed 0 --resume' in said

    # a failure stops only what needs its file
    (tools / 'fail-lambda-i-0.0').touch()
    code, said = call(command(jobs=2))
    found = started(tools)
    assert code == 1 and 'error: lr is 0. Set it.' in said
    assert set(found) == ALL - {'test x2'} and len(found) == 4, said
    assert found.index('train concat') < found.index('test concat')
    log = work_dir / 'lambda-i-0.0/seed-0/train.log'
    assert log.read_text() == 'error: lr is 0. Set it.\n'
    record = json.loads((work_dir / 'concat/seed-0/run.json').read_text())
    assert record['max_iters'] == 400 and 'torch' in record['versions']

    (tools / 'fail-lambda-i-0.0').unlink()
    assert call(command())[0] == 0
    assert started(tools) == ['train lambda-i-0.0', 'test x2']
    code, said = call(command())
    assert code == 0 and 'Nothing to be done' in said

    # a checkpoint that was thrown away is not missed
    (work_dir / 'concat/seed-0/iter_400.pth').unlink()
    # networks that were trained again are merged again
    (work_dir / 'lambda-i-0.0/seed-0/iter_400.pth').write_text('weights')
    code, said = call(command())
    assert code == 0 and started(tools) == ['test x2'], said


@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGKILL])
def test_the_same_command_continues(command, tools, tmp_path, number):
    """Ctrl-C reaches all processes; after a kill of Snakemake alone, what
    it had started goes on, and is not started twice."""
    (tools / 'wait').touch()
    process = subprocess.Popen(
        command('table1d/coco-concat'),
        start_new_session=True,
        # what a shell has started in the background ignores it
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while not (tools / 'started').exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    if number == signal.SIGINT:
        os.killpg(process.pid, number)
    else:
        process.kill()
    assert process.wait(timeout=60) != 0
    assert started(tools) == ['train concat']
    if number == signal.SIGKILL:
        code, said = call(command('table1d/coco-concat'))
        assert code == 1 and 'another process writes' in said
        assert started(tools) == []
    (tools / 'wait').unlink()
    if number == signal.SIGKILL:
        checkpoint = tmp_path / 'work dir/concat/seed-0/iter_400.pth'
        while not checkpoint.exists() and time.monotonic() < deadline:
            time.sleep(0.05)
    code, said = call(command('table1d/coco-concat'))
    assert code == 0, said
    trained = ['train concat'] * (number == signal.SIGINT)
    assert started(tools) == [*trained, 'test concat']


def test_a_folder_of_another_config_stops_before_anything(command, tmp_path):
    file = tmp_path / 'work dir/concat/seed-0/run.json'
    file.parent.mkdir(parents=True)
    file.write_text('{"fingerprint": {"model": "another"}}')
    with pytest.raises(InputError, match='was run with another config'):
        command()


SBATCH = '''#!/bin/bash
echo "$@" >> {folder}/sbatch
for last; do :; done
id=$(wc -l < {folder}/sbatch)
SLURM_JOB_ID=$id bash -c "${{last#--wrap=}}" > {folder}/$id.log 2>&1
echo $? > {folder}/$id.code
echo $id
'''


def test_steps_are_jobs_of_slurm(command, tools, tmp_path, monkeypatch):
    """The plugin's calls, answered by scripts in the place of SLURM's."""
    checkpoint = tmp_path / 'work dir/concat/seed-0/iter_400.pth'
    checkpoint.parent.mkdir(parents=True)
    checkpoint.write_text('weights')
    scripts = tmp_path / 'bin'
    scripts.mkdir()
    for name, text in dict(
            sbatch=SBATCH.format(folder=tmp_path),
            srun='#!/bin/bash\nwhile [[ $1 == -* ]]; do shift; done\n"$@"\n',
            sacct='#!/bin/bash\n'
            f'for file in {tmp_path}/*.code; do id=$(basename $file .code)\n'
            '[ $(cat $file) = 0 ] && echo "$id|COMPLETED" || '
            'echo "$id|FAILED"; done\n',
            sinfo='#!/bin/bash\n',
            sacctmgr='#!/bin/bash\necho a\n',
            scancel='#!/bin/bash\n',
            squeue='#!/bin/bash\n').items():
        (scripts / name).write_text(text)
        (scripts / name).chmod(stat.S_IRWXU)
    profile = tmp_path / 'profile'
    profile.mkdir()
    (profile / 'config.yaml').write_text(
        'executor: slurm\ndefault-resources:\n  slurm_account: \'"a"\'\n'
        '  slurm_partition: \'"gpu"\'\nslurm-init-seconds-before-status-'
        'checks: 1\nseconds-between-status-checks: 1\nlatency-wait: 5\n')
    monkeypatch.setenv('PATH', str(scripts), prepend=os.pathsep)
    code, said = call(command('table1d/coco-concat', profile=profile))
    assert code == 0 and started(tools) == ['test concat'], said
    submitted, = (tmp_path / 'sbatch').read_text().splitlines()
    assert '-p' in submitted and 'test_concat' in submitted


def test_cores_are_shared_without_gpus(monkeypatch):
    monkeypatch.delenv('OMP_NUM_THREADS', raising=False)
    monkeypatch.setattr(os, 'sched_getaffinity', lambda _: set(range(8)))
    # 'on a CPU' also where GPUs are
    assert _setup(2, 0,
                  2) == ("export CUDA_VISIBLE_DEVICES='' OMP_NUM_THREADS=4")
    assert _setup(16, 0, 0).endswith('OMP_NUM_THREADS=1')
    monkeypatch.setenv('OMP_NUM_THREADS', '3')
    assert _setup(2, 0, 0).endswith('OMP_NUM_THREADS=3')


def test_gpus_and_ports_of_slots(monkeypatch, tmp_path):
    """The second step finds the first slot locked."""
    monkeypatch.delenv('CUDA_VISIBLE_DEVICES', raising=False)
    monkeypatch.delenv('PORT', raising=False)
    monkeypatch.chdir(tmp_path)
    (tmp_path / '.snakemake').mkdir()
    assert _setup(1, 8, 8) == ''

    def two(devices):
        script = f'{_setup(2, devices // 2, devices)}\n' \
            'echo "$CUDA_VISIBLE_DEVICES $PORT"'
        return subprocess.run([
            'bash', '-euc', f'({script})\n{script}\n'
            f'bash -c \'{script}\'; true'
        ],
                              env=dict(os.environ, CUDA_VISIBLE_DEVICES=''),
                              capture_output=True,
                              text=True,
                              check=True).stdout.splitlines()

    assert two(8) == ['0,1,2,3 29500', '0,1,2,3 29500', '4,5,6,7 29501']
    monkeypatch.setenv('CUDA_VISIBLE_DEVICES', '6,7')
    assert two(2) == ['6 29500', '6 29500', '7 29501']
