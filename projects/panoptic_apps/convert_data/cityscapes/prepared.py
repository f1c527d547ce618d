"""The JSON files of a prepared split, and the counts of its classes.

An entry is what is known of an image: image_id, stamp (size and time of its
label file), height, width, segments_info, void_ids, ignored_ids.
"""
import json
import os.path as osp
from typing import Any, Dict, List, Optional

from tabulate import tabulate

from panoptic_fpn.cityscapes import (PREPARED_FILE, PREPARED_FOR,
                                     PREPARED_VERSION, categories, label_space)

from ..resumable import remove_leftovers, write_if_changed
from .files import ImageFiles

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
    """Write the JSON files of 'train' or 'val', in the order of ``files``;
    gives what :func:`summarize` counts."""
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
    write_if_changed(path, json.dumps(content).encode())


def _write_official(out: str, files: List[ImageFiles],
                    entries: List[Dict]) -> None:
    """COCO panoptic JSON; its PNGs are there already."""
    folder = osp.join(out, OFFICIAL_FILES)
    remove_leftovers(osp.join(folder, f'*{PANOPTIC_SUFFIX}'))
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


def summarize(entries: List[Dict]) -> Dict:
    """Count the segments of a split.

    Args:
        entries (list[dict]): For each image ``height``, ``width``,
            ``segments_info`` and ``ignored_ids``.

    Returns:
        dict: ``images``; ``pixels``; ``classes``, in the order of the labels,
        each with name, isthing, segments (of things: single instances),
        groups, images (that show the class) and pixels; ``void_pixels``; and
        ``ignored``, the instances of classes outside the evaluation.
    """
    rows: Dict[int, Dict[str, Any]] = {
        category.id:
        dict(
            name=category.name,
            isthing=int(category.isthing),
            segments=0,
            groups=0,
            images=0,
            pixels=0)
        for category in label_space().categories
    }
    for entry in entries:
        for segment in entry['segments_info']:
            row = rows[segment['category_id']]
            row['groups' if segment['iscrowd'] else 'segments'] += 1
            row['pixels'] += segment['area']
        for id_ in {s['category_id'] for s in entry['segments_info']}:
            rows[id_]['images'] += 1
    pixels = sum(entry['height'] * entry['width'] for entry in entries)
    return dict(
        images=len(entries),
        pixels=pixels,
        classes=list(rows.values()),
        void_pixels=pixels - sum(row['pixels'] for row in rows.values()),
        ignored=sum(len(entry['ignored_ids']) for entry in entries))


def format_summary(split: str, summary: Dict) -> str:
    """A table of :func:`summarize`, for a terminal."""
    title = f'{split}: {summary["images"]} images'
    if 'classes' not in summary:
        return f'{title}, without annotation'
    total = max(1, summary['pixels'])
    rows = [[
        row['name'], row['segments'], row['groups'] if row['isthing'] else '',
        row['images'], f'{row["pixels"] / total:.2%}'
    ] for row in summary['classes']]
    rows.append(['void', '', '', '', f'{summary["void_pixels"] / total:.2%}'])
    table = tabulate(
        rows, ['class', 'segments', 'groups', 'images', 'pixels'],
        tablefmt='outline',
        colalign=['left'] + ['right'] * 4)
    return (f'{title}, {summary["ignored"]} instances of caravan and trailer '
            f'(ignored)\n{table}')
