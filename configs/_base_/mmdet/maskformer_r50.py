# mmdet's MaskFormer with ResNet-50 and its solver; this project's runtime.
_base_ = '../default_runtime.py'
from mmengine.hub import get_config  # noqa: E402

zoo = get_config('mmdet::maskformer/maskformer_r50_ms-16xb1-75e_coco.py')
model, optim_wrapper = zoo.model, zoo.optim_wrapper
model.data_preprocessor.update(
    type='PanopticDataPreprocessor', non_blocking=True)
# one pass gives AP, too
model.test_cfg.instance_on = True
del zoo

train_cfg = dict(type='ResumableIterTrainLoop', val_interval=5000)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
auto_scale_lr = dict(enable=False, base_batch_size=16, scale_schedule=True)
