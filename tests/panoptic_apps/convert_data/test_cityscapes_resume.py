"""Stopped and repeated runs end in the files of one that was not stopped."""
import errno
import hashlib
import json
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mmengine_exact.errors import InputError
from mmengine_exact.workers import run_jobs
from panoptic_apps.convert_data import prepare, resumable
from panoptic_apps.convert_data.cityscapes import conversion as module
from tests.conftest import REPO_ROOT

CACHE = '.panoptic_fpn_cache_{}_v1.jsonl'
convert = module.convert_image


def run(root, splits=('train', 'val', 'test'), num_workers=1, report=str):
    prepare(str(root), splits, num_workers, report=report, warn=str)


def written(root):
    """Digest of every file below the root, hidden ones too."""
    return {
        str(p.relative_to(root)): hashlib.sha256(p.read_bytes()).hexdigest()
        for p in Path(root).rglob('*') if p.is_file()
    }


@pytest.fixture(scope='module', name='expected')
def _expected(miniature, tmp_path_factory):
    """Files of a run in one process that nothing stopped."""
    root = tmp_path_factory.mktemp('expected') / 'data'
    shutil.copytree(miniature, root)
    run(root)
    return written(root)


def count_conversions(monkeypatch):
    """Ids of the images that are converted in this process."""
    calls = []

    def counting(job):
        calls.append(job.image['id'])
        return convert(job)

    monkeypatch.setattr(module, 'convert_image', counting)
    return calls


def test_several_processes_write_the_same_and_nothing_else(
        root, expected, miniature):
    run(root, num_workers=3)
    assert written(root) == expected
    new = set(expected) - set(written(miniature))
    pngs = {n for n in new if n.startswith('gtFine/cityscapes_panoptic_val/')}
    assert len(pngs) == 4
    assert new - pngs == {
        'gtFine/cityscapes_panoptic_val.json', 'gtFine/panoptic_fpn_test.json',
        'gtFine/panoptic_fpn_train.json', 'gtFine/panoptic_fpn_val.json'
    }


OPENCV = """
import cv2
import numpy as np
from mmengine_exact.workers import run_jobs

def blur(value):
    image = np.full((900, 900), value, np.float32)
    return round(float(cv2.GaussianBlur(image, (31, 31), 5).mean()))

cv2.setNumThreads(2)
for _ in range(2):
    assert blur(7) == 7
    assert sorted(run_jobs(blur, [1, 2, 3, 4], 2)) == [1, 2, 3, 4]
    assert cv2.getNumThreads() == 2
"""


def test_threads_of_opencv_in_the_parent_stop_nobody():
    """Threads do not live on in a forked child, which waited for them."""
    subprocess.run([sys.executable, '-c', OPENCV],
                   cwd=REPO_ROOT,
                   check=True,
                   timeout=120)


def test_what_a_job_raises_passes_through_and_ends_the_others():
    results = run_jobs(int, ['1', 'x', *map(str, range(1000))], 2)
    with pytest.raises(ValueError, match="'x'"):
        list(results)
    assert not multiprocessing.active_children()


@pytest.mark.parametrize('workers, stop_at', [(1, 1), (2, 10)])
def test_an_interrupted_run_is_continued(root, expected, monkeypatch, workers,
                                         stop_at):
    added, add = [], resumable.Journal.add

    def interrupt(journal, entry):
        if len(added) == stop_at:
            raise KeyboardInterrupt
        added.append(entry['image_id'])
        add(journal, entry)

    with monkeypatch.context() as patch:
        patch.setattr(resumable.Journal, 'add', interrupt)
        with pytest.raises(KeyboardInterrupt):
            run(root, num_workers=workers)
    assert not multiprocessing.active_children()
    calls = count_conversions(monkeypatch)
    run(root)
    assert len(calls) == 12 - stop_at and not set(calls) & set(added)
    assert written(root) == expected


