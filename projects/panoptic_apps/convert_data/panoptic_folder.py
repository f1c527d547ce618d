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

import cv2
import numpy as np

from mmengine_exact.workers import default_workers
from panoptic_fpn.labels import id_to_rgb

from .resumable import (Job, Journal, convert_images, file_stamp, measure,
                        raise_failures, remove_leftovers, write_if_changed)

#: Segment ids (h, w), 0 = void; ``segments_info`` without area and bbox, of
#: which those without a pixel are left out; counts for the summary.
Painted = Tuple[np.ndarray, List[dict], Dict[str, int]]


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
            JSON; with another one every image is converted again.
        num_workers (int, optional): By default one per core, at most 8.
        report (Callable): Called with lines about the progress.

    Returns:
        dict: ``images``, ``segments``, and the painter's counts, summed.
    """
    folder = osp.join(out, name)
    text = json.dumps(recipe, sort_keys=True).encode()
    digest = hashlib.sha256(text).hexdigest()[:16]
    names = [osp.splitext(job.image['file_name'])[0] + '.png' for job in jobs]
    counts = Counter(names)
    raise_failures([
        f'{job.image["file_name"]}: another image would become {name}, too. '
        'Rename one of them.' for job, name in zip(jobs, names)
        if counts[name] > 1
    ])
    jobs = [
        job._replace(
            png=osp.join(folder, name), stamp=[digest, *file_stamp(job.label)])
        for job, name in zip(jobs, names)
    ]
    with Journal(osp.join(out, f'.{name}.jsonl')) as journal:
        # PNGs are about to change: no JSON until all of them have
        with suppress(OSError):
            os.unlink(f'{folder}.json')
        done = convert_images(
            partial(_convert, paint), jobs, journal, num_workers
            or default_workers(), report)
        entries = [done[job.image['id']] for job in jobs]
        for inner in {osp.dirname(job.png) for job in jobs}:
            remove_leftovers(osp.join(inner, '*.png'))
        content = dict(
            images=[job.image for job in jobs],
            annotations=[
                dict(
                    image_id=entry['image_id'],
                    file_name=name,
                    segments_info=entry['segments_info'])
                for entry, name in zip(entries, names)
            ],
            categories=categories)
        write_if_changed(f'{folder}.json', json.dumps(content).encode())
    summary = Counter(
        images=len(entries),
        segments=sum(len(entry['segments_info']) for entry in entries))
    for entry in entries:
        summary.update(entry['counts'])
    return dict(summary)


def _convert(paint: Callable[[Job], Painted], job: Job) -> Tuple[Dict, bytes]:
    ids, painted, counts = paint(job)
    found = measure(ids)
    segments = [
        dict(segment, **found[segment['id']]) for segment in painted
        if segment['id'] in found
    ]
    png = cv2.imencode('.png', id_to_rgb(ids)[..., ::-1])[1]
    return dict(segments_info=segments, counts=counts), png.tobytes()
