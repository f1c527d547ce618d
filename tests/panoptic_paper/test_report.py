"""Reports on complete, half-finished and empty folders."""
import json
from statistics import median

import cv2
import pytest

from mmengine_exact.errors import InputError
from panoptic_paper.collect import collect
from panoptic_paper.pictures import draw_report
from panoptic_paper.report import (as_json, effects, heading, markdown,
                                   write_report)
from panoptic_paper.results import KEYS
from panoptic_paper.runs import grid_of, run_of

from .fakes import ROOT, TABLES, write_metrics

CITYSCAPES = 'table3c/cityscapes-'


def fill(work_dir):
    """Table 3c on Cityscapes: three seeds of each row."""
    for seed, values in enumerate([(57.0, 58.1), (57.6, 57.9), (57.2, 58.5)]):
        for row, value in zip(('alternate', 'combine'), values):
            write_metrics(
                work_dir,
                CITYSCAPES + row,
                seed,
                coco_panoptic__PQ=value,
                coco_panoptic__PQ_th=None,
                cityscapes__mAP=0.32)


def section_of(report, name):
    return next(s for s in report.sections if s.id == name)


def lines_of(text, start):
    return [line for line in text.splitlines() if line.startswith(start)]


def test_paper_ours_and_difference(tmp_path):
    """Medians 57.2 and 58.1 against 57.4 and 57.7, by hand."""
    fill(tmp_path)
    text = markdown(collect(TABLES, [tmp_path]), {})
    part = text.split('## Table 3c')[1].split('## Table 3d')[0]
    part = part.split('| Cityscapes')[1].splitlines()
    assert part[0] == ' |  | AP | PQ_th | mIoU | PQ_st | PQ |'
    assert part[2:8] == [
        '| alternate | paper | 32.0 | 51.4 | 74.3 | 61.3 | 57.4 |',
        '|  | ours, 3 seeds | 32.0 (32.0 to 32.0) | n/a | n/a | n/a | '
        '57.2 (57.0 to 57.6) |',
        '|  | difference | +0.0 |  |  |  | -0.2 |',
        '| combine | paper | 32.0 | 51.6 | 75.0 | 62.2 | 57.7 |',
        '|  | ours, 3 seeds | 32.0 (32.0 to 32.0) | n/a | n/a | n/a | '
        '58.1 (57.9 to 58.5) |',
        '|  | difference | +0.0 |  |  |  | +0.4 |',
    ]
    assert lines_of(text, '- **agrees**: combining the losses') == [
        '- **agrees**: combining the losses is better than alternating '
        '(Cityscapes, PQ): combine 58.1 (57.9 to 58.5, 3 seeds) against '
        'alternate 57.2 (57.0 to 57.6, 3 seeds)'
    ]
    assert '**not run**: combining the losses is better than alternating ' \
        '(COCO, PQ): without combine, alternate' in text
    assert 'Not finished' not in text and 'Nothing there' not in text
    assert '--seeds' not in text  # nothing on COCO


def test_no_difference_where_images_differ(tmp_path):
    write_metrics(tmp_path, 'table1b/x152', 0, mIoU=30., fIoU=56.)
    text = markdown(collect(TABLES, [tmp_path]), {})
    part = text.split('## Table 1b')[1].split('## Table 1c')[0]
    assert '| ours, 1 seed | 30.0 | 56.0 |' in part
    assert 'difference' not in part and '- **' not in part


def test_rows_that_share_a_run_have_its_numbers(tmp_path):
    fill(tmp_path)
    report = collect(TABLES, [tmp_path])
    found = {
        result.name: median(result.found['PQ'])
        for section in report.sections
        for result in section.results if 'PQ' in result.found
    }
    assert found == {
        f'{CITYSCAPES}alternate': 57.2,
        f'{CITYSCAPES}combine': 58.1,
        'table3a/cityscapes-r50': 58.1,
        'table3d/cityscapes-original': 58.1
    }
    # Table 2d has the same run, and no PQ in its columns
    row = next(
        r for r in section_of(report, 'table2d').results
        if r.label == 'lambda-i-0.5')
    assert row.seeds == [0, 1, 2] and list(row.found) == ['AP']
    assert set(
        draw_report(report)) == {'table2d', 'table3a', 'table3c', 'table3d'}


