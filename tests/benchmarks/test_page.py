"""docs/performance.md says what docs/benchmark says."""
import pytest

from benchmarks import figures, memory, page, performance, run, two_processes
from benchmarks.page import BEGIN, END, PageError, with_figures

from .fakes import row


def test_page_is_current():
    assert page.PAGE.read_text() == page.current(), 'python -m benchmarks.page'


def test_figures_of_the_docs_are_whole():
    """Of all stages, none of which failed."""
    found = figures.figures('benchmark')
    assert list(found['stages']) == list(run.STAGES)
    assert not any(stage['error'] for stage in found['stages'].values())
    for name in ('benchmark', 'scaling', 'memory', 'endurance'):
        assert (figures.FOLDER / f'{name}.png').is_file()


def test_figures_go_between_the_markers():
    old = f'# A\n\n{BEGIN}\nold\n{END}\n\nmore\n'
    text = with_figures(old, '| new |')
    assert text == f'# A\n\n{BEGIN}\n| new |\n{END}\n\nmore\n'
    assert with_figures(text, '| new |') == text


def test_cores_of_a_gpu_by_hand():
    rows = [
        row('input pipeline', 'photograph to 800x1199', 0.01, 0.04),
        row('input pipeline', '2048x1024 PNG, 51 segments', 0.05, 0.5)
    ]
    coco, cityscapes = performance.loaders(rows)
    assert (coco.ours, cityscapes.mmdet) == (0.01, 0.5)
    # 16 images in 0.304 s on 8 GPUs
    assert coco.images == pytest.approx(6.579, abs=1e-3)
    # a crop has 0.614 of the pixels
    assert cityscapes.images == pytest.approx(10.712, abs=1e-3)
    assert performance.cores(8 * cityscapes.images, cityscapes.ours) == 5
    assert performance.cores(8 * cityscapes.images, cityscapes.mmdet) == 43
    with pytest.raises(PageError, match='2048x1024'):
        performance.loaders(rows[:1])


def test_gradients_by_hand():
    # 8 GPUs: 7 steps to reduce an eighth each, 7 to gather
    assert performance.ring_bytes(800, 8) == 1400
    assert performance.ring_bytes(640, 64) == 1260


def test_parameters_are_those_of_the_models():
    found = performance.trained_parameters()
    # R101 has 17 blocks more in its third stage; BatchNorm is not trained
    block = 1024 * 256 + 9 * 256 * 256 + 256 * 1024
    assert found['R101'] - found['R50'] == 17 * block


def test_efficiency_of_two_processes():
    rates = {'1': [10., 12., 11.], '2': [19., 11., 16.5]}
    assert two_processes.efficiency(rates) == 0.75


def test_bytes_of_an_image():
    line = dict(
        points=[
            dict(images=100, held=5 * 10**6, rows=10**5),
            dict(images=300, held=6 * 10**6, rows=6 * 10**5)
        ],
        compute_peak=0)
    assert memory.row_bytes(line) == 2000.
    assert memory.held_bytes(line) == 5000.
