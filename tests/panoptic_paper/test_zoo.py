"""The model zoo page and the recorded results."""
import re

import pytest
import yaml

from mmengine_exact.errors import InputError
from panoptic_paper import zoo
from panoptic_paper.collect import collect
from panoptic_paper.zoo import read_results, save_results, zoo_files, zoo_page

from .fakes import ROOT, TABLES, write_metrics

COCO = 'coco/panoptic-fpn_r50_fpn_1x_coco.py'
ENTRY = f"""
results:
  - config: {COCO}
    seeds: 2
    metrics: {{PQ: [39.1, 39.0, 39.2], AP: [33.0, 32.0, 34.0]}}
"""


def write(tmp_path, text):
    path = tmp_path / 'results.yml'
    path.write_text(text)
    return path


@pytest.fixture
def page(monkeypatch):
    """The page, each model with 3 GB, and whose memory was asked for."""
    asked = []

    def memory(config, shape, batch):
        asked.append((config.stem, shape, batch))
        return 3 * 2**30

    monkeypatch.setattr(zoo, 'memory_of', memory)
    return lambda saved={}: (zoo_page(TABLES, saved), asked)


def line_of(text, config):
    stem = config.split('/')[-1].removesuffix('.py')
    line, = [line for line in text.splitlines() if f'| [{stem}](' in line]
    return [cell.strip() for cell in line.strip('|').split('|')]


def test_a_line_of_the_page(page):
    text, _ = page()
    assert line_of(text, COCO)[1:] == [
        '90k x 16, lr 0.02', '3.0 GB',
        'AP 33.3, AP50 54.9, AP75 35.2, PQ 39.0, PQ_th 45.9, PQ_st 28.7, mIoU '
        '41.0 (2a, 3a, 3c, 3d)', 'not run'
    ]
    assert f'`tools/dist_train.sh configs/{COCO} 8`' in line_of(text, COCO)[0]
    cells = line_of(text, 'panoptic-fpn_r50x2_fpn_1x_coco')
    assert 'INSTANCE.pth SEMANTIC.pth 8`' in cells[0] and cells[2] == ''
    cells = line_of(text, 'semantic-fpn_x152_fpn_65k_coco-stuff')
    assert '`--tta`' in cells[0] and '`tools/class_frequencies.py`' in cells[0]
    assert '](paper.md#coco-stuff-2017)' in cells[0]
    assert '## COCO-Stuff 2017\n' in (ROOT / 'docs' / 'paper.md').read_text()
    assert text.count('--tta') == 1
    cells = line_of(text, 'panoptic-fpn_r101_fpn_1x_coco_test-dev')
    assert '--format-only' in cells[0]
    assert cells[3] == 'PQ 40.9, PQ_th 48.3, PQ_st 29.7 (4a)'
    assert line_of(text, 'semantic-fpn_r101_fpn_1x_coco')[3] == \
        'not in the paper'


def test_every_config_is_on_the_page_once(page):
    text, _ = page()
    folders = [
        'coco', 'cityscapes', *(f'paper/{t.id}' for t in TABLES)
    ]
    wanted = {
        path.stem
        for folder in folders if 'figure' not in folder
        for path in (TABLES.configs / folder).glob('*.py')
        if 'miniature' not in path.name and '-weights' not in path.name
    }
    found = re.findall(r'^\| \[([^]]+)\]', text, re.MULTILINE)
    assert len(found) == len(set(found)) and set(found) == wanted


def test_memory_is_asked_once_for_each_model(page):
    """The weights of Table 2 do not change the model, 0 does."""
    _, asked = page()
    stems = [stem for stem, *_ in asked]
    assert sum('lambda' in stem for stem in stems) == 2  # 0.0, two data sets
    sizes = {(shape, batch) for _, shape, batch in asked}
    assert sizes >= {((800, 1333), 2), ((512, 1024), 4)}


def test_weights_are_on_the_page_and_in_the_metafile(tmp_path, page):
    url = 'https://example.org/panoptic-fpn_r50.safetensors'
    entry = ENTRY + f'    weights: {url}\n'
    saved = read_results(write(tmp_path, entry), TABLES)
    text, _ = page(saved)
    assert line_of(text, COCO)[4].endswith(f'(2 seeds), [weights]({url})')
    files = zoo_files(TABLES, saved)
    models = {
        model['Name']: model
        for path, content in files.items() if path.endswith('metafile.yml')
        for model in yaml.safe_load(content)['Models']
    }
    one = models.pop('panoptic-fpn_r50_fpn_1x_coco')
    assert one['Weights'] == url
    # the paper's of Tables 3a and 2a, and medians of ours
    assert one['Results'] == [
        dict(
            Task='Panoptic Segmentation',
            Dataset='COCO',
            Metrics={
                'AP (paper)': 33.3,
                'AP50 (paper)': 54.9,
                'AP75 (paper)': 35.2,
                'PQ (paper)': 39.0,
                'PQ_th (paper)': 45.9,
                'PQ_st (paper)': 28.7,
                'mIoU (paper)': 41.0,
                'PQ': 39.1,
                'AP': 33.0
            })
    ]
    assert one['Metadata'] == {
        'Training Data': 'COCO',
        'Training Resources': '8x GPUs',
        'Training Techniques': ['SGD'],
        'Iterations': 90000,
        'Batch Size': 16,
        'Architecture': ['ResNet', 'FPN', 'Mask R-CNN', 'Semantic FPN']
    }
    assert {model['Weights'] for model in models.values()} == {None}
    one = models['semantic-fpn_x101_fpn_65k_cityscapes']
    assert one['Metadata']['Architecture'] == [
        'ResNeXt', 'FPN', 'Semantic FPN'
    ]
    assert 'Results' not in models['semantic-fpn_r101_fpn_1x_coco']


