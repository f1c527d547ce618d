"""From a model to archives, by the tool."""
import json
import os
import subprocess
import sys
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch
from mmdet.registry import MODELS
from mmengine.config import Config
from mmengine.registry import DefaultScope

from mmengine_exact.errors import InputError
from panoptic_apps.submission import require_images, run_submission
from tests.conftest import REPO_ROOT, call_tool
from tests.tiny import CONFIG, SPACE, picture

from .archives import COCO, coco_results, edit_json, read_all, write_all

TOOL = REPO_ROOT / 'tools' / 'format_submission.py'
CITYSCAPES_TINY = (
    REPO_ROOT / 'configs/cityscapes/panoptic-fpn_tiny_miniature.py')
STEM = 'panoptic_test-dev2017_net_results'
#: Many segments of a model that has learned nothing.
OPTIONS = [
    'model.test_cfg.rcnn.score_thr=0.05',
    'model.test_cfg.panoptic.score_thr=0.1',
    'model.test_cfg.panoptic.stuff_area=16', 'test_dataloader.num_workers=0'
]


def write_model(config, path):
    """A checkpoint of the config's model, as it is initialised."""
    torch.manual_seed(0)
    with DefaultScope.overwrite_default_scope('mmdet'):
        model = MODELS.build(Config.fromfile(config).model)
    with torch.no_grad():
        # from about 1 / 5 for each class to scores that differ
        model.roi_head.bbox_head.fc_cls.weight *= 100
    torch.save(dict(state_dict=model.state_dict(), meta={}), path)
    return path


@pytest.fixture(scope='module')
def coco(tmp_path_factory):
    """Config, checkpoint and three images as COCO's test-dev has them."""
    root = tmp_path_factory.mktemp('coco')
    images = []
    for number, size in enumerate(((96, 128), (128, 96), (64, 64)), 581918):
        name = f'{number:012d}.jpg'
        path = root / 'test2017' / name
        path.parent.mkdir(exist_ok=True)
        cv2.imwrite(str(path), picture(*size, seed=number))
        images.append(
            dict(id=number, file_name=name, height=size[0], width=size[1]))
    categories = [
        dict(id=c.id, name=c.name, isthing=int(c.isthing))
        for c in reversed(SPACE.categories)
    ]
    folder = root / 'annotations'
    folder.mkdir()
    (folder / 'panoptic_val2017.json').write_text(
        json.dumps(dict(images=[], annotations=[], categories=categories)))
    # as on COCO's server: only names, and of things alone
    names = [dict(id=c['id'], name=c['name']) for c in categories[:4]]
    (folder / 'image_info_test-dev2017.json').write_text(
        json.dumps(dict(images=images, categories=names)))
    config = root / 'net.py'
    config.write_text(f"""
_base_ = '{CONFIG}'
test_dataloader = dict(
    num_workers=0,
    persistent_workers=False,
    dataset=dict(
        _delete_=True,
        type='CocoPanopticFPNDataset',
        data_root='{root}/',
        ann_file='annotations/panoptic_val2017.json',
        data_prefix=dict(img='val2017/', seg='panoptic_val2017/'),
        test_mode=True,
        pipeline={{{{_base_.test_pipeline}}}}))
""")
    return root, config, write_model(config, root / 'net.pth')


def command(*arguments):
    environment = dict(os.environ, OMP_NUM_THREADS='1')
    return subprocess.run([sys.executable, *map(str, arguments)],
                          cwd=REPO_ROOT,
                          env=environment,
                          capture_output=True,
                          text=True,
                          timeout=300)


@pytest.fixture(scope='module')
def written(coco):
    """Folder of COCO's three archives."""
    root, config, checkpoint = coco
    out = root / 'out'
    with pytest.MonkeyPatch.context() as patch:
        assert call_tool(patch, 'format_submission', 'coco-test-dev', config,
                         checkpoint, '--out-dir', out, '--name', 'net',
                         '--tasks', 'panoptic', 'bbox', 'segm', '--work-dir',
                         root / 'log', '--cfg-options', *OPTIONS) == 0
    return out


