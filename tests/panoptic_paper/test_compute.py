"""Compute of the paper's models: its printed numbers, claims, the page."""
import json

import pytest
import yaml

from panoptic_paper import compute as module
from panoptic_paper.compute import compute_page, paper_compute, write_compute

from .fakes import ROOT, TABLES


@pytest.fixture(scope='module')
def compute():
    return paper_compute(TABLES)


def test_table1a_to_the_papers_printed_precision(compute):
    printed = {
        label: (round(counts.total.multiply_adds / 1e12,
                      1), round(counts.total.activations / 1e9, 1))
        for label, (_, counts) in compute.table1a.items()
    }
    assert printed == dict(r101=(0.5, 0.8), x101=(0.8, 1.4))
    assert printed == {
        label: (row.paper['flops'], row.paper['memory'])
        for label, (row, _) in compute.table1a.items()
    }


def test_figure4_claims(compute):
    similar, resolution, dilated, symmetric = compute.ratios
    assert similar['multiply_adds'] == pytest.approx(1.07, abs=0.005)
    assert similar['activations'] == pytest.approx(1.03, abs=0.005)
    assert resolution['resolution'] == 4
    assert dilated['multiply_adds'] == pytest.approx(3.47, abs=0.005)
    assert dilated['activations'] == pytest.approx(2.61, abs=0.005)
    assert symmetric['multiply_adds'] == pytest.approx(1.63, abs=0.005)
    assert symmetric['activations'] == pytest.approx(1.71, abs=0.005)
    strides = [counts.stride for _, counts in compute.figure4.values()]
    assert strides == [16, 8, 4, 4]


def test_one_network_needs_less_than_two(compute):
    assert list(compute.table3) == ['coco', 'cityscapes']
    for one, two, deep in compute.table3.values():
        whole = one.total.multiply_adds / two.total.multiply_adds
        assert 0.62 <= whole <= 0.68
        assert one.trunk.multiply_adds / two.trunk.multiply_adds == 0.5
        assert deep.total.multiply_adds < two.total.multiply_adds


def test_claims_are_the_papers(compute):
    path = ROOT.parent / 'shared' / 'paper' / 'tables.yaml'
    if not path.is_file():
        pytest.skip(f'{path}: no such file')
    claims = yaml.safe_load(path.read_text())['figure4']['claims']
    assert [ratio['text'] for ratio in compute.ratios] == claims


def test_committed_page_is_what_the_tool_writes(compute):
    page = (ROOT / 'docs' / 'complexity.md').read_text()
    assert page == compute_page(compute)
    assert page.startswith('<!-- Written by `python tools/paper.py compute`')
    assert (ROOT / 'docs' / 'images' / 'figure4.png').is_file()


def test_files(monkeypatch, tmp_path, compute):
    monkeypatch.setattr(module, 'paper_compute', lambda tables: compute)
    page, picture, numbers = write_compute(TABLES, tmp_path / 'new')
    assert page.read_text() == compute_page(compute)
    content = json.loads(numbers.read_text())
    assert [model['output_stride']
            for model in content['models'].values()] == [16, 8, 4, 4]
    assert len(content['claims']) == 4
    assert picture == tmp_path / 'new' / 'images' / 'figure4.png'
    assert picture.stat().st_size > 1000
