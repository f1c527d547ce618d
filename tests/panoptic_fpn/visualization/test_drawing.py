"""Invariants of the pictures: colours, sizes, void, names."""
import cv2
import numpy as np
import pytest
import torch
from mmengine.structures import InstanceData, PixelData

from panoptic_fpn.ops.run_length import index_map
from panoptic_fpn.visualization.colors import match_numbers, segment_colors
from panoptic_fpn.visualization.drawing import (display_scale, draw_instances,
                                                draw_panoptic, draw_semantic,
                                                side_by_side)
from panoptic_fpn.visualization.samples import draw_branches, semantic_labels
from panoptic_fpn.visualization.text import (display_names, find_edges,
                                             font_size, place_names)

from .scenes import BOX, DISK, GRASS, SKY, SPACE, VOID, sample, scene

PALETTE, THINGS = SPACE.palette, SPACE.num_things


def draw(image, panoptic, **kwargs):
    return draw_panoptic(image, panoptic, SPACE, **kwargs)


def interior(panoptic):
    """Pixels no outline touches: all of their neighbours are alike."""
    edges = find_edges(panoptic).astype(np.uint8)
    return cv2.dilate(edges, np.ones((7, 7), np.uint8)) == 0


def test_stuff_has_palette_colors():
    colors = segment_colors([SKY, GRASS, SKY + 1000], PALETTE, THINGS)
    assert colors.tolist() == [list(PALETTE[i]) for i in (SKY, GRASS, SKY)]
    # a color depends on the segment alone
    alone = segment_colors([BOX + 3000], PALETTE, THINGS)
    among = segment_colors([DISK, BOX + 1000, BOX + 3000], PALETTE, THINGS)
    assert np.array_equal(alone[0], among[2])


@pytest.mark.parametrize('color', [(220, 60, 60), (0, 0, 142), (0, 0, 0),
                                   (250, 250, 250), (128, 128, 128)])
def test_instances_of_a_class_differ(color):
    """Of any palette colour, also of one without a hue."""
    colors = segment_colors(1000 * np.arange(1, 31), [color], 1).astype(int)
    assert len(np.unique(colors, axis=0)) == 30
    step = np.abs(np.diff(colors, axis=0)).sum(1)
    assert step.min() >= 15


def test_one_segment_one_color_and_others_differ():
    image, panoptic = scene()
    grey = np.full_like(image, 128)
    picture = draw(grey, panoptic, names=False, scale=1)
    inside = interior(panoptic)
    # outlines run between segments only
    white = (picture == 255).all(2)
    assert white.any() and not (white & inside).any()
    colors = {}
    for code in np.unique(panoptic[inside & (panoptic != VOID)]):
        found = np.unique(picture[inside & (panoptic == code)], axis=0)
        assert len(found) == 1, code
        colors[int(code)] = tuple(found[0].tolist())
    assert len(colors) == 6
    assert len(set(colors.values())) == len(colors)


def test_void_keeps_the_hue_of_the_photograph():
    image = np.full((40, 40, 3), (200, 100, 50), np.uint8)
    picture = draw(image, np.full((40, 40), VOID), scale=1)
    assert picture.max(axis=(0, 1))[0] < 200
    ratio = picture / np.array([200., 100., 50.])
    assert np.ptp(ratio, axis=2).max() < 0.02
    assert len(np.unique(picture[..., 0])) == 2, 'dark and hatched'


@pytest.mark.parametrize('size,scale', [((64, 64), 8), ((96, 160), 3),
                                        ((427, 640), 1)])
def test_picture_size(size, scale):
    assert display_scale(size) == scale
    image, panoptic = scene(*size)
    before = image.copy(), panoptic.copy()
    picture = draw(image, panoptic)
    assert picture.shape == (size[0] * scale, size[1] * scale, 3)
    assert picture.dtype == np.uint8
    assert np.array_equal(image, before[0])
    assert np.array_equal(panoptic, before[1])


def test_values_without_class_are_void():
    """In semantic maps, and void with numbers in panoptic ones."""
    image, panoptic = scene()
    expected = draw_semantic(image, panoptic % 1000, SPACE)
    for value in (-1, 255):
        semantic = np.where(panoptic == VOID, value, panoptic % 1000)
        assert np.array_equal(draw_semantic(image, semantic, SPACE), expected)
    numbered = np.where(panoptic == VOID, VOID + 2000, panoptic)
    numbered[0] = panoptic[0]
    assert np.array_equal(draw(image, panoptic), draw(image, numbered))


@pytest.mark.parametrize('count', [0, 3])
def test_instances(count):
    image, panoptic = scene()
    codes = [BOX + 1000 * n for n in range(1, count + 1)]
    masks = np.array([panoptic == c for c in codes]).reshape(-1, 60, 90)
    bboxes = [[31 + 27 * n, 18, 53 + 27 * n, 42] for n in range(-1, count - 1)]
    picture = draw_instances(
        image, bboxes, [BOX] * count, SPACE, masks, ['0.9'] * count, scale=2)
    plain = cv2.resize(image, None, fx=2, fy=2, interpolation=cv2.INTER_CUBIC)
    assert picture.shape == (120, 180, 3)
    assert np.array_equal(picture, plain) == (count == 0)
    # Nothing is drawn below the boxes.
    assert np.array_equal(picture[100:], plain[100:])


def test_instances_that_leave_the_image():
    image, _ = scene()
    picture = draw_instances(image, [[-20, -20, 300, 5], [95, 70, 99, 80]],
                             [0, 1], SPACE, np.ones((2, 60, 90)))
    assert picture.shape == (360, 540, 3)


