"""Weights between mmseg and the detector: same network, other class order."""
from collections import OrderedDict

import numpy as np
import pytest
import torch
from mmdet.registry import MODELS
from mmdet.structures import DetDataSample
from mmengine.config import Config, ConfigDict
from mmengine.hub import get_config
from mmengine.registry import DefaultScope
from mmseg.datasets import CityscapesDataset
from mmseg.structures import SegDataSample

from mmengine_exact import CheckpointError
from panoptic_apps.convert_weights import convert_semantic_fpn
from panoptic_fpn.cityscapes import label_space, train_ids
from tests.conftest import REPO_ROOT, call_tool

from .models import same

TRAIN_ID_NAMES = CityscapesDataset.METAINFO['classes']

BACKBONE = dict(
    depth=18, base_channels=8, stem_channels=8, norm_cfg=dict(type='BN'))
NECK = dict(in_channels=[8, 16, 32, 64], out_channels=32)
HEAD = dict(in_channels=[32] * 4, channels=32)


def segmentor():
    torch.manual_seed(0)
    model = MODELS.build(
        dict(
            type='mmseg.EncoderDecoder',
            data_preprocessor=dict(
                type='mmseg.SegDataPreProcessor',
                mean=[103.530, 116.280, 123.675],
                std=[1.0, 1.0, 1.0],
                test_cfg=dict(size_divisor=32)),
            backbone=dict(type='mmseg.ResNet', style='caffe', **BACKBONE),
            neck=dict(type='mmseg.FPN', num_outs=4, **NECK),
            decode_head=dict(
                type='mmseg.SemanticFPNHead', num_classes=19, **HEAD),
            test_cfg=ConfigDict(mode='whole')))
    model.init_weights()
    # otherwise all logits are nearly equal
    torch.nn.init.normal_(model.decode_head.conv_seg.weight)
    torch.nn.init.normal_(model.decode_head.conv_seg.bias)
    return model.eval()


def detector(backbone=BACKBONE, neck=NECK, head=HEAD, instance=0.):
    cfg = Config.fromfile(REPO_ROOT / 'configs/_base_/models/'
                          'panoptic-fpn_r50_fpn.py')
    cfg.model.loss_weights.instance = instance
    cfg.model.backbone.update(init_cfg=None, frozen_stages=-1, **backbone)
    cfg.model.neck.update(neck)
    counts = dict(num_things_classes=8, num_stuff_classes=11)
    cfg.model.semantic_head.update(predict_things=True, **counts, **head)
    cfg.model.panoptic_fusion_head.update(counts)
    if instance:
        for part in (cfg.model.rpn_head, cfg.model.roi_head.mask_head):
            part.in_channels = cfg.model.neck.out_channels
    return MODELS.build(cfg.model).eval()


def test_rows_keep_their_class_names():
    """Names of mmseg's data set against those of the label space."""
    theirs = OrderedDict({
        'decode_head.scale_heads.0.weight':
        torch.arange(19.),
        'decode_head.conv_seg.weight':
        torch.arange(19.).view(19, 1, 1, 1),
        'decode_head.conv_seg.bias':
        torch.arange(19.),
    })
    ours = convert_semantic_fpn(theirs, 'mmdet').weights
    for key in ('weight', 'bias'):
        rows = ours[f'semantic_head.conv_seg.{key}'].flatten()
        names = [TRAIN_ID_NAMES[int(i)] for i in rows]
        assert names == list(label_space().names)
    assert names[0] == 'person' and names[8] == 'road'
    key = 'decode_head.scale_heads.0.weight'
    assert ours['semantic_head.scale_heads.0.weight'] is theirs[key]
    assert theirs['decode_head.conv_seg.bias'][0] == 0  # not changed
    assert same(convert_semantic_fpn(ours, 'mmseg').weights, theirs)
    key = 'conv_seg.bias'
    unsorted = convert_semantic_fpn(theirs, 'mmdet', classes='same').weights
    assert unsorted[f'semantic_head.{key}'] is theirs[f'decode_head.{key}']


@torch.no_grad()
def test_the_function_is_the_same():
    theirs, ours = segmentor(), detector()
    weights = theirs.state_dict()
    there = convert_semantic_fpn(weights, 'mmdet')
    assert not there.unmatched
    assert sum(there.converted.values()) == len(weights)
    assert same(convert_semantic_fpn(there.weights, 'mmseg').weights, weights)
    ours.load_state_dict(there.weights, strict=True)
    # not multiples of 32: both pad
    image = torch.randint(0, 256, (3, 90, 130), dtype=torch.uint8)
    meta = dict(img_shape=(90, 130), ori_shape=(90, 130), pad_shape=(90, 130))
    seg = theirs.test_step(
        dict(inputs=[image], data_samples=[SegDataSample(metainfo=meta)]))[0]
    data = ours.data_preprocessor(
        dict(inputs=[image], data_samples=[DetDataSample(metainfo=meta)]))
    logits, = ours.semantic_head.predict(
        ours.extract_feat(data['inputs']), [data['data_samples'][0].metainfo])
    # the segmentor resizes to the padded input and cuts, so does the head
    torch.testing.assert_close(logits, seg.seg_logits.data[train_ids()])
    pred = ours.predict(data['inputs'], data['data_samples'])[0].pred_sem_seg
    assert len(pred.sem_seg.unique()) > 5
    assert torch.equal(
        torch.from_numpy(train_ids())[pred.sem_seg], seg.pred_sem_seg.data)


