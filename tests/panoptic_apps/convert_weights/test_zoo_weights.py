"""Weights of Detectron2 and mmdet: each head computes what it did there."""
import pytest
import torch
from mmdet.registry import TASK_UTILS
from mmdet.structures import DetDataSample
from mmengine.config import Config
from mmengine.hub import get_config

from mmengine_exact import CheckpointError
from panoptic_apps.complexity import build_on_meta
from panoptic_apps.convert_weights import (LAYOUTS, convert_zoo_weights,
                                           differing_settings)
from panoptic_apps.convert_weights.layouts import coco_label_space
from panoptic_apps.convert_weights.name_tables import Template
from panoptic_apps.convert_weights.zoo import network_faults
from tests.conftest import REPO_ROOT
from tests.oracles import detectron2_layout as detectron2

from .models import (CHANNELS, NUM_STUFF, NUM_THINGS, build, config, load,
                     mmdets, same, shapes_of)

DETECTRON2, MMDET = LAYOUTS['detectron2'], LAYOUTS['mmdet']
BLOCKS = {
    18: dict(blocks=(2, 2, 2, 2), bottleneck=False),
    50: dict(blocks=(3, 4, 6, 3), bottleneck=True)
}


def close(one, other):
    torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)


def region_features():
    generator = torch.Generator().manual_seed(3)
    return [
        torch.randn(5, CHANNELS, size, size, generator=generator)
        for size in (7, 14)
    ]


def image():
    generator = torch.Generator().manual_seed(4)
    return torch.randn(2, 3, 64, 96, generator=generator)


def to_ours(weights, model, layout=DETECTRON2):
    result = convert_zoo_weights(weights, layout, 'ours', shapes_of(model))
    result.require_fit()
    assert not result.unmatched
    return result


def there_and_back(weights, model, layout):
    """Both directions are exact, from both sides; nothing is changed."""
    there = to_ours(weights, model, layout)
    assert sum(there.converted.values()) == len(weights)
    back = convert_zoo_weights(there.weights, layout, 'theirs',
                               shapes_of(model))
    back.require_fit()
    assert same(back.weights, weights) and not back.unmatched
    own = model.state_dict()
    before = {key: value.clone() for key, value in own.items()}
    theirs = convert_zoo_weights(own, layout, 'theirs', shapes_of(model))
    assert same(own, before)
    # all but the counters, which Detectron2 does not have
    counters = [key for key in own if key.endswith('num_batches_tracked')]
    assert theirs.ignored == (counters if layout is DETECTRON2 else [])
    for key in theirs.ignored:
        own.pop(key)
    assert same(to_ours(theirs.weights, model, layout).weights, own)
    return theirs.weights


@pytest.mark.parametrize('depth', [18, 50])
@torch.no_grad()
def test_every_head_computes_what_detectron2_does(depth):
    weights = detectron2.random_weights(**BLOCKS[depth])
    ours = build(config('detectron2', depth), seed=1)
    there_and_back(weights, ours, DETECTRON2)
    load(ours, to_ours(weights, ours).weights)
    feats = ours.extract_feat(image())
    wanted = detectron2.backbone(weights, image())
    assert len(feats) == len(wanted) == 5
    for one, other in zip(feats, wanted):
        close(one / other.std(), other / other.std())
    feats = [feat / feat.std() for feat in wanted]
    for level, logits, deltas in zip(feats, *ours.rpn_head(feats)):
        close(logits, detectron2.rpn(weights, level)[0])
        close(deltas, detectron2.rpn(weights, level)[1])
    boxes, masks = region_features()
    for one, other in zip(
            ours.roi_head.bbox_head(boxes),
            detectron2.box_head(weights, boxes)):
        close(one, other)
    close(ours.roi_head.mask_head(masks), detectron2.mask_head(weights, masks))
    semantic = ours.semantic_head(feats)
    wanted = detectron2.semantic_head(weights, feats)
    close(semantic[:, NUM_STUFF], wanted[:, 0])
    close(semantic[:, :NUM_STUFF], wanted[:, 1:])


