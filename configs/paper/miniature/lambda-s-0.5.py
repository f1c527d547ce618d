# The miniature of the paper: its ablations on synthetic shapes with the tiny
# model, about a minute each on one core of a CPU. This is the recipe
# (Table 3a's R50-FPN: lambda_i = 1, lambda_s = 0.5, both losses combined).
_base_ = '../../synthetic/panoptic-fpn_tiny_synthetic.py'
data_root = 'data/synthetic_shapes_96/'
data = dict(
    data_root=data_root,
    generate=dict(num_train=1000, num_val=200, size=96, seed=0))
resize = dict(type='PanopticResize', scale=(96, 96), keep_ratio=True)
train_pipeline = [
    *_base_.train_pipeline[:2],
    resize,
    *_base_.train_pipeline[3:],
]
test_pipeline = [
    _base_.test_pipeline[0],
    resize,
    *_base_.test_pipeline[2:],
]
train_dataloader = dict(
    batch_size=4, dataset=dict(**data, pipeline=train_pipeline))
test_dataloader = dict(dataset=dict(**data, pipeline=test_pipeline))
val_cfg, val_dataloader, val_evaluator = None, None, None

max_iters = 400
model = dict(loss_weights=dict(semantic=0.5), semantic_head=dict(channels=128))
train_cfg = dict(max_iters=max_iters)
param_scheduler = [
    _base_.param_scheduler[0],
    dict(_base_.param_scheduler[1], end=max_iters)
]
auto_scale_lr = dict(base_batch_size=4)
default_hooks = dict(checkpoint=dict(interval=200, save_best=None))
