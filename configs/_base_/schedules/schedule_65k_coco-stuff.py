# Cityscapes' schedule 'with double learning rate and halved batch size'
# (section 4.2).
_base_ = './schedule_65k_cityscapes.py'
optim_wrapper = dict(optimizer=dict(lr=0.02))

# Learning rate and schedule fit 8 GPUs with 2 crops each.
auto_scale_lr = dict(base_batch_size=16)
