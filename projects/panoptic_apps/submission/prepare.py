"""From a config to archives: inference, rules, zip.

Results first go to a hidden folder beside the archives. An archive is written
in one step, once every rule holds for every file of it.
"""
import os
import os.path as osp
import shutil
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Callable, Dict, List, Optional, Sequence

from mmdet.registry import DATASETS
from mmengine.config import Config
from mmengine.dist import broadcast_object_list, is_main_process
from mmengine.fileio import exists
from mmengine.registry import init_default_scope

from mmengine_exact import explain
from mmengine_exact.errors import InputError
from panoptic_fpn.coco_format import ERROR, WARNING, Faults, collect
from panoptic_fpn.training.test_options import require_panoptic

from .contents import Expected, Progress, silent, unzip, write_archive
from .servers import Server, Task


def set_test_images(cfg: Config,
                    server: Server,
                    ann_file: Optional[str] = None,
                    image_dir: Optional[str] = None,
                    categories_file: Optional[str] = None) -> None:
    """Let the test loader of a config read other images, by default those of
    a server's test set.

    ``ann_file`` lists the images below ``image_dir``; the categories of
    ``categories_file`` say what is a thing. All are below ``data_root``.
    """
    require_panoptic(cfg, 'tools/format_submission.py')
    dataset = cfg.test_dataloader.dataset
    categories_file = categories_file or server.categories_file
    dataset['ann_file'] = ann_file or server.ann_file
    dataset['data_prefix'] = dict(img=image_dir or server.image_dir, seg='')
    if categories_file is not None:
        dataset['categories_file'] = categories_file


def set_metrics(cfg: Config, tasks: Sequence[Task], prefix: str) -> None:
    """Let the test write results with ``prefix`` and compute nothing."""
    metrics: List[Dict] = []
    for task in tasks:
        metric = dict(task.metric, format_only=True, outfile_prefix=prefix)
        if metric not in metrics:  # boxes and masks share it
            metrics.append(metric)
    cfg.test_evaluator = dict(type='PanopticEvaluator', metrics=metrics)


def build_expected(cfg: Config) -> Expected:
    """Images and classes of the test loader's data set."""
    init_default_scope(cfg.get('default_scope', 'mmdet'))
    return _expected_of(DATASETS.build(cfg.test_dataloader.dataset))


def _expected_of(dataset: Any) -> Expected:
    infos = (dataset.get_data_info(i) for i in range(len(dataset)))
    sizes = {info['img_id']: (info['height'], info['width']) for info in infos}
    return Expected(sizes, dataset.label_space)


def require_images(dataset: Any) -> None:
    """Raise an InputError where local images are missing, before hours of
    inference; it names the first, and how many."""
    if getattr(dataset, 'backend_args', None) is not None:
        return  # asking a server for each takes too long
    paths = [dataset.get_data_info(i)['img_path'] for i in range(len(dataset))]
    missing = [path for path in paths if not exists(path)]
    if missing:
        raise InputError(
            f'{missing[0]}: no such file, as {len(missing)} of {len(paths)} '
            f'images; a submission holds all of them. Restore them below '
            f'{osp.dirname(missing[0])}, or correct --image-dir.')


def result_folder(out_dir: str, name: str) -> str:
    """Where results are until they are zipped."""
    return osp.join(out_dir, f'.{name}.results')


def run_submission(runner: Any,
                   tasks: Dict[str, Task],
                   out_dir: str,
                   name: str,
                   num_workers: Optional[int] = None,
                   progress: Progress = silent,
                   report: Callable[[str], None] = print) -> None:
    """Predict the test set, check the results and write the archives.

    Each of several processes predicts its images; the first one checks and
    zips, so all must see ``out_dir``. The folder of results is removed in the
    end; it is kept where they cannot be packed.

    Args:
        runner (PanopticRunner): Its config has :func:`set_metrics`.
        tasks (dict[str, Task]): By name.
        out_dir (str): Folder of the archives.
        name (str): Name of the algorithm.
        num_workers (int, optional): Processes that check; by default one per
            core, at most 8.
        progress (Callable): See :data:`Progress`.
        report (Callable): Called with lines for the user.

    Raises:
        InputError: On every process, and no archive is written: images are
            missing, or results have a fault.
    """
    folder = result_folder(out_dir, name)
    dataset = runner.test_dataloader.dataset

    def start() -> None:
        require_images(dataset)
        # a killed run may have left results of another model
        shutil.rmtree(folder, ignore_errors=True)
        os.makedirs(folder)

    def pack() -> None:
        _pack_all(tasks, _expected_of(dataset), folder, out_dir, name,
                  num_workers, progress, report)
        shutil.rmtree(folder, ignore_errors=True)

    _on_main(start)
    try:
        runner.test()
    except BaseException:
        if is_main_process():
            shutil.rmtree(folder, ignore_errors=True)
        raise
    _on_main(pack)


