"""From a model to archives, by the tool."""
import importlib.util
import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path
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
from tests.conftest import REPO_ROOT
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


def call(monkeypatch, *arguments):
    """Exit code of the tool in this process."""
    spec = importlib.util.spec_from_file_location('format_submission', TOOL)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(sys, 'argv', ['tool', *map(str, arguments)])
    try:
        return module.main()
    except SystemExit as error:
        return error.code


@pytest.fixture(scope='module')
def written(coco):
    """Folder of COCO's three archives."""
    root, config, checkpoint = coco
    out = root / 'out'
    done = command(TOOL, 'coco-test-dev', config, checkpoint, '--out-dir', out,
                   '--name', 'net', '--tasks', 'panoptic', 'bbox', 'segm',
                   '--work-dir', root / 'log', '--cfg-options', *OPTIONS)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert 'panoptic: 0 errors' in done.stdout
    return out


def test_archives_are_as_coco_asks_for_them(written):
    """Names, layout, ids; and nothing else is left."""
    stems = [f'{kind}/detections_test-dev2017_net_results'
             for kind in ('bbox', 'segm')]  # yapf: disable
    found = sorted(
        p.relative_to(written).as_posix() for p in written.rglob('*')
        if p.is_file())
    assert found == sorted(f'{stem}.zip' for stem in [STEM, *stems])
    assert not [p for p in written.iterdir() if p.name.startswith('.')]
    with zipfile.ZipFile(written / f'{STEM}.zip') as archive:
        numbers = range(581918, 581921)
        assert sorted(archive.namelist()) == sorted(
            [f'{STEM}.json'] + [f'{STEM}/{n:012d}.png' for n in numbers])
        content = json.loads(archive.read(f'{STEM}.json'))
    assert [a['image_id'] for a in content['annotations']] == [*numbers]
    categories = {
        s['category_id']
        for a in content['annotations']
        for s in a['segments_info']
    }
    assert categories and categories <= set(SPACE.category_ids)
    with zipfile.ZipFile(written / f'{stems[1]}.zip') as archive:
        assert archive.namelist() == [f'{Path(stems[1]).name}.json']
        content = json.loads(archive.read(archive.namelist()[0]))
    assert content and {d['category_id']
                        for d in content} <= set(
                            SPACE.category_ids[:SPACE.num_things])


def test_validate_only(coco, written, tmp_path, monkeypatch, capsys):
    _, config, _ = coco
    first = ('coco-test-dev', config, '--num-workers', 1, '--validate-only')
    for path in written.rglob('*.zip'):
        assert call(monkeypatch, *first, path) == 0
        assert ': 0 errors' in capsys.readouterr().out
    files = read_all(written / f'{STEM}.zip')
    edit_json(files, lambda c: c['annotations'].pop())
    path = write_all(tmp_path / f'{STEM}.zip', files)
    assert call(monkeypatch, *first, path) == 1
    out = capsys.readouterr().out
    assert 'error [no_result]' in out and 'image_id=581920' in out
    (tmp_path / 'no.zip').write_bytes(b'no zip')
    assert call(monkeypatch, *first, tmp_path / 'no.zip') == 1
    assert 'cannot be read as a zip file' in capsys.readouterr().err


def test_wrong_arguments(coco, written, tmp_path, monkeypatch, capsys):
    _, config, checkpoint = coco
    start = ['coco-test-dev', config, checkpoint, '--out-dir', written]
    for arguments, text in (([*start, '--name',
                              'net'], 'exists. Give another --name'),
                            ([*start, '--name', 'a_b'],
                             'letters, digits'), ([*start, '--tasks', 'pixel'],
                                                  "task 'pixel' is unknown"),
                            ([*start, '--validate-only',
                              config], 'takes no checkpoint'),
                            (start[:3], '--out-dir, or --validate-only'),
                            (['coco-test-dev',
                              'none.py'], 'none.py: no such file'), ([
                                  'cityscapes', config, '--validate-only',
                                  'no.zip'
                              ], 'no such file'), (['ade20k', config],
                                                   'invalid choice')):
        assert call(monkeypatch, *arguments) == 2, arguments
        assert text in capsys.readouterr().err


def test_a_data_set_without_a_json_is_named(monkeypatch, coco, capsys):
    """And one whose files are not there."""
    _, config, _ = coco
    archive = config  # any file: it is not read
    assert call(monkeypatch, 'coco-test-dev', config, '--validate-only',
                archive, '--ann-file', 'none.json') == 1
    assert 'none.json: no such file' in capsys.readouterr().err


class FakeRunner:
    """Writes the results of a random data set, or fails."""

    def __init__(self, folder, spoil=lambda folder: None):
        self.folder, self.spoil = folder, spoil
        data, self.expected = coco_results(folder / 'reference')
        infos = []
        for image in data.images:
            path = folder / image.file_name
            path.write_bytes(b'')
            infos.append(
                dict(
                    img_id=image.image_id,
                    img_path=str(path),
                    height=image.id_map.shape[0],
                    width=image.id_map.shape[1]))
        dataset = SimpleNamespace(
            label_space=self.expected.space, get_data_info=infos.__getitem__)
        self.infos = infos

        class Dataset(SimpleNamespace):

            def __len__(self):
                return len(infos)

        dataset = Dataset(**vars(dataset))
        self.test_dataloader = SimpleNamespace(dataset=dataset)

    def test(self):
        results = self.folder / 'out' / '.net.results'
        assert results.is_dir() and not list(results.iterdir())
        coco_results(results)
        self.spoil(results)


def submit(runner):
    lines = []
    run_submission(
        runner,
        dict(panoptic=COCO['panoptic']),
        str(runner.folder / 'out'),
        'net',
        num_workers=1,
        report=lines.append)
    return lines


def left(runner):
    return sorted(p.name for p in (runner.folder / 'out').iterdir())


def test_results_are_removed_when_they_are_zipped(tmp_path):
    runner = FakeRunner(tmp_path)
    stale = tmp_path / 'out' / '.net.results' / 'r.panoptic'
    stale.mkdir(parents=True)
    (stale / 'old.png').write_bytes(b'')
    lines = submit(runner)
    assert lines[0] == 'panoptic: 0 errors, 0 warnings'
    assert '4 images, 5 files' in lines[1]
    assert left(runner) == [f'{STEM}.zip']


def test_no_archive_where_a_rule_is_broken(tmp_path):

    def spoil(results):
        path = sorted((results / 'r.panoptic').iterdir())[0]
        cv2.imwrite(str(path), np.zeros((40, 56, 3), np.uint8))

    runner = FakeRunner(tmp_path, spoil)
    with pytest.raises(InputError, match='no archive is written'):
        submit(runner)
    assert left(runner) == ['.net.results']


def test_an_interrupted_run_leaves_nothing(tmp_path):

    def interrupt(results):
        raise KeyboardInterrupt

    runner = FakeRunner(tmp_path, interrupt)
    with pytest.raises(KeyboardInterrupt):
        submit(runner)
    assert left(runner) == []


def test_a_task_without_results_is_named(tmp_path):
    runner = FakeRunner(tmp_path, lambda results:
                        (results / 'r.panoptic.json').unlink())
    with pytest.raises(InputError, match='panoptic: the model has written'):
        submit(runner)


def test_images_are_missed_before_inference(tmp_path):
    runner = FakeRunner(tmp_path)
    for info in runner.infos[1:3]:
        os.unlink(info['img_path'])
    with pytest.raises(InputError, match='as 2 of 4 images'):
        require_images(runner.test_dataloader.dataset)


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
