"""Folders and files that cannot be used: one message with path and advice."""
import os
import shutil

import cv2
import pytest

from mmengine_exact.errors import InputError
from panoptic_apps.convert_data import prepare
from panoptic_apps.convert_data.cityscapes import conversion as module

LABEL = ('gtFine/train/bochum/'
         'bochum_000001_000019_gtFine_instanceIds.png')
IMAGE = 'leftImg8bit/train/bochum/bochum_000001_000019_leftImg8bit.png'


def silent(*_):
    pass


def failure(root, *splits):
    """The one line of an error, which names the folder and leaves nothing
    half written."""
    with pytest.raises(InputError) as error:
        prepare(
            str(root),
            splits or ('train', 'val'),
            num_workers=1,
            report=silent)
    text = str(error.value)
    assert '\n' not in text and len(text) < 600
    assert not list(root.rglob('panoptic_fpn_train.json'))
    return text


def rewrite(path, change):
    values = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    assert cv2.imwrite(str(path), change(values))


def test_folders_that_are_none(root, tmp_path):
    both = 'no folder leftImg8bit and no folder gtFine'
    for folder in (tmp_path / 'nowhere', root / 'gtFine', root.parent):
        text = failure(folder)
        assert text.startswith(f'{folder}: {both}. Give the folder'), text
        assert 'gtFine_trainvaltest.zip' in text
    shutil.rmtree(root / 'gtFine')
    assert failure(root).startswith(f'{root}: no folder gtFine. Give')


def test_no_image_of_any_split(root):
    for path in (root / 'leftImg8bit').iterdir():
        shutil.rmtree(path)
    text = failure(root)
    assert 'no image of train, val' in text
    assert 'leftImg8bit/train/CITY/*_leftImg8bit.png' in text


def test_images_without_label_file(root):
    (root / LABEL).unlink()
    text = failure(root)
    assert f'{root}/gtFine/train: 1 of 8 images' in text
    assert ': bochum_000001_000019. Unpack gtFine_trainvaltest.zip' in text
    for path in (root / 'gtFine/train').glob('*/*'):
        path.rename(str(path).replace('_gtFine_', '_gtCoarse_'))
    text = failure(root)
    assert '... (8 in all)' in text and 'not gtCoarse' in text


def test_labels_without_image_are_left_out(root):
    (root / IMAGE).unlink()
    lines = []
    summary = prepare(
        str(root), ['train'], num_workers=1, report=silent, warn=lines.append)
    assert summary['train']['images'] == 7
    assert '1 label images without image' in lines[0]
    assert 'bochum_000001_000019' in lines[0]


def test_counts_and_missing_splits_are_reported(root):
    shutil.rmtree(root / 'leftImg8bit/test')
    lines = []
    found = prepare(str(root), num_workers=1, report=lines.append)
    assert list(found) == ['train', 'val']
    warnings = [line for line in lines if line.startswith('warning: ')]
    assert 'train: 8 images, 2967 fewer than the 2975' in warnings[0]
    assert 'val: 4 images, 496 fewer than the 500' in warnings[1]
    assert warnings[2] == 'warning: test: no images, left out'


def test_sizes_that_differ(root):
    rewrite(root / LABEL, lambda v: v[::2, ::2])
    text = failure(root)
    assert f'{root / LABEL}: (64, 128) (h, w)' in text
    assert '(128, 256)' in text


def test_several_bad_files_in_one_error(root):
    paths = sorted((root / 'gtFine/train').glob('*/*_instanceIds.png'))
    for path in paths[:3]:
        rewrite(path, lambda v: v[::2])
    text = failure(root)
    assert text.startswith(f'{paths[0]}: (64, 256)')
    assert f'Neither can be used: {paths[1]}, {paths[2]}.' in text
    # the others were not in vain
    cache = root / 'gtFine/.panoptic_fpn_cache_train_v1.jsonl'
    assert cache.read_text().count('\n') == 5