def test_archives_are_as_coco_asks_for_them(written):
    """Names, layout, ids; and nothing else is left."""
    detections = 'detections_test-dev2017_net_results'
    numbers = range(581918, 581921)
    expected = {
        f'{STEM}.zip':
        {f'{STEM}.json', *(f'{STEM}/{n:012d}.png' for n in numbers)},
        f'bbox/{detections}.zip': {f'{detections}.json'},
        f'segm/{detections}.zip': {f'{detections}.json'}
    }
    files = [path for path in written.rglob('*') if path.is_file()]
    found = {p.relative_to(written).as_posix(): read_all(p) for p in files}
    assert {name: set(content) for name, content in found.items()} == expected
    assert not [p for p in written.iterdir() if p.name.startswith('.')]
    notes = json.loads(found[f'{STEM}.zip'][f'{STEM}.json'])['annotations']
    assert [note['image_id'] for note in notes] == [*numbers]
    categories = {
        s['category_id']
        for note in notes
        for s in note['segments_info']
    }
    assert categories and categories <= set(SPACE.category_ids)
    masks = json.loads(found[f'segm/{detections}.zip'][f'{detections}.json'])
    things = set(SPACE.category_ids[:SPACE.num_things])
    assert masks and {d['category_id'] for d in masks} <= things


def test_validate_only(coco, written, tmp_path, monkeypatch, capsys):
    first = ('coco-test-dev', coco[1], '--num-workers', 1, '--validate-only')

    def validate(*more):
        code = call_tool(monkeypatch, 'format_submission', *first, *more)
        return code, ''.join(capsys.readouterr())

    for path in written.rglob('*.zip'):
        code, out = validate(path)
        assert code == 0 and ': 0 errors' in out
    files = read_all(written / f'{STEM}.zip')
    edit_json(files, lambda c: c['annotations'].pop())
    path = write_all(tmp_path / f'{STEM}.zip', files)
    code, out = validate(path)
    assert code == 1 and 'error [no_result]' in out
    assert 'image_id=581920' in out
    code, out = validate(path, '--ann-file', 'none.json')
    assert code == 1 and 'none.json: cannot read the annotation' in out
    (tmp_path / 'no.zip').write_bytes(b'no zip')
    code, out = validate(tmp_path / 'no.zip')
    assert code == 1 and 'cannot be read as a zip file' in out


@pytest.mark.parametrize('arguments, text', [
    ('{start} --name net', 'exists. Give another --name'),
    ('{start} --name a_b', 'letters, digits'),
    ('{start} --tasks pixel', "task 'pixel' is unknown"),
    ('{start} --validate-only {config}', 'takes no checkpoint'),
    ('coco-test-dev {config} {config}', '--out-dir, or --validate-only'),
    ('coco-test-dev none.py', 'none.py: no such file'),
    ('cityscapes {config} --validate-only no.zip', 'no such file'),
])
def test_wrong_arguments(coco, written, monkeypatch, capsys, arguments, text):
    _, config, checkpoint = coco
    start = f'coco-test-dev {config} {checkpoint} --out-dir {written}'
    arguments = arguments.format(start=start, config=config).split()
    assert call_tool(monkeypatch, 'format_submission', *arguments) == 2
    assert text in capsys.readouterr().err


class Images(list):
    """A data set of results of :func:`coco_results`, without annotation."""

    def __init__(self, folder):
        data, expected = coco_results(folder / 'reference')
        self.label_space = expected.space
        for image in data.images:
            path = folder / image.file_name
            path.write_bytes(b'')
            height, width = image.id_map.shape
            self.append(
                dict(
                    img_id=image.image_id,
                    img_path=str(path),
                    height=height,
                    width=width))

    get_data_info = list.__getitem__


