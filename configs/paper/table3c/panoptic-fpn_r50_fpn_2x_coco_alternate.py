_base_ = '../../coco/panoptic-fpn_r50_fpn_1x_coco.py'
# Table 3c: one branch's losses in each iteration, for twice as long (PQ 37.5)
custom_hooks = _base_.custom_hooks + [dict(type='AlternateLossesHook')]
find_unused_parameters = True
train_cfg = dict(max_iters=180000)
param_scheduler = [
    _base_.param_scheduler[0],
    dict(_base_.param_scheduler[1], end=180000, milestones=[120000, 160000])
]
