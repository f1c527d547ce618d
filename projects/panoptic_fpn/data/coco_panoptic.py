"""Any data set in COCO panoptic format.

A JSON with ``images``, ``categories`` and ``annotations`` (one per image, with
``file_name`` of its PNG and ``segments_info``), a folder of images and a
folder of PNGs. Categories may come in any order and ids may be integers or
strings; see https://cocodataset.org/#format-data, part 4.
"""
import logging
from typing import Any, Dict, List, Optional, Set

from mmdet.datasets.base_det_dataset import BaseDetDataset
from mmdet.registry import DATASETS
from mmengine.fileio import get, join_path
from mmengine.logging import print_log
from mmengine.utils import is_abs

from mmengine_exact.errors import CorruptFileError, InputError
from mmengine_exact.files import join_inside, parse_json
from mmengine_exact.stream import SeededDatasetMixin

from ..labels import MAX_SEGMENT_ID, LabelSpace, is_whole, short

#: Different corrupt images, with none that can be read between them, that end
#: training even if single ones are skipped.
MOST_CORRUPT = 50

#: Segments and ignored ids of one image: their values in the map are 16 bit.
MOST_SEGMENTS = 2**16 - 2


@DATASETS.register_module()
class CocoPanopticFPNDataset(SeededDatasetMixin, BaseDetDataset):
    """COCO panoptic data set: things, stuff, crowd and void.

    Classes come from the JSON's ``categories`` alone: things first, then
    stuff, each in the order of their ids (:class:`LabelSpace`). The PNG of
    an image is the one its annotation names.

    Args:
        ann_file (str): The panoptic JSON, relative to ``data_root``.
        data_prefix (dict): ``img``: folder of the images, ``seg``: folder of
            the PNGs.
        filter_cfg (dict, optional): In training, ``min_size`` drops images
            with a shorter side below it, ``filter_empty_gt`` those without
            a segment. Images with stuff only are kept.
        categories_file (str, optional): Another JSON to take ``categories``
            from, for files that lack ``isthing`` (COCO's test-dev).
        skip_corrupt (bool): In training, go on with another image where one
            cannot be read, and log how many were skipped. By default a
            corrupt file stops the run.
        **kwargs: As mmdet's ``BaseDetDataset`` (``backend_args``,
            ``pipeline``, ``test_mode``, ...).

    Raises:
        InputError: A JSON that is missing, unreadable, empty or that
            contradicts itself; the message names file, value and fix.
    """

    def __init__(self,
                 *args: Any,
                 ann_file: str = '',
                 data_prefix: dict = dict(img='', seg=''),
                 categories_file: Optional[str] = None,
                 skip_corrupt: bool = False,
                 **kwargs: Any) -> None:
        self.categories_file = categories_file
        self.skip_corrupt = skip_corrupt
        self.num_skipped = 0
        self._failed_in_a_row: Set[int] = set()
        super().__init__(
            *args, ann_file=ann_file, data_prefix=data_prefix, **kwargs)

    def _join_prefix(self) -> None:
        super()._join_prefix()
        if self.categories_file and self.data_root \
                and not is_abs(self.categories_file):
            self.categories_file = join_path(self.data_root,
                                             self.categories_file)

    def load_data_list(self) -> List[dict]:
        """Read and check the JSON.

        Returns:
            list[dict]: For each image ``img_id``, ``img_path``, ``height``,
            ``width``, ``seg_map_path`` and ``segments_info`` (each None
            without annotation), ``instances`` (thing labels, as mmdet's
            samplers read them). An entry of ``segments_info`` has ``id`` (in
            the PNG), ``category`` (label), ``iscrowd`` and ``is_thing``
            (a thing and not crowd, as in mmdet).
        """
        content = self._read_json(self.ann_file)
        self._check_content(content)
        self.label_space = self._read_label_space(content)
        self._adopt_metainfo()
        images = self._unique(content['images'], 'id', 'image')
        annotations = self._unique(
            content.get('annotations', []), 'image_id', 'annotation')
        strays = [key for key in annotations if key not in images]
        if strays:
            raise InputError(
                f'{self.ann_file}: {len(strays)} annotations name images that '
                f'are not in "images", the first is image_id={strays[0]!r}. '
                'Add the images or remove the annotations.')
        self.unannotated = [key for key in images if key not in annotations]
        return [
            self.parse_data_info(
                dict(image=image, annotation=annotations.get(image_id)))
            for image_id, image in images.items()
        ]

    def _read_label_space(self, content: dict) -> LabelSpace:
        source = self.categories_file or self.ann_file
        named = self._read_json(source) if self.categories_file else content
        return LabelSpace.from_coco(named['categories'], source)

    def _read_json(self, path: str) -> dict:
        try:
            raw = get(path, backend_args=self.backend_args)
        except FileNotFoundError:
            raise InputError(
                f'{path}: no such file. Set data_root and ann_file of the '
                'dataset to your JSON.') from None
        except (OSError, KeyError, ValueError) as error:
            raise InputError(
                f'{path}: cannot be read ({error}). Correct data_root and '
                'ann_file of the dataset, or restore the file.') from None
        content = parse_json(raw or b'', path)
        for key in ('images', 'categories'):
            if not isinstance(content, dict) or key not in content:
                raise InputError(
                    f'{path}: no "{key}" at the top level. A COCO panoptic '
                    'JSON has images, annotations and categories.')
        self._check_entries(content, path)
        return content

    @staticmethod
    def _check_entries(content: dict, path: str) -> None:
        """See that all three keys have lists of objects, whose ids and names
        are such."""
        for key, id_key in (('images', 'id'), ('categories', 'id'),
                            ('annotations', 'image_id')):
            entries = content.get(key, [])
            if not isinstance(entries, list):
                raise InputError(
                    f'{path}: "{key}" is {short(entries)}. Write a list.')
            for entry in entries:
                if not isinstance(entry, dict):
                    raise InputError(f'{path}: "{key}" lists '
                                        f'{short(entry)}. Write an object.')
                id_ = entry.get(id_key, 0)
                if not is_whole(id_) and not isinstance(id_, str):
                    raise InputError(
                        f'{path}: an entry of "{key}" has {id_key}='
                        f'{short(id_)}. Write a whole number or a string.')
                name = entry.get('file_name', '')
                if not isinstance(name, str):
                    raise InputError(
                        f'{path}: an entry of "{key}" has file_name='
                        f'{short(name)}. Write the name of a file.')

    def _check_content(self, content: dict) -> None:
        if not content['images']:
            raise InputError(f'{self.ann_file}: "images" is empty. '
                                'List at least one image.')
        if not self.test_mode and not content.get('annotations'):
            raise InputError(
                f'{self.ann_file}: no annotations, so nothing to train on. '
                'Give the JSON with "annotations".')

    def _adopt_metainfo(self) -> None:
        """Classes of the JSON; a config may repeat but not change them."""
        named = self._metainfo.get('classes')
        if named is not None and set(named) != set(self.label_space.names):
            raise InputError(
                f'metainfo.classes of the config and {self.ann_file} differ: '
                f'{sorted(set(named) ^ set(self.label_space.names))} are in '
                'only one of them. Remove metainfo from the config; classes '
                'are read from the JSON.')
        self._metainfo.update(self.label_space.metainfo())

    def _unique(self, entries: List[dict], key: str, what: str) -> Dict:
        found = {}
        for entry in entries:
            if key not in entry:
                raise InputError(
                    f'{self.ann_file}: an {what} has no "{key}": '
                    f'{short(entry)}. Add it.')
            if entry[key] in found:
                raise InputError(f'{self.ann_file}: two {what}s have {key}='
                                    f'{entry[key]!r}. Keep one of them.')
            found[entry[key]] = entry
        return found

    def parse_data_info(self, raw_data_info: dict) -> dict:
        """One image and its annotation; see :meth:`load_data_list`.

        Args:
            raw_data_info (dict): ``image`` and ``annotation`` (or None) as
                in the JSON.
        """
        image = raw_data_info['image']
        for key in ('file_name', 'height', 'width'):
            if key not in image:
                raise InputError(f'{self.ann_file}: image id='
                                    f'{image["id"]!r} has no "{key}". Add it.')
            if key != 'file_name' and (not is_whole(image[key])
                                       or image[key] < 1):
                raise InputError(
                    f'{self.ann_file}: image id={image["id"]!r} has {key}='
                    f'{short(image[key])}. Write a whole number of pixels.')
        where = f'{self.ann_file}: image id={image["id"]!r}'
        info = dict(
            img_id=image['id'],
            img_path=self._path('img', image['file_name'], where),
            height=image['height'],
            width=image['width'],
            seg_map_path=None,
            segments_info=None,
            instances=[])
        annotation = raw_data_info['annotation']
        if annotation is not None:
            if 'file_name' not in annotation:
                raise InputError(
                    f'{self.ann_file}: the annotation of image_id='
                    f'{image["id"]!r} has no "file_name". Name its PNG.')
            where = f'{self.ann_file}: image_id={image["id"]!r}'
            info['seg_map_path'] = self._path('seg', annotation['file_name'],
                                              where)
            info['segments_info'] = self._segments(annotation)
            self._check_other_ids(annotation, info['segments_info'], where)
            for key in ('void_ids', 'ignored_ids'):
                if key in annotation:
                    info[key] = annotation[key]
            info['instances'] = [
                dict(bbox_label=segment['category'], ignore_flag=0)
                for segment in info['segments_info'] if segment['is_thing']
            ]
        return info

    def _path(self, kind: str, file_name: str, where: str) -> str:
        return join_inside(self.data_prefix.get(kind) or '', file_name, where)

    @staticmethod
    def _check_other_ids(annotation: dict, segments: List[dict],
                         where: str) -> None:
        """See that ids in the PNG that are no segments are none."""
        known = {segment['id'] for segment in segments}
        number = len(known)
        for key in ('ignored_ids', 'void_ids'):
            ids = annotation.get(key, [])
            if not isinstance(ids, list) or not all(
                    is_whole(i) and 0 <= i <= MAX_SEGMENT_ID for i in ids):
                raise InputError(
                    f'{where} has {key}={short(ids)}. List whole numbers, 0 '
                    f'to {MAX_SEGMENT_ID}.')
            again = known & set(ids)
            if again or key == 'ignored_ids' and len(set(ids)) < len(ids):
                raise InputError(
                    f'{where}: {key} has an id that stands there twice or is '
                    f'one of a segment: {short(sorted(again) or ids)}. Each '
                    'id has one meaning; correct the list.')
            known |= set(ids)
            number += len(ids) if key == 'ignored_ids' else 0
        if number > MOST_SEGMENTS:
            raise InputError(
                f'{where}: {number} segments; at most {MOST_SEGMENTS} are '
                'told apart. Merge some.')

    def _segments(self, annotation: dict) -> List[dict]:
        where = f'{self.ann_file}: image_id={annotation["image_id"]!r}'
        segments, ids = [], set()
        if not isinstance(annotation.get('segments_info'), list):
            raise InputError(f'{where}: "segments_info" is '
                                f'{short(annotation.get("segments_info"))}. '
                                'List its segments, [] where there are none.')
        for segment in annotation['segments_info']:
            segment_id = segment.get('id') if isinstance(segment,
                                                         dict) else None
            if not is_whole(segment_id) or not is_whole(
                    segment.get('category_id')):
                raise InputError(
                    f'{where}: segment {short(segment)} needs an integer '
                    '"id" and an integer "category_id". Correct '
                    'segments_info.')
            if not 0 < segment_id <= MAX_SEGMENT_ID:
                raise InputError(
                    f'{where}: segment id {segment_id} does not fit a PNG '
                    f'(1..{MAX_SEGMENT_ID}). Renumber the segments.')
            if segment_id in ids:
                raise InputError(
                    f'{where}: two segments have id {segment_id}. Give each '
                    'its own id in JSON and PNG.')
            ids.add(segment_id)
            try:
                label = self.label_space.label(segment['category_id'])
            except InputError as error:
                raise InputError(
                    f'{where}: segment {segment_id}: {error}') from None
            if segment.get('iscrowd', 0) not in (0, 1):
                raise InputError(
                    f'{where}: segment {segment_id} has iscrowd='
                    f'{short(segment["iscrowd"])}. Write 1 for crowd, else 0.')
            crowd = int(segment.get('iscrowd', 0))
            segments.append(
                dict(
                    id=segment_id,
                    category=label,
                    iscrowd=crowd,
                    is_thing=self.label_space.is_thing(label) and not crowd))
        return segments

    def get_data_info(self, idx: int) -> dict:
        """As mmengine's, with ``label_space`` for the transforms and
        ``drawn_label``, the class for whose sake the image was drawn."""
        return dict(
            super().get_data_info(idx),
            label_space=self.label_space,
            drawn_label=self.drawn_label)

    def filter_data(self) -> List[dict]:
        """Drop, in training, what cannot be trained on, and say how much."""
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
            self._failed_in_a_row.clear()
            return data
        except CorruptFileError as error:
            if self.test_mode or not self.skip_corrupt:
                raise
            self.num_skipped += 1
            # Different ones: of few images the same may be drawn twice.
            self._failed_in_a_row.add(idx)
            failed = len(self._failed_in_a_row)
            if failed == min(MOST_CORRUPT, len(self)):
                raise InputError(
                    f'{failed} corrupt images in a row, so '
                    f'this is not about single files. The last: {error}'
                ) from None
            print_log(
                f'Skipped a corrupt image, {self.num_skipped} so far in this '
                f'loader: {error}',
                logger='current',
                level=logging.WARNING)
            return None
