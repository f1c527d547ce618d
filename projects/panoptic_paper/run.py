"""A run: a config with weights of the losses, and what its folder holds.

With a seed it lives in ``WORK_DIR/NAME/seed-S``:

``run.json``                 how it was started, and the config's fingerprint
``iter_N.pth``               the end of its training
``test/metrics.json``        what it is evaluated to: then it is done
``test-dev.panoptic.json``   results for COCO's server (Table 4a)
``*.log``                    what each command says
"""
import hashlib
import json
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Dict, Mapping, Optional, Sequence, Tuple

from mmengine.config import Config

from mmengine_exact.auto_scale import (batch_size_warning, enable_auto_scale,
                                       scale_to_batch)

from .rows import PaperError

#: lambda_i, lambda_s
Weights = Tuple[float, float]
#: A hash of the value of each key of a config.
Fingerprint = Dict[str, str]
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
        """Where it lives with a seed.

        Args:
            work_dir (Path): The folder of all runs.
            seed (int): From 0.

        Returns:
            Path: The folder.
        """
        return work_dir / self.name / f'seed-{seed}'

    def fingerprint(self) -> Fingerprint:
        """What its result depends on; of merged networks also theirs.

        Returns:
            dict[str, str]: Hashes by key of the config, and of the weights.

        Raises:
            PaperError: A config cannot be read.
        """
        found = dict(config_fingerprint(self.config))
        found['loss weights'] = hash_of(self.weights)
        for network in self.networks:
            found.update((f'{network.name}: {key}', value)
                         for key, value in network.fingerprint().items())
        return found

    def changed_key(self, folder: Path) -> Optional[str]:
        """What tells this run from the one that was started in a folder.

        Args:
            folder (Path): Of a run with a seed.

        Returns:
            str | None: The first key of the config that differs; None
            without any, or where ``run.json`` has no fingerprint.

        Raises:
            PaperError: A config cannot be read.
        """
        then = read_record(folder).get('fingerprint')
        if not isinstance(then, dict):
            return None
        now = self.fingerprint()
        return next(
            (key for key in [*now, *then] if now.get(key) != then.get(key)),
            None)


@lru_cache(maxsize=None)
def load(path: Path, environment: bool = True) -> Config:
    """A config file, without what it imports; read-only.

    Args:
        path (Path): The file.
        environment (bool): Whether variables of the environment are put in.

    Returns:
        Config: The same object at each call.

    Raises:
        PaperError: It cannot be read.
    """
    try:
        return Config.fromfile(
            path,
            import_custom_modules=False,
            use_environment_variables=environment)
    except (OSError, SyntaxError, KeyError, AttributeError) as error:
        raise PaperError(f'{path}: cannot be read ({error}).') from None


@lru_cache(maxsize=None)
def config_fingerprint(path: Path) -> Mapping[str, str]:
    """What tells a config from an edited one, wherever its data lie.

    Args:
        path (Path): The config file.

    Returns:
        Mapping[str, str]: By key of the config; read-only.

    Raises:
        PaperError: It cannot be read.
    """
    content = load(path, environment=False).to_dict()
    return {name: hash_of(value) for name, value in content.items()}


def hash_of(value: object) -> str:
    """A short hash of a value of a config.

    Args:
        value (object): Of plain types; tuples count as lists.

    Returns:
        str: 12 hexadecimal digits.
    """
    text = json.dumps(value, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def schedule(path: Path, processes: int) -> Tuple[int, bool]:
    """Iterations of a training with a number of processes.

    Args:
        path (Path): The config file.
        processes (int): That train together.

    Returns:
        tuple[int, bool]: ``max_iters``, and whether ``--auto-scale-lr`` is
        needed, as for another batch than the schedule's.

    Raises:
        PaperError: The config cannot be read.
    """
    cfg = load(path)
    scaled = batch_size_warning(cfg, processes) is not None
    if scaled:
        cfg = Config(cfg.to_dict())
        enable_auto_scale(cfg)
        cfg = scale_to_batch(cfg, processes)
    return cfg.train_cfg.max_iters, scaled


def loss_weights(path: Path) -> Optional[Weights]:
    """Weights of the losses of a config.

    Args:
        path (Path): The config file.

    Returns:
        tuple[float, float] | None: (lambda_i, lambda_s), or None where it
        has none.

    Raises:
        PaperError: The config cannot be read.
    """
    weights = load(path).model.get('loss_weights')
    return weights and (float(weights['instance']), float(weights['semantic']))


def equal_but_weights(first: Path, second: Path) -> bool:
    """Whether two configs differ at most in the weights of the losses.

    Args:
        first, second (Path): The config files.

    Returns:
        bool: Whether all else is equal.

    Raises:
        PaperError: A config cannot be read.
    """
    return _without_weights(first) == _without_weights(second)


@lru_cache(maxsize=None)
def _without_weights(path: Path) -> dict:
    content = load(path).to_dict()
    content['model'] = dict(content['model'], loss_weights=None)
    return content


def frequencies_file(path: Path) -> Path:
    """The file of class frequencies that a config's evaluation reads.

    Args:
        path (Path): The config file.

    Returns:
        Path: As the config names it.

    Raises:
        PaperError: It names none.
    """
    balance = load(path).get('tta_model', {}).get('class_balance', {})
    if 'file' not in balance:
        raise PaperError(f'{path}: tta_model.class_balance.file is not set, '
                         'but the row of the table is evaluated with --tta.')
    return Path(balance['file'])


def read_record(folder: Path) -> Dict:
    """What ``run.json`` says of how a run was started.

    Args:
        folder (Path): Of a run with a seed.

    Returns:
        dict: {} where it is missing or broken.
    """
    try:
        content = json.loads((folder / RECORD).read_text(encoding='utf-8'))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def export_file(folder: Path) -> Path:
    """Results for COCO's server.

    Args:
        folder (Path): Of a run with a seed.

    Returns:
        Path: The JSON file; its PNGs are beside it.
    """
    return folder / 'test-dev.panoptic.json'


def complexity_file(work_dir: Path, config: Path) -> Path:
    """Counts of a config.

    Args:
        work_dir (Path): The folder of all runs.
        config (Path): The config file.

    Returns:
        Path: A JSON file of ``tools/complexity.py``.
    """
    return work_dir / 'complexity' / f'{config.stem}.json'


def is_older(path: Path, sources: Sequence[Path]) -> bool:
    """Whether a file is older than one of those it was made from.

    Args:
        path (Path): It exists.
        sources (Sequence[Path]): Those that do not exist do not count.

    Returns:
        bool: Whether one was written later.
    """
    made = path.stat().st_mtime
    return any(source.stat().st_mtime > made for source in sources
               if source.exists())
