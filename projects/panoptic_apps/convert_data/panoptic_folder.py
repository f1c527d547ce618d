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
from contextlib import suppress
from functools import partial
from typing import Any, Callable, Dict, List, NamedTuple, Tuple

import cv2
import numpy as np

from mmengine_exact.errors import InputError
from panoptic_fpn.labels import id_to_rgb
from panoptic_fpn.ops.run_length import segment_boxes

from .label_map import file_stamp
from .resumable import (Job, Journal, convert_images, remove_leftovers,
                        write_if_changed)


class Source(NamedTuple):
    """An image to convert: its entry of ``images``, its label map, and what
    else the painter needs."""

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
        out (str), name (str): See the module.
        recipe (Any): Whatever the result depends on beside the label maps, as
            JSON; with another one every image is converted again.

    Returns:
        dict: ``images``, ``segments``, and the painter's counts, summed.

    Raises:
        InputError: A file cannot be used.
    """
    folder = osp.join(out, name)
    digest = hashlib.sha256(json.dumps(
        recipe, sort_keys=True).encode()).hexdigest()[:16]
    targets = _targets(sources)
    jobs = [
        Job(source.image['id'],
            (source.image['height'], source.image['width']),
            [digest, *file_stamp(source.label)], osp.join(folder,
                                                          target), source)
        for source, target in zip(sources, targets)
    ]
    with Journal(osp.join(out, f'.{name}.jsonl')) as journal:
        # PNGs are about to change: no JSON until all of them have
        with suppress(OSError):
            os.unlink(f'{folder}.json')
        done = convert_images(
            partial(_convert, paint), jobs, journal, num_workers, report)
        entries = [done[job.image_id] for job in jobs]
        notes = [
            dict(
                image_id=entry['image_id'],
                file_name=target,
                segments_info=entry['segments_info'])
            for entry, target in zip(entries, targets)
        ]
        for inner in {osp.dirname(target) for target in targets}:
            remove_leftovers(osp.join(folder, inner, '*.png'))
        content = dict(
            images=[source.image for source in sources],
            annotations=notes,
            categories=categories)
        write_if_changed(f'{folder}.json', json.dumps(content).encode())
        journal.remove()
    summary = dict(
        images=len(notes),
        segments=sum(len(note['segments_info']) for note in notes))
    for entry in entries:
        for key, count in entry['counts'].items():
            summary[key] = summary.get(key, 0) + count
    return summary


def _targets(sources: List[Source]) -> List[str]:
    """Name of each PNG below its folder."""
    names: Dict[str, str] = {}
    for source in sources:
        name = source.image['file_name']
        target = osp.splitext(name)[0] + '.png'
        if target in names:
            raise InputError(f'{name} and {names[target]}: both would '
                             f'become {target}. Rename one of them.')
        names[target] = name
    return list(names)


def _convert(paint: Painter, job: Job) -> Tuple[Dict, bytes]:
    painted = paint(job.source)
    found, areas, boxes = segment_boxes(painted.ids)
    index = {id_: i for i, id_ in enumerate(found.tolist())}
    segments = [
        dict(
            segment,
            area=int(areas[index[segment['id']]]),
            bbox=boxes[index[segment['id']]].tolist())
        for segment in painted.segments if segment['id'] in index
    ]
    png = cv2.imencode('.png', id_to_rgb(painted.ids)[..., ::-1])[1]
    return dict(segments_info=segments, counts=painted.counts), png.tobytes()
