# 65k iterations of 32 crops, 0.01 divided by 10 at 40k and 55k (section 4.1).
# Solver and warm-up are those of COCO.
max_iters = 65000
train_cfg = dict(
    type='ResumableIterTrainLoop', max_iters=max_iters, val_interval=5000)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')

param_scheduler = [
    dict(
        type='LinearLR',
        start_factor=1.0 / 3,
        by_epoch=False,
        begin=0,
        end=500),
    dict(
        type='MultiStepLR',
        by_epoch=False,
        begin=0,
        end=max_iters,
        milestones=[40000, 55000],
        gamma=0.1),
]
optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='SGD', lr=0.01, momentum=0.9, weight_decay=0.0001),
    paramwise_cfg=dict(
        norm_decay_mult=0.0, bias_decay_mult=0.0, bias_lr_mult=2.0))

# Learning rate and schedule fit 8 GPUs with 4 crops each. `--auto-scale-lr`
# scales both to another batch.
auto_scale_lr = dict(enable=False, base_batch_size=32, scale_schedule=True)
