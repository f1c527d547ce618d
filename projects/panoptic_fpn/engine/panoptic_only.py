"""``tools/test.py --panoptic-only``: the panoptic map, and no AP."""
from mmengine.config import Config

from .command import require_panoptic
from .errors import EngineError


def enable_panoptic_only(cfg: Config) -> None:
    """Give masks only to detections that can reach the panoptic map.

    Args:
        cfg (Config): Is changed: ``model.test_cfg.panoptic_only`` is set, and
            metrics of instances are taken out.

    Raises:
        EngineError: The evaluator has no other metric.
    """
    require_panoptic(cfg, '--panoptic-only')
    cfg.model.test_cfg.panoptic_only = True
    evaluator = cfg.test_evaluator
    if 'metrics' not in evaluator:
        return
    kept = [m for m in evaluator.metrics if 'InstanceAP' not in m['type']]
    if not kept:
        raise EngineError(
            '--panoptic-only: test_evaluator has no metric but AP, which '
            'needs all detections. Leave --panoptic-only out.')
    evaluator.metrics = kept
