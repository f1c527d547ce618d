"""Nothing that a run holds grows with its iterations."""
import json
import tracemalloc
from types import SimpleNamespace

import torch
from mmengine.hooks import Hook
from mmengine.logging import MessageHub
from torch.multiprocessing import reductions

from benchmarks import probe
from mmengine_exact import checkpoint_hook
from mmengine_exact.checkpoint_hook import TidyHook
from panoptic_fpn.training.runner import PanopticRunner

from . import toy

#: Where a run is looked at: after two validations, and after six.
EARLY, LATE, INTERVAL = 22, 66, 10
KEPT = 20
#: What may differ by chance; a leak adds at least one object an iteration.
OBJECTS, BYTES = (LATE - EARLY) // 2, 80_000


class Look(Hook):
    """Snapshots at ``EARLY`` and ``LATE``, before anything is saved there."""

    priority = 'HIGH'

    def __init__(self):
        self.found = []

    def before_train(self, runner):
        tracemalloc.start()

    def after_train_iter(self, runner, *args, **kwargs):
        if runner.iter + 1 in (EARLY, LATE):
            # torch forgets up to 128 files of batches that are gone later
            reductions.shared_cache.free_dead_references()
            found = probe.snapshot()
            traced = tracemalloc.get_traced_memory()[0]
            self.found.append(dict(found, traced=traced))


class Hoard(Hook):
    """A leak: keeps what each iteration has given out, and a text."""

    def __init__(self):
        self.kept = []

    def after_train_iter(self, runner, batch_idx, data_batch, outputs):
        self.kept.append((outputs, 'x' * 5000))


def growth_of(cfg, *hooks):
    """Train; the runner, and what it held more at ``LATE`` by quantity."""
    look = Look()
    runner = PanopticRunner.from_cfg(cfg)
    for hook in (look, *hooks):
        runner.register_hook(hook)
    try:
        runner.train()
    finally:
        tracemalloc.stop()
    early, late = look.found
    return runner, {key: late[key] - early[key] for key in early}


def config(folder, **options):
    cfg = toy.toy_config(folder, max_iters=LATE, **options)
    cfg.log_processor = dict(by_epoch=False, window_size=10)
    return cfg


def test_a_training_holds_no_more_after_three_times_as_long(
        tmp_path, monkeypatch):
    """With loader workers, validations and checkpoints."""
    monkeypatch.setattr(checkpoint_hook, 'KEPT', KEPT)
    runner, growth = growth_of(
        config(
            tmp_path, num_workers=2, validate=True, keep=2, interval=INTERVAL))
    assert growth['objects'] < OBJECTS and growth['traced'] < BYTES, growth
    # tensors of batches that are under way are files
    assert growth['descriptors'] < OBJECTS, growth
    assert growth['threads'] == growth['children'] == 0, growth
    lengths = {
        len(values.data[0])
        for name, values in runner.message_hub.log_scalars.items()
        if name.startswith('train/')
    }
    assert lengths == {KEPT}
    saved = [p for p in tmp_path.glob('iter_*.pth')]
    assert len(saved) == 2
    # so the files do not grow
    sizes = [sum(v['log'].nbytes for v in history_of(p)) for p in saved]
    assert sizes[0] == sizes[1] > 0


def history_of(path):
    """Saved histories of training."""
    content = torch.load(path, weights_only=True)
    return [
        value for name, value in content['message_hub']['log_scalars'].items()
        if name.startswith('train/')
    ]


def test_a_leak_would_be_noticed(tmp_path):
    cfg = config(tmp_path, interval=LATE)
    growth = growth_of(cfg, Hoard())[1]
    assert growth['objects'] > OBJECTS and growth['traced'] > BYTES, growth


def test_the_log_is_that_of_all_values(tmp_path, monkeypatch):
    """Means over the window come out as without a bound."""
    losses = []
    for kept in (KEPT, 10**6):
        folder = tmp_path / str(kept)
        monkeypatch.setattr(checkpoint_hook, 'KEPT', kept)
        cfg = config(folder, interval=LATE)
        cfg.log_processor = dict(
            by_epoch=False,
            window_size=10,
            custom_cfg=[
                dict(
                    data_src='loss',
                    log_name='loss_long',
                    method_name='mean',
                    window_size=40)
            ])
        PanopticRunner.from_cfg(cfg).train()
        scalars = next(folder.rglob('scalars.json')).read_text()
        lines = map(json.loads, scalars.splitlines())
        losses.append([(x['loss'], x['loss_long']) for x in lines])
    assert losses[0] == losses[1] and len(losses[0]) > LATE // 6


def bounds(scalars=('train/loss', 'val/time', 'test/time'), **log):
    """max_length of each scalar after an iteration and both evaluations."""
    hub = MessageHub('test_long_runs')
    for name in scalars:
        hub.update_scalar(name, 1.)
    loader = [None] * 7000
    runner = SimpleNamespace(
        log_processor=SimpleNamespace(
            window_size=10, custom_cfg=log.get('custom_cfg', [])),
        message_hub=hub,
        val_dataloader=loader[:5000],
        test_dataloader=loader[:20])
    hook = TidyHook()
    hook.after_train_iter(runner, 0)
    hook.after_val_epoch(runner)
    hook.after_test_epoch(runner)
    return [hub.get_scalar(name).max_length for name in scalars]


def test_the_bound_follows_what_the_log_asks_for():
    # the times of a validation are averaged over all of its batches
    assert bounds() == [1000, 5000, 1000]
    for window, expected in ((3000, 3000), ('epoch', 10**6), ('global', 10**6),
                             (None, 10**6)):
        custom = dict(data_src='loss', method_name='mean', window_size=window)
        assert bounds(custom_cfg=[custom])[0] == expected
    # whose they are is not known
    assert bounds(('mine/loss', )) == [10**6]


def test_kept_memory_is_bounded_by_every_batch(tmp_path, monkeypatch):
    """Of trainings, validations and tests on a CPU."""
    calls = []
    monkeypatch.setattr(checkpoint_hook, 'bound_kept_memory',
                        lambda: calls.append(1))
    cfg = toy.toy_config(tmp_path, max_iters=5, interval=5, validate=True)
    PanopticRunner.from_cfg(cfg).train()
    assert len(calls) == 5 + 4
