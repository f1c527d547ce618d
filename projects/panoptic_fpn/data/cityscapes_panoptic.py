"""Cityscapes with its 8 thing and 11 stuff classes.

Reads what ``tools/dataset_converters/cityscapes.py`` prepares, or the JSON of
cityscapesscripts' own converter (``createPanopticImgs``), whose image names
and, with ``--use-train-id``, category ids are put right.
"""
import os.path as osp
from typing import List

from mmdet.registry import DATASETS
from mmengine.logging import print_log

from mmengine_exact.errors import InputError

from .. import cityscapes
from ..labels import LabelSpace
from .coco_panoptic import CocoPanopticFPNDataset

_PREPARE = 'python tools/dataset_converters/cityscapes.py DATA_ROOT'


@DATASETS.register_module()
class CityscapesPanopticDataset(CocoPanopticFPNDataset):
    """Cityscapes panoptic data set.

    Classes are those of ``cityscapesscripts.helpers.labels`` that the
    evaluation does not ignore. Groups (``cargroup``, ...) are crowd. Image
    ids are strings, ``<city>_<sequence>_<frame>``.

    Args:
        ann_file (str): ``gtFine/panoptic_fpn_{split}.json``, prepared; or
            ``gtFine/cityscapes_panoptic_{split}.json`` of cityscapesscripts.
        data_prefix (dict): ``img``: folder of the cities' images. ``seg``:
            folder of the cities' label images, or of the official
            converter's PNGs.
        **kwargs: Those of :class:`CocoPanopticFPNDataset`.

    Raises:
        InputError: The JSON is missing or lists other classes.
    """

    if_missing = f'Prepare Cityscapes by `{_PREPARE}`.'

    def _adapt(self, content: dict) -> None:
        self._repair_category_ids(content)
        found = LabelSpace.from_coco(content['categories'], self.ann_file)
        space = cityscapes.label_space()
        if found != space:
            differing = set(found.names) ^ set(space.names)
            raise InputError(
                f'{self.ann_file}: its categories are not those of '
                f'Cityscapes (different: {sorted(differing) or "the ids"}). '
                f'Prepare it by `{_PREPARE}`, or use CocoPanopticFPNDataset '
                'for classes of your own.')
        self._repair_image_names(content['images'])

    def _repair_category_ids(self, content: dict) -> None:
        """Turn train ids (``createPanopticImgs --use-train-id``) into ids."""
        space, train_ids = cityscapes.label_space(), cityscapes.train_ids()
        named = {c['name']: c['id'] for c in content['categories']}
        if named != dict(zip(space.names, train_ids)):
            return
        id_of_train_id = dict(zip(train_ids.tolist(), space.category_ids))
        for category in content['categories']:
            category['id'] = id_of_train_id[category['id']]
        for annotation in content['annotations']:
            for segment in annotation['segments_info']:
                segment['category_id'] = id_of_train_id[segment['category_id']]
        print_log(
            f'{self.ann_file}: categories have train ids; read as the ids of '
            'the label table, which results and evaluation use.',
            logger='current')

    def _repair_image_names(self, images: List[dict]) -> None:
        """Replace ``X_gtFine_leftImg8bit.png``, which does not exist, by the
        image in the folder of its city."""
        wrong = '_gtFine' + cityscapes.IMAGE_SUFFIX
        misnamed = [i for i in images if i['file_name'].endswith(wrong)]
        for image in misnamed:
            image_id = cityscapes.image_id(image['file_name'])
            image['file_name'] = osp.join(
                image_id.split('_')[0], image_id + cityscapes.IMAGE_SUFFIX)
        if misnamed:
            print_log(
                f'{self.ann_file}: {len(misnamed)} images were named *{wrong}'
                ', which does not exist; read as <city>/*'
                f'{cityscapes.IMAGE_SUFFIX}. Caravans and trailers are void '
                'in this file: AP forgives detections on them, where the '
                f'official script does not (`{_PREPARE}` keeps them apart).',
                logger='current')