def test_half_finished_runs_are_named_and_the_rest_reported(tmp_path):
    fill(tmp_path)
    run = run_of(TABLES, TABLES.row('table3d/coco-grouped'))
    folder = run.folder(tmp_path, 4)
    folder.mkdir(parents=True)
    (folder / 'iter_45000.pth').touch()
    network = run_of(TABLES, TABLES.row('table2a/lambda-s-0.0'))
    broken = network.folder(tmp_path, 0) / 'test' / 'metrics.json'
    broken.parent.mkdir(parents=True)
    broken.write_text('{')
    report = collect(TABLES, [tmp_path])
    assert report.unfinished[f'{run.name} seed 4'] == \
        f'training 50 % ({folder})'
    assert 'cannot be read' in report.unfinished[f'{network.name} seed 0']
    assert len(report.unfinished) == 2
    text = markdown(report, {})
    assert f'- {run.name} seed 4: training 50 %' in text
    assert '57.2 (57.0 to 57.6)' in text


def test_empty_folders_are_named(tmp_path):
    empty, other, missing = tmp_path / 'e', tmp_path / 'f', tmp_path / 'no'
    empty.mkdir()
    fill(other)
    report = collect(TABLES, [empty, other, missing])
    assert report.empty == [empty, missing]
    text = markdown(report, {})
    assert f'Nothing there: `{empty}`, `{missing}`.' in text
    assert '57.2 (57.0 to 57.6)' in text
    alone = markdown(collect(TABLES, [empty]), {})
    assert f'Nothing there: `{empty}`.' in alone
    rows = [row for row in TABLES.rows.values() if row.config]
    assert alone.count('| ours | not run |') == len(rows)
    with pytest.raises(InputError, match=f'{missing}: no such folder'):
        collect(TABLES, [missing])


def test_one_seed_is_not_judged(tmp_path):
    for label, pq in (('alternate', 30.), ('combine', 50.)):
        write_metrics(
            tmp_path, f'table3c/coco-{label}', 0, coco_panoptic__PQ=pq)
    text = markdown(collect(TABLES, [tmp_path]), {})
    assert len(lines_of(text, '- **not judged**: combining the losses')) == 1
    assert '- **agrees**' not in text and '- **contradicts**' not in text
    assert 'claims need 3: `tools/paper.py run ROW --seeds 3`' in text
    assert '| ours, 1 seed | n/a | n/a | n/a | n/a | 50.0 |' in text


def test_compute_is_read_from_its_files(tmp_path):
    folder = tmp_path / 'complexity'
    folder.mkdir()
    for label, trunk, total in (('d8', 12, 13), ('d16', 4, 5)):
        config = TABLES.row(f'figure4/{label}').config
        (folder / f'{config.split("/")[-1][:-3]}.json').write_text(
            json.dumps({
                part: dict(multiply_adds=n * 10**11, activations=10**9)
                for part, n in (('trunk', trunk), ('total', total))
            } | dict(output_stride=int(label[1:]))))
    report = collect(TABLES, [tmp_path])
    text = markdown(report, {})
    assert '| dilation-8 | ours | 1.20 | 1.00 | 1/8 |' in text
    assert '- **ratio 3.00**: dilation-8 uses a further ~3x more compute' \
        in text
    assert draw_report(report) == {}


def test_the_best_of_the_lambda_grid(tmp_path):
    runs = grid_of(TABLES, TABLES.row('table3d/cityscapes-grouped'))
    for (instance, semantic), value in (((0.5, 1.0), 57.0), ((0.75, 0.75),
                                                             58.0)):
        run = runs[instance, semantic]
        path = run.folder(tmp_path, 0) / 'test' / 'metrics.json'
        path.parent.mkdir(parents=True)
        path.write_text(json.dumps({'coco_panoptic/PQ': value}))
    text = markdown(collect(TABLES, [tmp_path]), {})
    assert ('|  | ours, best of 2 of 9: lambda_i 0.75, lambda_s 0.75 | n/a | '
            'n/a | n/a | n/a | 58.0 |') in text
    assert '| ours, 1 seed | n/a | n/a | n/a | n/a | 57.0 |' in text


@pytest.fixture
def miniature(tmp_path):
    """Table 2a and 2b in small: AP falls and mIoU rises with lambda_s."""
    for step, weight in enumerate(('0.0', '0.1', '0.25', '0.5', '1.0')):
        for seed in range(3):
            write_metrics(
                tmp_path,
                f'table2a/lambda-s-{weight}',
                seed,
                miniature=True,
                coco__segm_mAP=(60 - 5 * step + seed) / 100,
                mIoU=None if step == 0 else 70. + step,
                coco_panoptic__PQ_th=50. + 0.1 * seed)
    return collect(TABLES, [tmp_path], miniature=True)


