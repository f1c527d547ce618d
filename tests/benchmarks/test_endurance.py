"""Long runs: what is read from /proc, slopes, a short run of each."""
import json
import threading
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import numpy as np
import pytest

from benchmarks import endurance, probe

from .fakes import MEGABYTE, report


def hold(path):
    """Snapshots without and with a block, lists, a file and a thread."""
    before = probe.snapshot()
    kept = [[] for _ in range(5000)]
    block = np.ones(64 * MEGABYTE // 8)
    wait = threading.Event()
    thread = threading.Thread(target=wait.wait)
    with open(path, 'w'):
        thread.start()
        after = probe.snapshot()
        wait.set()
        thread.join()
    return before, after, len(kept), block.nbytes


def test_a_snapshot_counts_what_is_held(tmp_path):
    # a process of its own: here, tests before may have freed such a block
    with ProcessPoolExecutor(1, mp_context=get_context('spawn')) as pool:
        before, after, lists, size = pool.submit(hold, tmp_path / 'a').result()
    grown = {key: after[key] - before[key] for key in before}
    assert lists <= grown['objects'] < lists + 500
    assert grown['descriptors'] == grown['threads'] == 1
    for key in ('rss', 'pss', 'uss', 'heap'):
        assert grown[key] > 0.9 * size, key
    assert after['uss'] <= after['pss'] <= after['rss']


def test_slopes():
    x = np.arange(40.)
    noise = np.random.default_rng(0).normal(size=40)
    flat, steep = probe.slope(x, noise), probe.slope(x, noise + 0.5 * x)
    assert flat.flat and not steep.flat
    assert steep.value == pytest.approx(0.5, abs=steep.margin)
    exact = probe.slope([1, 2, 3], [2, 4, 6])
    assert exact.value == pytest.approx(2) and exact.margin < 1e-6


def looks(numbers, **more):
    return [
        dict(
            dict.fromkeys(endurance.TRACKED, 10**6),
            at=n,
            history=n,
            checkpoint=1000 if n > 10 else None,
            checkpoints=2,
            **more) for n in numbers
    ]


def test_the_report_is_told_and_drawn():
    runs = [
        dict(
            start=dict(uss=0),
            points=looks((10, 20, 30)),
            rows=dict(PanopticQualityMetric=7.),
            process_seconds=1.,
            scores=dict(
                PanopticQualityMetric=dict(
                    seconds=1., peak=2 * 10**6, held=10**6)),
            values={})
    ]
    found = endurance.with_slopes(
        report(
            training=dict(points=looks(range(10, 90, 10))),
            evaluation=dict(images=20, points=looks(range(10, 110, 10))),
            predictions={'one process': runs}))
    assert [
        p['at'] for p in endurance.ends_of(found['evaluation']['points'], 20)
    ] == [40, 60, 80, 100]
    text = endurance.text_of(found)
    assert 'training: 80 iterations' in text and '0.0 +- 0.0 kB' in text
    assert 'peak 2 MB above 1 MB' in text
    assert endurance.draw(found).shape[2] == 3


def test_other_tasks_stay_in_the_file(tmp_path):
    args = endurance.parse_args(['--only', 'training', '--out', str(tmp_path)])
    assert endurance.former_tasks(args) == {}
    (tmp_path / 'endurance.json').write_text(
        json.dumps(dict(training=1, predictions=2, seed=3)))
    assert endurance.former_tasks(args) == dict(predictions=2)


@pytest.mark.slow
def test_a_shorter_run_of_each(tmp_path, capsys):
    """Flat, up to what an allocator takes in a run as short as this."""
    assert endurance.main([
        '--iterations', '1600', '--validations', '5', '--images', '40',
        '--predictions', '3000', '--out',
        str(tmp_path)
    ]) == 0
    print(capsys.readouterr().out)
    found = json.loads((tmp_path / 'endurance.json').read_text())
    assert (tmp_path / 'endurance.png').is_file()
    for task in ('training', 'evaluation'):
        slopes = found[task]['slopes']
        # MB by 1000 iterations, or by an evaluation
        assert slopes['heap'][0] < 10 * 10**6, task
        assert slopes['workers_uss'][0] < 10 * 10**6, task
        assert slopes['objects'][0] < 500, task
        for key in ('descriptors', 'threads', 'children'):
            assert abs(slopes[key][0]) < 20, (task, key)
        # what was freed is kept up to a half more than is usual
        held = [point['rss'] for point in found[task]['points']]
        assert max(held) < 1.6 * max(held[:len(held) // 4]), task
    saved = [p for p in found['training']['points'] if p['at'] > 1300]
    assert saved[0]['checkpoint'] == pytest.approx(
        saved[-1]['checkpoint'], abs=5000)
    assert all(p['checkpoints'] <= 2 for p in found['training']['points'])
    one, two = found['predictions'].values()
    assert str(one[0]['values']) == str(two[0]['values'])
    assert one[0]['rows']['PanopticQualityMetric'] < 1000
    assert one[0]['rows']['SemanticIoUMetric'] < 1000
    # 34 bytes a detection beside its mask of some 300
    assert one[0]['rows']['PanopticInstanceAPMetric'] < 45_000
    assert endurance.held_bytes(one[0]['points']) < 60_000
    assert one[0]['scores']['PanopticInstanceAPMetric']['peak'] < 600 * 10**6
