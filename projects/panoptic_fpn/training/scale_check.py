"""Whether training and evaluation see an image at one scale.

A model finds objects of the sizes that it was trained on. A Resize that only
one of the two pipelines has costs PQ, and nothing fails. What pipelines do is
measured on blank images of the sizes (h, w) that the data have, so random and
nested transforms of any library count. Factors of scale are (w, h).
"""
from contextlib import suppress
from typing import Any, Callable, List, Optional, Sequence, Set, Tuple

import numpy as np
import torch
from mmdet.registry import HOOKS
from mmengine.dataset import Compose
from mmengine.dist import master_only
from mmengine.hooks import Hook
from PIL import Image

from mmengine_exact.record import leaf_datasets
from mmengine_exact.stream import seeded

from .test_options import pipeline_of

#: Runs of a random pipeline; images of a data set whose sizes are tried.
_DRAWS, _SAMPLED = 20, 5
#: Scales with a smaller ratio are taken for one.
_TOLERANCE = 1.1

Size = Tuple[int, int]


def drawn_scale(transforms: Sequence[Callable],
                size: Size) -> Optional[np.ndarray]:
    """Factors (2, ) of one run of a pipeline; None where several images come
    out (test-time augmentation, branches)."""
    results: dict = dict(
        img=np.zeros((*size, 3), np.uint8), img_shape=size, ori_shape=size)
    factors = np.ones(2)
    for transform in transforms:
        results.pop('scale_factor', None)
        with suppress(Exception):  # it loads files or needs annotations
            results = transform(results) or results
            factors = factors * results.get('scale_factor', 1.)
    packed = isinstance(results.get('inputs'), torch.Tensor)
    return factors if packed or 'img' in results else None


def scale_warning(train: Sequence[Compose], test: Compose, size: Size,
                  name: str) -> Optional[str]:
    """Warning where the scales that pipelines of training draw for an image
    do not include that of the evaluation ``name``; else None."""
    drawn: List[Any] = []
    tested: Any = drawn_scale(test.transforms, size)
    for _ in range(_DRAWS):
        drawn += [drawn_scale(one.transforms, size) for one in train]
        if tested is None or any(factors is None for factors in drawn):
            return None
        low, high = np.min(drawn, axis=0), np.max(drawn, axis=0)
        if (low <= tested * _TOLERANCE).all() and (high * _TOLERANCE
                                                   >= tested).all():
            return None
    shown = [
        '{} x {}'.format(*np.rint(size * factors[::-1]).astype(int))
        for factors in (low, high, tested)
    ]
    return (f'TWO SCALES: an image of {size[0]} x {size[1]} pixels (h x w) is '
            f'resized to {" to ".join(dict.fromkeys(shown[:2]))} by '
            f'train_dataloader and to {shown[2]} by {name}_dataloader, but a '
            'model finds objects of the sizes that it was trained on. Give '
            'both pipelines the same Resize, or training a random one that '
            "includes the other's scale (RandomChoiceResize, RandomResize).")


def image_sizes(dataset: Any) -> Set[Size]:
    """Sizes of some images, evenly spread over a data set."""
    sizes = set()
    for index in np.linspace(0, len(dataset) - 1, _SAMPLED, dtype=int):
        info = dataset.get_data_info(int(index))
        if 'height' in info:
            sizes.add((info['height'], info['width']))
            continue
        with suppress(OSError), Image.open(info['img_path']) as image:
            sizes.add(image.size[::-1])  # mmseg's data sets state none
    return sizes


@HOOKS.register_module()
class ScaleCheckHook(Hook):
    """Warns when training starts if validation or test see another scale."""

    @master_only
    def before_train(self, runner: Any) -> None:
        dataset = runner.train_dataloader.dataset
        leaves = list(leaf_datasets(dataset))
        train = [getattr(leaf, 'pipeline', None) for leaf in leaves]
        if None in train or (dataset not in leaves
                             and hasattr(dataset, 'pipeline')):
            return  # a wrapper with a pipeline of its own mixes images
        sizes = sorted(set().union(*map(image_sizes, leaves)))
        compared: List[dict] = []
        for name in ('val', 'test'):
            loader = runner.cfg.get(f'{name}_dataloader')
            test = pipeline_of(loader) if loader else compared
            if test == compared:
                continue
            compared = test
            with seeded(0):
                for size in sizes:
                    text = scale_warning(train, Compose(test), size, name)
                    if text:
                        runner.logger.warning(text)
                        break
