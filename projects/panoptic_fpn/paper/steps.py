"""The commands of one run.

A run is a config with weights of the losses. With a seed it lives in
``WORK_DIR/NAME/seed-S``:

``run.json``                 how it was started
``iter_N.pth``               the end of its training
``test/metrics.json``        what it is evaluated to: then it is done
``test-dev.panoptic.json``   results for COCO's server (Table 4a)
``*.log``                    what each command says

A step is one command. It is finished when its output is there, so that a
plan that is carried out again continues where it was cut off.
"""
import json
import os
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Dict, List, Mapping, Optional, Sequence, Tuple

from .configs import Weights, frequencies_file, schedule

RECORD = 'run.json'


@dataclass(frozen=True)
class Run:
    """One training with its evaluation, or two networks' evaluation."""

    config: Path
    name: str
    weights: Optional[Weights] = None
    networks: Tuple['Run', ...] = ()
    test_config: Optional[Path] = None
    tta: bool = False

    def folder(self, work_dir: Path, seed: int) -> Path:
        return work_dir / self.name / f'seed-{seed}'


@dataclass(frozen=True)
class Step:
    """One command; ``needs`` are outputs of others."""

    kind: str
    what: str
    config: Path
    command: Tuple[str, ...]
    output: Path
    log: Path
    needs: Tuple[Path, ...] = ()
    #: what to write to ``run.json`` beside the log
    record: Mapping = field(default_factory=dict)


@dataclass(frozen=True)
class Place:
    """Where the steps run."""

    work_dir: Path
    tools: Path
    gpus: int = 0

    def python(self, tool: str, *args: object) -> Tuple[str, ...]:
        return _words(sys.executable, self.tools / f'{tool}.py', *args)

    def train(self, config: Path, *args: object) -> Tuple[str, ...]:
        if not self.gpus:
            return self.python('train', config, *args)
        return _words(self.tools / 'dist_train.sh', config, self.gpus, *args)

    def test(self, config: Path, checkpoints: Sequence[Path], *args:
             object) -> Tuple[str, ...]:
        if not self.gpus:
            return self.python('test', config, *checkpoints, *args)
        return _words(self.tools / 'dist_test.sh', config, *checkpoints,
                      self.gpus, *args)


def _words(*args: object) -> Tuple[str, ...]:
    return tuple(
        short(arg) if isinstance(arg, Path) else str(arg) for arg in args)


def short(path: Path) -> str:
    """A path, relative where it is below the current folder."""
    here = Path.cwd()
    absolute = Path(os.path.abspath(path))
    return str(
        absolute.relative_to(here) if absolute.is_relative_to(here) else path)


def steps_of(run: Run, seed: int, place: Place) -> List[Step]:
    """Training, evaluation and export of a run with a seed."""
    folder = run.folder(place.work_dir, seed)
    steps = [train_step(net, seed, place) for net in run.networks or [run]]
    checkpoints = tuple(step.output for step in steps)
    options = _options(run)

    def evaluate(kind: str, config: Path, output: Path, needs: Sequence[Path],
                 *args: object) -> Step:
        command = place.test(config, checkpoints, '--work-dir', folder / kind,
                             *args, *options)
        record = _record(run, seed, place) if run.networks else {}
        return Step(kind, _what(run, seed), config, command, output,
                    folder / f'{kind}.log', (*checkpoints, *needs), record)

    needs, tta = [], []
    if run.tta:
        steps.append(_count_step(run, folder, place))
        needs, tta = [steps[-1].output], ['--tta']
    steps.append(
        evaluate('test', run.config, folder / 'test' / 'metrics.json', needs,
                 *tta))
    if run.test_config:
        steps.append(
            evaluate('export', run.test_config, export_file(folder), [],
                     '--format-only', folder / 'test-dev'))
    return steps


def _what(run: Run, seed: int) -> str:
    return f'{run.name} seed {seed}'


def export_file(folder: Path) -> Path:
    return folder / 'test-dev.panoptic.json'


def train_step(run: Run, seed: int, place: Place) -> Step:
    """The training of a run; its output is its last checkpoint."""
    folder = run.folder(place.work_dir, seed)
    iters, scaled = schedule(run.config, max(1, place.gpus))
    args = ['--work-dir', folder, '--seed', seed, '--resume']
    args += ['--auto-scale-lr'] * scaled
    record = dict(_record(run, seed, place), max_iters=iters)
    # another number of GPUs has another number of iterations
    ended = read_record(folder).get('max_iters', iters)
    output = folder / f'iter_{ended}.pth'
    if not output.is_file():
        output = folder / f'iter_{iters}.pth'
    return Step('train', _what(run, seed), run.config,
                place.train(run.config, *args, *_options(run)), output,
                folder / 'train.log', (), record)


def _count_step(run: Run, folder: Path, place: Place) -> Step:
    """Frequencies of the classes, which the evaluation balances with."""
    output = frequencies_file(run.config)
    command = place.python('class_frequencies', run.config, '--out', output)
    return Step('count', run.name, run.config, command, output,
                folder / 'count.log')


def compute_step(config: Path, place: Place) -> Step:
    """Multiply-adds and activations of a config, for 1024x2048 pixels."""
    output = complexity_file(place.work_dir, config)
    command = place.python('complexity', config, '--shape', 1024, 2048,
                           '--out', output)
    return Step('compute', config.stem, config, command, output,
                output.with_suffix('.log'))


def complexity_file(work_dir: Path, config: Path) -> Path:
    return work_dir / 'complexity' / f'{config.stem}.json'


def _record(run: Run, seed: int, place: Place) -> Dict:
    return dict(
        config=short(run.config),
        seed=seed,
        weights=run.weights,
        gpus=place.gpus)


def _options(run: Run) -> List[str]:
    if run.weights is None:
        return []
    instance, semantic = run.weights
    return [
        '--cfg-options', f'model.loss_weights.instance={instance}',
        f'model.loss_weights.semantic={semantic}'
    ]


def read_record(folder: Path) -> Dict:
    """What ``run.json`` says of how a run was started; {} without it."""
    try:
        content = json.loads((folder / RECORD).read_text(encoding='utf-8'))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}
