"""mmdet's own evaluation of its own model, and ours of the same weights.

mmdet's maintained config, runner, transforms and metric on one side; on the
other the converted checkpoint, its config and ``tools/test.py``. Drawn
weights, two photographs of COCO.
"""
import json

import numpy as np
import pytest
import torch
from mmcv.image import imread, imwrite
from mmdet.registry import MODELS
from mmengine.config import Config
from mmengine.runner import Runner

from tests.conftest import REPO_ROOT, call_tool, forget_runs

from .models import CHANNELS, FC, HEAD, WIDTHS
from .test_zoo_weights import get_zoo_config

CONFIG = (
    REPO_ROOT / 'configs' / 'coco' /
    'panoptic-fpn_r50_fpn_1x_coco_mmdet-weights.py')
FILES = dict(
    ann_file='panoptic.json', data_prefix=dict(img='images/', seg='panoptic/'))


def shrink(model):
    """Few channels, in keys that both projects' configs have."""
    model.backbone.update(base_channels=8, stem_channels=8)
    model.neck.update(in_channels=list(WIDTHS[50]), out_channels=CHANNELS)
    model.rpn_head.update(in_channels=CHANNELS, feat_channels=CHANNELS)
    for part in ('bbox', 'mask'):
        model.roi_head[f'{part}_roi_extractor'].out_channels = CHANNELS
    model.roi_head.bbox_head.update(in_channels=CHANNELS, fc_out_channels=FC)
    model.roi_head.mask_head.update(
        in_channels=CHANNELS, conv_out_channels=CHANNELS)
    head = model.semantic_head
    if head.type == 'PanopticFPNHead':
        head.update(in_channels=CHANNELS, inner_channels=HEAD)
    else:
        head.update(in_channels=[CHANNELS] * 4, channels=HEAD)


def draw(model):
    """Weights that keep the size of features, and confident boxes."""
    for value in model.state_dict().values():
        if value.dim() > 1:
            value.normal_(std=value[0].numel()**-0.5)
    with torch.no_grad():
        for name, norm in model.backbone.named_modules():
            if name.endswith('bn3'):
                norm.weight.fill_(0.3)
        model.rpn_head.rpn_reg.weight *= 0.3
        model.roi_head.bbox_head.fc_reg.weight *= 0.3
        model.roi_head.bbox_head.fc_cls.weight *= 4
        model.roi_head.mask_head.conv_logits.bias += 0.5


def evaluate_theirs(folder, sample_dir, small):
    """Results and scores of mmdet's; writes its checkpoint."""
    cfg = get_zoo_config('panoptic-fpn_r50_fpn_1x_coco')
    cfg.model.backbone.init_cfg = None
    if small:
        shrink(cfg.model)
    torch.manual_seed(3)
    model = MODELS.build(cfg.model)
    draw(model)
    torch.save(dict(state_dict=model.state_dict()), folder / 'theirs.pth')
    loader, evaluator = cfg.test_dataloader, cfg.test_evaluator
    loader.update(num_workers=0, persistent_workers=False)
    loader.dataset.update(FILES, data_root=f'{sample_dir}/')
    evaluator.update(
        ann_file=str(sample_dir / FILES['ann_file']),
        seg_prefix=str(sample_dir / FILES['data_prefix']['seg']),
        outfile_prefix=str(folder / 'theirs'),
        nproc=1)
    return Runner(
        model,
        str(folder / 'theirs'),
        test_dataloader=loader,
        test_cfg=cfg.test_cfg,
        test_evaluator=evaluator,
        load_from=str(folder / 'theirs.pth'),
        default_scope='mmdet',
        experiment_name='theirs').test()


