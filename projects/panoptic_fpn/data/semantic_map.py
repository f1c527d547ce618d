"""Data sets whose annotation is one map of category ids for each image.

A JSON with ``images`` and ``categories``, a folder of images and a folder of
PNGs with one channel (or a palette, whose indices count) of 8 or 16 bits; each
pixel is a category id or void. Nothing tells objects of a class apart: a
pixel of a thing class belongs to one crowd.
"""
import os.path as osp
from functools import cached_property
from typing import Any, List, Optional, Sequence, Set

from mmdet.registry import DATASETS
from mmengine.fileio import get_text, join_path
from mmengine.utils import is_abs

from mmengine_exact.errors import InputError

from .coco_panoptic import CocoPanopticFPNDataset


@DATASETS.register_module()
class SemanticMapDataset(CocoPanopticFPNDataset):
    """Semantic segmentation, read as the classes of one panoptic map.

    Samples are those of :class:`CocoPanopticFPNDataset` whose segments are
    all classes, with ``class_map=True``: ``LoadPanopticMap`` keeps those that
    occur. Which classes an image has is known only when its map is read, so
    ``ClassUniformInfiniteSampler`` draws among all images for each class.

    Args:
        ann_file (str): The JSON, relative to ``data_root``. Its
            ``annotations``, if any, are not read.
        data_prefix (dict): ``img``: folder of the images, ``seg``: folder of
            the maps. Without ``seg`` the images have no annotation.
        thing_ids (Sequence[int]): Categories that are things, where the JSON
            has no ``isthing``; the others are stuff.
        void_ids (Sequence[int]): Values of pixels without a class.
        map_suffix (str): Of the maps, after the stem of the image.
        image_list (str, optional): Text file, relative to ``data_root``, with
            an image id or file name in each line: the images to use. By
            default those of the JSON.
        **kwargs: As :class:`CocoPanopticFPNDataset`.

    Raises:
        InputError: See there; also a category id that is void, or an image
            list that names what the JSON does not have.
    """

    def __init__(self,
                 *args: Any,
                 thing_ids: Sequence[int] = (),
                 void_ids: Sequence[int] = (0, ),
                 map_suffix: str = '.png',
                 image_list: Optional[str] = None,
                 **kwargs: Any) -> None:
        self.thing_ids = tuple(thing_ids)
        self.void_ids = list(void_ids)
        self.map_suffix = map_suffix
        self.image_list = image_list
        super().__init__(*args, **kwargs)

    def _join_prefix(self) -> None:
        super()._join_prefix()
        if self.image_list and self.data_root and not is_abs(self.image_list):
            self.image_list = join_path(self.data_root, self.image_list)

    def load_data_list(self) -> List[dict]:
        """As the base class; each image may have any class."""
        if not self.test_mode and 'seg' not in self.data_prefix:
            raise InputError(
                f'{self.ann_file}: data_prefix names no folder of maps, so '
                'there is nothing to train on. Set data_prefix.seg.')
        return super().load_data_list()

    def _read_json(self, path: str) -> dict:
        content = super()._read_json(path)
        self._tell_things(content['categories'], path)
        if path == self.ann_file:
            if self.image_list:
                content['images'] = self._listed(content['images'])
            # what a panoptic JSON would say
            content['annotations'] = [
                dict(
                    image_id=image.get('id'),
                    file_name=osp.splitext(image.get('file_name', ''))[0] +
                    self.map_suffix) for image in content['images']
                if 'seg' in self.data_prefix
            ]
        return content

    def _tell_things(self, categories: List[dict], path: str) -> None:
        ids: Set[Any] = {category.get('id') for category in categories}
        absent = sorted(set(self.thing_ids) - ids)
        void = sorted(ids & set(self.void_ids))
        if absent:
            raise InputError(
                f'{path}: no category has id {absent[0]}, which thing_ids of '
                'the data set names. Correct thing_ids or the categories.')
        if void:
            raise InputError(
                f'{path}: category id {void[0]} is in void_ids of the data '
                'set. Take it out of one of them.')
        for category in categories:
            category.setdefault('isthing',
                                int(category.get('id') in self.thing_ids))

    def _listed(self, images: List[dict]) -> List[dict]:
        """Those images that the list names, in the order of the JSON."""
        try:
            text = get_text(self.image_list, backend_args=self.backend_args)
        except FileNotFoundError:
            raise InputError(
                f'{self.image_list}: no such file. Set image_list of the '
                'dataset to the list of its images, or None for all images '
                f'of {self.ann_file}.') from None
        wanted = {osp.splitext(line)[0] for line in text.split()}
        kept = []
        for image in images:
            names = {
                str(image.get('id')),
                osp.splitext(image.get('file_name', ''))[0]
            }
            if names & wanted:
                kept.append(image)
                wanted -= names
        if wanted:
            raise InputError(
                f'{self.image_list}: {len(wanted)} lines name no image of '
                f'{self.ann_file}, one is {min(wanted)!r}. Use the list and '
                'the JSON of one split.')
        return kept

    @cached_property
    def class_segments(self) -> List[dict]:
        """A segment for each class, for all images; its id is the category
        id."""
        space = self.label_space
        return [
            # of a thing class: nobody told its objects apart
            dict(
                id=category_id,
                category=label,
                iscrowd=int(space.is_thing(label)),
                is_thing=False)
            for label, category_id in enumerate(space.category_ids)
        ]

    def _segments(self, annotation: dict) -> List[dict]:
        return self.class_segments

    def filter_data(self) -> List[dict]:
        """As the base class; entries keep no list of all classes each."""
        kept = super().filter_data()
        for info in kept:
            if info['segments_info'] is not None:
                info['segments_info'] = []
        return kept

    def get_data_info(self, idx: int) -> dict:
        """As the base class, with ``class_map``, ``void_ids`` and all
        classes as ``segments_info``."""
        info = dict(
            super().get_data_info(idx), class_map=True, void_ids=self.void_ids)
        if info['segments_info'] is not None:
            # a sample's own, as the base class gives
            info['segments_info'] = [dict(s) for s in self.class_segments]
        return info
