"""A trained model from its files, and panoptic segmentation of images.

Images given as arrays are BGR uint8 (h, w, 3), as mmdet's APIs take them;
``PanopticResult.image`` is RGB.
"""
import logging
import os.path as osp
from collections import defaultdict
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import (Any, Iterable, Iterator, List, Optional, Sequence, Tuple,
                    TypeVar, Union)

import cv2
import numpy as np
import torch
from mmcv.transforms import Compose
from mmdet.registry import DATASETS, MODELS
from mmdet.utils import get_test_pipeline_cfg
from mmengine.config import Config
from mmengine.logging import print_log
from mmengine.model.utils import revert_sync_batchnorm
from mmengine.registry import init_default_scope
from torch import Tensor, nn

from mmengine_exact.allocator import bound_kept_memory, keep_freed_memory
from mmengine_exact.amp import Amp, half_precision
from mmengine_exact.checkpoint import read_checkpoint
from mmengine_exact.command import override, read_config
from mmengine_exact.errors import CorruptFileError, InputError
from mmengine_exact.match import EXACT, load_weights, require
from mmengine_exact.runner import apply_memory_format

from ..config_files import find_config
from ..labels import LabelSpace
from ..training.label_check import check_class_counts
from ..training.runner import load_networks, require_all_networks
from ..training.test_options import require_panoptic
from ..visualization.image_io import read_image

ImageInput = Union[str, Path, np.ndarray]
Checkpoints = Union[str, Path, Sequence[str], None]
T = TypeVar('T')


@dataclass
class PanopticResult:
    """Result of one image or frame.

    Attributes:
        source (str): The file, or 'image N' for the N-th array of a call.
        image (np.ndarray | None): RGB uint8 of shape (h, w, 3).
        sample (DetDataSample | None): With ``pred_panoptic_seg`` and, as far
            as the model has the branches, ``pred_instances`` and
            ``pred_sem_seg``, at the size of the image.
        inputs (Tensor | None): What the network gets, before it is segmented.
        error (str | None): Why there is neither: one sentence that names the
            file and the fix.
        stem (str): First part of the names of its files.
        frame (int | None): Number in a video, counted from 0.
        last_frame (bool): Whether it is the last one of its video.
        overlay (SteadyOverlay | None): Draws it, and the rest of its video.
        writer (VideoWriter | None): Of its video's overlay.
    """

    source: str
    image: Any = None
    sample: Any = None
    inputs: Optional[Tensor] = None
    error: Optional[str] = None
    stem: str = ''
    frame: Optional[int] = None
    last_frame: bool = False
    overlay: Any = None
    writer: Any = None


def load_config(config: Union[str, Path, Config],
                cfg_options: Optional[dict] = None) -> Config:
    """Config of a model, from a file, the name of a packaged config (see
    :func:`find_config`), or a copy of a config.

    Raises:
        RunError: The file or an option cannot be used.
    """
    if not isinstance(config, Config):
        path = str(config)
        if osp.basename(path) == path and not osp.exists(path):
            path = find_config(path)
        return read_config(path, cfg_options)
    config = config.copy()
    override(config, cfg_options or {})
    return config


