"""``tools/test.py --tta``: a config's model inside its ``tta_model``."""
from mmengine.config import Config

from .errors import EngineError


def enable_tta(cfg: Config) -> None:
    """Test with the augmentations of ``tta_pipeline``.

    Args:
        cfg (Config): With ``tta_model`` (what goes around the model) and
            ``tta_pipeline`` (the test pipeline with ``TestTimeAug``); is
            changed.

    Raises:
        EngineError: The config lacks one of them.
    """
    missing = [
        key for key in ('tta_model', 'tta_pipeline') if cfg.get(key) is None
    ]
    if missing:
        raise EngineError(
            f'--tta: {cfg.filename} has no {" and no ".join(missing)}. Leave '
            "--tta out, or add tta_model=dict(type='SemanticTTAModel') and a "
            'tta_pipeline with TestTimeAug.')
    cfg.model = dict(cfg.tta_model, module=cfg.model)
    _set_pipeline(cfg.test_dataloader.dataset, cfg.tta_pipeline)


def _set_pipeline(dataset: dict, pipeline: list) -> None:
    """Of a data set, or of those inside a wrapper."""
    inner = dataset.get('datasets') or [dataset.get('dataset')]
    if inner == [None]:
        dataset['pipeline'] = pipeline
        return
    for part in inner:
        _set_pipeline(part, pipeline)
