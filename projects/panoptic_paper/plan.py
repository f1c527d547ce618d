"""The commands that the rows need, and how Snakemake carries them out.

A step is one command with the file that it makes. ``Snakefile`` beside this
module turns each step into a rule, and Snakemake does the rest: what is
there is skipped, a failure stops only what needs its file, ``-n`` is
``--dry-run``, and its SLURM executor starts the same steps on a cluster.
Snakemake is called as a program, so it may live in an environment of its own.
"""
import json
import os
import shutil
import sys
from dataclasses import asdict, dataclass, field, replace
from itertools import product
from pathlib import Path
from typing import Dict, Iterable, List, Mapping, Optional, Sequence, Tuple

from mmengine_exact.errors import InputError
from mmengine_exact.files import write_bytes
from mmengine_exact.record import versions

from .results import best_of, states_of
from .runs import (Run, complexity_file, default_seeds, export_file, grid_of,
                   hash_of, load, read_record, run_of, schedule)
from .tables import PaperTables, Row

SNAKEFILE = Path(__file__).with_name('Snakefile')
#: Files count as finished when they are there: the tools write whole ones, and
#: locks are taken by the steps themselves.
OPTIONS = ('--keep-going --ignore-incomplete --keep-incomplete --nolock '
           '--rerun-triggers mtime --max-checksum-file-size 0 '
           '--scheduler greedy --quiet host reason').split()


@dataclass(frozen=True)
class Step:
    """One command; it is finished when its output is there."""

    #: 'train', 'test', 'export', 'count' or 'compute'
    kind: str
    #: name of the run, and its seed
    run: str
    command: Tuple[str, ...]
    output: Path
    #: receives what the command prints
    log: Path
    #: outputs of other steps
    needs: Tuple[Path, ...] = ()
    #: goes into ``run.json`` beside the log
    record: Mapping = field(default_factory=dict)
    #: whether it evaluates two networks
    merges: bool = False
    #: why it must not be carried out, '' if it may
    refused: str = ''


@dataclass(frozen=True)
class LaunchOptions:
    """Folder of all runs, folder of the tools, and processes of a run (0:
    without a launcher)."""

    work_dir: Path
    tools: Path
    gpus: int = 0

    def command(self, tool: str, inputs: Sequence[object], *args:
                object) -> Tuple[str, ...]:
        """Command of a tool; 'train' and 'test' start all processes."""
        words = [sys.executable, self.tools / f'{tool}.py', *inputs]
        if self.gpus and tool in ('train', 'test'):
            words = [self.tools / f'dist_{tool}.sh', *inputs, self.gpus]
        return tuple(_short(word) for word in (*words, *args))


def _short(word: object) -> str:
    """A word of a command; paths below the current folder are relative."""
    here = Path.cwd()
    if isinstance(word, Path) and word.is_relative_to(here):
        word = word.relative_to(here)
    return str(word)


def plan_steps(tables: PaperTables,
               rows: Iterable[Row],
               launch: LaunchOptions,
               seeds: Optional[int] = None,
               miniature: bool = False,
               grid: bool = False) -> List[Step]:
    """Steps of some rows, finished ones too, each once, in an order that
    works.

    First the computed columns, then one seed of every row after the other:
    what is cut off leaves as many complete tables as it can. Rows of other
    systems, and without a miniature where one is wanted, are passed over.
    ``grid``: section 4.4's weights instead, where a row is of it.
    """
    rows = [row for row in rows if row.config_of(miniature)]
    steps: List[Step] = []
    wanted: List[Tuple[int, Run]] = []
    for row in rows:
        if tables.table(row.table).compute and not miniature:
            steps.append(_compute_step(tables.path(row.config), launch))
        if row.trained:
            runs = _grid_runs(tables, row, launch) if grid else []
            runs = runs or [run_of(tables, row, miniature)]
            count = seeds or default_seeds(row, miniature)
            wanted += product(range(count), runs)
    for seed, run in sorted(dict.fromkeys(wanted), key=lambda pair: pair[0]):
        steps += steps_of(run, seed, launch)
    unique: Dict[Path, Step] = {}
    for step in steps:
        unique.setdefault(step.output, step)
    return list(unique.values())


def _grid_runs(tables: PaperTables, row: Row,
               launch: LaunchOptions) -> List[Run]:
    """All nine weights of a row of section 4.4; the best is exported (Table
    4a) when all are evaluated."""
    runs = grid_of(tables, row)
    best, done = best_of({
        w: states_of(run, [launch.work_dir])
        for w, run in runs.items()
    })
    if row.test_config and done == len(runs):
        test_config = run_of(tables, row).test_config
        runs[best] = replace(runs[best], test_config=test_config)
    return list(runs.values())


def steps_of(run: Run, seed: int, launch: LaunchOptions) -> List[Step]:
    """Training, evaluation and export of a run with a seed; its networks
    come first."""
    folder = run.folder(launch.work_dir, seed)
    steps = [_train_step(net, seed, launch) for net in run.networks or [run]]
    needs = checkpoints = tuple(step.output for step in steps)
    if run.tta:
        # what the evaluation balances its classes with
        output = Path(load(run.config).tta_model.class_balance.file).absolute()
        command = launch.command('class_frequencies', [run.config], '--out',
                                 output)
        steps.append(
            Step('count', run.name, command, output, folder / 'count.log'))
        needs = (*needs, output)
    evaluations: List[Tuple[str, Path, Path, List]] = [
        ('test', run.config, folder / 'test' / 'metrics.json',
         ['--tta'] * run.tta)
    ]
    if run.test_config:
        evaluations.append(('export', run.test_config, export_file(folder),
                            ['--format-only', folder / 'test-dev']))
    merge: Dict = {}
    if run.networks:
        merge = dict(_origin(run, seed, launch), merges=True)
    for kind, config, output, args in evaluations:
        command = launch.command('test', [config, *checkpoints], '--work-dir',
                                 folder / kind, *args, *_cfg_options(run))
        steps.append(
            Step(kind, f'{run.name} seed {seed}', command, output,
                 folder / f'{kind}.log', needs, **merge))
    return steps


