"""Recorded results, ``docs/results.yml``, and what is written from them: the
page ``docs/model_zoo.md``, and for OpenMMLab's ``mim`` ``metafile.yml``.

For each config: command, schedule, memory, the paper's numbers, what was
measured, and the weights. Memory is an estimate in GB of 2**30 bytes for one
of the schedule's 8 GPUs.
"""
import datetime
from pathlib import Path
from statistics import median
from typing import (Annotated, Any, Dict, Iterator, List, Literal, Mapping,
                    Optional, Tuple)

import msgspec
import yaml
from mmengine.config import Config

from mmengine_exact.errors import InputError
from mmengine_exact.files import read_bytes, write_bytes
from mmengine_exact.record import versions

from .collect import Report, Result
from .compute import memory_of
from .report import markdown_table, render, seeds_text
from .results import KEYS, NOT_RUN, spread_text
from .runs import hash_of, load, read_record
from .tables import PaperTables, Row

GPUS = 8
#: Folders of configs with a metafile, by the heading of their models.
FOLDERS = {'COCO': 'coco', 'Cityscapes': 'cityscapes'}


class Saved(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    """Results of a config; ``templates/results.yml.j2`` shows the form."""

    config: str
    seeds: Annotated[int, msgspec.Meta(ge=1)]
    metrics: Dict[str, Tuple[float, float, float]]
    weights: Optional[str] = None
    date: Any = ''
    gpus: Optional[int] = None
    versions: Dict[str, Any] = {}


def read_results(path: Path, tables: PaperTables) -> Dict[str, Saved]:
    """Recorded results by config.

    Raises:
        InputError: The file is missing or not of its form, or names a config
            or a metric that does not exist.
    """
    text = read_bytes(str(path), 'file', None)
    try:
        content = msgspec.convert(
            yaml.safe_load(text), Dict[Literal['results'], List[Saved]])
    except (yaml.YAMLError, ValueError) as error:
        # such as a month of 13
        raise InputError(f'{path}: {" ".join(str(error).split())}.') from None
    saved = {entry.config: entry for entry in content.get('results', ())}
    for config, entry in saved.items():
        if not tables.path(config).is_file():
            raise InputError(f'{path}: {config}: no such file below '
                             f'{tables.configs}. Correct the path.')
        for name, (middle, low, high) in entry.metrics.items():
            if name not in KEYS or not 0 <= low <= middle <= high <= 100:
                raise InputError(
                    f'{path}: {config}: {name}: needs one of {list(KEYS)} '
                    'with [median, lowest, highest] in percent.')
    return saved


def save_results(path: Path, tables: PaperTables, report: Report) -> None:
    """Put the results of a report, not of the miniature, into the file, in
    place of older ones of the same config."""
    found: Dict[str, Saved] = {}
    for section in report.sections:
        for result in section.results:
            if result.seeds:
                entry = _saved(result)
                same = found.setdefault(entry.config, entry)
                same.metrics.update(entry.metrics)
    saved = read_results(path, tables) if path.is_file() else {}
    saved.update(found)
    content = msgspec.to_builtins(
        dict(results=list(saved.values())), builtin_types=(datetime.date, ))
    text = yaml.safe_dump(content, sort_keys=False, default_flow_style=None)
    write_bytes(str(path), render('results.yml', entries=text).encode())


def _saved(result: Result) -> Saved:
    record = read_record(result.states[result.seeds[0]].folder)
    made_with = record.get('versions') or versions()
    made_with = {name: str(v) for name, v in made_with.items() if v}
    return Saved(
        result.config,
        len(result.seeds), {
            name: (round(median(v), 2), round(min(v), 2), round(max(v), 2))
            for name, v in result.found.items() if name in KEYS
        },
        date=datetime.date.today().isoformat(),
        gpus=record.get('gpus'),
        versions=made_with)


def zoo_files(tables: PaperTables, saved: Mapping[str,
                                                  Saved]) -> Dict[str, bytes]:
    """Page and metafiles, with recorded results by config, by their path in
    the repository."""
    groups, files = dict(_groups(tables)), {}
    for title, folder in FOLDERS.items():
        models = [(Path(config), load(tables.path(config)),
                   _numbers(_rows(tables, config)), saved.get(config))
                  for config in groups[title]]
        files[f'configs/{folder}/metafile.yml'] = render(
            'metafile.yml', data=title, folder=folder, models=models)
    files['docs/model_zoo.md'] = zoo_page(tables, saved)
    return {path: text.encode() for path, text in files.items()}


def _rows(tables: PaperTables, config: str) -> List[Row]:
    """The paper's rows of a config; those of test-dev belong to the config
    that exports."""
    return [
        row for row in tables.rows.values()
        if row.config and (row.test_config or row.config) == config
    ]


def zoo_page(tables: PaperTables, saved: Mapping[str, Saved]) -> str:
    """The page in Markdown, with recorded results by config."""
    known: Dict[str, int] = {}
    sections = []
    for title, configs in _groups(tables):
        lines = []
        for config in configs:
            rows = _rows(tables, config)
            command, *more = _training(tables, config, rows, known)
            lines.append([
                f'[{Path(config).stem}](../configs/{config})<br>{command}',
                *more,
                _paper(rows),
                _ours(saved.get(config))
            ])
        head = ('config and command', 'schedule', 'memory', 'paper', 'ours')
        sections.append((title, markdown_table(head, lines)))
    return render('model_zoo.md', sections=sections)


def _groups(tables: PaperTables) -> Iterator[Tuple[str, List[str]]]:
    """Configs by their heading; without miniatures, which are not results,
    and weights of other zoos (docs/weights.md)."""
    folders = dict(FOLDERS)
    folders.update((f'Table {table.id.removeprefix("table")}: {table.title}',
                    f'paper/{table.id}') for table in tables
                   if not table.id.startswith('figure'))
    for title, folder in folders.items():
        names = sorted(f'{folder}/{path.name}'
                       for path in (tables.configs / folder).glob('*.py')
                       if 'miniature' not in path.name
                       and not path.stem.endswith('-weights'))
        if names:
            yield title, names


def _training(tables: PaperTables, config: str, rows: List[Row],
              known: Dict[str, int]) -> Tuple[str, str, str]:
    """Command, schedule and memory; ``known`` are bytes by model and batch."""
    path = f'configs/{config}'
    for row in rows:
        if row.networks:
            return (f'`tools/dist_test.sh {path} INSTANCE.pth SEMANTIC.pth '
                    f'{GPUS}`',
                    f'the networks of {" and ".join(row.networks)}', '')
        if row.test_config:
            return (f'`tools/dist_test.sh {path} CHECKPOINT {GPUS} '
                    '--format-only PREFIX`',
                    f'trained as {Path(row.config).stem}', '')
    command = f'`tools/dist_train.sh {path} {GPUS}`'
    if any(row.tta for row in rows):
        command += ('<br>evaluated with `tools/class_frequencies.py` and '
                    '`--tta`: [how](paper.md#coco-stuff-2017)')
    cfg = load(tables.path(config))
    batch, shape = cfg.train_dataloader.batch_size, _image_shape(cfg)
    model = cfg.model.to_dict()
    # branches, not weights, take memory
    weights = model.get('loss_weights') or {}
    model['loss_weights'] = {name: bool(v) for name, v in weights.items()}
    key = hash_of([model, shape, batch])
    if key not in known:
        known[key] = memory_of(tables.path(config), shape, batch)
    return (command,
            f'{cfg.train_cfg.max_iters // 1000}k x {batch * GPUS}, lr '
            f'{cfg.optim_wrapper.optimizer.lr:g}',
            f'{known[key] / 2**30:.1f} GB')


def _image_shape(cfg: Config) -> Tuple[int, int]:
    """(H, W) in pixels of the largest training image, before padding."""
    steps = cfg.train_dataloader.dataset.pipeline
    for step in steps:
        if 'crop_size' in step:
            return tuple(step.crop_size)
    scales = [scale for step in steps for scale in step.get('scales', ())]
    width, height = max(scales, key=lambda scale: scale[1])
    return height, width


def _numbers(rows: List[Row]) -> Dict[str, float]:
    """The paper's numbers of a config, in the order of :data:`KEYS`."""
    numbers = {
        name: value
        for row in reversed(rows)
        for name, value in row.paper.items() if value is not None
    }
    return {name: numbers[name] for name in KEYS if name in numbers}


def _paper(rows: List[Row]) -> str:
    text = ', '.join(f'{name} {value}'
                     for name, value in _numbers(rows).items())
    tables = dict.fromkeys(
        row.table.removeprefix('table') for row in rows if row.trained)
    return f'{text} ({", ".join(tables)})' if text else 'not in the paper'


def _ours(saved: Optional[Saved]) -> str:
    if saved is None:
        return NOT_RUN
    # one seed has no range
    texts = [
        f'{name} {spread_text(values if saved.seeds > 1 else values[:1])}'
        for name, values in saved.metrics.items()
    ]
    text = f'{", ".join(texts)} ({seeds_text([saved.seeds])})'
    return f'{text}, [weights]({saved.weights})' if saved.weights else text
