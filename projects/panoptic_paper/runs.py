"""Runs: a config with its loss weights, the rows that it serves, its folder.

With a seed a run lives in ``WORK_DIR/NAME/seed-S``:

``run.json``                 how it was started, and the config's fingerprint
``iter_N.pth``               the end of its training
``test/metrics.json``        its scores: then it is done
``test-dev.panoptic.json``   results for COCO's server (Table 4a)
``*.log``                    what each command printed
"""
import hashlib
import json
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import product
from pathlib import Path
from typing import Dict, Mapping, Optional, Tuple

from mmengine.config import Config

from mmengine_exact.auto_scale import (batch_size_warning, enable_auto_scale,
                                       scale_to_batch)

from .tables import PaperTables, Row

#: lambda_i, lambda_s
Weights = Tuple[float, float]
#: Section 4.4 chooses lambda_i and lambda_s from these.
GRID = (0.5, 0.75, 1.0)
#: Trainings of a row, or else 1; five on Cityscapes as in section 4.1.
SEEDS = dict(cityscapes=5, miniature=3)
RECORD = 'run.json'


@dataclass(frozen=True)
class Run:
    """One training with its evaluation, or the evaluation of two networks."""

    config: Path
    #: name of its folder
    name: str
    #: weights of the losses, where they are not the config's
    weights: Optional[Weights] = None
    #: runs whose checkpoints are merged
    networks: Tuple['Run', ...] = ()
    #: config that exports results for a server
    test_config: Optional[Path] = None
    #: whether it is evaluated at several scales
    tta: bool = False

    def folder(self, work_dir: Path, seed: int) -> Path:
        """Where it lives with a seed."""
        return work_dir / self.name / f'seed-{seed}'

    def fingerprint(self) -> Dict[str, str]:
        """Hashes of what its result depends on, by key of the config; of
        merged networks also theirs."""
        found = dict(_hashes(self.config))
        found['loss weights'] = hash_of(self.weights)
        for network in self.networks:
            found.update((f'{network.name}: {key}', value)
                         for key, value in network.fingerprint().items())
        return found

    def changed_key(self, folder: Path) -> Optional[str]:
        """The first key of the config that differs from the one that a folder
        was started with; None also without a recorded fingerprint."""
        then = read_record(folder).get('fingerprint')
        now = self.fingerprint()
        return then and next(
            (key
             for key in [*now, *then] if now.get(key) != then.get(key)), None)


def run_of(tables: PaperTables, row: Row, miniature: bool = False) -> Run:
    """The run of a trained row, or of its miniature; equal for rows that
    share it."""
    config = tables.path(row.config_of(miniature))
    networks = tuple(
        run_of(tables, tables.row(name), miniature) for name in row.networks)
    run = Run(config, config.stem, networks=networks)
    if miniature:
        return run
    test_config = tables.path(row.test_config) if row.test_config else None
    return replace(run, test_config=test_config, tta=row.tta)


def grid_of(tables: PaperTables, row: Row) -> Dict[Weights, Run]:
    """Runs of section 4.4 by (lambda_i, lambda_s); {} for other rows.

    Weights that another row's config has are that row's run."""
    if not row.lambda_grid:
        return {}
    # the validation set decides which one is best
    own = replace(run_of(tables, row), test_config=None)
    weights, rest = _weights_and_rest(own.config)
    twins = {weights: own}
    for other in tables.rows.values():
        if other.trained and not other.networks:
            path = tables.path(other.config)
            weights, their_rest = _weights_and_rest(path)
            if their_rest == rest:
                twins.setdefault(weights, Run(path, path.stem))
    return {
        (i, s):
        twins.get((i, s))
        or Run(own.config, f'{own.name}_lambda-i-{i}_lambda-s-{s}', (i, s))
        for i, s in product(GRID, GRID)
    }


def default_seeds(row: Row, miniature: bool) -> int:
    """Number of trainings of a row."""
    return SEEDS.get('miniature' if miniature else row.data, 1)


@lru_cache(maxsize=None)
def load(path: Path, environment: bool = True) -> Config:
    """A config file, without what it imports; cached, so read-only.
    ``environment``: whether its variables are put in."""
    return Config.fromfile(
        path,
        import_custom_modules=False,
        use_environment_variables=environment)


@lru_cache(maxsize=None)
def _hashes(path: Path) -> Mapping[str, str]:
    """Hashes by key of a config, wherever its data lie."""
    content = load(path, environment=False).to_dict()
    return {name: hash_of(value) for name, value in content.items()}


@lru_cache(maxsize=None)
def _weights_and_rest(path: Path) -> Tuple[Optional[Weights], str]:
    """(lambda_i, lambda_s) of a config, and the hash of all else."""
    content = load(path).to_dict()
    weights = content['model'].pop('loss_weights', None)
    return weights and (float(weights['instance']), float(
        weights['semantic'])), hash_of(content)


def hash_of(value: object) -> str:
    """12 hexadecimal digits; tuples count as lists."""
    text = json.dumps(value, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def schedule(path: Path, processes: int) -> Tuple[int, bool]:
    """Iterations of a training with a number of processes, and whether it
    needs ``--auto-scale-lr``, because its batch is not the schedule's."""
    cfg = load(path)
    scaled = batch_size_warning(cfg, processes) is not None
    if scaled:
        cfg = Config(cfg.to_dict())
        enable_auto_scale(cfg)
        cfg = scale_to_batch(cfg, processes)
    return cfg.train_cfg.max_iters, scaled


def read_record(folder: Path) -> Dict:
    """``run.json`` of a run with a seed; {} where it is missing or broken."""
    try:
        return json.loads((folder / RECORD).read_bytes())
    except (OSError, ValueError):
        return {}


def export_file(folder: Path) -> Path:
    """Results for COCO's server; their PNGs are beside it."""
    return folder / 'test-dev.panoptic.json'


def complexity_file(work_dir: Path, config: Path) -> Path:
    """JSON of ``tools/complexity.py`` for a config."""
    return work_dir / 'complexity' / f'{config.stem}.json'
