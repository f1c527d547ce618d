"""Record of a result: config, code, versions, data, weights and seed.

``record`` in ``metrics.json``, ``record.json`` beside it and beside everything
else that an evaluation writes, and ``meta['record']`` of a checkpoint (without
the config, which MMEngine keeps there).
"""
import hashlib
import importlib.metadata
import json
import os
import os.path as osp
import platform
import subprocess
import sys
import time
from contextlib import suppress
from functools import lru_cache
from typing import Any, Dict, Iterator, List, Optional, Sequence, Union

import torch
from mmengine.config import Config
from mmengine.dist import master_only
from mmengine.fileio import get
from mmengine.hooks import Hook
from mmengine.registry import HOOKS

from .files import write_bytes

_FOLDER = osp.dirname(osp.abspath(__file__))
#: Distributions by import name; the maintained forks have other names.
_PACKAGES = dict(
    mmengine=('mmengine', 'onedl-mmengine'),
    mmcv=('mmcv', 'mmcv-lite', 'onedl-mmcv'),
    mmdet=('mmdet', 'onedl-mmdetection'),
    mmseg=('mmsegmentation', 'onedl-mmsegmentation'),
    numpy=('numpy', ),
    opencv=('opencv-python', 'opencv-python-headless'),
    pycocotools=('pycocotools', ),
    hotcoco=('hotcoco', ))

#: Name of the file.
RECORD = 'record.json'

#: Keys of a config that say where and how a run is started.
_LOCATION_KEYS = ('work_dir', 'load_from', 'resume', 'launcher',
                  'experiment_name')


@lru_cache(maxsize=None)
def revision() -> Optional[str]:
    """Revision of this project's git; '-dirty' with uncommitted changes.

    Returns:
        str or None: None where git does not track this file: a package that
        is installed in an environment may lie inside another repository.
    """
    try:
        for command in (('ls-files', '--error-unmatch', __file__),
                        ('describe', '--always', '--dirty')):
            answer = subprocess.check_output(['git', *command],
                                             cwd=_FOLDER,
                                             stderr=subprocess.DEVNULL,
                                             text=True)
        return answer.strip()
    except (OSError, subprocess.SubprocessError):
        return None


@lru_cache(maxsize=None)
def versions() -> Dict[str, Optional[str]]:
    """Versions of Python, torch and what the scores come from (None: not
    installed); what compiled mmcv's operators, where they are imported."""
    found = dict(
        python=platform.python_version(),
        torch=torch.__version__,
        cuda=torch.version.cuda,
        **dict.fromkeys(_PACKAGES))
    for name, distributions in _PACKAGES.items():
        for distribution in distributions:
            with suppress(importlib.metadata.PackageNotFoundError):
                found[name] = importlib.metadata.version(distribution)
    if operators := sys.modules.get('mmcv._ext'):
        found['operators'] = (f'{operators.get_compiler_version()}, CUDA '
                              f'{operators.get_compiling_cuda_version()}')
    return found


def fingerprint(path: str,
                backend_args: Optional[dict] = None) -> Optional[str]:
    """SHA-256 of a file's content, 64 hexadecimal digits.

    Returns:
        str or None: None where it cannot be read.
    """
    try:
        if osp.isfile(path):
            stat = os.stat(path)
            return _local_fingerprint(path, stat.st_mtime_ns, stat.st_size)
        return hashlib.sha256(get(path, backend_args)).hexdigest()
    except Exception:  # whatever a backend raises: the score counts more
        return None


@lru_cache(maxsize=64)
def _local_fingerprint(path: str, changed: int, size: int) -> str:
    digest = hashlib.sha256()
    with open(path, 'rb') as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def leaf_datasets(dataset: Any) -> Iterator[Any]:
    """Data sets, or their configs, inside wrappers like ``ConcatDataset``."""
    children = getattr(dataset, 'datasets',
                       None) or [getattr(dataset, 'dataset', None)]
    if children == [None]:
        yield dataset
        return
    for child in children:
        yield from leaf_datasets(child)


