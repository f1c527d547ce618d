"""How often each class of the semantic head occurs in the training set."""
from functools import partial
from typing import Any, Dict, List, Optional, Sequence

import numpy as np
from mmdet.registry import DATASETS
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmengine.utils import ProgressBar

from mmengine_exact.errors import InputError
from mmengine_exact.workers import run_jobs
from panoptic_fpn.data import DerivePanopticTargets, LoadPanopticMap
from panoptic_fpn.labels import IGNORE_LABEL, LabelSpace, semantic_channels
from panoptic_fpn.training.label_check import (check_same_categories,
                                               label_spaces, leaf_datasets)
from panoptic_fpn.training.test_options import require_panoptic

#: Images of one job: few enough for a bar that moves.
_CHUNK = 16


def class_frequencies(config: Config,
                      num_workers: Optional[int] = None) -> Dict[str, Any]:
    """Count the labelled pixels of each channel of the semantic head in the
    annotation maps on the disk, without crops or resizing.

    Args:
        config (Config): With ``train_dataloader`` and
            ``model.semantic_head``.
        num_workers (int, optional): Processes; by default one for each core,
            at most 8.

    Returns:
        dict: ``config``, ``images`` (how many), ``predict_things`` and
        ``classes``: for each channel, in their order, ``name`` and
        ``pixels``.

    Raises:
        InputError: The config has no such data or head, or a file of the
            data set cannot be used.
    """
    require_panoptic(config, 'counting classes')
    head = config.get('model', {}).get('semantic_head')
    if head is None or config.get('train_dataloader') is None:
        raise InputError(
            f'{config.filename}: classes are counted for model.semantic_head '
            'on train_dataloader.dataset. Give a config that has both.')
    predict_things = bool(head.get('predict_things', False))
    init_default_scope('mmdet')
    dataset = DATASETS.build(config.train_dataloader.dataset)
    spaces = label_spaces(dataset)
    check_same_categories(spaces)
    space = spaces[0]
    leaves = list(leaf_datasets(dataset))
    totals = np.zeros(space.num_classes, np.int64)
    bar = ProgressBar(sum(len(leaf) for leaf in leaves))
    for leaf in leaves:
        count = partial(
            count_labels,
            num_classes=space.num_classes,
            backend_args=leaf.backend_args)
        infos = [leaf.get_data_info(i) for i in range(len(leaf))]
        jobs = [infos[i:i + _CHUNK] for i in range(0, len(infos), _CHUNK)]
        results = run_jobs(count, jobs, num_workers, in_order=True)
        for job, counts in zip(jobs, results):
            totals += counts
            bar.update(len(job))
    print()  # ends the line of the bar
    return dict(
        config=config.filename,
        images=bar.task_num,
        predict_things=predict_things,
        classes=_by_channel(totals, space, predict_things))


def _by_channel(totals: np.ndarray, space: LabelSpace,
                predict_things: bool) -> List[Dict]:
    """Pixels by label, summed by channel of the head."""
    channels = semantic_channels(space.num_things, space.num_stuff,
                                 predict_things)
    names = space.names if predict_things else (*space.stuff_names, 'other')
    return [
        dict(name=name, pixels=int(totals[channels == channel].sum()))
        for channel, name in enumerate(names)
    ]


def count_labels(infos: Sequence[dict], num_classes: int,
                 backend_args: Optional[dict]) -> np.ndarray:
    """Pixels of each label, int64 (T + S, ), without void, in the maps of
    images by their ``get_data_info``.

    Raises:
        CorruptFileError: A map cannot be used.
    """
    load = LoadPanopticMap(backend_args)
    derive = DerivePanopticTargets(instances=False)
    counts = np.zeros(num_classes, np.int64)
    for info in infos:
        # the JSON says the size: the image itself is not needed
        size = dict(ori_shape=(info['height'], info['width']))
        loaded = derive.transform(load.transform(dict(info, **size)))
        labels = loaded['gt_seg_map']
        counts += np.bincount(
            labels[labels != IGNORE_LABEL], minlength=num_classes)
    return counts
