"""Folders and files that cannot be used: one message with path and advice."""
import shutil

import cv2
import pytest

from mmengine_exact.errors import InputError
from panoptic_apps.convert_data import prepare
from panoptic_apps.convert_data.cityscapes import conversion as module

LABEL = ('gtFine/train/bochum/'
         'bochum_000001_000019_gtFine_instanceIds.png')
IMAGE = 'leftImg8bit/train/bochum/bochum_000001_000019_leftImg8bit.png'
ZIP = 'gtFine_trainvaltest.zip'


def failure(root):
    """The one line of an error; nothing is half written."""
    with pytest.raises(InputError) as error:
        prepare(str(root), ('train', 'val'), num_workers=1, report=str)
    text = str(error.value)
    assert '\n' not in text and len(text) < 800
    assert not list(root.rglob('panoptic_fpn_train.json'))
    return text


def rewrite(path, change):
    values = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    assert cv2.imwrite(str(path), change(values))


def with_value(value):

    def change(values):
        values[5, 7] = value
        return values

    return lambda root: rewrite(root / LABEL, change)


def with_kind(kind):
    return lambda root: shutil.copy(
        str(root / LABEL).replace('instanceIds', kind), root / LABEL)


NONE = 'leftImg8bit/train/CITY/*_leftImg8bit.png. Give the folder'


@pytest.mark.parametrize('spoil, beginning, words', [
    (lambda root: shutil.rmtree(root), '', ('no image of train, val', NONE)),
    (lambda root: shutil.rmtree(root / 'leftImg8bit'), '', (NONE, ZIP)),
    (lambda root: shutil.rmtree(root / 'gtFine'), 'gtFine/train/', (
        'no such file, but its image', ZIP, ' in all)')),
    (lambda root: (root / LABEL).unlink(), LABEL, (ZIP, 'not gtCoarse')),
    (lambda root: rewrite(root / LABEL, lambda v: v[::2, ::2]), LABEL,
     ('(64, 128) (h, w)', '(128, 256)')),
    (with_kind('labelIds'), LABEL, ('8 bit, but 16 bit', )),
    (with_kind('color'), LABEL, ('4 channels', '16 bit')),
    *((with_value(value), LABEL, (f'{value} is not a value', ))
      for value in (255, 34, 11000, 65535, 40001)),
    (lambda root: shutil.copy(root / IMAGE, (root / IMAGE).with_name(
        'mine_leftImg8bit.png')), 'leftImg8bit/train/bochum/mine_leftImg8bit',
     ('not named', )),
])  # yapf: disable
def test_what_cannot_be_prepared(root, spoil, beginning, words):
    spoil(root)
    text = failure(root)
    assert text.startswith(f'{root}/{beginning}'.rstrip('/'))
    assert all(word in text for word in words), text


def test_labels_without_image_and_other_counts_are_warnings(root):
    (root / IMAGE).unlink()
    shutil.rmtree(root / 'leftImg8bit/test')
    lines = []
    found = prepare(str(root), num_workers=1, report=lines.append)
    assert list(found) == ['train', 'val'] and found['train']['images'] == 7
    warnings = [line for line in lines if line.startswith('warning: ')]
    assert '1 label images without image' in warnings[0]
    assert 'bochum_000001_000019' in warnings[0]
    assert 'train: 7 images, not the 2975' in warnings[1]
    assert 'val: 4 images, not the 500' in warnings[2]
    assert 'test: 0 images, not the 1525' in warnings[3]


def test_several_bad_files_in_one_error(root):
    paths = sorted((root / 'gtFine/train').glob('*/*_instanceIds.png'))
    for path in paths[:3]:
        rewrite(path, lambda v: v[::2])
    text = failure(root)
    assert text.startswith(f'{paths[0]}: (64, 256)')
    assert f'Also unusable: {paths[1]}, {paths[2]}.' in text
    # the others were not in vain
    cache = root / 'gtFine/.panoptic_fpn_cache_train_v1.jsonl'
    assert cache.read_text().count('\n') == 5


def flipped(content):
    content = bytearray(content)
    content[len(content) // 2] ^= 0x55
    return content


@pytest.mark.parametrize('damage, why', [
    (lambda b: b[:-6], 'cut off'),
    (lambda b: b'', 'an empty file'),
    (lambda b: b'\xff\xd8' + b[2:], 'not a label map'),
    (flipped, 'damaged PNG'),
])
def test_damaged_files(root, damage, why):
    for name, message in ((LABEL, why), (IMAGE, 'not a whole PNG')):
        if damage is flipped and name == IMAGE:
            continue  # pixels of images are not read
        path = root / name
        good = path.read_bytes()
        path.write_bytes(damage(good))
        text = failure(root)
        assert text.startswith(f'{path}: ') and message in text, text
        assert 'Restore' in text
        path.write_bytes(good)


def test_the_tool_and_its_exit_codes(run_tool, root, capsys, monkeypatch):
    assert run_tool('cityscapes', root, '--num-workers', 1) == 0
    out, err = capsys.readouterr()
    assert 'val: 4 images' in out and '| car ' in out
    assert err.startswith('warning: train: 8 images')
    assert run_tool('cityscapes', root / 'gtFine') == 1
    err = capsys.readouterr().err
    assert err.startswith(f'error: {root}/gtFine: no image of')
    assert err.count('\n') == 1
    for wrong in (['--num-workers', 0], ['--splits', 'dev']):
        assert run_tool('cityscapes', root, *wrong) == 2
    shutil.rmtree(root / 'gtFine/cityscapes_panoptic_val')
    (root / 'gtFine/cityscapes_panoptic_val').write_text('in the way')
    assert run_tool('cityscapes', root, '--num-workers', 1) == 1
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith(f'error: {root}/gtFine/cityscapes_panoptic_val')

    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(module, 'convert_image', interrupt)
    assert run_tool('cityscapes', root, '--num-workers', 1) == 1
    last = capsys.readouterr().err.splitlines()[-1]
    assert last == ('interrupted: nothing is half written; '
                    'running again continues')
