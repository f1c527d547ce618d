"""A whole model in onnxruntime against the same in PyTorch."""
import copy
import json
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch
from mmcv.ops import RoIAlign
from mmdet.registry import MODELS
from mmengine.config import Config
from torch import nn

from mmengine_exact.errors import InputError
from panoptic_fpn.inference import (describe_result, inference_panoptic,
                                    init_model, write_segments)
from panoptic_fpn.labels import LabelSpace
from tests import tiny
from tests.conftest import call_tool
from tests.fuzz.mutate import ODD, owner_of, places

onnxruntime = pytest.importorskip('onnxruntime')
onnx = pytest.importorskip('onnx')
from panoptic_apps.export_onnx import compare, export_model  # noqa: E402
from panoptic_apps.export_onnx.graphs import export_head  # noqa: E402
from panoptic_onnx import DeployError, PanopticSession  # noqa: E402
from panoptic_onnx import files as results  # noqa: E402
from panoptic_onnx.model_file import read_model  # noqa: E402

RUNTIME = tiny.REPO_ROOT / 'projects'
#: Two shapes, both resized, one with padding on two sides.
SIZES = ((96, 128), (205, 150))
DROPPED = object()
#: Numbers that people change in model.json.
SETTINGS = ('score_thr', 'overlap_thr', 'stuff_area', 'nms_iou_thr', 'nms_pre',
            'max_per_img', 'iou_thr', 'min_bbox_size', 'threshold')


@torch.no_grad()
def spread(model, image, deviation=3.0):
    """Scale the last layers, so that their outputs on an image have a given
    standard deviation: neither equal nor saturated scores, whose order would
    be a matter of rounding."""
    layers = {}
    if model.with_roi_head:
        box, mask = model.roi_head.bbox_head, model.roi_head.mask_head
        layers.update({
            model.rpn_head.rpn_cls: deviation,
            model.rpn_head.rpn_reg: deviation / 10,
            box.fc_cls: deviation,
            box.fc_reg: deviation / 3,
            mask.conv_logits: deviation
        })
    if model.with_semantic_head:
        layers[model.semantic_head.conv_seg] = deviation
    handles = [
        layer.register_forward_hook(_scale_to(target))
        for layer, target in layers.items()
    ]
    list(inference_panoptic(model, [image]))
    for handle in handles:
        handle.remove()


def _scale_to(target):
    done = []

    def hook(layer: nn.Module, _, output):
        if done:
            return None
        done.append(layer)
        factor = target / output.std()
        for parameter in layer.parameters():
            parameter.mul_(factor)
        return output * factor

    return hook


def load(files, **options):
    """The tiny model with many things on its map."""
    options = {'model.test_cfg.panoptic.stuff_area': 9, **options}
    model = init_model(str(files[0]), str(files[1]), cfg_options=options)
    spread(model, photograph(0))
    return model


def photograph(seed):
    return tiny.picture(*SIZES[seed], seed)[..., ::-1].copy()


@pytest.fixture(scope='module')
def files(tmp_path_factory):
    return tiny.write_tiny_model(tmp_path_factory.mktemp('model'))


@pytest.fixture(scope='module')
def exported(files, tmp_path_factory):
    """Model, folder of its export, session."""
    folder = tmp_path_factory.mktemp('exported')
    model = load(files)
    out = export_model(model, str(folder / 'onnx'), checkpoint='a/tiny.pth')
    return SimpleNamespace(
        model=model, folder=out, session=PanopticSession(str(out), threads=1))


def results_of(exported, image):
    result, = inference_panoptic(exported.model, [image])
    return result, exported.session.segment(image)


