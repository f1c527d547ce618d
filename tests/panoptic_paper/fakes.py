"""Folders of runs as the tests need them."""
import json

from panoptic_paper.runs import run_of
from panoptic_paper.tables import read_tables
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
