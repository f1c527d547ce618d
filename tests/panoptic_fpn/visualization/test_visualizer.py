"""The visualizer and the hook on hand-made samples."""
from types import SimpleNamespace
from unittest.mock import MagicMock

import cv2
import numpy as np
import pytest
from mmdet.registry import HOOKS, VISUALIZERS

import panoptic_fpn.visualization  # noqa: F401
from panoptic_fpn.visualization.image_io import write_image

from .scenes import BOX, DISK, SPACE, sample, scene


@pytest.fixture
def visualizer(tmp_path):
    made = VISUALIZERS.build(
        dict(
            type='PanopticVisualizer',
            name=f'test-{tmp_path.name}',
            save_dir=str(tmp_path),
            vis_backends=[dict(type='LocalVisBackend')]))
    made.dataset_meta = SPACE.metainfo()
    return made


def backend_files(tmp_path):
    return sorted(p.name for p in (tmp_path / 'vis_data').rglob('*.png'))


def test_prediction_beside_ground_truth(visualizer):
    image, panoptic = scene()
    both = visualizer.draw(image, sample(panoptic, panoptic))
    prediction = visualizer.draw(image, sample(panoptic))
    truth = visualizer.draw(image, sample(truth=panoptic))
    assert prediction.shape == truth.shape == (360, 540, 3)
    # One map, one picture: colours match between the panels.
    assert np.array_equal(prediction, truth)
    assert both.shape[1] > 2 * 540 and both.shape[0] > 360
    top = both.shape[0] - 360
    windows = [
        both[r:r + 360, c:c + 540] for r in range(top + 1) for c in (6, 7, 8)
    ]
    assert any(np.array_equal(w, prediction) for w in windows)
    # a crowd is named
    truth, crowd = (
        visualizer.draw(image, sample(truth=panoptic, crowd_codes=codes))
        for codes in ([], [BOX + 1000]))
    assert not np.array_equal(truth, crowd)


@pytest.mark.parametrize('draw_gt,draw_pred,expected',
                         [(True, False, 'truth'), (False, True, 'prediction'),
                          (False, False, 'image')])
def test_what_is_drawn_can_be_chosen(visualizer, draw_gt, draw_pred, expected):
    image, panoptic = scene()
    truth = np.where(panoptic == DISK + 4000, BOX + 9000, panoptic)
    wanted = dict(
        truth=visualizer.draw(image, sample(truth=truth)),
        prediction=visualizer.draw(image, sample(panoptic, truth), False),
        image=visualizer.draw(image))
    found = visualizer.draw(image, sample(panoptic, truth), draw_gt, draw_pred)
    assert np.array_equal(found, wanted[expected])


def test_without_class_names_the_error_says_what_to_set(visualizer):
    visualizer.dataset_meta = {}
    image, panoptic = scene()
    with pytest.raises(ValueError, match='metainfo.*thing_classes'):
        visualizer.draw(image, sample(panoptic))


def test_backends_and_out_file(visualizer, tmp_path):
    image, panoptic = scene()
    visualizer.add_datasample('val_a', image, sample(panoptic), step=7)
    assert backend_files(tmp_path) == ['val_a_7.png']
    out_file = tmp_path / 'new' / 'picture.png'
    visualizer.add_datasample(
        'val_a', image, sample(panoptic), out_file=str(out_file))
    written = cv2.imread(str(out_file))[..., ::-1]
    assert np.array_equal(written, visualizer.get_image())
    assert backend_files(tmp_path) == ['val_a_7.png']


def make_samples(tmp_path, names):
    image, panoptic = scene()
    samples = []
    for name in names:
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        write_image(str(path), image)
        samples.append(sample(panoptic, panoptic, img_path=str(path)))
    return samples


def run(tmp_path, stage, batches, visualizer=None, iteration=100, **kwargs):
    """Let the hook see batches; the calls of the visualizer."""
    visualizer = visualizer or MagicMock()
    hook = HOOKS.build(dict(type='PanopticVisualizationHook', **kwargs))
    runner = SimpleNamespace(
        visualizer=visualizer,
        iter=iteration,
        work_dir=str(tmp_path),
        timestamp='now')
    for _ in range(2):
        getattr(hook, f'before_{stage}_epoch')(runner)
        for i, batch in enumerate(batches):
            getattr(hook, f'after_{stage}_iter')(runner, i, None, batch)
    if isinstance(visualizer, MagicMock):
        return visualizer.add_datasample.call_args_list


@pytest.mark.parametrize('kwargs, drawn', [
    (dict(), [0, 1, 2, 3]),
    (dict(num_images=3), [0, 1, 2]),
    (dict(num_images=None), [0, 1, 2, 3, 4, 5]),
    (dict(interval=3), [0, 3]),
    (dict(interval=3, num_images=1), [0]),
    (dict(draw=False), []),
])
def test_hook_draws_the_same_images_in_every_validation(
        tmp_path, kwargs, drawn):
    samples = make_samples(tmp_path, [f'{i}.png' for i in range(6)])
    batches = [samples[:2], samples[2:4], samples[4:]]
    calls = run(tmp_path, 'val', batches, iteration=20, **kwargs)
    assert [c.args[0] for c in calls] == [f'val_{i}' for i in drawn] * 2
    assert all(c.kwargs['step'] == 20 for c in calls)
    image, _ = scene()
    assert all(np.array_equal(c.args[1], image) for c in calls), 'RGB'


def test_hook_writes_all_pictures_of_a_test(visualizer, tmp_path):
    """But none unless asked to."""
    samples = make_samples(tmp_path, ['a/0_2.png', 'a/0.png', 'b/0.png'])
    run(tmp_path, 'test', [samples], visualizer, test_out_dir='pictures')
    written = sorted(p.name for p in (tmp_path / 'now/pictures').iterdir())
    assert written == ['0.png', '0_2.png', '0_3.png']
    assert backend_files(tmp_path) == []
    assert run(tmp_path, 'test', [samples]) == []


def test_hook_goes_on_without_an_image(tmp_path):
    samples = make_samples(tmp_path, ['0.png', '1.png'])
    (tmp_path / '0.png').unlink()
    assert {c.args[0] for c in run(tmp_path, 'val', [samples])} == {'val_1'}
