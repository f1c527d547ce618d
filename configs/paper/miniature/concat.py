_base_ = './lambda-i-0.0.py'
# Table 1d: levels are concatenated instead of summed
model = dict(semantic_head=dict(aggregation='concat'))
