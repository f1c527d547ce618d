"""Loading and deriving many segments, packing against mmdet's, and masks on
their way from a worker of the loader."""
import copy
import pickle
from multiprocessing.reduction import ForkingPickler

import cv2
import numpy as np
import pytest
import torch
from mmdet.datasets.transforms import PackDetInputs
from mmdet.registry import TRANSFORMS
from mmdet.structures.mask import BitmapMasks
from torch.utils.data import DataLoader, Dataset

from panoptic_fpn.data import LoadPanopticMap, PackPanopticInputs
from panoptic_fpn.data.load_map import segment_values
from panoptic_fpn.labels import LabelSpace, id_to_rgb
from tests.oracles.derive import derive_instances, derive_semantic


def write_scene(folder, count, gray, seed=0):
    """A PNG of ``count`` segments, and what a data set says of it."""
    rng = np.random.default_rng(seed)
    ids = rng.choice(
        np.arange(1, 2**16 - 1 if gray else 2**24), count, replace=False)
    cells = np.append(ids, rng.choice(ids, 400 - count))
    cells[-20:] = 0
    id_map = rng.permutation(cells).reshape(20, 20)
    # all segments are left, in pieces
    id_map = id_map.repeat(3, axis=0).repeat(2, axis=1)
    png = folder / 'map.png'
    pixels = id_map.astype(np.uint16) if gray else id_to_rgb(id_map)[..., ::-1]
    assert cv2.imwrite(str(png), np.ascontiguousarray(pixels))
    segments = [
        dict(id=int(id_), category=i % 5, iscrowd=int(i % 7 == 3))
        for i, id_ in enumerate(ids)
    ]
    space = LabelSpace.from_coco(
        [dict(id=i, name=str(i), isthing=int(i < 3)) for i in range(5)])
    results = dict(
        img=rng.integers(0, 256, id_map.shape + (3, )).astype(np.uint8),
        img_path='x.png',
        ori_shape=id_map.shape,
        seg_map_path=str(png),
        segments_info=segments,
        label_space=space)
    if gray:
        results['void_ids'] = [0]
    return results, id_map


@pytest.mark.parametrize('gray', [False, True], ids=['rgb', '16 bits'])
@pytest.mark.parametrize('count, dtype', [(5, np.uint8), (254, np.uint8),
                                          (255, np.uint16), (370, np.uint16)])
def test_loading_and_deriving_many_segments(tmp_path, count, dtype, gray):
    results, id_map = write_scene(tmp_path, count, gray)
    results = LoadPanopticMap()(results)
    index_map = results['gt_seg_map']
    assert index_map.dtype == dtype and index_map.flags.writeable
    expected = np.zeros(id_map.shape, int)
    for segment, value in zip(results['segments_info'], segment_values(count)):
        expected[id_map == segment['id']] = value
    assert (index_map == expected).all() and 255 not in index_map

    results['gt_seg_map'] = index_map[:, ::-1]
    results = TRANSFORMS.build(dict(type='DerivePanopticTargets'))(results)
    categories = [dict(id=i, isthing=i < 3) for i in range(5)]
    segments = [
        dict(s, category_id=s['category']) for s in results['segments_info']
    ]
    oracle = derive_instances(id_map[:, ::-1], segments, categories)
    assert (results['gt_bboxes'].numpy() == oracle['boxes']).all()
    assert (results['gt_masks'].masks == oracle['masks']).all()
    assert results['gt_masks'].masks.dtype == np.uint8
    assert (results['gt_bboxes_labels'] == oracle['labels']).all()
    assert (results['gt_ignore_flags'] == oracle['crowd']).all()
    assert (results['gt_seg_map'] == derive_semantic(id_map[:, ::-1], segments,
                                                     categories)).all()


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
def test_packed_as_mmdet_packs(tmp_path, crowd, flip, image):
    results, _ = write_scene(tmp_path, 30, gray=False)
    for segment in results['segments_info']:
        if crowd != 'some':
            segment['iscrowd'] = int(crowd == 'all')
        if crowd == 'no things':
            segment['category'] = 3
    results = LoadPanopticMap()(results)
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


def packed(crowd=(False, True, False)):
    bitmaps = np.random.default_rng(0).integers(0, 2, (len(crowd), 200, 300),
                                                np.uint8)
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
        result.to_tensor(torch.uint8, 'cpu'), torch.from_numpy(masks.masks))
