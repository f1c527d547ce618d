"""The visualizer and the hook on hand-made samples."""
from types import SimpleNamespace
from unittest.mock import MagicMock

import cv2
import numpy as np
import pytest
from mmdet.registry import HOOKS, VISUALIZERS

import panoptic_fpn.visualization  # noqa: F401
from mmengine_exact.errors import CorruptFileError
from panoptic_fpn.visualization.image_io import read_image, write_image

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


def make_runner(visualizer, tmp_path, iteration=100):
    return SimpleNamespace(
        visualizer=visualizer,
        iter=iteration,
        work_dir=str(tmp_path),
        timestamp='now')


def make_samples(tmp_path, names):
    image, panoptic = scene()
    samples = []
    for name in names:
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        write_image(str(path), image)
        samples.append(sample(panoptic, panoptic, img_path=str(path)))
    return samples


def run(hook, stage, runner, batches):
    getattr(hook, f'before_{stage}_epoch')(runner)
    for i, batch in enumerate(batches):
        getattr(hook, f'after_{stage}_iter')(runner, i, None, batch)


def test_hook_draws_the_first_images_of_every_validation(tmp_path):
    hook = HOOKS.build(dict(type='PanopticVisualizationHook', num_images=3))
    samples = make_samples(tmp_path, [f'{i}.png' for i in range(6)])
    visualizer = MagicMock()
    for iteration in (10, 20):
        run(hook, 'val', make_runner(visualizer, tmp_path, iteration),
            [samples[:2], samples[2:4], samples[4:]])
    calls = visualizer.add_datasample.call_args_list
    assert [c.args[0] for c in calls] == ['val_0', 'val_1', 'val_2'] * 2
    assert [c.kwargs['step'] for c in calls] == [10] * 3 + [20] * 3
    image, _ = scene()
    assert np.array_equal(calls[0].args[1], image), 'RGB, as it was written'


def test_hook_interval_and_off(tmp_path):
    samples = make_samples(tmp_path, [f'{i}.png' for i in range(7)])
    for kwargs, expected in ((dict(interval=3), [0, 3, 6]),
                             (dict(interval=3, num_images=1),
                              [0]), (dict(draw=False), [])):
        visualizer = MagicMock()
        hook = HOOKS.build(dict(type='PanopticVisualizationHook', **kwargs))
        run(hook, 'val', make_runner(visualizer, tmp_path), [samples])
        names = [c.args[0] for c in visualizer.add_datasample.call_args_list]
        assert names == [f'val_{i}' for i in expected]


def test_hook_writes_all_pictures_of_a_test(visualizer, tmp_path):
    hook = HOOKS.build(
        dict(type='PanopticVisualizationHook', test_out_dir='pictures'))
    samples = make_samples(tmp_path, ['a/0.png', 'b/0.png', 'b/1.png'])
    run(hook, 'test', make_runner(visualizer, tmp_path), [samples])
    written = sorted(p.name for p in (tmp_path / 'now/pictures').iterdir())
    assert written == ['0.png', '0_2.png', '1.png']
    assert backend_files(tmp_path) == []
    # nothing unless asked to
    hook, other = HOOKS.build(
        dict(type='PanopticVisualizationHook')), MagicMock()
    run(hook, 'test', make_runner(other, tmp_path), [samples])
    assert other.add_datasample.call_count == 0


def test_hook_goes_on_without_an_image(tmp_path):
    hook = HOOKS.build(dict(type='PanopticVisualizationHook'))
    samples = make_samples(tmp_path, ['0.png', '1.png'])
    (tmp_path / '0.png').unlink()
    visualizer = MagicMock()
    run(hook, 'val', make_runner(visualizer, tmp_path), [samples])
    assert visualizer.add_datasample.call_count == 1


@pytest.mark.parametrize('content', [None, b'', b'no image'])
def test_a_bad_image_is_named(tmp_path, content):
    path = tmp_path / 'bad.jpg'
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(CorruptFileError, match=r'bad\.jpg: .*\. \w+ .*\.$'):
        read_image(path)


def test_a_key_that_a_backend_does_not_know_is_named():
    from mmengine.fileio import LocalBackend, register_backend

    class Forgetful(LocalBackend):

        def get(self, filepath):
            return None

    register_backend('forgetful', Forgetful, force=True)
    with pytest.raises(CorruptFileError, match='lost.jpg.*no such key'):
        read_image('lost.jpg', dict(backend='forgetful'))
