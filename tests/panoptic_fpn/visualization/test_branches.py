"""Pictures of both branches and the merge."""
import numpy as np
import pytest
import torch
from mmengine.structures import InstanceData, PixelData

from panoptic_fpn.visualization.samples import draw_branches, semantic_labels

from .scenes import GRASS, SKY, SPACE, VOID, sample, scene


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
