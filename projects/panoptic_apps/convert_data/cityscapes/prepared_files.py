"""The JSON files of a prepared split.

An entry is what is known of an image: image_id, stamp (size and time of its
label file), height, width, segments_info, void_ids, ignored_ids.
"""
import json
import os.path as osp
from typing import Dict, List, Optional

from panoptic_fpn.cityscapes import (PREPARED_FILE, PREPARED_FOR,
                                     PREPARED_VERSION, categories)

from .files import ImageFiles
from .output import remove_leftovers, write_if_changed
from .summary import summarize

#: The split whose panoptic PNGs the official scripts compare with.
OFFICIAL_SPLIT = 'val'
#: Its JSON (with .json) and the folder of its PNGs, below the data root.
OFFICIAL_FILES = 'gtFine/cityscapes_panoptic_val'
PANOPTIC_SUFFIX = '_gtFine_panoptic.png'


def prepared_entries(out: str, split: str) -> List[Dict]:
    """Entries that an earlier run left in the prepared JSON."""
    try:
        with open(osp.join(out, PREPARED_FILE.format(split=split))) as file:
            content = json.load(file)
        info = content['info']
        if (info['prepared_for'], info['version']) != (PREPARED_FOR,
                                                       PREPARED_VERSION):
            return []
        return [
            dict(
                image_id=image['id'],
                stamp=info['label_stamps'][image['id']],
                height=image['height'],
                width=image['width'],
                **{
                    key: note[key]
                    for key in ('segments_info', 'void_ids', 'ignored_ids')
                })
            for image, note in zip(content['images'], content['annotations'])
            if image['id'] == note['image_id']
        ]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return []  # none yet, or edited by someone: it is written anew


def write_results(out: str, split: str, files: List[ImageFiles],
                  entries: Dict[str, Dict]) -> Dict:
    """Write the JSON files of an annotated split.

    Args:
        out (str): The data root, or where it is prepared instead.
        split (str): 'train' or 'val'.
        files (list[ImageFiles]): Its images, in the order of the JSON.
        entries (dict[str, dict]): The entry of each by its id.

    Returns:
        dict: What :func:`summarize` counts.

    Raises:
        WriteError: They cannot be written.
    """
    ordered = [entries[item.id] for item in files]
    summary = summarize(ordered)
    if split == OFFICIAL_SPLIT:
        _write_official(out, files, ordered)
    write_prepared(out, split, files, ordered, summary)
    return summary


def _in_split(path: str) -> str:
    """CITY/NAME"""
    return osp.join(osp.basename(osp.dirname(path)), osp.basename(path))


def _images(files: List[ImageFiles]) -> List[Dict]:
    return [
        dict(
            id=item.id,
            file_name=_in_split(item.image),
            height=item.height,
            width=item.width) for item in files
    ]


def write_prepared(out: str, split: str, files: List[ImageFiles],
                   entries: Optional[List[Dict]], summary: Dict) -> None:
    """Write the prepared JSON; without entries it lists images alone."""
    info = dict(
        prepared_for=PREPARED_FOR,
        version=PREPARED_VERSION,
        split=split,
        summary=summary)
    content = dict(info=info, images=_images(files), categories=categories())
    if entries is not None:
        info['label_stamps'] = {e['image_id']: e['stamp'] for e in entries}
        content['annotations'] = [
            dict(
                image_id=item.id,
                file_name=_in_split(item.label),
                segments_info=entry['segments_info'],
                void_ids=entry['void_ids'],
                ignored_ids=entry['ignored_ids'])
            for item, entry in zip(files, entries)
        ]
    path = osp.join(out, PREPARED_FILE.format(split=split))
    remove_leftovers(path)
    write_if_changed(path, json.dumps(content).encode())


def _write_official(out: str, files: List[ImageFiles],
                    entries: List[Dict]) -> None:
    """COCO panoptic JSON; its PNGs are there already."""
    folder = osp.join(out, OFFICIAL_FILES)
    remove_leftovers(osp.join(folder, f'*{PANOPTIC_SUFFIX}'))
    remove_leftovers(f'{folder}.json')
    content = dict(
        images=_images(files),
        annotations=[
            dict(
                image_id=item.id,
                file_name=item.id + PANOPTIC_SUFFIX,
                segments_info=entry['segments_info'])
            for item, entry in zip(files, entries)
        ],
        categories=categories())
    write_if_changed(f'{folder}.json',
                     json.dumps(content, sort_keys=True, indent=4).encode())
