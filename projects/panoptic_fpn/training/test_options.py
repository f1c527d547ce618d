"""Options of ``tools/test.py``: --show-dir, --panoptic-only and --tta."""
import logging
from typing import List, Mapping, Optional

from mmengine.config import Config, ConfigDict
from mmengine.logging import print_log

from mmengine_exact.errors import RunError
from mmengine_exact.record import leaf_datasets

#: Metrics that read maps. Others may need all instances.
_MAP_METRICS = ('PanopticQualityMetric', 'SemanticIoUMetric',
                'CityscapesSemanticIoUMetric', 'CocoPanopticMetric')
#: Keys of a config about test-time augmentation.
_KEYS = ('tta_model', 'tta_pipeline')
_TTA = dict(type='PanopticTTAModel')
#: Models that need nothing in their config for it.
_PANOPTIC = ('TwoStagePanopticFPN', 'TwoNetworkPanopticFPN')
#: Those of mmdet (docs/mmdet_models.md), without the branches of the above.
_MMDETS = ('PanopticFPN', 'MMDetPanopticFPN', 'MaskFormer', 'Mask2Former')
#: Sizes, as multiples of the test pipeline's, where the config gives no
#: ``tta_pipeline``: mmdet's. The first is the plain one.
_SCALES = (1.0, 0.5, 1.5)


def require_panoptic(cfg: Config, option: str) -> None:
    """Refuse what a config of mmseg's segmentors cannot do.

    Raises:
        RunError: The config's scope is not mmdet's; names the option.
    """
    scope = cfg.get('default_scope', 'mmdet')
    if scope != 'mmdet':
        raise RunError(
            f'{option}: {cfg.filename} is a config of {scope}, which has no '
            'panoptic results. There, label images are written with '
            '--cfg-options test_evaluator.format_only=True '
            'test_evaluator.output_dir=DIR, and pictures are drawn with '
            'tools/test.py --show-dir DIR.')


def require_own_model(cfg: Config, option: str) -> None:
    """Refuse what mmdet's panoptic models cannot do.

    Raises:
        RunError: Names the option, the config and its model.
    """
    kind = cfg.model.get('type')
    if kind in _MMDETS:
        raise RunError(f'{option}: the model of {cfg.filename} is {kind}, '
                       f'this is for {" and ".join(_PANOPTIC)}. Leave '
                       f'{option} out.')


def draw_test_pictures(cfg: Config, folder: str) -> None:
    """``--show-dir``: draw pictures of a test into ``folder``."""
    hooks = cfg.get('default_hooks') or {}
    hook = dict(
        hooks.get('visualization') or dict(type='PanopticVisualizationHook'),
        draw=True)
    if hook['type'].endswith('SegVisualizationHook'):
        # mmseg's draws each 50th image and writes where the visualizer does
        hook['interval'] = 1
        cfg.visualizer['save_dir'] = folder
    else:
        hook['test_out_dir'] = folder
    cfg.default_hooks = dict(hooks, visualization=hook)


def enable_panoptic_only(cfg: Config) -> None:
    """``--panoptic-only``: masks only for detections that can reach the
    panoptic map.

    Args:
        cfg (Config): Changed in place: ``model.test_cfg.panoptic_only`` is set
            and metrics of instances are taken out, which is logged.

    Raises:
        RunError: The evaluator has no metric of maps, or the model is
            mmdet's.
    """
    require_panoptic(cfg, '--panoptic-only')
    require_own_model(cfg, '--panoptic-only')
    cfg.model.test_cfg.panoptic_only = True
    if 'metrics' not in cfg.test_evaluator:  # a metric, or a list of them
        cfg.test_evaluator = dict(
            type='PanopticEvaluator', metrics=cfg.test_evaluator)
    metrics = cfg.test_evaluator.metrics
    if isinstance(metrics, Mapping):
        metrics = [metrics]
    kept = [m for m in metrics if m['type'] in _MAP_METRICS]
    dropped = [m['type'] for m in metrics if m['type'] not in _MAP_METRICS]
    if not kept:
        raise RunError(
            f'--panoptic-only: test_evaluator has {dropped} alone, which '
            'may need all instances. Leave --panoptic-only out.')
    if dropped:
        print_log(
            f'--panoptic-only: without {", ".join(dropped)}, which may need '
            'all instances.',
            logger='current',
            level=logging.WARNING)
    cfg.test_evaluator.metrics = kept


def enable_tta(cfg: Config) -> None:
    """``--tta``: test with the augmentations of ``tta_pipeline``.

    Args:
        cfg (Config): With ``tta_model`` (what goes around the model) and
            ``tta_pipeline`` (the test pipeline with ``TestTimeAug``); changed
            in place. With neither of them, a ``TwoStagePanopticFPN`` or
            ``TwoNetworkPanopticFPN`` is averaged by ``PanopticTTAModel``
            over three sizes and their mirror images.

    Raises:
        RunError: The config lacks one of them, or both with another model
            or a test pipeline that is not understood; or the model is mmdet's
            and so cannot be averaged by ``PanopticTTAModel``.
    """
    if (cfg.get('tta_model') or _TTA)['type'] == _TTA['type']:
        require_own_model(cfg, '--tta')
    if not any(map(cfg.get, _KEYS)) and cfg.model.get('type') in _PANOPTIC:
        cfg.tta_model = dict(_TTA)
        cfg.tta_pipeline = augmented_pipeline(pipeline_of(cfg.test_dataloader))
    missing = [key for key in _KEYS if cfg.get(key) is None]
    if missing:
        raise RunError(
            f'--tta: {cfg.filename} has no {" and no ".join(missing)}. Leave '
            "--tta out, or add tta_model=dict(type='PanopticTTAModel') and a "
            'tta_pipeline with TestTimeAug; neither is needed where the test '
            'pipeline has one ...Resize with a scale, and Pack... at its end.')
    cfg.model = dict(cfg.tta_model, module=cfg.model)
    for dataset in leaf_datasets(cfg.test_dataloader.dataset):
        dataset.pipeline = cfg.tta_pipeline


def augmented_pipeline(pipeline: List[dict]) -> Optional[List[dict]]:
    """A test pipeline in three sizes, each as it is and mirrored.

    Args:
        pipeline (list[dict]): With one step that resizes to a ``scale``, and
            packing at its end. What stands between them is done before the
            sizes part, once.

    Returns:
        list[dict] or None: None where the pipeline has another form.
    """
    sizes = [
        step for step in pipeline
        if str(step['type']).endswith('Resize') and 'scale' in step
    ]
    if len(sizes) != 1 or not str(pipeline[-1]['type']).startswith('Pack'):
        return None
    resize, pack = sizes[0], pipeline[-1]
    scales = [
        tuple(round(side * factor) for side in resize['scale'])
        for factor in _SCALES
    ]
    views = [[dict(resize, scale=scale) for scale in scales],
             [dict(type='RandomFlip', prob=prob) for prob in (0.0, 1.0)],
             [pack]]
    once = [step for step in pipeline[:-1] if step is not resize]
    return [*once, dict(type='TestTimeAug', transforms=views)]


def pipeline_of(loader: ConfigDict) -> List[dict]:
    """Pipeline of a loader's data set, or of the first of those inside a
    wrapper; empty without one."""
    return next(leaf_datasets(loader.dataset)).get('pipeline', [])
