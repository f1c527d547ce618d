"""Multi-scale and flipped inference against an average computed here."""
import copy
import json
import weakref

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from mmcv.transforms import Compose
from mmdet.registry import MODELS
from mmengine.config import Config
from mmengine.dataset import pseudo_collate

import panoptic_fpn  # noqa: F401  registers
from mmengine_exact.errors import RunError
from mmengine_exact.match import bare_model, load_weights
from panoptic_fpn.training.test_options import enable_tta
from tests.conftest import REPO_ROOT

ROOT = REPO_ROOT
# (h, w) of two images: one batch pads both
SIZES = ((40, 70), (64, 48))
STUFF_ONLY = dict(instance=0.0, semantic=1.0)


def model_config(**loss_weights):
    cfg = Config.fromfile(ROOT / 'configs' / 'synthetic' /
                          'panoptic-fpn_tiny_synthetic.py').model
    cfg.loss_weights = loss_weights or STUFF_ONLY
    cfg.test_cfg.panoptic.stuff_area = 30
    return cfg


def build(**kwargs):
    """A wrapper around a model whose guesses differ from pixel to pixel."""
    torch.manual_seed(0)
    tta = MODELS.build(
        dict(type='SemanticTTAModel', module=model_config(), **kwargs))
    tta.module.init_weights()
    torch.nn.init.normal_(tta.module.semantic_head.conv_seg.weight, std=1.0)
    return tta.eval()


