"""``randomness.deterministic``: two runs of the real model have equal bits.

Of a GPU, which is not at hand: a training step and an evaluation use no
operator that torch lists as one that stops the run there, and no gradient of
mmcv's kernels.
"""
import json
import os
import re
import subprocess
import sys
import traceback

import pytest
import torch
import torch.nn.functional as F
from mmcv.ops import ModulatedDeformConv2dPack
from mmdet.registry import MODELS
from mmengine.config import Config
from torch.utils._python_dispatch import TorchDispatchMode

from mmengine_exact.launch import unequal_kernels
from panoptic_apps.toy_data.synthetic_shapes import write_dataset
from panoptic_fpn.ops.tiled_cross_entropy import tiled_cross_entropy
from panoptic_fpn.training.runner import PanopticRunner
from tests.test_options_training import NAMES, small
from tests.tiny import CONFIG

from . import toy

WORKSPACES = 'CUBLAS_WORKSPACE_CONFIG'
RECIPE = dict(num_train=4, num_val=3, size=64, seed=3)
#: What tells runs apart, in checkpoints and in metrics.json.
TIMES = re.compile('date|time|command|config|cfg|experiment_name|work_dir|'
                   'host|best_ckpt|last_ckpt')


@pytest.fixture(autouse=True)
def switch():
    """The switch is of the process; tests leave it as it was."""
    yield
    torch.use_deterministic_algorithms(False)
    torch.backends.cudnn.deterministic = torch.backends.cudnn.benchmark = False
    os.environ.pop(WORKSPACES, None)


@pytest.fixture(scope='module')
def data_root(tmp_path_factory):
    root = tmp_path_factory.mktemp('determinism') / 'shapes'
    write_dataset(str(root), **RECIPE)
    return f'{root}/'


def tiny_config(data_root, work_dir, workers=0, iterations=2):
    """The tiny model with EMA, validated at the end."""
    cfg = Config.fromfile(CONFIG)
    for name in ('train', 'val'):
        loader = cfg[f'{name}_dataloader']
        loader.dataset.update(data_root=data_root, generate=RECIPE)
        loader.update(
            batch_size=2, num_workers=workers, persistent_workers=workers > 0)
    cfg.test_dataloader = cfg.val_dataloader
    cfg.train_cfg.update(max_iters=iterations, val_interval=iterations)
    cfg.param_scheduler = cfg.param_scheduler[:1]
    cfg.default_hooks.checkpoint.interval = iterations
    cfg.default_hooks.logger.interval = 1
    cfg.custom_hooks.append(dict(type='EMAHook', momentum=0.1))
    # an untrained model puts its guesses on the map
    cfg.model.test_cfg.rcnn.update(score_thr=0.0, max_per_img=20)
    cfg.model.test_cfg.panoptic.update(score_thr=0.0, stuff_area=0)
    cfg.randomness = dict(seed=7, deterministic=True)
    cfg.work_dir = str(work_dir)
    return cfg


def plain(value):
    """Without times, paths and command lines; tensors as their bits."""
    if isinstance(value, dict):
        return {
            key: plain(part)
            for key, part in value.items() if not TIMES.search(str(key))
        }
    if isinstance(value, (list, tuple)):
        return [plain(part) for part in value]
    if isinstance(value, torch.Tensor):
        # the bits
        return value.dtype, value.shape, value.numpy().tobytes()
    return 'nan' if value != value else value


def left_by(work_dir, iteration=2):
    """Checkpoint and metrics.json of a run."""
    checkpoint = toy.final_state(work_dir, iteration)
    assert {'state_dict', 'ema_state_dict', 'optimizer'} <= set(checkpoint)
    metrics = json.loads((work_dir / 'metrics.json').read_text())
    assert metrics['coco_panoptic/PQ'] is not None
    return plain(checkpoint), plain(metrics)


