# Large-scale jitter (Ghiasi et al., Simple Copy-Paste, CVPR 2021): scaled by
# 0.1 to 2, then cropped or padded to 1024 x 1024. It pays in long schedules;
# 3x are 37 epochs of COCO.
_base_ = './panoptic-fpn_r50_fpn_ms-3x_coco.py'

size = (1024, 1024)
model = dict(
    data_preprocessor=dict(batch_augments=[
        dict(
            type='BatchFixedSizePad',
            size=size,
            pad_mask=True,
            pad_seg=True,
            seg_pad_value=-1)
    ]))
# the third step resizes
train_pipeline = [
    *_base_.train_pipeline[:2],
    dict(
        type='PanopticRandomResizeCrop',
        scale=size,
        ratio_range=(0.1, 2.0),
        crop_size=size),
    *_base_.train_pipeline[3:],
]
# all batches have one shape: no need to sort images by their aspect ratio
train_dataloader = dict(
    batch_sampler=None, dataset=dict(pipeline=train_pipeline))
