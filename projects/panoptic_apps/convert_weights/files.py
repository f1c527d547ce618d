"""Files of weights: any layout in, this project's or another's out."""
import os.path as osp
from typing import Any, Dict, Tuple

import numpy as np
import torch
from torch import Tensor

from mmengine_exact.checkpoint import read_checkpoint
from mmengine_exact.errors import CheckpointError
from mmengine_exact.files import write_atomically
from mmengine_exact.record import fingerprint, revision, versions

from .restricted_pickle import load_arrays

#: Beginnings of torch's files: a zip archive, or, before torch 1.6, a number.
_TORCH_SIGNS = (b'PK\x03\x04', b'\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19')
#: Where a file keeps its weights: OpenMMLab's, Detectron2's.
_KEYS = ('state_dict', 'model')


def read_weights(path: str) -> Tuple[Dict[str, Tensor], dict]:
    """Weights of a file, and what its ``meta`` says; no code of it is run.

    Args:
        path (str): Of torch (an address as well), or a plain pickle of
            numpy arrays, as Detectron2's ``.pkl``.

    Returns:
        tuple[dict[str, Tensor], dict]: Weights, without the ``module.`` of
        DistributedDataParallel, and ``meta``, maybe empty.

    Raises:
        CheckpointError: Missing, damaged, unsafe, or without weights.
    """
    if '://' not in path and osp.isfile(path) and not _is_torchs(path):
        content = _with_tensors(load_arrays(path), path)
    else:
        content = read_checkpoint(path, keys=_KEYS)
    weights = {
        key.removeprefix('module.'): value
        for key, value in content['state_dict'].items()
    }
    meta = content.get('meta')
    return weights, meta if isinstance(meta, dict) else {}


def _is_torchs(path: str) -> bool:
    with open(path, 'rb') as file:
        return file.read(16).startswith(_TORCH_SIGNS)


def _with_tensors(content: Any, path: str) -> dict:
    """``state_dict`` of what a pickle holds.

    Raises:
        CheckpointError: It is no dict of arrays.
    """
    if isinstance(content, dict) and 'blobs' in content:
        raise CheckpointError(
            f"Checkpoint {path} is Caffe2's or Detectron's (it has 'blobs'). "
            "Give one of Detectron2's model zoo.")
    weights = content
    if isinstance(content, dict) and 'model' in content:
        weights = content['model']
    if not isinstance(weights, dict) or not weights or not all(
            isinstance(key, str) and isinstance(value, np.ndarray)
            for key, value in weights.items()):
        raise CheckpointError(
            f"Checkpoint {path} holds no 'model' of numpy arrays. Give one "
            "of Detectron2's model zoo.")
    try:
        return dict(state_dict={
            key: torch.from_numpy(value)
            for key, value in weights.items()
        })
    except TypeError as error:  # a type of numbers that torch has not
        raise CheckpointError(
            f'Checkpoint {path} holds numbers that torch cannot take '
            f'({error}). Save its weights as float32.') from None


def source_record(path: str) -> dict:
    """What a converted file says of its source, and of the conversion."""
    return dict(
        converted_from=osp.basename(path),
        sha256=fingerprint(path),
        revision=revision(),
        versions=versions())


def require_output(path: str, out_path: str) -> None:
    """Where a conversion is to be written can be written, and is no input.

    Raises:
        CheckpointError: Names the file and what to do.
    """
    if osp.exists(out_path) and osp.exists(path) and osp.samefile(
            path, out_path):
        raise CheckpointError(f'{out_path} is the input as well. Give '
                              'another name for the output.')
    if not osp.isdir(osp.dirname(osp.abspath(out_path))):
        raise CheckpointError(f'{osp.dirname(out_path)} is no folder, so '
                              f'{out_path} cannot be written. Make it first.')


def write_weights(out_path: str, content: dict) -> None:
    """Write a file of torch that is complete or not there.

    Raises:
        CheckpointError: It cannot be written.
    """
    write_atomically(out_path, lambda partial: torch.save(content, partial))