def init_model(config: Union[str, Path, Config],
               checkpoint: Checkpoints = None,
               device: str = 'cpu',
               cfg_options: Optional[dict] = None) -> nn.Module:
    """Build a model and load its weights.

    On a CPU this process keeps the memory that it frees from now on (see
    ``allocator.py``): it stays as large as its largest image made it.

    Args:
        config (str | Path | Config): The config the model was trained with.
        checkpoint (str | Path | Sequence[str], optional): Weights; random ones
            without it. One file for each network of a
            ``TwoNetworkPanopticFPN``.
        device (str): 'cpu', 'cuda:0', ...
        cfg_options (dict, optional): Keys of the config to override, as
            ``--cfg-options``.

    Returns:
        nn.Module: In evaluation mode, with ``cfg``, ``dataset_meta`` and
        ``label_space``.

    Raises:
        InputError: The config names no classes and neither does the
            checkpoint, or their number is not the model's; or there is no
            such device.
        CheckpointError: The checkpoint is missing, damaged, or of another
            model.
    """
    if device.startswith('cuda') and not torch.cuda.is_available():
        raise InputError(f'device {device}: torch sees no GPU here. Use '
                         'device cpu, or install a torch with CUDA.')
    if device.startswith('cpu'):
        keep_freed_memory()
    config = load_config(config, cfg_options)
    require_panoptic(config, 'panoptic inference')
    init_default_scope('mmdet')
    if checkpoint is not None and 'init_cfg' in config.model.backbone:
        # The checkpoint holds these weights: do not download them.
        config.model.backbone.init_cfg = None
    model = revert_sync_batchnorm(MODELS.build(config.model))
    meta = {} if checkpoint is None else _load_checkpoint(model, checkpoint)
    model.dataset_meta, source = _dataset_meta(config, meta, checkpoint)
    model.label_space = LabelSpace.from_metainfo(model.dataset_meta, source)
    check_class_counts(model, model.label_space)
    model.cfg = config
    apply_memory_format(model, config)
    return model.to(device).eval()


def _load_checkpoint(model: nn.Module,
                     path: Union[str, Path, Sequence[str]]) -> dict:
    """Load every weight of the model; return the checkpoint's ``meta``."""
    revise_keys = [(r'^module\.', '')]
    if isinstance(path, (str, Path)):
        path = str(path)
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
                  checkpoint: Checkpoints) -> Tuple[dict, str]:
    """Classes of the checkpoint, or else of the config's test dataset; and
    which of them names the classes."""
    given = meta.get('dataset_meta') or {}
    if 'thing_classes' in given:
        return dict(given), str(checkpoint)
    try:
        dataset = DATASETS.build(config.test_dataloader.dataset)
    except InputError as error:
        raise InputError(
            f'{checkpoint or "A model without checkpoint"} names no classes '
            'and the test dataset of the config, which would, cannot be read:'
            f' {error}') from None
    return dict(dataset.metainfo), "the config's test dataset"


class ImageLoader:
    """Reads images and prepares them for a model like its test data."""

    def __init__(self, model: nn.Module) -> None:
        first, *rest = get_test_pipeline_cfg(model.cfg)
        self.backend_args = first.get('backend_args')
        self.label_space = model.label_space
        # Images are read here, once, for the model and for the pictures.
        from_array = dict(
            type='mmdet.LoadImageFromNDArray',
            to_float32=first.get('to_float32', False))
        self.pipeline = Compose([from_array, *rest])

    def __call__(self, image: ImageInput,
                 result: PanopticResult) -> PanopticResult:
        """Load a file or a BGR array.

        Args:
            image (str | Path | np.ndarray): The image.
            result (PanopticResult): With ``source``; gets ``image``,
                ``inputs`` and a ``sample`` without prediction, or ``error``
                where there is no image.
        """
        try:
            pixels = image if isinstance(image, np.ndarray) else read_image(
                str(image), self.backend_args)
            if (pixels.dtype != np.uint8 or pixels.shape[2:] != (3, )
                    or not pixels.size):
                raise CorruptFileError(
                    f'{result.source}: an array of {pixels.dtype} of shape '
                    f'{pixels.shape} is not an image. Give BGR uint8 of shape '
                    '(h, w, 3).')
            packed = self.pipeline(
                dict(
                    img=pixels,
                    img_id=result.source,
                    seg_map_path=None,
                    segments_info=None,
                    label_space=self.label_space))
        except CorruptFileError as error:
            result.error = str(error)
        except cv2.error as error:  # such as 500 x 1 pixels, made smaller
            height, width = pixels.shape[:2]
            result.error = (
                f'{result.source}: {width} x {height} pixels cannot be '
                f'resized for the network ({error.err}). Crop it to another '
                'shape.')
        else:
            result.inputs = packed['inputs']
            result.sample = packed['data_samples']
            result.sample.set_metainfo(dict(img_path=result.source))
            result.image = np.ascontiguousarray(pixels[..., ::-1])
        return result


