# Three box and mask heads, each trained on the boxes of the one before, with
# a higher IoU (Cai and Vasconcelos, Cascade R-CNN, CVPR 2018). lambda_i
# scales the losses of all stages.
_base_ = '../coco/panoptic-fpn_r50_fpn_1x_coco.py'
model = dict(
    roi_head=dict(
        type='CascadeRoIHead',
        num_stages=3,
        stage_loss_weights=[1, 0.5, 0.25],
        bbox_head=[
            dict(
                _base_.model.roi_head.bbox_head,
                reg_class_agnostic=True,
                bbox_coder=dict(
                    _base_.model.roi_head.bbox_head.bbox_coder,
                    target_stds=stds))
            for stds in ([0.1, 0.1, 0.2, 0.2], [0.05, 0.05, 0.1, 0.1],
                         [0.033, 0.033, 0.067, 0.067])
        ]),
    train_cfg=dict(rcnn=[
        dict(
            _base_.model.train_cfg.rcnn,
            assigner=dict(
                _base_.model.train_cfg.rcnn.assigner,
                pos_iou_thr=iou,
                neg_iou_thr=iou,
                min_pos_iou=iou)) for iou in (0.5, 0.6, 0.7)
    ]))