def images(symmetric=False):
    rng = np.random.default_rng(5)
    found = []
    for height, width in SIZES:
        image = rng.integers(0, 256, (height // 8, width // 8, 3), np.uint8)
        image = image.repeat(8, axis=0).repeat(8, axis=1)
        if symmetric:
            image = np.concatenate([image, image[:, ::-1]], axis=1)
        found.append(image)
    return found


def pipeline(sides, flips):
    """As ``tta_pipeline`` of a config; ``flips``: pairs of prob and
    direction."""
    return Compose([
        dict(type='mmdet.LoadImageFromNDArray'),
        dict(
            type='TestTimeAug',
            transforms=[
                [
                    dict(
                        type='PanopticResize',
                        scale=(10 * side, side),
                        keep_ratio=True) for side in sides
                ],
                [
                    dict(type='RandomFlip', prob=prob, direction=direction)
                    for prob, direction in flips
                ],
                [dict(type='PackPanopticInputs')],
            ])
    ])


def data_of(arrays, sides, flips):
    process = pipeline(sides, flips)
    return pseudo_collate(
        [process(dict(img=array, img_id=i)) for i, array in enumerate(arrays)])


PLAIN = (0.0, 'horizontal')
FLIP = (1.0, 'horizontal')


def mean_probabilities(model, data, prior=None):
    """Float64 (K, h, w) of each image: interpolated, flipped back, averaged.

    ``prior`` (K, ) divides the probabilities, which are scaled to a sum of 1
    again.
    """
    sums = [0, 0]
    for number in range(len(data['inputs'])):
        batch = model.data_preprocessor(
            copy.deepcopy({
                key: value[number]
                for key, value in data.items()
            }), False)
        with torch.no_grad():
            logits = model.semantic_head(model.extract_feat(batch['inputs']))
        padded = F.interpolate(
            logits, batch['inputs'].shape[-2:], mode='bilinear')
        for i, sample in enumerate(batch['data_samples']):
            height, width = sample.img_shape
            scores = F.interpolate(
                padded[i:i + 1, :, :height, :width],
                sample.ori_shape,
                mode='bilinear')[0].double().numpy()
            scores = np.exp(scores - scores.max(axis=0))
            if prior is not None:
                scores /= np.reshape(prior, (-1, 1, 1))
            scores /= scores.sum(axis=0)
            if sample.flip and sample.flip_direction != 'vertical':
                scores = scores[:, :, ::-1]
            if sample.flip and sample.flip_direction != 'horizontal':
                scores = scores[:, ::-1]
            sums[i] = sums[i] + scores
    return [total / len(data['inputs']) for total in sums]


def assert_argmax(sample, scores):
    """Equal wherever rounding cannot decide."""
    found = sample.pred_sem_seg.sem_seg[0].numpy()
    assert found.shape == scores.shape[1:]
    best = np.sort(scores, axis=0)
    clear = best[-1] - best[-2] > 1e-5
    assert clear.mean() > 0.99
    assert (found == scores.argmax(axis=0))[clear].all()
    assert len(np.unique(found)) > 2


def maps(samples):
    return [sample.pred_sem_seg.sem_seg[0] for sample in samples]


def test_one_scale_without_flip_is_plain_prediction():
    tta = build()
    data = data_of(images(), [48], [PLAIN])
    single = {key: value[0] for key, value in data.items()}
    with torch.no_grad():
        wanted = tta.module.test_step(copy.deepcopy(single))
    for sample, plain, (height,
                        width) in zip(tta.test_step(data), wanted, SIZES):
        for key in ('pred_sem_seg', 'pred_panoptic_seg'):
            ours, theirs = getattr(sample, key), getattr(plain, key)
            assert torch.equal(ours.sem_seg, theirs.sem_seg)
            assert ours.metainfo == theirs.metainfo
        assert 'pred_instances' not in sample
        assert sample.ori_shape == (height // 8 * 8, width // 8 * 8)


@pytest.mark.parametrize('sides, flips', [
    ([32, 48, 80], [PLAIN]),
    ([48], [PLAIN, FLIP]),
    ([40, 64], [PLAIN, FLIP, (1.0, 'vertical'), (1.0, 'diagonal')]),
    ([48], [(1.0, 'vertical')]),
])
def test_average_is_the_oracles(sides, flips):
    tta = build()
    data = data_of(images(), sides, flips)
    assert len(data['inputs']) == len(sides) * len(flips)
    wanted = mean_probabilities(tta.module, data)
    for sample, scores in zip(tta.test_step(data), wanted):
        assert_argmax(sample, scores)


def test_the_augmentations_matter():
    tta = build()
    alone = tta.test_step(data_of(images(), [48], [PLAIN]))
    both = tta.test_step(data_of(images(), [48], [PLAIN, FLIP]))
    assert any((a != b).any() for a, b in zip(maps(alone), maps(both)))


def test_a_symmetric_image_has_a_symmetric_prediction():
    """Image and mirror image are one; a + b = b + a in floating point."""
    tta = build()
    arrays = images(symmetric=True)
    assert all((a == a[:, ::-1]).all() for a in arrays)
    plain = maps(tta.test_step(data_of(arrays, [32], [PLAIN])))
    assert not all(torch.equal(m, m.flip(1)) for m in plain)
    for channels in maps(tta.test_step(data_of(arrays, [32], [PLAIN, FLIP]))):
        assert torch.equal(channels, channels.flip(1))


def frequencies(path):
    counts = [5000, 10, 300, 4000, 20, 100]
    path.write_text(
        json.dumps(
            dict(
                predict_things=False,
                classes=[dict(name='', pixels=n) for n in counts])))
    return np.array(counts) / sum(counts)


def test_class_balance(tmp_path):
    share = frequencies(tmp_path / 'f.json')
    balance = dict(file=str(tmp_path / 'f.json'), power=0.5)
    data = data_of(images(), [32, 48], [PLAIN, FLIP])
    tta = build(class_balance=balance)
    found = tta.test_step(copy.deepcopy(data))
    wanted = mean_probabilities(tta.module, data, prior=share**0.5)
    for sample, scores in zip(found, wanted):
        assert_argmax(sample, scores)
    unbalanced = maps(build().test_step(data))
    assert any((a != b).any() for a, b in zip(maps(found), unbalanced))


def test_logits_of_other_augmentations_are_not_held(monkeypatch):
    tta = build()
    head, seen = tta.module.semantic_head, []
    predict = head.predict

    def watched(*args, **kwargs):
        assert not any(reference() is not None for reference in seen)
        for logits in predict(*args, **kwargs):
            seen.append(weakref.ref(logits))
            yield logits

    monkeypatch.setattr(head, 'predict', watched)
    tta.test_step(data_of(images(), [32, 48], [PLAIN, FLIP]))
    assert len(seen) == 4 * len(SIZES)


def test_the_model_inside_is_found_and_loaded():
    tta = build()
    assert bare_model(tta) is tta.module
    state = {k: v + 1 for k, v in tta.module.state_dict().items()}
    report = load_weights(tta, state)
    assert not report.missing and not report.unexpected
    assert torch.equal(tta.module.semantic_head.conv_seg.bias,
                       state['semantic_head.conv_seg.bias'])


def test_enable_tta():
    cfg = Config(
        dict(
            model=dict(type='A'),
            tta_model=dict(type='B', option=1),
            tta_pipeline=[dict(type='C')],
            test_dataloader=dict(
                dataset=dict(type='Wrapper', dataset=dict(pipeline=[])))))
    enable_tta(cfg)
    assert cfg.model == dict(type='B', option=1, module=dict(type='A'))
    assert cfg.test_dataloader.dataset.dataset.pipeline == [dict(type='C')]
    with pytest.raises(RunError, match='no tta_model and no tta_pipeline'):
        enable_tta(Config(dict(model=dict(type='A'))))
