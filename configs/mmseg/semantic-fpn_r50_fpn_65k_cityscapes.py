# Semantic FPN alone, in MMSegmentation: R50-FPN of Table 1c (mIoU 74.5).
#
# Trained and tested by this project's tools or by mmengine's Runner. Labels
# are train ids: `CITYSCAPES_DATASET=data/cityscapes csCreateTrainIdLabelImgs`
# makes *_gtFine_labelTrainIds.png. tools/model_converters/semantic_fpn.py
# moves weights to the panoptic model and back.
#
# Tested on whole images. On overlapping windows of crop_size:
#   tools/test.py CONFIG CHECKPOINT --cfg-options model.test_cfg.mode=slide
_base_ = '../_base_/schedules/schedule_65k_cityscapes.py'

default_scope = 'mmseg'
custom_imports = dict(
    imports=['panoptic_fpn'], allow_failed_imports=False)
# What belongs to this project is registered with mmdet, except the head and
# the data set.
runner_type = 'mmdet.PanopticRunner'

data_root = '{{$CITYSCAPES_DATASET:data/cityscapes}}'
backend_args = None
num_classes = 19
crop_size = (512, 1024)
channels = 256

# As in the panoptic model: MSRA weights (BGR, stride in the 1x1 convolution),
# BN as a fixed affine, stem and first stage frozen.
model = dict(
    type='EncoderDecoder',
    data_preprocessor=dict(
        type='SegDataPreProcessor',
        mean=[103.530, 116.280, 123.675],
        std=[1.0, 1.0, 1.0],
        bgr_to_rgb=False,
        pad_val=0,
        seg_pad_val=255,
        size=crop_size,
        test_cfg=dict(size_divisor=32)),
    backbone=dict(
        type='ResNet',
        depth=50,
        num_stages=4,
        out_indices=(0, 1, 2, 3),
        dilations=(1, 1, 1, 1),
        strides=(1, 2, 2, 2),
        frozen_stages=1,
        norm_cfg=dict(type='BN', requires_grad=False),
        norm_eval=True,
        style='caffe',
        zero_init_residual=False,
        init_cfg=dict(
            type='Pretrained',
            checkpoint='open-mmlab://detectron2/resnet50_caffe')),
    neck=dict(
        type='FPN',
        in_channels=[256, 512, 1024, 2048],
        out_channels=channels,
        num_outs=4),
    decode_head=dict(
        type='SemanticFPNHead',
        num_classes=num_classes,
        in_channels=[channels] * 4,
        channels=128),
    train_cfg=dict(),
    # crop_size and stride matter in slide mode only
    test_cfg=dict(mode='whole', crop_size=crop_size, stride=(256, 512)))

# mmseg's own transforms; unlike ours its resizing of labels (INTER_NEAREST) is
# half a pixel off.
train_pipeline = [
    dict(type='LoadImageFromFile', backend_args=backend_args),
    dict(type='LoadAnnotations', backend_args=backend_args),
    dict(
        type='RandomResize',
        scale=(2048, 1024),
        ratio_range=(0.5, 2.0),
        keep_ratio=True),
    dict(type='RandomCrop', crop_size=crop_size),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PackSegInputs'),
]
test_pipeline = [
    dict(type='LoadImageFromFile', backend_args=backend_args),
    dict(type='LoadAnnotations', backend_args=backend_args),
    dict(type='PackSegInputs'),
]

train_dataloader = dict(
    batch_size=4,
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type='mmdet.ResumableInfiniteSampler'),
    dataset=dict(
        type='SeededCityscapesDataset',
        data_root=data_root,
        data_prefix=dict(
            img_path='leftImg8bit/train', seg_map_path='gtFine/train'),
        backend_args=backend_args,
        pipeline=train_pipeline))
val_dataloader = dict(
    batch_size=1,
    num_workers=2,
    persistent_workers=True,
    drop_last=False,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type='SeededCityscapesDataset',
        data_root=data_root,
        data_prefix=dict(
            img_path='leftImg8bit/val', seg_map_path='gtFine/val'),
        test_mode=True,
        backend_args=backend_args,
        pipeline=test_pipeline))
test_dataloader = val_dataloader

# collect_device: between processes without a directory that all share
val_evaluator = dict(
    type='IoUMetric', iou_metrics=['mIoU'], collect_device='gpu')
test_evaluator = val_evaluator

train_cfg = dict(type='mmdet.ResumableIterTrainLoop')

default_hooks = dict(
    timer=dict(type='IterTimerHook'),
    logger=dict(type='LoggerHook', interval=50, log_metric_by_epoch=False),
    param_scheduler=dict(type='ParamSchedulerHook'),
    checkpoint=dict(
        type='mmdet.SafeCheckpointHook',
        by_epoch=False,
        interval=5000,
        max_keep_ckpts=2,
        save_best='mIoU',
        rule='greater'),
    sampler_seed=dict(type='DistSamplerSeedHook'),
    visualization=dict(type='SegVisualizationHook'))
custom_hooks = [
    dict(type='mmdet.LabelSpaceCheckHook'),
    dict(type='mmdet.ScaleCheckHook'),
    dict(type='mmdet.NonFiniteLossHook'),
    dict(type='mmdet.MetricsJsonHook'),
    dict(type='mmdet.RunRecordHook'),
    dict(type='mmdet.PreemptionHook'),
]

env_cfg = dict(
    # all crops have one size: cuDNN may search for its fastest kernels
    cudnn_benchmark=True,
    mp_cfg=dict(mp_start_method='fork', opencv_num_threads=0),
    dist_cfg=dict(backend='nccl'))
randomness = dict(seed=0)
visualizer = dict(
    type='SegLocalVisualizer',
    vis_backends=[dict(type='LocalVisBackend')],
    name='visualizer')
log_processor = dict(type='LogProcessor', window_size=50, by_epoch=False)
log_level = 'INFO'
load_from = None
resume = False
