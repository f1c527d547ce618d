"""Configs with mistakes: one line that names the place, or a run.

Each config goes through tools/train.py or tools/test.py, up to the end of one
iteration and its validation on a data set of a few pictures. The jobs are
forks, which cannot train where the process has trained before: so
``test_configs.py`` runs this file in a process of its own.
"""
import copy
import importlib.util
import io
import os
import random
import string
import sys
import time
from contextlib import redirect_stderr

import pytest
from mmengine.config import Config
from mmengine.registry import DefaultScope
from mmengine.runner import Runner

from mmengine_exact import ConfigError, read_config, run_to_exit_code
from mmengine_exact.building import VARIABLE, building
from mmengine_exact.config_file import RUN_KEYS
from tests.conftest import REPO_ROOT, forget_runs

from . import children
from .test_checkpoints import collect, judge

TINY = REPO_ROOT / 'configs/synthetic/panoptic-fpn_tiny_synthetic.py'


def tool(name):
    spec = importlib.util.spec_from_file_location(
        f'tool_{name}', REPO_ROOT / 'tools' / f'{name}.py')
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def call(name, *args):
    """Exit code of a tool and what it says on stderr; its exceptions pass."""
    forget_runs()
    DefaultScope._instance_dict.clear()  # a config may set one
    before, sys.argv = sys.argv, [name, *map(str, args)]
    said = io.StringIO()
    try:
        with redirect_stderr(said):
            return tool(name).main(), said.getvalue()
    except SystemExit as stop:
        return stop.code, said.getvalue()
    finally:
        sys.argv = before


def smallest(folder):
    """The config of ``make demo`` with a few channels and pictures."""
    cfg = Config.fromfile(TINY)
    cfg.merge_from_dict({
        'model.backbone.base_channels': 4,
        'model.backbone.stem_channels': 4,
        'model.neck.in_channels': [4, 8, 16, 32],
        'model.neck.out_channels': 8,
        'model.rpn_head.in_channels': 8,
        'model.rpn_head.feat_channels': 8,
        'model.roi_head.bbox_roi_extractor.out_channels': 8,
        'model.roi_head.mask_roi_extractor.out_channels': 8,
        'model.roi_head.bbox_head.in_channels': 8,
        'model.roi_head.bbox_head.fc_out_channels': 8,
        'model.roi_head.mask_head.in_channels': 8,
        'model.roi_head.mask_head.conv_out_channels': 8,
        'model.semantic_head.in_channels': [8] * 4,
        'model.semantic_head.channels': 32,
        'model.train_cfg.rcnn.sampler.num': 8,
        'train_cfg.max_iters': 1,
        'train_cfg.val_interval': 1,
        'default_hooks.checkpoint.interval': 1,
        'log_level': 'ERROR'
    })
    cfg.param_scheduler = [
        dict(type='LinearLR', start_factor=0.1, by_epoch=False, end=5),
        dict(type='MultiStepLR', by_epoch=False, milestones=[3, 4])
    ]
    for split in ('train', 'val', 'test'):
        loader = cfg[f'{split}_dataloader']
        loader.update(batch_size=2, num_workers=0, persistent_workers=False)
        loader.dataset.update(
            data_root=str(folder / 'shapes'),
            generate=dict(num_train=4, num_val=2, size=64, seed=0))
        for step in loader.dataset.pipeline:
            if step.type == 'PanopticResize':
                step.scale = (64, 64)
    content = cfg.to_dict()
    for name in ('data_root', 'generate', 'train_pipeline', 'test_pipeline'):
        content.pop(name)
    return content


def as_text(content):
    """A config as Python; fast, not pretty."""
    lines = ["nan, inf = float('nan'), float('inf')"]
    return '\n'.join(lines + [f'{k} = {v!r}' for k, v in content.items()])


