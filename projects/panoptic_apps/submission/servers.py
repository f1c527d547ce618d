"""What each benchmark server takes: tasks, file names, layout.

COCO names archive, JSON and folder alike,
``[type]_[testset]_[alg]_results`` (https://cocodataset.org/#upload).
Cityscapes asks for no names but those of the images.
"""
import os.path as osp
import re
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Callable, Dict, Iterator, Optional, Sequence

from mmengine_exact.errors import InputError
from panoptic_fpn.coco_format import Fault

from .cityscapes_rules import instance_rules, pixel_rules
from .coco_rules import detection_rules, panoptic_rules
from .contents import (Archive, Expected, Members, Progress, files_below,
                       name_faults, silent)

#: Names of an algorithm that fit every server and file system.
_NAME = re.compile(r'[A-Za-z0-9][A-Za-z0-9.-]*')
#: What COCO's server takes; its JSON files are named alike.
_COCO_STEM = r'(panoptic|detections)_[A-Za-z0-9-]+_.+_results'


@dataclass(frozen=True)
class Task:
    """One archive of a server.

    ``metric`` writes its results; ``stem`` names the archive; ``files`` gives
    its files for a prefix of results and a stem; ``rules`` looks for faults;
    ``pattern``, if there is one, is that of its stem, which its JSON must
    have, too.
    """

    metric: Dict
    stem: str
    files: Callable[[str, str], Members]
    rules: Callable[[Archive], Iterator[Fault]]
    pattern: Optional[str] = None

    def archive(self, folder: str, name: str) -> str:
        """Path of the archive."""
        return osp.join(folder, self.stem.format(name=name) + '.zip')

    def check(self,
              members: Members,
              expected: Expected,
              path: str,
              num_workers: Optional[int] = None,
              progress: Progress = silent) -> Iterator[Fault]:
        """All faults of what is or will be the archive ``path``."""
        stem = Path(path).stem
        if self.pattern and not re.fullmatch(self.pattern, stem):
            yield Fault(
                'file_name',
                Path(path).name, 'not named TYPE_TESTSET_ALGORITHM_'
                'results.zip, as the server asks for')
        yield from name_faults(members)
        yield from self.rules(
            Archive(members, expected, self.pattern and stem, num_workers,
                    progress))


@dataclass(frozen=True)
class Server:
    """Tasks by name, and files of the test set below ``data_root``."""

    tasks: Dict[str, Task]
    ann_file: str
    image_dir: str
    categories_file: Optional[str] = None

    def choose(self, names: Optional[Sequence[str]]) -> Dict[str, Task]:
        """Tasks of some names, or the first one; an InputError where there is
        no such task."""
        names = names or list(self.tasks)[:1]
        unknown = [name for name in names if name not in self.tasks]
        if unknown:
            raise InputError(f'task {unknown[0]!r} is unknown. Choose from '
                             f'{", ".join(self.tasks)}.')
        return {name: self.tasks[name] for name in names}


def check_name(name: str) -> None:
    """Raise an InputError for a name of an algorithm that may be misread."""
    if not _NAME.fullmatch(name):
        raise InputError(f'name {name!r}: use letters, digits, - and . '
                         'alone; _ separates the parts of COCO\'s names.')


def _panoptic_files(prefix: str, stem: str) -> Members:
    return {
        f'{stem}.json': Path(f'{prefix}.panoptic.json'),
        **files_below(f'{prefix}.panoptic', f'{stem}/')
    }


def _detections(kind: str, key: str) -> Task:
    # the server wants the same names for both kinds
    return Task(
        dict(type='PanopticInstanceAPMetric', metric=['bbox', 'segm']),
        f'{kind}/detections_test-dev2017_{{name}}_results',
        lambda prefix, stem: {f'{stem}.json': Path(f'{prefix}.{kind}.json')},
        partial(detection_rules, key=key), _COCO_STEM)


SERVERS = {
    'coco-test-dev':
    Server(
        dict(
            panoptic=Task(
                dict(type='PanopticQualityMetric'),
                'panoptic_test-dev2017_{name}_results', _panoptic_files,
                panoptic_rules, _COCO_STEM),
            bbox=_detections('bbox', 'bbox'),
            segm=_detections('segm', 'segmentation')),
        ann_file='annotations/image_info_test-dev2017.json',
        image_dir='test2017/',
        categories_file='annotations/panoptic_val2017.json'),
    'cityscapes':
    Server(
        dict(
            panoptic=Task(
                dict(
                    type='PanopticQualityMetric',
                    png_name='{img_id}_panoptic.png'),
                'cityscapes_panoptic_{name}', _panoptic_files, panoptic_rules),
            instance=Task(
                dict(type='CityscapesInstanceAPMetric'),
                'cityscapes_instance_{name}',
                lambda prefix, stem: files_below(f'{prefix}.instances'),
                instance_rules),
            pixel=Task(
                dict(type='CityscapesSemanticIoUMetric'),
                'cityscapes_pixel_{name}',
                lambda prefix, stem: files_below(f'{prefix}.semantic'),
                pixel_rules)),
        ann_file='gtFine/panoptic_fpn_test.json',
        image_dir='leftImg8bit/test/')
}
