"""The tool: files of both zoos there and back, exit codes, nothing half."""
import pickle

import numpy as np
import pytest
import torch

from panoptic_apps.convert_weights import zoo as module
from panoptic_fpn.inference import PanopticInferencer, init_model
from tests.conftest import call_tool
from tests.oracles import detectron2_layout as detectron2
from tests.tiny import SPACE, picture, write_tiny_model

from .models import build, config, config_file, mmdets, same

ZOOS = ('detectron2', 'mmdet')


def call(monkeypatch, *args):
    return call_tool(monkeypatch, 'convert_checkpoint', *args)


@pytest.fixture
def files(tmp_path):
    """A checkpoint of each zoo and configs for them."""
    weights = detectron2.random_weights()
    arrays = {key: value.numpy() for key, value in weights.items()}
    with open(tmp_path / 'detectron2.pkl', 'wb') as file:
        pickle.dump(
            dict(
                model=dict(arrays, pixel_mean=np.zeros(3, np.float32)),
                __author__='Detectron2 Model Zoo'), file)
    theirs = build(mmdets(config('mmdet'))).state_dict()
    torch.save(
        dict(state_dict=theirs, meta=dict(CLASSES=('a', ), epoch=12)),
        tmp_path / 'mmdet.pth')
    for zoo in ZOOS:
        config_file(tmp_path / f'{zoo}.py', zoo)
    return tmp_path, dict(detectron2=weights, mmdet=theirs)


@pytest.mark.parametrize('zoo, suffix', [('detectron2', '.pkl'),
                                         ('mmdet', '.pth')])
def test_files_there_and_back(files, monkeypatch, capsys, zoo, suffix):
    folder, weights = files
    source, ours, back = (
        folder / name for name in (f'{zoo}{suffix}', 'ours.pth', 'back.pth'))
    cfg = ('--config', folder / f'{zoo}.py')
    assert call(monkeypatch, zoo, source, ours, *cfg) == 0
    printed = capsys.readouterr().out
    assert 'tensors of the semantic_head' in printed
    assert printed.endswith(f'Written to {ours}.\n')
    assert 'note:' not in printed  # the settings are the zoo's
    assert ('ignored: pixel_mean\n' in printed) == (zoo == 'detectron2')
    model = init_model_of(ours, folder / f'{zoo}.py')
    assert not model.training
    assert call(monkeypatch, zoo, ours, back, *cfg, '--to', 'theirs') == 0
    content = torch.load(back, weights_only=True)
    key = 'model' if zoo == 'detectron2' else 'state_dict'
    assert same(content[key], weights[zoo])
    # and a file of torch from Detectron2
    again = folder / 'again.pth'
    assert call(monkeypatch, zoo, back, again, *cfg) == 0
    one, two = (torch.load(path)['state_dict'] for path in (ours, again))
    assert same(one, two)
    assert torch.load(again)['meta']['converted_from'] == 'back.pth'


def test_safetensors_there_and_back(tmp_path, monkeypatch, capsys):
    """The inferencer finds names of classes in it, and the same picture."""
    cfg, first = write_tiny_model(tmp_path)
    content = torch.load(first, weights_only=True)
    torch.save(dict(content, optimizer=dict(step=1)), first)
    tensors, back = tmp_path / 'a.safetensors', tmp_path / 'back.pth'
    for source, target in ((first, tensors), (tensors, back)):
        assert call(monkeypatch, 'ours', source, target) == 0
        printed = capsys.readouterr().out
        assert f'{len(content["state_dict"])} tensors' in printed
        assert 'load_from' in printed
    again = torch.load(back, weights_only=True)
    weights = content['state_dict']
    assert again['state_dict'].keys() == weights.keys()
    assert all(map(torch.equal, (again['state_dict'][key] for key in weights),
                   weights.values()))  # yapf: disable
    assert 'optimizer' not in again
    assert back.stat().st_size < 1.1 * first.stat().st_size
    results = []
    for path in (first, tensors):
        inferencer = PanopticInferencer(str(cfg), str(path))
        assert inferencer.model.label_space == SPACE
        results.append(inferencer(picture())['predictions'][0])
    np.testing.assert_equal(*results)


def test_a_zoo_file_as_safetensors(files, monkeypatch):
    folder, _ = files
    cfg = ('--config', folder / 'detectron2.py')
    pth, tensors, back = (
        folder / name for name in ('o.pth', 'o.safetensors', 'back.pth'))
    for target in (pth, tensors):
        assert call(monkeypatch, 'detectron2', folder / 'detectron2.pkl',
                    target, *cfg) == 0
    assert call(monkeypatch, 'ours', tensors, back) == 0
    one, two = (torch.load(path)['state_dict'] for path in (pth, back))
    assert one.keys() == two.keys()
    assert all(torch.equal(one[key], two[key]) for key in one)
    assert call(monkeypatch, 'detectron2', tensors, folder / 'theirs.pth',
                *cfg, '--to', 'theirs') == 0


