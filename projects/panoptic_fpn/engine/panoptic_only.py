"""``tools/test.py --panoptic-only``: the panoptic map, and no AP."""
import logging
from typing import Mapping

from mmengine.config import Config
from mmengine.logging import print_log

from .command import require_panoptic
from .errors import EngineError

#: Metrics of maps. Others might look at instances, of which some are missing.
_OF_MAPS = ('PanopticQualityMetric', 'SemanticIoUMetric',
            'CityscapesSemanticIoUMetric', 'CocoPanopticMetric')


def enable_panoptic_only(cfg: Config) -> None:
    """Give masks only to detections that can reach the panoptic map.

    Args:
        cfg (Config): Is changed: ``model.test_cfg.panoptic_only`` is set, and
            metrics of instances are taken out, which is logged.

    Raises:
        EngineError: The evaluator has no metric of maps.
    """
    require_panoptic(cfg, '--panoptic-only')
    cfg.model.test_cfg.panoptic_only = True
    evaluator = cfg.get('test_evaluator')
    metrics = evaluator
    if isinstance(evaluator, Mapping) and 'metrics' in evaluator:
        metrics = evaluator['metrics']
    if isinstance(metrics, Mapping):
        metrics = [metrics]
    kept = [m for m in metrics or () if m['type'] in _OF_MAPS]
    dropped = [m['type'] for m in metrics or () if m['type'] not in _OF_MAPS]
    if not kept:
        raise EngineError(
            f'--panoptic-only: test_evaluator has {dropped} alone, which '
            'may need all instances. Leave --panoptic-only out.')
    if dropped:
        print_log(
            f'--panoptic-only: without {", ".join(dropped)}, which may need '
            'all instances.',
            logger='current',
            level=logging.WARNING)
    if isinstance(evaluator, dict) and 'metrics' in evaluator:
        evaluator['metrics'] = kept
    else:
        cfg.test_evaluator = dict(type='PanopticEvaluator', metrics=kept)
