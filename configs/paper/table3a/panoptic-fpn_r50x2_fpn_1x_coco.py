_base_ = '../../coco/panoptic-fpn_r50_fpn_1x_coco.py'
# Tables 3a and 3b: two networks, each trained for its task (PQ 39.2)
#   python tools/test.py CONFIG INSTANCE.pth SEMANTIC.pth
model = dict(type='TwoNetworkPanopticFPN')
