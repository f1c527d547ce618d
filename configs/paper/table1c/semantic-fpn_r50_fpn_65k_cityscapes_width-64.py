_base_ = '../../cityscapes/semantic-fpn_r50_fpn_65k_cityscapes.py'
# Table 1c: 64 channels in the semantic branch (mIoU 74.1)
model = dict(semantic_head=dict(channels=64))