def train(cfg):
    """Train in a forked process, as in a fresh one but for the imports."""
    # torch imports its compiler, once if it does so here
    torch.use_deterministic_algorithms(False)
    pid = os.fork()
    if not pid:
        code = 1
        try:
            PanopticRunner.from_cfg(cfg).train()
            code = 0
        except BaseException:
            traceback.print_exc()
        os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def test_two_runs_are_equal(data_root, tmp_path):
    ends = []
    for workers in (0, 2):
        folder = tmp_path / f'{workers}'
        train(tiny_config(data_root, folder, workers))
        ends.append(left_by(folder))
    one, two = ends
    assert one == two
    # the first moments of the optimizer are those of some gradients
    moments = one[0]['optimizer']['state'][0]['exp_avg'][2]
    assert any(moments)
    assert one[0]['state_dict'] != one[0]['ema_state_dict']


@pytest.mark.slow
@pytest.mark.parametrize('processes', [1, 2])
def test_tools_give_equal_bits(data_root, tmp_path, processes):
    """Other hashes and numbers of loader workers; with the same threads."""
    path = tmp_path / 'tiny.py'
    tiny_config(data_root, tmp_path, iterations=4).dump(path)
    ends = []
    for run, (hashes, workers) in enumerate([(1, 2), (2, 2), (3, 0)]):
        folder = tmp_path / f'run_{run}'
        start = [sys.executable, 'tools/train.py', str(path)]
        if processes > 1:
            start = ['tools/dist_train.sh', str(path), str(processes)]
        options = [
            f'{name}_dataloader.{key}' for name in ('train', 'val')
            for key in (f'num_workers={workers}',
                        f'persistent_workers={workers > 0}')
        ]
        subprocess.run(
            [*start, '--work-dir', folder, '--cfg-options', *options],
            cwd=toy.REPO_ROOT,
            check=True,
            stdout=subprocess.DEVNULL,
            env=dict(
                os.environ,
                PYTHON=sys.executable,
                PORT=str(toy.free_port()),
                PYTHONHASHSEED=str(hashes)))
        ends.append(left_by(folder, 4))
    assert all(ends[0] == end for end in ends[1:])
    print(f'\n{len(ends)} runs of 4 iterations in {processes} processes: '
          f'{len(ends[0][0]["state_dict"])} weights and buffers, their '
          'averages, the optimizer and all scores have the same bits')


#: torch's own list of what stops a run on a GPU, and its operators of aten.
LISTED = """torch.nn.AvgPool3d torch.nn.AdaptiveAvgPool2d
torch.nn.AdaptiveAvgPool3d torch.nn.AdaptiveMaxPool2d
torch.nn.FractionalMaxPool2d torch.nn.FractionalMaxPool3d
torch.nn.MaxUnpool1d torch.nn.MaxUnpool2d torch.nn.MaxUnpool3d
torch.nn.functional.interpolate torch.nn.ReflectionPad1d
torch.nn.ReflectionPad2d torch.nn.ReflectionPad3d torch.nn.NLLLoss
torch.nn.CTCLoss torch.nn.EmbeddingBag torch.Tensor.put_ torch.histc
torch.bincount torch.median torch.nn.functional.grid_sample torch.cumsum
torch.Tensor.scatter_reduce torch.Tensor.resize_"""
STOPPING = re.compile(
    '_?(avg_pool3d|adaptive_avg_pool[23]d|adaptive_max_pool2d|'
    'fractional_max_pool[23]d|upsample_(linear1d|bilinear2d|bicubic2d|'
    'trilinear3d)|reflection_pad[123]d|ctc_loss|embedding_bag.*|'
    'grid_sampler_[23]d)_backward|max_unpool[23]d|'
    # of maps: that of one prediction a row has a deterministic kernel
    'nll_loss2d_(forward|backward)|'
    'put_?|histc|bincount|(nan)?median|cumsum_?|scatter_reduce_?|resize_')
#: Uses of an operator that do so; without an entry all.
CONDITIONS = {
    'bincount':
    lambda args, weights=None, **_: any(
        part is not None for part in (*args[1:2], weights)),
    'cumsum':
    lambda args, **_: args[0].is_floating_point(),
    'scatter_reduce':
    lambda args, **_: 'prod' in args,
    'resize':
    lambda args, **_: args[0].is_quantized,
}


