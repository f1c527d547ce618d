"""Class balance at test time against numbers worked out by hand."""
import json
import math

import pytest
import torch

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
# with square roots 0.598, 0.671, 0.632, which add up to 1.901
@pytest.mark.parametrize('power, expected', [
    (0, (0.5, 0.3, 0.2)),
    (1, (0.1695, 0.3559, 0.4746)),
    (0.5, (0.3144, 0.3529, 0.3327)),
])
def test_hand_worked_numbers(tmp_path, power, expected):
    balance = dict(file=write(tmp_path / 'f.json'), power=power)
    found = probabilities(head(class_balance=balance))
    assert found == pytest.approx(expected, abs=1e-4)


def test_by_default_there_is_no_balance_and_its_power_is_one(tmp_path):
    model = head()
    assert probabilities(model) == pytest.approx(POSTERIOR)
    model.balance_classes(write(tmp_path / 'f.json'))
    assert probabilities(model) == pytest.approx((0.1695, 0.3559, 0.4746),
                                                 abs=1e-4)


def test_a_class_never_seen_counts_as_the_rarest(tmp_path):
    file = write(tmp_path / 'f.json', (900, 100, 0))
    model = head(class_balance=dict(file=file))
    weights = [0.5 / 0.9, 0.3 / 0.1, 0.2 / 0.1]
    assert probabilities(model) == pytest.approx(
        [w / sum(weights) for w in weights], abs=1e-6)


def test_loss_and_checkpoints_are_as_without(tmp_path):
    from mmdet.structures import DetDataSample
    from mmengine.structures import PixelData
    plain = head()
    balanced = head(class_balance=dict(file=write(tmp_path / 'f.json')))
    assert balanced.state_dict().keys() == plain.state_dict().keys()
    balanced.load_state_dict(plain.state_dict())
    sample = DetDataSample(
        gt_sem_seg=PixelData(sem_seg=torch.full((1, 64, 64), 2)))
    losses = [
        model.loss(features(), [sample])['loss_seg'].item()
        for model in (plain, balanced)
    ]
    # label 2 is stuff, channel 1
    assert losses == [pytest.approx(-math.log(0.3), abs=1e-5)] * 2


def test_missing_file_names_the_command(tmp_path):
    file = str(tmp_path / 'no.json')
    with pytest.raises(
            InputError,
            match=f'{file}: no such file .*python tools/class_frequencies.py '
            f'CONFIG --out {file}'):
        head(class_balance=dict(file=file))


@pytest.mark.parametrize('text, match', [
    ('{', 'no class frequencies'),
    ('[]', 'no class frequencies'),
    ('{"classes": []}', "KeyError: 'predict_things'"),
    ('{"classes": [{"pixels": "a"}]}', 'TypeError'),
])
def test_another_file(tmp_path, text, match):
    path = tmp_path / 'f.json'
    path.write_text(text)
    with pytest.raises(InputError, match=match):
        head(class_balance=dict(file=str(path)))


@pytest.mark.parametrize('kwargs, match', [
    (dict(pixels=(1, 2, 3, 4)), '4 classes with predict_things=False, but '
     'the semantic head has 3 channels'),
    (dict(predict_things=True), '3 classes with predict_things=True, but'),
])
def test_frequencies_of_other_classes(tmp_path, kwargs, match):
    file = write(tmp_path / 'f.json', **kwargs)
    with pytest.raises(InputError, match=match):
        head(class_balance=dict(file=file))
