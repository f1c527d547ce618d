"""Damaged, odd and hostile checkpoints: refused in one line, or used right.

Every file goes through one of the ways in which a user gives a checkpoint.
What is loaded must be what was written; a file without checksums may be
loaded with other numbers, which nobody can see. ``pytest -m slow -s
tests/fuzz/test_checkpoints.py`` prints what became of the files.
"""
import copy
import io
import os
import pickle
import random
import shutil
import tarfile
import zipfile

import pytest
import torch
from mmengine.config import Config
from mmengine.runner import Runner

from mmengine_exact import read_checkpoint
from mmengine_exact.errors import InputError, NonFiniteLossError
from mmengine_exact.safetensor import write_safetensors
from panoptic_apps.convert_weights import LAYOUTS, convert_zoo_file
from panoptic_fpn.inference import init_model
from panoptic_fpn.training.runner import load_networks
from tests.conftest import forget_runs
from tests.mmengine_exact import toy
from tests.oracles import detectron2_layout
from tests.panoptic_apps.convert_weights import models
from tests.tiny import write_tiny_model

from . import children, payloads
from .mutate import Outcomes, mutated_bytes

#: What a resumed run takes over.
RUN_STATE = ('state_dict', 'optimizer', 'param_schedulers')


class Bench:
    """Checkpoints to begin with, and the ways to give one.

    Attributes:
        good (dict[str, bytes]): Files by kind: 'run' (iter_10.pth of a toy
            run), 'legacy' and 'unsummed' (its content in torch's other
            formats), 'safetensors' (what of it those have), 'model' (of the
            tiny detector), 'pickle' (Detectron2's).
    """

    def __init__(self, folder):
        self.folder = folder
        assert toy.run(folder / 'run', max_iters=12, interval=10) == [0]
        self.end = toy.final_state(folder / 'run', 12)
        run = toy.final_state(folder / 'run', 10)
        self.config, model = write_tiny_model(folder)
        self.loaded = torch.load(model, weights_only=True)
        self.zoo = models.config('detectron2')
        self.shapes = models.shapes_of(models.build(self.zoo))
        weights = detectron2_layout.random_weights()
        arrays = {key: value.numpy() for key, value in weights.items()}
        self.content = dict(run=run, model=self.loaded)
        tensors = folder / 'run.safetensors'
        write_safetensors(tensors, run['state_dict'], run['meta'])
        self.good = dict(
            run=as_file(run),
            legacy=as_file(run, _use_new_zipfile_serialization=False),
            unsummed=without_sums(run),
            safetensors=tensors.read_bytes(),
            model=model.read_bytes(),
            pickle=pickle.dumps(dict(model=arrays), 2))
        path = self.write('pickle', self.good['pickle'])
        self.converted = self.convert(path)

    def write(self, kind, content):
        suffix = dict(pickle='pkl', safetensors='safetensors').get(kind, 'pth')
        path = self.folder / f'{kind}_{os.getpid()}.{suffix}'
        path.write_bytes(content)
        return str(path)

    # Ways in: each returns what was loaded, in nested containers

    def read(self, path):
        return dict(read_checkpoint(path)['state_dict'])

    def test(self, path):
        loader = dict(
            batch_size=2,
            dataset=dict(type='ToyDataset', size=7, noise=False),
            sampler=dict(type='DefaultSampler', shuffle=False))
        runner = self._runner(
            load_from=path,
            test_dataloader=loader,
            test_cfg=dict(),
            test_evaluator=dict(type='ToyMetric'))
        runner.test()
        return dict(runner.model.state_dict())

    def finetune(self, path):
        """What ``load_from`` of a training does."""
        runner = self._runner(load_from=path)
        runner.load_or_resume()
        return dict(runner.model.state_dict())

    def resume(self, path):
        runner = self._runner(max_iters=12, load_from=path, resume=True)
        runner.train()
        assert runner.iter == 12
        schedules = [one.state_dict() for one in runner.param_schedulers]
        return dict(
            state_dict=runner.model.state_dict(),
            optimizer=runner.optim_wrapper.state_dict(),
            param_schedulers=schedules)

    def pretrained(self, path):
        init = dict(type='Pretrained', checkpoint=path)
        model = toy.ToyModel(init_cfg=init)
        model.init_weights()
        return dict(model.state_dict())

    def networks(self, path):
        pair = torch.nn.Module()
        pair.one, pair.other = toy.ToyModel(), toy.ToyModel()
        pair.networks = ('one', 'other')
        load_networks(pair, [path, path], 'exact')
        assert toy.same(
            dict(pair.one.state_dict()), dict(pair.other.state_dict()))
        return dict(pair.other.state_dict())

    def infer(self, path):
        model = init_model(self.config, path)
        return dict(
            state_dict=dict(model.state_dict()),
            classes=model.label_space.metainfo())

    def convert(self, path):
        result = convert_zoo_file(path, LAYOUTS['detectron2'], 'ours',
                                  self.zoo, self.shapes)
        result.require_fit()
        return result.weights

    def _runner(self, **options):
        forget_runs()
        return toy.PanopticRunner.from_cfg(
            toy.toy_config(
                self.folder / f'work_{os.getpid()}',
                interval=100,
                log_level='CRITICAL',
                **options))

    WAYS = dict(
        run=('read', 'test', 'finetune', 'resume', 'pretrained', 'networks'),
        safetensors=('read', 'test', 'finetune', 'pretrained', 'networks'),
        model=('infer', ),
        pickle=('convert', ))

    def expected(self, way, content=None):
        """What a way loads from a file with this content."""
        if way == 'resume':
            return {key: self.end[key] for key in RUN_STATE}
        if way == 'convert':
            return self.converted
        content = content or self.content['model' if way == 'infer' else 'run']
        if way == 'infer':
            return dict(
                state_dict=dict(content['state_dict']),
                classes=self.loaded['meta']['dataset_meta'])
        return dict(content['state_dict'])

    def outcome(self, way, path, content=None, summed=True):
        """'refused', 'right' or 'unseen' (only where no checksum shows that
        the file was changed); otherwise what went wrong."""
        try:
            found = getattr(self, way)(path)
        except InputError as error:
            if isinstance(error, NonFiniteLossError) and not summed:
                return 'unseen'
            text = str(error)
            clear = (
                path in text and '\n' not in text and len(text) < 1000
                and text.rstrip().endswith(('.', ')')))
            return 'refused' if clear else f'UNCLEAR {text[:300]}'
        except Exception as error:
            return f'RAW {type(error).__name__}: {str(error)[:300]}'
        if alike(found, self.expected(way, content)):
            return 'right'
        return 'WRONG' if summed else 'unseen'


