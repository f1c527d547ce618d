_base_ = '../../cityscapes/semantic-fpn_r50_fpn_65k_cityscapes.py'
# Table 1c: 256 channels in the semantic branch (mIoU 74.6)
model = dict(semantic_head=dict(channels=256))
