"""Which commands the rows need."""
import json
from collections import Counter

from panoptic_paper.plan import LaunchOptions, plan_steps
from panoptic_paper.runs import grid_of, run_of

from .fakes import ROOT, TABLES

COCO = 'panoptic-fpn_r50_fpn_1x_coco'
CITYSCAPES = 'panoptic-fpn_r50_fpn_65k_cityscapes'


def plan(tmp_path, *names, gpus=8, **kwargs):
    launch = LaunchOptions(tmp_path, ROOT / 'tools', gpus)
    return plan_steps(TABLES, TABLES.select(names), launch, **kwargs)


def touch(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text('{}')


def what(steps):
    return [(step.kind, step.run) for step in steps]


def test_commands_of_a_row(tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    train, test = plan(tmp_path, 'table3a/coco-r50')
    folder = f'{tmp_path}/{COCO}/seed-0'
    config = f'configs/coco/{COCO}.py'
    assert ' '.join(train.command) == (
        f'tools/dist_train.sh {config} 8 --work-dir {folder} --seed 0 '
        '--resume')
    assert ' '.join(test.command) == (
        f'tools/dist_test.sh {config} {folder}/iter_90000.pth 8 --work-dir '
        f'{folder}/test')
    assert test.needs == (train.output, )
    assert str(test.output) == f'{folder}/test/metrics.json'
    assert (train.log.name, test.log.name) == ('train.log', 'test.log')


def test_without_gpus_the_tools_are_called_and_the_schedule_is_scaled(
        tmp_path):
    """Two images of 16: a eighth of the batch, eight times the iterations."""
    train, test = plan(tmp_path, 'table3a/coco-r50', gpus=0)
    assert train.command[1].endswith('tools/train.py')
    assert '--auto-scale-lr' in train.command
    assert train.output.name == 'iter_720000.pth'
    assert test.command[1].endswith('tools/test.py')
    four, _ = plan(tmp_path, 'table3a/coco-r50', gpus=4)
    assert four.output.name == 'iter_180000.pth'
    assert '--auto-scale-lr' in four.command


def test_seeds_are_the_papers(tmp_path):
    counts = Counter(
        step.run.split(' seed')[0] for step in plan(
            tmp_path, 'table3a/coco-r50', 'table3a/cityscapes-r50')
        if step.kind == 'train')
    assert counts == {COCO: 1, CITYSCAPES: 5}
    steps = plan(tmp_path, 'table1c/coco-64', seeds=2)
    assert what(steps) == [('train', steps[0].run), ('test', steps[0].run),
                           ('train', steps[2].run), ('test', steps[2].run)]
    assert steps[2].command[-3:] == ('--seed', '1', '--resume')


def test_rows_of_the_same_config_share_a_run(tmp_path):
    """Tables 2a, 3a, 3c and 3d have the R50 recipe."""
    alone = plan(tmp_path, 'table2a/lambda-s-0.5')
    shared = plan(tmp_path, 'table2a/lambda-s-0.5', 'table3a/coco-r50',
                  'table3c/coco-combine', 'table3d/coco-original')
    assert shared == alone and len(shared) == 2
    other = plan(tmp_path, 'table2a/lambda-s-1.0', 'table2c/lambda-i-1.0')
    assert len(other) == 2


def test_miniature_is_18_configs_of_three_seeds(tmp_path):
    steps = plan(tmp_path, 'all', gpus=0, miniature=True)
    kinds = Counter(step.kind for step in steps)
    assert kinds == dict(train=17 * 3, test=18 * 3)  # x2 is not trained
    assert not any('--auto-scale-lr' in step.command for step in steps)
    seeds = [step.run[-1] for step in steps]
    assert seeds == sorted(seeds)  # one seed of all rows before the next
    assert all('/miniature/' in str(step.command) for step in steps)


def test_two_networks_are_trained_before_they_are_merged(tmp_path):
    steps = plan(tmp_path, 'table3a/cityscapes-r50x2', seeds=2)
    for seed in (0, 1):
        instance, semantic, test = steps[3 * seed:3 * seed + 3]
        assert (instance.kind, semantic.kind) == ('train', 'train')
        assert 'lambda-s-0.0' in instance.run
        assert semantic.run.startswith('semantic-fpn_r50_fpn_65k')
        assert test.needs == (instance.output, semantic.output)
        assert list(test.command[2:5]) == [
            str(instance.output),
            str(semantic.output), '8'
        ]
        assert {s.run[-1] for s in (instance, semantic, test)} == {str(seed)}


def test_test_dev_is_an_export_of_the_trained_r101(tmp_path):
    train, test, export = plan(tmp_path, 'table4a/r101')
    assert export.needs == (train.output, ) == test.needs
    assert any(word.endswith('_test-dev.py') for word in export.command)
    at = export.command.index('--format-only')
    assert export.command[at + 1] == str(train.log.parent / 'test-dev')
    assert export.output == train.log.parent / 'test-dev.panoptic.json'


def test_computed_columns_need_no_training(tmp_path):
    steps = plan(tmp_path, 'figure4')
    assert [step.kind for step in steps] == ['compute'] * 4
    assert steps[0].command[-5:] == ('--shape', '1024', '2048', '--out',
                                     str(steps[0].output))
    first, *rest = plan(tmp_path, 'figure4/fpn', 'table1a/r101', seeds=1)
    assert first.kind == 'compute'
    assert [step.kind for step in rest] == ['train', 'test']


def test_class_balance_is_counted_before_the_evaluation(tmp_path):
    train, count, test = plan(tmp_path, 'table1b')
    assert str(count.output).endswith('annotations/stuff_frequencies.json')
    assert test.needs == (train.output, count.output)
    assert '--tta' in test.command


def test_grid_is_section_44s(tmp_path):
    """Nine weights, of which five are configs of Tables 2a and 2c."""
    runs = grid_of(TABLES, TABLES.row('table3a/coco-r50'))
    values = (0.5, 0.75, 1.0)
    assert set(runs) == {(i, s) for i in values for s in values}
    names = {pair: run.name for pair, run in runs.items() if not run.weights}
    assert names == {
        (1.0, 0.5): COCO,
        (1.0, 0.75): f'{COCO}_lambda-s-0.75',
        (1.0, 1.0): f'{COCO}_lambda-s-1.0',
        (0.5, 1.0): f'{COCO}_lambda-i-0.5',
        (0.75, 1.0): f'{COCO}_lambda-i-0.75'
    }
    made = {pair: run for pair, run in runs.items() if run.weights}
    assert all(run.weights == pair for pair, run in made.items())
    steps = plan(tmp_path, 'table3a/coco-r50', grid=True)
    assert len(steps) == 18
    assert steps[0].command[-3:] == ('--cfg-options',
                                     'model.loss_weights.instance=0.5',
                                     'model.loss_weights.semantic=0.5')


def test_grid_of_other_models_is_their_own():
    for row in ('table3b/coco-r101', 'table3c/coco-alternate',
                'table3d/coco-grouped'):
        own = run_of(TABLES, TABLES.row(row)).config
        runs = grid_of(TABLES, TABLES.row(row)).values()
        assert {run.config for run in runs} == {own}
        assert sum(run.weights is None for run in runs) == 1
    assert grid_of(TABLES, TABLES.row('table3a/coco-r50x2')) == {}


def test_the_best_of_the_grid_is_exported(tmp_path):
    runs = grid_of(TABLES, TABLES.row('table4a/r101'))
    kinds = {s.kind for s in plan(tmp_path, 'table4a', grid=True)}
    assert kinds == {'train', 'test'}
    for (instance, semantic), run in runs.items():
        path = run.folder(tmp_path, 0) / 'test' / 'metrics.json'
        touch(path)
        path.write_text(
            json.dumps({'coco_panoptic/PQ': 40 + instance - semantic}))
    exports = [
        s for s in plan(tmp_path, 'table4a', grid=True) if s.kind == 'export'
    ]
    assert [s.run for s in exports] == ['panoptic-fpn_r101_fpn_1x_coco seed 0']


def test_an_edited_config_is_refused_in_one_line(tmp_path):
    train, test = plan(tmp_path, 'table3a/coco-r50')
    assert train.refused == test.refused == ''
    record = json.loads(json.dumps(train.record))
    file = train.log.parent / 'run.json'
    touch(file)
    file.write_text(json.dumps(record))
    assert plan(tmp_path, 'table3a/coco-r50')[0].refused == ''
    record['fingerprint']['optim_wrapper'] = 'another'
    file.write_text(json.dumps(record))
    assert plan(tmp_path, 'table3a/coco-r50')[0].refused == (
        f'{file.parent} was run with another config (optim_wrapper differs): '
        'remove the folder, or set another --work-dir')


def test_two_networks_are_refused_with_one_of_theirs(tmp_path):
    merge = plan(tmp_path, 'table3a/coco-r50x2')[-1]
    record = json.loads(json.dumps(merge.record))
    key = 'semantic-fpn_r50_fpn_1x_coco: model'
    record['fingerprint'][key] = 'another'
    touch(merge.log.parent / 'run.json')
    (merge.log.parent / 'run.json').write_text(json.dumps(record))
    merge = plan(tmp_path, 'table3a/coco-r50x2')[-1]
    assert merge.merges and f'({key} differs)' in merge.refused


def test_what_was_trained_on_other_gpus_is_trained(tmp_path):
    """run.json says how many iterations the training had."""
    first = plan(tmp_path, 'table3a/coco-r50', gpus=4)[0]
    touch(first.output)
    (first.log.parent / 'run.json').write_text(json.dumps(first.record))
    again = plan(tmp_path, 'table3a/coco-r50', gpus=8)
    assert again[0].output == first.output
