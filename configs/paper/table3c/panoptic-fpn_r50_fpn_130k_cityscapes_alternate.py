_base_ = '../../cityscapes/panoptic-fpn_r50_fpn_65k_cityscapes.py'
# Table 3c: one branch's losses in each iteration, for twice as long (PQ 57.4)
custom_hooks = _base_.custom_hooks + [dict(type='AlternateLossesHook')]
find_unused_parameters = True
train_cfg = dict(max_iters=130000)
param_scheduler = [
    _base_.param_scheduler[0],
    dict(_base_.param_scheduler[1], end=130000, milestones=[80000, 110000])
]
