"""Panoptic Feature Pyramid Networks on mmengine, mmcv, mmdet and mmseg.

Importing the package registers every module with MMDetection's registries;
configs do so with ``custom_imports``. Where MMDetection is not installed,
``labels`` and ``fusion`` still import: they need numpy and torch alone.
"""
from importlib.util import find_spec

if find_spec('mmdet') is not None:
    from .ops.mmcv_operators import stand_in

    stand_in()  # before mmcv's operators are imported
    from . import data, metrics, models, registry, training, visualization
    from .config_files import find_config

    __all__ = [
        'data', 'find_config', 'metrics', 'models', 'registry', 'training',
        'visualization'
    ]
