"""A trained model from its files, and panoptic segmentation of images.

Images given as arrays are BGR uint8 (h, w, 3), as mmdet's APIs take them;
``PanopticResult.image`` is RGB.
"""
import logging
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import (ContextManager, Iterable, Iterator, Optional, Sequence,
                    Union)

import numpy as np
import torch
from mmcv.transforms import Compose
from mmdet.registry import DATASETS, MODELS
from mmdet.structures import DetDataSample
from mmdet.utils import get_test_pipeline_cfg
from mmengine.config import Config
from mmengine.logging import print_log
from mmengine.model.utils import revert_sync_batchnorm
from mmengine.registry import init_default_scope
from torch import nn

from ..allocator import keep_freed_memory
from ..engine.amp import half_precision
from ..engine.checkpoint_io import read_checkpoint
from ..engine.checkpoint_match import EXACT, load_weights, require
from ..engine.command import require_panoptic
from ..engine.label_check import check_class_counts
from ..engine.memory_format import apply_memory_format
from ..engine.network_checkpoints import load_networks, require_all_networks
from ..errors import CorruptFileError, PanopticError
from ..labels import LabelSpace
from ..visualization.image_io import read_image

ImageInput = Union[str, Path, np.ndarray]


@dataclass
class PanopticResult:
    """What became of one image.

    Attributes:
        source (str): The file, or 'image N' for the N-th image of a call.
        image (np.ndarray | None): RGB uint8 of shape (h, w, 3).
        sample (DetDataSample | None): With ``pred_panoptic_seg`` and, as far
            as the model has the branches, ``pred_instances`` and
            ``pred_sem_seg``, at the size of the image.
        error (str | None): Why there is neither: one sentence that names the
            file and the fix.
    """

    source: str
    image: Optional[np.ndarray] = None
    sample: Optional[DetDataSample] = None
    error: Optional[str] = None


def init_model(config: Union[str, Path, Config],
               checkpoint: Union[str, Sequence[str], None] = None,
               device: str = 'cpu',
               cfg_options: Optional[dict] = None) -> nn.Module:
    """Build a model and load its weights.

    On a CPU this process keeps the memory that it frees from now on (see
    ``allocator.py``): it stays as large as its largest image made it.

    Args:
        config (str | Path | Config): The config the model was trained with.
        checkpoint (str | Sequence[str], optional): Weights; random ones
            without it. One file for each network of a
            ``TwoNetworkPanopticFPN``.
        device (str): 'cpu', 'cuda:0', ...
        cfg_options (dict, optional): Keys of the config to override, as
            ``--cfg-options``.

    Returns:
        nn.Module: In evaluation mode, with ``cfg``, ``dataset_meta`` and
        ``label_space``.

    Raises:
        PanopticError: The config names no classes and neither does the
            checkpoint, or their number is not the model's; or there is no
            such device.
        CheckpointError: The checkpoint is missing, damaged, or of another
            model.
    """
    if device.startswith('cuda') and not torch.cuda.is_available():
        raise PanopticError(f'device {device}: torch sees no GPU here. Use '
                            'device cpu, or install a torch with CUDA.')
    if device.startswith('cpu'):
        keep_freed_memory()
    config = (
        config.copy()
        if isinstance(config, Config) else Config.fromfile(config))
    if cfg_options:
        config.merge_from_dict(cfg_options)
    require_panoptic(config, 'panoptic inference')
    init_default_scope(config.get('default_scope', 'mmdet'))
    if checkpoint is not None and 'init_cfg' in config.model.backbone:
        # The checkpoint holds these weights: do not download them.
        config.model.backbone.init_cfg = None
    model = revert_sync_batchnorm(MODELS.build(config.model))
    meta = {}
    if checkpoint is not None:
        meta = _load_checkpoint(model, checkpoint)
    model.dataset_meta = _dataset_meta(config, meta, checkpoint)
    model.label_space = LabelSpace.from_metainfo(model.dataset_meta)
    check_class_counts(model, model.label_space)
    model.cfg = config
    apply_memory_format(model, config)
    return model.to(device).eval()


def _load_checkpoint(model: nn.Module, path: Union[str,
                                                   Sequence[str]]) -> dict:
    """Load every weight of the model; return the checkpoint's ``meta``."""
    revise_keys = [(r'^module\.', '')]
    if isinstance(path, str):
        checkpoint = read_checkpoint(path, 'cpu')
        require_all_networks(model, checkpoint['state_dict'], path)
        report = load_weights(model, checkpoint['state_dict'], revise_keys)
        warnings = [require(report, EXACT, path)]
    else:
        checkpoint, _, warnings = load_networks(
            model, path, EXACT, revise_keys=revise_keys)
    for warning in filter(None, warnings):
        print_log(warning, logger='current', level=logging.WARNING)
    return checkpoint.get('meta') or {}


def _dataset_meta(config: Config, meta: dict,
                  checkpoint: Optional[str]) -> dict:
    """Classes of the checkpoint or else of the config's test dataset."""
    stored = meta.get('dataset_meta')
    if stored and 'thing_classes' in stored:
        return dict(stored)
    try:
        return dict(DATASETS.build(config.test_dataloader.dataset).metainfo)
    except PanopticError as error:
        raise PanopticError(
            f'{checkpoint or "A model without checkpoint"} names no classes '
            'and the test dataset of the config, which would, cannot be read:'
            f' {error}') from None


def inference_panoptic(model: nn.Module,
                       images: Union[ImageInput, Iterable[ImageInput]],
                       amp: bool = False) -> Iterator[PanopticResult]:
    """Segment images, one at a time.

    An image that cannot be read becomes a result with ``error``; the others
    are still segmented. Results come as they are computed, so nothing is
    lost when the caller stops.

    Args:
        model (nn.Module): From :func:`init_model`.
        images (str | Path | np.ndarray | Iterable): Files or BGR arrays.
        amp (bool): Whether convolutions run in bfloat16 (float16 on a GPU).

    Yields:
        PanopticResult: One for each image, in order.
    """
    if isinstance(images, (str, Path, np.ndarray)):
        images = [images]
    config = get_test_pipeline_cfg(model.cfg)
    backend_args = config[0].get('backend_args')
    # Images are read here, once, for the model and for the pictures.
    config[0] = dict(
        type='mmdet.LoadImageFromNDArray',
        to_float32=config[0].get('to_float32', False))
    pipeline = Compose(config)
    for number, image in enumerate(images, start=1):
        source = f'image {number}'
        if not isinstance(image, np.ndarray):
            source = str(image)
            try:
                image = read_image(source, backend_args)
            except CorruptFileError as error:
                yield PanopticResult(source, error=str(error))
                continue
        with _precision(model, amp):
            sample = _segment(model, pipeline, image, source)
        yield PanopticResult(source, np.ascontiguousarray(image[..., ::-1]),
                             sample)


def _precision(model: nn.Module, amp: bool) -> ContextManager:
    if not amp:
        return nullcontext()
    return half_precision(next(model.parameters()).device)


@torch.no_grad()
def _segment(model: nn.Module, pipeline: Compose, image: np.ndarray,
             source: str) -> DetDataSample:
    packed = pipeline(
        dict(
            img=image,
            img_id=source,
            seg_map_path=None,
            segments_info=None,
            label_space=model.label_space))
    sample = packed['data_samples']
    sample.set_metainfo(dict(img_path=source))
    return model.test_step(
        dict(inputs=[packed['inputs']], data_samples=[sample]))[0].cpu()
