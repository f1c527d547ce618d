"""The linear scaling rule on numbers worked out by hand."""
import pytest
from mmengine.config import Config

from mmengine_exact import (RunError, batch_size_warning, effective_batch,
                            enable_auto_scale, scale_to_batch)
from mmengine_exact.match import resume_faults, stream_warning


def config(batch_size=2, **extra):
    """The 1x schedule: 90k iterations of 16 images, lr 0.02."""
    cfg = dict(
        train_dataloader=dict(batch_size=batch_size),
        train_cfg=dict(max_iters=90000, val_interval=10000, val_begin=1),
        optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.02)),
        param_scheduler=[
            dict(type='LinearLR', by_epoch=False, begin=0, end=500),
            dict(
                type='MultiStepLR',
                by_epoch=False,
                end=90000,
                milestones=[60000, 80000]),
            dict(type='StepLR', by_epoch=True, step_size=3)
        ],
        default_hooks=dict(
            checkpoint=dict(by_epoch=False, interval=5000),
            logger=dict(interval=50)),
        auto_scale_lr=dict(enable=True, base_batch_size=16))
    cfg.update(extra)
    return Config(cfg)


def test_4_processes_of_2_images():
    """Half the batch: half the rate, twice the iterations."""
    before = config()
    cfg = scale_to_batch(before, 4)
    assert cfg.optim_wrapper.optimizer.lr == pytest.approx(0.01)
    assert cfg.train_cfg == dict(
        max_iters=180000, val_interval=20000, val_begin=2)
    warm_up, steps, by_epoch = cfg.param_scheduler
    assert (warm_up.begin, warm_up.end) == (0, 1000)
    assert (steps.end, steps.milestones) == (180000, [120000, 160000])
    assert by_epoch.step_size == 3
    assert cfg.default_hooks.checkpoint.interval == 10000
    assert cfg.default_hooks.logger.interval == 50
    assert before.train_cfg.max_iters == 90000  # the input is untouched


def test_16_processes_of_3_images():
    """48 images: three times the rate; 500 / 3 iterations round to 167."""
    cfg = scale_to_batch(config(3), 16)
    assert cfg.optim_wrapper.optimizer.lr == pytest.approx(0.06)
    assert cfg.train_cfg == dict(
        max_iters=30000, val_interval=3333, val_begin=1)
    assert cfg.param_scheduler[0].end == 167
    assert cfg.param_scheduler[1].milestones == [20000, 26667]


def test_the_rate_alone():
    auto = dict(enable=True, base_batch_size=16, scale_schedule=False)
    cfg = scale_to_batch(config(auto_scale_lr=auto), 4)
    assert cfg.optim_wrapper.optimizer.lr == pytest.approx(0.01)
    assert cfg.train_cfg.max_iters == 90000


def test_accumulated_steps():
    """2 images x 4 steps on one process: 8 per step, 2 per iteration."""
    wrapper = dict(optimizer=dict(lr=0.02), accumulative_counts=4)
    cfg = config(optim_wrapper=wrapper)
    assert effective_batch(cfg, 1) == (2, 8)
    cfg = scale_to_batch(cfg, 1)
    assert cfg.optim_wrapper.optimizer.lr == pytest.approx(0.01)
    assert cfg.train_cfg.max_iters == 720000


def test_scaling_twice_changes_nothing_more():
    once = scale_to_batch(config(), 4)
    assert once.auto_scale_lr == dict(
        enable=False, base_batch_size=8, scaled=True)
    again = scale_to_batch(once, 4)
    enable_auto_scale(again)
    again = scale_to_batch(again, 4)
    assert again.train_cfg == once.train_cfg
    assert again.optim_wrapper == once.optim_wrapper
    assert batch_size_warning(once, 4) is None


def test_without_the_flag_nothing_changes_and_both_numbers_are_told():
    cfg = config(auto_scale_lr=dict(enable=False, base_batch_size=16))
    assert scale_to_batch(cfg, 4) is cfg
    text = batch_size_warning(cfg, 4)
    assert ' 8 images' in text and '16' in text and '--auto-scale-lr' in text
    assert batch_size_warning(cfg, 8) is None
    assert batch_size_warning(config(auto_scale_lr=None), 3) is None


@pytest.mark.parametrize('auto', [None, dict(enable=True)])
def test_a_config_without_base_is_named(auto):
    with pytest.raises(RunError, match='base_batch_size'):
        enable_auto_scale(config(auto_scale_lr=auto))


def test_a_scaled_schedule_is_not_resumed_with_another_batch():
    """Learning rate and milestones of the checkpoint are of the old batch."""
    former = dict(world_size=8, images_per_iteration=16)
    now = dict(world_size=4, images_per_iteration=8)
    state = dict(optimizer={}, message_hub={}, meta=dict(data_stream=former))
    fault, = resume_faults(state, None, False, now, scaled=True)
    assert 'images_per_iteration' in fault
    assert not list(resume_faults(state, None, False, now, scaled=False))
    assert 'other images' in stream_warning(former, now, 'iter_5.pth')
    assert stream_warning(None, now, 'iter_5.pth') == ''