def test_torchs_own_list_is_the_one_above():
    text = torch.use_deterministic_algorithms.__doc__
    part = text.split('operations will throw a')[1].split('In addition')[0]
    assert set(re.findall(r'\* :\w+:`([\w.]+)`', part)) == set(LISTED.split())


class Operators(TorchDispatchMode):
    """Collects the operators that run inside, and those of STOPPING."""

    def __init__(self):
        super().__init__()
        self.seen, self.stopping = set(), set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        name = func._schema.name.split('::')[1]
        self.seen.add(name)
        condition = CONDITIONS.get(name.rstrip('_'), lambda *_, **__: True)
        if STOPPING.fullmatch(name) and condition(args, **kwargs):
            self.stopping.add(name)
        return func(*args, **kwargs)


def functions_of(loss):
    """Names of the graph's functions that are written in Python: the
    project's and mmcv's; torch's own are not."""
    found, waiting, seen = set(), [loss.grad_fn], set()
    while waiting:
        node = waiting.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        if isinstance(node, torch.autograd.function.BackwardCFunction):
            found.add(type(node).__name__)
        waiting += [parent for parent, _ in node.next_functions]
    return found


def operators_of(cfg):
    """Of a training step and an evaluation: operators, stopping ones, and
    the graph's Python functions."""
    runner = PanopticRunner.from_cfg(cfg)
    loop = runner.build_train_loop(runner._train_loop)
    val_loop = runner.build_val_loop(runner._val_loop)
    runner.optim_wrapper = runner.build_optim_wrapper(runner.optim_wrapper)
    runner.model.train()
    batch = next(iter(loop.dataloader))
    functions = set()

    def scale_loss(loss):
        functions.update(functions_of(loss))
        return loss

    runner.optim_wrapper.scale_loss = scale_loss
    with Operators() as operators:
        runner.model.train_step(batch, runner.optim_wrapper)
        runner.model.eval()
        for batch in val_loop.dataloader:
            with torch.no_grad():
                runner.model.val_step(batch)
    assert {'convolution_backward', 'upsample_bilinear2d',
            'addmm'} <= operators.seen
    return operators, functions


#: Two of our own: sums in an order of their own, and matrix products.
OURS = {'_SeparableRoIAlignBackward', '_SemanticCrossEntropyBackward'}
#: On the CPU alone, see below.
REPLACED = {'upsample_bilinear2d_backward'}


def test_the_tiny_model_uses_no_operator_that_stops(data_root, tmp_path):
    operators, functions = operators_of(tiny_config(data_root, tmp_path))
    assert operators.stopping == REPLACED
    assert functions == OURS


@pytest.mark.slow
@pytest.mark.parametrize('name', NAMES)
def test_options_use_no_operator_that_stops(data_root, tmp_path, name):
    cfg = small(name, tmp_path, data_root)
    for split in ('train', 'val'):
        cfg[f'{split}_dataloader'].dataset.generate = RECIPE
    cfg.randomness = dict(seed=0, deterministic=True)
    operators, functions = operators_of(cfg)
    assert operators.stopping <= REPLACED
    deformable = {'ModulatedDeformConv2dFunctionBackward'}
    assert functions - deformable <= OURS
    # which the warning names
    assert bool(functions & deformable) == ('mdconv' in name)


def test_the_guard_sees_what_stops():
    images = torch.rand(1, 3, 4, 4, requires_grad=True)
    with Operators() as operators:
        F.cross_entropy(images, torch.zeros(1, 4, 4).long()).backward()
        torch.bincount(torch.arange(3))
        torch.arange(3).cumsum(0)
    assert operators.stopping == {'nll_loss2d_forward', 'nll_loss2d_backward'}
    with Operators() as operators:
        torch.rand(3).cumsum(0)
        torch.bincount(torch.arange(3), torch.rand(3))
    assert operators.stopping == {'cumsum', 'bincount'}


