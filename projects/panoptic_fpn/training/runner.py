"""The runner of panoptic configs, whose model may be several networks."""
from typing import Any, Dict, List, Sequence, Tuple, Union

from mmdet.registry import RUNNERS
from mmengine.logging import print_log
from torch import nn

from mmengine_exact.checkpoint import read_checkpoint
from mmengine_exact.errors import CheckpointError
from mmengine_exact.match import (EXACT, MatchReport, bare_model, load_weights,
                                  require)
from mmengine_exact.runner import ExactRunner

from ..labels import LabelSpace
from ..ops.mmcv_operators import stands_in
from .label_check import check_same_categories


@RUNNERS.register_module()
class PanopticRunner(ExactRunner):
    """``ExactRunner`` that also loads one checkpoint per network.

    A model of several networks names them in its ``networks``; ``load_from``
    is then a list of as many files.
    """

    def build_model(self, model: Union[nn.Module, Dict]) -> nn.Module:
        """Build the model, and log what stands in for mmcv's operators."""
        if operators := stands_in():
            print_log(f'mmcv has no compiled operators: {operators}.',
                      'current')
        return super().build_model(model)

    def load_checkpoint(
            self,
            filename: Union[str, Sequence[str]],
            map_location: Any = 'cpu',
            strict: bool = False,
            revise_keys: List[Tuple[str, str]] = [(r'^module\.', '')]) -> dict:
        """Same as ``ExactRunner.load_checkpoint``, for one or several files.

        Raises:
            CheckpointError: Not one file for each network of the model, or a
                file that does not fit its network.
        """
        if isinstance(filename, str):
            return super().load_checkpoint(filename, map_location, strict,
                                           revise_keys)
        policy = EXACT if strict else self._policy
        checkpoint, report, warnings = load_networks(self.model, filename,
                                                     policy, map_location,
                                                     revise_keys)
        self._warn(*warnings)
        # hooks that keep weights of their own, such as EMAHook, take these
        self.call_hook(
            'after_load_checkpoint',
            checkpoint=dict(state_dict=bare_model(self.model).state_dict()))
        self._has_loaded = True
        self.logger.info(f'Loaded {len(report.loaded)} tensors from '
                         f'{", ".join(filename)}')
        return checkpoint

    def _check_contents(self, checkpoint: dict, filename: str) -> None:
        require_all_networks(self.model, checkpoint['state_dict'], filename)


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
        policy (str): What each has to match, see ``mmengine_exact.match``.
        map_location (str): As in ``torch.load``.
        revise_keys (Sequence[tuple[str, str]]): As in ``load_weights``.

    Returns:
        tuple: The first checkpoint; what was loaded; warnings.

    Raises:
        CheckpointError: Not one file for each network, or a file that does
            not fit its network.
        InputError: Files of different classes.
    """
    model, networks = bare_model(model), _networks(model, paths)
    files = [read_checkpoint(path, map_location) for path in paths]
    total, spaces, warnings = MatchReport(), [], []
    for path, file in zip(paths, files):
        meta = (file.get('meta') or {}).get('dataset_meta') or {}
        if 'thing_classes' in meta:
            spaces.append(LabelSpace.from_metainfo(meta, path))
        else:
            warnings.append(f'{path} does not name its classes, so it is not '
                            'checked that all networks have the same.')
    # label 3 of one network must be label 3 of the other
    check_same_categories(spaces)
    for name, path, file in zip(networks, paths, files):
        report = load_weights(
            getattr(model, name), file['state_dict'], revise_keys)
        warnings.append(
            require(
                report, policy, f'{path} (for {name}; the order is '
                f'{", ".join(networks)})'))
        total.loaded += [f'{name}.{key}' for key in report.loaded]
    return files[0], total, list(filter(None, warnings))


def require_all_networks(model: nn.Module, state_dict: dict,
                         path: str) -> None:
    """Require that one file holds all networks of a model.

    Raises:
        CheckpointError: The file holds a single network.
    """
    networks = getattr(bare_model(model), 'networks', ())
    if networks and not {key.split('.')[0]
                         for key in state_dict}.intersection(networks):
        _networks(model, [path])


def _networks(model: nn.Module, paths: Sequence[str]) -> Sequence[str]:
    """Names of the networks of a model, as many as files."""
    model = bare_model(model)
    networks = getattr(model, 'networks', ())
    if len(networks) != len(paths):
        takes = f'takes {len(networks)} checkpoints ({", ".join(networks)})'
        raise CheckpointError(
            f'{", ".join(paths)} for {type(model).__name__}, which '
            f'{takes if networks else "is one network"}. Give as many.')
    return networks
