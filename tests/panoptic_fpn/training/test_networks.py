"""Two checkpoints for a model of two networks."""
import pytest
import torch
from torch import nn

from mmengine_exact.errors import CheckpointError, InputError
from mmengine_exact.match import EXACT
from panoptic_fpn.labels import LabelSpace
from panoptic_fpn.training.runner import load_networks, require_all_networks


class Pair(nn.Module):
    networks = ('instance_network', 'semantic_network')

    def __init__(self):
        super().__init__()
        self.instance_network = nn.ModuleDict(
            dict(backbone=nn.Linear(2, 2), box=nn.Linear(2, 3)))
        self.semantic_network = nn.ModuleDict(
            dict(backbone=nn.Linear(2, 2), seg=nn.Linear(2, 4)))


def meta(names=('cat', 'dog', 'sky')):
    categories = [
        dict(id=i, name=name, isthing=int(name != 'sky'))
        for i, name in enumerate(names)
    ]
    return LabelSpace.from_coco(categories).metainfo()


@pytest.fixture
def files(tmp_path):
    pair, paths = Pair(), []
    for name in pair.networks:
        paths.append(str(tmp_path / f'{name}.pth'))
        save(paths[-1], getattr(pair, name), meta())
    return pair, paths


def save(path, network, dataset_meta):
    torch.save(
        dict(
            state_dict=network.state_dict(),
            meta=dict(dataset_meta=dataset_meta)), path)


def test_each_network_gets_its_own(files):
    expected, paths = files
    model = Pair()
    _, report, warnings = load_networks(model, paths, EXACT)
    for name, value in model.state_dict().items():
        assert torch.equal(value, expected.state_dict()[name])
    assert sorted(report.loaded) == sorted(model.state_dict())
    assert warnings == []


def test_what_a_file_has_besides_is_a_warning(files):
    """A joint model's file, say, in the place of a single one's."""
    pair, paths = files
    joint = nn.ModuleDict(
        dict(
            backbone=nn.Linear(2, 2), box=nn.Linear(2, 3), seg=nn.Linear(2,
                                                                         4)))
    save(paths[0], joint, meta())
    _, _, warnings = load_networks(Pair(), paths, EXACT)
    assert len(warnings) == 1 and 'instance_network' in warnings[0]
    assert paths[0] in warnings[0] and 'seg.weight' in warnings[0]


def test_swapped_files_are_refused_with_the_order(files):
    _, paths = files
    with pytest.raises(CheckpointError) as error:
        load_networks(Pair(), paths[::-1], EXACT)
    text = str(error.value)
    assert paths[1] in text and 'instance_network, semantic_network' in text


def test_different_classes_are_refused_with_both_named(files):
    pair, paths = files
    # as many of each kind: no shape gives them away
    save(paths[1], pair.semantic_network, meta(('cat', 'cow', 'sky')))
    with pytest.raises(InputError) as error:
        load_networks(Pair(), paths, EXACT)
    text = str(error.value)
    assert all(path in text for path in paths)
    assert 'cow' in text and 'dog' in text and "'cat'" not in text


@pytest.mark.parametrize('count', [1, 3])
def test_as_many_files_as_networks(files, count):
    _, paths = files
    given = (paths * 2)[:count]
    with pytest.raises(CheckpointError, match='takes 2'):
        load_networks(Pair(), given, EXACT)
    with pytest.raises(CheckpointError, match='Linear, which is one network'):
        load_networks(nn.Linear(2, 2), paths, EXACT)


def test_one_file_of_one_network_is_not_enough(files):
    """A plain checkpoint has the keys of one network."""
    pair, paths = files
    state = torch.load(paths[0], weights_only=True)['state_dict']
    with pytest.raises(CheckpointError, match='takes 2 checkpoints') as error:
        require_all_networks(Pair(), state, paths[0])
    assert paths[0] in str(error.value)
    require_all_networks(Pair(), pair.state_dict(), 'pair.pth')
    require_all_networks(nn.Linear(2, 2), state, paths[0])


def test_a_file_without_classes_is_a_warning(files):
    pair, paths = files
    torch.save(dict(state_dict=pair.semantic_network.state_dict()), paths[1])
    _, _, warnings = load_networks(Pair(), paths, EXACT)
    assert len(warnings) == 1 and paths[1] in warnings[0]
