# Semantic FPN ResNeXt-152-FPN of Table 1b (mIoU 28.8, fIoU 55.7 on the
# challenge's test set), an early design. Its test-time settings:
#   python tools/class_frequencies.py THIS --out FILE of tta_model below
#   python tools/test.py THIS CHECKPOINT --tta
_base_ = [
    '../../_base_/models/panoptic-fpn_r50_fpn.py',
    '../../_base_/datasets/coco_stuff.py',
    '../../_base_/schedules/schedule_65k_coco-stuff.py',
    '../../_base_/default_runtime.py',
]
num_things = 1  # 'other'
num_stuff = 91
model = dict(
    loss_weights=dict(instance=0.0, semantic=1.0),
    data_preprocessor=dict(std=[57.375, 57.120, 58.395]),
    # The paper does not name the groups: 32x8d, as in its code base, whose
    # X-152-32x8d-IN5k.pkl has weights (BGR, the mean and deviation above)
    # under Caffe2's names. Convert them to those of mmdet's ResNeXt (conv1,
    # bn1, layer1.0.conv1, ...) and name the file in RESNEXT152_32X8D. Weights
    # trained on RGB images need another data_preprocessor.
    backbone=dict(
        type='ResNeXt',
        depth=152,
        groups=32,
        base_width=8,
        style='pytorch',
        init_cfg=dict(
            checkpoint='{{$RESNEXT152_32X8D:data/resnext152_32x8d.pth}}')),
    roi_head=dict(
        bbox_head=dict(num_classes=num_things),
        mask_head=dict(num_classes=num_things)),
    # 'each upsampling module had two 3x3 conv layers and ReLU before bilinear
    # upscaling to the final resolution, and features were concatenated instead
    # of summed' (section 4.2). We take a module for a stage of Figure 3, and
    # keep its group norm.
    semantic_head=dict(
        num_things_classes=num_things,
        num_stuff_classes=num_stuff,
        convs_per_stage=2,
        aggregation='concat'),
    panoptic_fusion_head=dict(
        num_things_classes=num_things, num_stuff_classes=num_stuff))
# 'at test time balanced the class distribution and used multi-scale
# inference'. The paper gives no power: 0.5 lies between none and full balance;
# choose it by the validation set.
tta_model = dict(
    type='SemanticTTAModel',
    class_balance=dict(
        file=_base_.data_root + 'annotations/stuff_frequencies.json',
        power=0.5))
default_hooks = dict(checkpoint=dict(save_best='mIoU'))
