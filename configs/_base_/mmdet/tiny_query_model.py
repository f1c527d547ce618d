# Shared by the small MaskFormer and Mask2Former on synthetic shapes.
num_things = 4
num_stuff = 5
counts = dict(num_things_classes=num_things, num_stuff_classes=num_stuff)
class_weight = [1.0] * (num_things + num_stuff) + [0.1]
channels = 64
attention = dict(embed_dims=channels, num_heads=4)
position = dict(num_feats=channels // 2)
network = dict(embed_dims=channels, feedforward_channels=2 * channels)
tiny_model = dict(
    backbone=dict(
        depth=18,
        base_channels=32,
        norm_cfg=dict(requires_grad=True),
        norm_eval=False,
        init_cfg=None),
    panoptic_head=dict(
        in_channels=[32, 64, 128, 256],
        feat_channels=channels,
        out_channels=channels,
        num_queries=20,
        pixel_decoder=dict(
            encoder=dict(
                num_layers=1,
                layer_cfg=dict(self_attn_cfg=attention, ffn_cfg=network)),
            positional_encoding=position),
        positional_encoding=position,
        transformer_decoder=dict(
            num_layers=3,
            layer_cfg=dict(
                self_attn_cfg=attention,
                cross_attn_cfg=attention,
                ffn_cfg=network)),
        loss_cls=dict(class_weight=class_weight),
        **counts),
    panoptic_fusion_head=counts)

max_iters = 500
param_scheduler = [
    dict(type='LinearLR', start_factor=0.1, by_epoch=False, begin=0, end=50),
    dict(
        type='CosineAnnealingLR',
        by_epoch=False,
        begin=50,
        end=max_iters,
        eta_min=1e-6),
]
tiny_optimizer = dict(
    optimizer=dict(lr=0.001),
    clip_grad=dict(max_norm=1.0),
    # nothing is pretrained
    paramwise_cfg=dict(custom_keys=dict(backbone=dict(lr_mult=1.0))))
