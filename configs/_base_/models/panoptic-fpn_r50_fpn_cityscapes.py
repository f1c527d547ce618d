# The R50 model for the 8 thing and 11 stuff classes of Cityscapes.
_base_ = './panoptic-fpn_r50_fpn.py'

num_things = 8
num_stuff = 11
model = dict(
    # Table 2d's row that is Table 3a's result; on COCO it is 1.0 and 0.5
    loss_weights=dict(instance=0.5, semantic=1.0),
    roi_head=dict(
        bbox_head=dict(num_classes=num_things),
        mask_head=dict(num_classes=num_things)),
    # all 19 classes; the merge discards predicted things (section 4.1)
    semantic_head=dict(
        num_things_classes=num_things,
        num_stuff_classes=num_stuff,
        predict_things=True),
    panoptic_fusion_head=dict(
        num_things_classes=num_things, num_stuff_classes=num_stuff),
    # The paper gives no thresholds for Cityscapes: a start for
    # tools/sweep_merge.py.
    test_cfg=dict(
        panoptic=dict(score_thr=0.5, overlap_thr=0.5, stuff_area=2048)))