def submit(folder, spoil=lambda results: None):
    """Submit results; the lines of the report, and what is left."""
    results, lines = folder / 'out' / '.net.results', []

    def test():
        assert results.is_dir() and not list(results.iterdir())
        coco_results(results)
        spoil(results)

    runner = SimpleNamespace(
        test=test, test_dataloader=SimpleNamespace(dataset=Images(folder)))
    run_submission(
        runner,
        dict(panoptic=COCO['panoptic']),
        str(folder / 'out'),
        'net',
        num_workers=1,
        report=lines.append)
    return lines


def left(folder):
    return sorted(path.name for path in (folder / 'out').iterdir())


def test_results_are_removed_when_they_are_zipped(tmp_path):
    stale = tmp_path / 'out' / '.net.results' / 'r.panoptic'
    stale.mkdir(parents=True)
    (stale / 'old.png').write_bytes(b'')
    lines = submit(tmp_path)
    assert lines[0] == 'panoptic: 0 errors, 0 warnings'
    assert '4 images, 5 files' in lines[1]
    assert left(tmp_path) == [f'{STEM}.zip']


def spoil_png(results):
    path = sorted((results / 'r.panoptic').iterdir())[0]
    cv2.imwrite(str(path), np.zeros((40, 56, 3), np.uint8))


def interrupt(results):
    raise KeyboardInterrupt


@pytest.mark.parametrize('spoil, error, remains', [
    (spoil_png, 'no archive is written', ['.net.results']),
    (lambda results: (results / 'r.panoptic.json').unlink(),
     'panoptic: the model has written', ['.net.results']),
    (interrupt, '', []),
])
def test_what_fails_leaves_no_archive(tmp_path, spoil, error, remains):
    with pytest.raises((InputError, KeyboardInterrupt), match=error or None):
        submit(tmp_path, spoil)
    assert left(tmp_path) == remains


def test_images_are_missed_before_inference(tmp_path):
    images = Images(tmp_path)
    for info in images[1:3]:
        os.unlink(info['img_path'])
    with pytest.raises(InputError, match='as 2 of 4 images'):
        require_images(images)


@pytest.mark.slow
@pytest.mark.parametrize('processes', [1, 2])
def test_cityscapes_from_the_download_to_archives(tmp_path, processes):
    data, out = tmp_path / 'data', tmp_path / 'out'
    converters = REPO_ROOT / 'tools' / 'dataset_converters'
    for arguments in ((converters / 'miniature_cityscapes.py', data, '--size',
                       128, 256, '--num-train', 1, '--num-val', 1,
                       '--num-test', 3), (converters / 'cityscapes.py', data)):
        assert command(*arguments).returncode == 0
    checkpoint = write_model(CITYSCAPES_TINY, tmp_path / 'net.pth')
    options = [*OPTIONS, f'test_dataloader.dataset.data_root={data}/']
    launch = []
    if processes > 1:
        port = 29600 + os.getpid() % 300
        launch = [
            '-m', 'torch.distributed.run', f'--nproc_per_node={processes}',
            f'--master_port={port}'
        ]
    done = command(*launch, TOOL, 'cityscapes', CITYSCAPES_TINY, checkpoint,
                   '--out-dir', out, '--name', 'net', '--tasks', 'panoptic',
                   'instance', 'pixel', '--launcher',
                   'pytorch' if launch else 'none', '--work-dir',
                   tmp_path / 'log', '--cfg-options', *options)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert sorted(p.name for p in out.iterdir()) == [
        f'cityscapes_{task}_net.zip'
        for task in ('instance', 'panoptic', 'pixel')
    ]
    for path in out.iterdir():
        checked = command(TOOL, 'cityscapes', CITYSCAPES_TINY,
                          '--validate-only', path, '--cfg-options', *options)
        assert checked.returncode == 0, checked.stdout + checked.stderr