def flipped(content):
    content = bytearray(content)
    content[len(content) // 2] ^= 0x55
    return content


@pytest.mark.parametrize('damage,why', [
    (lambda b: b[:len(b) // 2], 'cut off'),
    (lambda b: b[:-6], 'cut off'),
    (lambda b: b[:15], 'no image of a known format'),
    (lambda b: b'', 'an empty file'),
    (lambda b: b'\xff\xd8' + b[2:], 'no label map'),
    (flipped, 'damaged PNG'),
])
def test_damaged_files(root, damage, why):
    for name, message in ((LABEL, why), (IMAGE, 'no whole PNG')):
        path = root / name
        good = path.read_bytes()
        path.write_bytes(damage(good))
        if damage is flipped and name == IMAGE:
            continue  # pixels of images are not read
        text = failure(root)
        assert text.startswith(f'{path}: ') and message in text, text
        assert 'Restore' in text
        path.write_bytes(good)


def test_a_link_to_nowhere(run_tool, root, capsys):
    path = root / LABEL
    path.unlink()
    path.symlink_to('nowhere.png')
    assert run_tool('cityscapes', root) == 1
    assert f'error: {path}: No such file' in capsys.readouterr().err


@pytest.mark.parametrize('kind,found', [('labelIds', '8 bit, but'),
                                        ('color', '4 channels')])
def test_another_kind_of_label_image(root, kind, found):
    path = root / LABEL
    shutil.copy(str(path).replace('instanceIds', kind), path)
    text = failure(root)
    assert f'{path}: {found}' in text and '16 bit' in text


@pytest.mark.parametrize('value', [255, 34, 11000, 65535, 40001])
def test_values_that_stand_for_nothing(root, value):

    def change(values):
        values = values.copy()
        values[5, 7] = value
        return values

    rewrite(root / LABEL, change)
    text = failure(root)
    assert text.startswith(f'{root / LABEL}: {value} is no value')


def test_names_that_are_none(root):
    folder = root / 'leftImg8bit/train/bochum'
    shutil.copy(root / IMAGE, folder / 'mine_leftImg8bit.png')
    assert 'mine_leftImg8bit.png: not named' in failure(root)


def test_one_image_in_two_cities(root):
    folder = root / 'leftImg8bit/train/aachen'
    shutil.copy(root / IMAGE, folder)
    text = failure(root)
    assert str(root / IMAGE) in text and 'Remove one' in text


def test_folders_that_cannot_be_written(run_tool, root, capsys):
    (root / 'gtFine/cityscapes_panoptic_val').write_text('in the way')
    assert run_tool('cityscapes', root, '--num-workers', 1) == 1
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith(f'error: {root}/gtFine/cityscapes_panoptic_val')


@pytest.mark.skipif(os.geteuid() == 0, reason='root may write anywhere')
def test_a_folder_for_reading_alone(root):
    (root / 'gtFine').chmod(0o555)
    try:
        with pytest.raises(PermissionError, match='gtFine'):
            prepare(str(root), num_workers=1, report=silent)
    finally:
        (root / 'gtFine').chmod(0o755)


def test_the_tool_and_its_exit_codes(run_tool, root, capsys):
    assert run_tool('cityscapes', root, '--num-workers', 1) == 0
    out, err = capsys.readouterr()
    assert 'val: 4 images' in out and '| car ' in out
    assert err.startswith('warning: train: 8 images')
    assert run_tool('cityscapes', root / 'gtFine') == 1
    err = capsys.readouterr().err
    assert err.startswith(f'error: {root}/gtFine: no folder leftImg8bit')
    assert err.count('\n') == 1
    for wrong in (['--num-workers', 0], ['--splits', 'dev']):
        with pytest.raises(SystemExit) as end:
            run_tool('cityscapes', root, *wrong)
        assert end.value.code == 2


def test_the_tool_interrupted(run_tool, root, monkeypatch, capsys):

    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(module, 'convert_image', interrupt)
    assert run_tool('cityscapes', root, '--num-workers', 1) == 1
    last = capsys.readouterr().err.splitlines()[-1]
    assert last == ('interrupted: nothing is half written; '
                    'running again continues')
