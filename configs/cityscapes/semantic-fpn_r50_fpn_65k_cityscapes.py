# Semantic FPN, the baseline of section 4.2 (Tables 1c and 1d, mIoU 74.5):
# Panoptic FPN without its region branch.
_base_ = [
    '../_base_/models/panoptic-fpn_r50_fpn_cityscapes.py',
    '../_base_/datasets/cityscapes_semantic.py',
    '../_base_/schedules/schedule_65k_cityscapes.py',
    '../_base_/default_runtime.py',
]
model = dict(loss_weights=dict(instance=0.0))
default_hooks = dict(checkpoint=dict(save_best='mIoU'))
# all crops have one size: cuDNN may search for its fastest kernels
env_cfg = dict(cudnn_benchmark=True)
