# A third of the 1x schedule, in its proportions: for data sets of a few
# thousand images. Not of the paper.
_base_ = './schedule_1x.py'

max_iters = 30000
train_cfg = dict(max_iters=max_iters, val_interval=5000)
param_scheduler = [
    _base_.param_scheduler[0],
    dict(
        _base_.param_scheduler[1], end=max_iters, milestones=[20000, 26667]),
]
