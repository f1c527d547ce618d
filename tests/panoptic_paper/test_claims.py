"""Verdicts, worked out by hand."""
import pytest

from panoptic_paper.results import judge, judge_rows
from panoptic_paper.tables import Claim

from .fakes import TABLES

BETTER = Claim('a beats b', 'PQ', 'better', ('a', ), 'b')
COMPARABLE = Claim('a is like b', 'PQ', 'comparable', ('a', ), 'b')


def verdict(claim, tolerance=None, fixed={}, **values):
    return judge(claim, values, 'coco', fixed, tolerance).verdict


@pytest.mark.parametrize('a,b,better,comparable', [
    ([5., 6., 7.], [1., 2., 3.], 'agrees', 'contradicts'),
    ([1., 2., 3.], [5., 6., 7.], 'contradicts', 'contradicts'),
    ([1., 5., 6.], [0., 1., 2.], 'no visible effect', 'no visible effect'),
    ([3., 4., 5.], [1., 2., 3.], 'no visible effect', 'no visible effect'),
    ([3., 4.], [1., 2., 2.], 'not judged', 'not judged'),
    ([3., 4., 5.], [1.], 'not judged', 'not judged'),
])
def test_ranges(a, b, better, comparable):
    assert verdict(BETTER, a=a, b=b) == better
    assert verdict(COMPARABLE, a=a, b=b) == comparable


def test_nothing_there():
    assert verdict(BETTER, a=[1., 2., 3.]) == 'not run'
    assert verdict(BETTER, b=[1., 2., 3.]) == 'not run'
    found = judge(BETTER, {}, 'coco')
    assert found.why == 'without a, b'


def test_the_best_of_several_rows_counts():
    claim = Claim('some', 'PQ', 'better', ('a', 'c', 'd'), 'b')
    rows = dict(a=[0., 1., 2.], b=[3., 4., 5.], c=[6., 7., 8.])
    assert verdict(claim, **rows) == 'agrees'
    why = judge(claim, rows, 'coco').why
    assert why == ('c (best of 2 rows) 7.0 (6.0 to 8.0, 3 seeds) against b '
                   '4.0 (3.0 to 5.0, 3 seeds)')
    rows.pop('c')
    assert verdict(claim, **rows) == 'contradicts'


def test_printed_numbers_have_no_range():
    assert verdict(BETTER, fixed=dict(b=4.), a=[5., 6., 7.]) == 'agrees'
    assert verdict(BETTER, fixed=dict(b=6.), a=[5., 6., 7.]) == \
        'no visible effect'
    assert verdict(BETTER, fixed=dict(b=4.), a=[5.]) == 'not judged'


def test_comparable_is_what_the_paper_calls_so():
    """No two trainings differ by more than the paper's rows: 0.4 here."""
    rows = dict(a=[5.0, 5.1, 5.2], b=[4.8, 4.85, 4.9])
    assert verdict(COMPARABLE, **rows) == 'contradicts'
    assert verdict(COMPARABLE, 0.4, **rows) == 'agrees'
    assert verdict(BETTER, 0.4, **rows) == 'agrees'
    # the medians differ by 0.25, the trainings by up to 0.4
    assert verdict(COMPARABLE, 0.3, **rows) == 'contradicts'


def test_noise_is_no_agreement():
    """Medians equal and ranges wide: nothing is seen, as was claimed."""
    rows = dict(a=[3., 5., 7.], b=[4., 5., 9.])
    for tolerance in (None, 0.3, 5.9):
        assert verdict(COMPARABLE, tolerance, **rows) == 'no visible effect'
    assert verdict(COMPARABLE, 6., **rows) == 'agrees'
    same = dict(a=[5., 5., 5.], b=[5., 5., 5.])
    assert verdict(COMPARABLE, **same) == 'no visible effect'
    assert verdict(COMPARABLE, 0., **same) == 'agrees'
    assert judge(COMPARABLE, rows, 'coco').as_claimed
    assert not judge(BETTER, rows, 'coco').as_claimed


def test_tolerance_is_read_from_the_table():
    """Table 3a: 39.2 and 39.0 on COCO, 57.7 twice on Cityscapes."""
    table = TABLES.table('table3a')
    ours = {
        'r50': dict(PQ=[39.0, 39.0, 39.0]),
        'r50x2': dict(PQ=[39.2, 39.2, 39.2])
    }
    found = {
        data: judge_rows(table.claims, table.of_data(data), ours,
                         data)[0].verdict
        for data in table.data
    }
    assert found == dict(coco='agrees', cityscapes='contradicts')
    # the miniature has none
    found, = judge_rows(table.claims, [], ours, 'miniature')
    assert found.verdict == 'contradicts'


def test_other_systems_are_compared_as_printed():
    table = TABLES.table('table4b')
    ours = {'r101': dict(PQ=[58.0, 58.1, 58.2])}
    found, = judge_rows(table.claims, table.rows, ours, 'cityscapes')
    assert found.verdict == 'agrees' and found.why.endswith('din 53.8')


def test_ratio():
    claim = Claim('twice', 'flops', 'ratio', ('a', ), 'b', 2)
    found = judge(claim, dict(a=[3.], b=[2.]), 'coco')
    assert found.verdict == 'ratio 1.50'
    assert found.why == 'the paper: about 2'
