"""Writing a data set in COCO panoptic format, image by image.

    OUT/NAME.json
    OUT/NAME/*.png    named like the images, in the same folders

Finished images are noted in OUT/.NAME.jsonl, so a run that was stopped
continues; the JSON is written last, the note is removed then.
"""
import hashlib
import json
import os
import os.path as osp
from collections import Counter
from contextlib import suppress
from functools import partial
from typing import Any, Callable, Dict, List, Optional, Tuple

import numpy as np

from mmengine_exact.files import remove_partial
from panoptic_fpn.coco_format import encode_png, measure_segments

from .resumable import (Job, Journal, convert_images, file_stamp,
                        raise_failures, write_if_changed)

#: Segment ids (h, w), 0 = void; ``segments_info`` without area and bbox, of
#: which those without a pixel are left out; counts and lists for the summary.
Painted = Tuple[np.ndarray, List[dict], Dict[str, Any]]


def write_panoptic_folder(out: str,
                          name: str,
                          jobs: List[Job],
                          paint: Callable[[Job], Painted],
                          recipe: Any,
                          categories: List[dict],
                          num_workers: Optional[int] = None,
                          report: Callable[[str], None] = print) -> Dict:
    """Convert all images and write the data set.

    Args:
        out (str), name (str): See the module.
        jobs (list[Job]): Without ``png`` and ``stamp``.
        paint (Callable): Paints one image; runs in worker processes.
        recipe (Any): Whatever the result depends on besides label maps, as
            JSON or sets; with another one every image is converted again.
        num_workers (int, optional): By default one per core, at most 8.
        report (Callable): Called with lines about the progress.

    Returns:
        dict: ``images``, ``segments``, and what the painter counts and lists,
        of all images together.
    """
    folder = osp.join(out, name)
    text = json.dumps(recipe, sort_keys=True, default=sorted)
    digest = hashlib.sha256(text.encode()).hexdigest()[:16]
    names = [osp.splitext(job.image['file_name'])[0] + '.png' for job in jobs]
    counts = Counter(names)
    raise_failures([
        f'{job.image["file_name"]}: another image would become {name}, too. '
        'Rename one of them.' for job, name in zip(jobs, names)
        if counts[name] > 1
    ])
    jobs = [
        job._replace(
            png=osp.join(folder, name),
            stamp=[digest, job.turn, *file_stamp(job.label, job.numbers)])
        for job, name in zip(jobs, names)
    ]
    with Journal(osp.join(out, f'.{name}.jsonl')) as journal:
        # PNGs are about to change: no JSON until all of them have
        with suppress(OSError):
            os.unlink(f'{folder}.json')
        done = convert_images(
            partial(_convert, paint), jobs, journal, num_workers, report)
        entries = [done[job.image['id']] for job in jobs]
        write_panoptic_json(folder, jobs, entries, categories)
    summary: Dict[str, Any] = dict(
        images=len(entries),
        segments=sum(len(entry['segments_info']) for entry in entries))
    for entry in entries:
        for key, found in entry['counts'].items():
            summary[key] = summary.get(key, type(found)()) + found
    return summary


def _convert(paint: Callable[[Job], Painted], job: Job) -> Tuple[Dict, bytes]:
    ids, painted, counts = paint(job)
    ids = as_shown(ids, job.turn)
    found = measure_segments(ids, ())
    segments = []
    for segment in painted:
        if segment['id'] in found:
            area, box = found[segment['id']]
            segments.append(dict(segment, area=area, bbox=box))
    return dict(segments_info=segments, counts=counts), encode_png(ids)


def write_panoptic_json(folder: str, jobs: List[Job], entries: List[Dict],
                        categories: List[dict], **options: Any) -> None:
    """Write FOLDER.json with ``options`` of ``json.dumps``; the PNGs of the
    jobs are in FOLDER already."""
    for inner in {osp.dirname(job.png) for job in jobs}:
        remove_partial(inner, '*.png')
    content = dict(
        images=[job.image for job in jobs],
        annotations=[
            dict(
                image_id=entry['image_id'],
                file_name=osp.relpath(job.png, folder),
                segments_info=entry['segments_info'])
            for job, entry in zip(jobs, entries)
        ],
        categories=categories)
    write_if_changed(f'{folder}.json', json.dumps(content, **options).encode())


def as_shown(pixels: np.ndarray, tag: int) -> np.ndarray:
    """A map (h, w) as it is stored, turned by an orientation tag, 1 to 8."""
    pixels = pixels.T if tag > 4 else pixels
    down, right = tag in (3, 4, 7, 8), tag in (2, 3, 6, 7)
    return np.ascontiguousarray(pixels[::1 - 2 * down, ::1 - 2 * right])
