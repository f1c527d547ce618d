"""The user's own commands under faults: ``tools/train.py`` with loader
workers, killed from start-up to evaluation; torchrun with one process killed;
an evaluation that writes to a full disk.
"""
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time

import pytest
import torch

from panoptic_apps.toy_data.synthetic_shapes import write_dataset
from tests.conftest import REPO_ROOT
from tests.mmengine_exact import toy

from .runs import Tally, assert_all_whole, checkpoint_of, fill, on_small_disk

ROOT = REPO_ROOT
ITERATIONS = 10
#: How often the command is killed.
POINTS = 16
RECIPE = dict(num_train=12, num_val=4, size=64, seed=3)

CONFIG = f'''
_base_ = '{ROOT}/configs/synthetic/panoptic-fpn_tiny_synthetic.py'
train_cfg = dict(max_iters={ITERATIONS}, val_interval=4)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.1, by_epoch=False, begin=0, end=5)]
default_hooks = dict(
    checkpoint=dict(interval=2), logger=dict(interval=1),
    visualization=dict(draw=False))
train_dataloader = dict(
    batch_size=2, num_workers=2,
    dataset=dict(data_root='DATA/', generate=GENERATE))
val_dataloader = dict(
    dataset=dict(data_root='DATA/', generate=GENERATE))
test_dataloader = val_dataloader
'''.replace('GENERATE', repr(dict(RECIPE)))

pytestmark = pytest.mark.slow


@pytest.fixture(scope='module')
def config(tmp_path_factory):
    """A config file of a run of ten iterations, and its data."""
    folder = tmp_path_factory.mktemp('config')
    write_dataset(str(folder / 'data'), **RECIPE)
    path = folder / 'small.py'
    path.write_text(CONFIG.replace('DATA', str(folder / 'data')))
    return path


class Command:
    """A tool in a process group of its own."""

    def __init__(self, out, *arguments):
        self.out = out
        environment = dict(
            os.environ,
            OMP_NUM_THREADS='1',
            PYTHON=sys.executable,
            PORT=str(toy.free_port()))
        with open(out, 'w') as file:
            self.process = subprocess.Popen([str(a) for a in arguments],
                                            cwd=ROOT,
                                            env=environment,
                                            stdout=file,
                                            stderr=file,
                                            start_new_session=True)

    def end(self, seconds=240):
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.kill()
            raise toy.Hang(self.text()[-800:]) from None

    def kill(self):
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def text(self):
        return self.out.read_text()

    def message(self):
        found = [
            line for line in self.text().splitlines() if 'error: ' in line
        ]
        assert len(found) == 1, self.text()[-2000:]
        assert 'Traceback (most recent' not in self.text(), \
            self.text()[-3000:]
        return found[0]


def train(config, folder, resume=True, processes=1):
    start = [sys.executable, ROOT / 'tools' / 'train.py', config]
    if processes > 1:
        start = ['bash', ROOT / 'tools' / 'dist_train.sh', config, processes]
    folder.mkdir(exist_ok=True)
    return Command(folder / 'out.txt', *start, '--work-dir', folder,
                   *(['--resume'] if resume else []))


@pytest.fixture(scope='module')
def whole(config, tmp_path_factory):
    """Uninterrupted runs by number of processes, and their seconds."""
    made = {}

    def get(processes=1):
        if processes not in made:
            folder = tmp_path_factory.mktemp('whole')
            begin = time.monotonic()
            run = train(config, folder, False, processes)
            assert run.end() == 0, run.text()[-3000:]
            made[processes] = folder, time.monotonic() - begin
        return made[processes]

    return get


def assert_same_end(folder, reference):
    found, wanted = (
        torch.load(path / f'iter_{ITERATIONS}.pth', weights_only=True)
        for path in (folder, reference))
    for key in ('state_dict', 'optimizer', 'param_schedulers'):
        assert toy.same(found[key], wanted[key]), key
    assert found['meta']['iter'] == ITERATIONS
    assert not list(folder.glob('.*.part'))
    scores = [
        json.loads((path / 'metrics.json').read_text())['coco_panoptic/PQ']
        for path in (folder, reference)
    ]
    assert scores[0] == scores[1]


def finish(config, folder, reference, processes=1):
    run = train(config, folder, processes=processes)
    assert run.end() == 0, run.text()[-3000:]
    assert_same_end(folder, reference)


def test_kills_of_a_training(config, whole, tmp_path):
    reference, seconds = whole()
    draw = random.Random(5)
    tally, run_number, starts = Tally('SIGKILL of tools/train.py'), 0, 0
    while tally.tried < POINTS:
        folder = tmp_path / str(run_number)
        folder.mkdir(exist_ok=True)
        before = checkpoint_of(folder)
        run, starts = train(config, folder), starts + 1
        try:
            code = run.process.wait(draw.uniform(0.02, 1.05) * seconds)
        except subprocess.TimeoutExpired:
            run.kill()
            with tally.point(f'start {starts}'):
                assert checkpoint_of(folder) >= before
                assert_all_whole(folder)
        else:
            with tally.point(f'end of run {run_number}'):
                assert code == 0, run.text()[-2000:]
                assert_same_end(folder, reference)
            tally.saw('runs ended')
            run_number += 1
    with tally.point('the last run'):
        finish(config, tmp_path / str(run_number), reference)
    tally.end()


def wait_for(path, run):
    end = time.monotonic() + 240
    while not path.exists() and time.monotonic() < end:
        assert run.process.poll() is None, run.text()[-2000:]
        time.sleep(0.02)
    assert path.exists(), run.text()[-2000:]


def test_torchrun_with_one_process_killed(config, whole, tmp_path):
    psutil = pytest.importorskip('psutil')
    reference, _ = whole(2)
    tally = Tally('torchrun, one of two killed')
    for number in range(min(3, POINTS)):
        folder = tmp_path / str(number)
        run = train(config, folder, False, 2)
        with tally.point(f'kill {number}'):
            wait_for(folder / f'iter_{2 * number + 2}.pth', run)
            ranks = [
                child for child in psutil.Process(run.process.pid).children()
                if 'train.py' in ' '.join(child.cmdline())
            ]
            assert len(ranks) == 2
            ranks[number % 2].kill()
            begin = time.monotonic()
            assert run.end(90) != 0
            tally.saw(f'{time.monotonic() - begin:.0f} s')
            assert 'Signal 9 (SIGKILL)' in run.text(), run.text()[-2000:]
            assert_all_whole(folder)
            finish(config, folder, reference, 2)
    tally.end()


def test_results_on_a_full_disk(config, whole, tmp_path):
    reference, _ = whole()
    checkpoint = reference / f'iter_{ITERATIONS}.pth'
    disk = tmp_path / 'disk'

    def work():
        tally = Tally('results of tools/test.py on a full disk')
        for pages in (1, 2, 4):
            fill(disk, pages * os.statvfs(disk).f_bsize)
            test = Command(tmp_path / 'out.txt', sys.executable,
                           ROOT / 'tools' / 'test.py', config, checkpoint,
                           '--work-dir', tmp_path / 'work', '--format-only',
                           disk / 'r')
            with tally.point(f'{pages} pages'):
                assert test.end() == 1
                message = test.message()
                assert f'{disk}/r.' in message, message
                assert 'No space left' in message, message
            for path in disk.iterdir():
                shutil.rmtree(path) if path.is_dir() else path.unlink()
        return tally

    on_small_disk(disk, 1 << 18, work).end()
