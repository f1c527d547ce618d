_base_ = '../../coco/semantic-fpn_r50_fpn_1x_coco.py'
# Table 1c: 256 channels in the semantic branch (mIoU 40.1)
model = dict(semantic_head=dict(channels=256))