def alike(found, expected):
    """Equal numbers; those that were computed alike to the bit."""
    if isinstance(expected, torch.Tensor):
        if not isinstance(found, torch.Tensor) or \
                found.shape != expected.shape:
            return False
        expected = expected.to(found.dtype)
        # NaN is equal to NaN here
        return bool(((found == expected) | (found != found) &
                     (expected != expected)).all())
    if isinstance(expected, dict):
        return isinstance(found, dict) and all(
            key in found and alike(found[key], value)
            for key, value in expected.items())
    if isinstance(expected, (list, tuple)):
        return len(found) == len(expected) and all(map(alike, found, expected))
    return found == expected


def as_file(content, **options):
    buffer = io.BytesIO()
    torch.save(content, buffer, **options)
    return buffer.getvalue()


def without_sums(content):
    former = torch.serialization.get_crc32_options()
    torch.serialization.set_crc32_options(False)
    try:
        return as_file(content)
    finally:
        torch.serialization.set_crc32_options(former)


@pytest.fixture(scope='module')
def bench(tmp_path_factory):
    former, Runner._log_env = Runner._log_env, lambda *args: None
    dump, Runner.dump_config = Runner.dump_config, lambda *args: None
    yield Bench(tmp_path_factory.mktemp('bench'))
    Runner._log_env, Runner.dump_config = former, dump


