"""Cityscapes for mmseg, with files and labels checked and seeded samples.

Sample  ``gt_sem_seg.data`` (1, h, w): train id 0 .. 18, 255 = void
Files   leftImg8bit/{split}/{city}/*_leftImg8bit.png
        gtFine/{split}/{city}/*_gtFine_labelTrainIds.png
"""
import os.path as osp
from typing import List, Optional

from mmengine.fileio import list_dir_or_file
from mmseg.datasets import CityscapesDataset
from mmseg.datasets.transforms import LoadAnnotations
from mmseg.registry import DATASETS

from mmengine_exact.errors import InputError
from mmengine_exact.stream import SeededDatasetMixin

_MAKE = ('The download does not contain these files: CITYSCAPES_DATASET=ROOT '
         'csCreateTrainIdLabelImgs makes them.')


@DATASETS.register_module()
class SeededCityscapesDataset(SeededDatasetMixin, CityscapesDataset):
    """mmseg's ``CityscapesDataset``; same arguments, same samples.

    Augmentation is drawn from the sample's seed, so that a resumed run sees
    what an uninterrupted one would have seen.

    Raises:
        InputError: No image, an image without the label image that the
            pipeline loads, or a value in a training image that is not a train
            id; names file and fix.
    """

    def load_data_list(self) -> List[dict]:
        """Same as mmseg's; see the class for what is checked."""
        found = super().load_data_list()
        fault = self._find_fault([info['seg_map_path'] for info in found])
        if fault is not None:
            raise InputError(fault)
        return found

    def _find_fault(self, paths: List[str]) -> Optional[str]:
        if not paths:
            return (f'{self.data_prefix["img_path"]}: no *{self.img_suffix} in'
                    ' this folder. Set data_root and data_prefix of the '
                    'dataset.')
        if not any(
                isinstance(step, LoadAnnotations)
                for step in self.pipeline.transforms):
            return None
        folder = self.data_prefix['seg_map_path']
        # one listing: asking for each file is slow over a network
        names = list_dir_or_file(
            folder,
            list_dir=False,
            suffix=self.seg_map_suffix,
            recursive=True,
            backend_args=self.backend_args)
        missing = sorted(set(paths) - {osp.join(folder, n) for n in names})
        if not missing:
            return None
        return (f'{missing[0]}: no such file; {len(missing)} of {len(paths)} '
                f'label images are missing. {_MAKE}')

    def prepare_data(self, idx: int) -> dict:
        """Same as mmseg's, but a label that is not a class raises here, not
        in an assert on the GPU."""
        data = super().prepare_data(idx)
        sample = (data or {}).get('data_samples')
        if not self.test_mode and sample is not None \
                and 'gt_sem_seg' in sample:
            labels = sample.gt_sem_seg.data
            count = len(self.metainfo['classes'])
            wrong = labels[(labels >= count) & (labels != self.ignore_index)]
            if len(wrong):
                raise InputError(
                    f'{sample.seg_map_path}: {int(wrong[0])} is not a train id '
                    f'(0 .. {count - 1}, {self.ignore_index} = void). {_MAKE}')
        return data
