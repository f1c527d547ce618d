# Hooks, runner and environment that every config shares.
default_scope = 'mmdet'
custom_imports = dict(
    imports=['panoptic_fpn'], allow_failed_imports=False)
runner_type = 'PanopticRunner'

default_hooks = dict(
    timer=dict(type='IterTimerHook'),
    # scores by iteration: an iteration-based run has but one epoch
    logger=dict(type='LoggerHook', interval=50, log_metric_by_epoch=False),
    param_scheduler=dict(type='ParamSchedulerHook'),
    checkpoint=dict(
        type='SafeCheckpointHook',
        by_epoch=False,
        interval=5000,
        max_keep_ckpts=2,
        save_best='coco_panoptic/PQ',
        rule='greater'),
    sampler_seed=dict(type='DistSamplerSeedHook'),
    visualization=dict(type='PanopticVisualizationHook'))
custom_hooks = [
    dict(type='LabelSpaceCheckHook'),
    dict(type='ScaleCheckHook'),
    dict(type='NonFiniteLossHook'),
    dict(type='MetricsJsonHook', record=True),
    dict(type='RunRecordHook'),
    dict(type='PreemptionHook'),
]

# weights and features as fast convolutions want them; same results
channels_last = True
env_cfg = dict(
    # True pays where all batches have one size, as in Semantic FPN; the mask
    # head has another size in each iteration, for which cuDNN searches again
    cudnn_benchmark=False,
    mp_cfg=dict(mp_start_method='fork', opencv_num_threads=0),
    # timeout=SECONDS: how long a process waits for one that does not answer
    # (torch: 600 with NCCL, 1800 with gloo). One that fails tells the others,
    # which end within 20 s. An evaluation's scores are computed by the first
    # process: where that takes longer, raise it.
    dist_cfg=dict(backend='nccl'))
randomness = dict(seed=0)

visualizer = dict(
    type='PanopticVisualizer',
    vis_backends=[dict(type='LocalVisBackend')],
    name='visualizer')
log_processor = dict(type='LogProcessor', window_size=50, by_epoch=False)
log_level = 'INFO'
load_from = None
resume = False
