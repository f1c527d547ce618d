"""Writing a data set in COCO panoptic format, image by image.

    OUT/NAME.json
    OUT/NAME/*.png    as the images are called, in the same folders

Finished images are noted in OUT/.NAME.jsonl, so a run that was stopped
continues; the JSON is written last, the note is removed then.
"""
import hashlib
import json
import os
import os.path as osp
from contextlib import closing, suppress
from functools import partial
from typing import Any, Callable, Dict, List, NamedTuple, Tuple

import cv2
import numpy as np

from mmengine_exact.errors import InputError
from panoptic_fpn.labels import id_to_rgb
from panoptic_fpn.ops.run_length import segment_boxes

from .cityscapes.label_image import file_stamp
from .cityscapes.output import (Journal, remove_leftovers, write_file,
                                write_if_changed)
from .jobs import convert_all


class Source(NamedTuple):
    """An image to convert: its entry of ``images``, its label map, and what
    else the painter wants to know."""

    image: dict
    label: str
    more: Any = None


class Painted(NamedTuple):
    """Segment ids (h, w), 0 = void; ``segments_info`` without area and bbox,
    of which those without a pixel are left out; counts for the summary."""

    ids: np.ndarray
    segments: List[dict]
    counts: Dict[str, int]


#: Paints one image; runs in worker processes.
Painter = Callable[[Source], Painted]


def write_panoptic_folder(out: str,
                          name: str,
                          sources: List[Source],
                          paint: Painter,
                          recipe: Any,
                          categories: List[dict],
                          num_workers: int,
                          report: Callable[[str], None] = print) -> Dict:
    """Convert all images and write the data set.

    Args:
        out (str): Folder to write to.
        name (str): Of the JSON and of the folder of PNGs.
        sources (list[Source]): The images.
        paint (Callable): Gives the segments of one.
        recipe (Any): Whatever else the result depends on, as JSON; with
            another one nothing that was done before is taken over.
        categories (list[dict]): Of the JSON.
        num_workers (int): Processes.
        report (Callable): Called with lines about the progress.

    Returns:
        dict: ``images``, ``segments``, and the painter's counts, summed.

    Raises:
        InputError: A file cannot be used, or nothing can be written.
    """
    digest = hashlib.sha256(json.dumps(
        recipe, sort_keys=True).encode()).hexdigest()[:16]
    targets = _targets(sources)
    jobs = [(source, target, [digest, *file_stamp(source.label)])
            for source, target in zip(sources, targets)]
    folder = osp.join(out, name)
    with Journal(osp.join(out, f'.{name}.jsonl')) as journal:
        done = _fresh(jobs, journal.entries, folder)
        if done:
            report(f'{len(done)} of {len(jobs)} images are converted already')
        todo = [job for job in jobs if job[1] not in done]
        if todo:
            # PNGs are about to change: no JSON until all of them have
            with suppress(OSError):
                os.unlink(f'{folder}.json')
        convert = partial(_convert, paint, folder)
        with closing(convert_all(convert, todo, num_workers,
                                 report)) as entries:
            for entry in entries:
                journal.add(entry)
                done[entry['file_name']] = entry
        notes = [
            dict(
                image_id=source.image['id'],
                file_name=target,
                segments_info=done[target]['segments_info'])
            for source, target in zip(sources, targets)
        ]
        for pattern in {osp.dirname(target) for target in targets}:
            remove_leftovers(osp.join(folder, pattern, '*.png'))
        remove_leftovers(f'{folder}.json')
        content = dict(
            images=[source.image for source in sources],
            annotations=notes,
            categories=categories)
        write_if_changed(f'{folder}.json', json.dumps(content).encode())
        journal.remove()
    return _summary(notes, done)


def _targets(sources: List[Source]) -> List[str]:
    """Name of each PNG below its folder."""
    names: Dict[str, Source] = {}
    for source in sources:
        name = source.image['file_name']
        target = osp.splitext(name)[0] + '.png'
        if target in names:
            raise InputError(f'{name} and {names[target]}: both would '
                             f'become {target}. Rename one of them.')
        names[target] = name
    return list(names)


def _fresh(jobs: List[Tuple], entries: List[Dict],
           folder: str) -> Dict[str, Dict]:
    """Entries of an earlier run that a new one would only repeat."""
    by_name = {entry.get('file_name'): entry for entry in entries}
    result = {}
    for _, target, stamp in jobs:
        entry = by_name.get(target)
        if entry and entry['stamp'] == stamp and osp.exists(
                osp.join(folder, target)):
            result[target] = entry
    return result


def _convert(paint: Painter, folder: str, job: Tuple) -> Tuple[Any, str]:
    """Entry of one image, its PNG written; or None and what is wrong."""
    source, target, stamp = job
    try:
        painted = paint(source)
    except InputError as error:
        return None, str(error)
    found, areas, boxes = segment_boxes(painted.ids)
    place = {int(id_): i for i, id_ in enumerate(found)}
    segments = [
        dict(
            segment,
            area=int(areas[place[segment['id']]]),
            bbox=boxes[place[segment['id']]].tolist())
        for segment in painted.segments if segment['id'] in place
    ]
    png = cv2.imencode('.png', id_to_rgb(painted.ids)[..., ::-1])[1]
    write_file(osp.join(folder, target), png.tobytes())
    entry = dict(
        file_name=target,
        stamp=stamp,
        segments_info=segments,
        counts=painted.counts)
    return entry, ''


def _summary(notes: List[dict], done: Dict[str, Dict]) -> Dict:
    summary = dict(
        images=len(notes),
        segments=sum(len(note['segments_info']) for note in notes))
    for entry in done.values():
        for key, count in entry['counts'].items():
            summary[key] = summary.get(key, 0) + count
    return summary
