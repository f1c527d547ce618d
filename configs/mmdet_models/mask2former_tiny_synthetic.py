# mmdet's Mask2Former, small, from scratch on synthetic shapes, on a CPU.
_base_ = [
    '../_base_/mmdet/mask2former_r50.py',
    '../_base_/mmdet/tiny_query_model.py',
    '../_base_/datasets/synthetic_panoptic.py',
]
custom_imports = dict(imports=['panoptic_fpn', 'panoptic_apps.toy_data'])
model = dict(
    _base_.tiny_model,
    data_preprocessor=dict(batch_augments=None),
    train_cfg=dict(num_points=1024))
optim_wrapper = _base_.tiny_optimizer

train_cfg = dict(max_iters=_base_.max_iters, val_interval=_base_.max_iters)
auto_scale_lr = dict(base_batch_size=8)
default_hooks = dict(checkpoint=dict(interval=200))