def write_truth(folder, sample_dir):
    """Ground truth of the photographs that mmdet's results nearly meet: they
    themselves, moved by some pixels."""
    truth = json.loads((sample_dir / FILES['ann_file']).read_text())
    results = json.loads((folder / 'theirs.panoptic.json').read_text())
    truth['annotations'] = results['annotations']
    (folder / 'panoptic').mkdir()
    for annotation in truth['annotations']:
        name = annotation['file_name']
        image = np.roll(imread(folder / 'theirs.panoptic' / name), 4, (0, 1))
        imwrite(image, str(folder / 'panoptic' / name))
        for segment in annotation['segments_info']:
            rows, columns = np.nonzero(segment_ids(image) == segment['id'])
            box = columns.min(), rows.min(), np.ptp(columns), np.ptp(rows)
            segment.update(
                iscrowd=0,
                area=len(rows),
                bbox=[int(side) for side in box[:2]] +
                [int(side) + 1 for side in box[2:]])
    (folder / FILES['ann_file']).write_text(json.dumps(truth))
    (folder / 'images').symlink_to(sample_dir / 'images')


def segment_ids(image):
    """Ids (h, w) of a PNG's blue, green and red."""
    return image.astype(int) @ (65536, 256, 1)


def evaluate_ours(folder, small, monkeypatch):
    """Scores of this project's tools, from that checkpoint, by both metrics;
    on the ground truth of :func:`write_truth`."""
    cfg = Config.fromfile(CONFIG)
    if small:
        shrink(cfg.model)
    loader = cfg.test_dataloader
    loader.update(num_workers=0, persistent_workers=False)
    loader.dataset.update(FILES, data_root=f'{folder}/')
    cfg.test_evaluator.metrics = [
        dict(
            type='PanopticQualityMetric', outfile_prefix=str(folder / 'ours')),
        dict(
            type='CocoPanopticMetric',
            ann_file=str(folder / FILES['ann_file']),
            seg_prefix=str(folder / 'panoptic'),
            nproc=1,
            prefix='mmdet')
    ]
    # another layout of memory rounds otherwise
    cfg.channels_last = False
    path = folder / 'ours.py'
    cfg.dump(path)
    assert call_tool(monkeypatch, 'convert_checkpoint', 'mmdet',
                     folder / 'theirs.pth', folder / 'ours.pth', '--config',
                     path) == 0
    assert call_tool(monkeypatch, 'test', path, folder / 'ours.pth',
                     '--work-dir', folder / 'ours') == 0
    return json.loads((folder / 'ours' / 'metrics.json').read_text())


def segments(folder, name):
    """Category and pixels of each segment, by image; from result files."""
    found = {}
    results = json.loads((folder / f'{name}.panoptic.json').read_text())
    for result in results['annotations']:
        image = imread(folder / f'{name}.panoptic' / result['file_name'])
        ids = segment_ids(image)
        found[result['image_id']] = {
            (segment['category_id'],
             np.packbits(ids == segment['id']).tobytes())
            for segment in result['segments_info']
        }
    return found


@pytest.mark.parametrize('small', [
    pytest.param(True, id='small'),
    pytest.param(False, id='full', marks=pytest.mark.slow)
])
def test_segments_and_scores_are_mmdets(sample_dir, tmp_path, monkeypatch,
                                        small):
    pytest.importorskip('panopticapi')
    theirs = evaluate_theirs(tmp_path, sample_dir, small)
    assert 'coco_panoptic/PQ' in theirs
    write_truth(tmp_path, sample_dir)
    forget_runs()
    scores = evaluate_ours(tmp_path, small, monkeypatch)
    found, wanted = (segments(tmp_path, name) for name in ('ours', 'theirs'))
    assert found == wanted and len(found) == 2
    for image in found.values():
        things = {category for category, _ in image if category <= 90}
        assert len(image) > 10 and len(things) > small
    assert 10 < scores['mmdet/PQ'] < 90
    for name in (f'{m}{g}' for m in ('PQ', 'SQ', 'RQ')
                 for g in ('', '_th', '_st')):
        assert scores[f'coco_panoptic/{name}'] == pytest.approx(
            scores[f'mmdet/{name}'], abs=1e-9)
