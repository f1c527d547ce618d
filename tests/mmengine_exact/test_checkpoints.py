"""Checkpoint files: content, kills at bad moments, clear errors."""
import builtins
import json
import os
import pickle
import signal
import warnings
from collections import Counter, OrderedDict
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import numpy as np
import pytest
import torch
import torch.nn as nn
from mmengine.fileio import LocalBackend
from mmengine.logging import HistoryBuffer
from mmengine.runner import runner as mmengine_runner

from mmengine_exact import (CheckpointError, explain, latest_checkpoint,
                            load_weights, read_checkpoint, runner)
from mmengine_exact.checkpoint import make_plain, to_plain, usable_checkpoint
from mmengine_exact.checkpoint_hook import _DeferredRemoval
from mmengine_exact.files import write_atomically
from mmengine_exact.match import require
from panoptic_fpn.training.runner import PanopticRunner

from . import toy

KILLED = -signal.SIGKILL


@pytest.fixture(scope='module')
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp('trained')
    assert toy.run(folder, validate=True) == [0]
    return folder


def build(work_dir, **options):
    return PanopticRunner.from_cfg(toy.toy_config(work_dir, **options))


# What a file holds ---------------------------------------------------------


def test_plain_torch_reads_everything(trained):
    saved = torch.load(trained / 'iter_20.pth', weights_only=True)
    assert saved['meta']['dataset_meta'] == dict(
        classes=('a', 'b'), palette=[(1, 2, 3)])
    assert 'ToyModel' in saved['meta']['cfg']
    assert saved['meta']['seed'] == 5 and saved['meta']['iter'] == 20
    hub = saved['message_hub']
    assert hub['runtime_info']['best_score'] == 4
    assert len(hub['log_scalars']['train/loss']['log']) == 20


def test_history_is_restored(trained):
    hub = read_checkpoint(str(trained / 'iter_20.pth'))['message_hub']
    loss = hub['log_scalars']['train/loss']
    plain = torch.load(trained / 'iter_20.pth')['message_hub']['log_scalars']
    assert loss.mean(5) == plain['train/loss']['log'][-5:].mean().item()
    lr = hub['log_scalars']['train/lr'].data[0]
    assert lr[0] == pytest.approx(0.01) and lr[-1] == pytest.approx(0.001)


def test_history_continues_over_a_resume(trained, tmp_path):
    assert toy.run(tmp_path, kill_at=13) == [KILLED]
    assert toy.run(tmp_path, resume=True) == [0]
    one, two = (
        toy.final_state(d)['message_hub']['log_scalars']['train/loss']
        for d in (trained, tmp_path))
    assert toy.same(one, two)


def test_to_plain():

    class Text(str):
        pass

    value = dict(
        a=np.float64(1.5),
        b=np.arange(3),
        c=(np.int32(2), Text('x')),
        d=OrderedDict(k={4}),
        e=Counter([1, 1]),
        f=object(),
        g=None,
        h=np.bool_(True))
    plain = to_plain(value)
    assert plain == dict(
        a=1.5,
        b=[0, 1, 2],
        c=(2, 'x'),
        d={'k': {4}},
        e={1: 2},
        f=None,
        g=None,
        h=True)
    assert [type(plain[key])
            for key in 'adeh'] == [float, OrderedDict, Counter, bool]
    assert type(plain['c'][1]) is str
    assert isinstance(value['a'], np.float64)  # the input is untouched
    weights = OrderedDict(w=torch.ones(1))
    checkpoint = dict(state_dict=weights, meta=dict(x=np.int64(3)))
    make_plain(checkpoint)
    assert checkpoint['state_dict'] is weights
    assert checkpoint['meta'] == dict(x=3)


# Files of others -----------------------------------------------------------