def data_record(dataset: Any) -> List[dict]:
    """What each data set (inside wrappers) reads.

    Returns:
        list[dict]: type, number of images, annotation file and its SHA-256;
        without an annotation file the SHA-256 of the names of all files.
    """
    found = []
    for leaf in leaf_datasets(dataset):
        path = getattr(leaf, 'ann_file', None) or None
        one = dict(type=type(leaf).__name__, images=len(leaf), ann_file=path)
        if path:
            one['sha256'] = fingerprint(path,
                                        getattr(leaf, 'backend_args', None))
            more = getattr(leaf, 'instances_ann_file', None)
            if more:
                one.update(
                    instances_ann_file=more,
                    instances_sha256=fingerprint(more, leaf.backend_args))
        elif hasattr(leaf, 'get_data_info'):
            digest = hashlib.sha256()
            for info in map(leaf.get_data_info, range(len(leaf))):
                names = info.get('img_path'), info.get('seg_map_path')
                digest.update('{}\0{}\n'.format(*names).encode())
            one['names_sha256'] = digest.hexdigest()
        found.append(one)
    return found


def model_record(cfg: Config, weights: Union[str, Sequence[str],
                                             None]) -> dict:
    """Record of a config with its checkpoints, each with its SHA-256."""
    files = [weights] if isinstance(weights, str) else weights or []
    return dict(
        config=cfg.filename,
        weights=[dict(file=file, sha256=fingerprint(file)) for file in files],
        revision=revision(),
        versions=versions())


def run_record(runner: Any, dataset: Any) -> dict:
    """Record of a run, in plain values."""
    return dict(
        model_record(runner.cfg, runner.cfg.get('load_from')),
        date=time.strftime('%Y-%m-%d %H:%M:%S %z'),
        command=sys.argv,
        seed=getattr(runner, 'base_seed', runner.seed),
        processes=runner.world_size,
        data=data_record(dataset))


def score_record(runner: Any, dataset: Any) -> dict:
    """What scores depend on, equal for two runs that must agree:
    :func:`run_record` without date and command, and the text of the config
    without ``work_dir`` and the like."""
    record = run_record(runner, dataset)
    del record['date'], record['command']
    # one line per key: ``pretty_text`` takes a second
    lines = [
        f'{key} = {value!r}' for key, value in runner.cfg.to_dict().items()
        if key not in _LOCATION_KEYS
    ]
    return dict(record, config_text='\n'.join(lines))


def read_record(folder: str) -> Optional[dict]:
    """The record in a folder of results; None: there is none to read."""
    try:
        with open(osp.join(folder, RECORD), encoding='utf-8') as file:
            return json.load(file)
    except (OSError, ValueError):
        return None


def record_paths(evaluator: Any) -> List[str]:
    """Where a record belongs beside the files that metrics write:
    ``PREFIX.record.json`` for an ``outfile_prefix``, ``FILE.record.json`` for
    a ``FILE.pkl`` of predictions, ``FOLDER/record.json`` for a folder."""
    found = []
    for metric in getattr(evaluator, 'metrics', ()):
        prefix = getattr(metric, 'outfile_prefix', None)
        dump = getattr(metric, 'out_file_path', None)
        folder = getattr(metric, 'folder', None)
        if prefix is not None:
            found.append(f'{prefix}.record.json')
        if dump is not None:
            found.append(f'{osp.splitext(dump)[0]}.record.json')
        if isinstance(folder, (str, os.PathLike)):
            found.append(osp.join(folder, RECORD))
    return list(dict.fromkeys(found))


@HOOKS.register_module()
class RunRecordHook(Hook):
    """Writes ``work_dir/record.json`` at each evaluation, and the same beside
    other files of results (see :func:`record_paths`).

    :func:`run_record` of the evaluated data, the iteration and the whole text
    of the config.
    """

    #: ``pretty_text``, which takes a second.
    _config_text: Optional[str] = None

    def after_val_epoch(self, runner: Any, *args: Any, **kwargs: Any) -> None:
        self._write(runner, runner.val_loop)

    def after_test_epoch(self, runner: Any, *args: Any, **kwargs: Any) -> None:
        self._write(runner, runner.test_loop)

    @master_only
    def _write(self, runner: Any, loop: Any) -> None:
        if self._config_text is None:
            self._config_text = runner.cfg.pretty_text
        record = dict(
            run_record(runner, loop.dataloader.dataset),
            iteration=runner.iter,
            config_text=self._config_text)
        text = json.dumps(record, indent=1, default=str) + '\n'
        own = osp.join(runner.work_dir, RECORD)
        for path in dict.fromkeys([own, *record_paths(loop.evaluator)]):
            write_bytes(path, text.encode())