class Bench:

    def __init__(self, folder):
        self.folder = folder
        self.good = smallest(folder)
        self.path = self.write(as_text(self.good))
        # a process that has trained cannot be forked and train again
        [[code, said]] = children.run(
            [folder / 'run'],
            lambda run: call('train', self.path, '--work-dir', run))
        assert code == 0, said
        self.checkpoint = folder / 'run' / 'iter_1.pth'

    def write(self, text, name='config'):
        path = self.folder / f'{name}_{os.getpid()}.py'
        path.write_text(text)
        return path

    def outcome(self, text, use, options, must, hints):
        """'one line', 'ran' or what went wrong.

        Args:
            text (str): Of the config.
            use (str): The tool, 'train' or 'test'.
            options (list[str]): Of ``--cfg-options``.
            must (bool): Whether it has to be refused.
            hints (list[str]): One of them is in the line.
        """
        path = self.write(text)
        args = [path] + [self.checkpoint] * (use == 'test') + [
            '--work-dir', self.folder / f'work_{os.getpid()}'
        ] + (['--cfg-options', *options] if options else [])
        try:
            code, said = call(use, *args)
        except Exception as error:
            last = error.__traceback__
            while last.tb_next:
                last = last.tb_next
            return (f'RAW {type(error).__name__}: {str(error)[:200]} at '
                    f'{last.tb_frame.f_code.co_filename}:{last.tb_lineno}')
        lines = [line for line in said.splitlines() if 'error: ' in line]
        if code == 0:
            return 'TAKEN, which it must not be' if must else 'ran'
        if code not in (1, 2) or len(lines) != 1 or 'Traceback' in said:
            return f'UNCLEAR {code} {said[-400:]}'
        named = [str(path), '--cfg-options', str(self.folder), *hints]
        if not any(hint in lines[0] for hint in named):
            return f'UNCLEAR {lines[0]}'
        return 'one line'


@pytest.fixture(scope='module')
def bench(tmp_path_factory):
    kept = Runner._log_env, Runner.dump_config, Config.pretty_text
    Runner._log_env = Runner.dump_config = lambda *args: None
    Config.pretty_text = property(lambda cfg: '')
    try:
        yield Bench(tmp_path_factory.mktemp('configs'))
    finally:
        Runner._log_env, Runner.dump_config, Config.pretty_text = kept


# Mistakes ------------------------------------------------------------------

ODD = (None, True, False, -1, 0, 1, 3, 10**9, 2.5, -0.5, 1e30, 'text', '', '5',
       [], [1], ['a'], {}, {
           'a': 1
       }, float('nan'), float('inf'), (1, 2, 3))
#: Other values of a number.
NUMBERS = (-1, 0, -0.5, 1e30, float('nan'), float('inf'), None, '5', 'x', True,
           [1], {}, 7)


