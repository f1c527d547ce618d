# COCO-Stuff, the split of the 2017 challenge (Table 1b): 40k images to train,
# the 5k of val2017 to validate; its 5k for the test server have no public
# annotation. Unpack stuff_annotations_trainval2017.zip in data/coco, and in
# annotations/ the two zip files of pixel maps that it holds.
# The paper says 'a training schedule specific to semantic segmentation similar
# to our Cityscapes schedule' and not more: scales and crops are our choice.
data_root = 'data/coco/'
backend_args = None
# shorter side at scale 1, and both sides of a crop
side = 640

train_pipeline = [
    dict(type='LoadPanopticImage', backend_args=backend_args),
    dict(type='LoadPanopticMap', backend_args=backend_args),
    dict(
        type='PanopticRandomResizeCrop',
        scale=(4 * side, side),
        ratio_range=(0.5, 2.0),
        crop_size=(side, side)),
    dict(type='RandomFlip', prob=0.5),
    # 'our competition entry was trained with color augmentation'
    dict(type='PhotoMetricDistortion'),
    dict(type='DerivePanopticTargets', instances=False),
    dict(type='PackPanopticInputs'),
]
load_truth = [
    dict(type='LoadPanopticMap', backend_args=backend_args),
    dict(
        type='DerivePanopticTargets',
        instances=False,
        semantic=False,
        panoptic=True),
]
test_pipeline = [
    dict(type='LoadPanopticImage', backend_args=backend_args),
    dict(type='PanopticResize', scale=(4 * side, side), keep_ratio=True),
    # after the geometry: evaluated at the original size
    *load_truth,
    dict(type='PackPanopticInputs'),
]
# tools/test.py --tta: 'multi-scale inference', and flipped; scales are ours
tta_pipeline = [
    dict(type='LoadPanopticImage', backend_args=backend_args),
    # once; the geometry below does not touch what is derived
    *load_truth,
    dict(
        type='TestTimeAug',
        transforms=[
            [
                dict(
                    type='PanopticResize',
                    scale=(4 * short, short),
                    keep_ratio=True) for short in (320, 480, 640, 800, 960)
            ],
            [dict(type='RandomFlip', prob=prob) for prob in (0.0, 1.0)],
            [dict(type='PackPanopticInputs')],
        ]),
]

# 2 crops on each of 8 GPUs
train_dataloader = dict(
    batch_size=2,
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type='ResumableInfiniteSampler'),
    dataset=dict(
        type='CocoStuffDataset',
        data_root=data_root,
        ann_file='annotations/stuff_train2017.json',
        # today's JSON lists all 118k images of train2017; None to use them
        image_list='annotations/deprecated-challenge2017/train-ids.txt',
        data_prefix=dict(
            img='train2017/', seg='annotations/stuff_train2017_pixelmaps/'),
        backend_args=backend_args,
        pipeline=train_pipeline))
val_dataloader = dict(
    batch_size=1,
    num_workers=2,
    persistent_workers=True,
    drop_last=False,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type='CocoStuffDataset',
        data_root=data_root,
        ann_file='annotations/stuff_val2017.json',
        data_prefix=dict(
            img='val2017/', seg='annotations/stuff_val2017_pixelmaps/'),
        test_mode=True,
        backend_args=backend_args,
        pipeline=test_pipeline))
test_dataloader = val_dataloader

# 'leaves' of the challenge's evaluation: the 91 stuff classes and 'other'
val_evaluator = dict(
    type='PanopticEvaluator',
    metrics=[dict(type='SemanticIoUMetric', classwise=True)])
test_evaluator = val_evaluator