def test_mmengines_own_file_is_read_with_protection_on(tmp_path):
    hub = dict(
        log_scalars=OrderedDict(
            loss=HistoryBuffer([1., 2., 4.], [1, 1, 2]),
            empty=HistoryBuffer()),
        runtime_info=OrderedDict(
            best_score=np.float64(3), classes=np.array([1, 2])),
        resumed_keys=dict(loss=True))
    meta = dict(iter=3, epoch=0, palette=np.array([['a']]), time='now')
    path = str(tmp_path / 'theirs.pth')
    torch.save(
        dict(
            state_dict=OrderedDict(w=torch.ones(2)),
            message_hub=hub,
            meta=meta), path)
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        read = read_checkpoint(path)
    loss = read['message_hub']['log_scalars']['loss']
    assert isinstance(loss, HistoryBuffer)
    assert loss.mean() == 7 / 4 and loss.statistics('max') == 4
    loss.update(5.)
    assert loss.current() == 5
    assert read['message_hub']['runtime_info']['best_score'] == 3
    # and nothing stays allowed
    with pytest.raises(pickle.UnpicklingError):
        torch.load(path, weights_only=True)


class _Getattr:
    """Pickles a call ``getattr(owner, name)``."""

    def __init__(self, owner, name):
        self.args = owner, name

    def __reduce__(self):
        return getattr, self.args


@pytest.mark.parametrize('owner,name', [(HistoryBuffer, '__init__'),
                                        (HistoryBuffer, 'update'),
                                        (torch.Tensor, 'min'),
                                        (HistoryBuffer, '__class__')])
def test_getattr_of_anything_else_is_refused(tmp_path, owner, name):
    path = tmp_path / 'evil.pth'
    torch.save(
        dict(state_dict=dict(w=torch.ones(1)), x=_Getattr(owner, name)), path)
    with pytest.raises(CheckpointError, match='evil.pth.*could run code'):
        read_checkpoint(str(path))


@pytest.fixture
def served(tmp_path):
    """A file that would make a folder, at an http address."""
    content = tmp_path / 'content'
    content.mkdir()
    trap = tmp_path / 'trap'

    class Bad:

        def __reduce__(self):
            return os.mkdir, (str(trap), )

    with open(content / 'bad.pth', 'wb') as file:
        pickle.dump(dict(state_dict=Bad()), file)
    handler = partial(SimpleHTTPRequestHandler, directory=str(content))
    server = ThreadingHTTPServer(('127.0.0.1', 0), handler)
    Thread(target=server.serve_forever, daemon=True).start()
    yield f'http://127.0.0.1:{server.server_port}/bad.pth', trap
    server.shutdown()


def test_code_of_a_remote_file_is_not_run(served, tmp_path, monkeypatch):
    """torch.hub, which reads addresses, has its protection off."""
    url, trap = served
    monkeypatch.setenv('TORCH_HOME', str(tmp_path / 'hub'))
    monkeypatch.setenv('no_proxy', '127.0.0.1')
    with pytest.raises(CheckpointError, match='bad.pth'):
        read_checkpoint(url)
    cfg = toy.toy_config(
        tmp_path / 'run',
        model=dict(init_cfg=dict(type='Pretrained', checkpoint=url)))
    with pytest.raises(CheckpointError, match='bad.pth'):
        toy.PanopticRunner.from_cfg(cfg).train()
    assert not trap.exists()
    assert 'TORCH_FORCE_WEIGHTS_ONLY_LOAD' not in os.environ


# Kills at bad moments ------------------------------------------------------


def die_at(owner, name, number, only, before=None):
    """Killed in the ``number``-th call of a function about some path."""

    def fault(rank):
        real, count = getattr(owner, name), [0]

        def patched(*args, **kwargs):
            if not only(*map(str, args)):
                return real(*args, **kwargs)
            count[0] += 1
            if count[0] < number:
                return real(*args, **kwargs)
            if before is not None:
                before(real, *args)
            os.kill(os.getpid(), signal.SIGKILL)

        setattr(owner, name, patched)

    return fault


