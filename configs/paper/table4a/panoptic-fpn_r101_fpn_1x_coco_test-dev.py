_base_ = '../../coco/panoptic-fpn_r101_fpn_1x_coco.py'
# Table 4a: results on COCO test-dev (PQ 40.9), to send to its server:
#   python tools/test.py CONFIG CHECKPOINT --format-only PREFIX
test_dataloader = dict(
    dataset=dict(
        ann_file='annotations/image_info_test-dev2017.json',
        categories_file='annotations/panoptic_val2017.json',
        data_prefix=dict(img='test2017/', seg='')))
