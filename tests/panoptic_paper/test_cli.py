"""tools/paper.py, in this process and once as users call it."""
import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from .fakes import ROOT, write_metrics

TOOL = ROOT / 'tools' / 'paper.py'


@pytest.fixture
def call(monkeypatch, capfd):
    """Run the tool in this process: exit code, output, errors."""
    spec = importlib.util.spec_from_file_location('tool_paper', TOOL)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)

    def run(*args):
        monkeypatch.setattr(sys, 'argv', ['paper.py', *map(str, args)])
        try:
            code = module.main()
        except SystemExit as stop:
            code = stop.code
        return (code, *capfd.readouterr())

    run.module = module
    return run


@pytest.fixture
def commands(monkeypatch):
    """Command lines of Snakemake that the tool becomes."""
    from panoptic_paper import plan
    found = []
    monkeypatch.setattr(plan.shutil, 'which', lambda *_, **__: 'snakemake')
    monkeypatch.setattr(plan.os, 'execv', lambda _, args: found.append(args))
    return found


def test_as_users_call_it(tmp_path):
    """From another folder; what is printed are commands for a shell."""
    result = subprocess.run([
        sys.executable, TOOL, 'show', 'table3a/coco-r50x2', '--gpus', '2',
        '--work-dir', 'a b'
    ],
                            capture_output=True,
                            text=True,
                            cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    test = result.stdout.splitlines()[-3].strip()
    assert test.startswith(f'{ROOT}/tools/dist_test.sh {ROOT}/configs/')
    assert test.count("'a b/") == 3
    assert not any(tmp_path.iterdir())


def test_run_becomes_snakemake(call, commands, tmp_path, monkeypatch):
    monkeypatch.setenv('OMP_NUM_THREADS', '1')
    assert call('run', 'table1d', '--miniature', '--jobs', '2', '--seeds', '4',
                '--dry-run', '--work-dir', tmp_path)[0] == 0
    command, = commands
    plan = json.loads(
        Path(command[command.index('--configfile') + 1]).read_text())
    assert '--dry-run' in command and '--profile' not in command
    assert command[command.index('--jobs') + 1] == '2'
    assert len(plan['steps']) == 2 * 2 * 4 and plan['cwd'] == os.getcwd()
    # a CPU is a CPU, also where GPUs are
    assert plan['setup'].startswith("export CUDA_VISIBLE_DEVICES=''")
    call('run', 'table1d', '--gpus', '8', '--work-dir', tmp_path, '--profile',
         'configs/paper/slurm')
    command = commands[-1]
    plan = json.loads(
        Path(command[command.index('--configfile') + 1]).read_text())
    assert plan['steps'][0]['resources'] == dict(gpu=8)
    assert command[-2:] == ['--profile', 'configs/paper/slurm']


def test_run_says_what_it_needs(call, monkeypatch, tmp_path):
    from panoptic_paper import plan
    code, _, err = call('run', 'table1a', '--miniature')
    assert code == 1 and 'nothing to run' in err and 'Tables 1c to 3d' in err
    monkeypatch.setattr(plan.shutil, 'which', lambda *_, **__: None)
    code, _, err = call('run', 'table1d', '--gpus', '0')
    assert code == 1 and 'requirements/paper.txt' in err
    monkeypatch.setattr('torch.cuda.device_count', lambda: 8)
    code, _, err = call('run', 'table1d', '--gpus', '8', '--jobs', '2')
    assert code == 1 and '16 GPUs, but 8 are visible' in err


def test_list_of_a_table(call, tmp_path):
    write_metrics(tmp_path, 'table3a/coco-r50', 0, coco_panoptic__PQ=39.0)
    code, out, _ = call('list', '--work-dir', tmp_path)
    assert code == 0 and out.count('done with PQ 39.0 (seed 0)') == 3
    code, out, _ = call('list', '--table', 'table3d', '--work-dir', tmp_path)
    assert code == 0 and 'table3a' not in out


@pytest.mark.parametrize('args', [('show', 'table2a/lambda-0.25'),
                                  ('run', 'table2a/lambda-0.25'),
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
    ('run', 'all', '--jobs', '0'),
    ('run', 'all', '--seeds', 'five'),
    ('list', '--table', 'table2a', '--markdown'),
    ('report', ),
    ('report', 'x', '--miniature', '--save', 'results.yml'),
    ('shwo', 'x'),
    (),
])
def test_wrong_arguments(call, args):
    code, _, err = call(*args)
    assert code == 2 and 'usage' in err


def test_an_interrupt_is_no_traceback(call, monkeypatch):

    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setitem(call.module.COMMANDS, 'run', interrupted)
    code, _, err = call('run', 'all')
    assert code == 130 and 'the same command continues' in err


def test_report_and_results(call, tmp_path):
    write_metrics(tmp_path, 'table3a/coco-r50', 0, coco_panoptic__PQ=39.0)
    saved = tmp_path / 'results.yml'
    code, out, _ = call('report', tmp_path, '--out', tmp_path / 'out',
                        '--save', saved)
    assert code == 0 and 'report.md' in out
    assert saved.is_file() and (tmp_path / 'out' / 'table3a.png').is_file()
    code, _, err = call('report', tmp_path, '--out', tmp_path / 'out',
                        '--miniature')
    assert code == 0 and 'nothing there' in err and 'without' in err
    code, _, err = call('report', tmp_path / 'missing')
    assert code == 1 and 'missing: no such folder' in err


def test_files_of_compute(call, monkeypatch, tmp_path):
    from panoptic_paper import compute
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
    code, _, err = call('zoo', '--results', path, '--out', tmp_path / 'z.md')
    assert code == 1 and "got `int` - at `$.results[0].metrics" in err
    assert not (tmp_path / 'z.md').exists()


def test_half_finished_runs_are_named_on_the_terminal(call, tmp_path):
    path = write_metrics(tmp_path, 'table3a/coco-r50', 0, mIoU=1.)
    path.write_text('{"mIoU": ')
    code, _, err = call('report', tmp_path)
    assert code == 0 and 'not counted' in err and str(path) in err
