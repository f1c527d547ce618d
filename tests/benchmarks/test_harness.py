"""Rounds in turn, peak memory, rows."""
import json
from concurrent.futures.process import BrokenProcessPool
from functools import partial

import pytest

from benchmarks.harness import (Row, alternate, in_fresh_process, peak_bytes,
                                stage_main, text_table)

from .fakes import MEGABYTE, die, hold, prepare, refuse, row


def test_rounds_alternate_and_every_other_is_reversed():
    calls = []
    seconds = alternate({n: partial(calls.append, n) for n in 'abc'}, 3)
    # the first one warms up
    assert ''.join(calls) == 'cba' 'abc' 'cba' 'abc'
    assert list(seconds) == ['a', 'b', 'c']
    assert all(len(s) == 3 and min(s) >= 0 for s in seconds.values())


def test_ratio_is_that_of_the_medians():
    fast = Row('merge', 'x', [2., 1., 3.], [20., 60., 10.], ask=10)
    assert (fast.seconds, fast.their_seconds, fast.ratio) == (2., 20., 10.)
    assert fast.met is True and row(ask=5.1).met is False
    assert row().met is None
    assert row(ours_bytes=3, theirs_bytes=12).memory_ratio == 0.25
    assert row(ours_bytes=3).memory_ratio is None


def test_rows_to_json_and_back():
    first = Row('training', 'x', [1.5], [3.], 1.1, 'step', 5, 6, 'Detectron2',
                'a note')
    content = json.loads(json.dumps(first.to_dict()))
    assert content['ratio'] == 2. and content['met'] is True
    assert Row.from_dict(content) == first


def test_peak_is_what_a_call_holds_above_before():
    peak = peak_bytes(hold, 64)
    # the bytes and the bytearray
    assert 0.9 * 64 <= peak / MEGABYTE <= 2.5 * 64
    # of a prepared stage that of the stage alone
    peak = peak_bytes(prepare, 256, 32)
    assert 0.9 * 32 <= peak / MEGABYTE <= 2.5 * 32


def test_errors_of_a_fresh_process_arrive():
    with pytest.raises(ValueError, match='no such input'):
        in_fresh_process(refuse)
    with pytest.raises(BrokenProcessPool):
        in_fresh_process(die)


def test_command_line_of_a_stage(tmp_path, capsys, monkeypatch):
    monkeypatch.delenv('OMP_NUM_THREADS', raising=False)
    given = []

    def measure(rounds, seed):
        given.append((rounds, seed))
        return [row(ask=6, note='mmdet does less')]

    out = tmp_path / 'rows.json'
    # a missed ask is no failure
    assert stage_main(measure, 'A stage.\n\nMore.',
                      ['--rounds', '2', '--seed', '7', '--json',
                       str(out)]) == 0
    assert given == [(2, 7)]
    said = capsys.readouterr().out
    assert '5.00x' in said and 'BELOW THE ASK' in said
    assert [Row.from_dict(r) for r in json.loads(out.read_text())
            ] == [row(ask=6, note='mmdet does less')]


def test_text_of_rows():
    rows = [
        row(ask=4, ours_bytes=1, theirs_bytes=4, note='same maps'),
        row(case='2048x1024', against='Detectron2')
    ]
    lines = text_table(rows).splitlines()
    assert len(lines) == 5
    assert lines[1].split() == [
        'merge,', '640x480', '10.0000', '2.0000', '5.00x', '4x', '0.25'
    ]
    assert lines[2].strip() == 'same maps'
    assert lines[3].split()[-1] == '5.00x'
    assert lines[4].strip() == 'against Detectron2'