# Bytes ---------------------------------------------------------------------


def run_bytes(bench, count, seed, processes=1):
    draw = random.Random(seed)
    ways = bench.WAYS['run']
    jobs = []
    for number in range(count):
        file = draw.choices(list(bench.good), (10, 3, 3, 3, 3, 3))[0]
        way = bench.WAYS.get(file,
                             ways)[number % len(bench.WAYS.get(file, ways))]
        jobs.append((file, way, draw.random()))

    def work(job):
        file, way, state = job
        kind, content = mutated_bytes(random.Random(state), bench.good[file])
        path = bench.write(file, content)
        summed = file in ('run', 'model', 'safetensors')
        return f'{file} {kind}', bench.outcome(way, path, summed=summed)

    judge(jobs, work, 'Damaged', processes)


def judge(jobs, work, title, processes=1):
    """Print the table of the jobs' (kind, outcome); nothing may be wrong,
    unclear, raw or killed."""
    outcomes = Outcomes(title, ('refused', 'right', 'unseen'))
    for job, result in zip(jobs, children.run(jobs, work, 60, processes)):
        outcomes.add(*(result if isinstance(result, list) else (str(job)[:120],
                                                                result)))
    outcomes.judge()


def test_good_files_are_right(bench):
    for file, content in bench.good.items():
        path = bench.write(file, content)
        for way in bench.WAYS.get(file, bench.WAYS['run']):
            assert bench.outcome(way, path) == 'right', (file, way)


def test_damaged_bytes(bench):
    run_bytes(bench, 40, 1)


@pytest.mark.slow
def test_many_damaged_bytes(bench):
    run_bytes(bench, 3000, 2, processes=2)


@pytest.mark.parametrize('kind,way', [('run', 'read'), ('run', 'test'),
                                      ('run', 'resume'),
                                      ('safetensors', 'read'),
                                      ('safetensors', 'test')])
def test_each_bit_of_the_weights_is_noticed(bench, kind, way):
    """torch does not look at the checksums of its files."""
    content, draw = bench.good[kind], random.Random(3)
    weights = list(bench.content['run']['state_dict'].values())
    for number in range(40 if way == 'read' else 3):
        raw = draw.choice(weights).numpy().tobytes()
        at = content.index(raw) + draw.randrange(len(raw))
        flipped = bytes([content[at] ^ 1 << draw.randrange(8)])
        path = bench.write(kind, content[:at] + flipped + content[at + 1:])
        assert bench.outcome(way, path) == 'refused'
        with pytest.raises(
                InputError, match='checksum (of .*data/.* )?differ'):
            read_checkpoint(path)


# Structure -----------------------------------------------------------------


def tensors_of(weights):
    """Ways to spoil a tensor, by name: those that each way refuses, and those
    that fine-tuning leaves out."""
    key = 'head.weight'
    value = weights[key]

    def put(number, name=key):
        spoilt = weights[name].clone()
        spoilt.view(-1)[0] = number
        return {name: spoilt}

    return dict(
        nan=put(float('nan')),
        inf=put(float('inf')),
        statistics=put(float('nan'), 'backbone.1.running_var'),
        whole={key: value.to(torch.int64)},
        complex={key: value.to(torch.complex64)},
        huge={key: value.double() * 1e300},
        text={key: 'weights'},
        number_key={3: value}), dict(
            rows={key: value[:2]},
            classes={key: torch.cat([value, value])},
            turned={key: value.T},
            scalar={key: value.sum()},
            nothing={key: value[:0]})


