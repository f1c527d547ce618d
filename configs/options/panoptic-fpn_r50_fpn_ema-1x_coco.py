# Exponential moving average of the weights. Validation, the best checkpoint
# and `state_dict` of every checkpoint are the averaged weights; --resume
# continues with the others, which are in `ema_state_dict`.
_base_ = '../coco/panoptic-fpn_r50_fpn_1x_coco.py'
custom_hooks = _base_.custom_hooks + [dict(type='EMAHook', momentum=0.0002)]
