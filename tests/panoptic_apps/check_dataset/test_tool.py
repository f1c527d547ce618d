"""tools/check_dataset.py as users call it."""
import json

import pytest

from panoptic_apps.check_dataset import check as module
from tests.conftest import call_tool

from . import data


def arguments(path, *more):
    root = path.parent
    return [
        path, '--images', root / 'images', '--panoptic', root / 'panoptic',
        '--workers', 1, *more
    ]


def test_clean_data(path, monkeypatch, capfd):
    assert call_tool(monkeypatch, 'check_dataset', *arguments(path)) == 0
    out = capfd.readouterr().out
    assert '3 images (3 annotated)' in out and 'median area' in out
    assert out.rstrip().endswith('nothing found, ready to train')
    # a warning is no failure
    data.png_of(path).with_name('extra.png').write_bytes(b'x')
    assert call_tool(monkeypatch, 'check_dataset', *arguments(path)) == 0
    out = capfd.readouterr().out
    assert '1 warning of 1 kind; it can be trained on' in out


def test_errors_report_and_fix(path, monkeypatch, capfd):

    def change(content):
        content['annotations'][0]['segments_info'][0]['area'] = 1
        content['categories'].append(dict(id=500, name='x', isthing=1))

    data.edit(path, change)
    old = path.read_bytes()
    report, fixed = path.with_name('report.json'), path.with_name('new.json')
    code = call_tool(monkeypatch, 'check_dataset',
                     *arguments(path, '--json', report, '--fix', fixed))
    assert code == 1 and path.read_bytes() == old
    out = capfd.readouterr().out
    assert '1 error of 1 kind, 1 warning of 1 kind' in out
    assert f'{fixed}: 1 areas' in out
    content = json.loads(report.read_text())
    assert (content['errors'], content['warnings']) == (1, 1)
    found = {entry['kind']: entry for entry in content['findings']}
    assert found['area']['count'] == 1
    assert found['area']['examples'][0]['file'].startswith(str(path))
    assert 'area=1' in found['area']['examples'][0]['value']
    assert found['area']['fix']
    assert content['repair']['areas'] == 1
    assert call_tool(monkeypatch, 'check_dataset', *arguments(fixed)) == 0


def test_things_are_written(path, monkeypatch, capfd):
    before = json.loads(path.read_text())
    data.edit(path,
              lambda c: [entry.pop('isthing') for entry in c['categories']])
    fixed = path.with_name('fixed.json')
    things = [c['name'] for c in before['categories'] if c['isthing']]
    more = '--things', *things, '--fix', fixed
    assert call_tool(monkeypatch, 'check_dataset', *arguments(path,
                                                              *more)) == 1
    count = len(before['categories'])
    assert f'[isthing], {count} times' in capfd.readouterr().out
    found = json.loads(fixed.read_text())['categories']
    assert {
        c['name']: c['isthing']
        for c in found
    } == {
        c['name']: c['isthing']
        for c in before['categories']
    }
    assert call_tool(monkeypatch, 'check_dataset', *arguments(fixed)) == 0
    path.with_name('things.txt').write_text('\n'.join(things))
    again = path.with_name('again.json')
    assert call_tool(
        monkeypatch, 'check_dataset',
        *arguments(path, '--isthing', f'@{path.with_name("things.txt")}',
                   '--fix', again)) == 1
    assert again.read_bytes() == fixed.read_bytes()


@pytest.mark.parametrize('more,why', [
    (['--fix', '{path}'], 'would overwrite'),
    (['--json', '{dir}/link.json'], 'would overwrite'),
    (['--fix', '{dir}/a.json', '--json', '{dir}/a.json'], 'would overwrite'),
    (['--fix', '{dir}/images.json'], 'where changed PNGs would go'),
    (['--fix', '{dir}/a.txt'], 'must be a file that ends with .json'),
    (['--against', '{path}'], '--against and --against-images go together'),
    (['--images', '{dir}/none'], 'no such folder'),
    (['--against', '{dir}/none.json', '--against-images', '{dir}'
      ], 'no such file'),
])
def test_wrong_arguments(path, monkeypatch, capfd, more, why):
    more = [m.format(path=path, dir=path.parent) for m in more]
    old = path.read_bytes()
    path.with_name('link.json').symlink_to(path)
    assert call_tool(monkeypatch, 'check_dataset', *arguments(path,
                                                              *more)) == 2
    assert why in capfd.readouterr().err
    assert path.read_bytes() == old


def test_interrupted_leaves_nothing(path, monkeypatch, capfd):

    def interrupt(job):
        raise KeyboardInterrupt

    monkeypatch.setattr(module, 'check_image', interrupt)
    before = sorted(path.parent.rglob('*'))
    code = call_tool(
        monkeypatch, 'check_dataset',
        *arguments(path, '--json', path.with_name('r.json'), '--fix',
                   path.with_name('f.json')))
    assert code == 1
    assert 'interrupted' in capfd.readouterr().err
    assert sorted(path.parent.rglob('*')) == before


def test_a_folder_that_cannot_be_written(path, monkeypatch, capfd):
    blocked = path.with_name('file')
    blocked.write_text('')
    code = call_tool(monkeypatch, 'check_dataset',
                     *arguments(path, '--json', blocked / 'report.json'))
    assert code == 1
    assert 'error: ' in capfd.readouterr().err
