_base_ = './lambda-s-0.5.py'
# Tables 2c and 2d: lambda_i = 0.0, lambda_s = 1
model = dict(loss_weights=dict(instance=0.0, semantic=1.0))
