"""A row of the paper differs from its recipe in what the row is about."""
import re
from pathlib import Path

import pytest
from mmengine.config import Config

ROOT = Path(__file__).resolve().parents[1] / 'configs'
PAPER = ROOT / 'paper'
TABLES = sorted(
    str(path.relative_to(PAPER)) for path in PAPER.glob('table[123]*/*.py')
    if 'coco-stuff' not in path.name)
MINIATURE = sorted(path.stem for path in (PAPER / 'miniature').glob('*.py'))
#: Variables of config files that nothing reads any more.
VARIABLES = ('max_iters', 'data_root', 'data', 'generate')


def flat(value, prefix=''):
    """Leaves of a config; lists of numbers are leaves, too."""
    if isinstance(value, dict):
        items = value.items()
    elif isinstance(value, (list, tuple)) and any(
            isinstance(item, dict) for item in value):
        items = enumerate(value)
    else:
        return {prefix[1:]: value}
    leaves = {}
    for key, item in items:
        leaves.update(flat(item, f'{prefix}.{key}'))
    return leaves


def changes(row, recipe):
    """Keys of a row's config whose values are not its recipe's."""
    one, two = (
        flat(Config.fromfile(path).to_dict()) for path in (row, recipe))
    assert one.keys() >= two.keys()
    return {
        key: value
        for key, value in one.items() if key not in two or two[key] != value
        if key.split('.')[0] not in VARIABLES
    }


def recipe_of(name):
    kind = 'semantic' if 'semantic-fpn' in name else 'panoptic'
    if 'cityscapes' in name:
        return ROOT / f'cityscapes/{kind}-fpn_r50_fpn_65k_cityscapes.py'
    return ROOT / f'coco/{kind}-fpn_r50_fpn_1x_coco.py'


def weights(found):
    """Weights that a row changes, and its other changes."""
    prefix = 'model.loss_weights.'
    return ({
        key[len(prefix):]: value
        for key, value in found.items() if key.startswith(prefix)
    }, {
        key: value
        for key, value in found.items() if not key.startswith(prefix)
    })


GROUPED = {
    'model.fpn_groups.instance', 'model.fpn_groups.semantic',
    'model.rpn_head.in_channels', 'model.semantic_head.in_channels',
    *(f'model.roi_head.{name}'
      for name in ('bbox_roi_extractor.out_channels', 'bbox_head.in_channels',
                   'mask_roi_extractor.out_channels', 'mask_head.in_channels'))
}


def check(stem, found, hooks):
    """Compare changes with what the name of a config promises."""
    changed, other = weights(found)
    row = re.search(r'lambda-([is])-([\d.]+)$', stem)
    if row:
        kind, value = row[1], float(row[2])
        name = dict(i='instance', s='semantic')[kind]
        assert changed.pop(name, value) == value
        # the other weight is 1, whatever the recipe has
        assert set(changed.values()) <= {1.0}
        assert set(other) <= {'default_hooks.checkpoint.save_best'}
        return
    assert not changed
    if 'width' in stem:
        assert other == {
            'model.semantic_head.channels': int(stem.split('width-')[1])
        }
    elif 'concat' in stem:
        assert other == {'model.semantic_head.aggregation': 'concat'}
    elif 'x2' in stem:
        assert other == {'model.type': 'TwoNetworkPanopticFPN'}
    elif 'grouped' in stem:
        assert set(other) == GROUPED
        halves = {
            tuple(v) if isinstance(v, list) else (v, ) * 4
            for v in other.values()
        }
        assert len(halves) == 1
    elif 'deeper' in stem:
        assert other == {'model.backbone.depth': 34}
    else:
        assert 'alternate' in stem
        assert other.pop(f'custom_hooks.{hooks}.type') == \
            'AlternateLossesHook'
        assert other.pop('find_unused_parameters') is True
        assert set(other) <= {
            'train_cfg.max_iters', 'param_scheduler.1.end',
            'param_scheduler.1.milestones'
        }


@pytest.mark.parametrize('name', TABLES)
def test_a_row_changes_what_it_is_named_after(name):
    recipe = recipe_of(name)
    hooks = len(Config.fromfile(recipe).custom_hooks)
    check(Path(name).stem, changes(PAPER / name, recipe), hooks)


@pytest.mark.parametrize('stem', MINIATURE)
def test_a_row_of_the_miniature_does_so_too(stem):
    base = 'lambda-s-0.5'
    if stem in ('concat', 'width-64', 'width-256'):
        base = 'lambda-i-0.0'
    recipe = PAPER / 'miniature' / f'{base}.py'
    if stem != base:
        hooks = len(Config.fromfile(recipe).custom_hooks)
        check(stem, changes(PAPER / 'miniature' / f'{stem}.py', recipe), hooks)


@pytest.mark.parametrize('name', [n for n in TABLES if 'lambda' in n])
def test_weights_of_a_row(name):
    """The other weight of Table 2 is 1."""
    found = re.search(r'lambda-([is])-([\d.]+)\.py$', name)
    given = Config.fromfile(PAPER / name).model.loss_weights
    kinds = ('instance', 'semantic')
    own, other = kinds if found[1] == 'i' else kinds[::-1]
    assert given == {own: float(found[2]), other: 1.0}


@pytest.mark.parametrize('row, recipe, milestones', [
    ('panoptic-fpn_r50_fpn_2x_coco_alternate', 'coco/panoptic-fpn_r50_fpn_1x_'
     'coco', [120000, 160000]),
    ('panoptic-fpn_r50_fpn_130k_cityscapes_alternate', 'cityscapes/panoptic-'
     'fpn_r50_fpn_65k_cityscapes', [80000, 110000]),
])
def test_alternate_trains_twice_as_long(row, recipe, milestones):
    """Table 3c: twice the iterations and milestones, the same warm-up."""
    row = Config.fromfile(PAPER / 'table3c' / f'{row}.py')
    recipe = Config.fromfile(ROOT / f'{recipe}.py')
    assert row.train_cfg.max_iters == 2 * recipe.train_cfg.max_iters
    assert row.param_scheduler[1].milestones == milestones
    assert milestones == [
        2 * step for step in recipe.param_scheduler[1].milestones
    ]
    assert row.param_scheduler[1].end == row.train_cfg.max_iters
    assert row.param_scheduler[0] == recipe.param_scheduler[0]


def test_test_dev_has_no_annotations():
    """Table 4a: names of the classes come from another file."""
    cfg = Config.fromfile(PAPER /
                          'table4a/panoptic-fpn_r101_fpn_1x_coco_test-dev.py')
    dataset = cfg.test_dataloader.dataset
    assert dataset.ann_file == 'annotations/image_info_test-dev2017.json'
    assert dataset.categories_file == 'annotations/panoptic_val2017.json'
    assert dataset.data_prefix.img == 'test2017/'
    assert cfg.model.backbone.depth == 101


@pytest.mark.parametrize('stem', MINIATURE)
def test_the_miniature_is_tested_at_the_size_it_is_trained_at(stem):
    """Textures have a scale: at another one mIoU loses 13 points."""
    cfg = Config.fromfile(PAPER / 'miniature' / f'{stem}.py')
    for loader in (cfg.train_dataloader, cfg.test_dataloader):
        size = loader.dataset.generate.size
        for step in loader.dataset.pipeline:
            assert tuple(step.get('scale', (size, size))) == (size, size)
    assert cfg.train_dataloader.dataset.generate == \
        cfg.test_dataloader.dataset.generate