@pytest.mark.parametrize('seed', [0, 1])
def test_results_are_those_of_pytorch(exported, seed):
    expected, found = results_of(exported, photograph(seed))
    assert len(found.kept) >= 3, 'no things on the map'
    assert (found.panoptic[found.panoptic < 1000] >= 4).any(), 'no stuff'
    assert len(np.unique(found.semantic)) >= 3
    agreement = compare(expected.sample, found)
    assert agreement.holds, str(agreement)
    assert agreement.detections[0] == agreement.detections[1] > 20
    assert agreement.scores < 1e-4 and agreement.semantic > 0.999
    assert agreement.masks > 0.98
    indices = expected.sample.pred_panoptic_seg.instance_indices
    assert found.kept == list(indices)


def test_graphs_have_standard_operators_alone(exported):
    for path in exported.folder.glob('*.onnx'):
        graph = onnx.load(str(path))
        onnx.checker.check_model(graph, full_check=True)
        assert {op.domain for op in graph.opset_import} == {''}
        assert graph.opset_import[0].version == 17


def test_a_difference_is_seen(exported):
    expected, found = results_of(exported, photograph(0))
    moved, renamed, fewer = (copy.deepcopy(found) for _ in range(3))
    moved.boxes[3, 0] += 0.02
    renamed.panoptic[:2] += 1
    for name in ('boxes', 'scores', 'labels', 'masks'):
        setattr(fewer, name, getattr(fewer, name)[:-1])
    for changed in (moved, renamed, fewer):
        assert not compare(expected.sample, changed).holds


def test_files_are_those_of_the_demo(exported, tmp_path):
    image = photograph(1)
    expected, found = results_of(exported, image)
    # drawn from the same map, so that rounding decides nothing
    found.panoptic = expected.sample.pred_panoptic_seg.sem_seg[0].numpy()
    found.scores = expected.sample.pred_instances.scores.numpy()
    described = describe_result(expected.sample, exported.model.label_space,
                                'photo.jpg')
    theirs = write_segments(*described, str(tmp_path / 'a'), 'x')
    ours = results.write_result(image, found, exported.session.model.classes,
                                str(tmp_path / 'b'), 'x', 'photo.jpg')
    np.testing.assert_array_equal(*(cv2.imread(paths['panoptic'], -1)
                                    for paths in (ours, theirs)))
    segments = [Path(paths['segments']) for paths in (ours, theirs)]
    assert len({path.read_bytes() for path in segments}) == 1
    overlay = cv2.imread(ours['overlay'])
    assert overlay.shape == image.shape and (overlay != image).any()


@pytest.mark.parametrize(
    'options', [
        {'model.loss_weights.instance': 0},
        {
            'model.loss_weights.semantic': 0,
            'model.test_cfg.rcnn.nms.class_agnostic': True
        },
        {
            'model.neck.out_channels': 96,
            'model.fpn_groups': dict(instance=64, semantic=32),
            'model.semantic_head.in_channels': [32] * 4,
            'model.semantic_head.aggregation': 'concat',
            'model.semantic_head.predict_things': True,
            'model.backbone.type': 'ResNeXt',
            'model.backbone.depth': 50,
            'model.backbone.groups': 8,
            'model.backbone.base_width': 4,
            'model.backbone.base_channels': 64,
            'model.neck.in_channels': [256, 512, 1024, 2048],
            'model.roi_head.bbox_head.reg_class_agnostic': True,
            'model.roi_head.mask_head.class_agnostic': True,
            'model.roi_head.bbox_roi_extractor.type': 'SingleRoIExtractor',
            'model.roi_head.mask_head.type': 'FCNMaskHead',
            'model.test_cfg.panoptic.nms_iou_thr': 0.5,
            'model.test_cfg.rpn.nms_pre': 50
        },
    ],
    ids=['semantic', 'instance', 'options'])  # yapf: disable
def test_other_models(files, tmp_path, options):
    model = load_random(files, options)
    out = export_model(model, str(tmp_path / 'onnx'))
    exported = SimpleNamespace(
        model=model, session=PanopticSession(str(out), threads=1))
    image = photograph(0)
    expected, found = results_of(exported, image)
    agreement = compare(expected.sample, found)
    assert agreement.holds, str(agreement)
    assert (found.semantic is None) == ('model.loss_weights.semantic'
                                        in options)
    assert ((found.panoptic != model.label_space.void).mean() > 0.05)


