# 500 iterations with AdamW: the tiny model from scratch, on a CPU.
max_iters = 500
train_cfg = dict(
    type='ResumableIterTrainLoop', max_iters=max_iters, val_interval=500)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
param_scheduler = [
    dict(type='LinearLR', start_factor=0.1, by_epoch=False, begin=0, end=50),
    dict(
        type='CosineAnnealingLR',
        by_epoch=False,
        begin=50,
        end=max_iters,
        eta_min=1e-6)
]
optim_wrapper = dict(
    type='OptimWrapper',
    # fused: a step of 4 ms instead of 20 on a CPU
    optimizer=dict(type='AdamW', lr=0.002, weight_decay=0.01, fused=True))