def structures(good):
    """(kind, content, ways that must refuse it) of odd checkpoints."""
    every = Bench.WAYS['run']
    strict = ('test', 'resume', 'networks')
    for spoilt, ways in zip(
            tensors_of(good['state_dict']), (every[1:], strict)):
        for name, change in spoilt.items():
            weights = {**good['state_dict'], **change}
            yield f'weight {name}', dict(good, state_dict=weights), ways
    for value in (None, 0, 'text', b'\xff', [1], {}, dict(a=1), {1},
                  torch.zeros(0)):
        yield 'state_dict odd', dict(good, state_dict=value), every
        yield 'no checkpoint', value, every
    for key in good:
        yield f'no {key}', {
            k: v
            for k, v in good.items() if k != key
        }, (
            every if key == 'state_dict' else ('resume', ))
    for key in ('iter', 'epoch'):
        meta = {k: v for k, v in good['meta'].items() if k != key}
        yield f'no meta.{key}', dict(good, meta=meta), ('resume', )
    schedules = good['param_schedulers']
    for odd in (schedules[:1], schedules[::-1], schedules * 2):
        yield 'schedule odd', dict(good, param_schedulers=odd), ('resume', )


def run_structures(bench, pick=None, seed=0, processes=1):
    every = list(structures(bench.content['run']))
    jobs = [(number, way) for number in range(len(every))
            for way in bench.WAYS['run']]
    if pick is not None:
        jobs = random.Random(seed).sample(jobs, pick)

    def work(job):
        number, way = job
        kind, content, must = every[number]
        path = bench.write('run', as_file(content))
        found = bench.outcome(way, path, fitting(content, bench, way))
        if way in must and found == 'right':
            found = 'TAKEN, which it must not be'
        return kind, found

    judge(jobs, work, 'Odd structures', processes)


def fitting(content, bench, way):
    """What may be loaded: where a tensor does not fit, fine-tuning keeps the
    model's own, so it is not compared."""
    weights = content.get('state_dict') if isinstance(content, dict) else None
    if not isinstance(weights, dict):
        return bench.content['run']
    own = bench.content['run']['state_dict']
    if way == 'read':
        return content
    return dict(
        state_dict={
            key: value
            for key, value in weights.items()
            if key in own and getattr(value, 'shape', None) == own[key].shape
        })


def test_odd_structures(bench):
    run_structures(bench, 40)


@pytest.mark.slow
def test_many_odd_structures(bench):
    run_structures(bench, processes=2)


# Hostile files -------------------------------------------------------------


def hostile_files(bench, canary):
    """(kind, file of the bench, content)."""
    for label, program in payloads.programs(str(canary)):
        name, style = label.rsplit(' ', 1)
        for place, content in payloads.places(program, b'}'):
            yield f'{style}, zip', 'run', payloads.with_program(
                bench.good['run'], content)
            if place in ('alone', 'a weight'):
                yield f'{style}, legacy', 'run', payloads.legacy(content)
                yield f'{style}, pickle', 'pickle', content
                yield f'{style}, pickle .pth', 'run', content
            if place == 'alone':
                yield f'{style}, tar', 'run', tar(content)
                yield f'{style}, zip in zip', 'run', zip_in_zip(
                    payloads.with_program(bench.good['run'], content))


