_base_ = '../../cityscapes/panoptic-fpn_r50_fpn_65k_cityscapes.py'
# Tables 3a and 3b: two networks, each trained for its task (PQ 57.7)
#   python tools/test.py CONFIG INSTANCE.pth SEMANTIC.pth
model = dict(type='TwoNetworkPanopticFPN')
