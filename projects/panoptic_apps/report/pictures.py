"""Best and worst images: photograph, ground truth and prediction."""
import base64
from pathlib import Path
from typing import Any, Dict, Iterator, NamedTuple, Optional
from urllib.parse import quote
from zipfile import BadZipFile

import cv2
import numpy as np

from mmengine_exact.errors import InputError
from panoptic_fpn.labels import INSTANCE_OFFSET
from panoptic_fpn.visualization.colors import match_numbers
from panoptic_fpn.visualization.drawing import (display_scale, draw_panoptic,
                                                enlarge)
from panoptic_fpn.visualization.figure import side_by_side
from panoptic_fpn.visualization.image_io import read_image

from .read import Run
from .segment_errors import MAPS

#: Width in pixels of a figure in the page.
_WIDTH = 1500


class Picture(NamedTuple):
    """An image of a report: its id, PQ, and the figure or why there is none.

    ``data`` is a data URI (JPEG), empty where ``problem`` says why.
    """
    image_id: Any
    quality: Optional[float]
    data: str
    problem: str


def draw_pictures(run: Run, which: str) -> Iterator[Picture]:
    """Figures of the 'best' or the 'worst' images of a run."""
    content = run.segments
    images = {str(entry['id']): entry for entry in content['images']}
    for image_id in content.get(which, ()):
        entry = images.get(str(image_id), {})
        figure = problem = ''
        try:
            figure = _figure(run.folder, content, entry)
        except (InputError, OSError, EOFError, ValueError, LookupError,
                BadZipFile) as error:
            problem = (f'No picture of image {image_id} '
                       f'({type(error).__name__}: {error}). Run tools/test.py '
                       '--report again.')
        yield Picture(image_id, entry.get('PQ'), figure, problem)


def _figure(folder: Path, content: Dict, entry: Dict) -> str:
    name = quote(str(entry['id']), safe='') + '.npz'
    with np.load(folder / MAPS / name, allow_pickle=False) as maps:
        truth, prediction = maps['gt'], maps['pred']
    image = np.ascontiguousarray(read_image(entry['path'])[..., ::-1])
    classes, things = content['classes'], content['num_things']
    prediction, _ = match_numbers(prediction, _visible(truth, classes), things,
                                  len(classes))
    panels = [enlarge(image, display_scale(image.shape[:2]))] + [
        draw_panoptic(image, one, classes, content['palette'], things)
        for one in (_visible(truth, classes), prediction)
    ]
    figure = side_by_side(panels, ['image', 'ground truth', 'prediction'])
    if figure.shape[1] > _WIDTH:
        height = round(figure.shape[0] * _WIDTH / figure.shape[1])
        figure = cv2.resize(
            figure, (_WIDTH, height), interpolation=cv2.INTER_AREA)
    done, data = cv2.imencode('.jpg', figure[..., ::-1],
                              [cv2.IMWRITE_JPEG_QUALITY, 85])
    if not done:
        raise ValueError('the figure cannot be encoded')
    text = base64.b64encode(data.tobytes()).decode()
    return f'data:image/jpeg;base64,{text}'


def _visible(panoptic: np.ndarray, classes: list) -> np.ndarray:
    """Void as one code, whatever its number."""
    void = panoptic % INSTANCE_OFFSET >= len(classes)
    return np.where(void, len(classes), panoptic)
