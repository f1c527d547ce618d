"""Class balance at test time against numbers worked out by hand."""
import json
import math

import pytest
import torch
from mmdet.structures import DetDataSample
from mmengine.structures import PixelData

from mmengine_exact.errors import InputError
from panoptic_fpn.models import SemanticFPNHead

POSTERIOR = (0.5, 0.3, 0.2)
PIXELS = (700, 200, 100)


def write(path, pixels=PIXELS, predict_things=False):
    classes = [dict(name=str(i), pixels=n) for i, n in enumerate(pixels)]
    path.write_text(
        json.dumps(dict(predict_things=predict_things, classes=classes)))
    return str(path)


def head(**kwargs):
    """A head that says POSTERIOR of every pixel."""
    torch.manual_seed(0)
    result = SemanticFPNHead(
        num_things_classes=1,
        num_stuff_classes=2,
        in_channels=[32] * 4,
        channels=32,
        **kwargs)
    result.init_weights()
    torch.nn.init.zeros_(result.conv_seg.weight)
    with torch.no_grad():
        result.conv_seg.bias[:] = torch.tensor(POSTERIOR).log()
    return result.eval()


def features():
    return tuple(torch.zeros(1, 32, 64 // s, 64 // s) for s in (4, 8, 16, 32))


def probabilities(model):
    """(K, ) of a pixel; all are equal."""
    meta = dict(
        batch_input_shape=(64, 64), img_shape=(60, 64), ori_shape=(20, 20))
    with torch.no_grad():
        logits, = model.predict(features(), [meta])
    torch.testing.assert_close(logits, logits[:, :1, :1].expand_as(logits))
    return logits[:, 0, 0].softmax(dim=0).tolist()


# 0.5 / 0.7 = 0.714, 0.3 / 0.2 = 1.5, 0.2 / 0.1 = 2, which add up to 4.214;
# with square roots 0.598, 0.671, 0.632, which add up to 1.901; the last class,
# never seen, counts as the rarest: 0.556, 3, 2 of 5.556
@pytest.mark.parametrize('pixels, power, expected', [
    (PIXELS, 0, POSTERIOR),
    (PIXELS, 1, (0.1695, 0.3559, 0.4746)),
    (PIXELS, 0.5, (0.3144, 0.3529, 0.3327)),
    ((900, 100, 0), 1, (0.1, 0.54, 0.36)),
])
def test_hand_worked_numbers(tmp_path, pixels, power, expected):
    file = write(tmp_path / 'f.json', pixels)
    model = head(class_balance=dict(file=file, power=power))
    assert probabilities(model) == pytest.approx(expected, abs=1e-4)
    model = head()
    assert probabilities(model) == pytest.approx(POSTERIOR)
    model.balance_classes(file, power)
    assert probabilities(model) == pytest.approx(expected, abs=1e-4)


def test_loss_and_checkpoints_are_as_without(tmp_path):
    plain = head()
    balanced = head(class_balance=dict(file=write(tmp_path / 'f.json')))
    assert balanced.state_dict().keys() == plain.state_dict().keys()
    sample = DetDataSample(
        gt_sem_seg=PixelData(sem_seg=torch.full((1, 64, 64), 2)))
    for model in (plain, balanced):
        loss = model.loss(features(), [sample])['loss_seg'].item()
        # label 2 is stuff, channel 1
        assert loss == pytest.approx(-math.log(0.3), abs=1e-5)


@pytest.mark.parametrize('content, match', [
    (None, 'FileNotFoundError'),
    ('{', 'no class frequencies'),
    ('{"classes": []}', "KeyError: 'predict_things'"),
    ('{"classes": [{"pixels": "a"}]}', 'no class frequencies'),
    (dict(pixels=(1, 2, 3, 4)), '4 classes with predict_things=False, but the '
     'semantic head has 3 classes'),
    (dict(predict_things=True), '3 classes with predict_things=True, but'),
])
def test_a_file_that_does_not_fit(tmp_path, content, match):
    path = tmp_path / 'f.json'
    if isinstance(content, dict):
        write(path, **content)
    elif content:
        path.write_text(content)
    with pytest.raises(InputError, match=match) as error:
        head(class_balance=dict(file=str(path)))
    assert f'tools/class_frequencies.py CONFIG --out {path}' in str(
        error.value)
