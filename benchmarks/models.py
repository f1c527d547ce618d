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
import os
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Callable, Dict, List

import torch
from mmcv.transforms import Compose
from mmdet.registry import TRANSFORMS
from mmengine.config import Config, ConfigDict
from mmengine.dataset import pseudo_collate
from mmengine.registry import init_default_scope
from torch import Tensor, nn

import panoptic_fpn  # noqa: F401
from benchmarks import inputs
from benchmarks.harness import ROOT, quiet
from panoptic_apps.check_gpu.parts import build_model, config_of
from panoptic_apps.check_gpu.scenes import COCO

CONFIG = ROOT / 'configs' / 'coco' / 'panoptic-fpn_r50_fpn_1x_coco.py'
KEPT = ROOT / 'work_dirs' / 'benchmark'
NUM_THINGS, NUM_STUFF = COCO.space.num_things, COCO.space.num_stuff
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
    with TemporaryDirectory() as folder:
        if named:
            found = sample_photographs(Path(named))[:number]
        else:
            found = [
                _drawn(seed + i, Path(folder, str(i))) for i in range(number)
            ]
        return pseudo_collate([pipeline(copy.deepcopy(one)) for one in found])


def _drawn(seed: int, folder: Path) -> dict:
    """A drawn photograph with COCO's numbers of classes."""
    folder.mkdir()
    information, _ = inputs.photograph(seed).write(folder, '.jpg')
    for segment in information['segments_info']:
        if not segment['is_thing']:
            segment['category'] += NUM_THINGS - inputs.NUM_THINGS
    return dict(information, label_space=COCO.space)


def build(kind: str) -> nn.Module:
    """Our model, or mmdet's ``PanopticFPN`` of the same settings."""
    init_default_scope('mmdet')
    cfg = config_of(COCO, 'ours')
    if kind == 'theirs':
        cfg = _theirs(cfg.model)
    with quiet():
        return build_model(cfg)


def _theirs(ours: ConfigDict) -> Config:
    """mmdet's config with the settings of ours."""
    cfg = config_of(COCO, 'mmdet')
    theirs = cfg.model
    theirs.backbone = ours.backbone
    for key in ('mean', 'std', 'bgr_to_rgb'):
        theirs.data_preprocessor[key] = ours.data_preprocessor[key]
    for name in ('bbox_roi_extractor', 'mask_roi_extractor'):
        theirs.roi_head[name].roi_layer = ours.roi_head[name].roi_layer
    theirs.rpn_head.loss_bbox = ours.rpn_head.loss_bbox
    theirs.roi_head.bbox_head.loss_bbox = ours.roi_head.bbox_head.loss_bbox
    theirs.train_cfg.rpn_proposal = ours.train_cfg.rpn_proposal
    theirs.train_cfg.rcnn.assigner = dict(
        ours.train_cfg.rcnn.assigner, type='MaxIoUAssigner')
    theirs.test_cfg.rcnn = ours.test_cfg.rcnn
    return cfg


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


def _renamed(state: Dict[str, Tensor], theirs: nn.Module) -> Dict[str, Tensor]:
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


def _fit_rpn(head: nn.Module, feats: tuple, samples: list, steps: int) -> None:
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
    _minimize([head.conv_seg], steps,
              lambda: _total(head.loss(feats, samples)))
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
            mask.loss_and_target(mask(regions), sampled, truth,
                                 roi.train_cfg)['loss_mask'])

    _minimize([box.fc_cls, box.fc_reg], steps, box_loss)
    # all of its layers: from random ones masks have no sharp borders
    _minimize([mask], steps, mask_loss, lr=3e-4)


def _rois(boxes: List[Tensor]) -> Tensor:
    return torch.cat([
        torch.cat([torch.full((len(b), 1), float(i)), b], 1)
        for i, b in enumerate(boxes)
    ])