def test_bilinear_interpolation_is_replaced_off_the_cpu():
    """Device 'meta' stands for a GPU: torch asks whether it is the CPU."""
    torch.use_deterministic_algorithms(True)
    with Operators() as operators:
        images = torch.rand(1, 3, 4, 4, device='meta', requires_grad=True)
        F.interpolate(images, scale_factor=2, mode='bilinear').sum().backward()
    assert not operators.stopping
    assert 'upsample_bilinear2d' not in operators.seen


def test_the_semantic_loss_takes_tiles_off_the_cpu_where_it_has_to():
    for deterministic in (False, True):
        torch.use_deterministic_algorithms(deterministic)
        logits = torch.rand(1, 3, 4, 4, device='meta', requires_grad=True)
        target = torch.zeros(1, 8, 8, dtype=torch.long, device='meta')
        with Operators() as operators:
            tiled_cross_entropy(logits, target).backward()
        assert ('mm' in operators.seen) == deterministic
        assert operators.stopping == (set() if deterministic else REPLACED)


def test_workspaces_are_set_before_a_gpu_is_used(monkeypatch, tmp_path):
    monkeypatch.delenv(WORKSPACES, raising=False)
    PanopticRunner.from_cfg(toy.toy_config(tmp_path))
    assert WORKSPACES not in os.environ
    deterministic = dict(seed=5, deterministic=True)
    PanopticRunner.from_cfg(toy.toy_config(tmp_path, randomness=deterministic))
    assert os.environ[WORKSPACES] == ':4096:8'
    monkeypatch.setenv(WORKSPACES, ':16:8')  # what is set stays
    PanopticRunner.from_cfg(toy.toy_config(tmp_path, randomness=deterministic))
    assert os.environ[WORKSPACES] == ':16:8'


@pytest.mark.parametrize('deterministic', [False, True])
def test_deterministic_runs_do_not_search_for_kernels(tmp_path, deterministic):
    PanopticRunner.from_cfg(
        toy.toy_config(
            tmp_path,
            env_cfg=dict(cudnn_benchmark=True),
            randomness=dict(seed=5, deterministic=deterministic)))
    assert torch.backends.cudnn.benchmark != deterministic
    assert torch.backends.cudnn.deterministic == deterministic


def test_the_warning_names_what_is_not_reached(data_root, tmp_path):
    cfg = tiny_config(data_root, tmp_path)
    assert unequal_kernels(MODELS.build(cfg.model)) is None
    cfg.model.roi_head.mask_roi_extractor.type = 'SingleRoIExtractor'
    model = MODELS.build(cfg.model)
    model.semantic_head.odd = ModulatedDeformConv2dPack(4, 4, 3)
    said = unequal_kernels(model)
    assert 'RoIAlign (roi_head.mask_roi_extractor.roi_layers.0)' in said
    assert 'ModulatedDeformConv2dPack (semantic_head.odd)' in said
    assert said.count('RoIAlign (') == 1


@pytest.mark.parametrize('deterministic,on_gpu', [(True, True), (True, False),
                                                  (False, True)])
def test_the_warning_is_given_once_before_training(monkeypatch, tmp_path,
                                                   deterministic, on_gpu):
    seed = dict(seed=5, deterministic=deterministic)
    runner = PanopticRunner.from_cfg(
        toy.toy_config(tmp_path, max_iters=1, randomness=seed))
    runner.model.odd = ModulatedDeformConv2dPack(4, 4, 3)
    for parameter in runner.model.odd.parameters():
        parameter.requires_grad_(False)
    monkeypatch.setattr('mmengine_exact.runner.on_cpu', lambda: not on_gpu)
    said = []
    monkeypatch.setattr(runner.logger, 'warning', said.append)
    runner.train()
    named = sum('ModulatedDeformConv2dPack (odd)' in text for text in said)
    assert named == (deterministic and on_gpu)
