"""A config for a data set of one's own, inheriting one of this project.

Classes, counts, paths, schedule, learning rate and what ``fit.py`` says follow
from the data; everything else is the base's.
"""
import os.path as osp
from textwrap import wrap
from typing import Any, Dict, List, NamedTuple, Optional, Tuple

from mmengine.config import Config
from mmengine.registry import init_default_scope
from yapf.yapflib.yapf_api import FormatCode

from mmengine_exact.errors import InputError
from panoptic_fpn.data import CocoPanopticFPNDataset
from panoptic_fpn.labels import LabelSpace
from panoptic_fpn.training.label_check import (STUFF_KEYS, THING_KEYS,
                                               check_annotated,
                                               check_same_categories)
from panoptic_fpn.training.test_options import require_panoptic

from .fit import Scale, fit_objects, with_scale
from .schedule import Schedule, find, scaled_schedule

#: How this project lays out its configs.
_STYLE = dict(
    based_on_style='pep8',
    blank_line_before_nested_class_or_def=True,
    split_before_expression_after_opening_paren=True)

_TEXT = """\
# {name}: {num_train} images to train on, {num_val} to validate on.
# Written by tools/new_dataset.py; edit it as you like.
_base_ = {base!r}

data_root = {root!r}
classes = {space.names!r}
num_things = {space.num_things}
num_stuff = {space.num_stuff}
model = {model}
train_dataloader = dict(
    _base_.train_dataloader, _delete_=True, batch_size={batch},
    dataset=dict({train}, filter_cfg={filter_cfg},
                 pipeline={train_pipeline}))
val_dataloader = dict(
    _base_.val_dataloader, _delete_=True,
    dataset=dict({val}, test_mode=True, pipeline={val_pipeline}))
test_dataloader = dict(val_dataloader)
val_evaluator = {evaluator}
test_evaluator = dict(val_evaluator)

{why}
max_iters = {schedule.max_iters}
train_cfg = dict(max_iters=max_iters, val_interval={schedule.val_interval})
param_scheduler = {param_scheduler}
optim_wrapper = dict(optimizer=dict(lr={schedule.lr}))
auto_scale_lr = dict(base_batch_size={batch})
default_hooks = dict(
    logger=dict(interval={log_interval}),
    checkpoint=dict(interval={schedule.val_interval},
                    save_best={save_best!r}, rule='greater'))
"""


class Split(NamedTuple):
    """A panoptic JSON, the folder of its images and that of its PNGs."""

    json: str
    images: str
    panoptic: str


class Code(str):
    """An expression of the config, written as it is."""

    __repr__ = str.__str__


