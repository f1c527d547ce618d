_base_ = [
    '../_base_/models/panoptic-fpn_r50_fpn_cityscapes.py',
    '../_base_/datasets/cityscapes_panoptic.py',
    '../_base_/schedules/schedule_65k_cityscapes.py',
    '../_base_/default_runtime.py',
]
