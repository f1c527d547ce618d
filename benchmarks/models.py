"""A Panoptic FPN with ResNet-50 and mmdet's with the same weights, and images
for both.

Untrained weights predict nothing, and trained ones cannot be had offline.
These are drawn from a seed, as mmdet initializes them; BatchNorm's statistics,
the mask head and the last layer of RPN, box head and semantic branch are then
fitted to the benchmark's own image: they see the features of a random network
and learn to name what is on it. Layers, shapes and amount of work are those of
any trained model; how far scores are apart is not known to
be. Fitted once (two minutes) and kept in
``work_dirs/benchmark``.
"""
import copy
import hashlib
import json
import os
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Callable, Dict, List

import torch
from mmcv.transforms import Compose
from mmdet.registry import MODELS, TRANSFORMS
from mmengine.config import Config
from mmengine.registry import init_default_scope
from torch import Tensor, nn

import panoptic_fpn  # noqa: F401
from benchmarks import inputs
from benchmarks.harness import ROOT, quiet
from mmengine_exact import apply_memory_format
from panoptic_fpn.labels import LabelSpace

CONFIG = ROOT / 'configs' / 'coco' / 'panoptic-fpn_r50_fpn_1x_coco.py'
KEPT = ROOT / 'work_dirs' / 'benchmark'
NUM_THINGS, NUM_STUFF = 80, 53
RESIZE = dict(scale=(1333, 800), keep_ratio=True)
LOAD = dict(
    ours=[
        dict(type='LoadPanopticImage'),
        dict(type='LoadPanopticMap'),
        dict(type='PanopticResize', **RESIZE),
        dict(type='DerivePanopticTargets'),
        dict(type='PackPanopticInputs')
    ],
    theirs=[
        dict(type='LoadImageFromFile'),
        dict(type='LoadPanopticAnnotations'),
        dict(type='Resize', **RESIZE),
        dict(type='PackDetInputs')
    ])


def photographs(seed: int, kind: str, number: int = 2) -> dict:
    """A batch of images of 800 pixels with annotation, as a loader gives it.

    Drawn, or of ``SAMPLE_PHOTOGRAPHS`` (see ``input_pipeline.py``).

    Args:
        seed (int): Of the images.
        kind (str): 'ours' or 'theirs', whose pipeline.
        number (int): Of images.
    """
    from benchmarks.input_pipeline import sample_photographs
    init_default_scope('mmdet')
    pipeline = Compose([TRANSFORMS.build(dict(t)) for t in LOAD[kind]])
    named = os.environ.get('SAMPLE_PHOTOGRAPHS')
    if named:
        found = sample_photographs(Path(named))[:number]
        packed = [pipeline(copy.deepcopy(one)) for one in found]
    else:
        packed = []
        for i in range(number):
            with TemporaryDirectory() as folder:
                scene = inputs.photograph(seed + i)
                one, _ = scene.write(Path(folder), '.jpg')
                packed.append(pipeline(_as_coco(one)))
    return dict(
        inputs=[one['inputs'] for one in packed],
        data_samples=[one['data_samples'] for one in packed])


def _as_coco(information: dict) -> dict:
    """With COCO's numbers of classes."""
    shift = NUM_THINGS - inputs.NUM_THINGS
    for segment in information['segments_info']:
        if not segment['is_thing']:
            segment['category'] += shift
    information['label_space'] = LabelSpace.from_coco([
        dict(id=i, name=f'class {i}', isthing=int(i < NUM_THINGS))
        for i in range(NUM_THINGS + NUM_STUFF)
    ])
    return information


def build(kind: str) -> nn.Module:
    """Our model, or mmdet's ``PanopticFPN`` of the same settings."""
    init_default_scope('mmdet')
    settings = Config.fromfile(CONFIG)
    cfg = settings.model
    cfg.backbone.init_cfg = None
    if kind == 'theirs':
        _make_theirs(cfg)
    with quiet():
        torch.manual_seed(0)
        model = MODELS.build(cfg)
        model.init_weights()
    if kind == 'ours':
        apply_memory_format(model, settings)
    return model


def _make_theirs(cfg: Config) -> None:
    cfg.type = 'PanopticFPN'
    for key in ('loss_weights', 'semantic_head', 'panoptic_fusion_head'):
        cfg.pop(key)
    cfg.roi_head.mask_head.type = 'FCNMaskHead'
    for part in ('bbox', 'mask'):
        cfg.roi_head[f'{part}_roi_extractor'].type = 'SingleRoIExtractor'
    classes = dict(
        num_things_classes=NUM_THINGS, num_stuff_classes=NUM_STUFF)
    cfg.semantic_head = dict(
        type='PanopticFPNHead',
        in_channels=256,
        inner_channels=128,
        start_level=0,
        end_level=4,
        norm_cfg=dict(type='GN', num_groups=32, requires_grad=True),
        conv_cfg=None,
        loss_seg=dict(
            type='CrossEntropyLoss', ignore_index=255, loss_weight=0.5),
        **classes)
    cfg.panoptic_fusion_head = dict(type='HeuristicFusionHead', **classes)
    cfg.test_cfg.panoptic = dict(mask_overlap=0.5, stuff_area_limit=4096)
    cfg.data_preprocessor.update(
        type='DetDataPreprocessor', seg_pad_value=255, mask_pad_value=0)


def load(kind: str, seed: int) -> nn.Module:
    """A model with the fitted weights, in evaluation mode."""
    path = KEPT / f'r50_{_fingerprint(seed)}.pth'
    if not path.is_file():
        fit(seed, path)
    state = torch.load(path, weights_only=True)
    model = build(kind)
    if kind == 'theirs':
        state = _renamed(state, model)
    model.load_state_dict(state)
    return model.eval()


