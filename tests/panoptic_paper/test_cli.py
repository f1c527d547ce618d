"""tools/paper.py, in this process and once as users call it."""
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from panoptic_paper import compute, plan
from tests.conftest import call_tool

from .fakes import ROOT, write_metrics


@pytest.fixture
def call(monkeypatch, capfd):
    """Run the tool in this process: exit code, output, errors."""
    return lambda *args: (call_tool(monkeypatch, 'paper', *args), *capfd.
                          readouterr())


@pytest.fixture
def commands(monkeypatch):
    """Command lines of Snakemake that the tool becomes."""
    found = []
    monkeypatch.setattr(plan.shutil, 'which', lambda *_, **__: 'snakemake')
    monkeypatch.setattr(plan.os, 'execv', lambda _, args: found.append(args))
    return found


def test_as_users_call_it(tmp_path):
    """From another folder; what is printed are commands for a shell."""
    tool = ROOT / 'tools' / 'paper.py'
    words = ['show', 'table3a/coco-r50x2', '--gpus', '2', '--work-dir', 'a b']
    result = subprocess.run([sys.executable, tool, *words],
                            capture_output=True,
                            text=True,
                            cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    test = result.stdout.splitlines()[-3].strip()
    assert test.startswith(f'{ROOT}/tools/dist_test.sh {ROOT}/configs/')
    assert test.count("'a b/") == 3
    assert not any(tmp_path.iterdir())


def test_run_becomes_snakemake(call, commands, tmp_path, monkeypatch):

    def planned(*args):
        assert call('run', 'table1d', '--work-dir', tmp_path, *args)[0] == 0
        command = commands[-1]
        file = command[command.index('--configfile') + 1]
        return command, json.loads(Path(file).read_text())

    command, content = planned('--miniature', '--jobs', '2', '--seeds', '4',
                               '--dry-run')
    assert '--dry-run' in command and '--profile' not in command
    assert command[command.index('--jobs') + 1] == '2'
    assert len(content['steps']) == 2 * 2 * 4 and content['cwd'] == os.getcwd()
    # a CPU is a CPU, also where GPUs are
    assert content['setup'].startswith("export CUDA_VISIBLE_DEVICES=''")
    command, content = planned('--gpus', '8', '--profile',
                               'configs/paper/slurm')
    assert content['gpus'] == 8 and 'SLURM_JOB_ID' in content['setup']
    assert command[-2:] == ['--profile', 'configs/paper/slurm']


def test_run_says_what_it_needs(call, monkeypatch, tmp_path):
    code, _, err = call('run', 'table1a', '--miniature')
    assert code == 1 and 'nothing to run' in err and 'Tables 1c to 3d' in err
    monkeypatch.setattr(plan.shutil, 'which', lambda *_, **__: None)
    code, _, err = call('run', 'table1d', '--gpus', '0')
    assert code == 1 and 'requirements/paper.txt' in err
    monkeypatch.setattr('torch.cuda.device_count', lambda: 8)
    code, _, err = call('run', 'table1d', '--gpus', '8', '--jobs', '2')
    assert code == 1 and '16 GPUs, but 8 are visible' in err


@pytest.mark.parametrize('args', [('run', 'table2a/lambda-0.25'),
                                  ('show', 'TABLE2A/Lambda-S-0.25'),
                                  ('list', '--table', 'tabel2a')])
def test_what_does_not_exist_names_the_nearest(call, args):
    code, _, err = call(*args)
    assert code == 1 and 'Traceback' not in err
    assert err.startswith(f'error: {args[-1]}: no such')
    assert 'Nearest: table2a' in err


@pytest.mark.parametrize('args', [
    ('run', ),
    ('run', '--miniature', '--lambda-grid'),
    ('run', 'all', '--gpus', '-1'),
    ('run', 'all', '--seeds', 'five'),
    ('list', '--table', 'table2a', '--markdown'),
    ('report', ),
    ('report', 'x', '--miniature', '--save', 'results.yml'),
])
def test_wrong_arguments(call, args):
    code, _, err = call(*args)
    assert code == 2 and 'usage' in err


def test_an_interrupt_is_no_traceback(call, monkeypatch):

    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(plan, 'start_snakemake', interrupted)
    code, _, err = call('run', 'table1d')
    assert code == 130 and 'the same command continues' in err


def test_list_report_and_results(call, tmp_path):
    path = write_metrics(
        tmp_path, 'table3a/coco-r50', 0, coco_panoptic__PQ=39.)
    broken = write_metrics(tmp_path, 'table3a/coco-r50', 1)
    broken.write_text('{"mIoU": ')
    code, out, _ = call('list', '--table', 'table3a', '--work-dir', tmp_path)
    assert code == 0 and out.count('done with PQ 39.0 (seed 0)') == 1
    out, saved = tmp_path / 'out', tmp_path / 'results.yml'
    code, text, err = call('report', tmp_path, '--out', out, '--save', saved)
    assert code == 0 and f'{out}/report.md\n' in text
    assert 'not counted' in err and str(broken) in err
    assert saved.is_file() and (out / 'table3a.png').is_file()
    code, _, err = call('report', tmp_path, '--out', out, '--miniature')
    assert code == 0 and 'nothing there' in err and 'without' in err
    code, _, err = call('report', tmp_path / 'missing')
    assert code == 1 and 'missing: no such folder' in err
    code, _, err = call('report', out, '--out', path)
    assert code == 1 and str(path) in err and 'Traceback' not in err


def test_files_of_compute(call, monkeypatch, tmp_path):
    asked = []
    monkeypatch.setattr(
        compute, 'write_compute', lambda tables, folder: asked.append(folder)
        or [folder / 'complexity.md'])
    assert call('compute') == (0, f'{ROOT}/docs/complexity.md\n', '')
    assert call('compute', '--out', tmp_path)[0] == 0
    assert asked == [ROOT / 'docs', tmp_path]


def test_zoo_names_what_is_wrong_with_the_results(call, tmp_path):
    path = tmp_path / 'results.yml'
    path.write_text('results: [{config: a.py, seeds: 1, metrics: {PQ: 1}}]')
    code, _, err = call('zoo', '--results', path, '--out', tmp_path)
    assert code == 1 and str(path) in err and 'got `int` - at `$' in err
    assert list(tmp_path.iterdir()) == [path]
