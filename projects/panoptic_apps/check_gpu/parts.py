"""Named parts of a training step and of a prediction, ours and mmdet's.

The models' own methods run, unchanged. A part ends where one of them returns,
and ``note(name)`` is called there: a clock, a profiler or a counter then looks
at what was done since the last call.
"""
import copy
import logging
import os.path as osp
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from types import SimpleNamespace
from typing import Any, Callable, Iterator, List, Optional, Sequence, Tuple

import mmdet
import torch
from mmdet.registry import EVALUATOR, MODELS
from mmengine.config import Config
from mmengine.hooks import Hook, RuntimeInfoHook
from mmengine.logging import MessageHub, MMLogger
from mmengine.optim import OptimWrapper, build_optim_wrapper
from mmengine.registry import HOOKS
from mmengine.structures import InstanceData
from torch import nn

from mmengine_exact import apply_memory_format
from panoptic_fpn.config_files import find_config

from .scenes import Case, blobs, evaluation_batch, training_batch

#: Called after each part, with its name.
Note = Callable[[str], None]
#: Brings a module, a tensor or a data sample to the device.
ToDevice = Callable[[Any], Any]
#: Owner, its method, the part that ends where this returns.
Ends = Sequence[Tuple[Any, str, str]]
SIDES = ('ours', 'mmdet')
HOOKS_PART = 'hooks that look at losses'

_THEIR_CONFIG = osp.join(
    osp.dirname(mmdet.__file__), '.mim', 'configs', 'panoptic_fpn',
    'panoptic-fpn_r50_fpn_1x_coco.py')


@dataclass(frozen=True)
class Work:
    """Something to measure.

    Args:
        name (str): What it is, such as 'training step'.
        case (str): The data set.
        side (str): 'ours' or 'mmdet'.
        inputs (Callable): Makes the inputs of a run, which may change them.
        last (str): The last part that both sides have.
        run (Callable): ``run(inputs, note)`` runs once.
    """
    name: str
    case: str
    side: str
    last: str
    inputs: Callable[[], Any]
    run: Callable[[Any, Note], Any]


def config_of(case: Case, side: str) -> Config:
    """Config of a side, without pretrained weights; mmdet's, which is COCO's,
    with the classes of the case."""
    cfg = Config.fromfile(
        find_config(case.config) if side == 'ours' else _THEIR_CONFIG)
    model = cfg.model
    model.backbone.init_cfg = None
    model.train_cfg.rcnn.sampler.num = case.rois
    model.test_cfg.rpn.max_per_img = case.proposals
    if side == 'mmdet':
        things = case.space.num_things
        for head in (model.semantic_head, model.panoptic_fusion_head):
            head.update(
                num_things_classes=things,
                num_stuff_classes=case.space.num_stuff)
        for head in (model.roi_head.bbox_head, model.roi_head.mask_head):
            head.num_classes = things
    return cfg


def build_model(cfg: Config) -> nn.Module:
    """A model with weights drawn from a seed, laid out as its config says."""
    torch.manual_seed(0)
    with _quiet():
        model = MODELS.build(cfg.model)
        model.init_weights()
    if hasattr(model, 'set_memory_format'):
        apply_memory_format(model, cfg)
    return model


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the lines that MMEngine logs of each weight."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)


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
            stack.enter_context(_replaced(owner, name, method))
        yield


@contextmanager
def _replaced(owner: Any, name: str, method: Callable) -> Iterator[None]:
    """A method of an object replaced, for a while."""
    own = vars(owner).get(name)
    setattr(owner, name, method)
    try:
        yield
    finally:
        if own is None:
            delattr(owner, name)
        else:
            setattr(owner, name, own)


