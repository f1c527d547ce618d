"""tools/train.py, tools/test.py and the scripts that start them."""
import json
import os
import pickle
import signal
import subprocess
import sys
from importlib import import_module

import pytest
from mmengine.config import Config

from mmengine_exact import (CheckpointError, RunError, one_line,
                            run_to_exit_code, tool_config)
from mmengine_exact.command import misspelt
from mmengine_exact.files import write_bytes
from mmengine_exact.runner import ExactRunner
from tests.conftest import call_tool

from . import toy

TOOLS = toy.REPO_ROOT / 'tools'


@pytest.fixture
def config(tmp_path):
    """A config file, as users write them."""
    cfg = toy.toy_config(tmp_path / 'unused', max_iters=10, validate=True)
    cfg.update(
        custom_imports=dict(
            imports=['tests.mmengine_exact.toy'], allow_failed_imports=False),
        work_dir=None,
        test_dataloader=cfg.val_dataloader,
        test_cfg=dict(),
        test_evaluator=dict(type='ToyMetric'),
        auto_scale_lr=dict(base_batch_size=8))
    cfg.pop('experiment_name')
    path = tmp_path / 'toy_run.py'
    cfg.dump(path)
    return path


def test_train_resume_and_test(config, tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    run = tmp_path / 'work_dirs' / 'toy_run'
    assert call_tool(monkeypatch, 'train', config, '--seed', 11) == 0
    assert toy.final_state(run, 10)['meta']['seed'] == 11
    assert call_tool(monkeypatch, 'train', config, '--resume', '--seed', 11,
                     '--cfg-options', 'train_cfg.max_iters=15') == 0
    assert toy.final_state(run, 15)['meta']['iter'] == 15
    assert 'continues at iteration 10' in capfd.readouterr().out

    out = tmp_path / 'predictions.pkl'
    best = run / 'best_toy_PQ_iter_10.pth'
    assert call_tool(monkeypatch, 'test', config, best, '--work-dir',
                     tmp_path / 'eval', '--out', out) == 0
    assert len(pickle.loads(out.read_bytes())) == 7
    metrics = json.loads((tmp_path / 'eval' / 'metrics.json').read_text())
    assert metrics['toy/n'] == 7 and metrics['toy/empty'] is None


def test_a_run_that_is_told_to_end_saves(config, tmp_path, monkeypatch, capfd):
    cfg = Config.fromfile(config)
    cfg.custom_hooks.append(dict(type='PreemptionHook'))
    cfg.dump(config)
    forward = toy.ToyModel.forward

    def told(self, *args, **kwargs):
        if self.calls == 6:
            os.kill(os.getpid(), signal.SIGTERM)
        return forward(self, *args, **kwargs)

    monkeypatch.setattr(toy.ToyModel, 'forward', told)
    run = tmp_path / 'run'
    assert call_tool(monkeypatch, 'train', config, '--work-dir', run) == 75
    said = capfd.readouterr().err
    assert 'iter_7.pth is complete. Continue with --resume.' in said
    monkeypatch.undo()
    assert call_tool(monkeypatch, 'train', config, '--work-dir', run,
                     '--resume') == 0
    assert toy.final_state(run, 10)['meta']['iter'] == 10


def test_train_options(config, tmp_path, monkeypatch):
    """4 images of base 8: half the rate, twice the iterations; bfloat16."""
    assert call_tool(monkeypatch, 'train', config, '--amp', '--auto-scale-lr',
                     '--work-dir', tmp_path / 'run') == 0
    last = toy.final_state(tmp_path / 'run', 20)
    assert last['optimizer']['param_groups'][0]['initial_lr'] == 0.05
    written = Config.fromstring(last['meta']['cfg'], '.py')
    assert written.optim_wrapper.type == 'ExactAmpOptimWrapper'
    assert written.train_cfg.max_iters == 20


@pytest.mark.parametrize('tool', ['train', 'test'])
@pytest.mark.parametrize('amp', [[], ['bfloat16']])
def test_type_of_mixed_precision(config, monkeypatch, tool, amp):
    tools = import_module(f'tools.{tool}')
    arguments = [str(config)] + [str(config)] * (tool == 'test')
    options = ['--amp-dtype', *amp] if amp else ['--amp']
    monkeypatch.setattr(sys, 'argv', [tool, *options, *arguments])
    cfg = tools.load_config(tools.parse_args())
    found = [hook for hook in cfg.custom_hooks if 'Half' in hook['type']]
    if tool == 'train':
        assert cfg.optim_wrapper.get('dtype') == (amp[0] if amp else None)
        found = amp
    assert len(found) == len(amp)


@pytest.mark.parametrize('tool, args, text', [
    ('train', ['--resume', 'no.pth'], 'Checkpoint no.pth does not exist'),
    ('train', ['--launcher', 'pytorch'], 'WORLD_SIZE is not set'),
    ('train', ['--work-dir', 'file'], 'file: File exists.'),
    ('test', ['file'], 'is damaged or not a checkpoint'),
    ('train', [
        '--cfg-options', 'model.init_cfg.type=Pretrained',
        'model.init_cfg.checkpoint=http://127.0.0.1:9/none.pth'
    ], 'http://127.0.0.1:9/none.pth cannot be downloaded'),
    ('train', [
        '--cfg-options', 'train_cfg.type=EpochBasedTrainLoop',
        'train_cfg.max_epochs=1'
    ], "dict(type='DefaultSampler'"),
])
def test_errors_are_one_line(config, tmp_path, monkeypatch, capfd, tool, args,
                             text):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv('WORLD_SIZE', raising=False)
    (tmp_path / 'file').write_text('nothing')
    if 'EpochBased' in str(args):
        cfg = Config.fromfile(config)
        cfg.train_cfg = dict()
        cfg.dump(config)
    assert call_tool(monkeypatch, tool, config, *args) == 1
    error = capfd.readouterr().err
    assert text in error.strip().splitlines()[-1]
    assert 'Traceback' not in error


@pytest.mark.parametrize(
    'tool,args', [('train', []), ('train', ['no_such_config.py']),
                  ('train', [__file__, '--launcher', 'none', '--unknown']),
                  ('test', [__file__]), ('test', [__file__, 'no.pth']),
                  ('test', [__file__, 'a.pth', '--out', 'a.txt'])])
def test_wrong_arguments(monkeypatch, capfd, tool, args):
    assert call_tool(monkeypatch, tool, *args) == 2
    assert 'usage' in capfd.readouterr().err


def test_error_of_a_loader_worker_is_one_line():
    text = ('Caught CheckpointError in DataLoader worker process 0.\n'
            'Original Traceback (most recent call last):\n  File "x"\n'
            'a.b.CheckpointError: image a.jpg: broken. Copy it again.\n')
    assert one_line(CheckpointError(text)) == \
        'image a.jpg: broken. Copy it again.'
    assert one_line(CheckpointError('plain')) == 'plain'


@pytest.mark.parametrize('script,args', [('dist_train', ['c']),
                                         ('dist_test', ['c', 'p']),
                                         ('dist_test', ['c', 'p', '--foo']),
                                         ('slurm_train', ['p', 'j', 'c']),
                                         ('slurm_test', ['p', 'j', 'c'])])
def test_scripts_explain_themselves(script, args):
    result = subprocess.run([TOOLS / f'{script}.sh', *args],
                            capture_output=True,
                            text=True)
    assert result.returncode == 2 and 'usage' in result.stderr


def fake(folder, name):
    """A program that prints its arguments and the variables that matter."""
    folder.mkdir(exist_ok=True)
    path = folder / name
    path.write_text('#!/usr/bin/env bash\nprintf "%s\\n" "$@" '
                    '"MASTER_PORT=${MASTER_PORT:-}" "PATH1=$PYTHONPATH"\n')
    path.chmod(0o755)
    return path


def lines_of(script, *args, **environ):
    result = subprocess.run([TOOLS / f'{script}.sh', *args],
                            capture_output=True,
                            text=True,
                            cwd='/',
                            check=True,
                            env={
                                **os.environ,
                                **environ
                            })
    return result.stdout.splitlines()


def test_dist_scripts_honour_their_variables(tmp_path):
    python = str(fake(tmp_path, 'python'))
    given = dict(
        PYTHON=python,
        NNODES='2',
        NODE_RANK='1',
        PORT='1234',
        MASTER_ADDR='10.0.0.1')
    lines = lines_of('dist_train', 'c.py', '8', '--work-dir', 'a b', **given)
    for expected in ('--nnodes=2', '--node_rank=1', '--master_port=1234',
                     '--master_addr=10.0.0.1', '--nproc_per_node=8', 'c.py',
                     'a b', str(TOOLS / 'train.py'), 'pytorch'):
        assert expected in lines
    assert any(line.startswith(f'PATH1={toy.REPO_ROOT}') for line in lines)
    lines = lines_of(
        'dist_test',
        'c.py',
        'a b.pth',
        'c.pth',
        '2',
        '--out',
        'x.pkl',
        PYTHON=python)
    place = lines.index('a b.pth')
    assert lines[place + 1] == 'c.pth' and '--nproc_per_node=2' in lines
    assert '--out' in lines and lines.count('2') == 0


def test_slurm_scripts_honour_their_variables(tmp_path):
    path = f'{fake(tmp_path, "srun").parent}:{os.environ["PATH"]}'
    lines = lines_of(
        'slurm_train',
        'part',
        'job',
        'c.py',
        'my run',
        '--amp',
        PATH=path,
        GPUS='16',
        GPUS_PER_NODE='4',
        CPUS_PER_TASK='3',
        SRUN_ARGS='--quotatype=auto --exclude=n1',
        PORT='1234')
    for expected in ('--gres=gpu:4', '--ntasks=16', '--ntasks-per-node=4',
                     '--cpus-per-task=3', '--quotatype=auto', '--exclude=n1',
                     '--work-dir=my run', '--launcher=slurm', '--amp',
                     'MASTER_PORT=1234', str(TOOLS / 'train.py')):
        assert expected in lines, expected
    lines = lines_of(
        'slurm_test',
        'part',
        'job',
        'c.py',
        'k.pth',
        PATH=path,
        GPUS='2',
        GPUS_PER_NODE='0')
    assert '--ntasks-per-node=2' in lines and 'k.pth' in lines
    assert not any(line.startswith('--gres') for line in lines)


@pytest.mark.slow
def test_dist_scripts_from_another_directory(config, tmp_path):
    """Two processes train and evaluate through torchrun."""
    environ = {
        **os.environ, 'PYTHON': sys.executable,
        'PORT': str(toy.free_port())
    }
    run = tmp_path / 'run'
    subprocess.run(
        [TOOLS / 'dist_train.sh', config.name, '2', '--work-dir', 'run'],
        cwd=tmp_path,
        env=environ,
        check=True,
        timeout=300)
    meta = toy.final_state(run, 10)['meta']
    assert meta['data_stream']['world_size'] == 2
    subprocess.run([
        TOOLS / 'dist_test.sh', config.name, 'run/iter_10.pth', '2',
        '--work-dir', 'eval'
    ],
                   cwd=tmp_path,
                   env=environ,
                   check=True,
                   timeout=300)
    metrics = json.loads((tmp_path / 'eval' / 'metrics.json').read_text())
    assert metrics['toy/n'] == 7


LOADERS = """
data_root = 'data/x/'
train_dataloader = dict(
    num_workers=2, persistent_workers=True, prefetch_factor=3,
    dataset=dict(type='X', data_root=data_root))
val_dataloader = dict(num_workers=2, persistent_workers=True,
                      dataset=dict(type='X', data_root=data_root))
test_dataloader = val_dataloader
"""


@pytest.mark.parametrize('kind, name', [('None', 'ExactRunner'),
                                        ("'Runner'", 'Runner')])
def test_runners_that_a_config_may_name(tmp_path, kind, name):
    (tmp_path / 'c.py').write_text(f'runner_type = {kind}\n')
    cfg = tool_config(str(tmp_path / 'c.py'), 'none', None, None)
    assert cfg.runner_type == name


def test_no_workers_need_no_other_setting(tmp_path):
    path = tmp_path / 'c.py'
    path.write_text(LOADERS)
    cfg = tool_config(
        str(path), 'none', {'train_dataloader.num_workers': 0}, None)
    assert cfg.train_dataloader.persistent_workers is False
    assert 'prefetch_factor' not in cfg.train_dataloader
    assert cfg.val_dataloader.persistent_workers is True


@pytest.mark.parametrize('gpu, given, pinned',
                         [(False, {}, False), (True, {}, True),
                          (True, dict(pin_memory=False), False)])
def test_batches_for_a_gpu_are_pinned(monkeypatch, gpu, given, pinned):
    cfg = toy.toy_config('x').train_dataloader
    monkeypatch.setattr('mmengine_exact.runner.on_cpu', lambda: not gpu)
    loader = ExactRunner.build_dataloader(dict(cfg, **given), seed=0)
    assert loader.pin_memory is pinned
    assert ExactRunner.build_dataloader(loader) is loader
    assert 'pin_memory' not in cfg


def test_errors_of_the_system_name_their_file(tmp_path, capsys):
    """Such as --out below a file; others keep their traceback."""
    (tmp_path / 'file').touch()
    target = str(tmp_path / 'file' / 'x.json')
    assert run_to_exit_code(lambda: write_bytes(target, b'')) == 1
    text = capsys.readouterr().err
    assert text.startswith(f'error: {tmp_path}') and text.count('\n') == 1
    folder = str(tmp_path)
    assert run_to_exit_code(lambda: write_bytes(folder, b'')) == 1
    assert capsys.readouterr().err.startswith(f'error: {folder}: ')

    def broken_pipe():
        raise BrokenPipeError(32, 'Broken pipe')

    with pytest.raises(BrokenPipeError):
        run_to_exit_code(broken_pipe)


def test_an_option_that_nothing_reads(config):
    with pytest.raises(
            RunError, match=r'max_iters=5: no run.*\(is it train_cfg\?\)'):
        tool_config(str(config), 'none', {'train_cg.max_iters': 5}, None)
    with pytest.raises(RunError, match='--cfg-options: .* Correct the key'):
        tool_config(str(config), 'none', {'train_cfg.max_iters.a': 5}, None)


@pytest.mark.parametrize('key, near', [
    ('test_cfg.panoptik.score_thr', 'panoptic'),
    ('test_cfg.panoptic.score_th', 'score_thr'),
    ('hooks.0.intervall', 'interval'),
    ('test_cfg.panoptic.score_thr', None),
    ('head.num_shared_convs', None),
    ('keys.layer2', None),
    ('loader.num_workers', None),
    ('hooks.7.interval', None),
    ('head.num_shared_fcs.5', None),
])
def test_a_slip_of_one_letter(key, near):
    node = dict(
        test_cfg=dict(panoptic=dict(score_thr=0.5, overlap_thr=0.5)),
        hooks=[dict(interval=5)],
        head=dict(num_shared_fcs=2),
        keys=dict(layer1=0),
        loader=dict(batch_size=2))
    assert misspelt(node, key.split('.')) == [near] * (near is not None)