def load_random(files, options):
    """As :func:`load`, with layers of any shape and random weights."""
    config = Config.fromfile(files[0])
    config.merge_from_dict(options)
    torch.manual_seed(1)
    model = MODELS.build(config.model)
    path = files[1].with_name('other.pth')
    torch.save(
        dict(
            state_dict=model.state_dict(),
            meta=dict(dataset_meta=tiny.SPACE.metainfo())), path)
    return load((files[0], path), **options)


@pytest.mark.parametrize('samples', [0, 2])
@pytest.mark.parametrize('aligned', [True, False])
def test_roi_align_of_onnx_is_that_of_mmcv(tmp_path, samples, aligned):

    class Identity(nn.Module):
        names = ('bins_out', )

        def forward(self, bins):
            return bins * 1

    layer = RoIAlign((5, 7), 1.0, samples, 'avg', aligned)
    path = tmp_path / 'roi.onnx'
    export_head(Identity(), layer, 6, path, 17)
    rng = np.random.default_rng(0)
    feature = rng.normal(size=(1, 6, 40, 50)).astype(np.float32)
    boxes = rng.uniform(-10, 55, (50, 4)).astype(np.float32)
    boxes[:, 2:] = boxes[:, :2] + rng.uniform(0, 40, (50, 2))
    boxes[0, 2:] = boxes[0, :2]
    found, = onnxruntime.InferenceSession(
        str(path), providers=['CPUExecutionProvider'
                              ]).run(None, dict(feature=feature, boxes=boxes))
    rois = torch.from_numpy(np.pad(boxes, ((0, 0), (1, 0))))
    expected = layer(torch.from_numpy(feature), rois).numpy()
    np.testing.assert_allclose(found, expected, atol=2e-5)


@pytest.mark.parametrize('part, setting, value', [
    ('boxes', 'score_thr', 1.0),
    ('rpn', 'min_bbox_size', 9999),
])
def test_no_detections(exported, monkeypatch, part, setting, value):
    """Nor proposals."""
    monkeypatch.setattr(getattr(exported.session.model, part), setting, value)
    found = exported.session.segment(photograph(0))
    assert found.masks.shape == (0, *SIZES[0]) and found.kept == []
    assert found.panoptic.min() >= 4
    assert len(
        results.list_segments(found, exported.session.model.classes)[1]) >= 2


@pytest.fixture
def folder(exported, tmp_path):
    """A copy of the export."""
    return shutil.copytree(exported.folder, tmp_path / 'copy')


def test_what_is_no_export_is_refused(folder, tmp_path):
    with open(folder / 'masks.onnx', 'ab') as file:
        file.write(b'\0')
    with pytest.raises(DeployError, match='masks.onnx is not the graph'):
        PanopticSession(str(folder))
    (folder / 'masks.onnx').unlink()
    with pytest.raises(DeployError, match='masks.onnx is missing'):
        PanopticSession(str(folder))
    (folder / 'model.json').write_text('{')
    with pytest.raises(DeployError, match='model.json: .*truncated'):
        PanopticSession(str(folder))
    with pytest.raises(DeployError, match='No such file'):
        PanopticSession(str(tmp_path))


@pytest.mark.parametrize('change,message', [
    (lambda c: c.update(version=0), 'version'),
    (lambda c: c.pop('classes'), 'field `classes`'),
    (lambda c: c['graphs'].pop('boxes'), 'boxes.onnx is missing'),
    (lambda c: c['rpn'].update(iou_thr='0.7'), r'at `\$.rpn.iou_thr`'),
    (lambda c: c['graphs'].update({'../a': c['graphs']['trunk']}), '../a'),
    (lambda c: c['panoptic'].update(overlap_thr=float('nan')), 'malformed'),
])
def test_a_wrong_description_is_refused(folder, change, message):
    content = json.loads((folder / 'model.json').read_text())
    change(content)
    (folder / 'model.json').write_text(json.dumps(content))
    with pytest.raises(DeployError, match=message) as error:
        PanopticSession(str(folder))
    assert str(folder) in str(error.value)


