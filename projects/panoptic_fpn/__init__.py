"""Panoptic Feature Pyramid Networks on mmengine, mmcv, mmdet and mmseg.

Importing the package registers every module with MMDetection's registries;
configs do so with ``custom_imports``.
"""
