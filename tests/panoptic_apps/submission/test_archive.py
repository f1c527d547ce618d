"""Archives: whole or not there, the same bytes, read as they were written."""
import os
import zipfile

import numpy as np
import pytest

from mmengine_exact.errors import InputError
from panoptic_apps.submission import (SERVERS, Expected, check_archive,
                                      check_name, report_faults, unzip,
                                      write_archive)
from panoptic_apps.submission.prepare import guess_task
from panoptic_fpn.coco_format import WARNING, Fault, Faults, collect
from panoptic_fpn.labels import LabelSpace

SPACE = LabelSpace.from_coco([dict(id=1, name='a', isthing=1)])


@pytest.fixture
def files(tmp_path):
    """Name in the archive -> file."""
    rng = np.random.default_rng(0)
    made = {}
    for name in ('b/1.png', 'a.json', 'b/2.png'):
        path = tmp_path / 'source' / name.replace('/', '_')
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(rng.bytes(1000) + bytes(1000))
        made[name] = path
    return made


def unpack(path, folder):
    faults = []
    return collect(unzip(str(path), str(folder)), faults.append), faults


def test_what_is_written_is_read(files, tmp_path):
    path = tmp_path / 'deep' / 'x.zip'
    write_archive(path, files, str)
    members, faults = unpack(path, tmp_path / 'unpacked')
    assert list(members) == list(files) and not faults
    for name, source in files.items():
        assert members[name].read_bytes() == source.read_bytes()
        os.utime(source, (0, 0))
    with zipfile.ZipFile(path) as archive:
        for info in archive.infolist():
            stored = info.compress_type == zipfile.ZIP_STORED
            assert stored == info.filename.endswith('.png')
    # files of another date give the same bytes
    write_archive(tmp_path / 'y.zip', files, str)
    assert path.read_bytes() == (tmp_path / 'y.zip').read_bytes()


@pytest.mark.parametrize('error', [KeyboardInterrupt, OSError(28, 'full')])
def test_an_interrupted_one_leaves_nothing(files, tmp_path, error):
    path = tmp_path / 'out' / 'x.zip'
    path.parent.mkdir()
    path.write_bytes(b'before')
    count = 0

    def interrupt(done):
        nonlocal count
        count += 1
        if count == 2:
            raise error

    with pytest.raises((KeyboardInterrupt, OSError)) as caught:
        write_archive(path, files, interrupt)
    assert [p.name for p in path.parent.iterdir()] == ['x.zip']
    assert path.read_bytes() == b'before'
    if isinstance(error, OSError):
        assert caught.value.filename == str(path)


@pytest.mark.parametrize('name', ['b/1.png', 'a.json'])
def test_a_damaged_file(files, tmp_path, name):
    """Stored and deflated."""
    path = tmp_path / 'x.zip'
    write_archive(path, {name: files[name]}, str)
    content = bytearray(path.read_bytes())
    content[60:84] = b'\xff' * 24
    path.write_bytes(content)
    found = check_archive(
        str(path), SERVERS['cityscapes'], 'pixel', Expected({}, SPACE), 1)
    assert [f.where for f in found.examples['damage']] == [name]


def test_duplicates_and_what_is_no_zip(tmp_path):
    with pytest.warns(UserWarning, match='Duplicate'):
        with zipfile.ZipFile(tmp_path / 'y.zip', 'w') as archive:
            archive.writestr('1.png', b'')
            archive.writestr('1.png', b'')
    _, faults = unpack(tmp_path / 'y.zip', tmp_path / 'y')
    assert [f.value for f in faults] == ['twice in the archive']
    (tmp_path / 'z.zip').write_bytes(b'PK no zip')
    with pytest.raises(InputError, match='z.zip.*zip file'):
        unpack(tmp_path / 'z.zip', tmp_path / 'z')


def test_names_and_the_task_that_follows():
    for name in ('', 'a_b', 'a b', '../a', '.a', 'é'):
        with pytest.raises(InputError, match='letters, digits'):
            check_name(name)
    coco, city = SERVERS['coco-test-dev'], SERVERS['cityscapes']
    for path, server, names, task in (('panoptic_x_results.zip', coco, [],
                                       'panoptic'),
                                      ('d/segm/detections_x_results.zip', coco,
                                       ['x.json'], 'segm'),
                                      ('panoptic/x.zip', city, ['a.txt'],
                                       'instance'),
                                      ('x.zip', coco, ['x.json',
                                                       'x/1.png'], 'panoptic'),
                                      ('x.zip', city, ['a.txt',
                                                       'm/1.png'], 'instance'),
                                      ('x.zip', city, ['a.png'], 'pixel')):
        assert guess_task(path, server, names) == task
    with pytest.raises(InputError, match='--tasks'):
        guess_task('x.zip', coco, ['x.json'])
    with pytest.raises(InputError, match="'pixel'.*panoptic, bbox, segm"):
        coco.choose(['pixel'])


def test_a_report_has_some_of_each_kind():
    found, lines = Faults(), []
    found.extend(Fault('ids_only_in_png', f'{i}.png', 'no') for i in range(7))
    found.add(Fault('order', 'image 1', 'odd', WARNING))
    assert report_faults('panoptic', found, lines.append, examples=2) == 7
    assert lines == [
        'error [ids_only_in_png] 0.png: no',
        'error [ids_only_in_png] 1.png: no',
        '... and 5 more [ids_only_in_png]', 'warning [order] image 1: odd',
        'panoptic: 7 errors, 1 warnings'
    ]