def inference_panoptic(
        model: nn.Module,
        images: Union[ImageInput, Iterable[ImageInput]],
        amp: Amp = False,
        batch_size: int = 1,
        pred_score_thr: Optional[float] = None) -> Iterator[PanopticResult]:
    """Segment images.

    An image that cannot be read becomes a result with ``error``; the others
    are still segmented. Results come as they are computed, so nothing is
    lost when the caller stops.

    Args:
        model (nn.Module): From :func:`init_model`.
        images (str | Path | np.ndarray | Iterable): Files or BGR arrays.
        amp (bool or str): Whether convolutions run in half precision:
            bfloat16 on a CPU, on a GPU float16, or 'bfloat16' where that is
            given.
        batch_size (int): How many images are read at a time; those of one
            padded size go through the network together.
        pred_score_thr (float, optional): Least score of an instance on the
            panoptic map; the config's by default.

    Yields:
        PanopticResult: One for each image, in order.
    """
    if isinstance(images, (str, Path, np.ndarray)):
        images = [images]
    load = ImageLoader(model)
    named = ((image,
              f'image {i}' if isinstance(image, np.ndarray) else str(image))
             for i, image in enumerate(images, start=1))
    loaded = (load(image, PanopticResult(name)) for image, name in named)
    for batch in batches(loaded, batch_size):
        segment_batch(model, batch, amp, pred_score_thr)
        yield from batch


def batches(items: Iterable[T], size: int) -> Iterator[List[T]]:
    """Lists of ``size`` items; the last one may be shorter.

    Raises:
        InputError: ``size`` is not positive.
    """
    if size < 1:
        raise InputError(f'batch_size={size}: must be 1 or more.')
    items = iter(items)
    while batch := list(islice(items, size)):
        yield batch


@torch.no_grad()
def segment_batch(model: nn.Module,
                  batch: Sequence[PanopticResult],
                  amp: Amp = False,
                  pred_score_thr: Optional[float] = None) -> None:
    """Segment images of :class:`ImageLoader`, whose ``sample`` then has the
    predictions; arguments as :func:`inference_panoptic`.

    Those that are padded to the same size (a multiple of 32) go through the
    network together. None is padded further, as batches usually are, because
    features near the border would change: a result does not depend on the
    images beside it, but for the rounding of larger matrix products.
    """
    preprocessor = getattr(model, 'data_preprocessor', None)
    divisor = getattr(preprocessor, 'pad_size_divisor', 1)
    groups = defaultdict(list)
    for result in batch:
        if result.inputs is not None:
            padded = [-(-n // divisor) for n in result.inputs.shape[1:]]
            groups[tuple(padded)].append(result)
    for group in groups.values():
        data = dict(
            inputs=[result.inputs for result in group],
            data_samples=[result.sample for result in group])
        half = half_precision(next(model.parameters()).device,
                              amp) if amp else nullcontext()
        with half, _score_threshold(model, pred_score_thr):
            samples = model.test_step(data)
        for result, sample in zip(group, samples):
            result.inputs, result.sample = None, sample.cpu()
    bound_kept_memory()


@contextmanager
def _score_threshold(model: nn.Module,
                     score: Optional[float]) -> Iterator[None]:
    """Let the merge keep instances from another score threshold on."""
    if score is None:
        yield
        return
    own = merge_thresholds(model)
    if not 0 <= score <= 1:
        raise InputError(f'pred_score_thr={score}: is not within 0 .. 1.')
    merge = model.panoptic_fusion_head
    merge.thresholds = dict(own, score_thr=score)
    try:
        yield
    finally:
        merge.thresholds = own


def merge_thresholds(model: nn.Module) -> dict:
    """Thresholds of the merge, which may be replaced.

    Raises:
        InputError: It is the merge of one of mmdet's own models.
    """
    merge = model.panoptic_fusion_head
    if not hasattr(merge, 'thresholds'):
        raise InputError(
            f'{type(merge).__name__} of {type(model).__name__} takes no other '
            'score threshold. Set those in model.test_cfg of the config '
            '(--cfg-options).')
    return merge.thresholds