def training_step(case: Case,
                  side: str,
                  to_device: ToDevice,
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
    model = to_device(build_model(cfg)).train()
    with _quiet():
        wrapper = build_optim_wrapper(model, cfg.optim_wrapper)
    ours = config_of(case, 'ours')
    batch = training_batch(case, ours.train_pipeline, side)
    ends = [(model.data_preprocessor, 'forward', 'preprocess'),
            (model, 'extract_feat', 'backbone and FPN'),
            (model.roi_head, 'loss', 'region losses'),
            (model.semantic_head, 'loss', 'semantic loss'),
            (model, 'parse_losses', 'parse'),
            (wrapper, 'backward', 'backward'),
            (wrapper, 'update_params', 'optimizer')]
    hooks = loss_hooks(cfg)
    runner = stand_in_runner(model, wrapper)

    def run(batch: dict, note: Note) -> dict:
        with noted(ends, note):
            losses = model.train_step(batch, wrapper)
        for hook in hooks:
            hook.after_train_iter(runner, runner.iter, batch, losses)
        note(HOOKS_PART)
        runner.iter += 1
        return losses

    return Work('training step', case.name, side, HOOKS_PART,
                partial(copy.deepcopy, batch), run)


def loss_hooks(cfg: Config) -> List[Hook]:
    """Hooks that look at each iteration's losses, as a config's runner has
    them; ours may read them later."""
    if cfg.get('runner_type') is None:
        return [RuntimeInfoHook()]
    delayed = HOOKS.get('DelayedRuntimeInfoHook') or RuntimeInfoHook
    return [delayed(), HOOKS.build(dict(type='NonFiniteLossHook'))]


def stand_in_runner(model: nn.Module, wrapper: OptimWrapper) -> Any:
    """What these hooks ask a runner for."""
    return SimpleNamespace(
        model=model,
        optim_wrapper=wrapper,
        iter=0,
        max_iters=1000,
        work_dir='',
        logger=MMLogger.get_current_instance(),
        message_hub=MessageHub.get_instance('check_gpu'))


def prediction(case: Case,
               side: str,
               to_device: ToDevice,
               cfg: Optional[Config] = None) -> Work:
    """An image in evaluation: from the loader's batch to its panoptic map,
    for 'ours' with all of the config's metrics.

    Weights are drawn, so detections are set after the box head: as many as a
    trained model finds go on. mmdet finds those alone that the merge
    accepts; its config leaves out the others before.
    """
    cfg = cfg or config_of(case, side)
    model = to_device(build_model(cfg)).eval()
    ours = config_of(case, 'ours')
    batch = evaluation_batch(case, ours.test_pipeline, side)
    evaluator = case_evaluator(case, ours)
    ends = [(model.data_preprocessor, 'forward', 'preprocess'),
            (model, 'extract_feat', 'backbone and FPN'),
            (model.rpn_head, 'predict', 'RPN'),
            (model.roi_head, 'predict_bbox', 'boxes'),
            (model.roi_head, 'predict', 'masks')]
    if side == 'ours':
        ends += [(model, 'predict_semantic', 'semantic map'),
                 (model, 'add_predictions', 'merge')]
        ends += [(metric, 'process', type(metric).__name__)
                 for metric in evaluator.metrics]
    else:
        ends += [(model.semantic_head, 'predict', 'semantic map'),
                 (model, 'add_pred_to_datasample', 'merge')]
    number = case.detections if side == 'ours' else case.confident
    detect = _with_detections(model, case, number, to_device)

    @torch.no_grad()
    def run(batch: dict, note: Note) -> list:
        with _replaced(model.roi_head, 'predict_bbox',
                       detect), noted(ends, note):
            samples = model.val_step(batch)
            if side == 'ours':
                evaluator.process(data_samples=samples, data_batch=batch)
        return samples

    return Work('prediction', case.name, side, 'merge',
                partial(copy.deepcopy, batch), run)


def _with_detections(model: nn.Module, case: Case, number: int,
                     to_device: ToDevice) -> Callable:
    """``predict_bbox`` of a model whose weights are drawn: what it finds is
    replaced by as many instances, the most confident first."""
    with torch.no_grad():  # so that NMS has work
        model.roi_head.bbox_head.fc_cls.weight.mul_(300)
    detect = model.roi_head.predict_bbox
    drawn = blobs(case.detections, case.image, case.space.num_things,
                  case.confident)
    order = drawn.scores.argsort(descending=True)[:number]

    def with_detections(*args: Any, **kwargs: Any) -> list:
        detect(*args, **kwargs)
        return [
            InstanceData(
                bboxes=to_device(drawn.boxes[order]),
                scores=to_device(drawn.scores[order]),
                labels=to_device(drawn.labels[order]))
        ]

    return with_detections


def case_evaluator(case: Case, cfg: Config) -> Any:
    """The evaluator of our config, without its files."""
    evaluator = copy.deepcopy(cfg.val_evaluator)
    for metric in evaluator.metrics:
        metric.pop('ann_file', None)
    built = EVALUATOR.build(evaluator)
    built.dataset_meta = case.space.metainfo()
    return built
