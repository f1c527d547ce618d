_base_ = './lambda-s-0.5.py'
# Tables 3a and 3b: two networks, those of lambda-s-0.0 and lambda-i-0.0
model = dict(type='TwoNetworkPanopticFPN')
