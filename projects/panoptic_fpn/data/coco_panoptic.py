"""Any data set in COCO panoptic format.

A JSON with ``images``, ``categories`` and ``annotations`` (one per image, with
``file_name`` of its PNG and ``segments_info``), a folder of images and a
folder of PNGs. Categories may come in any order and ids may be integers or
strings; see https://cocodataset.org/#format-data, part 4.
"""
import logging
from difflib import get_close_matches
from typing import Any, List, Optional, Set

from mmdet.datasets.base_det_dataset import BaseDetDataset
from mmdet.registry import DATASETS
from mmengine.fileio import join_path
from mmengine.logging import print_log
from mmengine.utils import is_abs

from mmengine_exact.errors import CorruptFileError, InputError
from mmengine_exact.files import read_bytes
from mmengine_exact.stream import SeededDatasetMixin

from ..coco_format import (Pair, instances_faults, panoptic_faults,
                           parse_object, raise_first)
from ..labels import LabelSpace
from .instance_masks import compact_mask

#: Different corrupt images, with none that can be read between them, that end
#: training even if single ones are skipped.
MOST_CORRUPT = 50
_INSTANCES = (
    'Set instances_ann_file of the dataset to the instances JSON of the same '
    'images and categories, or to None to train on the segments of the PNGs.')


