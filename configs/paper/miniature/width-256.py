_base_ = './lambda-i-0.0.py'
# Table 1c: 256 channels in the semantic branch
model = dict(semantic_head=dict(channels=256))
