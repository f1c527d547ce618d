"""TensorBoard and W&B: what a run sends is read back from their files."""
import json
import sys
from unittest.mock import MagicMock

import numpy as np
import pytest
from mmdet.registry import RUNNERS
from mmengine.config import Config, DictAction

from mmengine_exact.errors import InputError
from panoptic_fpn.visualization import (PanopticVisualizer, WandbBackend,
                                        backends)
from tests.tiny import CONFIG

ITERS = 2


def config_of(folder, line):
    """The tiny model's training config, two iterations, with one line more,
    as it is given to --cfg-options."""
    config = Config.fromfile(CONFIG)
    config.merge_from_dict(
        dict(
            work_dir=str(folder),
            # visualizers are kept by name for the whole process
            visualizer=dict(name=str(folder)),
            train_cfg=dict(max_iters=ITERS, val_interval=1, val_begin=1),
            default_hooks=dict(
                logger=dict(interval=1),
                checkpoint=dict(interval=100, save_best=None),
                visualization=dict(num_images=2))))
    for split in ('train', 'val', 'test'):
        loader = config[f'{split}_dataloader']
        loader.update(num_workers=0, persistent_workers=False, batch_size=2)
        loader.dataset.update(
            data_root=f'{folder}/data/',
            generate=dict(num_train=2, num_val=2, size=64, seed=0))
    key, value = line.split('=')
    config.merge_from_dict({key: DictAction._parse_iterable(value)})
    return config


@pytest.fixture
def fake_wandb(monkeypatch):
    made = MagicMock()
    made.Image = lambda pixels: ('image', pixels.shape, pixels.dtype)
    monkeypatch.setitem(sys.modules, 'wandb', made)
    monkeypatch.setattr(backends, 'find_spec', lambda name: made)
    return made


def logged_by(fake_wandb):
    return [call.args[0] for call in fake_wandb.log.call_args_list]


def check_wandb(fake_wandb, folder):
    logged = logged_by(fake_wandb)
    assert all(type(values['iteration']) is int for values in logged)
    assert [v['iteration'] for v in logged if 'loss' in v] == [1, 2]
    assert [v['iteration'] for v in logged
            if 'coco_panoptic/PQ' in v] == [1, 2]
    pictures = [v for v in logged if any(k.startswith('val_') for k in v)]
    assert [v['iteration'] for v in pictures] == [1, 1, 2, 2]
    kind, shape, dtype = next(value for key, value in pictures[0].items()
                              if key != 'iteration')
    assert kind == 'image' and shape[2] == 3 and dtype == np.uint8
    fake_wandb.define_metric.assert_any_call('*', step_metric='iteration')
    config, = fake_wandb.config.update.call_args_list[0].args
    assert config['train_cfg']['max_iters'] == ITERS
    fake_wandb.run.log_code.assert_not_called()
    assert fake_wandb.join.call_count + fake_wandb.finish.call_count == 1
    assert str(folder) in fake_wandb.init.call_args.kwargs['dir']


def test_both_have_losses_scores_and_pictures(tmp_path, fake_wandb):
    """By iteration, beside the log files; the package wandb is a fake."""
    pytest.importorskip('tensorboard')
    from tensorboard.backend.event_processing.event_accumulator import \
        EventAccumulator
    runner = RUNNERS.build(
        config_of(tmp_path, 'visualizer.log_to=[tensorboard,wandb]'))
    runner.train()
    path, = tmp_path.rglob('events.out.tfevents.*')
    events = EventAccumulator(str(path), size_guidance=dict(images=0))
    events.Reload()
    losses = [(e.step, e.value) for e in events.Scalars('loss')]
    assert [step for step, _ in losses] == [1, 2]
    assert all(np.isfinite(value) and value > 0 for _, value in losses)
    assert {'lr', 'loss_seg', 'loss_mask',
            'loss_rpn_cls'} <= set(events.Tags()['scalars'])
    scores = events.Scalars('coco_panoptic/PQ')
    assert [e.step for e in scores] == [1, 2]
    lines = [
        json.loads(line) for line in next(tmp_path.rglob(
            'scalars.json')).read_text().splitlines()
    ]
    written = [x for x in lines if 'coco_panoptic/PQ' in x]
    assert [x['step'] for x in written] == [1, 2]
    assert [x['coco_panoptic/PQ']
            for x in written] == pytest.approx([e.value for e in scores])
    tags = events.Tags()['images']
    assert len(tags) == 2 and all(tag.startswith('val_') for tag in tags)
    for tag in tags:
        pictures = events.Images(tag)
        assert [e.step for e in pictures] == [1, 2]
        assert pictures[0].encoded_image_string.startswith(b'\x89PNG')
    assert 'config' in ' '.join(events.Tags()['tensors'])
    assert runner.iter == ITERS
    check_wandb(fake_wandb, tmp_path)


def test_wandb_offline_writes_its_file(tmp_path, monkeypatch):
    """The package itself, where it is installed; nothing is sent."""
    wandb = pytest.importorskip('wandb')
    monkeypatch.setenv('WANDB_MODE', 'offline')
    monkeypatch.setenv('WANDB_SILENT', 'true')
    monkeypatch.setenv('WANDB_ERROR_REPORTING', 'false')
    backend = WandbBackend(
        str(tmp_path), init_kwargs=dict(project='panoptic-test'))
    backend.add_config(Config(dict(a=1, model=dict(depth=50))))
    backend.add_scalars(dict(loss=2.5), step=10)
    backend.add_scalar('coco_panoptic/PQ', 40.25, step=20)
    backend.add_image('val_1', np.full((8, 9, 3), 200, np.uint8), step=20)
    run = wandb.run
    assert run.config['model'] == dict(depth=50)
    summary = dict(run.summary)
    assert summary['loss'] == 2.5 and summary['coco_panoptic/PQ'] == 40.25
    assert summary['iteration'] == 20
    assert (summary['val_1']['width'], summary['val_1']['height']) == (9, 8)
    backend.close()
    assert len(list(tmp_path.rglob('run-*.wandb'))) == 1
    assert len(list(tmp_path.rglob('val_1*.png'))) == 1


@pytest.mark.parametrize('name', ['tensorboard', 'wandb'])
def test_a_missing_package_is_named_with_its_command(tmp_path, monkeypatch,
                                                     name):
    """When the run is built, not when the first number is logged."""
    monkeypatch.setattr(backends, 'find_spec', lambda name: None)
    with pytest.raises(InputError, match=f'`pip install {name}`'):
        PanopticVisualizer(log_to=name, save_dir=str(tmp_path))


def test_several_backends_get_every_picture(tmp_path, fake_wandb):
    """Those of log_to come beside the others."""
    visualizer = PanopticVisualizer(
        vis_backends=dict(type='LocalVisBackend'),
        save_dir=str(tmp_path),
        log_to=['wandb', 'wandb'])
    visualizer.add_datasample('val_7', np.zeros((4, 5, 3), np.uint8), step=3)
    assert [p.name for p in tmp_path.rglob('*.png')] == ['val_7_3.png']
    assert [v['iteration'] for v in logged_by(fake_wandb)] == [3]


@pytest.mark.parametrize('value', ['mlflow', ['tensorboard', 'csv']])
def test_an_unknown_backend_is_named(value):
    with pytest.raises(InputError, match='tensorboard, wandb'):
        PanopticVisualizer(log_to=value)
