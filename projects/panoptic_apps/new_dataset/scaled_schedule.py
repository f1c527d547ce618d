"""A config's schedule for another data set and batch.

Iterations follow the number of images, so that each is seen about as often;
the learning rate follows the batch (linear scaling rule).
"""
import math
from typing import Any, Dict, List, NamedTuple, Optional, Tuple

from mmengine.config import Config

from mmengine_exact.errors import InputError

#: Fewer iterations than these teach a model little, however few the images
#: are; a base that has fewer keeps its own.
MIN_ITERS = 1000
#: Share of the run that the warm-up may take.
_MOST_WARM_UP = 0.1
#: Of the training JSONs that schedules were made for: images, and their
#: pixels.
_KNOWN = {
    'panoptic_train2017.json': (118287, 640 * 480),
    'panoptic_fpn_train.json': (2975, 2048 * 1024),
}


class BaseData(NamedTuple):
    """What a base config was made for: images, and pixels of each."""

    images: int
    pixels: int


class Schedule(NamedTuple):
    """Keys of a config, and a sentence ``why`` there are so many
    iterations."""

    max_iters: int
    val_interval: int
    lr: float
    param_scheduler: List[dict]
    why: str


def base_data(cfg: Config) -> Optional[BaseData]:
    """The data set that a config's schedule was made for, if it is known."""
    dataset = cfg.train_dataloader.dataset
    drawn = dataset.get('generate')
    if drawn:
        return BaseData(drawn['num_train'], drawn['size']**2)
    name = str(dataset.get('ann_file', '')).split('/')[-1]
    return BaseData(*_KNOWN[name]) if name in _KNOWN else None


def scaled_schedule(cfg: Config,
                    images: int,
                    batch: int,
                    epochs: Optional[float] = None,
                    max_iters: Optional[int] = None) -> Schedule:
    """The schedule of a config for other data.

    Args:
        cfg (Config): The base, counted in iterations.
        images (int): To train on.
        batch (int): Images of an iteration.
        epochs (float, optional): How often each image is seen; by default
            as often as the base's, where that is known, but not less than
            ``MIN_ITERS`` iterations.
        max_iters (int, optional): Iterations, instead.

    Raises:
        InputError: The base has no such schedule.
    """
    base_iters = _required(cfg, 'train_cfg', 'max_iters')
    base_lr = _required(cfg, 'optim_wrapper', 'optimizer', 'lr')
    base_batch = (cfg.get('auto_scale_lr') or
                  {}).get('base_batch_size') or cfg.train_dataloader.batch_size
    why = f'as asked for, batch {batch}'
    if max_iters is None and epochs is not None:
        max_iters = math.ceil(epochs * images / batch)
        why = f'{epochs:g} epochs of {images} images, batch {batch}'
    elif max_iters is None:
        max_iters, why = _default_iters(cfg, images, batch, base_iters,
                                        base_batch)
    max_iters = max(1, max_iters)
    ratio = batch / base_batch
    interval = cfg.train_cfg.get('val_interval', base_iters)
    return Schedule(
        max_iters=max_iters,
        val_interval=_times(interval, max_iters / base_iters),
        lr=float(f'{base_lr * ratio:.4g}'),
        param_scheduler=_schedulers(cfg, base_iters, max_iters, ratio),
        why=why)


def _required(cfg: Config, *path: str) -> Any:
    value = cfg
    for key in path:
        value = value.get(key) if hasattr(value, 'get') else None
    if value is None:
        raise InputError(
            f'{cfg.filename}: {".".join(path)} is not set, so there is no '
            'schedule to scale. Give --base a config whose schedule counts '
            'iterations.')
    return value


def _default_iters(cfg: Config, images: int, batch: int, base_iters: int,
                   base_batch: int) -> Tuple[int, str]:
    known = base_data(cfg)
    if known is None:
        iters = math.ceil(base_iters * base_batch / batch)
        return iters, f'as many as the base, batch {batch}'
    epochs = base_iters * base_batch / known.images
    iters = math.ceil(epochs * images / batch)
    why = f'{epochs:.1f} epochs of {images} images, batch {batch}'
    least = min(MIN_ITERS, base_iters)
    if iters < least:
        return least, (f'{least * batch / images:.1f} epochs of {images} '
                       f'images, batch {batch}: the {epochs:.1f} of the base '
                       f'would be {iters} iterations alone')
    return iters, why


def _schedulers(cfg: Config, base_iters: int, max_iters: int,
                ratio: float) -> List[dict]:
    given = cfg.get('param_scheduler') or []
    given = [given] if isinstance(given, dict) else given
    warm_up = next((s['end'] for s in given if _is_warm_up(s)), 0)
    new_warm_up = min(warm_up, max(1, int(max_iters * _MOST_WARM_UP)))
    return [
        _scheduler(
            dict(item), max_iters / base_iters, ratio, warm_up, new_warm_up)
        for item in given
    ]


def _is_warm_up(scheduler: Dict) -> bool:
    return (scheduler['type'] == 'LinearLR' and 'end' in scheduler
            and not scheduler.get('begin', 0)
            and not scheduler.get('by_epoch', True))


def _scheduler(item: Dict, factor: float, ratio: float, warm_up: int,
               new_warm_up: int) -> Dict:
    if 'eta_min' in item:
        item['eta_min'] = float(f'{item["eta_min"] * ratio:.4g}')
    if item.get('by_epoch', True):
        return item
    if _is_warm_up(item):
        item['end'] = new_warm_up
        return item
    for key in ('begin', 'end', 'T_max', 'step_size'):
        if item.get(key):
            item[key] = _times(item[key], factor)
    if warm_up and item.get('begin') == _times(warm_up, factor):
        item['begin'] = new_warm_up
    if 'milestones' in item:
        item['milestones'] = [_times(m, factor) for m in item['milestones']]
    return item


def _times(value: int, factor: float) -> int:
    return max(1, round(value * factor))
