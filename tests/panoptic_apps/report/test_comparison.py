"""Differences of two runs, beside a bootstrap made of loops."""
import math

import numpy as np
import pytest

from mmengine_exact.errors import InputError
from panoptic_apps.report import comparison
from panoptic_apps.report.comparison import compare, read_images
from panoptic_fpn.training.metrics_json import write_images

NAMES = ['cat', 'dog', 'sky', 'sea']
THINGS = 2


@pytest.fixture(name='read')
def _read(tmp_path):
    """Counts of a run through its file."""

    def read(run, things=tuple(NAMES[:THINGS]), stuff=tuple(NAMES[THINGS:])):
        path = tmp_path / 'images.json'
        by_image = {i: dict(PQ=1., counts=row) for i, row in run.items()}
        write_images(
            str(path), by_image,
            dict(thing_classes=things, stuff_classes=stuff))
        return read_images(path)

    return read


def run_of(rng, images=30, shift=0., rare=()):
    """By image and class tp, fp, fn, iou; ``shift`` is added to the IoUs of
    cats, classes of ``rare`` occur in the first images alone."""
    rows = {}
    for image_id in range(images):
        counts = {}
        for name in NAMES:
            if name in rare and image_id >= 4 or rng.random() < 0.2:
                continue
            tp, fp, fn = map(int, rng.integers(0, 4, 3))
            iou = sum(rng.uniform(0.55, 0.7, tp)) + tp * shift * (
                name == 'cat')
            if tp + fp + fn:
                counts[name] = [tp, fp, fn, iou]
        rows[image_id] = counts
    return rows


def every(found):
    return [*found.means, *found.classes]


def slow_quality(rows):
    """By name; None without a segment, or without a class of the group."""
    quality = {}
    for name in NAMES:
        tp, fp, fn, iou = (
            sum(row.get(name, [0] * 4)[i] for row in rows) for i in range(4))
        size = tp + fp / 2 + fn / 2
        quality[name] = 100 * iou / size if size else None
    for group, of in (('all', NAMES), ('things', NAMES[:THINGS]),
                      ('stuff', NAMES[THINGS:])):
        known = [quality[name] for name in of if quality[name] is not None]
        quality[group] = sum(known) / len(known) if known else None
    return quality


def percentile(values, share):
    values = sorted(values)
    position = share * (len(values) - 1)
    low = math.floor(position)
    high = min(low + 1, len(values) - 1)
    return values[low] + (position - low) * (values[high] - values[low])


def slow_intervals(first, second, seed):
    """The same resamples, image by image and class by class."""
    rng, size = np.random.default_rng(seed), len(first)
    changes = {}
    for _ in range(comparison.RESAMPLES):
        drawn = rng.integers(size, size=size)
        one, two = (
            slow_quality([run[i] for i in drawn]) for run in (first, second))
        for name, value in one.items():
            if value is not None and two[name] is not None:
                changes.setdefault(name, []).append(value - two[name])
    return {
        name: (percentile(values, 0.025), percentile(values, 0.975))
        for name, values in changes.items()
    }


def test_intervals_are_those_of_the_plain_loops(monkeypatch, read):
    monkeypatch.setattr(comparison, 'RESAMPLES', 100)
    rng = np.random.default_rng(0)
    first, second = run_of(rng), run_of(rng, rare=['sea'])
    found = compare(read(first), read(second), seed=5)
    slow = slow_intervals(first, second, seed=5)
    one, two = (slow_quality(run.values()) for run in (first, second))
    assert [d.name for d in found.means] == ['all', 'things', 'stuff']
    assert [d.name for d in found.classes] == NAMES
    for d in every(found):
        assert (d.first, d.second) == pytest.approx((one[d.name], two[d.name]))
        assert d.change == pytest.approx(one[d.name] - two[d.name])
        assert (d.low, d.high) == pytest.approx(slow[d.name])


def test_a_run_against_itself(read):
    run = read(run_of(np.random.default_rng(1)))
    found = compare(run, run)
    assert {d[-3:] for d in every(found)} == {(0, 0, 0)}
    assert not any(d.marked for d in every(found))


def test_the_other_way_round_has_the_other_signs(read):
    rng = np.random.default_rng(2)
    first, second = read(run_of(rng)), read(run_of(rng))
    there, back = compare(first, second), compare(second, first)
    for d, e in zip(every(there), every(back)):
        assert (d.change, d.low, d.high) == pytest.approx(
            (-e.change, -e.high, -e.low))
        assert d.marked == e.marked


def test_a_shift_is_found_and_nothing_else(read):
    first = run_of(np.random.default_rng(3), images=60, shift=0.2)
    second = run_of(np.random.default_rng(3), images=60)
    found = {d.name: d for d in every(compare(read(first), read(second)))}
    marked = {name for name, d in found.items() if d.marked}
    assert marked == {'all', 'things', 'cat'}
    cats = [row.get('cat', [0] * 4) for row in first.values()]
    tp, fp, fn, _ = np.sum(cats, axis=0)
    expected = 100 * 0.2 * tp / (tp + (fp + fn) / 2)
    assert found['cat'].change == pytest.approx(expected)
    assert found['cat'].low <= expected <= found['cat'].high
    assert found['things'].change == pytest.approx(expected / 2)
    assert found['dog'].change == found['sky'].low == 0


def test_five_images_are_too_few(read):
    """A difference of 10 in each of them."""
    for images, marked in ((5, False), (6, True)):
        runs = [{
            i: dict(cat=[1, 0, 0, iou])
            for i in range(images)
        } for iou in (0.9, 0.8)]
        found = compare(*(read(run, ['cat'], []) for run in runs))
        assert {(d.name, d.marked)
                for d in every(found)} == {('all', marked), ('things', marked),
                                           ('cat', marked)}
        assert found.classes[0].low == pytest.approx(10)
        number = int(marked)
        assert f'Of {number} classes {number} are marked' in found.note()


def test_images_that_one_run_lacks_and_classes_that_differ(read):
    run = run_of(np.random.default_rng(4))
    first, second = read(run), read(dict([*run.items()][:9:-1]))
    found = compare(first, second)
    assert (found.images, found.others) == (20, 10)
    assert '10 that only one has' in found.note()
    assert {d.change for d in found.means} == {0}
    with pytest.raises(InputError, match='no image in common'):
        compare(first, read({77: run[3]}))
    with pytest.raises(InputError, match='other classes'):
        compare(first, read(run, NAMES[1:], NAMES[:1]))


def test_a_file_of_another_kind(tmp_path):
    path = tmp_path / 'images.json'
    with pytest.raises(InputError, match='images.json: cannot read'):
        read_images(path)
    for text in ('{"coco_panoptic/PQ": 1}', '[]',
                 '{"thing_classes": ["a"], "stuff_classes": [], "images": '
                 '[{"image_id": 1, "counts": {"b": [1, 0, 0, 1]}}]}'):
        path.write_text(text)
        with pytest.raises(InputError, match='images.json: no scores of'):
            read_images(path)