@torch.no_grad()
def test_the_box_head_with_convolutions_and_group_norm():
    weights = detectron2.random_weights(convs=2)
    cfg = config('detectron2')
    cfg.roi_head.bbox_head.update(
        type='ConvFCBBoxHead',
        num_shared_convs=2,
        num_shared_fcs=1,
        conv_out_channels=CHANNELS,
        norm_cfg=dict(type='GN', num_groups=32))
    ours = build(cfg)
    load(ours, to_ours(weights, ours).weights)
    boxes, _ = region_features()
    for one, other in zip(
            ours.roi_head.bbox_head(boxes),
            detectron2.box_head(weights, boxes)):
        close(one, other)


def test_boxes_are_decoded_as_in_detectron2():
    """Anchors, their order, and what the deltas mean."""
    cfg = config('detectron2')
    head = build(cfg).rpn_head
    shapes = [(3, 4)] + [(1, 1)] * 4
    priors = head.prior_generator.grid_priors(shapes, device='cpu')
    for level, shape in enumerate(shapes):
        size = (32, 64, 128, 256, 512)[level]
        wanted = detectron2.anchors(size, 4 * 2**level, shape)
        close(priors[level], wanted)
    deltas = torch.randn(len(priors[0]), 4)
    deltas[:5, 2:] = 6.  # more than the limit
    wanted = detectron2.apply_deltas(deltas, priors[0], (1, 1, 1, 1))
    close(head.bbox_coder.decode(priors[0], deltas), wanted)
    coder = TASK_UTILS.build(cfg.roi_head.bbox_head.bbox_coder)
    deltas = torch.randn(len(priors[0]), 4 * NUM_THINGS)
    found = coder.decode(priors[0], deltas).view(-1, NUM_THINGS, 4)
    for label in range(NUM_THINGS):
        wanted = detectron2.apply_deltas(deltas[:, 4 * label:4 * label + 4],
                                         priors[0], (10, 10, 5, 5))
        close(found[:, label], wanted)


def test_what_is_no_weight_in_detectron2_is_ignored_and_named():
    weights = detectron2.random_weights()
    extra = dict.fromkeys([
        'pixel_mean', 'pixel_std',
        'proposal_generator.anchor_generator.cell_anchors.0',
        'anchor_generator.cell_anchors.4',
        'backbone.bottom_up.res2.0.conv1.norm.num_batches_tracked'
    ], torch.zeros(3))
    weights.update(extra)
    weights['keypoint_head.conv.weight'] = torch.zeros(3)
    ours = build(config('detectron2'))
    result = convert_zoo_weights(weights, DETECTRON2, 'ours', shapes_of(ours))
    result.require_fit()
    assert result.ignored == list(extra)
    assert result.unmatched == ['keypoint_head.conv.weight']
    text = result.describe()
    assert 'ignored: pixel_mean\n' in text
    assert 'no counterpart, left out: keypoint_head.conv.weight' in text
    assert '   48 tensors of the backbone' not in text  # FPN is of the neck
    assert '   16 tensors of the neck' in text


@pytest.mark.parametrize('depth', [18, 50])
@torch.no_grad()
def test_every_head_computes_what_mmdet_does(depth):
    cfg = config('mmdet', depth)
    theirs, ours = build(mmdets(cfg)), build(cfg, seed=1)
    back = there_and_back(theirs.state_dict(), ours, MMDET)
    result = to_ours(theirs.state_dict(), ours, MMDET)
    ours.load_state_dict(result.weights, strict=True)
    feats, wanted = (m.extract_feat(image()) for m in (ours, theirs))
    for one, other in zip(feats, wanted):
        assert torch.equal(one, other)
    feats = tuple(feat / feat.std() for feat in wanted)
    for one, other in zip(ours.rpn_head(feats), theirs.rpn_head(feats)):
        assert all(map(torch.equal, one, other))
    boxes, masks = region_features()
    for one, other in zip(
            ours.roi_head.bbox_head(boxes), theirs.roi_head.bbox_head(boxes)):
        assert torch.equal(one, other)
    assert torch.equal(
        ours.roi_head.mask_head(masks), theirs.roi_head.mask_head(masks))
    close(ours.semantic_head(feats), theirs.semantic_head(feats)['seg_preds'])
    theirs.load_state_dict(back, strict=True)


