"""Data sets whose annotation is one map of category ids for each image.

A JSON with ``images`` and ``categories``, a folder of images and a folder of
PNGs with one channel (or a palette, whose indices count) of 8 or 16 bits; each
pixel is a category id or void. Nothing separates objects of a class: all
pixels of a thing class are one crowd.

COCO-Stuff as in the challenge of 2017 (Table 1b of the paper):
``stuff_annotations_trainval2017.zip`` holds ``stuff_{train,val}2017.json`` and
the maps of both as ``stuff_{train,val}2017_pixelmaps.zip``: 92 .. 182 are the
91 stuff classes, 183 is 'other' (any thing), 0 is unlabelled. The JSONs were
extended to all of train2017 later; the challenge's 40k training images are
those of ``deprecated-challenge2017/train-ids.txt``, its 5k for validation are
val2017.
"""
import os.path as osp
from functools import cached_property
from typing import Any, Dict, List, Optional, Sequence

from mmdet.registry import DATASETS

from mmengine_exact.errors import InputError
from mmengine_exact.files import read_bytes

from ..coco_format import entries_by_id, image_faults, raise_first
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
        map_suffix (str): What follows the stem of the image in the name of
            its map.
        image_list (str, optional): Text file, relative to ``data_root``, with
            an image id or file name in each line: the images to use. By
            default those of the JSON.
        **kwargs: See :class:`CocoPanopticFPNDataset`.

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

    def _read_json(self, path: str) -> dict:
        """Add what a panoptic JSON says and this one does not."""
        content = super()._read_json(path)
        self._set_isthing(
            raise_first(entries_by_id(content, 'categories', path)), path)
        if path == self.ann_file:
            images = list(raise_first(image_faults(content, path)).values())
            if self.image_list:
                images = content['images'] = self._listed(
                    images, self._below_root(self.image_list))
            content['annotations'] = [
                dict(
                    image_id=image['id'],
                    file_name=osp.splitext(image['file_name'])[0] +
                    self.map_suffix,
                    segments_info=[]) for image in images
                if 'seg' in self.data_prefix
            ]
        return content

    def _set_isthing(self, categories: Dict[Any, dict], path: str) -> None:
        wrong = sorted(set(self.thing_ids) - set(categories)) or sorted(
            set(self.void_ids) & set(categories))
        if wrong:
            raise InputError(
                f'{path}: category id {wrong[0]} is in thing_ids but not a '
                'category, or in void_ids although it is a category. Correct '
                'thing_ids or void_ids, or the categories.')
        for id_, category in categories.items():
            category.setdefault('isthing', int(id_ in self.thing_ids))

    def _listed(self, images: List[dict], path: str) -> List[dict]:
        """Images that a list names, in the order of the JSON."""
        text = read_bytes(path, 'image list', self.backend_args).decode()
        wanted = {osp.splitext(line)[0] for line in text.split()}
        ids = {str(image['id']): image['id'] for image in images}
        # what names a file is not taken for the id of another image
        ids.update((osp.splitext(image['file_name'])[0], image['id'])
                   for image in images)
        unknown = wanted.difference(ids)
        if unknown:
            raise InputError(
                f'{path}: {len(unknown)} lines name no image of '
                f'{self.ann_file}, one is {min(unknown)!r}. Use the list and '
                'the JSON of one split.')
        chosen = {ids[name] for name in wanted}
        return [image for image in images if image['id'] in chosen]

    @cached_property
    def class_segments(self) -> List[dict]:
        """A segment for each class, for all images, by its category id; all
        objects of a thing class are one crowd."""
        space = self.label_space
        return [
            self._segment(id_, label, int(space.is_thing(label)))
            for label, id_ in enumerate(space.category_ids)
        ]

    def filter_data(self) -> List[dict]:
        """Same as the base class; no image is empty before its map is read."""
        self.filter_cfg: Any = dict(
            self.filter_cfg or {}, filter_empty_gt=False)
        return super().filter_data()

    def get_data_info(self, idx: int) -> dict:
        """Same as the base class, with ``class_map``, ``void_ids`` and all
        classes as ``segments_info``."""
        info = dict(
            super().get_data_info(idx),
            class_map=True,
            void_ids=[*self.void_ids, *self.left_out])
        if info['segments_info'] is not None:
            info['segments_info'] = self.class_segments
        return info


@DATASETS.register_module()
class CocoStuffDataset(SemanticMapDataset):
    """COCO-Stuff: one thing class, 'other', and the stuff classes."""

    def __init__(self,
                 *args: Any,
                 thing_ids: Sequence[int] = (183, ),
                 **kwargs: Any) -> None:
        super().__init__(*args, thing_ids=thing_ids, **kwargs)
