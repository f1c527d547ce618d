"""A disk that is full: one line names the file, the last checkpoint stays,
and with room again the run ends with the bits of one that had room always.
"""
import builtins
import errno
import io
import logging
import os
import random
import re

import pytest

from mmengine_exact import ResumableIterTrainLoop
from tests.mmengine_exact import toy

from .runs import (ITERATIONS, OPTIONS, Run, Tally, assert_all_whole,
                   checkpoint_of, fill, on_small_disk, resume)

PAGE = 4096
#: How often the disk is full, shared among the processes of a run.
POINTS = 40


class _Limited(io.FileIO):
    """Takes so many bytes, then the disk is full."""

    def __init__(self, path, mode, room):
        super().__init__(path, mode)
        self.room = room

    def write(self, data):
        self.room -= len(data)
        if self.room < 0:
            raise OSError(28, os.strerror(28))
        return super().write(data)


def full_at(name, number, room=0):
    """The ``number``-th time that a file of this name is written."""

    def fault(rank):
        real, count = builtins.open, [0]

        def patched(file, mode='r', *args, **kwargs):
            if not re.search(name, str(file)) or not set('wax') & set(mode):
                return real(file, mode, *args, **kwargs)
            count[0] += 1
            if count[0] != number:
                return real(file, mode, *args, **kwargs)
            raw = _Limited(str(file), mode.replace('b', ''), room)
            buffered = io.BufferedWriter(raw)
            return buffered if 'b' in mode else io.TextIOWrapper(buffered)

        builtins.open = patched

    return fault


@pytest.mark.parametrize('name, number, room, shown, least', [
    (r'iter_\d+.pth.\w+.part$', 6, 999, r'iter_\d+.pth cannot be written', 2),
    (r'last_checkpoint$', 3, 3, r'last_checkpoint cannot be written', 4),
    pytest.param(
        r'/\.best_[^/]*part$',
        1,
        0,
        r'best_\w+.pth cannot be written',
        2,
        marks=pytest.mark.slow),
    pytest.param(
        r'scalars.json$',
        2,
        9,
        r'scalars.json cannot be written',
        4,
        marks=pytest.mark.slow),
    pytest.param(
        r'metrics.json.\w+.part$',
        2,
        9,
        r'metrics.json cannot be written',
        4,
        marks=pytest.mark.slow),
])
def test_the_file_is_named(reference, tmp_path, name, number, room, shown,
                           least):
    whole, _ = reference()
    run = Run(tmp_path, fault=full_at(name, number, room))
    assert run.end() == [1]
    message = run.message()
    assert re.search(shown, message) and 'disk is full' in message, message
    assert checkpoint_of(tmp_path) >= least
    assert_all_whole(tmp_path)
    resume(tmp_path, whole)


def failing_sync(kind, number):
    """The ``number``-th time that a file, or a folder, is to be flushed."""

    def fault(rank):
        real, count = os.fsync, [0]

        def patched(descriptor):
            if os.path.isdir(f'/proc/self/fd/{descriptor}') == (
                    kind == 'folder'):
                count[0] += 1
                if count[0] == number:
                    raise OSError(errno.EIO, os.strerror(errno.EIO))
            return real(descriptor)

        os.fsync = patched

    return fault


@pytest.mark.parametrize('kind', ['file', 'folder'])
def test_what_does_not_come_to_the_disk_is_named(reference, tmp_path, kind):
    """As by a broken disk, after all was written."""
    whole, _ = reference()
    run = Run(tmp_path, fault=failing_sync(kind, 7))
    assert run.end() == [1]
    message = run.message()
    assert re.search(rf'\w+.pth: {os.strerror(errno.EIO)}', message), message
    assert checkpoint_of(tmp_path) >= 4
    assert_all_whole(tmp_path)
    resume(tmp_path, whole)


def test_lost_lines_of_the_log_are_reported_once(tmp_path, capsys):
    runner = toy.PanopticRunner.from_cfg(toy.toy_config(tmp_path))
    file = next(
        handler for handler in runner.logger.handlers
        if isinstance(handler, logging.FileHandler))
    file.setStream(open('/dev/full', 'w'))
    capsys.readouterr()
    runner.logger.info('one')
    runner.logger.info('two')
    shown = capsys.readouterr().err
    assert shown.count('.log: lines of the log are lost') == 1
    assert 'No space left' in shown and 'Traceback' not in shown


def fill_at(folder, at, room):
    """Leave so many bytes of a disk before an iteration."""

    def fault(rank):
        run_iter = ResumableIterTrainLoop.run_iter

        def patched(self, batch):
            if self._iter == at and not rank:
                fill(folder, room)
            return run_iter(self, batch)

        ResumableIterTrainLoop.run_iter = patched

    return fault


@pytest.mark.slow
@pytest.mark.parametrize('world', [1, 2])
def test_a_small_disk(reference, tmp_path, world):
    hooks = [*OPTIONS['custom_hooks'], dict(type='RunRecordHook')]
    whole, _ = reference(world, custom_hooks=hooks)
    disk = tmp_path / 'disk'
    draw = random.Random(world)

    def work():
        tally = Tally(f'full disk (tmpfs), {world} processes')
        while tally.tried < POINTS // world:
            at, pages = draw.randrange(ITERATIONS), draw.randrange(8)
            folder = disk / 'run'
            # what a process prints is not on the disk that is full
            run = Run(
                folder,
                world,
                fault=fill_at(disk, at, pages * PAGE),
                out=tmp_path,
                custom_hooks=hooks)
            codes = run.end()
            if codes == [0] * world:
                tally.saw('had room enough')
            else:
                with tally.point(f'iteration {at}, {pages} pages'):
                    shown(run, tally)
                    assert checkpoint_of(folder) >= at // 2 * 2 - 2
                    assert_all_whole(folder)
                    os.remove(disk / 'ballast')
                    resume(folder, whole, world, custom_hooks=hooks)
            for path in sorted(disk.rglob('*'), reverse=True):
                path.rmdir() if path.is_dir() else path.unlink()
        return tally

    def shown(run, tally):
        texts = [run.message(rank) for rank in range(world)]
        full = [t for t in texts if 'disk is full' in t]
        assert full, texts
        name = re.search(rf'{disk}/\S*?([\w.]+)[: ]', full[0])[1]
        tally.saw(re.sub(r'\d+', 'N', name))

    on_small_disk(disk, 2 << 20, work).end()
