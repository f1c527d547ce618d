"""Files of safetensors: weights that other projects read as well.

Holds     ``state_dict``; as JSON in the file's metadata ``meta`` (names of
          classes, config, record), in which tuples become lists.
Lost      optimizer, schedule and message hub: nothing can be resumed from it.
Checked   The format has no checksum, so a CRC-32 of the above is in the
          metadata; files from elsewhere do without.
"""
import json
import zlib
from typing import Mapping

import torch
from torch import Tensor

SUFFIX = '.safetensors'


def is_safetensors(path: str) -> bool:
    """Whether a local file is one, whatever its name."""
    with open(path, 'rb') as file:
        return file.read(9)[8:] == b'{'


def read_safetensors(path: str) -> dict:
    """``state_dict`` and ``meta`` of a local file, on the CPU.

    Raises:
        Exception: The file is missing or damaged, or not of this kind.
    """
    from safetensors import safe_open  # trainings do without
    with safe_open(path, 'pt') as file:
        metadata = file.metadata() or {}
        weights = {key: file.get_tensor(key) for key in file.keys()}
    if 'crc32' not in metadata:  # what others call 'meta' may be anything
        return dict(state_dict=weights, meta={})
    text = metadata.get('meta', '{}')
    if metadata['crc32'] != _checksum(weights, text):
        raise ValueError('its checksum differs')
    return dict(state_dict=weights, meta=json.loads(text))


def write_safetensors(path: str, weights: Mapping[str, Tensor],
                      meta: Mapping) -> None:
    """Write weights and ``meta``; what JSON does not know becomes text."""
    from safetensors.torch import save_file
    text = json.dumps(meta, default=str)
    # the format refuses tensors that share memory
    own = {k: v.detach().contiguous().clone() for k, v in weights.items()}
    metadata = dict(format='pt', meta=text, crc32=_checksum(own, text))
    save_file(own, path, metadata)


def _checksum(weights: Mapping[str, Tensor], text: str) -> str:
    total = zlib.crc32(text.encode())
    for key, value in sorted(weights.items()):
        kind = f'{key} {value.dtype} {tuple(value.shape)}'
        total = zlib.crc32(kind.encode(), total)
        content = value.reshape(-1).view(torch.uint8).numpy()
        total = zlib.crc32(content, total)
    return f'{total:08x}'
