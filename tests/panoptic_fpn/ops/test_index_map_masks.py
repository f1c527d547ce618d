"""Index maps against mmdet's bitmaps of the same instances."""
import copy
import pickle
from multiprocessing.reduction import ForkingPickler

import numpy as np
import pytest
import torch
from mmdet.datasets.transforms import RandomErasing
from mmdet.structures.bbox import HorizontalBoxes
from mmdet.structures.mask import BitmapMasks
from mmengine.structures import InstanceData

from panoptic_fpn.ops import index_map_masks
from panoptic_fpn.ops.index_map_masks import IndexMapMasks


def scene(number, shape=(61, 87), seed=0, dtype=np.uint8):
    """Masks of ``number`` instances, one a single pixel, and their bitmaps;
    the map has other segments, void and padding (255), too."""
    rng = np.random.default_rng(seed)
    names = np.setdiff1d(np.arange(1, max(number + 3, 8) + 1), [255])
    cells = rng.choice(np.append(names, [0, 255]), (9, 12))
    cell = np.ones((-(-shape[0] // 9), -(-shape[1] // 12)), int)
    index_map = np.kron(cells, cell)[:shape[0], :shape[1]]
    values = rng.permutation(names)[:number].astype(dtype)
    if number:
        index_map[index_map == values[0]] = 0
        index_map[3, 4] = values[0]
    bitmaps = np.stack([index_map == value for value in values]
                       or [np.zeros(shape, bool)])[:number].astype(np.uint8)
    return (IndexMapMasks(torch.from_numpy(index_map.astype(dtype)),
                          values), BitmapMasks(bitmaps, *shape))


def overlapping(number, shape=(61, 87), **kwargs):
    """Masks of three scenes, one upon another, and their bitmaps."""
    layers = [scene(number, shape, seed) for seed in range(3)]
    values = [
        256 * i + m.values.astype(int) for i, (m, _) in enumerate(layers)
    ]
    bitmaps = np.concatenate([b.masks for _, b in layers])
    assert bitmaps.sum(0).max() > 1
    order = np.random.default_rng(0).permutation(len(bitmaps))
    return (IndexMapMasks(
        torch.stack([m.index_map for m, _ in layers]),
        np.concatenate(values)[order]), BitmapMasks(bitmaps[order], *shape))


def boxes_of(masks, number, seed=0):
    """Boxes and instances; borders on pixels, within them, and outside."""
    rng = np.random.default_rng(seed)
    limit = np.array([masks.width, masks.height])
    corners = rng.random((number, 2, 2)) * (limit + 4) - 2
    boxes = np.concatenate([corners.min(1), corners.max(1)], 1)
    boxes[::3] = boxes[::3].round()  # where many cells are covered by half
    boxes[1::7, 2:] = boxes[1::7, :2]
    boxes[2::7] = 4, 3, 5, 4
    return (boxes.astype(np.float32), rng.integers(0, len(masks), number))


def assert_same_targets(masks, bitmaps, boxes, inds, binarize, size=(28, 28)):
    expected = bitmaps.crop_and_resize(
        boxes, size, inds, 'cpu', binarize=binarize).masks
    found = masks.mask_targets(
        torch.from_numpy(boxes), torch.from_numpy(inds), size, binarize)
    assert found.dtype == torch.float32
    assert np.array_equal(found.numpy(), expected.astype(np.float32))


@pytest.fixture(params=['used alone', 'all, in groups'])
def way(request, monkeypatch):
    """On a CPU instances without a box are left out; on a GPU none is."""
    if request.param == 'all, in groups':
        monkeypatch.setattr(index_map_masks, 'MAX_PIXELS', 3 * 61 * 87)
        monkeypatch.setattr(
            torch.Tensor, 'unique', lambda self, return_inverse:
            (torch.arange(self.max() + 1), self))


@pytest.mark.parametrize('binarize', [True, False])
@pytest.mark.parametrize('scene, number, dtype', [(scene, 1, np.uint8),
                                                  (scene, 9, np.uint8),
                                                  (scene, 200, np.uint8),
                                                  (scene, 300, np.int32),
                                                  (overlapping, 7, None)])
def test_targets_are_mmdets(scene, number, dtype, binarize, way):
    masks, bitmaps = scene(number, dtype=dtype)
    for seed in range(3):
        assert_same_targets(masks, bitmaps, *boxes_of(masks, 60, seed),
                            binarize)
    assert_same_targets(masks, bitmaps, *boxes_of(masks, 1), binarize, (5, 9))


def test_without_instance_or_box():
    none, bitmaps = scene(0)
    assert none.to_ndarray().shape == bitmaps.masks.shape == (0, 61, 87)
    assert not len(none.pad((64, 96))[[]])
    boxes, inds = torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64)
    for masks in (none, scene(4)[0]):
        assert masks.mask_targets(boxes, inds, (28, 28)).shape == (0, 28, 28)


INDICES = [
    2, -1,
    slice(1, 4),
    slice(None, 0), [3, 0],
    np.array([4, 4, 1]),
    np.array([True, False, True, False, True]),
    torch.tensor([1, 3]),
    torch.tensor([False, True, True, False, False])
]


@pytest.mark.parametrize('index', INDICES, ids=str)
def test_selected_as_mmdet_selects(index):
    masks, bitmaps = scene(5)
    found = masks[index]
    assert isinstance(found, IndexMapMasks)
    assert found.index_map is masks.index_map
    assert np.array_equal(found.to_ndarray(), bitmaps[index].masks)
    assert len(found) == len(bitmaps[index])


WAYS = dict(
    flip=lambda m: m.flip('diagonal'),
    resize=lambda m: m.resize((30, 99)),
    rescale=lambda m: m.rescale((120, 90)),
    crop=lambda m: m.crop(np.array([5, 6, 40, 30])),
    pad=lambda m: m.pad((64, 96)),
    pad_rows=lambda m: m.pad((64, 87)),
    pad_ones=lambda m: m.pad((64, 96), pad_val=1),
    pad_none=lambda m: m.pad((61, 87)),
    expand=lambda m: m.expand(70, 90, 4, 2),
    translate=lambda m: m.translate((61, 87), 7, 'vertical'),
    shear=lambda m: m.shear((61, 87), 0.2),
    rotate=lambda m: m.rotate((61, 87), 30),
    cat=lambda m: m.cat([m, m[[2]], m[:1]]),
    cat_others=lambda m: m.cat([m, m.flip()]),
    crop_and_resize=lambda m: m.crop_and_resize(*boxes_of(m, 9)[:1], (7, 7),
                                                np.arange(9) % len(m)),
    copy=copy.copy,
    deepcopy=copy.deepcopy,
    pickle=lambda m: pickle.loads(pickle.dumps(m)))
STAY = {'pad', 'pad_rows', 'pad_none', 'cat', 'copy', 'deepcopy', 'pickle'}


@pytest.mark.parametrize('scene', [scene, overlapping])
@pytest.mark.parametrize('way', WAYS)
def test_whatever_mmdet_does_with_masks(way, scene):
    masks, bitmaps = scene(5)
    found, expected = WAYS[way](masks), WAYS[way](bitmaps)
    assert (found.height, found.width) == (expected.height, expected.width)
    assert found.to_ndarray().dtype == expected.masks.dtype
    assert np.array_equal(found.to_ndarray(), expected.masks)
    assert isinstance(found, IndexMapMasks) == (way in STAY)


def test_what_mmdet_reads_of_masks():
    masks, bitmaps = scene(5)
    assert masks.areas.tolist() == bitmaps.areas.tolist()
    assert masks.areas[0] == 1
    assert np.array_equal(masks.to_ndarray(), bitmaps.masks)
    assert torch.equal(
        masks.to_tensor(torch.uint8, 'cpu'), torch.from_numpy(bitmaps.masks))
    assert torch.equal(
        masks.get_bboxes('hbox').tensor,
        bitmaps.get_bboxes('hbox').tensor)
    assert all(map(np.array_equal, masks, bitmaps))
    assert len(IndexMapMasks.random(2)) == 2
    # as CopyPaste does: bitmaps that overlap
    masks, _ = scene(5)
    masks.masks = np.ones_like(bitmaps.masks)
    assert type(masks) is BitmapMasks and masks[1:].masks.all()


@pytest.mark.parametrize('number', [0, 5])
@pytest.mark.parametrize('dtype', [torch.bool, torch.float32, torch.int64])
def test_tensors_are_mmdets(number, dtype):
    masks, bitmaps = scene(number)
    found, expected = (m.to_tensor(dtype, 'cpu') for m in (masks, bitmaps))
    assert found.dtype == dtype and torch.equal(found, expected)
    assert isinstance(masks, IndexMapMasks)


def test_who_reads_bitmaps_may_write_to_them():
    """As mmdet's RandomErasing does; Albu makes masks of the same class."""
    found = []
    for masks in scene(5):
        results = dict(
            img=np.zeros((61, 87, 3), np.uint8),
            img_shape=(61, 87),
            gt_ignore_flags=np.zeros(5, bool),
            gt_seg_map=np.zeros((61, 87), np.uint8),
            gt_bboxes=HorizontalBoxes([[0, 0, 87, 61]] * 5),
            gt_bboxes_labels=np.zeros(5, np.int64),
            gt_masks=masks)
        np.random.seed(0)
        erased = RandomErasing(n_patches=3, ratio=0.5)(results)['gt_masks']
        found.append(erased.masks)
    assert np.array_equal(*found)
    assert found[0].sum() < scene(5)[1].masks.sum()
    masks, bitmaps = scene(5)
    read = masks.masks
    assert np.array_equal(type(masks)(read, 61, 87).masks, bitmaps.masks)


def test_nothing_is_copied_where_nothing_changes():
    masks, _ = scene(5)
    assert masks.pad((61, 87)) is masks
    assert masks.to('cpu').index_map is masks.index_map
    # with an instance's data, but for that of none
    data = InstanceData(masks=masks, labels=torch.arange(5))
    assert data.to('meta').masks.index_map.is_meta
    assert not masks[:0].to('meta').index_map.is_meta
    part = data[torch.tensor([True, False, False, True, False])]
    assert part.masks.index_map is masks.index_map
    assert len(part.masks) == 2


def test_one_map_goes_to_another_process():
    masks, _ = scene(5, (400, 500))
    both = [masks[[0, 1]], masks[[2]]]
    assert len(ForkingPickler.dumps(both)) < 2000
    first, second = pickle.loads(pickle.dumps(both))
    assert first.index_map is second.index_map
