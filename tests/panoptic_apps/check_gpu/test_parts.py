"""Scenes and named parts: what is drawn, and that measuring changes
nothing."""
import copy

import pytest
import torch

from panoptic_apps.check_gpu import parts, scenes
from panoptic_apps.check_gpu.units import units

CPU = torch.device('cpu')
CASES = dict(COCO=scenes.COCO.quick(), Cityscapes=scenes.CITYSCAPES.quick())
TRAINING = [
    'preprocess', 'backbone and FPN', 'region losses', 'semantic loss',
    'parse', 'backward', 'optimizer', 'hooks that look at losses'
]
PREDICTION = [
    'preprocess', 'backbone and FPN', 'RPN', 'boxes', 'masks', 'semantic map',
    'merge'
]


def run(work):
    """Names of its parts, and its result."""
    names = []
    return names, work.run(work.inputs(), names.append)


@pytest.mark.parametrize(
    'case', [scenes.COCO, scenes.CITYSCAPES], ids=lambda case: case.name)
def test_training_batch_has_its_instances(case):
    batch = scenes.training_batch(case, 'ours')
    assert len(batch['inputs']) == case.batch
    for image, sample in zip(*batch.values()):
        assert tuple(image.shape) == (3, *case.crop)
        found = sample.gt_instances
        assert len(found) == case.instances
        assert found.masks.areas.min() > 0
        assert found.labels.max() < case.space.num_things
        # no void; every instance's pixels have its label
        semantic = sample.gt_sem_seg.sem_seg[0].numpy()
        assert 0 <= semantic.min() and semantic.max() < case.space.num_classes
        assert (semantic >= case.space.num_things).any()
        for mask, label in zip(found.masks.masks, found.labels):
            assert (semantic[mask > 0] == label.item()).all()


def test_scenes_follow_their_seed():
    first, again, other = (
        scenes.blobs(9, (60, 80), 8, 4, seed) for seed in (0, 0, 1))
    assert all(map(torch.equal, first.values(), again.values()))
    assert not torch.equal(first.masks, other.masks)
    assert (first.scores > 0.5).sum() == 4
    # boxes contain their masks
    for mask, (x1, y1, x2, y2) in zip(first.masks, first.bboxes):
        y, x = mask.nonzero().T
        assert x1 <= x.min() and x.max() <= x2
        assert y1 <= y.min() and y.max() <= y2


@pytest.mark.parametrize('name', CASES)
def test_their_targets_are_ours(name):
    case = CASES[name]
    ours, theirs = (
        scenes.training_batch(case, side)['data_samples'][0]
        for side in parts.SIDES)
    assert torch.equal(ours.gt_sem_seg.sem_seg.long(),
                       theirs.gt_sem_seg.sem_seg.long())
    assert torch.equal(ours.gt_instances.bboxes.tensor,
                       theirs.gt_instances.bboxes.tensor)
    assert (ours.gt_instances.masks.masks == theirs.gt_instances.masks.masks
            ).all()


@pytest.mark.parametrize('side', parts.SIDES)
def test_training_step_has_its_parts(side):
    work = parts.training_step(CASES['COCO'], side, CPU)
    names, losses = run(work)
    assert names == TRAINING
    assert work.last == names[-1]
    assert all(torch.as_tensor(v).isfinite() for v in losses.values())


def test_measured_step_is_the_models_own(monkeypatch):
    """The same losses as ``train_step`` of the same model, also in the second
    step, which sees the first one's update."""
    case = CASES['Cityscapes']
    built = parts.build_model(parts.config_of(case, 'ours'))
    model = copy.deepcopy(built).train()
    monkeypatch.setattr(parts, 'build_model', lambda cfg: built)
    work = parts.training_step(case, 'ours', CPU)
    wrapper = parts.build_optim_wrapper(
        model,
        dict(
            parts.config_of(case, 'ours').optim_wrapper,
            optimizer=dict(
                type='SGD', lr=1e-5, momentum=0.9, weight_decay=1e-4)))
    for step in range(2):
        torch.manual_seed(step)
        measured = run(work)[1]
        torch.manual_seed(step)
        plain = model.train_step(work.inputs(), wrapper)
        assert measured.keys() == plain.keys()
        assert all(
            torch.equal(
                torch.as_tensor(measured[k]), torch.as_tensor(plain[k]))
            for k in plain)


@pytest.mark.parametrize('side', parts.SIDES)
@pytest.mark.parametrize('name', CASES)
def test_prediction_has_its_parts(name, side):
    case = CASES[name]
    names, (sample, ) = run(parts.prediction(case, side, CPU))
    assert names[:len(PREDICTION)] == PREDICTION
    # one more for each metric
    assert len(names) - len(PREDICTION) == (3 if side == 'ours' else 0)
    panoptic = sample.pred_panoptic_seg.sem_seg
    assert tuple(panoptic.shape) == (1, *case.original)
    if side == 'ours':
        found = sample.pred_instances
        assert len(found) == case.detections
        assert (found.scores >= 0.5).sum() == case.confident


@pytest.mark.parametrize('side', parts.SIDES)
@pytest.mark.parametrize('name', CASES)
def test_units_run_alone(name, side):
    for work in units(CASES[name], side, CPU):
        assert run(work)[0] == [work.name]
        # inputs are as fresh as before
        assert run(work)[0] == [work.name]


def test_methods_are_back_after_a_part_that_raises():

    class Owner:

        def work(self):
            raise ValueError('at work')

    owner, notes = Owner(), []
    with pytest.raises(ValueError, match='at work'):
        with parts.noted([(owner, 'work', 'part')], notes.append):
            owner.work()
    assert notes == [] and 'work' not in vars(owner)
