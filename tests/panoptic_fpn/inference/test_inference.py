"""Models from files, images in: one image's failure is its own."""
import numpy as np
import pytest
import torch
from mmengine.config import Config

from mmengine_exact.errors import InputError
from panoptic_fpn.inference import inference, inference_panoptic, init_model
from panoptic_fpn.visualization.image_io import write_image
from tests import tiny
from tests.panoptic_fpn.visualization.scenes import SPACE, scene


@pytest.fixture(scope='module')
def trained(tmp_path_factory):
    """Config and checkpoint of the tiny model with random weights."""
    root = tmp_path_factory.mktemp('model')
    path, checkpoint = tiny.write_tiny_model(root)
    config = Config.fromfile(path)
    config.test_dataloader.dataset.type = 'CocoPanopticFPNDataset'
    config.test_dataloader.dataset.pop('generate')
    return config, checkpoint


@pytest.fixture(scope='module')
def model(trained):
    config, path = trained
    key = 'model.test_cfg.panoptic.score_thr'
    return init_model(config, path, cfg_options={key: 0.9})


def test_files_arrays_and_failures(model, tmp_path, monkeypatch):
    image, _ = scene()
    good, broken = tmp_path / 'good.png', tmp_path / 'broken.jpg'
    write_image(str(good), image)
    broken.write_bytes(b'\xff\xd8 cut off')
    inputs, step = [], model.test_step
    monkeypatch.setattr(
        model, 'test_step',
        lambda data: inputs.extend(data['inputs']) or step(data))
    images = [tmp_path / 'missing.jpg', good, str(broken), image[..., ::-1]]
    missing, file, cut, array = inference_panoptic(model, images)
    for failed, name in ((missing, 'missing.jpg'), (cut, 'broken.jpg')):
        assert failed.image is None and failed.sample is None
        assert failed.source in failed.error and name in failed.error
    for result in (file, array):
        assert result.error is None
        assert np.array_equal(result.image, image)
        assert result.sample.ori_shape == (60, 90)
        assert result.sample.pred_panoptic_seg.sem_seg.shape == (1, 60, 90)
    assert file.sample.img_path == str(good)
    assert array.source == array.sample.img_path == 'image 4'
    # Both ways give the model the same input, BGR.
    assert torch.equal(*inputs)
    mean = inputs[0].float().mean((1, 2))
    assert mean.flip(0).numpy() == pytest.approx(image.mean((0, 1)), abs=2)


@pytest.mark.skipif(torch.cuda.is_available(), reason='there is a GPU')
def test_a_device_that_is_not_there():
    with pytest.raises(InputError, match='cuda:0.*cpu'):
        init_model(Config(), None, device='cuda:0')


def test_classes_come_from_the_checkpoint(trained, model):
    config, path = trained
    assert model.label_space == tiny.SPACE and not model.training
    saved = torch.load(path, weights_only=False)['state_dict']
    assert all(torch.equal(saved[k], v) for k, v in model.state_dict().items())
    assert model.panoptic_fusion_head.thresholds['score_thr'] == 0.9
    assert config.model.test_cfg.panoptic.get('score_thr') != 0.9


@pytest.mark.parametrize('meta, message', [
    ({}, r'other\.pth.*no classes.*json'),
    (dict(dataset_meta=SPACE.metainfo()), 'num_classes=4.*has 2 thing'),
])
def test_classes_that_are_missing_or_others(trained, tmp_path, meta, message):
    """An error names both places where classes may be."""
    config, path = trained
    saved = torch.load(path, weights_only=False)
    torch.save(dict(saved, meta=meta), tmp_path / 'other.pth')
    with pytest.raises(InputError, match=message):
        init_model(config, str(tmp_path / 'other.pth'))


def test_what_makes_inference_fast_is_on(trained, monkeypatch):
    config, path = trained
    calls = []
    monkeypatch.setattr(inference, 'keep_freed_memory',
                        lambda: calls.append('kept'))
    monkeypatch.setattr(inference, 'bound_kept_memory',
                        lambda: calls.append('bound'))
    config.channels_last = True
    model = init_model(config, str(path), 'cpu')
    assert calls == ['kept']
    assert model.memory_format == torch.channels_last
    seen = []
    model.backbone.register_forward_hook(
        lambda *args: seen.append(args[-1][0].dtype))
    image, _ = scene()
    list(inference_panoptic(model, image))
    list(inference_panoptic(model, image, amp=True))
    assert seen == [torch.float32, torch.bfloat16]
    assert calls == ['kept', 'bound', 'bound']
    list(inference_panoptic(model, image, amp='bfloat16'))
    assert seen[2:] == [torch.bfloat16]
    with pytest.raises(InputError, match="amp='half'"):
        list(inference_panoptic(model, image, amp='half'))