def init_model_of(checkpoint, cfg):
    """As every tool loads it; names of classes are not in tiny models."""
    content = torch.load(checkpoint)
    assert 'dataset_meta' not in content['meta']
    content['meta']['dataset_meta'] = dict(
        classes=tuple('abcdefg'),
        thing_classes=tuple('abc'),
        stuff_classes=tuple('defg'))
    torch.save(content, f'{checkpoint}.named')
    return init_model(str(cfg), f'{checkpoint}.named')


def test_settings_that_differ_are_printed(files, monkeypatch, capsys):
    folder, _ = files
    assert call(monkeypatch, 'detectron2', folder / 'detectron2.pkl',
                folder / 'ours.pth', '--config', folder / 'mmdet.py') == 0
    notes = capsys.readouterr().out.split('note: ')[1:]
    printed = {note.split(' is ')[0].strip() for note in notes}
    assert printed == {
        'model.data_preprocessor.mean', 'model.data_preprocessor.std',
        'model.data_preprocessor.bgr_to_rgb', 'model.backbone.style',
        'model.test_cfg.rcnn.score_thr', 'model.test_cfg.panoptic.score_thr',
        'model.test_cfg.panoptic.nms_iou_thr'
    }


def test_failures_write_nothing(files, monkeypatch, capsys, tmp_path):
    folder, _ = files
    good, out = folder / 'detectron2.pkl', folder / 'out.pth'
    deep = config_file(folder / 'deep.py', 'detectron2', depth=50)
    evil = folder / 'evil.pkl'
    evil.write_bytes(b'cposix\nsystem\n(S\'touch ' +
                     str(folder / 'made').encode() + b'\'\ntR.')
    cut = folder / 'cut.pkl'
    cut.write_bytes(good.read_bytes()[:1000])
    unsafe = folder / 'unsafe.pth'
    torch.save(dict(model={}, meta=print), unsafe)
    tiny = folder / 'detectron2.py'
    before = good.read_bytes()
    for args, message in (
        ((good, out, '--config', deep), 'set model.backbone.depth'),
        ((evil, out, '--config', tiny), 'python object posix.system'),
        ((unsafe, out, '--config', tiny), 'could run code'),
        ((cut, out, '--config', tiny), 'damaged'),
        ((folder / 'no.pkl', out, '--config', tiny), 'does not exist'),
        ((folder / 'mmdet.pth', out, '--config', tiny), 'it is of mmdet'),
        ((good, out, '--config', tiny, '--to', 'theirs'),
         'it is of detectron2'),
    ):
        assert call(monkeypatch, 'detectron2', *args) == 1
        printed = capsys.readouterr()
        assert message in printed.err and 'Traceback' not in printed.err
        assert printed.err.count('\n') == 1
        assert 'Written' not in printed.out
    same = folder / 'same.pkl.pth'
    same.write_bytes(before)
    assert call(monkeypatch, 'detectron2', same, same, '--config', tiny) == 1
    assert 'is the input as well' in capsys.readouterr().err
    assert not out.exists() and not (folder / 'made').exists()
    assert not list(folder.glob('.*part*'))
    assert good.read_bytes() == before


def test_wrong_arguments(files, monkeypatch, capsys):
    folder, _ = files
    good, tiny = folder / 'detectron2.pkl', folder / 'detectron2.py'
    for args, message in (
        (('detectron2', good, 'o.pkl', '--config', tiny), 'name a .pth'),
        (('detectron2', good, 'o.pth', '--config', 'no.py'), 'no such file'),
        (('detectron2', good, 'o.pth'), '--config None: no such file'),
        (('mmdet', good, 'o.safetensors', '--config', tiny, '--to', 'theirs'),
         'cannot be written as .safetensors; name a .pth'),
        (('ours', good, 'o.pth', '--config', tiny), 'takes neither --config'),
    ):
        assert call(monkeypatch, *args) == 2
        assert message in capsys.readouterr().err


def test_cocos_classes_come_with_the_weights():
    """Of a model of 80 and 53 classes, so that a picture has names."""
    coco = dict(
        panoptic_fusion_head=dict(num_things_classes=80, num_stuff_classes=53))
    meta = module._meta({}, coco, 'ours')
    assert meta['dataset_meta']['category_ids'][-1] == 200
    assert meta['dataset_meta']['thing_classes'][0] == 'person'
    # as mmdet names them: without ids
    names = dict(classes=meta['dataset_meta']['classes'])
    assert module._meta(dict(dataset_meta=names), coco,
                        'ours')['dataset_meta'] == meta['dataset_meta']
    stored = dict(dataset_meta=dict(classes=('a', )))
    assert module._meta(stored, coco,
                        'ours')['dataset_meta']['classes'] == ('a', )
    assert 'dataset_meta' not in module._meta({}, coco, 'theirs')
