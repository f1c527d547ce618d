"""Runs of the tools on the pretended GPU: no tensor meets one of the other
device.

Training with all hooks, validation, pictures, checkpoints and resuming in
float32, float16 with loss scaling and bfloat16; every way to test; inference.
The tiny model on two images of 64 pixels.
"""
import json
import pickle

import pytest
import torch

from panoptic_apps.toy_data.synthetic_shapes import write_dataset
from panoptic_fpn.inference import PanopticInferencer
from tests.conftest import call_tool
from tests.tiny import CONFIG, picture

from . import pretended_gpu

# what mmengine, mmdet and mmcv call is deprecated, or slow
pytestmark = [
    pytest.mark.filterwarnings(f'ignore:{message}')
    for message in (r'.torch.cuda.amp.GradScaler', r'torch.get_autocast_gpu',
                    'To copy construct', 'Panoptic segmentation map will not')
]
RECIPE = dict(num_train=4, num_val=2, size=64, seed=3)
ITERATIONS = 2


@pytest.fixture(scope='module')
def shapes(tmp_path_factory):
    root = tmp_path_factory.mktemp('shapes') / 'data'
    write_dataset(str(root), **RECIPE)
    return root


def options(shapes, iterations=ITERATIONS):
    """Arguments of a small run."""
    found = dict({
        'train_cfg.max_iters': iterations,
        'train_cfg.val_interval': ITERATIONS,
        'default_hooks.checkpoint.interval': ITERATIONS,
        'default_hooks.logger.interval': 1,
        # an untrained model puts its guesses on the map
        'model.test_cfg.panoptic.score_thr': 0.0,
        'model.test_cfg.rcnn.score_thr': 0.0,
        'model.test_cfg.rcnn.max_per_img': 20,
    })
    for split in ('train', 'val', 'test'):
        prefix = f'{split}_dataloader'
        found.update({
            f'{prefix}.batch_size': 2,
            f'{prefix}.num_workers': 0,
            f'{prefix}.persistent_workers': False,
            f'{prefix}.dataset.data_root': f'{shapes}/',
        })
        for key, value in RECIPE.items():
            found[f'{prefix}.dataset.generate.{key}'] = value
    return [f'{key}={value}' for key, value in found.items()]


def train(monkeypatch,
          shapes,
          folder,
          *args,
          iterations=ITERATIONS,
          config=CONFIG):
    """Train on a pretended GPU; what it counted."""
    with pretended_gpu() as gpu:
        code = call_tool(monkeypatch, 'train', config, '--work-dir', folder,
                         *args, '--cfg-options', *options(shapes, iterations))
        assert code == 0
    assert gpu.ledger.counts().launches > 1000
    return gpu.ledger


@pytest.fixture(scope='module')
def trained(shapes, tmp_path_factory):
    """Folder of a training in float32 of two iterations."""
    folder = tmp_path_factory.mktemp('trained')
    with pytest.MonkeyPatch.context() as monkeypatch:
        train(monkeypatch, shapes, folder)
    return folder


def checkpoint(folder, iterations=ITERATIONS):
    return torch.load(folder / f'iter_{iterations}.pth', weights_only=False)


def test_a_training_is_that_of_the_cpu(shapes, trained, tmp_path, monkeypatch):
    """With pictures and scores; the model is the same up to rounding."""
    assert call_tool(monkeypatch, 'train', CONFIG, '--work-dir', tmp_path,
                     '--cfg-options', *options(shapes)) == 0
    ours, theirs = (checkpoint(f)['state_dict'] for f in (trained, tmp_path))
    for name, value in ours.items():
        assert torch.allclose(
            value.double(), theirs[name].double(), atol=1e-3), name
    assert list(trained.glob('**/vis_image/*.png'))
    scores = json.loads((trained / 'metrics.json').read_text())
    assert scores['coco_panoptic/PQ'] >= 0 and scores['mIoU'] >= 0


def test_resume(shapes, trained, monkeypatch, tmp_path):
    folder = tmp_path / 'resumed'
    train(
        monkeypatch,
        shapes,
        folder,
        '--resume',
        str(trained / f'iter_{ITERATIONS}.pth'),
        iterations=ITERATIONS + 1)
    assert checkpoint(folder, ITERATIONS + 1)['meta']['iter'] == ITERATIONS + 1


@pytest.mark.parametrize('dtype', ['float16', 'bfloat16'])
def test_mixed_precision(shapes, tmp_path, monkeypatch, dtype):
    config = tmp_path / 'config.py'
    config.write_text(f"_base_ = '{CONFIG}'\n"
                      f"optim_wrapper = dict(dtype='{dtype}')\n")
    train(monkeypatch, shapes, tmp_path, '--amp', config=config)
    state = checkpoint(tmp_path)
    # bfloat16 has the range of float32
    assert ('loss_scaler' in state['optimizer']) == (dtype == 'float16')
    assert all(v.dtype != torch.half for v in state['state_dict'].values())


@pytest.mark.parametrize(
    'args', [
        ('--tta', ),
        ('--amp', ),
        ('--panoptic-only', ),
        ('--out', '{folder}/out.pkl', '--save-branches', '{folder}/branches',
         '--report', '--show-dir', '{folder}/pictures'),
        ('--format-only', '{folder}/results'),
    ],
    ids=lambda args: args[0])
def test_every_way_to_test(shapes, trained, tmp_path, monkeypatch, args):
    args = [arg.format(folder=tmp_path) for arg in args]
    with pretended_gpu() as gpu:
        code = call_tool(monkeypatch, 'test', CONFIG,
                         trained / f'iter_{ITERATIONS}.pth', '--work-dir',
                         tmp_path, *args, '--cfg-options', *options(shapes))
    assert code == 0 and gpu.ledger.counts().launches > 500
    if '--out' in args:
        found = pickle.loads((tmp_path / 'out.pkl').read_bytes())
        assert len(found) == RECIPE['num_val']
        assert found[0]['pred_instances']['bboxes'].device.type == 'cpu'
        assert any((tmp_path / 'pictures').rglob('*.png'))
        assert any((tmp_path / 'branches').iterdir())
    if '--format-only' in args:
        assert (tmp_path / 'results.panoptic.json').is_file()
    else:
        assert (tmp_path / 'metrics.json').is_file()


@pytest.mark.parametrize('amp', [False, True])
def test_inferencer(trained, amp):
    images = [picture(64, 64), picture(48, 64, seed=1)]
    with pretended_gpu() as gpu:
        infer = PanopticInferencer(
            str(CONFIG),
            str(trained / f'iter_{ITERATIONS}.pth'),
            amp=amp,
            show_progress=False)
        assert next(infer.model.parameters()).is_cuda
        found = infer(images, batch_size=2, return_vis=True)
    assert gpu.ledger.counts().launches > 500
    assert len(found['predictions']) == len(found['visualization']) == 2