def test_miniature_sets_effects_side_by_side(miniature):
    assert [section.id for section in miniature.sections] == [
        'table1c', 'table1d', 'table2a-table2b', 'table2c-table2d', 'table3a',
        'table3b', 'table3c', 'table3d'
    ]
    section = section_of(miniature, 'table2a-table2b')
    assert heading(section) == ('Tables 2a and 2b: Instance segmentation by '
                                'lambda_s (lambda_i = 1)')
    base, changed = effects(section, 'AP')
    assert base == 'lambda-s-0.0'
    assert changed['ours']['lambda-s-0.5'] == pytest.approx([-16, -15, -14])
    assert changed['coco']['lambda-s-0.5'] == pytest.approx([-0.6])
    assert changed['cityscapes']['lambda-s-1.0'] == pytest.approx([1.0])
    base, changed = effects(section, 'mIoU')  # not without semantic branch
    assert base == 'lambda-s-1.0'
    assert changed['ours']['lambda-s-0.1'] == pytest.approx([-3] * 3)
    text = markdown(miniature, {})
    assert '**Synthetic data, a tiny model, 3 seeds.**' in text
    assert ('| AP | 0.5 | 33.3 | -0.6 | 32.7 | +0.5 | 46.0 (45.0 to 47.0) | '
            '-15.0 | 3 |') in text
    assert '| AP | 0.75 | 32.6 | -1.3 | 32.8 | +0.6 | not run |  |  |' in text
    assert '| mIoU | 0.0 |  |  |  |  | n/a |  |  |' in text
    assert '5 of 18 configs have a result' in text


def test_files_of_a_report(tmp_path, miniature):
    paths = write_report(miniature, tmp_path / 'out')
    # the recipe is a row of Tables 3, lambda_s = 1 one of 2c and 2d
    drawn = ('table2a-table2b', 'table2c-table2d', 'table3a', 'table3c',
             'table3d')
    assert [path.name for path in paths] == [
        'miniature.md', 'miniature.json',
        *(f'miniature-{name}.png' for name in drawn)
    ]
    text = paths[0].read_text()
    for path in paths[2:]:
        assert f']({path.name})' in text
        image = cv2.imread(str(path))
        assert min(image.shape[:2]) > 200 and image.std() > 5
    content = json.loads(paths[1].read_text())
    assert content['miniature'] is True
    rows = {
        row['label']: row
        for table in content['tables']
        for row in table['rows'] if 'table2a' in table['tables']
    }
    ours = rows['lambda-s-0.1']['ours']['AP']
    assert ours['values'] == pytest.approx([55, 56, 57])
    assert ours['median'] == pytest.approx(56)
    assert rows['lambda-s-0.1']['seeds'] == [0, 1, 2]


def test_the_committed_report_is_what_the_tool_writes(tmp_path):
    """docs/miniature, from the values in its JSON."""
    docs = ROOT / 'docs' / 'miniature'
    text = (docs / 'miniature.json').read_text()
    found = {}
    for table in json.loads(text)['tables']:
        for row in table['rows']:
            for name, ours in row['ours'].items():
                key, factor = KEYS[name][0]
                for seed, value in zip(row['seeds'], ours['values']):
                    scores = found.setdefault((row['row'], seed), {})
                    scores[key] = value / factor
    for (run, seed), scores in found.items():
        path = tmp_path / run / f'seed-{seed}' / 'test' / 'metrics.json'
        path.parent.mkdir(parents=True)
        path.write_text(json.dumps(scores))
    report = collect(TABLES, [tmp_path], miniature=True)
    pictures = {s.id: f'miniature-{s.id}.png' for s in report.sections}
    assert markdown(report, pictures) == (docs / 'miniature.md').read_text()
    assert json.loads(json.dumps(as_json(report))) == json.loads(text)


def test_paper_page_has_the_verdicts_of_the_miniature():
    """Each claim that is judged, with its medians and ranges."""
    page = (ROOT / 'docs' / 'paper.md').read_text()
    report = json.loads(
        (ROOT / 'docs' / 'miniature' / 'miniature.json').read_text())
    claims = [c for table in report['tables'] for c in table['claims']]
    lines = [line for line in page.splitlines() if line.startswith('| ')]
    for claim in claims:
        if claim['metric'] in ('PQ_th', 'PQ_st'):
            continue  # the page has AP's and mIoU's
        verdict = claim['verdict'] + ', as claimed' * claim['as_claimed']
        left, _ = claim['why'].split(' against ')
        numbers = left.split(' ')[-6:-2]  # '30.6 (29.3 to 30.6, 3 seeds)'
        text = ' '.join(numbers).rstrip(',')
        found = [line for line in lines if text in line and verdict in line]
        assert found, (claim, text)
