"""Packing against mmdet's, and masks on their way from a loader's worker."""
import copy
from multiprocessing.reduction import ForkingPickler

import numpy as np
import pytest
import torch
from mmdet.datasets.transforms import PackDetInputs
from mmdet.registry import TRANSFORMS
from torch.utils.data import DataLoader, Dataset
from torch.utils.data._utils.pin_memory import pin_memory

from panoptic_fpn.data import PackPanopticInputs
from panoptic_fpn.labels import LabelSpace
from panoptic_fpn.ops.index_map_masks import IndexMapMasks


def scene(count=30, seed=0):
    """A map of ``count`` segments and void, and what a data set says of it."""
    rng = np.random.default_rng(seed)
    cells = rng.integers(0, count + 1, (20, 20)).astype(np.uint8)
    segments = [
        dict(id=i, category=i % 5, iscrowd=int(i % 7 == 3))
        for i in range(count)
    ]
    return dict(
        img=rng.integers(0, 256, (60, 40, 3)).astype(np.uint8),
        img_path='x.png',
        gt_seg_map=cells.repeat(3, axis=0).repeat(2, axis=1),
        segments_info=segments,
        label_space=LabelSpace.from_coco(
            [dict(id=i, name=str(i), isthing=int(i < 3)) for i in range(5)]))


def flat(sample):
    """Everything in a sample, as comparable arrays."""
    found = {}
    for group in ('gt_instances', 'ignored_instances'):
        data = sample.get(group)
        found[group] = sorted(data.keys())
        for key, value in data.items():
            value = getattr(value, 'tensor', getattr(value, 'masks', value))
            found[group, key] = (value.dtype, tuple(value.shape),
                                 np.asarray(value).tolist())
    found['sem_seg'] = sample.gt_sem_seg.sem_seg.tolist()
    found['meta'] = sample.metainfo
    return found


@pytest.mark.parametrize('flip', [False, True])
@pytest.mark.parametrize('crowd', ['none', 'some', 'all', 'no things'])
@pytest.mark.parametrize('image', ['uint8', 'float32', 'gray'])
def test_packed_as_mmdet_packs(crowd, flip, image):
    results = scene()
    for segment in results['segments_info']:
        if crowd != 'some':
            segment['iscrowd'] = int(crowd == 'all')
        if crowd == 'no things':
            segment['category'] = 3
    if flip:
        flipping = TRANSFORMS.build(dict(type='RandomFlip', prob=1.0))
        results = flipping(results)
        assert not results['img'].flags.c_contiguous
    results = TRANSFORMS.build(dict(type='DerivePanopticTargets'))(results)
    if image == 'gray':
        results['img'] = results['img'][..., 0]
    else:
        results['img'] = results['img'].astype(image)
    pack = TRANSFORMS.build(dict(type='PackPanopticInputs'))
    expected = PackDetInputs(meta_keys=pack.meta_keys)(copy.deepcopy(results))
    packed = pack(results)
    assert list(packed) == list(expected) == ['inputs', 'data_samples']
    assert packed['inputs'].dtype == expected['inputs'].dtype
    assert packed['inputs'].is_contiguous()
    assert torch.equal(packed['inputs'], expected['inputs'])
    assert flat(packed['data_samples']) == flat(expected['data_samples'])


class Maps(Dataset):

    def __len__(self):
        return 2

    def __getitem__(self, index):
        results = TRANSFORMS.build(dict(type='DerivePanopticTargets'))(scene())
        return PackPanopticInputs(meta_keys=())(results)['data_samples']


def test_a_worker_hands_one_map_over():
    sample = Maps()[0]
    parts = [sample.gt_instances.masks, sample.ignored_instances.masks]
    expected = [masks.to_ndarray() for masks in parts]
    assert all(map(len, parts)) and expected[0].shape[1:] == (60, 40)
    assert len(ForkingPickler.dumps(parts)) < 2000  # a map has 2400 bytes
    for received, in DataLoader(Maps(), num_workers=1, collate_fn=list):
        found = [received.gt_instances.masks, received.ignored_instances.masks]
        assert found[0].index_map is found[1].index_map
        for masks, bitmaps in zip(found, expected):
            assert isinstance(masks, IndexMapMasks)
            assert np.array_equal(masks.to_ndarray(), bitmaps)


def test_pinned_is_what_a_gpu_gets(monkeypatch):
    """The maps, of which the host would wait for the copies."""
    pinned = []
    monkeypatch.setattr(torch.Tensor, 'pin_memory',
                        lambda self: pinned.append(self.clone()) or pinned[-1])
    results = TRANSFORMS.build(
        dict(type='DerivePanopticTargets', panoptic=True))(
            scene())
    sample = PackPanopticInputs(meta_keys=())(results)['data_samples']
    batch = pin_memory(dict(data_samples=[copy.deepcopy(sample)]))
    found = batch['data_samples'][0]
    for data in (found.gt_sem_seg.sem_seg, found.gt_instances.labels,
                 found.gt_instances.masks.index_map):
        assert any(data is one for one in pinned)
    assert len(pinned) == 3
    assert flat(found) == flat(sample)
    # an evaluation's sample has neither
    del found.gt_sem_seg, found.gt_instances
    assert pin_memory(found) is found
