"""Oracle: Panoptic FPN as Detectron2 computes it, by name from its weights.

Written from Detectron2's documented layers, with torch's functions alone.
``weights`` are a state dict with Detectron2's names; as many blocks, levels
and layers are run as it has.

backbone        image (N, 3, H, W) -> p2..p6, stride in the first convolution
rpn             level -> logits (N, A, h, w), deltas (N, 4A, h, w)
box_head        features (n, C, 7, 7) -> scores (n, T + 1), deltas (n, 4T)
mask_head       features (n, C, 14, 14) -> logits (n, T, 28, 28)
semantic_head   p2..p5 -> logits (N, S + 1, H/4, W/4), channel 0 is 'things'
"""
import itertools
import math

import torch
import torch.nn.functional as F

GROUPS = 32


def conv(weights, name, x, **kwargs):
    """Convolution and what normalization there is."""
    x = F.conv2d(x, weights[f'{name}.weight'], weights.get(f'{name}.bias'),
                 **kwargs)
    if f'{name}.norm.running_mean' in weights:
        mean, var, scale, shift = (
            weights[f'{name}.norm.{part}'].view(-1, 1, 1)
            for part in ('running_mean', 'running_var', 'weight', 'bias'))
        return (x - mean) / torch.sqrt(var + 1e-5) * scale + shift
    if f'{name}.norm.weight' in weights:
        return F.group_norm(x, GROUPS, weights[f'{name}.norm.weight'],
                            weights[f'{name}.norm.bias'])
    return x


def count(weights, pattern):
    """How many of ``pattern.format(0)``, ``pattern.format(1)``, ..."""
    return next(i for i in itertools.count()
                if pattern.format(i) not in weights)


def block(weights, name, x, stride):
    """Residual block: bottleneck, or basic where there is no third."""
    if f'{name}.conv3.weight' in weights:
        out = F.relu(conv(weights, f'{name}.conv1', x, stride=stride))
        out = F.relu(conv(weights, f'{name}.conv2', out, padding=1))
        out = conv(weights, f'{name}.conv3', out)
    else:
        out = F.relu(
            conv(weights, f'{name}.conv1', x, stride=stride, padding=1))
        out = conv(weights, f'{name}.conv2', out, padding=1)
    if f'{name}.shortcut.weight' in weights:
        x = conv(weights, f'{name}.shortcut', x, stride=stride)
    return F.relu(out + x)


def backbone(weights, x):
    top = 'backbone.bottom_up.'
    x = F.relu(conv(weights, top + 'stem.conv1', x, stride=2, padding=3))
    x = F.max_pool2d(x, 3, 2, 1)
    stages = []
    for stage in range(2, 6):
        name = f'{top}res{stage}.'
        for i in range(count(weights, name + '{}.conv1.weight')):
            stride = 2 if stage > 2 and i == 0 else 1
            x = block(weights, f'{name}{i}', x, stride)
        stages.append(x)
    inner, levels = None, []
    for stage in (5, 4, 3, 2):
        lateral = conv(weights, f'backbone.fpn_lateral{stage}',
                       stages[stage - 2])
        if inner is not None:
            lateral = lateral + F.interpolate(
                inner, scale_factor=2, mode='nearest')
        inner = lateral
        levels.insert(
            0, conv(weights, f'backbone.fpn_output{stage}', inner, padding=1))
    return [*levels, levels[-1][:, :, ::2, ::2]]


def rpn(weights, level):
    top = 'proposal_generator.rpn_head.'
    x = F.relu(conv(weights, top + 'conv', level, padding=1))
    logits = conv(weights, top + 'objectness_logits', x)
    return logits, conv(weights, top + 'anchor_deltas', x)


def linear(weights, name, x):
    return x @ weights[f'{name}.weight'].T + weights[f'{name}.bias']


def box_head(weights, x):
    top = 'roi_heads.box_'
    for i in itertools.count(1):
        if f'{top}head.conv{i}.weight' not in weights:
            break
        x = F.relu(conv(weights, f'{top}head.conv{i}', x, padding=1))
    x = x.flatten(1)
    for i in itertools.count(1):
        if f'{top}head.fc{i}.weight' not in weights:
            break
        x = F.relu(linear(weights, f'{top}head.fc{i}', x))
    scores = linear(weights, top + 'predictor.cls_score', x)
    return scores, linear(weights, top + 'predictor.bbox_pred', x)


def mask_head(weights, x):
    top = 'roi_heads.mask_head.'
    for i in itertools.count(1):
        if f'{top}mask_fcn{i}.weight' not in weights:
            break
        x = F.relu(conv(weights, f'{top}mask_fcn{i}', x, padding=1))
    x = F.relu(
        F.conv_transpose2d(
            x,
            weights[top + 'deconv.weight'],
            weights[top + 'deconv.bias'],
            stride=2))
    return conv(weights, top + 'predictor', x)


def semantic_head(weights, levels):
    total = 0
    for stage, x in enumerate(levels[:4], start=2):
        # convolutions at 0, 2, 4: those between are the upsampling
        for k in range(max(1, stage - 2)):
            name = f'sem_seg_head.p{stage}.{2 * k}'
            x = F.relu(conv(weights, name, x, padding=1))
            if stage > 2:
                x = F.interpolate(
                    x, scale_factor=2, mode='bilinear', align_corners=False)
        total = total + x
    return conv(weights, 'sem_seg_head.predictor', total)


