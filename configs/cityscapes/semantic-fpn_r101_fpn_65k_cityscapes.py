# Semantic FPN R101-FPN of Table 1a (mIoU 77.7): with colour augmentation and
# crop bootstrapping.
_base_ = [
    '../_base_/models/panoptic-fpn_r50_fpn_cityscapes.py',
    '../_base_/datasets/cityscapes_semantic_bootstrap.py',
    '../_base_/schedules/schedule_65k_cityscapes.py',
    '../_base_/default_runtime.py',
]
model = dict(
    loss_weights=dict(instance=0.0),
    backbone=dict(
        depth=101,
        init_cfg=dict(checkpoint='open-mmlab://detectron2/resnet101_caffe')))
default_hooks = dict(checkpoint=dict(save_best='mIoU'))
# all crops have one size: cuDNN may search for its fastest kernels
env_cfg = dict(cudnn_benchmark=True)
