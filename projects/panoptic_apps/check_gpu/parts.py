"""Named parts of a training step and of a prediction, ours and mmdet's.

The models' own methods run, unchanged. A part ends where one of them returns,
and ``note(name)`` is called there: a clock, a profiler or a counter then looks
at what was done since the last call.
"""
import copy
import os.path as osp
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from types import SimpleNamespace
from typing import Any, Callable, Iterator, Optional, Sequence, Tuple
from unittest import mock

import mmdet
import torch
from mmdet.registry import EVALUATOR, MODELS
from mmengine.config import Config
from mmengine.evaluator import Evaluator
from mmengine.logging import MessageHub, MMLogger
from mmengine.optim import build_optim_wrapper
from mmengine.registry import HOOKS
from torch import nn

from mmengine_exact import apply_memory_format
from panoptic_fpn.config_files import find_config

from .scenes import Case, blobs, evaluation_batch, training_batch

#: Called after each part, with its name.
Note = Callable[[str], None]
#: Owner, its method, the part that ends where this returns.
Ends = Sequence[Tuple[Any, str, str]]
SIDES = ('ours', 'mmdet')
HOOKS_PART = 'hooks that look at losses'

_THEIR_CONFIG = osp.join(
    osp.dirname(mmdet.__file__), '.mim', 'configs', 'panoptic_fpn',
    'panoptic-fpn_r50_fpn_1x_coco.py')


@dataclass(frozen=True)
class Work:
    """Something to measure, such as a 'training step' of a data set."""

    name: str
    case: str
    #: the last part that both sides have
    last: str
    #: makes the inputs of a run, which may change them
    inputs: Callable[[], Any]
    run: Callable[[Any, Note], Any]


def config_of(case: Case, side: str) -> Config:
    """Config of a side with the classes of the case, without pretrained
    weights."""
    cfg = Config.fromfile(
        find_config(case.config) if side == 'ours' else _THEIR_CONFIG)
    model = cfg.model
    # features of a size that float16 holds, as trained ones are
    model.backbone.update(init_cfg=None, zero_init_residual=True)
    model.train_cfg.rcnn.sampler.num = case.rois
    model.test_cfg.rpn.max_per_img = case.proposals
    for head in (model.semantic_head, model.panoptic_fusion_head):
        head.num_things_classes = case.space.num_things
        head.num_stuff_classes = case.space.num_stuff
    for head in (model.roi_head.bbox_head, model.roi_head.mask_head):
        head.num_classes = case.space.num_things
    return cfg


def build_model(cfg: Config) -> nn.Module:
    """A model with weights drawn from a seed, laid out as its config says."""
    torch.manual_seed(0)
    model = MODELS.build(cfg.model)
    model.init_weights()
    if hasattr(model, 'set_memory_format'):
        apply_memory_format(model, cfg)
    return model


@contextmanager
def noted(ends: Ends, note: Note) -> Iterator[None]:
    """Call ``note`` wherever one of the methods returns."""

    def then(method: Callable, part: str, *args: Any, **kwargs: Any) -> Any:
        result = method(*args, **kwargs)
        note(part)
        return result

    with ExitStack() as stack:
        for owner, name, part in ends:
            method = partial(then, getattr(owner, name), part)
            stack.enter_context(mock.patch.object(owner, name, method))
        yield


