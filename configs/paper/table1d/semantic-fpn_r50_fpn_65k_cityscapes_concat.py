_base_ = '../../cityscapes/semantic-fpn_r50_fpn_65k_cityscapes.py'
# Table 1d: levels are concatenated instead of summed (mIoU 74.4)
model = dict(semantic_head=dict(aggregation='concat'))
