"""Scope ``panoptic_fpn`` of MMEngine's registries, a child of mmdet's.

Modules are registered with mmdet. MMEngine builds what a config inherits as
``panoptic_fpn::coco/NAME.py`` in the scope of that prefix, which finds mmdet's
and ours here.
"""
from mmdet import registry as mmdet_registry
from mmengine.registry import Registry

for _parent in list(vars(mmdet_registry).values()):
    if isinstance(_parent, Registry):
        Registry(
            _parent.name,
            parent=_parent,
            scope='panoptic_fpn',
            locations=['panoptic_fpn'])