def training_step(case: Case,
                  side: str,
                  device: torch.device,
                  cfg: Optional[Config] = None) -> Work:
    """An iteration of the training loop without its loader: losses, gradients,
    optimizer and the hooks that look at losses.

    Args:
        cfg (Config, optional): A changed config of :func:`config_of`.
    """
    cfg = cfg or config_of(case, side)
    # many steps on the same images
    cfg.optim_wrapper.optimizer.lr = 1e-5
    if side == 'ours':  # as its runner does
        cfg.optim_wrapper.constructor = 'GroupingOptimWrapperConstructor'
    model = build_model(cfg).to(device).train()
    wrapper = build_optim_wrapper(model, cfg.optim_wrapper)
    batch = training_batch(case, side)
    ends = [(model.data_preprocessor, 'forward', 'preprocess'),
            (model, 'extract_feat', 'backbone and FPN'),
            (model.roi_head, 'loss', 'region losses'),
            (model.semantic_head, 'loss', 'semantic loss'),
            (model, 'parse_losses', 'parse'),
            (wrapper, 'backward', 'backward'),
            (wrapper, 'update_params', 'optimizer')]
    hooks = [
        HOOKS.build(dict(type=name))
        for name in (['RuntimeInfoHook'] if side == 'mmdet' else
                     ['DelayedRuntimeInfoHook', 'NonFiniteLossHook'])
    ]
    # what these hooks ask a runner for
    runner = SimpleNamespace(
        model=model,
        optim_wrapper=wrapper,
        iter=0,
        max_iters=1000,
        work_dir='',
        logger=MMLogger.get_current_instance(),
        message_hub=MessageHub.get_instance('check_gpu'))

    def run(batch: dict, note: Note) -> dict:
        with noted(ends, note):
            losses = model.train_step(batch, wrapper)
        for hook in hooks:
            hook.after_train_iter(runner, runner.iter, batch, losses)
        note(HOOKS_PART)
        runner.iter += 1
        return losses

    return Work('training step', case.name, HOOKS_PART,
                partial(copy.deepcopy, batch), run)


def prediction(case: Case, side: str, device: torch.device) -> Work:
    """An image in evaluation: from the loader's batch to its panoptic map,
    for 'ours' with all of the config's metrics.

    Weights are drawn, so detections are set after the box head: as many as a
    trained model finds go on. mmdet finds those alone that the merge
    accepts; its config leaves out the others before.
    """
    cfg = config_of(case, side)
    model = build_model(cfg).to(device).eval()
    roi_head = model.roi_head
    detect = _with_detections(
        roi_head, case, case.detections if side == 'ours' else case.confident)
    ends = [(model.data_preprocessor, 'forward', 'preprocess'),
            (model, 'extract_feat', 'backbone and FPN'),
            (model.rpn_head, 'predict', 'RPN'),
            (roi_head, 'predict_bbox', 'boxes'),
            (roi_head, 'predict', 'masks')]
    if side == 'ours':
        evaluator = case_evaluator(case, cfg)
        ends += [(model, 'predict_semantic', 'semantic map'),
                 (model, 'add_predictions', 'merge')]
        ends += [(metric, 'process', type(metric).__name__)
                 for metric in evaluator.metrics]
    else:
        ends += [(model.semantic_head, 'predict', 'semantic map'),
                 (model, 'add_pred_to_datasample', 'merge')]

    @torch.no_grad()
    def run(batch: dict, note: Note) -> list:
        with mock.patch.object(roi_head, 'predict_bbox',
                               detect), noted(ends, note):
            samples = model.val_step(batch)
            if side == 'ours':
                evaluator.process(data_samples=samples, data_batch=batch)
        return samples

    return Work('prediction', case.name, 'merge',
                partial(copy.deepcopy, evaluation_batch(case, side)), run)


def _with_detections(roi_head: nn.Module, case: Case, number: int) -> Callable:
    """``predict_bbox`` of a head whose weights are drawn: what it finds is
    replaced by the most confident ``number`` of drawn instances."""
    weight = roi_head.bbox_head.fc_cls.weight
    weight.data.mul_(300)  # so that NMS has work
    drawn = blobs(case.detections, case.image, case.space.num_things,
                  case.confident)
    drawn = drawn[drawn.scores.argsort(descending=True)[:number]]
    del drawn.masks
    drawn = drawn.to(weight.device)
    detect = roi_head.predict_bbox

    def with_detections(*args: Any, **kwargs: Any) -> list:
        detect(*args, **kwargs)
        found = drawn.clone()
        found.bboxes = drawn.bboxes.clone()  # rescaled in place
        return [found]

    return with_detections


def case_evaluator(case: Case, cfg: Config) -> Evaluator:
    """The evaluator of our config, without its files."""
    for metric in cfg.val_evaluator.metrics:
        metric.pop('ann_file', None)
    built = EVALUATOR.build(cfg.val_evaluator)
    built.dataset_meta = case.space.metainfo()
    return built