def tar(program):
    """torch's format of before 0.4."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode='w') as archive:
        for name in ('storages', 'tensors', 'pickle'):
            part = tarfile.TarInfo(name)
            part.size = len(program)
            archive.addfile(part, io.BytesIO(program))
    return buffer.getvalue()


def zip_in_zip(content):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, 'w') as archive:
        archive.writestr('archive/data.pkl', content)
        archive.writestr('archive/version', '3\n')
        archive.writestr('archive/constants.pkl', content)
    return buffer.getvalue()


def run_hostile(bench, tmp_path, pick=None, seed=0):
    canary = tmp_path / 'canary' / 'ran.dat'
    canary.parent.mkdir()
    jobs = list(hostile_files(bench, canary))
    if pick is not None:
        jobs = random.Random(seed).sample(jobs, pick)
    ways = bench.WAYS['run']
    jobs = [(*job, ways[i % len(ways)]) for i, job in enumerate(jobs)]

    def work(job):
        kind, file, content, way = job
        way = bench.WAYS[file][0] if file != 'run' else way
        outcome = bench.outcome(way, bench.write(file, content))
        ran = list(canary.parent.iterdir())
        return kind, f'RAN {ran}' if ran else outcome

    judge(jobs, work, 'Hostile')
    assert not list(canary.parent.iterdir())


def test_code_of_hostile_files_is_not_run(bench, tmp_path):
    run_hostile(bench, tmp_path, 40)


@pytest.mark.slow
def test_code_of_many_hostile_files_is_not_run(bench, tmp_path):
    run_hostile(bench, tmp_path)


def test_the_hostile_files_would_run(tmp_path):
    """Without protection most of the payloads make the canary."""
    canary = tmp_path / 'canary' / 'ran.dat'
    canary.parent.mkdir()
    programs = [(label, program)
                for label, program in payloads.programs(str(canary))
                if label.endswith(('REDUCE', 'built'))]

    def work(job):
        shutil.rmtree(canary.parent)
        canary.parent.mkdir()
        try:
            pickle.loads(b'\x80\x02' + job[1] + b'.')
        except Exception:
            pass
        return bool(list(canary.parent.iterdir()))

    ran = children.run(programs, work, seconds=10, processes=1)
    assert sum(found is True for found in ran) >= 0.8 * len(programs)


@pytest.mark.parametrize('way', ['test', 'resume', 'infer'])
@pytest.mark.parametrize('key', ['config', 'cfg', 'experiment_name'])
def test_code_in_texts_of_meta_is_not_run(bench, tmp_path, way, key):
    """MMEngine's resume runs ``meta['config']``, a config of old runners."""
    file = 'model' if way == 'infer' else 'run'
    canary = tmp_path / 'canary'
    text = f'x = open({str(canary)!r}, "w").close()\ngpu_ids = [0, 1]\n'
    content = copy.deepcopy(bench.content[file])
    content['meta'][key] = text
    path = bench.write(file, as_file(content))
    assert bench.outcome(way, path) == 'right'
    assert not canary.exists()
    Config.fromstring(text, '.py')
    assert canary.exists()  # where it is run


# Classes and numbers of the tiny detector ----------------------------------


def odd_models(good):
    """(kind, content) of checkpoints that the inferencer must refuse."""
    space = good['meta']['dataset_meta']

    def with_meta(**changed):
        return dict(good, meta=dict(dataset_meta={**space, **changed}))

    yield 'fewer classes', with_meta(
        classes=space['classes'][:-1], stuff_classes=space['classes'][4:-1])
    yield 'more things', with_meta(thing_classes=space['classes'][:5])
    yield 'fewer colours', with_meta(palette=space['palette'][:-1])
    yield 'odd colours', with_meta(palette='random')
    yield 'unknown things', with_meta(thing_classes=('x', 'y', 'z', 'w'))
    yield 'classes that are numbers', with_meta(classes=list(range(9)))
    yield 'no class names', with_meta(classes=None)
    weights = good['state_dict']
    for key in ('roi_head.bbox_head.fc_cls.weight',
                'semantic_head.conv_seg.weight', 'backbone.bn1.running_mean'):
        value = weights[key].clone()
        value.view(-1)[-1] = float('nan')
        yield 'nan', dict(good, state_dict={**weights, key: value})
        yield 'rows', dict(good, state_dict={**weights, key: value[:-1]})


def test_odd_models(bench):
    for kind, content in odd_models(bench.content['model']):
        path = bench.write('model', as_file(content))
        assert bench.outcome('infer', path) == 'refused', kind
