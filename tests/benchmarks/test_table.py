"""The table as Markdown and as a picture, from numbers worked by hand."""
import numpy as np

from benchmarks.harness import Row
from benchmarks.table import (counts_section, counts_text, draw, duration,
                              markdown, times)

from .fakes import report, row


def test_numbers_have_three_digits():
    assert [
        duration(s) for s in (0.0371, 0.00061, 0.99949, 0.9996, 4.311, 1234.4)
    ] == ['37.1 ms', '0.61 ms', '999 ms', '1 s', '4.31 s', '1234 s']
    assert [times(r) for r in (0.5, 1.266, 12.34, 240.2, 1234.5)
            ] == ['0.5', '1.27', '12.3', '240', '1234']


def test_markdown():
    rows = [
        Row('input pipeline',
            '2048x1024 PNG', [0.05, 0.04, 0.06], [0.6, 0.5, 0.4],
            ask=8,
            ours_bytes=3 * 10**7,
            theirs_bytes=10**8,
            note='a|b'),
        row('training', 'R50', 20., 30., ask=1.1, per='step', note='a|b'),
        row('inference', 'R50', 3., 3.3, against='Detectron2')
    ]
    text = markdown(report(*rows))
    lines = text.splitlines()
    assert lines[:5] == [
        '| stage | input | mmdet | ours | times faster | memory | note |',
        '|---|---|--:|--:|--:|--:|--:|',
        '| input pipeline | 2048x1024 PNG | 500 ms | 50 ms | 10 | 0.30 | 1 |',
        '| training, per step | R50 | 30 s | 20 s | 1.5 |  | 1 |',
        '| inference | R50 | 3.3 s (Detectron2) | 3 s | 1.1 |  |  |'
    ]
    assert lines[5] == '' and max(map(len, lines[6:])) < 80
    # two rows have it
    assert lines[-3:] == ['Notes:', '', '1. a|b']
    below = ' '.join(lines[6:])
    for part in ('Medians of 5 rounds', '2026-01-31, revision 1234567',
                 '2 cores of Abacus 9, 25 GB, no GPU, Debian 12',
                 'torch 2.13.0, mmdet 3.3.0.'):
        assert part in below
    # asks are the project's own
    assert 'ask' not in text and 'met' not in text
    assert 'Medians of 3 runs of 5 rounds' in ' '.join(
        markdown(report(*rows, runs=3)).split())


def test_counts_of_both_sides():

    def side(launches, waits):
        return dict(launches=launches, waits=waits)

    counts = [
        dict(
            stage='training step',
            case='COCO',
            ours=side(1234, 5),
            mmdet=side(2000, 10)),
        dict(stage='metrics', case='COCO', ours=side(3, 0.126), mmdet=None)
    ]
    *made, head, rule, step, metrics = counts_section(counts).splitlines()
    assert made[2].startswith('Not run on a GPU')
    assert head == '| ours / mmdet | data | launches | waits |'
    assert rule == '|---|---|--:|--:|'
    assert step == '| training step | COCO | 1,234 / 2,000 | 5 / 10 |'
    assert metrics == '| metrics | COCO | 3 | 0.13 |'
    assert [line.split() for line in counts_text(counts).splitlines()][1:] == [
        'training step, COCO 1,234 / 2,000 5 / 10'.split(),
        'metrics, COCO 3 0.13'.split()
    ]


def test_picture_grows_with_rows():
    few = draw([row(ask=10), row(case='2048x1024', ours=20.)])
    many = draw([row(case=str(i)) for i in range(6)])
    for picture in (few, many):
        assert picture.dtype == np.uint8 and picture.shape[2] == 3
    assert many.shape[0] > few.shape[0]
    # goal missed, goal met: two colours of bars
    met = draw([row(ask=2), row(case='2048x1024', ours=20.)])
    assert not np.array_equal(few, met)
