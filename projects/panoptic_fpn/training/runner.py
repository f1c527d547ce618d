"""The runner of panoptic configs: models of several networks."""
from typing import Any, List, Sequence, Tuple, Union

from mmengine.registry import RUNNERS

from mmengine_exact.match import EXACT, bare_model
from mmengine_exact.runner import ExactRunner

from .network_checkpoints import load_networks, require_all_networks


@RUNNERS.register_module()
class PanopticRunner(ExactRunner):
    """``ExactRunner`` that also loads one checkpoint per network.

    A model of several networks (Table 3, 'R50-FPN x2') names them in its
    ``networks``; ``load_from`` is then a list of as many files.
    """

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
        checkpoint, report, warnings = load_networks(
            self.model, filename, policy, map_location, revise_keys)
        for warning in warnings:
            self.logger.warning(warning)
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