def test_after_a_killed_worker_the_run_continues(root, expected, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(module, 'convert_image', die_at_bremen)
        with pytest.raises(InputError, match='--num-workers') as error:
            run(root, num_workers=2)
    assert error.value.__suppress_context__
    assert (root / 'gtFine' / CACHE.format('train')).exists()
    assert not (root / 'gtFine/panoptic_fpn_train.json').exists()
    run(root, num_workers=2)
    assert written(root) == expected


def die_at_bremen(job):
    if 'bremen' in job.image['id']:
        os.kill(os.getpid(), signal.SIGKILL)
    return convert(job)


def note_pid_and_sleep(job):
    folder = Path(job.label).parents[3] / 'pids'
    folder.mkdir(exist_ok=True)
    held_back = signal.SIGINT in signal.pthread_sigmask(signal.SIG_BLOCK, [])
    path = folder / str(os.getpid())
    if not path.exists():  # the kill may come while a file is written
        path.write_text(str(held_back))
    time.sleep(.1)
    return convert(job)


def prepare_in_a_group(root):
    # a shell ignores it for what it starts in the background, CI among them
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.setpgrp()
    try:
        run(root, num_workers=2)
    except KeyboardInterrupt:
        os._exit(1)


def is_running(pid):
    try:
        state = Path(f'/proc/{pid}/stat').read_text().rsplit(')')[-1].split()
    except OSError:
        return False
    return state[0] != 'Z'


def wait_until(true, seconds=20):
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, 'waited too long'
        time.sleep(.01)


@pytest.mark.parametrize('name', ['SIGINT', 'SIGKILL', 'SIGTERM'])
def test_a_signal_ends_all_processes(root, expected, monkeypatch, capfd, name):
    """As Ctrl-C does, SIGINT goes to the whole group of processes."""
    cache = root / 'gtFine' / CACHE.format('train')
    with monkeypatch.context() as patch:
        patch.setattr(module, 'convert_image', note_pid_and_sleep)
        process = multiprocessing.get_context('fork').Process(
            target=prepare_in_a_group, args=(root, ))
        process.start()
    wait_until(lambda: cache.exists() and cache.read_text().count('\n') > 1)
    if name == 'SIGINT':
        os.killpg(process.pid, signal.SIGINT)
    else:
        os.kill(process.pid, getattr(signal, name))
    process.join(20)
    assert process.exitcode not in (0, None)
    pids = {p.name: p.read_text() for p in (root / 'pids').iterdir()}
    try:
        wait_until(lambda: not any(map(is_running, pids)))
    finally:
        for pid in filter(is_running, pids):
            os.kill(int(pid), signal.SIGKILL)
    assert list(pids.values()) == ['True', 'True']
    assert capfd.readouterr().err == ''
    shutil.rmtree(root / 'pids')
    calls = count_conversions(monkeypatch)
    run(root)
    assert 2 <= len(calls) <= 10
    assert written(root) == expected


def interrupted(*_):
    raise KeyboardInterrupt


def test_a_torn_line_and_unfinished_files_do_no_harm(root, expected,
                                                     monkeypatch):
    with monkeypatch.context() as patch:
        # killed after all images, before the JSON is written
        patch.setattr(module, 'write_results', interrupted)
        for split in ('train', 'val'):
            with pytest.raises(KeyboardInterrupt):
                run(root, [split])
    for split, count in (('train', 8), ('val', 4)):
        path = root / 'gtFine' / CACHE.format(split)
        content = path.read_bytes()
        assert content.count(b'\n') == count
        path.write_bytes(content[:-40])
    panoptic = root / 'gtFine/cityscapes_panoptic_val'
    name = 'munster_000000_000019_gtFine_panoptic.png'
    (panoptic / f'.{name}.abcd1234.part').write_bytes(b'half')
    (panoptic / name).write_bytes((panoptic / name).read_bytes()[:100])
    half = root / 'gtFine/.panoptic_fpn_val.json.abcd1234.part'
    half.write_bytes(b'half')
    calls = count_conversions(monkeypatch)
    with monkeypatch.context() as patch:
        # stopped again: the torn line is not the last one any more
        patch.setattr(module, 'write_results', interrupted)
        with pytest.raises(KeyboardInterrupt):
            run(root, ['train'])
    run(root)
    assert calls == ['bremen_000001_000019', 'munster_000000_000019']
    assert written(root) == expected


def test_a_second_run_converts_and_writes_nothing(root, monkeypatch):
    run(root)
    times = {p: p.stat().st_mtime_ns for p in root.rglob('*')}
    calls = count_conversions(monkeypatch)
    lines = []
    run(root, report=lines.append)
    assert not calls
    assert lines == [
        'train: all 8 images are converted already',
        'val: all 4 images are converted already'
    ]
    assert times == {p: p.stat().st_mtime_ns for p in root.rglob('*')}


def test_only_what_changed_is_converted_again(root, monkeypatch):
    run(root)
    label = 'gtFine/val/{0}/{0}_000000_000019_gtFine_instanceIds.png'
    (root / label.format('lindau')).write_bytes(
        (root / label.format('munster')).read_bytes())
    png = 'frankfurt_000000_000019_gtFine_panoptic.png'
    (root / 'gtFine/cityscapes_panoptic_val' / png).unlink()
    calls = count_conversions(monkeypatch)
    run(root)
    assert calls == ['frankfurt_000000_000019', 'lindau_000000_000019']
    path = root / 'gtFine/panoptic_fpn_val.json'
    segments = {
        note['image_id']: note['segments_info']
        for note in json.loads(path.read_text())['annotations']
    }
    assert segments['lindau_000000_000019'] == segments[
        'munster_000000_000019']
    # an image that is gone leaves the JSON
    for gone in root.glob('*/val/lindau/lindau_*'):
        gone.unlink()
    run(root)
    content = json.loads(path.read_text())
    assert len(content['annotations']) == len(content['images']) == 3
    assert len(calls) == 2


def test_a_damaged_prepared_json_is_written_again(root, expected):
    run(root)
    path = root / 'gtFine/panoptic_fpn_train.json'
    text = path.read_text()
    for damaged in (text[:-200], text.replace('"version": 1', '"version": 0'),
                    text.replace('"void_ids"', '"void"'), '[]'):
        assert damaged != text
        path.write_text(damaged)
        run(root, ['train'])
        assert written(root) == expected


def test_two_runs_at_once(root, expected):
    with resumable.Journal(str(root / 'gtFine' / CACHE.format('train'))):
        with pytest.raises(InputError, match='another process'):
            run(root)
    run(root)
    assert written(root) == expected


@pytest.mark.parametrize('workers', [1, 2])
def test_a_full_disk(root, expected, run_tool, capsys, monkeypatch, workers):

    def full(path, content):
        raise OSError(errno.ENOSPC, 'No space left on device', path)

    with monkeypatch.context() as patch:
        patch.setattr(resumable, 'write_bytes', full)
        assert run_tool('cityscapes', root, '--splits', 'val', '--num-workers',
                        workers) == 1
    text = capsys.readouterr().err.splitlines()[-1]
    assert 'the disk is full' in text and 'Make room' in text
    assert str(root) in text
    run(root)
    assert written(root) == expected
