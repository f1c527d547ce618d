_base_ = './lambda-s-0.5.py'
# Tables 2a and 2b: lambda_s = 0.0, lambda_i = 1
model = dict(loss_weights=dict(semantic=0.0))