@DATASETS.register_module()
class CocoPanopticFPNDataset(SeededDatasetMixin, BaseDetDataset):
    """COCO panoptic data set: things, stuff, crowd and void.

    Classes are the JSON's ``categories``: things first, then stuff, each in
    the order of their ids (:class:`LabelSpace`); or those of them that
    ``metainfo=dict(classes=...)`` names, in its order. Segments of the others
    are void: no instances to train on or to find, and pixels that neither the
    semantic loss nor any score counts. The PNG of an image is the one its
    annotation names.

    Args:
        ann_file (str): The panoptic JSON, relative to ``data_root``.
        data_prefix (dict): ``img``: folder of the images, ``seg``: folder of
            the PNGs.
        filter_cfg (dict, optional): In training, ``min_size`` drops images
            with a shorter side below it, ``filter_empty_gt`` those without
            a segment. Images with stuff only are kept.
        categories_file (str, optional): Another JSON to take ``categories``
            from, for files that lack ``isthing`` (COCO's test-dev).
        instances_ann_file (str, optional): COCO instances JSON of these
            images, relative to ``data_root``. Instances to train on, crowd
            too, are then its masks, which may overlap, as in the paper; the
            semantic map stays that of the PNGs. By default instances are the
            segments of the PNGs.
        skip_corrupt (bool): In training, go on with another image where one
            cannot be read, and log how many were skipped. By default a
            corrupt file stops the run.
        **kwargs: Those of mmdet's ``BaseDetDataset`` (``backend_args``,
            ``pipeline``, ``test_mode``, ...).

    Raises:
        InputError: A JSON that is missing, unreadable, empty or that
            contradicts itself; the message names file, value and fix.
    """

    #: What to do where the JSON is missing.
    if_missing = 'Set data_root and ann_file of the dataset to your JSON.'

    def __init__(self,
                 *args: Any,
                 ann_file: str = '',
                 data_prefix: dict = dict(img='', seg=''),
                 categories_file: Optional[str] = None,
                 instances_ann_file: Optional[str] = None,
                 skip_corrupt: bool = False,
                 **kwargs: Any) -> None:
        self.categories_file = categories_file
        self.instances_ann_file = instances_ann_file
        self.skip_corrupt = skip_corrupt
        self.num_skipped = 0
        self._failed_in_a_row: Set[int] = set()
        super().__init__(
            *args, ann_file=ann_file, data_prefix=data_prefix, **kwargs)

    def load_data_list(self) -> List[dict]:
        """Read and check the JSON.

        Returns:
            list[dict]: For each image ``img_id``, ``img_path``, ``height``,
            ``width``, ``seg_map_path`` and ``segments_info`` (each None
            without annotation), ``instances`` (thing labels, as mmdet's
            samplers read them). An entry of ``segments_info`` has ``id`` (in
            the PNG), ``category`` (label), ``iscrowd`` and ``is_thing``
            (a thing and not crowd, as in mmdet). Of an instances JSON
            ``instances``, with crowd, and their ``instance_masks``.
        """
        content, source = self._read_json(self.ann_file), self.ann_file
        if self.categories_file:
            source = self._below_root(self.categories_file)
            content['categories'] = self._read_json(source).get('categories')
        if self.test_mode:
            content.setdefault('annotations', [])
        pairs = raise_first(panoptic_faults(content, self.ann_file,
                                            source)).pairs
        self._adapt(content)
        whole = LabelSpace.from_coco(content['categories'], source)
        self.label_space = self._chosen(whole)
        self._metainfo.update(self.label_space.metainfo())
        #: Categories of the JSON that are void here.
        self.left_out = set(whole.category_ids).difference(
            self.label_space.category_ids)
        self.unannotated = [
            pair.image['id'] for pair in pairs if pair.annotation is None
        ]
        infos = [self.parse_data_info(pair) for pair in pairs]
        if self.instances_ann_file:
            self.instances_ann_file = self._below_root(self.instances_ann_file)
            self._read_instances(self.instances_ann_file, infos, whole)
        return infos

    def _below_root(self, path: str) -> str:
        """A file that is given as ``ann_file`` is."""
        if is_abs(path) or not self.data_root:
            return path
        return join_path(self.data_root, path)

    def _read_json(self, path: str) -> dict:
        return parse_object(
            read_bytes(path, 'annotation JSON', self.backend_args,
                       self.if_missing), path)

    def _read_instances(self, path: str, infos: List[dict],
                        whole: LabelSpace) -> None:
        """Replace the instances of images by those of an instances JSON."""
        content = parse_object(
            read_bytes(path, 'instances JSON', self.backend_args, _INSTANCES),
            path)
        raise_first(instances_faults(content, path, masks=True))
        sizes = {i['id']: (i['height'], i['width']) for i in content['images']}
        by_id = {info['img_id']: info for info in infos}
        for id_, one in by_id.items():
            size, found = (one['height'], one['width']), sizes.get(id_)
            if found != size:
                raise InputError(
                    f'{path}: image_id={id_!r} is {found or "not listed"} '
                    f'here, {size} (h, w) in {self.ann_file}. {_INSTANCES}')
            one.update(instances=[], instance_masks=[])
        names = {c['id']: c['name'] for c in content['categories']}
        things = dict(zip(whole.category_ids, whole.thing_names))
        for note in content['annotations']:
            category, info = note['category_id'], by_id.get(note['image_id'])
            if things.get(category) != names[category]:
                raise InputError(
                    f'{path}: annotation id={note["id"]!r} is of category '
                    f'{category!r}, {names[category]!r}; in {self.ann_file} '
                    f'it is {things.get(category, "no thing")!r}. '
                    f'{_INSTANCES}')
            if info is None or category in self.left_out:
                continue
            mask = compact_mask(note['segmentation'], sizes[note['image_id']])
            if mask:
                info['instance_masks'].append(mask)
                info['instances'].append(
                    dict(
                        bbox_label=self.label_space.label(category),
                        ignore_flag=int(note.get('iscrowd', 0))))

    def _adapt(self, content: dict) -> None:
        """Change a sound JSON by rules of this data set."""

    def _chosen(self, space: LabelSpace) -> LabelSpace:
        """The classes that ``metainfo.classes`` names; without it, all."""
        named = self._metainfo.get('classes')
        if named is None:
            return space
        names = [named] if isinstance(named, str) else list(map(str, named))
        fault = '' if names else 'no class'
        for name in names:
            if names.count(name) > 1:
                fault = f'{name!r} twice'
            elif name not in space.names:
                near = ', '.join(get_close_matches(name, space.names))
                fault = (f'{name!r}, which is not a category of the JSON '
                         f'(similar: {near or "none"})')
        if fault:
            raise InputError(
                f'{space.source}: metainfo.classes of the config has {fault}. '
                'Correct it, or remove metainfo to use all categories.')
        if tuple(names) == space.names:
            return space
        return space.choose(names, f'metainfo.classes (of {space.source})')

    def parse_data_info(self, raw_data_info: Pair) -> dict:
        """One image and its annotation; see :meth:`load_data_list`."""
        image, annotation, _ = raw_data_info
        info = dict(
            img_id=image['id'],
            img_path=self._path('img', image),
            height=image['height'],
            width=image['width'],
            seg_map_path=None,
            segments_info=None,
            instances=[])
        if annotation is None:
            return info
        segments, ignored = [], list(annotation.get('ignored_ids', []))
        for segment in annotation['segments_info']:
            category = segment['category_id']
            if category in self.left_out:
                ignored.append(segment['id'])
            else:
                segments.append(
                    self._segment(segment['id'],
                                  self.label_space.label(category),
                                  int(segment.get('iscrowd', 0))))
        info.update(
            seg_map_path=self._path('seg', annotation),
            segments_info=segments,
            instances=[
                dict(bbox_label=segment['category'], ignore_flag=0)
                for segment in segments if segment['is_thing']
            ],
            void_ids=annotation.get('void_ids'),
            ignored_ids=ignored)
        return info

    def _path(self, kind: str, entry: dict) -> str:
        return join_path(self.data_prefix.get(kind, ''), entry['file_name'])

    def _segment(self, id_: int, label: int, crowd: int) -> dict:
        return dict(
            id=id_,
            category=label,
            iscrowd=crowd,
            is_thing=self.label_space.is_thing(label) and not crowd)

    def get_data_info(self, idx: int) -> dict:
        """Same as mmengine's, with ``label_space`` for the transforms and
        ``drawn_label``, the class for whose sake the image was drawn."""
        return dict(
            super().get_data_info(idx),
            label_space=self.label_space,
            drawn_label=self.drawn_label)

    def filter_data(self) -> List[dict]:
        """Drop, in training, what cannot be trained on, and log how much."""
        if self.test_mode:
            return self.data_list
        cfg = self.filter_cfg or {}
        min_size = cfg.get('min_size', 0)
        kept, dropped = [], dict(unannotated=0, empty=0, small=0)
        for info in self.data_list:
            if info['segments_info'] is None:
                dropped['unannotated'] += 1
            elif cfg.get('filter_empty_gt', False) \
                    and not info['segments_info']:
                dropped['empty'] += 1
            elif min(info['height'], info['width']) < min_size:
                dropped['small'] += 1
            else:
                kept.append(info)
        if not kept:
            raise InputError(
                f'{self.ann_file}: no image is left to train on ({dropped} '
                'dropped). Check filter_cfg and the annotations.')
        if any(dropped.values()):
            print_log(
                f'{self.ann_file}: {len(kept)} images to train on, dropped: '
                f'{dropped}',
                logger='current')
        return kept

    def prepare_data(self, idx: int) -> Optional[dict]:
        """Pipeline on one image; None, where the user asked for it, if a
        file is corrupt (mmengine then takes another image)."""
        try:
            data = super().prepare_data(idx)
        except CorruptFileError as error:
            if self.test_mode or not self.skip_corrupt:
                raise
            self.num_skipped += 1
            # Distinct ones: with few images the same may be drawn twice.
            self._failed_in_a_row.add(idx)
            failed = len(self._failed_in_a_row)
            if failed == min(MOST_CORRUPT, len(self)):
                raise InputError(
                    f'{failed} corrupt images in a row, so the cause is not a '
                    f'single file. The last: {error}') from None
            print_log(
                f'Skipped a corrupt image, {self.num_skipped} so far in this '
                f'loader: {error}',
                logger='current',
                level=logging.WARNING)
            return None
        self._failed_in_a_row.clear()
        return data
