"""The data preprocessor against mmdet's."""
import copy

import numpy as np
import pytest
import torch
from mmdet.models import DetDataPreprocessor
from mmdet.structures import DetDataSample
from mmdet.structures.bbox import HorizontalBoxes
from mmdet.structures.mask import BitmapMasks
from mmengine.structures import InstanceData, PixelData

from panoptic_fpn.models import PanopticDataPreprocessor
from panoptic_fpn.ops.index_map_masks import IndexMapMasks

OPTIONS = dict(
    mean=[1., 2., 3.],
    std=[2., 3., 4.],
    pad_size_divisor=32,
    pad_mask=True,
    pad_seg=True,
    seg_pad_value=-1)
#: The second fills the batch.
SHAPES = ((50, 70), (64, 96), (64, 70), (33, 96))


def batch(as_maps, semantic=True, masks=True):
    """Images with masks, as a loader gives them."""
    rng = np.random.default_rng(0)
    data = dict(inputs=[], data_samples=[])
    for height, width in SHAPES:
        image = rng.integers(0, 256, (3, height, width), np.uint8)
        index_map = rng.integers(0, 5, (height, width), np.uint8)
        of_sample = IndexMapMasks(
            torch.from_numpy(index_map), np.array([3, 1], np.uint8))
        if not as_maps:
            of_sample = BitmapMasks(of_sample.masks, height, width)
        sample = DetDataSample(metainfo=dict(img_shape=(height, width)))
        sample.gt_instances = InstanceData(
            bboxes=HorizontalBoxes(torch.rand(2, 4)), labels=torch.arange(2))
        if masks:
            sample.gt_instances.masks = of_sample
        if semantic:
            labels = torch.from_numpy(index_map[None].astype(np.int16))
            sample.gt_sem_seg = PixelData(sem_seg=labels)
        data['inputs'].append(torch.from_numpy(image))
        data['data_samples'].append(sample)
    return data


@pytest.mark.parametrize('masks', [True, False])
@pytest.mark.parametrize('semantic', [True, False])
@pytest.mark.parametrize('as_maps', [True, False])
@pytest.mark.parametrize('training', [True, False])
def test_a_batch_is_mmdets(training, as_maps, semantic, masks):
    data = batch(as_maps, semantic, masks)
    found = PanopticDataPreprocessor(**OPTIONS)(copy.deepcopy(data), training)
    expected = DetDataPreprocessor(**OPTIONS)(data, training)
    assert torch.equal(found['inputs'], expected['inputs'])
    for one, other in zip(found['data_samples'], expected['data_samples']):
        assert one.metainfo == other.metainfo
        assert torch.equal(one.gt_instances.bboxes, other.gt_instances.bboxes)
        if masks:
            one_masks, other_masks = (
                x.gt_instances.masks for x in (one, other))
            assert isinstance(one_masks, IndexMapMasks) == as_maps
            assert np.array_equal(one_masks.masks, other_masks.masks)
            assert one_masks.height == other_masks.height
        if semantic:
            assert torch.equal(one.gt_sem_seg.sem_seg,
                               other.gt_sem_seg.sem_seg)


def test_masks_that_fill_the_batch_are_not_copied():
    data = batch(True)
    masks = data['data_samples'][1].gt_instances.masks
    out = PanopticDataPreprocessor(**OPTIONS)(data, True)['data_samples'][1]
    assert out.gt_instances.masks.index_map is masks.index_map


class Noted(list):
    """Data that keeps how it was moved."""

    def to(self, *args, **kwargs):
        return Noted([(*args, kwargs)])


@pytest.mark.parametrize('options', [{}, dict(non_blocking=True)])
def test_ground_truth_of_an_evaluation_stays(options):
    preprocessor = PanopticDataPreprocessor(**OPTIONS, **options).to('meta')
    data = batch(True)
    for sample in data['data_samples']:
        sample.gt_panoptic_seg = PixelData(sem_seg=torch.zeros(1, 4, 4))
        sample.noted = Noted()
    kept = copy.deepcopy(data)
    for sample in preprocessor(data, False)['data_samples']:
        assert sample.gt_instances.labels.is_meta
        assert sample.gt_instances.masks.index_map.is_meta
        assert sample.gt_sem_seg.sem_seg.is_meta
        assert sample.gt_panoptic_seg.sem_seg.device.type == 'cpu'
        device, how = sample.noted[0]
        assert device.type == 'meta'
        assert how == dict(non_blocking=bool(options))
    # and the loader's batch is as it was
    for sample, before in zip(data['data_samples'], kept['data_samples']):
        assert sorted(sample.keys()) == sorted(before.keys())