def half_written(number):
    return die_at(
        LocalBackend, 'put', number,
        lambda self, data, path: path.endswith('.part'),
        lambda put, self, data, path: put(self, data[:len(data) // 2], path))


@pytest.mark.parametrize('fault,iteration', [
    (half_written(2), 5),
    (half_written(1), None),
    (die_at(os, 'replace', 2, lambda source, path: path.endswith('.pth')), 5),
    (die_at(
        builtins,
        'open',
        2,
        lambda path='', mode='r', *_: path.endswith('last_checkpoint') and 'w'
        in mode,
        lambda real, *args: real(*args)), 10),
    (die_at(LocalBackend, 'remove', 1, lambda *_: True), 10),
])
def test_kill_at_a_bad_moment(trained, tmp_path, fault, iteration):
    """One checkpoint is kept; iterations 5 and 10 have been reached."""
    assert toy.run(tmp_path, fault=fault, keep=1) == [KILLED]
    last = latest_checkpoint(str(tmp_path))
    if iteration is None:
        assert last is None
    else:
        assert last.endswith(f'iter_{iteration}.pth')
        assert read_checkpoint(last)['meta']['iter'] == iteration
    assert toy.run(tmp_path, resume=True, keep=1) == [0]
    assert toy.same(
        toy.final_state(tmp_path)['state_dict'],
        toy.final_state(trained)['state_dict'])
    assert not list(tmp_path.glob('.*.part'))


def test_a_full_disk_names_the_file_and_leaves_nothing(tmp_path):
    path = tmp_path / 'iter_2.pth'
    path.write_text('old')

    def fill(partial):
        with open(partial, 'w') as file:
            file.write('half')
        raise OSError(28, 'No space left on device')

    with pytest.raises(OSError) as caught:
        write_atomically(str(path), fill)
    assert explain(caught.value).startswith(f'{path} cannot be written: the '
                                            'disk is full')
    assert [p.name for p in tmp_path.iterdir()] == ['iter_2.pth']
    assert path.read_text() == 'old'


def test_a_resumed_run_deletes_nothing_of_another_run(tmp_path):
    one, two = tmp_path / 'one', tmp_path / 'two'
    for folder in (one, two):
        folder.mkdir()
        (folder / 'best.pth').touch()
    backend = _DeferredRemoval(LocalBackend(), str(two))
    backend.remove(str(one / 'best.pth'))
    backend.remove(str(two / 'best.pth'))
    backend.flush(keep=[])
    assert (one / 'best.pth').exists() and not (two / 'best.pth').exists()


def test_latest_checkpoint(tmp_path):
    last = lambda: latest_checkpoint(str(tmp_path))  # noqa: E731
    assert last() is None
    for name in ('iter_9.pth', 'iter_10.pth', '.iter_11.pth.part',
                 'best_PQ_iter_12.pth'):
        (tmp_path / name).touch()
    assert last().endswith('iter_10.pth')
    pointer = tmp_path / 'last_checkpoint'
    for content, name in ((b'', 'iter_10.pth'), (b'\xff\xfe', 'iter_10.pth'),
                          (b'../../x', 'iter_10.pth'), (b'iter_9.pth\nmore',
                                                        'iter_10.pth'),
                          (b'/gone/iter_9.pth',
                           'iter_9.pth'), (b'/gone/iter_8.pth', 'iter_10.pth'),
                          (bytes(tmp_path / 'iter_9.pth'), 'iter_9.pth')):
        pointer.write_bytes(content)
        assert last() == str(tmp_path / name)
    pointer.write_text('s3://bucket/iter_1.pth')
    assert last() == 's3://bucket/iter_1.pth'


# Errors --------------------------------------------------------------------


def failed(tmp_path, **options):
    """The error of a run that must fail."""
    assert toy.run(tmp_path, **options) == [1]
    return toy.message(tmp_path)


def test_missing_file(tmp_path):
    text = failed(tmp_path, load_from=str(tmp_path / 'no.pth'))
    assert 'no.pth does not exist' in text


def test_damaged_file(trained, tmp_path):
    whole = (trained / 'iter_20.pth').read_bytes()
    path = tmp_path / 'bad.pth'
    for content in (whole[:len(whole) // 2], b'hello\n' * 9, b'',
                    b'<html><body>404</body></html>'):
        path.write_bytes(content)
        with pytest.raises(CheckpointError, match='bad.pth .*damaged') as one:
            read_checkpoint(str(path))
        assert '\n' not in str(one.value)


@pytest.mark.parametrize('content', [[1, 2], dict(meta=3), dict(a={}), {}])
def test_file_without_weights(tmp_path, content):
    torch.save(content, tmp_path / 'odd.pth')
    with pytest.raises(CheckpointError, match="odd.pth.*no 'state_dict'"):
        read_checkpoint(str(tmp_path / 'odd.pth'))


def test_resume_of_another_architecture(trained, tmp_path):
    path = str(trained / 'iter_10.pth')
    text = failed(tmp_path, load_from=path, resume=True, model=dict(rows=5))
    assert 'head.weight has 3 rows in the file and 5 in the model' in text
    assert path in text and 'load_from' in text


def test_resume_of_a_best_checkpoint(trained, tmp_path):
    best = str(trained / 'best_toy_PQ_iter_20.pth')
    text = failed(tmp_path, load_from=best, resume=True)
    assert 'no optimizer state' in text and best in text


@pytest.mark.parametrize('options', [
    dict(
        optim_wrapper=dict(
            optimizer=dict(type='SGD', lr=0.1),
            paramwise_cfg=dict(bias_lr_mult=2.))),
    dict(param_scheduler=[
        dict(type='MultiStepLR', by_epoch=False, milestones=[9])
    ]),
    dict(optim_wrapper=dict(optimizer=dict(type='AdamW', lr=0.1))),
])
def test_resume_with_another_optimizer_or_schedule(trained, tmp_path, options):
    path = str(trained / 'iter_10.pth')
    text = failed(tmp_path, load_from=path, resume=True, **options)
    assert path in text and 'load_from' in text
    assert 'does not fit the config' in text or '2 states of' in text


def test_fine_tuning_with_other_classes(trained, tmp_path):
    path = str(trained / 'iter_20.pth')
    assert toy.run(
        tmp_path, load_from=path, model=dict(rows=5), max_iters=5) == [0]
    log = (tmp_path / 'out_0.txt').read_text()
    assert 'head.weight has 3 rows in the file and 5 in the model' in log
    assert 'it fills 6 tensors' in log or 'fills 7 tensors' in log


def test_fine_tuning_needs_the_backbone(trained, tmp_path):
    text = failed(
        tmp_path, load_from=str(trained / 'iter_20.pth'), model=dict(hidden=9))
    assert 'backbone.0.weight has 8 rows in the file and 9' in text
    assert 'init_cfg' in text
    # a bare backbone belongs there
    bare = tmp_path / 'resnet.pth'
    torch.save(toy.ToyModel().backbone.state_dict(), bare)
    text = failed(tmp_path, load_from=str(bare))
    assert 'fills only 0 of 8 tensors' in text and 'init_cfg' in text


@pytest.mark.parametrize('how', ['scratch', 'load_from', 'resume', 'nothing'])
def test_frozen_layers_at_random_are_a_warning(trained, tmp_path, monkeypatch,
                                               how):
    path = str(trained / 'iter_20.pth')
    options = dict(
        load_from=dict(load_from=path),
        resume=dict(load_from=path, resume=True, max_iters=21),
        nothing=dict(resume=True)).get(how, {})
    built = build(tmp_path, **{'max_iters': 1, **options})
    built.model.backbone[0].requires_grad_(False)
    seen = []
    monkeypatch.setattr(built.logger, 'warning', seen.append)
    built.train()
    found = ['model.backbone: frozen layers' in text for text in seen]
    assert sum(found) == (how in ('scratch', 'nothing'))


class Plain(nn.Module):

    def __init__(self, rows=2, extra=False):
        super().__init__()
        self.a, self.b = nn.Linear(2, 2), nn.Linear(2, rows)
        if extra:
            self.c = nn.Linear(2, 2)


def test_evaluation_is_strict_about_the_model_only():
    weights = Plain(extra=True).state_dict()
    report = load_weights(Plain(), weights)
    assert 'c.weight' in require(report, 'exact', 'x.pth')
    for model, text in ((Plain(extra=True), 'not in the file: c.weight'),
                        (Plain(3), 'b.weight has 2 rows .* 3 in the model')):
        report = load_weights(model, Plain().state_dict())
        with pytest.raises(CheckpointError, match=f'x.pth does not.*{text}'):
            require(report, 'exact', 'x.pth')


def test_weights_of_a_wrapped_model_are_renamed():
    saved = {f'module.{k}': v for k, v in Plain().state_dict().items()}
    model = Plain()
    report = load_weights(model, saved, [(r'^module\.', '')])
    assert len(report.loaded) == 4 and not report.unexpected
    assert torch.equal(model.a.weight, saved['module.a.weight'])


def test_evaluation_through_the_runner(trained, tmp_path):
    test = dict(
        batch_size=2,
        dataset=dict(type='ToyDataset', size=7, noise=False),
        sampler=dict(type='DefaultSampler', shuffle=False))
    options = dict(
        test_dataloader=test,
        test_cfg=dict(),
        test_evaluator=dict(type='ToyMetric'))
    path = str(trained / 'best_toy_PQ_iter_20.pth')
    metrics = build(tmp_path, load_from=path, **options).test()
    assert metrics['toy/n'] == 7
    assert json.loads((tmp_path / 'metrics.json').read_text()) == {
        'toy/PQ': metrics['toy/PQ'],
        'toy/n': 7,
        'toy/sum': metrics['toy/sum'],
        'toy/empty': None
    }
    with pytest.raises(CheckpointError, match='5 in the model'):
        build(tmp_path, load_from=path, model=dict(rows=5), **options).test()


def test_a_best_score_that_is_nan_is_named(tmp_path):
    hooks = toy.toy_config(tmp_path).default_hooks
    hooks.checkpoint.update(save_best='toy/empty', rule='greater')
    folder = tmp_path / 'run'
    assert toy.run(
        folder, validate=True, max_iters=5, default_hooks=hooks) == [0]
    log = (folder / 'out_0.txt').read_text()
    assert "save_best='toy/empty' is NaN" in log and "'toy/PQ'" in log
    assert not list(folder.glob('best_*'))


@pytest.mark.parametrize('error', [
    torch.cuda.OutOfMemoryError('CUDA out of memory. Tried to allocate 2 GiB'),
    RuntimeError('CUDA error: out of memory')
])
def test_want_of_memory_is_not_damage(trained, monkeypatch, error):
    """Another checkpoint would need as much, so none is passed over."""

    def load(*args, **kwargs):
        raise error

    monkeypatch.setattr(torch, 'load', load)
    for read in (lambda: read_checkpoint(str(trained / 'iter_20.pth')),
                 lambda: usable_checkpoint(str(trained))):
        with pytest.raises(RuntimeError) as caught:
            read()
        assert caught.value is error


def test_a_resumed_run_reads_to_the_host(trained, monkeypatch):
    """With a GPU, too, where MMEngine's runner reads to its memory."""
    seen = []

    def read(filename, map_location):
        seen.append(map_location)
        return read_checkpoint(filename, map_location)

    def resume(self):
        monkeypatch.setattr(mmengine_runner, 'get_device', lambda: 'cuda')
        monkeypatch.setattr(runner, 'read_checkpoint', read)
        self.resume(str(trained / 'iter_20.pth'))

    monkeypatch.setattr(PanopticRunner, 'load_or_resume', resume)
    build(trained, validate=True).train()
    assert seen == ['cpu']
