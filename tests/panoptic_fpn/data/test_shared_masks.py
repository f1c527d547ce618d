"""Masks on their way from a worker of the loader."""
import copy
import pickle
from multiprocessing.reduction import ForkingPickler

import numpy as np
import pytest
import torch
from mmdet.structures.mask import BitmapMasks
from torch.utils.data import DataLoader, Dataset

from panoptic_fpn.data import PackPanopticInputs


def packed(crowd=(False, True, False)):
    bitmaps = np.random.default_rng(0).integers(
        0, 2, (len(crowd), 200, 300), np.uint8)
    results = dict(
        img=np.zeros((200, 300, 3), np.uint8),
        gt_masks=BitmapMasks(bitmaps.copy(), 200, 300),
        gt_bboxes=np.zeros((len(crowd), 4), np.float32),
        gt_bboxes_labels=np.zeros(len(crowd), np.int64),
        gt_ignore_flags=np.array(crowd, bool))
    return PackPanopticInputs(meta_keys=())(results)['data_samples'], bitmaps


class Samples(Dataset):

    def __len__(self):
        return 2

    def __getitem__(self, index):
        return packed()[0]


def test_a_worker_hands_them_over_in_shared_memory():
    sample, bitmaps = packed()
    parts = (sample.gt_instances.masks, sample.ignored_instances.masks)
    assert all(isinstance(masks, BitmapMasks) for masks in parts)
    # a pipe would take all of the 60,000 bytes each
    assert sum(len(ForkingPickler.dumps(masks)) for masks in parts) < 4000
    for received, in DataLoader(Samples(), num_workers=1, collate_fn=list):
        found = received.gt_instances.masks
        assert np.array_equal(found.masks, bitmaps[[0, 2]])
        assert (found.height, found.width) == (200, 300)
        assert np.array_equal(received.ignored_instances.masks.masks,
                              bitmaps[[1]])
        # and are the receiver's to change
        found.masks[:] = 0
        assert received.gt_instances.masks.masks.sum() == 0


@pytest.mark.parametrize(
    'through',
    [lambda m: pickle.loads(pickle.dumps(m)), copy.deepcopy, copy.copy],
    ids=['pickle', 'deepcopy', 'copy'])
@pytest.mark.parametrize('crowd', [(False, True), (True, ), (False, )])
def test_other_ways_of_copying(through, crowd):
    masks = packed(crowd)[0].gt_instances.masks
    result = through(masks)
    assert type(result) is type(masks) and len(result) == len(masks)
    assert np.array_equal(result.masks, masks.masks)
    flipped = result.flip().pad((256, 320))
    assert flipped.masks.shape == (len(masks), 256, 320)
    assert torch.equal(
        result.to_tensor(torch.uint8, 'cpu'),
        torch.from_numpy(masks.masks))