def test_recorded_results_are_shown(tmp_path, page):
    saved = read_results(write(tmp_path, ENTRY), TABLES)
    text, _ = page(saved)
    assert line_of(text, COCO)[4] == (
        'PQ 39.1 (39.0 to 39.2), AP 33.0 (32.0 to 34.0) (2 seeds)')


@pytest.mark.parametrize('old,new,message', [
    (COCO, 'coco/panoptic.py', 'coco/panoptic.py: no such file below'),
    ('PQ:', 'QP:', 'QP: needs one of .*PQ'),
    ('seeds: 2', 'seeds: none', 'got `str`.*seeds'),
    ('[39.1, 39.0, 39.2]', '[39.1, 39.2, 39.0]', r'with \[median, lowest'),
    (ENTRY, '[', 'while parsing a flow'),
])
def test_errors_of_the_results_file(tmp_path, old, new, message):
    path = write(tmp_path, ENTRY.replace(old, new))
    with pytest.raises(InputError, match=message) as error:
        read_results(path, TABLES)
    assert str(error.value).startswith(str(path))


def test_a_report_is_recorded_and_read_back(tmp_path):
    path = write(tmp_path, ENTRY)
    for seed, value in enumerate((38., 39., 39.5)):
        write_metrics(
            tmp_path, 'table3a/coco-r50', seed, coco_panoptic__PQ=value)
        write_metrics(tmp_path, 'table2c/lambda-i-0.0', seed, mIoU=40. + seed)
    save_results(path, TABLES, collect(TABLES, [tmp_path]))
    committed = (ROOT / 'docs' / 'results.yml').read_text()
    assert path.read_text().startswith(committed.split('\nresults:')[0])
    saved = read_results(path, TABLES)
    assert saved[COCO].metrics == dict(PQ=(39., 38., 39.5))
    assert saved[COCO].seeds == 3 and 'torch' in saved[COCO].versions
    other = saved['coco/semantic-fpn_r50_fpn_1x_coco.py']
    assert other.metrics == dict(mIoU=(41., 40., 42.))


def test_test_dev_and_val_are_recorded_apart(tmp_path, page):
    """Tables 3b and 4a: one training, scored on val and by the server."""
    path = tmp_path / 'results.yml'
    metrics = write_metrics(
        tmp_path, 'table3b/coco-r101', 0, coco_panoptic__PQ=40.3)
    server = metrics.parents[1] / 'test-dev' / 'metrics.json'
    server.parent.mkdir()
    server.write_text('{"coco_panoptic/PQ": 40.9}')
    save_results(path, TABLES, collect(TABLES, [tmp_path]))
    saved = read_results(path, TABLES)
    assert {
        config: s.metrics['PQ'][0]
        for config, s in saved.items()
    } == {
        'coco/panoptic-fpn_r101_fpn_1x_coco.py': 40.3,
        'paper/table4a/panoptic-fpn_r101_fpn_1x_coco_test-dev.py': 40.9
    }
    text, _ = page(saved)
    for stem, value in (('', 'PQ 40.3'), ('_test-dev', 'PQ 40.9')):
        cells = line_of(text, f'panoptic-fpn_r101_fpn_1x_coco{stem}')
        assert cells[4] == f'{value} (1 seed)'


def test_page_and_metafiles_are_current(monkeypatch):
    """What `tools/paper.py zoo` writes. Of the memory of models, which takes
    a second each, that of the recipe is estimated again."""
    expected = (ROOT / 'docs' / 'model_zoo.md').read_text()
    estimate = zoo.memory_of

    def memory(config, shape, batch):
        if config == TABLES.path(COCO):
            return estimate(config, shape, batch)
        return float(line_of(expected, config.stem)[2].split()[0]) * 2**30

    monkeypatch.setattr(zoo, 'memory_of', memory)
    saved = read_results(ROOT / 'docs' / 'results.yml', TABLES)
    for path, content in zoo_files(TABLES, saved).items():
        assert (ROOT / path).read_bytes() == content, \
            f'{path}: python tools/paper.py zoo'