@pytest.mark.parametrize(
    'part', [pytest.param(1, marks=pytest.mark.slow, id='all'), 10])
def test_odd_values_anywhere_are_refused_or_run(exported, folder, part):
    """Nothing but the package's own error comes out of reading, nor of running
    with other thresholds."""
    path = folder / 'model.json'
    text = path.read_text()
    image = np.random.default_rng(0).integers(0, 256, (40, 60, 3), np.uint8)
    counts, number = Counter(), 0
    for place in places(json.loads(text)):
        # the same code reads all of them
        if any(type(key) is int and key > 0 for key in place):
            continue
        for value in (*ODD, DROPPED):
            number += 1
            if number % part:
                continue
            content = json.loads(text)
            owner = owner_of(content, place)
            if value is DROPPED:
                del owner[place[-1]]
            else:
                owner[place[-1]] = value
            path.write_text(json.dumps(content))
            try:
                model = read_model(str(folder))
                if place[-1] in SETTINGS:
                    # onnxruntime's sessions are those of the same graphs
                    session = copy.copy(exported.session)
                    session.model = model
                    session.segment(image)
            except DeployError as error:
                assert str(folder) in str(error) and '\n' not in str(error)
                counts['refused'] += 1
            else:
                counts['run'] += 1
    print(dict(counts))
    assert counts['refused'] > 500 / part and counts['run'] > 50 / part


def test_an_unknown_provider_and_a_folder_in_use(exported, tmp_path):
    with pytest.raises(DeployError, match='NoSuchProvider'):
        PanopticSession(str(exported.folder), ['NoSuchProvider'])
    (tmp_path / 'note.txt').write_text('mine')
    with pytest.raises(InputError, match='not empty'):
        export_model(exported.model, str(tmp_path))
    assert [one.name for one in tmp_path.iterdir()] == ['note.txt']


class Frozen(nn.Module):
    """A neck that is tied to the size of its input by a trace."""

    def __init__(self, neck):
        super().__init__()
        self.neck = neck

    def forward(self, feats):
        size = [int(side) for side in feats[0].shape[-2:]]
        feats = self.neck(feats)
        return (nn.functional.interpolate(feats[0], size), *feats[1:])


@pytest.mark.parametrize('change,message', [
    (lambda m: m.test_cfg.rpn.nms.update(type='soft_nms'), 'rpn.nms'),
    (lambda m: setattr(m.semantic_head, 'align_corners', True),
     'align_corners'),
    (lambda m: setattr(m.roi_head.bbox_roi_extractor.roi_layers[1],
                       'pool_mode', 'max'), 'bbox_roi_extractor'),
    (lambda m: m.cfg.test_dataloader.dataset.pipeline.insert(
        1, dict(type='Pad')), 'Pad'),
    (lambda m: setattr(m.rpn_head.bbox_coder, 'add_ctr_clamp', True),
     'bbox_coder'),
    (lambda m: setattr(m, 'neck', Frozen(m.neck)), 'another size'),
])
def test_what_is_not_exported_is_named(exported, tmp_path, change, message):
    model = copy.deepcopy(exported.model)
    change(model)
    with pytest.raises(InputError, match=message):
        export_model(model, str(tmp_path / 'onnx'))
    assert not list(tmp_path.iterdir())


BLOCKED = """
import sys
class Block:
    def find_spec(self, name, path=None, target=None):
        if name.split('.')[0] in {blocked}:
            raise ImportError('blocked: ' + name)
sys.meta_path.insert(0, Block())
sys.argv = sys.argv[1:]
import runpy
runpy.run_path(sys.argv[0], run_name='__main__')
"""


