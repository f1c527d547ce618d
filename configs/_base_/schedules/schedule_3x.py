# Three times the 1x schedule: 270k iterations of 16 images, divided by 10 at
# 210k and 250k (Detectron2's and mmdet's 3x: He et al., Rethinking ImageNet
# Pre-training, ICCV 2019).
_base_ = './schedule_1x.py'

max_iters = 270000
train_cfg = dict(max_iters=max_iters)
param_scheduler = [
    _base_.param_scheduler[0],
    dict(
        _base_.param_scheduler[1], end=max_iters, milestones=[210000, 250000]),
]
