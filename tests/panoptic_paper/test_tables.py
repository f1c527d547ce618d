"""The file of tables against the paper's numbers, and its errors."""
import pytest
import yaml

from mmengine_exact.errors import InputError

from .fakes import ROOT, TABLES


@pytest.fixture(scope='module')
def transcription():
    """Numbers of the paper, typed in by others."""
    path = ROOT.parent / 'shared' / 'paper' / 'tables.yaml'
    if not path.is_file():
        pytest.skip(f'no {path}: the transcription of the tables')
    return yaml.safe_load(path.read_text())


def lines_of(content):
    """(data or None, {metric: number}) of a transcribed table, in order."""
    for name, line in content.items():
        if not isinstance(line, dict):
            continue
        if name in ('coco', 'cityscapes'):
            for _, numbers in lines_of(line):
                yield name, numbers
        elif set(line) == {'cityscapes', 'coco'}:  # one metric, two data sets
            for data, value in line.items():
                yield data, dict(mIoU=value)
        else:
            yield None, {
                key: value
                for key, value in line.items()
                if value is None or type(value) in (int, float)
            }


def test_every_number_of_the_paper(transcription):
    tables = [key for key in transcription if key.startswith('table')]
    assert len(tables) == 14
    assert [key.split('_')[0] for key in tables
            ] == [t.id for t in TABLES if t.id.startswith('table')]
    for key in tables:
        table = TABLES.table(key.split('_')[0])
        for data in table.data:
            expected = [
                numbers for name, numbers in lines_of(transcription[key])
                if name in (data, None)
            ]
            found = [dict(row.paper) for row in table.of_data(data)]
            assert found == expected, (key, data)


def test_rows_that_are_trained_or_computed_are_named():
    """Semantic FPN's and Panoptic FPN's rows; others are references."""
    ours = {row.name for row in TABLES.rows.values() if row.config}
    for table in TABLES:
        wanted = len(table.rows)
        if table.id in ('table1a', 'table1b', 'table4a', 'table4b'):
            wanted = {'table1a': 2}.get(table.id, 1)
        assert sum(row.name in ours for row in table.rows) == wanted
    assert len(ours) == 59


def test_labels_say_what_the_transcription_says(transcription):
    """Keys of Tables 2 are weights, and so are the labels."""
    for key in ('table2a_coco_lambda_s', 'table2d_cityscapes_lambda_i'):
        table = TABLES.table(key.split('_')[0])
        weights = [float(row.label.split('-')[-1]) for row in table.rows]
        assert weights == list(transcription[key])
    widths = [row.label for row in TABLES.table('table1c').of_data('coco')]
    assert widths == [str(key) for key in transcription['table1c_width']]


def test_every_config_exists():
    for row in TABLES.rows.values():
        for config in (row.config, row.test_config, row.config_of(True)):
            assert config is None or TABLES.path(config).is_file()


def test_miniature_rows_of_both_data_sets_are_one():
    for table in TABLES:
        by_label = {}
        for row in table.rows:
            by_label.setdefault(row.label, set()).add(row.miniature)
        assert all(len(found) == 1 for found in by_label.values())
    stems = {row.miniature for row in TABLES.rows.values()} - {None}
    assert len(stems) == 18


def test_networks_are_single_task_rows_of_the_same_data():
    rows = [row for row in TABLES.rows.values() if row.networks]
    assert len(rows) == 4
    for row in rows:
        instance, semantic = map(TABLES.row, row.networks)
        assert {instance.data, semantic.data} == {row.data}
        assert instance.label == 'lambda-s-0.0'
        assert semantic.label == 'lambda-i-0.0'


def test_select():
    names = [
        row.name for row in TABLES.select(['table1d', 'table1d/coco-sum'])
    ]
    assert names == [
        'table1d/coco-sum', 'table1d/coco-concat', 'table1d/cityscapes-sum',
        'table1d/cityscapes-concat'
    ]
    assert len(TABLES.select(['all'])) == len(TABLES.rows)


@pytest.mark.parametrize('name,near', [
    ('table2a/lambda-0.25', 'table2a/lambda-s-0.25'),
    ('table3a/r50x2', 'table3a/coco-r50x2'),
    ('tabel1c/coco-64', 'table1c/coco-64'),
    ('table3c', 'table3c/coco-alternate'),
])
def test_unknown_row_names_the_nearest(name, near):
    with pytest.raises(InputError, match=f'^{name}: no such row.*{near}'):
        TABLES.row(name)


def test_claims_name_rows_and_columns():
    for table in TABLES:
        labels = {row.label for row in table.rows}
        assert table.baseline in {None, *labels}
        for claim in table.claims:
            assert claim.kind in ('better', 'comparable', 'ratio')
            assert {*claim.left, claim.right} <= labels and claim.left
            assert claim.metric in table.columns
    claim = TABLES.table('table2a').claims[0]  # 'others'
    assert len(claim.left) == 5 and claim.right not in claim.left


def test_claims_are_of_the_papers_direction():
    """The printed numbers themselves agree with each 'better'."""
    for table in TABLES:
        for claim in table.claims:
            if claim.kind != 'better':
                continue
            for data in table.data:
                paper = {
                    row.label: row.paper[claim.metric]
                    for row in table.of_data(data)
                }
                best = max(paper[label] for label in claim.left)
                assert best > paper[claim.right], (table.id, claim)


def test_claims_that_nobody_can_judge_are_none():
    """Table 1b: our val set against the challenge's test set."""
    table = TABLES.table('table1b')
    assert table.claims == () and not table.difference
    assert [t.id for t in TABLES if not t.difference] == ['table1b']
    claim, = TABLES.table('table3a').claims
    assert 'compute' not in claim.text