def confident(model):
    with torch.no_grad():
        model.roi_head.bbox_head.fc_cls.weight *= 8
        model.roi_head.bbox_head.fc_cls.bias[-1] += 4
    return model


@torch.no_grad()
def test_the_panoptic_map_is_mmdets():
    """The zoo's one NMS for merge and AP, and ours of the merge."""
    cfg = config('mmdet')
    cfg.test_cfg.panoptic.update(stuff_area=64)
    zoo = get_zoo_config('panoptic-fpn_r50_fpn_1x_coco').model.test_cfg
    other = mmdets(cfg)
    other.test_cfg.update(rcnn=zoo.rcnn, panoptic=zoo.panoptic)
    other.test_cfg.panoptic.stuff_area_limit = 64
    theirs, ours = confident(build(other)), build(cfg, seed=1)
    ours.load_state_dict(
        to_ours(theirs.state_dict(), ours, MMDET).weights, strict=True)
    meta = dict(
        img_shape=(128, 160),
        ori_shape=(128, 160),
        pad_shape=(128, 160),
        batch_input_shape=(128, 160),
        scale_factor=(1., 1.))
    pixels = torch.randn(1, 3, 128, 160)
    maps = [
        model.predict(pixels, [DetDataSample(metainfo=dict(meta))])[0]
        for model in (theirs, ours)
    ]
    one, two = (m.pred_panoptic_seg.sem_seg for m in maps)
    assert torch.equal(one, two)
    assert (one >= 1000).any() and len(maps[1].pred_instances) > 3


def get_zoo_config(name):
    try:
        return get_config(f'mmdet::panoptic_fpn/{name}.py')
    except Exception as error:  # installed without its configs
        pytest.skip(f'mmdet has no configs here: {error}')


def convert(weights, layout=DETECTRON2, to='ours', depth=18):
    model = build(config(layout.name, depth))
    return convert_zoo_weights(weights, layout, to, shapes_of(model), 'x.pth')


def test_missing_and_differing_weights_are_named():
    weights = detectron2.random_weights(num_stuff=6)
    del weights['roi_heads.mask_head.deconv.bias']
    result = convert(weights)
    assert result.report.missing == ['roi_head.mask_head.upsample.bias']
    assert result.report.mismatched == {
        'semantic_head.conv_seg.weight': ((7, 64, 1, 1), (5, 64, 1, 1)),
        'semantic_head.conv_seg.bias': ((7, ), (5, ))
    }
    with pytest.raises(CheckpointError, match='7 rows in the file and 5'):
        result.require_fit()
    assert 'not in the file: roi_head.mask_head.upsample.bias' \
        in result.describe()
    assert 'shape differs: semantic_head.conv_seg.bias (7,) in the file' \
        in result.describe()


def test_weights_without_counterpart_are_named():
    weights = build(config('mmdet')).state_dict()
    weights['semantic_head.scale_heads.1.1.conv.weight'] = torch.ones(1)
    model = dict(shapes_of(build(config('mmdet'))))
    model['semantic_head.scale_heads.1.1.conv.weight'] = (1, )
    result = convert_zoo_weights(weights, MMDET, 'theirs', model, 'x.pth')
    with pytest.raises(CheckpointError, match=r'no counterpart.*heads\.1\.1'):
        result.require_fit()


