"""The commands of one run.

A step is one command. It is finished when its output is there, so that a
plan that is carried out again continues where it was cut off. A folder whose
``run.json`` has the fingerprint of another config is left as it is.
"""
import os
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Dict, List, Mapping, Sequence, Tuple

from .results import is_broken
from .run import (Run, complexity_file, export_file, frequencies_file,
                  is_older, read_record, schedule)


@dataclass(frozen=True)
class Step:
    """One command.

    Attributes:
        kind (str): 'train', 'test', 'export', 'count' or 'compute'.
        what (str): Name of the run, and its seed.
        config (Path): That it is about.
        command (tuple[str]): Program and arguments.
        output (Path): There when it is finished.
        log (Path): Takes what the command prints.
        needs (tuple[Path]): Outputs of others.
        record (Mapping): What to write to ``run.json`` beside the log.
        merges (bool): Whether it evaluates two networks.
        refused (str): Why it must not be carried out; '' if it may.
    """

    kind: str
    what: str
    config: Path
    command: Tuple[str, ...]
    output: Path
    log: Path
    needs: Tuple[Path, ...] = ()
    record: Mapping = field(default_factory=dict)
    merges: bool = False
    refused: str = ''

    @property
    def finished(self) -> bool:
        """bool: Whether nothing is left to do."""
        return (not self.refused and self.output.exists()
                and not (self.merges and is_older(self.output, self.needs))
                and not (self.kind == 'test' and is_broken(self.output)))


@dataclass(frozen=True)
class LaunchOptions:
    """How steps are started.

    Attributes:
        work_dir (Path): Folder of all runs.
        tools (Path): Folder of the tools.
        gpus (int): Processes of a run; 0 without a launcher.
    """

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
    """A path as it is printed.

    Args:
        path (Path): Any.

    Returns:
        str: Relative where it is below the current folder.
    """
    here = Path.cwd()
    absolute = Path(os.path.abspath(path))
    return str(
        absolute.relative_to(here) if absolute.is_relative_to(here) else path)


def steps_of(run: Run, seed: int, launch: LaunchOptions) -> List[Step]:
    """Training, evaluation and export of a run with a seed.

    Args:
        run (Run): Its networks come first.
        seed (int): From 0.
        launch (LaunchOptions): Folder, tools and GPUs.

    Returns:
        list[Step]: In an order that works, also those that are finished.

    Raises:
        PaperError: A config cannot be used.
    """
    folder = run.folder(launch.work_dir, seed)
    steps = [train_step(net, seed, launch) for net in run.networks or [run]]
    checkpoints = tuple(step.output for step in steps)
    options = _options(run)

    def evaluate(kind: str, config: Path, output: Path, needs: Sequence[Path],
                 *args: object) -> Step:
        command = launch.test(config, checkpoints, '--work-dir', folder / kind,
                              *args, *options)
        own: Dict[str, Any] = {}
        if run.networks:
            own = dict(
                record=_record(run, seed, launch),
                merges=True,
                refused=_refused(run, folder))
        return Step(kind, _what(run, seed), config, command, output,
                    folder / f'{kind}.log', (*checkpoints, *needs), **own)

    needs, tta = [], []
    if run.tta:
        steps.append(_count_step(run, folder, launch))
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


def _refused(run: Run, folder: Path) -> str:
    key = run.changed_key(folder)
    return key and (f'{folder} was run with another config ({key} differs): '
                    'remove the folder, or set another --work-dir') or ''


def train_step(run: Run, seed: int, launch: LaunchOptions) -> Step:
    """The training of a run; its output is its last checkpoint.

    Args:
        run (Run): Without networks.
        seed (int): From 0.
        launch (LaunchOptions): Folder, tools and GPUs.

    Returns:
        Step: Refused where the folder holds another config's run.

    Raises:
        PaperError: The config cannot be read.
    """
    folder = run.folder(launch.work_dir, seed)
    iters, scaled = schedule(run.config, max(1, launch.gpus))
    args = ['--work-dir', folder, '--seed', seed, '--resume']
    args += ['--auto-scale-lr'] * scaled
    record = dict(_record(run, seed, launch), max_iters=iters)
    # another number of GPUs has another number of iterations
    ended = read_record(folder).get('max_iters', iters)
    output = folder / f'iter_{ended}.pth'
    if not output.is_file():
        output = folder / f'iter_{iters}.pth'
    return Step(
        'train',
        _what(run, seed),
        run.config,
        launch.train(run.config, *args, *_options(run)),
        output,
        folder / 'train.log',
        record=record,
        refused=_refused(run, folder))


def _count_step(run: Run, folder: Path, launch: LaunchOptions) -> Step:
    """Frequencies of the classes, which the evaluation balances with."""
    output = frequencies_file(run.config)
    command = launch.python('class_frequencies', run.config, '--out', output)
    return Step('count', run.name, run.config, command, output,
                folder / 'count.log')


def compute_step(config: Path, launch: LaunchOptions) -> Step:
    """Multiply-adds and activations of a config, for 1024x2048 pixels.

    Args:
        config (Path): The config file.
        launch (LaunchOptions): Folder and tools.

    Returns:
        Step: Its output is :func:`complexity_file`.
    """
    output = complexity_file(launch.work_dir, config)
    command = launch.python('complexity', config, '--shape', 1024, 2048,
                            '--out', output)
    return Step('compute', config.stem, config, command, output,
                output.with_suffix('.log'))


def _record(run: Run, seed: int, launch: LaunchOptions) -> Dict:
    return dict(
        config=short(run.config),
        seed=seed,
        weights=run.weights,
        gpus=launch.gpus,
        fingerprint=run.fingerprint())


def _options(run: Run) -> List[str]:
    if run.weights is None:
        return []
    instance, semantic = run.weights
    return [
        '--cfg-options', f'model.loss_weights.instance={instance}',
        f'model.loss_weights.semantic={semantic}'
    ]