def anchors(size, stride, shape, ratios=(0.5, 1.0, 2.0)):
    """Anchors (h * w * A, 4) of a level: all of a place together, places by
    rows; ratio is h / w, centres at multiples of the stride."""
    boxes = []
    for y, x in itertools.product(range(shape[0]), range(shape[1])):
        for ratio in ratios:
            w = math.sqrt(size * size / ratio)
            h = ratio * w
            boxes.append([
                x * stride - w / 2, y * stride - h / 2, x * stride + w / 2,
                y * stride + h / 2
            ])
    return torch.tensor(boxes)


def apply_deltas(deltas, boxes, divisors):
    """Boxes (n, 4) moved by (dx, dy, dw, dh) (n, 4) / divisors."""
    dx, dy, dw, dh = (deltas / deltas.new_tensor(divisors)).unbind(1)
    w, h = boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1]
    x, y = boxes[:, 0] + w / 2 + dx * w, boxes[:, 1] + h / 2 + dy * h
    limit = math.log(1000 / 16)
    w, h = w * dw.clamp(max=limit).exp(), h * dh.clamp(max=limit).exp()
    return torch.stack([x - w / 2, y - h / 2, x + w / 2, y + h / 2], 1)


def random_weights(
        blocks=(2, 2, 2, 2),
        bottleneck=False,
        base=8,
        channels=32,
        width=64,
        fc=24,
        convs=0,
        mask_convs=2,
        num_things=3,
        num_stuff=4,
        seed=0):
    """Weights with the names that Detectron2 gives such a model.

    Args:
        blocks (Sequence[int]): Residual blocks of res2..res5.
        bottleneck (bool): Three convolutions a block instead of two.
        base (int): Channels of the stem and of res2's 3x3.
        channels (int): Of FPN.
        width (int): Of the semantic head.
        fc (int): Hidden features of the box head.
        convs (int): Convolutions with group norm before the box head's fc.
        mask_convs (int): Convolutions of the mask head.
        num_things, num_stuff (int): T and S.
        seed (int): Of the numbers.
    """
    generator = torch.Generator().manual_seed(seed)
    weights = {}

    def normal(*shape, scale=1.0):
        return torch.randn(*shape, generator=generator) * scale

    def layer(name, shape, norm=None):
        fan = math.prod(shape[1:])
        weights[f'{name}.weight'] = normal(*shape, scale=fan**-0.5)
        if norm is None:
            weights[f'{name}.bias'] = normal(shape[0], scale=0.1)
            return
        weights[f'{name}.norm.weight'] = 1 + normal(shape[0], scale=0.1)
        weights[f'{name}.norm.bias'] = normal(shape[0], scale=0.1)
        if norm == 'FrozenBN':
            weights[f'{name}.norm.running_mean'] = normal(shape[0], scale=0.1)
            weights[f'{name}.norm.running_var'] = 0.5 + torch.rand(
                shape[0], generator=generator)

    top = 'backbone.bottom_up.'
    layer(top + 'stem.conv1', (base, 3, 7, 7), 'FrozenBN')
    inputs, outputs = base, []
    for stage, number in enumerate(blocks):
        inner = base * 2**stage
        out = inner * 4 if bottleneck else inner
        for i in range(number):
            name = f'{top}res{stage + 2}.{i}.'
            if i == 0 and inputs != out:
                layer(name + 'shortcut', (out, inputs, 1, 1), 'FrozenBN')
            shapes = [(out, inputs, 3, 3), (out, out, 3, 3)]
            if bottleneck:
                shapes = [(inner, inputs, 1, 1), (inner, inner, 3, 3),
                          (out, inner, 1, 1)]
            for k, shape in enumerate(shapes, 1):
                layer(f'{name}conv{k}', shape, 'FrozenBN')
            inputs = out
        outputs.append(out)
    for stage, out in enumerate(outputs, 2):
        layer(f'backbone.fpn_lateral{stage}', (channels, out, 1, 1))
        layer(f'backbone.fpn_output{stage}', (channels, channels, 3, 3))
    top = 'proposal_generator.rpn_head.'
    layer(top + 'conv', (channels, channels, 3, 3))
    layer(top + 'objectness_logits', (3, channels, 1, 1))
    layer(top + 'anchor_deltas', (12, channels, 1, 1))
    for k in range(1, convs + 1):
        layer(f'roi_heads.box_head.conv{k}', (channels, channels, 3, 3), 'GN')
    layer('roi_heads.box_head.fc1', (fc, channels * 49))
    if not convs:
        layer('roi_heads.box_head.fc2', (fc, fc))
    layer('roi_heads.box_predictor.cls_score', (num_things + 1, fc))
    layer('roi_heads.box_predictor.bbox_pred', (4 * num_things, fc))
    for k in range(1, mask_convs + 1):
        layer(f'roi_heads.mask_head.mask_fcn{k}', (channels, channels, 3, 3))
    layer('roi_heads.mask_head.deconv', (channels, channels, 2, 2))
    layer('roi_heads.mask_head.predictor', (num_things, channels, 1, 1))
    for stage in range(2, 6):
        for k in range(max(1, stage - 2)):
            layer(f'sem_seg_head.p{stage}.{2 * k}',
                  (width, width if k else channels, 3, 3), 'GN')
    layer('sem_seg_head.predictor', (num_stuff + 1, width, 1, 1))
    return weights
