"""Weights of a model that is made of several networks ('x2' of Table 3)."""
from typing import List, Sequence, Tuple

from torch import nn

from mmengine_exact.checkpoint import read_checkpoint
from mmengine_exact.errors import CheckpointError
from mmengine_exact.match import MatchReport, bare_model, load_weights, require

from ..labels import LabelSpace


def load_networks(
    model: nn.Module,
    paths: Sequence[str],
    policy: str,
    map_location: str = 'cpu',
    revise_keys: Sequence[Tuple[str, str]] = ()
) -> Tuple[dict, MatchReport, List[str]]:
    """Load one checkpoint into each network of a model.

    Args:
        model (nn.Module): Its ``networks`` name the children, in the order of
            the checkpoints; may be wrapped.
        paths (Sequence[str]): Files.
        policy (str): What each has to match, see ``checkpoint_match``.
        map_location (str): As in ``torch.load``.
        revise_keys (Sequence[tuple[str, str]]): As in ``load_weights``.

    Returns:
        tuple: The first checkpoint; what was loaded; warnings.

    Raises:
        CheckpointError: Not one file for each network, a file that does not
            fit its network, or files of different classes.
    """
    model = bare_model(model)
    networks = getattr(model, 'networks', ())
    if len(networks) != len(paths):
        takes = ', '.join(networks) or 'it is one network'
        raise CheckpointError(
            f'{len(paths)} checkpoints ({", ".join(paths)}) for '
            f'{type(model).__name__}, which takes {len(networks) or 1} '
            f'({takes}). Give as many.')
    files = [read_checkpoint(path, map_location) for path in paths]
    total, warnings = MatchReport(), _check_same_classes(paths, files)
    for name, path, file in zip(networks, paths, files):
        report = load_weights(
            getattr(model, name), file['state_dict'], revise_keys)
        try:
            warning = require(report, policy, path)
        except CheckpointError as error:
            raise CheckpointError(
                f'{name}: {error} The order is {", ".join(networks)}.'
            ) from None
        warnings += [f'{name}: {warning}'] if warning else []
        total.loaded += [f'{name}.{key}' for key in report.loaded]
    return files[0], total, warnings


def require_all_networks(model: nn.Module, state_dict: dict,
                         path: str) -> None:
    """One file must hold all networks of a model.

    Raises:
        CheckpointError: It is that of a single network.
    """
    networks = getattr(bare_model(model), 'networks', ())
    if networks and not any(
            key.split('.')[0] in networks for key in state_dict):
        raise CheckpointError(
            f'{path} holds no network of {type(bare_model(model)).__name__}, '
            f'which takes {len(networks)} checkpoints ({", ".join(networks)}).'
            ' Give as many.')


def _check_same_classes(paths: Sequence[str],
                        files: Sequence[dict]) -> List[str]:
    """Label 3 of one network must be label 3 of the other.

    Returns:
        list[str]: Warnings of files that do not say.

    Raises:
        CheckpointError: Names both files and the classes of one only.
    """
    known, silent = [], []
    for path, file in zip(paths, files):
        meta = (file.get('meta') or {}).get('dataset_meta') or {}
        if 'thing_classes' in meta:
            known.append((path, LabelSpace.from_metainfo(meta, path)))
        else:
            silent.append(f'{path} does not name its classes: that all '
                          'networks have the same was not checked.')
    for path, space in known[1:]:
        first, expected = known[0]
        if space == expected:
            continue
        raise CheckpointError(
            f'{first} and {path} were trained on different classes; (id, '
            f'name, isthing) of one only: {space.difference(expected)[:6]}. '
            'Merge networks of the same data set.')
    return silent
