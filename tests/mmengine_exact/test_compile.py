"""Keys that trade time and memory: ``compile``, ``with_cp`` and what is
refused."""
import copy

import pytest
import torch
from mmdet.registry import MODELS
from torch import nn
from torch.utils.checkpoint import checkpoint

from mmengine_exact.errors import RunError
from panoptic_fpn.training.runner import PanopticRunner
from tests.test_configs import COCO, load
from tests.tiny import CONFIG

from . import toy

EAGER = dict(backend='eager')  # traces, and needs no C++ compiler


def test_backbones_and_necks_are_compiled(tmp_path, monkeypatch):
    compiled = {}
    monkeypatch.setattr(
        nn.Module, 'compile',
        lambda self, **options: compiled.update({self: options}))
    monkeypatch.setattr(toy.ToyModel, 'compile', None)  # the whole is not
    for options, expected in ((None, None), (False, None), (True, {}),
                              (EAGER, EAGER)):
        compiled.clear()
        runner = PanopticRunner.from_cfg(
            toy.toy_config(tmp_path, max_iters=1, compile=options))
        runner.model.twin = nn.ModuleDict(dict(neck=nn.Identity()))
        runner.train()
        parts = [runner.model.backbone, runner.model.twin.neck]
        assert compiled == ({} if expected is None else dict.fromkeys(
            parts, expected))


def test_compiled_runs_resume_and_end_as_others(tmp_path):
    """In two processes; with an average, which copies the model."""
    hooks = toy.toy_config(tmp_path).custom_hooks
    options = dict(
        max_iters=8,
        interval=4,
        custom_hooks=[*hooks, dict(type='EMAHook')],
    )
    assert toy.run(tmp_path / 'plain', 2, **options) == [0, 0]
    options['compile'] = EAGER
    assert toy.run(tmp_path / 'whole', 2, **options) == [0, 0]
    assert toy.run(tmp_path / 'cut', 2, **dict(options, max_iters=4)) == [0, 0]
    assert toy.run(tmp_path / 'cut', 2, resume=True, **options) == [0, 0]
    plain, whole, cut = (
        toy.final_state(tmp_path / name, 8)
        for name in ('plain', 'whole', 'cut'))
    for key in ('state_dict', 'ema_state_dict', 'optimizer'):
        assert toy.same(plain[key], whole[key])
        assert toy.same(whole[key], cut[key])


def features_and_gradients(model, images):
    """Of backbone and FPN, for a sum of squares."""
    model.zero_grad()
    levels = model.neck(model.backbone(images))
    sum(level.square().mean() for level in levels).backward()
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    assert gradients
    return [*levels, *gradients]


def test_backbone_and_fpn_are_graphs_without_a_break():
    torch.manual_seed(0)
    model = MODELS.build(load(CONFIG).model)
    images = [torch.rand(1, 3, 64, width) for width in (64, 96, 160)]
    plain = [
        features_and_gradients(copy.deepcopy(model), batch) for batch in images
    ]
    names = list(model.state_dict())
    for part in (model.backbone, model.neck):
        part.compile(backend='eager', fullgraph=True)
    assert list(model.state_dict()) == names
    for batch, expected in zip(images, plain):  # of any size
        found = features_and_gradients(model, batch)
        torch.testing.assert_close(found, expected)


def test_with_cp_computes_twice_what_it_does_not_keep():
    images, ends, sizes = torch.rand(1, 3, 64, 64), [], []
    for with_cp in (False, True):
        torch.manual_seed(0)
        backbone = MODELS.build(
            dict(load(COCO).model.backbone, init_cfg=None, with_cp=with_cp))
        backbone.train()
        calls, kept = [], []
        backbone.layer4[1].conv2.register_forward_hook(
            lambda *_, calls=calls: calls.append(1))
        with torch.autograd.graph.saved_tensors_hooks(
                lambda x, kept=kept: kept.append(x.numel()) or x, lambda x: x):
            levels = backbone(images)
        sum(level.square().mean() for level in levels).backward()
        assert len(calls) == 1 + with_cp
        sizes.append(sum(kept))
        ends.append([
            *levels,
            *(p.grad for p in backbone.parameters() if p.requires_grad)
        ])
    torch.testing.assert_close(*ends)
    assert sizes[1] < sizes[0] / 2


def test_activation_checkpointing_of_mmengine_is_refused(tmp_path):
    cfg = toy.toy_config(tmp_path, activation_checkpointing=['backbone'])
    with pytest.raises(RunError, match='with_cp=True'):
        PanopticRunner.from_cfg(cfg).train()


def test_why_it_is_refused():
    """If torch or MMEngine change this, the key could be let through."""
    layer = nn.Linear(3, 3)
    inputs = torch.rand(2, 3)
    with pytest.warns(UserWarning):
        assert not checkpoint(layer, inputs).requires_grad
