# Mask R-CNN's 1x schedule: 90k iterations of 16 images (section 4.1).
max_iters = 90000
train_cfg = dict(
    type='ResumableIterTrainLoop', max_iters=max_iters, val_interval=10000)
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
        milestones=[60000, 80000],
        gamma=0.1),
]
optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='SGD', lr=0.02, momentum=0.9, weight_decay=0.0001),
    # as in the code base of the paper: no decay of group norm and biases,
    # biases at twice the rate
    paramwise_cfg=dict(
        norm_decay_mult=0.0, bias_decay_mult=0.0, bias_lr_mult=2.0))

# Learning rate and schedule fit 8 GPUs with 2 images each. `--auto-scale-lr`
# scales both to another batch.
auto_scale_lr = dict(enable=False, base_batch_size=16, scale_schedule=True)