def _fingerprint(seed: int) -> str:
    """Of all that the weights depend on."""
    named = os.environ.get('SAMPLE_PHOTOGRAPHS')
    recipe = [
        Path(__file__).read_text(),
        Path(inputs.__file__).read_text(),
        Config.fromfile(CONFIG).pretty_text,
        str(Path(named).resolve()) if named else 'drawn',
        str(seed)
    ]
    return hashlib.sha256('\n'.join(recipe).encode()).hexdigest()[:12]


def _renamed(state: Dict[str, Tensor],
             theirs: nn.Module) -> Dict[str, Tensor]:
    """Our weights under mmdet's names: the semantic heads list the same
    layers in the same order."""
    ours = [key for key in state if key.startswith('semantic_head.')]
    # mmdet's classifier is built last, ours first
    ours.sort(key=lambda key: 'conv_seg' in key)
    names = [
        f'semantic_head.{key}' for key in theirs.semantic_head.state_dict()
    ]
    names.sort(key=lambda key: 'conv_logits' in key)
    renamed = dict(state)
    for key, name in zip(ours, names, strict=True):
        renamed[name] = renamed.pop(key)
    return renamed


def fit(seed: int, path: Path, steps: int = 60) -> None:
    """Fit statistics and last layers to the images, and keep the weights."""
    print('fitting the weights of the benchmark ...', flush=True)
    model = build('ours')
    model.train()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 1.0
            module.train()
    data = model.data_preprocessor(photographs(seed, 'ours', 1), True)
    with torch.no_grad():
        model.extract_feat(data['inputs'])
    model.eval()
    with torch.no_grad():
        feats = model.extract_feat(data['inputs'])
    samples = data['data_samples']
    _fit_rpn(model.rpn_head, feats, samples, steps)
    _fit_semantic(model.semantic_head, feats, samples, steps)
    _fit_boxes(model, feats, samples, steps)
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(model.state_dict(), path)


def _minimize(layers: List[nn.Module],
              steps: int,
              loss: Callable[[], Tensor],
              lr: float = 3e-3) -> None:
    parameters = [p for layer in layers for p in layer.parameters()]
    optimizer = torch.optim.Adam(parameters, lr=lr)
    for _ in range(steps):
        value = loss()
        optimizer.zero_grad()
        value.backward()
        optimizer.step()


def _total(losses: dict) -> Tensor:
    return sum(
        sum(v) if isinstance(v, list) else v for k, v in losses.items()
        if 'loss' in k)


def _fit_rpn(head: nn.Module, feats: tuple, samples: list,
             steps: int) -> None:
    with torch.no_grad():
        hidden = [torch.relu(head.rpn_conv(feat)) for feat in feats]
    truth = [copy.copy(sample.gt_instances) for sample in samples]
    for instances in truth:
        instances.labels = torch.zeros_like(instances.labels)
    metas = [sample.metainfo for sample in samples]

    def loss():
        return _total(
            head.loss_by_feat([head.rpn_cls(x) for x in hidden],
                              [head.rpn_reg(x) for x in hidden], truth, metas))

    _minimize([head.rpn_cls, head.rpn_reg], steps, loss)


def _fit_semantic(head: nn.Module, feats: tuple, samples: list,
                  steps: int) -> None:
    found = []
    hook = head.conv_seg.register_forward_pre_hook(
        lambda module, args: found.append(args[0]))
    with torch.no_grad():
        head(feats)
    hook.remove()
    # the head on what its classifier sees
    forward, head.forward = head.forward, lambda _: head.cls_seg(found[0])
    _minimize([head.conv_seg], steps, lambda: _total(head.loss(feats, samples)
                                                     ))
    head.forward = forward


def _fit_boxes(model: nn.Module, feats: tuple, samples: list,
               steps: int) -> None:
    roi, box, mask = (model.roi_head, model.roi_head.bbox_head,
                      model.roi_head.mask_head)
    with torch.no_grad():
        proposals = model.rpn_head.predict(feats, samples, rescale=False)
        sampled = []
        for sample, one in zip(samples, proposals):
            one.priors = one.pop('bboxes')
            assigned = roi.bbox_assigner.assign(one, sample.gt_instances)
            sampled.append(
                roi.bbox_sampler.sample(assigned, one, sample.gt_instances))
        rois = _rois([s.priors for s in sampled])
        hidden = box.shared_fcs[0](
            roi.bbox_roi_extractor(feats[:4], rois).flatten(1))
        hidden = torch.relu(box.shared_fcs[1](torch.relu(hidden)))
        positive = _rois([s.pos_priors for s in sampled])
        regions = roi.mask_roi_extractor(feats[:4], positive)
    truth = [sample.gt_instances for sample in samples]

    def box_loss():
        return _total(
            box.loss_and_target(
                box.fc_cls(hidden), box.fc_reg(hidden), rois, sampled,
                roi.train_cfg)['loss_bbox'])

    def mask_loss():
        return _total(
            mask.loss_and_target(
                mask(regions), sampled, truth, roi.train_cfg)['loss_mask'])

    _minimize([box.fc_cls, box.fc_reg], steps, box_loss)
    # all of its layers: from random ones masks have no sharp borders
    _minimize([mask], steps, mask_loss, lr=3e-4)


def _rois(boxes: List[Tensor]) -> Tensor:
    return torch.cat([
        torch.cat([torch.full((len(b), 1), float(i)), b], 1)
        for i, b in enumerate(boxes)
    ])


def describe(sample) -> str:
    """Detections and segments of a result, in words."""
    scores = sample.pred_instances.scores
    return json.dumps(
        dict(
            detections=len(scores),
            confident=int((scores >= 0.5).sum()),
            segments=len(sample.pred_panoptic_seg.sem_seg.unique())))
