"""Results of an evaluation as files: complete or not there, none of others.

``PREFIX.TASK/`` holds the files of one task. Every process writes those of
its own images, the first one looks at the folder in the end, so several
machines must share it. Until then ``PREFIX.TASK/.incomplete`` is there: the
folder of a run that was killed may hold files of an earlier one.
"""
import logging
import os
from pathlib import Path
from typing import Any, Dict, Iterable, Optional, Sequence, Union

from mmengine.logging import print_log

from mmengine_exact.errors import InputError

from ..coco_format.results import write_result
from .by_class import ByClass
from .per_image import PerImageMetric

#: What helps where an image has no annotation.
NO_TRUTH = ('Give the dataset its annotation file, or set format_only=True '
            '(tools/test.py --format-only PREFIX) to write results without '
            'scores.')

#: Lies in a folder as long as its files are being written.
INCOMPLETE = '.incomplete'


def mark_incomplete(folder: Union[str, Path], incomplete: bool) -> None:
    """Add or remove the mark of a folder whose files are being written.

    Raises:
        InputError: It cannot be written.
    """
    mark = Path(folder) / INCOMPLETE
    if incomplete:
        write_result(mark, b'')
    else:
        mark.unlink(missing_ok=True)


def foreign_files(folder: Union[str, Path],
                  written: Iterable[str]) -> Sequence[str]:
    """Files below a folder that are not among ``written``.

    Args:
        folder (str | Path): May be missing.
        written (Iterable[str]): Paths relative to it, with '/'.

    Returns:
        list[str]: Sorted relative paths; hidden files are passed over.
    """
    folder, written = Path(folder), set(written)
    found = []
    for path, _, names in os.walk(folder):
        parent = Path(path).relative_to(folder)
        found += [(parent / name).as_posix() for name in names
                  if not name.startswith('.')]
    return sorted(name for name in found if name not in written)


class WritingMetric(PerImageMetric):
    """Base of metrics that also write results.

    Args:
        format_only (bool): Whether to write results and compute nothing, as
            for images without annotation.
        outfile_prefix (str, optional): Folder and first part of the names of
            all files; None writes none.
        prefix (str, optional): First part of the keys.

    Raises:
        InputError: ``format_only`` without ``outfile_prefix``.
    """

    #: What ``--format-only`` of the test tool looks for.
    writes_results = True

    #: Names of the scores.
    score_keys: Sequence[str] = ()

    #: Of the last evaluation.
    by_class: ByClass = {}

    def __init__(self,
                 format_only: bool = False,
                 outfile_prefix: Optional[str] = None,
                 prefix: Optional[str] = None) -> None:
        super().__init__(prefix=prefix)
        if format_only and outfile_prefix is None:
            raise InputError(
                f'{type(self).__name__}: format_only=True writes '
                'files; say where with outfile_prefix.')
        self.format_only = format_only
        self.outfile_prefix = outfile_prefix
        self._marked = False

    def folder(self) -> str:
        """``PREFIX.TASK``."""
        raise NotImplementedError

    def process(self, data_batch: Any, data_samples: Sequence[Dict]) -> None:
        """As the base; marks the folder before the first file."""
        judged = any(
            sample.get(self.prediction) is not None for sample in data_samples)
        if self.outfile_prefix is not None and judged and not self._marked:
            mark_incomplete(self.folder(), True)
            self._marked = True
        super().process(data_batch, data_samples)

    @property
    def keys(self) -> Sequence[str]:
        return () if self.format_only else self.score_keys

    def finish_folder(self, written: Iterable[str]) -> None:
        """Say where the results are and whether other files lie among them.

        A folder with results of other images, such as those of another
        split, must not be handed in by mistake, and nothing in it is this
        metric's to delete.

        Args:
            written (Iterable[str]): Its files of this evaluation.

        Raises:
            InputError: There are other files and nothing but results was
                asked for. Where there are scores to report, the log warns.
        """
        folder = self.folder()
        mark_incomplete(folder, False)
        self._marked = False
        print_log(f'Results are in {folder}.', logger='current')
        others = foreign_files(folder, written)
        if not others:
            return
        text = (f'{folder} holds {len(others)} files that this evaluation has '
                f'not written (the first is {others[0]}). The new results are '
                'complete; remove the other files before you hand the folder '
                'in, or choose another prefix.')
        if self.format_only:
            raise InputError(text)
        print_log(text, logger='current', level=logging.WARNING)
