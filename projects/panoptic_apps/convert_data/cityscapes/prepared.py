"""The JSON files of a prepared split, and the counts of its classes.

An entry is what is known of an image: image_id, stamp (size and time of its
label file), height, width, segments_info, void_ids, ignored_ids.
"""
import json
import os.path as osp
from typing import Dict, List, Optional

from tabulate import tabulate

from panoptic_fpn.cityscapes import (PREPARED_FILE, PREPARED_FOR,
                                     PREPARED_VERSION, categories, label_space)

from ..panoptic_folder import write_panoptic_json
from ..resumable import Job, write_if_changed

#: The split whose panoptic PNGs the official scripts compare with.
OFFICIAL_SPLIT = 'val'
#: Its JSON (with .json) and the folder of its PNGs, below the data root.
OFFICIAL_FILES = 'gtFine/cityscapes_panoptic_val'
PANOPTIC_SUFFIX = '_gtFine_panoptic.png'

#: What an entry holds besides image and stamp.
_KEYS = ('segments_info', 'void_ids', 'ignored_ids')
#: What is counted of each class.
_COUNTS = ('segments', 'groups', 'images', 'pixels')


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
                **{key: note[key]
                   for key in _KEYS})
            for image, note in zip(content['images'], content['annotations'])
            if image['id'] == note['image_id']
        ]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return []  # none yet, or edited by someone: it is written anew


def write_results(out: str, split: str, jobs: List[Job],
                  entries: Dict[str, Dict]) -> Dict:
    """Write the JSON files of 'train' or 'val', in the order of ``jobs``;
    return what :func:`summarize` counts."""
    ordered = [entries[job.image['id']] for job in jobs]
    summary = summarize(ordered)
    if split == OFFICIAL_SPLIT:
        # laid out as the official converter does
        write_panoptic_json(
            osp.join(out, OFFICIAL_FILES),
            jobs,
            ordered,
            categories(),
            sort_keys=True,
            indent=4)
    write_prepared(out, split, jobs, ordered, summary)
    return summary


def write_prepared(out: str, split: str, jobs: List[Job],
                   entries: Optional[List[Dict]], summary: Dict) -> None:
    """Write the prepared JSON; without entries it lists images alone."""
    info = dict(
        prepared_for=PREPARED_FOR,
        version=PREPARED_VERSION,
        split=split,
        summary=summary)
    content = dict(
        info=info, images=[job.image for job in jobs], categories=categories())
    if entries is not None:
        info['label_stamps'] = {e['image_id']: e['stamp'] for e in entries}
        content['annotations'] = [
            dict(
                image_id=entry['image_id'],
                file_name='/'.join(job.label.split(osp.sep)[-2:]),
                **{key: entry[key]
                   for key in _KEYS}) for job, entry in zip(jobs, entries)
        ]
    path = osp.join(out, PREPARED_FILE.format(split=split))
    write_if_changed(path, json.dumps(content).encode())


def summarize(entries: List[Dict]) -> Dict:
    """Count the segments of a split.

    Returns:
        dict: ``images``; ``pixels``; ``classes``, in the order of the labels,
        each with name, isthing, segments (for things: single instances),
        groups, images (that show the class) and pixels; ``void_pixels``; and
        ``ignored``, the instances of classes outside the evaluation.
    """
    classes = label_space().categories
    counts = {c.id: dict.fromkeys(_COUNTS, 0) for c in classes}
    for entry in entries:
        for segment in entry['segments_info']:
            row = counts[segment['category_id']]
            row['groups' if segment['iscrowd'] else 'segments'] += 1
            row['pixels'] += segment['area']
        for id_ in {s['category_id'] for s in entry['segments_info']}:
            counts[id_]['images'] += 1
    pixels = sum(entry['height'] * entry['width'] for entry in entries)
    return dict(
        images=len(entries),
        pixels=pixels,
        classes=[
            dict(name=c.name, isthing=int(c.isthing), **counts[c.id])
            for c in classes
        ],
        void_pixels=pixels - sum(row['pixels'] for row in counts.values()),
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