def places(value, path=()):
    """Paths of all entries."""
    items = value.items() if isinstance(
        value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        yield (*path, key)
        yield from places(item, (*path, key))


def get(content, path):
    for key in path:
        content = content[key]
    return content


def misspelt(name, draw):
    """A name with one slip of the pen."""
    at = draw.randrange(len(name))
    kinds = [
        name[:at] + name[at + 1:], name[:at] + name[at] + name[at:],
        name[:at] + draw.choice(string.ascii_lowercase) + name[at + 1:],
        name[:at] + name[at:at + 2][::-1] + name[at + 2:], name + 's'
    ]
    found = draw.choice(kinds)
    return found if found != name and found.isidentifier() else name + 's'


#: Parts of a config whose unknown keys are arguments that no class takes.
BUILT = ('backbone', 'neck', 'rpn_head', 'bbox_head', 'mask_head',
         'semantic_head', 'dataset', 'optimizer', 'train_cfg', 'sampler')


def mistakes(good, use, draw):
    """(kind, text of the config, options, must be refused, hints)."""
    content = copy.deepcopy(good)
    unread = ('val_', 'test_') if use == 'train' else ('train_', 'val_',
                                                       'optim', 'param')
    paths = [
        path for path in places(content)
        if not path[0].startswith(unread[1:] if use == 'train' else unread)
    ]
    kind = draw.choice(
        ('drop', 'misspell', 'value', 'value', 'number', 'number', 'type',
         'top', 'classes', 'path', 'option', 'syntax', 'interval', 'hook',
         'batch', 'argument', 'scheduler'))
    options, must, hints = [], False, []

    def choose(test):
        return draw.choice([p for p in paths if test(p, get(content, p))])

    if kind in ('drop', 'misspell', 'value', 'number', 'type', 'argument'):
        path = choose(
            dict(
                drop=lambda p, v: isinstance(p[-1], str),
                misspell=lambda p, v: isinstance(p[-1], str),
                value=lambda p, v: True,
                number=lambda p, v: isinstance(v, (int, float)),
                type=lambda p, v: p[-1] == 'type',
                argument=lambda p, v: isinstance(p[-1], str) and p[-1] !=
                'type' and len(p) > 1 and p[-2] in BUILT and p[:2] !=
                ('model', 'train_cfg'))[kind])
        owner, key = get(content, path[:-1]), path[-1]
        hints = [str(part) for part in path if isinstance(part, str)]
        if kind == 'drop':
            del owner[key]
        elif kind == 'misspell':
            owner[misspelt(key, draw)] = owner.pop(key)
        elif kind == 'argument':
            owner[misspelt(key, draw)] = owner.pop(key)
            must = True
        elif kind == 'type':
            owner[key] = misspelt(owner[key], draw)
            # NMS waits for boxes; a variable of the config's own is read by
            # nothing, here where what took its value has it written out
            must = 'nms' not in path and path[0] in RUN_KEYS
        else:
            owner[key] = draw.choice(ODD if kind == 'value' else NUMBERS)
    elif kind == 'top':
        key = draw.choice([key for key in content if key in RUN_KEYS])
        near = misspelt(key, draw)
        content[near] = dict(made_up=1)
        hints, must = [near], near not in RUN_KEYS and len(key) > 6
    elif kind == 'classes':
        path = choose(lambda p, v: str(p[-1]).startswith('num_') and str(p[-1])
                      .endswith('classes'))
        get(content, path[:-1])[path[-1]] += draw.choice((-2, -1, 1, 40))
        hints, must = ['num_', 'does not fit the model'], True
    elif kind == 'path':
        path = choose(lambda p, v: p[-1] in
                      ('ann_file', 'data_prefix', 'img', 'seg', 'data_root'))
        wrong = str(draw.choice(('no/such/place', '/', '', '/dev/null', 'é ')))
        get(content, path[:-1])[path[-1]] = wrong
        hints = ['shapes', wrong]
    elif kind == 'option':
        path = choose(lambda p, v: all(isinstance(k, str) for k in p))
        at = draw.randrange(len(path))
        wrong = [*path[:at], misspelt(path[at], draw), *path[at + 1:]]
        value = draw.choice(('1', 'x', 'None', '[1,2]', '-1', 'True', '{}'))
        options = [f'{".".join(wrong)}={value}']
        must, hints = at == 0 and wrong[0] not in good, wrong
    elif kind == 'interval':
        hook = draw.choice(('logger', 'checkpoint'))
        value = draw.choice((0, -3, 2.5, '5', [1], {}, 1e9))
        content['default_hooks'][hook]['interval'] = value
        must, hints = True, ['interval']
    elif kind == 'hook':
        hook = draw.choice(('logger', 'checkpoint', 'param_scheduler'))
        near = misspelt(hook, draw)
        content['default_hooks'][near] = content['default_hooks'].pop(hook)
        hints = [near]
    elif kind == 'batch':
        split = 'train' if use == 'train' else 'test'
        key = draw.choice(('batch_size', 'num_workers'))
        value = draw.choice((-1, 0, -7, 2.5, 'x', [2], {}))
        content[f'{split}_dataloader'][key] = value
        must = (key, value) != ('num_workers', 0)
        hints = [key]
    elif kind == 'scheduler':
        entry = draw.choice(content['param_scheduler'])
        key, value = draw.choice(
            (('begin', -1), ('end', 0), ('end', -5), ('gamma', 'x'),
             ('milestones', [4, 3]), ('milestones', 'x'), ('milestones', [-1]),
             ('start_factor', -1), ('by_epoch', 'no'), ('typ', 'LinearLR'),
             ('by_epoch', True)))
        entry[key] = value
        must, hints = use == 'train', [key, 'param_scheduler']
    text = as_text(content)
    if kind == 'syntax':
        at = draw.randrange(len(text))
        text = draw.choice(
            (text[:at], text[:at] + draw.choice('()[]{}\'"=,:#\\') + text[at:],
             text[:at] + '\n' + text[at:], text + '\nx = undefined_name',
             text + '\nx = 1 / 0', text + '\nmodel["nothing"]',
             text + '\nimport no_such_module_1', text + '\n  x = 1',
             '_base_ = "no_such_file.py"\n' + text,
             '_base_ = ["./{{ fileBasename }}"]\n' + text,
             '_base_ = 3\n' + text, 'x = {{_base_.nothing}}\n' + text, '',
             'é = (', '\x00' + text, text + '\nx = {{ $NO_SUCH_VARIABLE: }}',
             text + '\ncustom_imports = dict(imports=["no_such_module_1"])',
             text + '\ncustom_imports = 3', text + '\nfilename = 3',
             text + '\nfrom math import pi'))
    return kind, text, options, must, hints


def run_mistakes(bench, count, seed, processes):
    draw = random.Random(seed)
    jobs = []
    for number in range(count):
        use = 'test' if number % 4 == 3 else 'train'
        kind, *rest = mistakes(bench.good, use, draw)
        jobs.append((use, kind, *rest))

    def work(job):
        use, kind, text, *rest = job
        # relative paths of a mistake are no folders of the project
        os.chdir(bench.folder)
        return f'{use}: {kind}', bench.outcome(text, use, *rest)

    return collect(jobs, work, processes)


def test_mistakes(bench):
    judge(run_mistakes(bench, 12, 1, 1), 'Configs', passed=('one line', 'ran'))


@pytest.mark.slow
def test_many_mistakes(bench):
    begin = time.monotonic()
    judge(
        run_mistakes(bench, 2000, 2, 2),
        'Configs',
        time.monotonic() - begin,
        passed=('one line', 'ran'))


# What the line says --------------------------------------------------------


def line_of(bench, change, use='train'):
    content = copy.deepcopy(bench.good)
    change(content)
    path = bench.write(as_text(content))
    try:
        code, said = call(use, path, '--work-dir', bench.folder / 'work',
                          *[bench.checkpoint] * (use == 'test'))
    finally:
        forget_runs()
    assert code == 1 and 'Traceback' not in said, said
    line = said.strip().splitlines()[-1]
    assert line.startswith('error: ')
    return line


def put(path, value):
    *parents, last = path.split('.')

    def change(content):
        owner = content
        for key in parents:
            owner = owner[key]
        owner[last] = value

    return change


@pytest.mark.parametrize('path, value, text', [
    ('model.backbone.depht', 18, "model.backbone.depht: ResNet takes no such "
     "argument. Is 'depth' meant?"),
    ('model.neck.type', 'FPNN', "model.neck.type='FPNN' is not registered as "
     "model. Is 'FPN' meant?"),
    ('model.backbone.depth', 49, 'model.backbone (type=ResNet) cannot be '
     'built: KeyError'),
    ('optim_wrapper.optimizer.lr', '0.1', "optim_wrapper.optimizer.lr='0.1'. "
     'Set a finite number from 0 on'),
    ('train_dataloader.batchsize', 2, 'train_dataloader'),
    ('train_dataloader.sampler.type', 'Sampler0', 'train_dataloader.sampler'
     ".type='Sampler0' is not registered"),
    ('default_hooks.logger.interval', 0, 'default_hooks.logger.interval=0'),
    ('default_hooks.chekpoint', {}, "default_hooks.chekpoint would stand "
     "beside 'checkpoint'"),
    ('train_dataloadr', {}, "train_dataloadr is read by nothing. Is "
     "'train_dataloader' meant?"),
    ('val_evaluater', {}, "Is 'val_evaluator' meant?"),
    ('param_schedulers', [], "Is 'param_scheduler' meant?"),
    ('load_form', 'x.pth', "Is 'load_from' meant?"),
    ('avl_cfg', {}, "avl_cfg is read by nothing. Is 'val_cfg' meant?"),
    ('fal_cfg', {}, "Is 'val_cfg' meant?"),
    ('envc_fg', {}, "Is 'env_cfg' meant?"),
    ('runner_type', float('inf'), 'runner_type=inf. Set the name of a'),
    ('val_evaluator.type', 'PanopticEvaluater', 'val_evaluator.type'),
    ('model.data_preprocessor.std', [0, 1, 1], 'model.data_preprocessor.std'),
])
def test_a_line_names_the_key(bench, path, value, text):
    line = line_of(bench, put(path, value))
    assert text in line and str(bench.folder) in line


def test_the_visualizer_is_not_that_of_the_call_before(bench):
    line_of(bench, put('model.backbone.depth', 49))  # which comes after it
    line = line_of(
        bench,
        put('visualizer.vis_backends', [dict(type='LocalVisBackennd')]))
    assert ("visualizer.vis_backends[0].type='LocalVisBackennd' is not "
            'registered') in line


def test_variables_of_a_config_pass(tmp_path):
    path = tmp_path / 'c.py'
    path.write_text('max_iters = 3\nnum_classes = 4\ndata_root = "x"\n'
                    'image_size = (1, 2)\nimage_sizes = 3\nmodels = 1\n'
                    'train_pipeline = []\ntest_pipeline = []\n'
                    'conv_cfg = dict(type="x")\nact_cfg = dict(a=1)\n'
                    'val_dataloaders = dict(a=1)\n'
                    'val_dataloader = val_dataloaders\nload = 1\n'
                    'train_cfg = dict(max_iters=max_iters)\n')
    assert read_config(str(path)).max_iters == 3


def test_bases_that_go_round(tmp_path):
    (tmp_path / 'a.py').write_text('_base_ = "./b.py"\n')
    (tmp_path / 'b.py').write_text('_base_ = "./a.py"\n')
    with pytest.raises(ConfigError, match='_base_ configs lead back'):
        read_config(str(tmp_path / 'a.py'))


def test_an_import_that_fails_is_told(tmp_path):
    (tmp_path / 'a.py').write_text('x = 1\nimport no_such_module_1\n')
    with pytest.raises(ConfigError, match=r'a\.py.*no_such_module_1'):
        read_config(str(tmp_path / 'a.py'))


def test_the_line_of_an_error_in_a_base(tmp_path):
    (tmp_path / 'base.py').write_text('x = 1\ny = x.nothing\n')
    (tmp_path / 'a.py').write_text('_base_ = "./base.py"\n')
    with pytest.raises(ConfigError, match=r'base\.py, line 2: Attribute'):
        read_config(str(tmp_path / 'a.py'))


@pytest.mark.parametrize(
    'option', ['modle.backbone.depth=18', 'no_such_key=1', 'train_cgf.x=1'])
def test_options_that_nothing_reads(bench, option):
    code, said = call('train', bench.path, '--cfg-options', option)
    assert code == 1 and option in said and 'no run reads it' in said


OWN = '''
from mmdet.registry import MODELS


@MODELS.register_module()
class OwnModel:

    def __init__(self, **kwargs):
        mistake = {}
        mistake['of my own']
'''


def test_a_mistake_in_own_code_keeps_its_traceback(bench, tmp_path,
                                                   monkeypatch):
    (tmp_path / 'own_module_1.py').write_text(OWN)
    monkeypatch.syspath_prepend(str(tmp_path))
    content = dict(
        bench.good,
        model=dict(type='OwnModel'),
        custom_imports=dict(imports=['own_module_1']))
    path = bench.write(as_text(content))
    code, said = call('train', path, '--work-dir', tmp_path / 'run')
    assert code == 1 and "mistake['of my own']" in said
    assert said.strip().splitlines()[-1].startswith(f'error: {path}: model ')


def test_a_traceback_on_demand(monkeypatch, capsys):
    cfg = Config(dict(model=dict(type='X')))

    def fail():
        with building(cfg, 'model'):
            raise KeyError('inside')

    for value, shown in (('0', False), ('', False), ('1', True)):
        monkeypatch.setenv(VARIABLE, value)
        # of installed code, as most are
        monkeypatch.setattr('mmengine_exact.building._is_own',
                            lambda e: False)
        assert run_to_exit_code(fail) == 1
        said = capsys.readouterr().err
        assert ('Traceback' in said) == shown
        assert 'error: The config: model cannot be built: KeyError' in said


def test_hanging_and_killed_jobs_are_told():
    jobs = ['well', 'killed', 'hangs', 'well']

    def work(job):
        if job == 'killed':
            os.kill(os.getpid(), 9)
        time.sleep(60 if job == 'hangs' else 0)
        return job

    assert children.run(
        jobs, work,
        seconds=1) == ['well', 'killed by SIGKILL', 'hangs', 'well']
