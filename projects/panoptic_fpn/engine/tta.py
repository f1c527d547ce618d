"""``tools/test.py --tta``: a config's model inside its ``tta_model``."""
from typing import List

from mmengine.config import Config

from .errors import EngineError

#: What a config says of test-time augmentation.
_KEYS = ('tta_model', 'tta_pipeline')
#: Models that need nothing in their config for it.
_PANOPTIC = ('TwoStagePanopticFPN', 'TwoNetworkPanopticFPN')
#: Sizes, as multiples of the test pipeline's, where the config gives no
#: ``tta_pipeline``: mmdet's. The first is the plain one.
_SCALES = (1.0, 0.5, 1.5)


def enable_tta(cfg: Config) -> None:
    """Test with the augmentations of ``tta_pipeline``.

    Args:
        cfg (Config): With ``tta_model`` (what goes around the model) and
            ``tta_pipeline`` (the test pipeline with ``TestTimeAug``); is
            changed. With neither of them, a ``TwoStagePanopticFPN`` or
            ``TwoNetworkPanopticFPN`` is averaged by ``PanopticTTAModel``
            over three sizes and their mirror images.

    Raises:
        EngineError: The config lacks one of them, or both with another model
            or a test pipeline that is not understood.
    """
    missing = [key for key in _KEYS if cfg.get(key) is None]
    if len(missing) == 2 and cfg.model.get('type') in _PANOPTIC:
        cfg.tta_model = dict(type='PanopticTTAModel')
        cfg.tta_pipeline = augmented_pipeline(
            _pipeline(cfg.test_dataloader.dataset), cfg.filename)
        missing = []
    if missing:
        raise EngineError(
            f'--tta: {cfg.filename} has no {" and no ".join(missing)}. Leave '
            "--tta out, or add tta_model=dict(type='PanopticTTAModel') and a "
            'tta_pipeline with TestTimeAug.')
    cfg.model = dict(cfg.tta_model, module=cfg.model)
    _set_pipeline(cfg.test_dataloader.dataset, cfg.tta_pipeline)


def augmented_pipeline(pipeline: List[dict], source: str) -> List[dict]:
    """A test pipeline in three sizes, each as it is and mirrored.

    Args:
        pipeline (list[dict]): With one step that resizes to a ``scale``, and
            packing at its end. What stands between them is done before the
            sizes part, once.
        source (str): The config, for the error.

    Raises:
        EngineError: The pipeline is another.
    """
    sizes = [step for step in pipeline if _resizes(step)]
    if len(sizes) != 1 or not str(pipeline[-1]['type']).startswith('Pack'):
        raise EngineError(
            f'--tta: the test pipeline of {source} is not one step of '
            '...Resize with a scale, and Pack... at its end. Give '
            "tta_model=dict(type='PanopticTTAModel') and a tta_pipeline with "
            'TestTimeAug.')
    resize, pack = sizes[0], pipeline[-1]
    views = [
        [
            dict(
                resize,
                scale=tuple(round(side * factor) for side in resize['scale']))
            for factor in _SCALES
        ],
        [dict(type='RandomFlip', prob=prob) for prob in (0.0, 1.0)],
        [pack],
    ]
    once = [step for step in pipeline[:-1] if step is not resize]
    return [*once, dict(type='TestTimeAug', transforms=views)]


def _resizes(step: dict) -> bool:
    return str(step['type']).endswith('Resize') and 'scale' in step


def _pipeline(dataset: dict) -> List[dict]:
    """Of a data set, or of the first of those inside a wrapper."""
    while 'pipeline' not in dataset:
        inner = dataset.get('datasets') or [dataset['dataset']]
        dataset = inner[0]
    return dataset['pipeline']


def _set_pipeline(dataset: dict, pipeline: list) -> None:
    """Of a data set, or of those inside a wrapper."""
    inner = dataset.get('datasets') or [dataset.get('dataset')]
    if inner == [None]:
        dataset['pipeline'] = pipeline
        return
    for part in inner:
        _set_pipeline(part, pipeline)
