"""Launches, waits and bytes of each part are at most those of the table, and
the table reaches the goals beside mmdet."""
import warnings

import pytest

from . import Counts, Ledger, counting
from .counting import Key

RECORD = 'python -m tests.pretended_gpu.record'
#: Scores of an untrained model are close: another CPU may sort out another
#: level of FPN.
SLACK = 0.01


def dearer(part, ledger, row):
    """What costs more than its row of the table: sentences, with places."""
    columns = ('launches', 'waits', 'to_gpu', 'from_gpu')
    slack = (SLACK, 0, SLACK, SLACK)
    found = zip(columns, slack, counting.figures(ledger.counts()), row)
    return [
        f'{part}: {now:g} {name}, {was:g} in the table\n'
        f'{ledger.places(name)}' for name, more, now, was in found
        if now > was * (1 + more) + 0.001 * (more > 0)
    ]


def check(key, found):
    """Hold parts against the table; warns of what became cheaper."""
    table = counting.read()[str(key)]
    assert set(found) == set(table), f'{key} has other parts now: {RECORD}'
    worse = [
        text for part, ledger in found.items()
        for text in dearer(part, ledger, table[part])
    ]
    assert not worse, f'{key}: ' + '\n'.join(worse) + f'\nOn purpose? {RECORD}'
    now = counting.as_table({key: found})[str(key)]
    fewer = [part for part, row in now.items() if row < table[part]]
    if fewer:
        warnings.warn(f'{key}: {", ".join(fewer)} became cheaper: {RECORD}')


@pytest.mark.parametrize(
    'key', [key for key in counting.KEYS if key.side == 'ours'], ids=str)
def test_no_part_costs_more(key):
    check(key, counting.count(key, quick=True))


@pytest.mark.slow
@pytest.mark.parametrize(
    'key', [key for key in counting.KEYS if key.side == 'mmdet'], ids=str)
def test_mmdet_costs_as_much_as_recorded(key):
    check(key, counting.count(key, quick=True))


def test_the_table_is_whole():
    assert list(counting.read()) == [str(key) for key in counting.KEYS]


@pytest.mark.parametrize('goal', counting.GOALS, ids=lambda goal: goal.name)
def test_goals(goal):
    found, limit = goal.of_table(counting.read())
    assert found <= limit


def test_a_dearer_part_is_named_with_its_lines():
    ledger = Ledger()
    ledger.launches.update({
        'models/a.py:3 loss (add)': 90,
        'b.py:1 f (mul)': 12
    })
    ledger.waits['models/a.py:7 loss (item)'] = 1
    assert dearer('loss', ledger, [102, 1, 0, 0]) == []
    assert dearer('loss', ledger, [101, 1, 0, 0]) == []
    launches, waits = dearer('loss', ledger, [100, 0, 0, 0])
    assert launches.startswith('loss: 102 launches, 100 in the table')
    assert 'models/a.py:3 loss (add)' in launches
    assert waits.startswith('loss: 1 waits, 0 in the table')
    assert ledger.counts() == Counts(launches=102, waits=1)


def test_figures_are_rounded_to_kilobytes():
    counts = Counts(launches=3, waits=2, to_gpu=1_234_567, from_gpu=400)
    assert counting.figures(counts) == [3, 2, 1.235, 0.0]
    assert Key('COCO', 'heads', 'ours').work == 'heads'