def test_what_mmseg_has_no_place_for_is_reported():
    weights = detector(instance=1.).state_dict()
    result = convert_semantic_fpn(weights, 'mmseg')
    segmentor().load_state_dict(result.weights, strict=True)
    assert set(result.unmatched) == {
        key
        for key in weights if key.startswith(('rpn_head.', 'roi_head.'))
    }
    text = result.describe()
    assert 'no counterpart, left out: rpn_head.rpn_conv.bias\n' in text
    assert 'tensors of the semantic_head\n' in text


def test_checkpoints_of_mmsegs_own_head():
    """mmseg's published model: FPNHead with BN on ResNetV1c."""
    try:
        cfg = get_config(
            'mmseg::sem_fpn/fpn_r50_4xb2-80k_cityscapes-512x1024.py')
    except Exception as error:  # installed without its configs
        pytest.skip(f'mmseg has no configs here: {error}')
    cfg.model.pretrained = None
    with DefaultScope.overwrite_default_scope('mmseg'):
        from mmseg.registry import MODELS as MMSEG_MODELS
        weights = MMSEG_MODELS.build(cfg.model).state_dict()
    result = convert_semantic_fpn(weights, 'mmdet')
    assert not result.unmatched
    advice = '\n'.join(result.advice)
    assert 'model.backbone.deep_stem=True' in advice
    assert "model.semantic_head.norm_cfg=dict(type='BN')" in advice
    ours = detector(
        backbone=dict(deep_stem=True, style='pytorch'),
        neck={},
        head=dict(norm_cfg=dict(type='BN')))
    ours.load_state_dict(result.weights, strict=True)
    back = convert_semantic_fpn(result.weights, 'mmseg')
    assert same(back.weights, weights)
    assert "model.backbone.type='ResNetV1c'" in back.advice[0]


def call(monkeypatch, *args):
    return call_tool(monkeypatch, 'model_converters/semantic_fpn', *args)


def test_files_there_and_back(tmp_path, monkeypatch, capsys):
    weights = segmentor().state_dict()
    paths = [tmp_path / name for name in ('in.pth', 'ours.pth', 'back.pth')]
    torch.save(dict(state_dict=weights, optimizer={}), paths[0])
    assert call(monkeypatch, *paths[:2], '--to', 'mmdet') == 0
    assert 'tensors of the backbone' in capsys.readouterr().out
    assert call(monkeypatch, *paths[1:], '--to', 'mmseg') == 0
    ours, back = (torch.load(path, weights_only=True) for path in paths[1:])
    assert same(back['state_dict'], weights)
    assert tuple(back['meta']['dataset_meta']['classes']) == TRAIN_ID_NAMES
    assert np.array_equal(back['meta']['dataset_meta']['palette'],
                          CityscapesDataset.METAINFO['palette'])
    assert ours['meta']['dataset_meta']['thing_classes'] \
        == label_space().thing_names
    assert 'optimizer' not in ours
    assert call(monkeypatch, *paths[:2], '--to', 'mmdet', '--classes',
                'same') == 0
    assert 'dataset_meta' not in torch.load(paths[1])['meta']
    assert call(monkeypatch, paths[0], paths[0], '--to', 'mmdet') == 1
    assert 'is the input as well' in capsys.readouterr().err


def rows(count, prefix='decode_head.'):
    return OrderedDict({
        f'{prefix}scale_heads.0.0.conv.weight': torch.ones(1),
        f'{prefix}conv_seg.weight': torch.zeros(count, 4, 1, 1),
        f'{prefix}conv_seg.bias': torch.zeros(count)
    })


@pytest.mark.parametrize('weights, to, message', [
    (rows(150), 'mmdet', 'conv_seg.weight has 150 rows'),
    (rows(12, 'semantic_head.'), 'mmseg',
     'semantic_head.conv_seg.weight has 12 rows, the data set 19'),
    (dict(list(rows(19).items())[:2]), 'mmdet', 'conv_seg.bias has 0 rows'),
    (rows(19), 'mmseg', 'as ours has them; it is of mmseg'),
    ({
        'backbone.conv1.weight': torch.ones(1)
    }, 'mmdet', r'no decode_head.scale_heads.\*'),
])
def test_weights_that_cannot_be_converted(weights, to, message):
    with pytest.raises(CheckpointError, match=message) as error:
        convert_semantic_fpn(weights, to, source='some.pth')
    assert str(error.value).startswith('Checkpoint some.pth: ')
