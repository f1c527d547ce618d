# 65k iterations of 32 crops, 0.01 divided by 10 at 40k and 55k (section 4.1).
# Solver and warm-up are those of COCO.
_base_ = './schedule_1x.py'

max_iters = 65000
train_cfg = dict(max_iters=max_iters, val_interval=5000)
param_scheduler = [
    _base_.param_scheduler[0],
    dict(
        type='MultiStepLR',
        by_epoch=False,
        begin=0,
        end=max_iters,
        milestones=[40000, 55000],
        gamma=0.1),
]
optim_wrapper = dict(optimizer=dict(lr=0.01))

# Learning rate and schedule fit 8 GPUs with 4 crops each. `--auto-scale-lr`
# scales both to another batch.
auto_scale_lr = dict(base_batch_size=32)