def _on_main(work: Callable[[], Any]) -> None:
    """Do ``work`` in the first process; a failure there stops all others."""
    outcome: List[Optional[str]] = [None]
    own: Optional[Exception] = None
    if is_main_process():
        try:
            work()
        except Exception as error:  # for all: the others wait for the outcome
            own = error
            outcome[0] = f'The first process failed: {explain(error) or error}'
    broadcast_object_list(outcome)
    if outcome[0] is not None:
        raise own or InputError(outcome[0])


def _pack_all(tasks: Dict[str, Task], expected: Expected, folder: str,
              out_dir: str, name: str, num_workers: Optional[int],
              progress: Progress, report: Callable[[str], None]) -> None:
    """Check the results of all tasks, then write all archives."""
    packed, errors = [], 0
    for key, task in tasks.items():
        path = task.archive(out_dir, name)
        files = task.files(osp.join(folder, 'r'), Path(path).stem)
        if not files or not all(file.is_file() for file in files.values()):
            raise InputError(
                f'{key}: the model has written no such results. Leave the '
                'task out, or use a model with that branch.')
        faults = Faults()
        faults.extend(task.check(files, expected, path, num_workers, progress))
        errors += report_faults(key, faults, report)
        packed.append((path, files))
    if errors:
        raise InputError(
            f'{folder}: {errors} errors, so no archive is written. The '
            'results are kept there; correct what is named above.')
    for path, files in packed:
        # a kill leaves its half in the folder that the next run removes
        write_archive(path, files, progress('zip', len(files)), scratch=folder)
        report(f'{path}: {len(expected.sizes)} images, {len(files)} files, '
               f'{os.path.getsize(path) / 1e6:.1f} MB')


def report_faults(key: str,
                  faults: Faults,
                  report: Callable[[str], None],
                  examples: int = 5) -> int:
    """Report some faults of each kind; return the number of errors."""
    for severity in (ERROR, WARNING):
        for kind in faults.kinds(severity):
            for fault in faults.examples[kind][:examples]:
                report(f'{severity} [{kind}] {fault.where}: {fault.value}')
            if faults.counts[kind] > examples:
                report(f'... and {faults.counts[kind] - examples} more '
                       f'[{kind}]')
    errors = faults.total(ERROR)
    report(f'{key}: {errors} errors, {faults.total(WARNING)} warnings')
    return errors


def check_archive(path: str,
                  server: Server,
                  task: Optional[str],
                  expected: Expected,
                  num_workers: Optional[int] = None,
                  progress: Progress = silent) -> Faults:
    """Faults of an archive by a server's rules, whoever wrote it.

    Its ``task`` is guessed from the name and the files where it is None.

    Raises:
        InputError: It is not a zip file, or no task fits it.
    """
    faults = Faults()
    with TemporaryDirectory(prefix='submission') as folder:
        members = collect(unzip(path, folder), faults.add)
        if faults.counts['damage']:
            return faults
        chosen, = server.choose([task or guess_task(path, server, members)
                                 ]).values()
        faults.extend(
            chosen.check(members, expected, path, num_workers, progress))
    return faults


def guess_task(path: str, server: Server, members: Any) -> str:
    """Task of an archive by its name, the folder that its task gives it, or
    what is in it; an InputError where it could be any."""
    folder, name = osp.abspath(path).split(os.sep)[-2:]
    named = [key for key in server.tasks if key in name] or [
        key for key, task in server.tasks.items()
        if osp.dirname(task.stem) == folder
    ]
    if len(named) == 1:
        return named[0]
    ends = {osp.splitext(name)[1].lower() for name in members}
    for key, needed in (('panoptic', {'.json', '.png'}),
                        ('instance', {'.txt'}), ('pixel', {'.png'})):
        if key in server.tasks and needed <= ends:
            return key
    raise InputError(f'{path}: its task is unclear. Name it with --tasks '
                     f'(of {", ".join(server.tasks)}).')
