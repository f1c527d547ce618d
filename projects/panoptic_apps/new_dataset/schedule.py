"""A config's schedule for another data set and batch.

Iterations follow the number of images, so that each is seen about as often;
the learning rate follows the batch (linear scaling rule).
"""
import copy
import math
from functools import reduce
from typing import Any, Dict, List, NamedTuple, Optional, Tuple

from mmengine.config import Config

from mmengine_exact.auto_scale import scale_count, scale_scheduler, schedulers
from mmengine_exact.errors import InputError

#: Fewer iterations than these teach a model little, however few the images
#: are; a base that has fewer keeps its own.
MIN_ITERS = 1000
#: Share of the run that the warm-up may use.
_MOST_WARM_UP = 0.1
#: Training JSONs that schedules were made for: images, and their pixels.
_KNOWN = {
    'panoptic_train2017.json': (118287, 640 * 480),
    'panoptic_fpn_train.json': (2975, 2048 * 1024),
}


class Schedule(NamedTuple):
    """Keys of a config, and a sentence ``why`` there are so many
    iterations."""

    max_iters: int
    val_interval: int
    lr: float
    param_scheduler: List[dict]
    why: str


def find(config: Any, key: str) -> Any:
    """Value of a dotted key; None where any part of the key is missing."""
    return reduce(lambda part, name: (part or {}).get(name), key.split('.'),
                  config)


def base_data(cfg: Config) -> Optional[Tuple[int, int]]:
    """Images, and pixels of each, that a config's schedule was made for, if
    they are known."""
    dataset, stated = cfg.train_dataloader.dataset, cfg.get('schedule_data')
    if stated:
        return stated.images, stated.pixels
    drawn = dataset.get('generate')
    if drawn:
        return drawn['num_train'], drawn['size']**2
    return _KNOWN.get(str(dataset.get('ann_file', '')).split('/')[-1])


def scaled_schedule(cfg: Config,
                    images: int,
                    batch: int,
                    epochs: Optional[float] = None,
                    max_iters: Optional[int] = None) -> Schedule:
    """The schedule of a config, counted in iterations, for other images and
    another batch (images of an iteration).

    By default each image is seen as often as the base's, where that is known,
    but not in less than ``MIN_ITERS`` iterations; else ``epochs`` times, or
    for ``max_iters``.

    Raises:
        InputError: The base has no such schedule.
    """
    base_iters = find(cfg, 'train_cfg.max_iters')
    if base_iters is None:
        raise InputError(
            f'{cfg.filename}: train_cfg.max_iters is not set, so there is no '
            'schedule to scale. Give --base a config whose schedule counts '
            'iterations.')
    base_batch = find(cfg, 'auto_scale_lr.base_batch_size') or \
        cfg.train_dataloader.batch_size
    known, least = base_data(cfg), 0
    if epochs is None and known is not None:
        epochs = base_iters * base_batch / known[0]
        least = min(MIN_ITERS, base_iters)
    if max_iters is not None:
        why = f'as asked for, batch {batch}'
    elif epochs is None:
        max_iters = math.ceil(base_iters * base_batch / batch)
        why = f'as many as the base, batch {batch}'
    else:
        max_iters = math.ceil(epochs * images / batch)
        why = f'{epochs:.3g} epochs of {images} images, batch {batch}'
        if max_iters < least:
            why = (f'{least * batch / images:.1f} epochs of {images} images, '
                   f'batch {batch}: the {epochs:.1f} of the base would be '
                   f'{max_iters} iterations alone')
            max_iters = least
    factor, ratio = max_iters / base_iters, batch / base_batch
    return Schedule(
        max_iters=max_iters,
        val_interval=scale_count(
            cfg.train_cfg.get('val_interval', base_iters), factor),
        lr=cfg.optim_wrapper.optimizer.lr * ratio,
        param_scheduler=_scaled_schedulers(cfg, max_iters, factor, ratio),
        why=why)


def _scaled_schedulers(cfg: Config, max_iters: int, factor: float,
                       ratio: float) -> List[dict]:
    """``param_scheduler``, whose warm-up is shortened where it would use too
    much of the run, and left out where one iteration would remain, after which
    the rate would stay low; schedulers that begin at its end still do."""
    scaled: List[Dict] = []
    ends: Dict[int, int] = {}
    for item in schedulers(cfg):
        new = copy.deepcopy(dict(item))
        scale_scheduler(new, factor, ratio)
        if item['type'] == 'LinearLR' and not item.get('begin') and not (
                item.get('by_epoch', True)):
            most = int(max_iters * _MOST_WARM_UP)
            new['end'] = min(item['end'], most) if most > 1 else 0
            ends[item['end']] = new['end']
        elif item.get('begin') in ends:
            new['begin'] = ends[item['begin']]
        if new.get('end', math.inf) > new.get('begin', 0):
            scaled.append(new)
    return scaled