def new_dataset_config(name: str,
                       train: Split,
                       val: Optional[Split],
                       base: str,
                       out: str,
                       batch_size: Optional[int] = None,
                       epochs: Optional[float] = None,
                       max_iters: Optional[int] = None,
                       val_instances: Optional[str] = None,
                       start: Optional[str] = None) -> Tuple[str, List[str]]:
    """Text of a config for a data set, and notes on what it was made of.

    Args:
        name (str): Name of the data set, for the first line.
        train (Split): To train on.
        val (Split, optional): To validate and test on; by default the
            training images.
        base (str): The config to inherit.
        out (str): Where the config will lie, which ``_base_`` is relative to.
        batch_size (int, optional): Images of an iteration, in one process;
            by default the base's.
        epochs, max_iters (optional): See :func:`scaled_schedule`.
        val_instances (str, optional): Instances JSON of ``val``, for AP; by
            default AP is of instances derived from the panoptic annotation.
        start (str, optional): Folder that training will be started in; data
            below it are named relative to it.

    Raises:
        InputError: Data or base cannot be used; names file and fix.
    """
    cfg = _read_base(base)
    filter_cfg = cfg.train_dataloader.dataset.get('filter_cfg') or dict(
        filter_empty_gt=True)
    trained, validated = [
        CocoPanopticFPNDataset(
            ann_file=split.json,
            data_prefix=dict(img=split.images, seg=split.panoptic),
            filter_cfg=filter_cfg,
            test_mode=test_mode,
            pipeline=[])
        for split, test_mode in ((train, False), (val or train, True))
    ]
    check_same_categories([trained.label_space, validated.label_space])
    check_annotated(validated)
    space = trained.label_space
    batch = batch_size or cfg.train_dataloader.batch_size
    schedule = scaled_schedule(cfg, len(trained), batch, epochs, max_iters)
    root, paths = place_paths([train, val or train], val_instances, start)
    weights = cfg.model.get('loss_weights') or {}
    regions = bool(space.num_things and weights.get('instance', 1.0))
    fitted, scale, notes = fit_objects(cfg, trained, validated, regions)
    model = Config()
    model.merge_from_dict({**_count_keys(cfg, space), **fitted})
    text = _TEXT.format(
        name=name,
        num_train=len(trained),
        num_val='the same' if val is None else len(validated),
        base=_relative(base, osp.dirname(osp.abspath(out))),
        root=root,
        space=space,
        model=_source(model.to_dict()),
        batch=batch,
        train=_dataset(paths['train']),
        train_pipeline=_pipeline(cfg, 'train_dataloader', scale),
        filter_cfg=_source(filter_cfg),
        val=_dataset(paths['val']),
        val_pipeline=_pipeline(cfg, 'val_dataloader', scale),
        evaluator=_source(_evaluator(regions, paths['instances'])),
        why='\n'.join(f'# {line}' for line in wrap(schedule.why, 77)),
        schedule=schedule,
        param_scheduler=_source([
            dict(one, end=Code('max_iters'))
            if one.get('end') == schedule.max_iters else one
            for one in schedule.param_scheduler
        ]),
        save_best=_save_best(regions, weights),
        log_interval=max(1, min(50, schedule.max_iters // 20)))
    notes = _notes(space, len(trained), len(validated), val, schedule) + notes
    return FormatCode(text, style_config=_STYLE)[0], notes


def _source(value: Any) -> str:
    """Python text of a value, with ``dict(key=...)`` as configs have it."""
    if isinstance(value, dict):
        items = ', '.join(f'{k}={_source(v)}' for k, v in value.items())
        return f'dict({items})'
    if isinstance(value, list):
        return f'[{", ".join(map(_source, value))}]'
    return repr(value)


def _dataset(split: Split) -> str:
    return (f"type='CocoPanopticFPNDataset', data_root=data_root, "
            f'metainfo=dict(classes=classes), ann_file={split.json!r}, '
            f'data_prefix=dict(img={split.images!r}, seg={split.panoptic!r})')


def _pipeline(cfg: Config, loader: str, scale: Scale) -> str:
    if scale is None:
        return f'_base_.{loader}.dataset.pipeline'
    return _source(with_scale(cfg[loader].dataset.pipeline, scale))


def _relative(path: str, folder: str) -> str:
    """A path relative to a folder, unless only the root is above both."""
    path = osp.abspath(path)
    if osp.commonpath([path, folder]) == osp.sep:
        return path
    return osp.relpath(path, folder)


def _read_base(path: str) -> Config:
    cfg = Config.fromfile(path)
    require_panoptic(cfg, '--base')
    init_default_scope('mmdet')
    for key in ('model', 'train_dataloader.dataset.pipeline',
                'val_dataloader.dataset.pipeline'):
        if not find(cfg, key):
            raise InputError(
                f'{path}: no {key} to inherit. Give --base a config that '
                'trains one data set.')
    return cfg


def place_paths(splits: List[Split],
                instances: Optional[str] = None,
                start: Optional[str] = None) -> Tuple[str, Dict[str, Any]]:
    """The folder that all data share, and their paths below it.

    Returns:
        tuple[str, dict]: ``data_root``, with a slash at its end, relative
        where it lies below the folder ``start``; and relative to it the
        Splits ``train`` and ``val`` and the file ``instances`` ('' is
        data_root itself).
    """
    folders = [osp.dirname(split.json) for split in splits]
    folders += [folder for split in splits for folder in split[1:]]
    folders += [osp.dirname(instances)] if instances else []
    common = osp.commonpath([osp.abspath(folder) for folder in folders])

    def below(path: str) -> str:
        found = osp.relpath(path, common)
        return '' if found == '.' else found

    train, val = [
        Split(
            below(split.json),
            *(osp.join(below(folder), '') for folder in split[1:]))
        for split in splits
    ]
    root = osp.relpath(common, start) if start else common
    if root.startswith('..'):
        root = common
    return osp.join(root, ''), dict(
        train=train, val=val, instances=instances and below(instances))


def _save_best(regions: bool, weights: Dict) -> str:
    """A score that the model's branches have."""
    if not regions:
        return 'mIoU'
    return 'coco_panoptic/PQ' + ('' if weights.get('semantic', 1.0) else '_th')


def _count_keys(cfg: Config, space: LabelSpace) -> Dict[str, Any]:
    """Dotted keys of class counts wherever the base's model states them."""
    found: Dict[str, Any] = {}
    for keys, count in ((THING_KEYS, 'num_things'), (STUFF_KEYS, 'num_stuff')):
        for key in keys:
            head, name = key.rsplit('.', 1)
            base = find(cfg.model, head)
            if isinstance(base, (list, tuple)):  # a cascade
                found[head] = Code(f'[dict(head, {name}={count}) '
                                   f'for head in _base_.model.{head}]')
            elif base is not None:
                found[key] = Code(count)
    weight = find(cfg.model, 'panoptic_head.loss_cls.class_weight')
    if weight:  # the last one is that of queries without an object
        found['panoptic_head.loss_cls.class_weight'] = Code(
            f'[{weight[0]}] * {space.num_classes} + [{weight[-1]}]')
    if space.num_things == 0 and 'loss_weights' in cfg.model:
        # nothing to detect: Semantic FPN
        found['loss_weights'] = dict(instance=0.0, semantic=1.0)
    return found


def _evaluator(regions: bool, instances: Optional[str]) -> Dict:
    metrics: List[Dict] = [dict(type='PanopticQualityMetric', classwise=True)]
    if regions:
        metric: Dict[str, Any] = dict(type='PanopticInstanceAPMetric')
        if instances:
            metric['ann_file'] = Code(f'data_root + {instances!r}')
        metrics.append(metric)
    metrics.append(dict(type='SemanticIoUMetric'))
    return dict(_delete_=True, type='PanopticEvaluator', metrics=metrics)


def _notes(space: LabelSpace, num_train: int, num_val: int,
           val: Optional[Split], schedule: Schedule) -> List[str]:
    notes = [
        f'{space.num_things} thing and {space.num_stuff} stuff classes, '
        f'{num_train} images to train on, {num_val} to validate on',
        f'{schedule.max_iters} iterations: {schedule.why}; learning rate '
        f'{schedule.lr:g}'
    ]
    if val is None:
        notes.append('no --val: scores will be those of training images')
    if space.num_things == 0:
        notes.append('no thing classes: this trains Semantic FPN')
    return notes