@pytest.mark.parametrize('layout', [DETECTRON2, MMDET])
def test_settings_that_the_zoos_do_not_have(layout):
    assert network_faults(config(layout.name), layout) == []
    for key, value in dict(
            predict_things=True, aggregation='concat',
            convs_per_stage=2).items():
        cfg = config(layout.name)
        cfg.semantic_head[key] = value
        fault, = network_faults(cfg, layout)
        start = f'model.semantic_head.{key}={value!r}: the zoo has '
        assert fault.startswith(start)
    cfg = config(layout.name)
    cfg.rpn_head.anchor_generator.scales = [4, 8]
    faults = network_faults(cfg, layout)
    assert ['scale_major=False' in f for f in faults] == [True] * (
        layout is DETECTRON2)
    cfg.rpn_head.anchor_generator.scale_major = False
    assert network_faults(cfg, layout) == []


def test_templates():
    template = Template('a{i+2}.b.{2k}.{norm}.{leaf}')
    values = template.read('a5.b.4.gn.bias')
    assert values == dict(i=3, k=2, norm='gn', leaf='bias')
    assert template.write(values) == 'a5.b.4.gn.bias'
    for key in ('a1.b.4.gn.bias', 'a5.b.3.gn.bias', 'a5.b.4.ln.bias',
                'a5.b.4.gn.gamma', 'a5xb.4.gn.bias', 'xa5.b.4.gn.bias'):
        assert template.read(key) is None, key


@pytest.mark.parametrize('layout', [DETECTRON2, MMDET])
def test_configs_have_the_settings_of_their_zoo(layout):
    for depth in (50, 101):
        stem = f'panoptic-fpn_r{depth}_fpn_1x_coco'
        cfg = Config.fromfile(REPO_ROOT / 'configs' / 'coco' /
                              f'{stem}_{layout.name}-weights.py')
        assert differing_settings(cfg.model, layout) == []
        assert cfg.model.backbone.depth == depth
        assert cfg.model.backbone.init_cfg is None
        assert len(build_on_meta(cfg).backbone.layer3) == {
            50: 6,
            101: 23
        }[depth]
    base = Config.fromfile(REPO_ROOT / 'configs' / 'coco' /
                           'panoptic-fpn_r50_fpn_1x_coco.py')
    notes = differing_settings(base.model, layout)
    assert any('sampling_ratio is 2; the weights of' in note for note in notes)
    assert any('std' in note for note in notes) == (layout is MMDET)


def test_the_mmdet_config_has_the_settings_of_mmdets():
    theirs = get_zoo_config('panoptic-fpn_r50_fpn_1x_coco')
    ours = Config.fromfile(REPO_ROOT / 'configs' / 'coco' /
                           'panoptic-fpn_r50_fpn_1x_coco_mmdet-weights.py')
    keys = [
        'data_preprocessor.mean', 'data_preprocessor.std',
        'data_preprocessor.bgr_to_rgb', 'data_preprocessor.pad_size_divisor',
        'backbone.style', 'roi_head.bbox_roi_extractor.roi_layer',
        'roi_head.mask_roi_extractor.roi_layer', 'rpn_head.anchor_generator',
        'rpn_head.bbox_coder', 'roi_head.bbox_head.bbox_coder', 'test_cfg.rpn',
        'test_cfg.rcnn'
    ]
    for key in keys:
        one, two = ours.model, theirs.model
        for name in key.split('.'):
            one, two = one[name], two[name]
        assert one == two, key
    merge, zoo = ours.model.test_cfg.panoptic, theirs.model.test_cfg
    assert merge == dict(
        score_thr=zoo.rcnn.score_thr,
        overlap_thr=zoo.panoptic.mask_overlap,
        stuff_area=zoo.panoptic.stuff_area_limit,
        nms_iou_thr=zoo.rcnn.nms.iou_threshold)


def test_classes_of_coco():
    """Ids of a few classes, as COCO lists them."""
    space = coco_label_space()
    assert (space.num_things, space.num_stuff) == (80, 53)
    known = dict(person=1, tv=72, book=84, toothbrush=90, banner=92, road=149)
    known.update({'wall-brick': 171, 'tree-merged': 184, 'rug-merged': 200})
    ids = dict(zip(space.names, space.category_ids))
    assert {name: ids[name] for name in known} == known
    assert list(space.category_ids) == sorted(ids.values())
    assert space.palette[0] == (220, 20, 60)
