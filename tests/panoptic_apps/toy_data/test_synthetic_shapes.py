"""The synthetic data set: what it promises, read back from its files.

That JSON and PNGs agree, and that train and val share no picture, is tested by
tests/panoptic_apps/check_dataset/test_faults.py.
"""
import hashlib

import cv2
import numpy as np
import pytest

from mmengine_exact.errors import InputError
from panoptic_apps.toy_data.synthetic_shapes import (SyntheticShapesDataset,
                                                     draw_scene, write_dataset)

RECIPE = dict(num_train=12, num_val=4, size=64, seed=5)


@pytest.fixture(scope='module')
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp('shapes') / 'data'
    write_dataset(str(root), **RECIPE)
    return root


def test_scenes_have_things_stuff_crowd_void_and_occlusion():
    scenes = [draw_scene(0, i, 96) for i in range(60)]
    segments = [s for _, _, info in scenes for s in info]
    assert {s['category_id']
            for s in segments} == {2, 4, 5, 9, 12, 17, 21, 30, 33}
    assert any(s['iscrowd'] for s in segments)
    assert any((ids == 0).any() for _, ids, _ in scenes)
    # a disk that something covers is no longer round
    covered = [
        s for s in segments
        if s['category_id'] == 2 and not s['iscrowd'] and s['area'] < 0.7 *
        np.pi / 4 * s['bbox'][2] * s['bbox'][3]
    ]
    assert covered


def test_the_seed_decides(tmp_path, root):
    """Scores were recorded with these files. Grey values may differ by a
    rounding from one processor to the next."""
    found, means = hashlib.sha256(), []
    for path in sorted(root.glob('annotations/*/*')):
        found.update(cv2.imread(str(path)))
    for path in sorted(root.glob('train/*')):
        means.append(cv2.imread(str(path)).mean())
    assert found.hexdigest(
    ) == '06049daee0dab0c3203a727e3b8449e4fecc207a63e1e0ab8d7806fb6a7cf811'
    assert means[::5] == pytest.approx([142.8561, 166.9253, 141.9618],
                                       abs=1e-3)
    write_dataset(str(tmp_path / 'again'), **RECIPE)
    for path in root.rglob('*.*'):
        twin = tmp_path / 'again' / path.relative_to(root)
        assert path.read_bytes() == twin.read_bytes()


def test_another_or_a_damaged_recipe_is_not_overwritten(root, tmp_path):
    with pytest.raises(InputError, match='Delete the folder'):
        write_dataset(str(root), **dict(RECIPE, seed=6))
    (tmp_path / 'recipe.json').write_text('{"num_')
    with pytest.raises(InputError, match='holds other files.*Delete'):
        write_dataset(str(tmp_path), **RECIPE)


def test_an_interrupted_call_leaves_nothing_half_written(
        tmp_path, monkeypatch):
    calls = []

    def fail_later(*args):
        calls.append(args)
        if len(calls) == 20:
            raise KeyboardInterrupt
        return True

    target = tmp_path / 'data'
    with monkeypatch.context() as patch:
        patch.setattr(cv2, 'imwrite', fail_later)
        with pytest.raises(KeyboardInterrupt):
            write_dataset(str(target), **RECIPE)
    assert list(tmp_path.iterdir()) == []
    write_dataset(str(target), **RECIPE)
    assert len(list(target.rglob('*.png'))) == 2 * (12 + 4)


def test_runs_that_start_side_by_side_share_the_files(tmp_path, monkeypatch):
    """The second is done while the first still writes."""
    target = tmp_path / 'data'
    plain, nested = cv2.imwrite, []

    def write_amid(path, image):
        if not nested:
            nested.append(path)
            write_dataset(str(target), **RECIPE)
            nested.append(sorted(target.rglob('*')))
        return plain(path, image)

    monkeypatch.setattr(cv2, 'imwrite', write_amid)
    write_dataset(str(target), **RECIPE)
    assert sorted(target.rglob('*')) == nested[1]
    assert list(tmp_path.iterdir()) == [target]


def test_dataset_draws_what_is_missing(tmp_path):
    dataset = SyntheticShapesDataset(
        data_root=str(tmp_path / 'drawn'),
        generate=RECIPE,
        ann_file='annotations/panoptic_val.json',
        data_prefix=dict(img='val/', seg='annotations/panoptic_val/'),
        pipeline=[
            dict(type='LoadPanopticImage'),
            dict(type='LoadPanopticMap')
        ])
    assert len(dataset) == 4
    assert dataset[0]['gt_seg_map'].shape == (64, 64)
    # stuff comes first in the file, things first in the labels
    assert dataset.label_space.thing_names == ('disk', 'triangle', 'star',
                                               'box')