def _train_step(run: Run, seed: int, launch: LaunchOptions) -> Step:
    """The training of a run without networks, to its last checkpoint."""
    folder = run.folder(launch.work_dir, seed)
    iters, scaled = schedule(run.config, max(1, launch.gpus))
    command = launch.command('train', [run.config], '--work-dir', folder,
                             '--seed', seed, '--resume',
                             *['--auto-scale-lr'] * scaled, *_cfg_options(run))
    # another number of GPUs has another number of iterations
    output = folder / f'iter_{read_record(folder).get("max_iters")}.pth'
    if not output.is_file():
        output = folder / f'iter_{iters}.pth'
    return Step('train', f'{run.name} seed {seed}', command, output,
                folder / 'train.log',
                **_origin(run, seed, launch, max_iters=iters))


def _compute_step(config: Path, launch: LaunchOptions) -> Step:
    """Multiply-adds and activations of a config, for 1024 x 2048 pixels."""
    output = complexity_file(launch.work_dir, config)
    command = launch.command('complexity', [config], '--shape', 1024, 2048,
                             '--out', output)
    return Step('compute', config.stem, command, output,
                output.with_suffix('.log'))


def _origin(run: Run, seed: int, launch: LaunchOptions,
            **more: object) -> Dict:
    """What a folder is made from, and the error if another run is in it."""
    folder = run.folder(launch.work_dir, seed)
    key = run.changed_key(folder)
    refused = (f'{folder} was run with another config ({key} differs): remove '
               'the folder, or set another --work-dir' if key else '')
    record = dict(
        config=_short(run.config),
        seed=seed,
        weights=run.weights,
        gpus=launch.gpus,
        fingerprint=run.fingerprint(),
        versions=versions(),
        **more)
    return dict(record=record, refused=refused)


def _cfg_options(run: Run) -> List[str]:
    if run.weights is None:
        return []
    instance, semantic = run.weights
    return [
        '--cfg-options', f'model.loss_weights.instance={instance}',
        f'model.loss_weights.semantic={semantic}'
    ]


def start_snakemake(steps: Sequence[Step],
                    launch: LaunchOptions,
                    jobs: int,
                    device_count: int,
                    dry_run: bool = False,
                    profile: Optional[Path] = None) -> None:
    """Carry out ``jobs`` steps at a time: Snakemake replaces this process. A
    ``profile`` says how and where jobs start.

    Raises:
        InputError: There are no steps, a folder holds another config's run,
            too few GPUs are here, or Snakemake is not installed.
    """
    if not steps:
        raise InputError('nothing to run: these are rows of other systems, '
                         'or they have no miniature (Tables 1c to 3d have).')
    for refused in filter(None, (step.refused for step in steps)):
        raise InputError(f'{refused}.')
    if device_count and not profile and jobs * launch.gpus > device_count:
        raise InputError(
            f'--jobs {jobs} of --gpus {launch.gpus}: {jobs * launch.gpus} '
            f'GPUs, but {device_count} are visible. Lower one.')
    places = os.pathsep.join(
        [str(Path(sys.executable).parent), os.environ['PATH']])
    snakemake = shutil.which('snakemake', path=places)
    if not snakemake:
        raise InputError('run needs the program `snakemake`. Install '
                         'requirements/paper.txt, here or, as for Python '
                         '3.10, in an environment of its own on PATH.')
    # on a cluster another job may be on the same machine
    setup = 'export PORT=$((20000 + ${SLURM_JOB_ID:-0} % 20000))'
    plan = dict(
        cwd=os.getcwd(),
        python=sys.executable,
        setup=setup if profile else _setup(jobs, launch.gpus, device_count),
        gpus=launch.gpus,
        steps=[asdict(step) for step in steps])
    # jobs of a cluster read it again: a name of its own for each call
    file = launch.work_dir / f'.snakemake/plan-{hash_of(plan)}.json'
    write_bytes(str(file), json.dumps(plan, indent=1, default=str).encode())
    args = [snakemake, *OPTIONS, '--snakefile', SNAKEFILE, '--jobs', jobs]
    args += ['--configfile', file, '--directory', launch.work_dir]
    args += ['--dry-run'] * dry_run
    args += ['--profile', profile] if profile else []
    sys.stdout.flush()
    os.execv(snakemake, [str(arg) for arg in args])


def _setup(jobs: int, gpus: int, device_count: int) -> str:
    """Shell commands that give each of ``jobs`` steps at a time cores, or GPUs
    and a port of its own."""
    if not gpus:
        cores = len(os.sched_getaffinity(0))
        threads = os.environ.get('OMP_NUM_THREADS', max(1, cores // jobs))
        return f"export CUDA_VISIBLE_DEVICES='' OMP_NUM_THREADS={threads}"
    if jobs == 1:
        return ''
    port = int(os.environ.get('PORT', 29500))
    visible = os.environ.get('CUDA_VISIBLE_DEVICES') or ','.join(
        map(str, range(device_count)))
    slots = []
    for slot in range(jobs):
        export = f'export PORT={port + slot}'
        if device_count:
            devices = visible.split(',')[slot * gpus:(slot + 1) * gpus]
            export += f' CUDA_VISIBLE_DEVICES={",".join(devices)}'
        slots.append(f'if exec 8> .snakemake/slot-{slot} && '
                     f'flock --nonblock 8; then {export}')
    return '\nel'.join(slots) + '\nfi'