def test_runs_on_a_device_without_pytorch(exported, tmp_path):
    """The tool and panoptic_onnx copied, nothing else of the project."""
    shutil.copy(tiny.REPO_ROOT / 'tools/run_onnx.py', tmp_path)
    shutil.copytree(RUNTIME / 'panoptic_onnx', tmp_path / 'panoptic_onnx')
    for name in ('a', 'b'):
        cv2.imwrite(str(tmp_path / f'{name}.png'), photograph(0))
    (tmp_path / 'b.png').write_bytes(b'no image')
    names = [
        'torch', 'mmengine', 'mmcv', 'mmdet', 'mmseg', 'panoptic_fpn', 'onnx'
    ]
    command = [
        sys.executable, '-c',
        BLOCKED.format(blocked=names), 'run_onnx.py',
        str(exported.folder), 'a.png', 'b.png', 'gone.png', '--out-dir', 'out',
        '--threads', '1'
    ]
    done = subprocess.run(
        command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 1, done.stderr
    assert 'a_overlay.png' in done.stdout
    assert 'b.png' in done.stderr and 'gone.png' in done.stderr
    assert sorted(one.name for one in (tmp_path / 'out').iterdir()) == [
        'a_overlay.png', 'a_panoptic.png', 'a_segments.json'
    ]
    found = exported.session.segment(photograph(0))
    _, segments = results.list_segments(found, exported.session.model.classes)
    written = json.loads((tmp_path / 'out' / 'a_segments.json').read_text())
    assert written['segments'] == segments


@pytest.mark.parametrize('arguments', [
    ['missing', 'a.png', '--out-dir', 'out'],
    ['.', 'a.png', '--out-dir', 'out', '--threads', '-1'],
    ['.', '--out-dir', 'out'],
])
def test_wrong_arguments_of_the_tool(tmp_path, monkeypatch, arguments):
    monkeypatch.chdir(tmp_path)
    assert call_tool(monkeypatch, 'run_onnx', *arguments) == 2
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_the_tool_exports_and_checks(files, exported, tmp_path, monkeypatch,
                                     capsys):
    cv2.imwrite(str(tmp_path / 'a.png'), photograph(1))
    torch.save(
        dict(
            state_dict=exported.model.state_dict(),
            meta=dict(dataset_meta=tiny.SPACE.metainfo())),
        tmp_path / 'spread.pth')
    command = (monkeypatch, 'export_onnx', files[0], tmp_path / 'spread.pth',
               '--out', tmp_path / 'onnx', '--check', tmp_path / 'a.png')
    assert call_tool(*command) == 0
    assert 'panoptic map: 100.000 %' in capsys.readouterr().out
    assert call_tool(*command) == 1
    assert 'not empty' in capsys.readouterr().err


@pytest.mark.slow
def test_r50_on_a_photograph(tmp_path):
    """ResNet-50 with fitted weights on an image of 800 x 1199 pixels."""
    from benchmarks import inputs, models
    weights = models.load('ours', 0)
    checkpoint = tmp_path / 'r50.pth'
    classes = [
        dict(id=i, name=f'class {i}', isthing=int(i < models.NUM_THINGS))
        for i in range(models.NUM_THINGS + models.NUM_STUFF)
    ]
    torch.save(
        dict(
            state_dict=weights.state_dict(),
            meta=dict(dataset_meta=LabelSpace.from_coco(classes).metainfo())),
        checkpoint)
    model = init_model(str(models.CONFIG), str(checkpoint))
    inputs.photograph(0).write(tmp_path, '.jpg')
    image = cv2.imread(str(tmp_path / 'image.jpg'))
    out = export_model(model, str(tmp_path / 'onnx'))
    exported = SimpleNamespace(model=model, session=PanopticSession(str(out)))
    expected, found = results_of(exported, image)
    agreement = compare(expected.sample, found)
    print(agreement)
    assert agreement.holds, str(agreement)
    assert len(found.kept) >= 3
