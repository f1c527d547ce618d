_base_ = './lambda-s-0.5.py'
# Table 3c: one branch's losses in each iteration, for twice as long
custom_hooks = _base_.custom_hooks + [dict(type='AlternateLossesHook')]
find_unused_parameters = True
train_cfg = dict(max_iters=800)
param_scheduler = [
    _base_.param_scheduler[0],
    dict(_base_.param_scheduler[1], end=800)
]
