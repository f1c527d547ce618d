"""Files inside zip archives: content, errors, forked processes."""
import os
import zipfile

import numpy as np
import pytest
from mmengine import fileio

import mmengine_exact  # noqa: F401
from mmengine_exact.errors import CorruptFileError
from mmengine_exact.files import read_bytes

ARGS = dict(backend='zip')


@pytest.fixture(name='archive')
def _archive(tmp_path):
    """One stored and one compressed file."""
    path = tmp_path / 'a b' / 'Photos.ZIP'
    path.parent.mkdir()
    with zipfile.ZipFile(path, 'w') as file:
        file.writestr('in/1.jpg', b'one' * 100)
        file.writestr('in/2.txt', 'zwei äß', zipfile.ZIP_DEFLATED)
    (path.parent / 'beside.txt').write_text('local')
    return path


@pytest.mark.parametrize('start,args', [('', ARGS), ('zip://', None)])
def test_files_of_an_archive_and_beside_it(archive, start, args):
    start += str(archive.parent)
    path = fileio.join_path(start, 'Photos.ZIP/', 'in', backend_args=args)
    assert fileio.get(f'{path}/1.jpg', args) == b'one' * 100
    assert fileio.get(f'{path}//../in/./1.jpg', args) == b'one' * 100
    assert fileio.get_text(f'{path}/2.txt', backend_args=args) == 'zwei äß'
    assert fileio.get_text(f'{start}/beside.txt', backend_args=args) == 'local'
    there = 'Photos.ZIP/in/1.jpg', 'beside.txt', 'Photos.ZIP'
    away = 'Photos.ZIP/in/3.jpg', 'none.zip/in/1.jpg', 'none.txt'
    assert [fileio.exists(f'{start}/{n}', args)
            for n in (*there, *away)] == [True] * 3 + [False] * 3


def damage(archive):
    """Zeros in the stored file."""
    content = archive.read_bytes()
    archive.write_bytes(content.replace(b'one' * 50, bytes(150)))


@pytest.mark.parametrize('name,spoil,why', [
    ('Photos.ZIP/1.jpg', None,
     'no 1.jpg in .*Photos.ZIP, which begins with in/1.jpg, in/2.txt'),
    ('none.zip/1.jpg', None, 'No such file or directory'),
    ('Photos.ZIP/in/1.jpg', lambda path: path.write_bytes(b'no zip'),
     'Photos.ZIP: File is not a zip file'),
    ('Photos.ZIP/in/1.jpg', damage, 'Bad CRC-32 for file .in/1.jpg'),
])
def test_what_cannot_be_read_is_named(archive, name, spoil, why):
    if spoil:
        spoil(archive)
    path = f'{archive.parent}/{name}'
    with pytest.raises(CorruptFileError, match=why) as error:
        read_bytes(path, 'image', ARGS)
    assert str(error.value).startswith(f'{path}: cannot read the image (')


def test_forked_processes_read_side_by_side(tmp_path):
    """The parent has the archive open. Children that shared its position in
    the file would read each other's bytes."""
    rng, contents = np.random.default_rng(0), {}
    with zipfile.ZipFile(tmp_path / 'a.zip', 'w') as file:
        for i in range(40):
            contents[i] = rng.bytes(50_000)
            file.writestr(f'{i}', contents[i])

    def read_all(order):
        return all(
            fileio.get(f'{tmp_path}/a.zip/{i}', ARGS) == contents[i]
            for _ in range(10) for i in order)

    assert read_all([0])
    children = []
    for seed in range(3):
        child = os.fork()
        if not child:
            os._exit(not read_all(np.random.default_rng(seed).permutation(40)))
        children.append(child)
    assert [os.waitpid(child, 0)[1] for child in children] == [0] * 3
