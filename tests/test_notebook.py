"""docs/photograph_to_pq.ipynb is valid, has no outputs, and runs."""
import json
import os
import re

import pytest

from .conftest import REPO_ROOT

NOTEBOOK = REPO_ROOT / 'docs' / 'photograph_to_pq.ipynb'


def test_it_is_valid_and_has_no_outputs():
    notebook = json.loads(NOTEBOOK.read_text())
    code = [c for c in notebook['cells'] if c['cell_type'] == 'code']
    for cell in code:
        assert not cell['outputs'] and cell['execution_count'] is None
        compile(''.join(cell['source']), cell['id'], 'exec')
    pytest.importorskip('nbformat').validate(notebook)


def rows(html):
    """Texts of the cells of a table, without its head."""
    lines = re.findall('<tr>(.*?)</tr>', html, re.S)[1:]
    return [re.findall('<td[^>]*>(.*?)</td>', line) for line in lines]


@pytest.mark.slow
def test_it_runs(tmp_path, monkeypatch):
    """In a folder without weights and data: it trains, and draws its data."""
    nbclient = pytest.importorskip('nbclient')
    pytest.importorskip('ipykernel')
    nbformat = pytest.importorskip('nbformat')
    for name in ('configs', 'tools'):
        (tmp_path / name).symlink_to(REPO_ROOT / name)
    (tmp_path / 'docs').mkdir()
    path = [str(REPO_ROOT / 'projects'), os.environ.get('PYTHONPATH', '')]
    monkeypatch.setenv('PYTHONPATH', os.pathsep.join(path))
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    nbclient.NotebookClient(
        notebook,
        timeout=600,
        kernel_name='python3',
        resources=dict(metadata=dict(path=str(tmp_path / 'docs')))).execute()

    shown = [
        output.data for cell in notebook.cells if cell.cell_type == 'code'
        for output in cell.outputs if output.output_type == 'execute_result'
    ]
    _, photograph, overlay, segments, scores = shown
    assert photograph['image/png'] != overlay['image/png']
    area = [int(row[4]) for row in rows(segments['text/html'])]
    assert 128 * 128 / 2 < sum(area) <= 128 * 128
    (_, pq, *_), things, stuff = rows(scores['text/html'])
    assert 20 < float(pq) < 100
    # a mean over the classes of both
    low, high = sorted([float(things[1]), float(stuff[1])])
    assert low <= float(pq) <= high
