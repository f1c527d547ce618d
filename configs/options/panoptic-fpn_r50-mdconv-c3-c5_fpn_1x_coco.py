# Modulated deformable convolutions in the 3x3 layers of C3 to C5 (Zhu et al.,
# Deformable ConvNets v2, CVPR 2019). Not with --amp on a CPU.
_base_ = '../coco/panoptic-fpn_r50_fpn_1x_coco.py'
model = dict(
    backbone=dict(
        dcn=dict(type='DCNv2', deform_groups=1, fallback_on_stride=False),
        stage_with_dcn=(False, True, True, True)))