@pytest.mark.parametrize('size', [(8, 8), (20, 200), (64, 64), (300, 500)])
def test_names_stay_in_the_picture_and_apart(size):
    _, panoptic = scene(*size)
    codes, _, index = index_map(panoptic)
    texts = [[f'segment {code} with a name', 'short'] for code in codes]
    tags = place_names(index, texts, font_size(size))
    for i, tag in enumerate(tags):
        x1, y1, x2, y2 = tag.box
        assert 0 <= x1 < x2 <= size[1] and 0 <= y1 < y2 <= size[0]
        assert not any(tag.overlaps(other) for other in tags[:i])


def test_names_lie_in_their_segments():
    _, panoptic = scene(400, 600)
    codes, _, index = index_map(panoptic)
    tags = place_names(index, [[str(code)] for code in codes], 16)
    assert {tag.text for tag in tags} == {str(code) for code in codes}
    for tag in tags:
        assert str(panoptic[int(tag.y), int(tag.x)]) == tag.text


def test_small_segments_have_no_name_and_long_names_get_shorter():
    index = np.zeros((100, 200), np.uint16)
    index[2:8, 2:8] = 1
    index[30:80, 100:140] = 2
    texts = [['all'], ['tiny'], ['box 0.98 and more', 'box']]
    tags = place_names(index, texts, 14)
    assert sorted(tag.text for tag in tags) == ['all', 'box']


def test_display_names_are_short_but_never_ambiguous():
    names = [
        'wall-other-merged', 'door-stuff', 'wall-brick', 'tree', 'a-other',
        'a-merged', 'b', 'b-stuff', '-other'
    ]
    assert display_names(names) == [
        'wall', 'door', 'wall-brick', 'tree', 'a-other', 'a-merged', 'b',
        'b-stuff', '-other'
    ]


def test_matching_things_take_the_numbers_of_the_truth():
    _, truth = scene()
    # The prediction numbers the other way round and is one pixel off.
    panoptic = truth.copy()
    for number in (1, 2, 3):
        panoptic[truth == BOX + 1000 * number] = BOX + 1000 * (9 - number)
    panoptic = np.roll(panoptic, 1, axis=0)
    panoptic[truth == BOX + 3000] = SKY
    panoptic[:5, :5] = BOX + 1000
    renumbered, new = match_numbers(panoptic, truth, THINGS, VOID)
    assert new[BOX + 8000] == BOX + 1000
    assert new[BOX + 7000] == BOX + 2000
    assert new[DISK + 4000] == DISK + 4000
    assert new[SKY] == SKY and new[VOID] == VOID
    assert new[BOX + 1000] not in truth
    assert len(set(new.values())) == len(new)
    assert np.array_equal(renumbered % 1000, panoptic % 1000)


def test_side_by_side():
    panels = [np.full((100, 150, 3), v, np.uint8) for v in (10, 20)]
    figure = side_by_side(
        dict(zip(['Prediction', 'A caption too long for it'], panels)))
    rows = np.flatnonzero((figure == 10).all(2).any(1))
    assert len(rows) == 100
    # The gap between the panels and the corners are paper.
    columns = np.flatnonzero((figure[rows[50]] == 255).all(1))
    assert {0, figure.shape[1] // 2, figure.shape[1] - 1} <= set(columns)


def semantic(channels, predict_things):
    made = sample()
    made.pred_sem_seg = PixelData(
        sem_seg=torch.tensor(channels)[None],
        metainfo=dict(predict_things=predict_things))
    return made


def test_channels_to_labels():
    """COCO's layout: stuff 0, 1 and 2 = other (any thing); Cityscapes':
    channels are labels."""
    found = semantic_labels(semantic([[0, 1, 2]], False), SPACE)
    assert found.tolist() == [[SKY, GRASS, -1]]
    found = semantic_labels(semantic([[0, 1, 2, 3]], True), SPACE)
    assert found.tolist() == [[0, 1, 2, 3]]
    assert semantic_labels(sample(), SPACE) is None


def test_without_a_branch():
    image, panoptic = scene()
    assert list(draw_branches(image, sample(panoptic), SPACE)) == ['panoptic']
    assert draw_branches(image, sample(), SPACE) == {}


@pytest.mark.parametrize('score_thr, drawn', [(0.9, 0), (0.7, 1), (0.2, 2)])
def test_instances_from_a_score_on(score_thr, drawn):
    """A mask changes the pixels of its box, and nothing else is drawn."""
    image = np.full((60, 90, 3), 100, np.uint8)
    made = sample()
    masks = torch.zeros(2, 60, 90, dtype=torch.bool)
    masks[0, 40:55, 5:40] = True
    masks[1, 40:55, 50:85] = True
    made.pred_instances = InstanceData(
        bboxes=torch.tensor([[5., 40, 40, 55], [50, 40, 85, 55]]),
        scores=torch.tensor([0.7, 0.3]),
        labels=torch.tensor([0, 1]),
        masks=masks)
    picture = draw_branches(image, made, SPACE, score_thr, 1)['instances']
    changed = (picture != image).any(-1)
    assert [changed[m.numpy()].all() for m in masks] == [drawn > 0, drawn > 1]
    assert not changed[:20].any()


def test_three_pictures_of_one_size():
    image, panoptic = scene()
    made = sample(panoptic, scores=[0.9, 0.8, 0.7, 0.6])
    made.pred_sem_seg = PixelData(
        sem_seg=torch.from_numpy(np.where(panoptic == VOID, 2, 0))[None],
        metainfo=dict(predict_things=False))
    pictures = draw_branches(image, made, SPACE, scale=2)
    assert list(pictures) == ['instances', 'semantic', 'panoptic']
    assert {p.shape for p in pictures.values()} == {(120, 180, 3)}
    assert len({p.tobytes() for p in pictures.values()}) == 3
