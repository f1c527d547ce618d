"""Checks of class counts, model against data, before anything is computed.

A count that is off by one is otherwise found by a device assert hours later,
or never: a model whose classes are not the data's trains well and scores 0.
"""
from itertools import chain
from typing import Any, Iterator, List, Sequence, Tuple

from mmdet.registry import HOOKS
from mmengine.hooks import Hook
from torch import nn

from mmengine_exact.errors import InputError
from mmengine_exact.match import bare_model
from mmengine_exact.record import leaf_datasets

from ..labels import LabelSpace

#: Where a model states its number of thing classes, below ``model.``.
THING_KEYS = ('roi_head.bbox_head.num_classes',
              'roi_head.mask_head.num_classes',
              'semantic_head.num_things_classes',
              'panoptic_head.num_things_classes',
              'panoptic_fusion_head.num_things_classes')
#: Where it states its number of stuff classes.
STUFF_KEYS = ('semantic_head.num_stuff_classes',
              'panoptic_head.num_stuff_classes',
              'panoptic_fusion_head.num_stuff_classes')


def stated_counts(module: Any,
                  key: str,
                  name: str = 'model') -> Iterator[Tuple[str, Any]]:
    """Config keys and values of a count; several where a head is a list.

    Args:
        module (nn.Module): The detector, or the part of it called ``name``.
        key (str): Dotted, such as 'roi_head.bbox_head.num_classes'. A branch
            that the model lacks gives nothing.
    """
    if isinstance(module, nn.ModuleList):
        for i, item in enumerate(module):
            yield from stated_counts(item, key, f'{name}[{i}]')
        return
    part, _, rest = key.partition('.')
    found = getattr(module, part, None)
    if rest:
        yield from stated_counts(found, rest, f'{name}.{part}')
    elif found is not None:
        yield f'{name}.{part}', found


def check_class_counts(model: nn.Module, space: LabelSpace) -> None:
    """Compare every class count of a model with a label space.

    Raises:
        InputError: They differ; names both numbers, the file of the
            categories and the config key to change.
    """
    _check_counts(model, THING_KEYS, space.num_things, 'thing classes',
                  space.source)
    _check_counts(model, STUFF_KEYS, space.num_stuff, 'stuff classes',
                  space.source)
    for _, weights in stated_counts(model, 'panoptic_head.class_weight'):
        if len(weights) != space.num_classes + 1:
            raise InputError(
                'model.panoptic_head.loss_cls.class_weight has '
                f'{len(weights)} weights, but {space.source} has '
                f'{space.num_classes} classes. Give it '
                f'{space.num_classes + 1}, the last one for queries without '
                'an object.')
    for key, padding in stated_counts(model,
                                      'data_preprocessor.seg_pad_value'):
        if model.data_preprocessor.pad_seg and 0 <= padding < len(space.names):
            raise InputError(
                f'{key}={padding} is the label of {space.names[padding]!r} '
                f'({space.source}), so void would be trained as this class. '
                'Set it, and ignore_index of the losses, to a value that is '
                'no label.')


def _check_counts(model: nn.Module, keys: Sequence[str], expected: int,
                  kind: str, source: str) -> None:
    for key in keys:
        for config_key, count in stated_counts(model, key):
            fix = (f'Set {config_key}={expected} in the config (and the same '
                   f'number wherever {kind} are counted).')
            if not expected and key.startswith('roi_head.'):
                fix = ('Set model.loss_weights.instance=0, which leaves the '
                       'region branch out.')
            elif count == expected:
                continue
            raise InputError(f'{config_key}={count}, but {source} has '
                             f'{expected} {kind}. {fix}')


def label_spaces(dataset: Any) -> List[LabelSpace]:
    """Label spaces of a data set or of those inside a wrapper; none for data
    sets whose metainfo does not separate things from stuff."""
    spaces = []
    for leaf in leaf_datasets(dataset):
        if hasattr(leaf, 'label_space'):
            spaces.append(leaf.label_space)
        elif 'thing_classes' in leaf.metainfo:
            source = getattr(leaf, 'ann_file', None) or type(leaf).__name__
            spaces.append(LabelSpace.from_metainfo(leaf.metainfo, source))
    return spaces


def check_same_categories(spaces: Sequence[LabelSpace]) -> None:
    """Compare the categories of data sets, or of networks.

    Raises:
        InputError: Two files list different ones; names both files and what
            only one of them has.
    """
    for other in spaces[1:]:
        if other != spaces[0]:
            odd = other.difference(spaces[0])[:6] or 'none, the order differs'
            raise InputError(
                f'{spaces[0].source} and {other.source} list different '
                f'categories; (id, name, isthing) in only one: {odd}. Data '
                'sets and networks of one run must have the same.')


def check_annotated(dataset: Any) -> None:
    """Require the ground truth of every image, which scores need.

    Raises:
        InputError: Names the file and an image without annotation.
    """
    for leaf in leaf_datasets(dataset):
        missing = getattr(leaf, 'unannotated', [])
        if missing:
            raise InputError(
                f'{leaf.ann_file}: {len(missing)} images have no annotation, '
                f'the first is id={missing[0]!r}, so they cannot be scored. '
                'Remove them from "images", or keep them for a test that only '
                'writes results (tools/test.py --format-only PREFIX).')


@HOOKS.register_module()
class LabelSpaceCheckHook(Hook):
    """Check model and data sets against one another at start-up."""

    def before_train(self, runner: Any) -> None:
        datasets, loop = [runner.train_dataloader.dataset], runner.val_loop
        if loop is not None:
            datasets.append(runner.val_dataloader.dataset)
            check_annotated(datasets[1])
        self._check(runner, loop, *datasets)

    def before_val(self, runner: Any) -> None:
        self._check(runner, runner.val_loop, runner.val_dataloader.dataset)

    def before_test(self, runner: Any) -> None:
        self._check(runner, getattr(runner, 'test_loop', None),
                    runner.test_dataloader.dataset)

    @staticmethod
    def _check(runner: Any, loop: Any, *datasets: Any) -> None:
        spaces = [s for dataset in datasets for s in label_spaces(dataset)]
        check_same_categories(spaces)
        model = bare_model(runner.model)
        # a metric that cannot judge model or images would fail after hours
        metrics = getattr(getattr(loop, 'evaluator', None), 'metrics', ())
        leaves = list(leaf_datasets(datasets[-1])) if metrics else []
        images = [
            leaf.get_data_info(i) for leaf in leaves for i in range(len(leaf))
        ]
        for metric in metrics:
            if hasattr(metric, 'check_model'):
                metric.check_model(model)
            if hasattr(metric, 'check_images'):
                metric.check_images(images)
            if getattr(metric, 'needs_truth', False):
                check_annotated(datasets[-1])
        for space in spaces:
            check_class_counts(model, space)
        for leaf in chain(*map(leaf_datasets, datasets)):
            classes = leaf.metainfo.get('classes')
            if classes:  # mmseg's segmentors have no label space
                _check_counts(model, ['decode_head.num_classes'], len(classes),
                              'classes',
                              type(leaf).__name__)
