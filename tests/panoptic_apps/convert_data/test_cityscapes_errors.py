"""Folders and files that cannot be used: one message with path and advice."""
import os
import shutil

import cv2
import numpy as np
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


@pytest.mark.parametrize('given',
                         ['gtFine', 'leftImg8bit', 'gtFine/train', '..'])
def test_a_folder_beside_the_right_one(root, given):
    text = failure(root / given)
    assert text.endswith(f'Give {root} instead.'), text


def test_folders_that_are_none(root, tmp_path):
    assert 'no such folder' in failure(tmp_path / 'nowhere')
    (tmp_path / 'empty').mkdir()
    text = failure(tmp_path / 'empty')
    assert 'neither leftImg8bit nor gtFine' in text
    assert 'leftImg8bit_trainvaltest.zip' in text
    shutil.move(root / 'gtFine', tmp_path / 'kept')
    text = failure(root)
    assert 'no folder gtFine' in text and 'gtFine_trainvaltest.zip' in text
    (root / 'gtCoarse').mkdir()
    assert 'only the coarse annotation' in failure(root)
    shutil.move(tmp_path / 'kept', root / 'gtFine')
    shutil.rmtree(root / 'leftImg8bit')
    assert 'no folder leftImg8bit' in failure(root)


def test_no_image_of_any_split(root):
    for path in (root / 'leftImg8bit').iterdir():
        shutil.rmtree(path)
    text = failure(root)
    assert 'no image of train, val' in text
    assert 'leftImg8bit/train/CITY/*_leftImg8bit.png' in text


def test_unknown_splits_and_workers(root):
    assert "'train_extra' is no split" in failure(root, 'train_extra')
    with pytest.raises(InputError, match='0 workers'):
        prepare(str(root), num_workers=0)
    with pytest.raises(InputError, match='one split'):
        prepare(str(root), [])


def test_a_city_without_labels(root):
    shutil.rmtree(root / 'gtFine/train/bochum')
    text = failure(root)
    assert f'{root}/gtFine/train: 3 of 8 images' in text
    assert 'Missing are the folders of bochum' in text
    assert 'gtFine_trainvaltest.zip' in text


def test_images_without_label_file(root):
    (root / LABEL).unlink()
    text = failure(root)
    assert '1 of 8 images' in text
    assert 'Without are bochum_000001_000019.' in text
    for path in (root / 'gtFine/train').glob('*/*_instanceIds.png'):
        path.unlink()
    assert '... (8 in all)' in failure(root)


def test_coarse_annotation_in_the_place_of_fine(root):
    for path in (root / 'gtFine/train').glob('*/*'):
        path.rename(str(path).replace('_gtFine_', '_gtCoarse_'))
    text = failure(root)
    assert '_gtCoarse_' in text and 'most pixels have no label' in text


def test_labels_without_image_are_left_out(root):
    (root / IMAGE).unlink()
    lines = []
    summary = prepare(
        str(root), ['train'], num_workers=1, report=silent, warn=lines.append)
    assert summary['train']['images'] == 7
    assert '1 label images without image' in lines[0]
    assert 'bochum_000001_000019' in lines[0]


def test_counts_and_missing_splits_are_told(root):
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
    assert f'{root / LABEL}: 64 x 128 (h x w)' in text
    assert '128 x 256' in text


def test_several_bad_files_in_one_error(root):
    paths = sorted((root / 'gtFine/train').glob('*/*_instanceIds.png'))
    for path in paths[:3]:
        rewrite(path, lambda v: v[::2])
    text = failure(root)
    assert text.startswith(f'{paths[0]}: 64 x 256')
    assert f'Neither can be used: {paths[1]}, {paths[2]}.' in text
    # the others were not in vain
    cache = root / 'gtFine/.panoptic_fpn_cache_train_v1.jsonl'
    assert cache.read_text().count('\n') == 5


@pytest.mark.parametrize('name', [LABEL, IMAGE])
@pytest.mark.parametrize('damage,message', [
    (lambda b: b[:len(b) // 2], 'ends too early'),
    (lambda b: b[:-6], 'ends too early'),
    (lambda b: b[:15], 'no PNG'),
    (lambda b: b'', '0 bytes that are no PNG'),
    (lambda b: b'\xff\xd8' + b[2:], 'no PNG'),
])
def test_damaged_files(root, name, damage, message):
    path = root / name
    path.write_bytes(damage(path.read_bytes()))
    text = failure(root)
    assert text.startswith(f'{path}: ') and message in text, text
    assert 'Restore' in text


def test_a_label_image_damaged_within(root):
    path = root / LABEL
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0x55
    path.write_bytes(content)
    assert failure(root).startswith(f'{path}: the PNG is damaged')


def test_a_link_to_nowhere(root):
    path = root / LABEL
    path.unlink()
    path.symlink_to('nowhere.png')
    assert failure(root).startswith(f'{path}: cannot read the label image')


@pytest.mark.parametrize('kind,found', [('labelIds', '8 bit grey'),
                                        ('color', '8 bit RGBA')])
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


def test_label_ids_as_16_bit_are_suspicious(root):
    for path in (root / 'gtFine/val').glob('*/*_instanceIds.png'):
        rewrite(path,
                lambda v: np.where(v >= 1000, v // 1000, v).astype(np.uint16))
    lines = []
    prepare(
        str(root), ['val'], num_workers=1, report=silent, warn=lines.append)
    assert 'groups of things but not one instance' in lines[-1]


def test_names_that_are_none(root):
    folder = root / 'leftImg8bit/train/bochum'
    shutil.copy(root / IMAGE, folder / 'mine_leftImg8bit.png')
    assert 'mine_leftImg8bit.png: not named' in failure(root)


def test_one_image_in_two_cities(root):
    folder = root / 'leftImg8bit/train/aachen'
    shutil.copy(root / IMAGE, folder)
    text = failure(root)
    assert str(root / IMAGE) in text and 'Remove one' in text


def test_folders_that_cannot_be_written(root):
    (root / 'gtFine/cityscapes_panoptic_val').write_text('in the way')
    text = failure(root, 'val')
    assert f'{root}/gtFine/cityscapes_panoptic_val/' in text
    assert 'cannot write' in text


@pytest.mark.skipif(os.geteuid() == 0, reason='root may write anywhere')
def test_a_folder_for_reading_alone(root):
    (root / 'gtFine').chmod(0o555)
    try:
        assert 'Permission denied' in failure(root)
    finally:
        (root / 'gtFine').chmod(0o755)


def test_the_tool_and_its_exit_codes(run_tool, root, capsys):
    assert run_tool('cityscapes', root, '--num-workers', 1) == 0
    out, err = capsys.readouterr()
    assert 'val: 4 images' in out and '| car ' in out
    assert err.startswith('warning: train: 8 images')
    assert run_tool('cityscapes', root / 'gtFine') == 1
    err = capsys.readouterr().err
    assert err == (f'error: {root}/gtFine: not the folder that holds '
                   f'leftImg8bit and gtFine. Give {root} instead.\n')
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
