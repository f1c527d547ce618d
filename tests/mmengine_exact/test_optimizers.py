"""Groups of parameters with equal settings are one, to the same bits."""
import signal

import pytest
import torch
import torch.nn as nn
from mmengine.optim import OptimWrapperDict, build_optim_wrapper

from mmengine_exact import optimizers
from mmengine_exact.optimizers import merge_saved_groups, merged_groups
from panoptic_fpn.training.runner import PanopticRunner

from . import toy

PARAMWISE = dict(norm_decay_mult=0.0, bias_decay_mult=0.0, bias_lr_mult=2.0)
SGD = dict(type='SGD', lr=0.1, momentum=0.9, weight_decay=0.01)
ADAMW = dict(type='AdamW', lr=0.01, weight_decay=0.01)


def wrapper(optimizer, **extra):
    return dict(optimizer=optimizer, paramwise_cfg=PARAMWISE, **extra)


def separate(rank):
    """A fault: a group of each parameter, as MMEngine makes them."""
    optimizers.merged_groups = list


def groups_of(model, merge, **options):
    cfg = dict(
        type='OptimWrapper', optimizer=SGD, paramwise_cfg=PARAMWISE, **options)
    if merge:
        cfg['constructor'] = 'GroupingOptimWrapperConstructor'
    return build_optim_wrapper(model, cfg).optimizer.param_groups


def test_three_settings_are_three_groups():
    """conv and linear weights; biases of them; both of the norm layer."""
    model = toy.ToyModel()
    named = {id(p): name for name, p in model.named_parameters()}
    groups = groups_of(model, merge=True)
    assert [[named[id(p)] for p in group['params']]
            for group in groups] == [['backbone.0.weight', 'head.weight'],
                                     ['backbone.0.bias', 'head.bias'],
                                     ['backbone.1.weight', 'backbone.1.bias']]
    assert [(group['lr'], group['weight_decay'])
            for group in groups] == [(0.1, 0.01), (0.2, 0.), (0.1, 0.)]
    alone = groups_of(model, merge=False)
    assert len(alone) == 6
    for group in alone:
        kept = next(
            g for g in groups
            if any(p is group['params'][0] for p in g['params']))
        assert optimizers.settings(kept) == optimizers.settings(group)


def test_groups_that_differ_stay():
    a, b = nn.Parameter(torch.ones(1)), nn.Parameter(torch.ones(1))
    for groups in ([dict(params=[a], lr=1),
                    dict(params=[b])],
                   [dict(params=[a], name='x'),
                    dict(params=[b], name='y')], [dict(params=[a, b])], []):
        assert merged_groups(groups) == groups


@pytest.fixture(scope='module', params=[SGD, ADAMW], ids=['SGD', 'AdamW'])
def whole(request, tmp_path_factory):
    """A run with merged groups."""
    folder, options = tmp_path_factory.mktemp('whole'), wrapper(request.param)
    assert toy.run(folder, optim_wrapper=options) == [0]
    return options, folder


def assert_same_training(one, two):
    a, b = toy.final_state(one), toy.final_state(two)
    assert toy.same(a['state_dict'], b['state_dict'])
    a, b = (x['message_hub']['log_scalars'] for x in (a, b))
    assert [key for key in a
            if 'loss' in key] == [key for key in b if 'loss' in key]
    for key in ('loss', 'lr', 'base_lr'):
        assert toy.same(a[f'train/{key}'], b[f'train/{key}']), key


def test_merged_groups_train_to_the_same_bits(whole, tmp_path):
    options, folder = whole
    assert toy.run(tmp_path, fault=separate, optim_wrapper=options) == [0]
    groups = [
        toy.final_state(run)['optimizer']['param_groups']
        for run in (folder, tmp_path)
    ]
    assert list(map(len, groups)) == [3, 6]
    assert_same_training(folder, tmp_path)


def test_a_checkpoint_with_a_group_of_each_parameter_resumes(whole, tmp_path):
    options, folder = whole
    killed = toy.run(
        tmp_path, fault=separate, kill_at=13, optim_wrapper=options)
    assert killed == [-signal.SIGKILL]
    assert toy.run(tmp_path, resume=True, optim_wrapper=options) == [0]
    # settings are compared group by group
    assert 'keeps the learning rate' not in (tmp_path /
                                             'out_0.txt').read_text()
    a, b = toy.final_state(folder), toy.final_state(tmp_path)
    for key in ('state_dict', 'optimizer', 'param_schedulers'):
        assert toy.same(a[key], b[key]), key
    assert_same_training(folder, tmp_path)


def test_groups_that_cannot_be_merged_are_refused(tmp_path):
    options = dict(optim_wrapper=wrapper(SGD))
    toy.run(tmp_path, fault=separate, kill_at=13, **options)
    path = tmp_path / 'iter_10.pth'
    content = torch.load(path, weights_only=True)
    content['optimizer']['param_groups'][-2]['lr'] *= 3
    torch.save(content, path)
    assert toy.run(tmp_path, resume=True, **options) == [1]
    text = toy.message(tmp_path)
    assert 'does not fit the config' in text and 'groups' in text


def test_frozen_parameters_have_no_place_in_a_checkpoint():
    """Layers 0, 2 and 4 are trained; 2 alone has been stepped."""
    model = nn.Sequential(*(nn.Linear(1, 1) for _ in range(5)))
    for layer in (1, 3):
        model[layer].requires_grad_(False)
    run = torch.optim.SGD(
        merged_groups([
            dict(params=[p], lr=len(name)) for layer in (0, 2, 4)
            for name, p in model[layer].named_parameters()
        ]))
    saved = [
        dict(params=[i], lr=10. * len(name))
        for i, name in enumerate(['weight', 'bias'] * 3)
    ]
    checkpoint = dict(
        optimizer=dict(param_groups=saved, state={
            2: 6,
            3: 4
        }),
        param_schedulers=[dict(base_values=[0, 1, 0, 1, 0, 1, 7], by=3)])
    merge_saved_groups(checkpoint, run)
    assert checkpoint['param_schedulers'] == [
        dict(base_values=[0, 1, 7], by=3)
    ]
    run.load_state_dict(checkpoint['optimizer'])
    assert [group['lr'] for group in run.param_groups] == [60., 40.]
    assert dict(run.state) == {model[2].weight: 6, model[2].bias: 4}


def test_only_mmengines_own_constructor_is_replaced(tmp_path):
    runner = PanopticRunner.from_cfg(
        toy.toy_config(
            tmp_path, optim_wrapper=wrapper(SGD,
                                            clip_grad=dict(max_norm=0.3))))
    cfg = runner.optim_wrapper
    built = runner.build_optim_wrapper(cfg)
    assert len(built.optimizer.param_groups) == 3
    assert 'constructor' not in cfg and 'clip_grad' in cfg
    assert runner.build_optim_wrapper(built) is built
    several = OptimWrapperDict(a=built)
    assert runner.build_optim_wrapper(several) is several
    cfg['constructor'] = 'NoSuchConstructor'
    with pytest.raises(KeyError, match='NoSuchConstructor'):
        runner.build_optim_wrapper(cfg)
