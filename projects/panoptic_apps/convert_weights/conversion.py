"""Weights in the names of another project, and files of any layout.

Names are translated by the tables of ``layouts``; tensors stay as they are,
but for the order of the semantic classifier's channels.
"""
import os.path as osp
import re
from collections import Counter
from dataclasses import dataclass, field
from typing import Dict, List, Mapping, Tuple

import torch
from torch import Tensor

from mmengine_exact.checkpoint import read_checkpoint, to_plain
from mmengine_exact.errors import CheckpointError
from mmengine_exact.files import write_atomically
from mmengine_exact.match import MatchReport
from mmengine_exact.record import fingerprint, revision, versions
from mmengine_exact.safetensor import SUFFIX, write_safetensors

from .layouts import LAYOUTS, OURS, Layout
from .restricted_pickle import read_arrays

#: Beginnings of torch's files: a zip archive, or, before torch 1.6, a number.
_TORCH_SIGNS = (b'PK\x03\x04', b'\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19')


@dataclass
class Conversion:
    """Converted weights and what to know about them."""

    #: in the names and order of the side that was asked for
    weights: Dict[str, Tensor]
    #: the file they come from
    source: str
    #: 'ours' or 'theirs'
    to: str
    #: number of tensors of each part of our model
    converted: Dict[str, int]
    #: keys of the file that are not weights; that have no counterpart
    ignored: List[str]
    unmatched: List[str]
    #: our side compared with a model
    report: MatchReport = field(default_factory=MatchReport)
    #: settings that give the weights another meaning
    faults: List[str] = field(default_factory=list)
    #: for the written file
    meta: Dict = field(default_factory=dict)
    #: what to set in the config
    advice: List[str] = field(default_factory=list)

    def describe(self) -> str:
        """What was converted and what was not, one line for each key."""
        lines = [
            f'{count:5d} tensors of the {part}'
            for part, count in self.converted.items()
        ]
        for title, keys in (('ignored', self.ignored),
                            ('no counterpart, left out', self.unmatched),
                            ('not in the file', self.report.missing),
                            ('not in the model', self.report.unexpected)):
            lines += [f'{title}: {key}' for key in keys]
        lines += [
            f'shape differs: {key} {tuple(file)} in the file, '
            f'{tuple(model)} in the model'
            for key, (file, model) in self.report.mismatched.items()
        ]
        return '\n'.join([*lines, *self.advice])

    def require_fit(self) -> None:
        """Raise CheckpointError unless the weights fill the model and no more,
        and mean there what they meant; name the first keys and the setting to
        change."""
        keys = self.report.describe(['mismatched', 'missing', 'unexpected'])
        fault = '; '.join(filter(None, [*self.faults, keys]))
        fix = ' '.join(self.advice) or 'Give the config of this model.'
        if self.to == 'theirs' and self.unmatched and not fault:
            fault = (f'{len(self.unmatched)} weights have no counterpart '
                     f'there, such as {self.unmatched[0]}')
            fix = 'A model of this kind cannot be converted.'
        if fault:
            raise CheckpointError(f'Checkpoint {self.source} does not fit the '
                                  f'model of --config: {fault}. {fix}')


def convert_weights(weights: Mapping[str, Tensor],
                    layout: Layout,
                    to: str,
                    source: str = 'the checkpoint') -> Conversion:
    """Weights of the other project in our names, or with ``to='theirs'`` ours
    in its names; ``source`` is their file, for errors.

    Raises:
        CheckpointError: The weights are of another layout, or the classifier
            does not have a channel for each class.
    """
    to_ours = to == 'ours'
    _require_layout(weights, layout, to_ours, source)
    ignored = [
        key for key in weights if any(
            re.fullmatch(pattern, key) for pattern in layout.ignored)
    ]
    kept = [key for key in weights if key not in ignored]
    names = layout.table.translate(kept, to_ours)
    pairs = {key: name for key, name in names.items() if name is not None}
    # the classifier is reordered under our names
    ours = {(pairs[key] if to_ours else key): weights[key] for key in pairs}
    layout.reorder(ours, to_ours, source)
    return Conversion(
        weights=ours if to_ours else {
            pairs[key]: value
            for key, value in ours.items()
        },
        source=source,
        to=to,
        converted=dict(Counter(key.split('.')[0] for key in ours)),
        ignored=ignored,
        unmatched=[key for key in names if key not in pairs])


def _require_layout(weights: Mapping[str, Tensor], layout: Layout,
                    to_ours: bool, source: str) -> None:
    signs = {**{name: it.sign for name, it in LAYOUTS.items()}, 'ours': OURS}
    wanted = layout.name if to_ours else 'ours'
    found = [
        name for name, sign in signs.items() if any(
            key.startswith(sign) for key in weights)
    ]
    if wanted not in found:
        raise CheckpointError(
            f'Checkpoint {source}: no {signs[wanted]}* among its keys '
            f'({next(iter(weights), "none")}, ...), as {wanted} has them; it '
            f'is of {" or ".join(found) or "no known layout"}. Give '
            'another project, another --to, or another checkpoint.')


def read_weights(path: str) -> Tuple[Dict[str, Tensor], dict]:
    """Weights of a file, without the ``module.`` of a wrapper, and its
    ``meta``, maybe empty; no code of it is run.

    Args:
        path (str): A file of torch or safetensors (an address as well), or a
            plain pickle of numpy arrays, as Detectron2's ``.pkl``.

    Raises:
        CheckpointError: Missing, damaged, unsafe, or without weights.
    """
    if osp.isfile(path) and not path.endswith(SUFFIX) and not _is_torchs(path):
        content: dict = dict(state_dict=read_arrays(path))
    else:  # keys of OpenMMLab, of Detectron2
        content = read_checkpoint(path, keys=('state_dict', 'model'))
    weights = {
        key.removeprefix('module.'): torch.as_tensor(value)
        for key, value in content['state_dict'].items()
    }
    return weights, content.get('meta', {})


def _is_torchs(path: str) -> bool:
    with open(path, 'rb') as file:
        return file.read(16).startswith(_TORCH_SIGNS)


def write_weights(out_path: str,
                  weights: Mapping[str, Tensor],
                  meta: Mapping,
                  source: str,
                  key: str = 'state_dict') -> None:
    """Write weights, and ``meta`` with a record of their source, as
    safetensors if the name ends so, otherwise with torch, the weights below
    ``key``. The file is complete or not there."""
    if osp.realpath(out_path) == osp.realpath(source):
        raise CheckpointError(f'{out_path} is the input as well. Give '
                              'another name for the output.')
    record = dict(
        converted_from=osp.basename(source),
        sha256=fingerprint(source),
        revision=revision(),
        versions=versions())
    plain = to_plain({**meta, **record})

    def write(partial: str) -> None:
        if out_path.endswith(SUFFIX):
            write_safetensors(partial, weights, plain)
        else:
            torch.save({key: weights, 'meta': plain}, partial)

    write_atomically(out_path, write)
