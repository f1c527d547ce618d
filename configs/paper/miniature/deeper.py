_base_ = './lambda-s-0.5.py'
# Table 3b: a deeper backbone (ResNet-34 for 18, as R101 for R50)
model = dict(backbone=dict(depth=34))
