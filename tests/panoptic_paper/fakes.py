"""Folders of runs and processes as the tests need them."""
import json

from panoptic_paper.plan import run_of
from panoptic_paper.rows import read_tables
from tests.conftest import REPO_ROOT

ROOT = REPO_ROOT
TABLES_FILE = ROOT / 'configs' / 'paper' / 'tables.yml'
TABLES = read_tables(TABLES_FILE)


def write_metrics(work_dir,
                  row,
                  seed,
                  miniature=False,
                  tables=TABLES,
                  **metrics):
    """The evaluation of a row's run; keys as metrics.json has them, with
    ``__`` for '/'."""
    folder = run_of(tables, tables.row(row), miniature).folder(work_dir, seed)
    path = folder / 'test' / 'metrics.json'
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(
        json.dumps({
            k.replace('__', '/'): v
            for k, v in metrics.items()
        }))
    return path


class FakeProcess:
    """Ends after some looks at it, and does then what a step would."""

    def __init__(self, code, looks, effect):
        self.code, self.looks, self.effect = code, looks, effect
        self.pid = 2**22 + 1  # larger than any process id

    def poll(self):
        if self.looks > 0:
            self.looks -= 1
            return None
        self.effect()
        self.effect = lambda: None
        return self.code

    def wait(self, timeout=None):
        return self.code


class FakeRunner:
    """Starts no process; writes outputs, or fails where it is told to."""

    def __init__(self, steps, failing=(), looks=0, silent=()):
        self.by_command = {step.command: step for step in steps}
        self.failing, self.looks, self.silent = failing, looks, silent
        self.started, self.slots, self.running = [], [], 0
        self.most = 0

    def __call__(self, command, log, slot, inherited):
        step = self.by_command[command]
        self.started.append(step.what + ' ' + step.kind)
        self.slots.append(slot)
        self.running += 1
        self.most = max(self.most, self.running)
        fails = any(text in step.what for text in self.failing)
        if fails:
            log.write(b'Loading\nerror: c.py: lr is 0. Set it.\n')

        def effect():
            self.running -= 1
            if not fails and step.what not in self.silent:
                step.output.parent.mkdir(parents=True, exist_ok=True)
                step.output.write_text('{}')

        return FakeProcess(int(fails), self.looks, effect)
