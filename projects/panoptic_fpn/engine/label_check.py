"""Class counts of the model against the data, before anything is computed.

A count set one off is otherwise found by a device assert hours later, or
never: a model whose classes are not the data's trains well and scores 0.
"""
from typing import Iterator, Tuple

from mmdet.registry import HOOKS
from mmengine.dataset import BaseDataset
from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from torch import nn

from ..errors import PanopticError
from ..labels import LabelSpace

#: Where a model states its number of thing classes, below ``model.``.
THING_KEYS = ('roi_head.bbox_head.num_classes',
              'roi_head.mask_head.num_classes',
              'semantic_head.num_things_classes',
              'panoptic_fusion_head.num_things_classes')
#: And its number of stuff classes.
STUFF_KEYS = ('semantic_head.num_stuff_classes',
              'panoptic_fusion_head.num_stuff_classes')


def stated_counts(model: nn.Module, key: str) -> Iterator[Tuple[str, int]]:
    """Config keys and values of a count; several where a head is a list.

    Args:
        model (nn.Module): The detector.
        key (str): Dotted, such as 'roi_head.bbox_head.num_classes'. A branch
            that the model lacks gives nothing.
    """
    *path, name = key.split('.')
    modules = [('model', model)]
    for part in path:
        found = []
        for prefix, module in modules:
            child = getattr(module, part, None)
            if isinstance(child, nn.ModuleList):
                found += [(f'{prefix}.{part}[{i}]', item)
                          for i, item in enumerate(child)]
            elif child is not None:
                found.append((f'{prefix}.{part}', child))
        modules = found
    for prefix, module in modules:
        if hasattr(module, name):
            yield f'{prefix}.{name}', getattr(module, name)


def check_class_counts(model: nn.Module, space: LabelSpace) -> None:
    """Compare every class count of a model with a label space.

    Raises:
        PanopticError: They differ; names both numbers, the file of the
            categories and the config key to change.
    """
    for keys, kind, expected in ((THING_KEYS, 'thing', space.num_things),
                                 (STUFF_KEYS, 'stuff', space.num_stuff)):
        for key in keys:
            for config_key, count in stated_counts(model, key):
                if count != expected:
                    raise PanopticError(
                        f'{config_key}={count}, but {space.source} has '
                        f'{expected} {kind} classes. Set {config_key}='
                        f'{expected} in the config (and the same number '
                        f'wherever {kind} classes are counted).')


@HOOKS.register_module()
class LabelSpaceCheckHook(Hook):
    """Check model and data sets against one another at start-up.

    Data sets without ``thing_classes`` in their metainfo are not checked.
    """

    def before_train(self, runner) -> None:
        self._check(runner, runner.train_dataloader.dataset)
        if runner.val_loop is not None:
            val = runner.val_dataloader.dataset
            self._check(runner, val)
            self._compare(runner.train_dataloader.dataset, val)

    def before_val(self, runner) -> None:
        self._check(runner, runner.val_dataloader.dataset)

    def before_test(self, runner) -> None:
        self._check(runner, runner.test_dataloader.dataset)

    def _check(self, runner, dataset: BaseDataset) -> None:
        model = runner.model
        if is_model_wrapper(model):
            model = model.module
        if 'thing_classes' in dataset.metainfo:
            check_class_counts(model,
                               LabelSpace.from_metainfo(dataset.metainfo))

    @staticmethod
    def _compare(train: BaseDataset, val: BaseDataset) -> None:
        metas = [train.metainfo, val.metainfo]
        if not all('thing_classes' in meta for meta in metas):
            return
        first, second = (LabelSpace.from_metainfo(meta) for meta in metas)
        if first != second:
            ours = {(c.id, c.name, c.isthing) for c in first.categories}
            theirs = {(c.id, c.name, c.isthing) for c in second.categories}
            raise PanopticError(
                f'{first.source} and {second.source} list different '
                f'categories; (id, name, isthing) of one only: '
                f'{sorted(ours ^ theirs)[:6]}. Train and validate with the '
                'same categories.')
