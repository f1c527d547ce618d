"""The page: one HTML file that needs no other.

``templates/report.html.j2`` is the page; here are the values that it shows.
"""
import base64
import json
from collections import defaultdict
from itertools import zip_longest
from typing import Any, Dict, Iterator, List, Optional, Sequence, Tuple
from zipfile import BadZipFile

import cv2
import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from mmengine_exact.errors import InputError
from mmengine_exact.files import write_bytes
from panoptic_fpn.labels import LabelSpace
from panoptic_fpn.visualization.colors import match_numbers
from panoptic_fpn.visualization.drawing import (display_scale, draw_panoptic,
                                                enlarge, side_by_side)
from panoptic_fpn.visualization.image_io import read_image

from . import charts
from .comparison import Comparison, compare
from .read import Run, is_number
from .segment_errors import (KINDS, MATCHED, SPURIOUS, WRONG_CLASS, by_class,
                             confusion, map_file, worst_confusions)

#: Curves that are drawn where a run has them, and their titles.
_SCORES = {
    'coco_panoptic/PQ': 'PQ',
    'coco_panoptic/PQ_th': 'PQ of things',
    'coco_panoptic/PQ_st': 'PQ of stuff',
    'coco/segm_mAP': 'mask AP',
    'coco/bbox_mAP': 'box AP',
    'mIoU': 'mIoU'
}
#: Keys of PQ's measures, of all classes, things and stuff, by their heads.
_MEASURES = {
    'PQ': ('PQ', 'PQ_th', 'PQ_st'),
    '95 % from': ('PQ_low', ),
    'to': ('PQ_high', ),
    'boundary PQ': ('PQ_boundary', 'PQ_boundary_th', 'PQ_boundary_st'),
    'PQ dagger': ('PQ_dagger', 'PQ_dagger_th', 'PQ_dagger_st'),
    'PQ small': ('', 'PQ_small'),
    'medium': ('', 'PQ_medium'),
    'large': ('', 'PQ_large')
}
#: Curves of the training, their titles and units.
_TRAINING = {
    'lr': ('learning rate', ''),
    'time': ('time', 's/iteration'),
    'data_time': ('time spent waiting for data', 's/iteration'),
    'memory': ('GPU memory', 'MB')
}
#: Colour and meaning of the kinds of outcomes.
_KINDS = dict(
    matched=('#4c9f70', 'true positives (IoU above 0.5)'),
    wrong_class=('#c2527a', 'found, and called another class (IoU above 0.5)'),
    poor_mask=('#e0b02e', 'found, with an IoU of 0.1 to 0.5'),
    missed=('#3b82c4', 'true segments that nothing matches'),
    spurious=('#e0732e', 'predicted where nothing of the class is'))

#: Width in pixels of a picture in the page; longest chart of differences.
_WIDTH, _MOST_BARS = 1500, 40


def write_report(path: str, run: Run, other: Optional[Run] = None) -> None:
    """Write the HTML page of a run, compared with another one; the file is
    complete or not there.

    Raises:
        OSError: It cannot be written.
    """
    environment = Environment(
        loader=PackageLoader(__package__),
        autoescape=True,
        trim_blocks=True,
        undefined=StrictUndefined)
    environment.filters.update(number=_number, percent=_percent)
    record = dict(run.record)
    config = record.pop('config_text', '')
    images = list(_pictures(run)) if run.segments else []
    page = environment.get_template('report.html.j2').render(
        run=run,
        other=other,
        tiles=_SCORES,
        curves=_curves(run, other),
        measures=_measures(run.scores),
        classes=_classes(run) if run.classwise else None,
        comparison=_comparison(run, other) if other else None,
        errors=_errors(run.segments, images) if run.segments else None,
        images=images,
        record={
            key: json.dumps(value) if isinstance(value,
                                                 (dict, list)) else value
            for key, value in record.items()
        },
        config=config)
    write_bytes(path, page.encode())


def _in_percent(value: Any, key: str) -> Any:
    """Scores of AP are fractions, the others percentages."""
    return 100 * value if 'AP' in key and is_number(value) else value


def _percent(value: Any, key: str) -> str:
    return _number(_in_percent(value, key), '.1f')


def _number(value: Any, form: str = '.4g') -> str:
    return format(value, form) if is_number(value) else 'n/a'


def _curves(run: Run, other: Optional[Run]) -> List[Markup]:
    runs = [run, other] if other else [run]
    looks = {
        key: (key, '')
        for one in runs
        for key in one.curves if 'loss' in key and not key.startswith('coco')
    }
    looks.update(_TRAINING)
    looks.update((key, (title, '%')) for key, title in _SCORES.items())
    panels = []
    for key, (title, unit) in looks.items():
        curves = [one.curves.get(key, ([], [])) for one in runs]
        # a single score is not a curve; it stands above
        if max(len(x) for x, _ in curves) > (key in _SCORES):
            panels.append(
                charts.draw_curves(
                    title, unit,
                    [(one.name, x, [_in_percent(value, key) for value in y])
                     for one, (x, y) in zip(runs, curves)]))
    return panels


def _measures(scores: Dict[str, Any]) -> Dict:
    """Table of PQ beside the measures that were asked for; empty without."""
    columns = {
        head: [
            _percent(scores[f'coco_panoptic/{key}'], key)
            if f'coco_panoptic/{key}' in scores else '' for key in keys
        ]
        for head, keys in _MEASURES.items()
    }
    columns = {head: of for head, of in columns.items() if any(of)}
    rows = zip_longest(['all', 'things', 'stuff'],
                       *columns.values(),
                       fillvalue='')
    return dict(heads=['', *columns], rows=rows) if len(columns) > 1 else {}


def _classes(run: Run) -> Dict:
    """Table of the scores of each class."""
    heads = dict.fromkeys(head for scores in run.classwise.values()
                          for head in scores)
    rows = [[name, *(_percent(scores.get(head), head) for head in heads)]
            for name, scores in run.classwise.items()]
    return dict(heads=['class', *heads], rows=rows)


def _comparison(run: Run, other: Run) -> Dict:
    """Scores and kinds of errors of two runs, PQ of classes as bars, and which
    differences are beyond chance."""
    scores, kinds = [], []
    for key in dict.fromkeys([*run.scores, *other.scores]):
        pair = run.scores.get(key), other.scores.get(key)
        known = [*filter(is_number, pair)]
        if known:
            change = f'{known[0] - known[1]:+.4g}' if len(known) > 1 else ''
            scores.append([key, *map(_number, pair), change])
    if run.segments and other.segments:
        columns = [one.segments['segments']['kind'] for one in (run, other)]
        kinds = [[name.replace('_', ' '), *(c.count(i) for c in columns)]
                 for i, name in enumerate(run.segments['kinds'])]
    changes = []
    for name, values in run.classwise.items():
        ours = values.get('PQ')
        theirs = other.classwise.get(name, {}).get('PQ')
        if is_number(ours) and is_number(theirs):
            changes.append((name, ours - theirs))
    changes.sort(key=lambda change: -change[1])
    if len(changes) > _MOST_BARS:
        changes = changes[:_MOST_BARS // 2] + changes[-_MOST_BARS // 2:]
    bars = charts.draw_bars(
        dict(changes),
        f'PQ of {run.name} minus {other.name} (percentage points)')
    beyond: Optional[Comparison] = None
    if run.images and other.images:
        try:
            beyond = compare(run.images, other.images)
        except InputError as error:
            run.notes.append(str(error))
    return dict(
        scores=scores,
        kinds=kinds,
        bars=bars if changes else '',
        beyond=beyond)


def _errors(content: Dict, pictures: List[Dict]) -> Dict:
    """Outcomes of segments: sums, by class, and which are confused, with
    links to the pictures."""
    rows, links = by_class(content), _links(pictures, content['classes'])

    def link(count: int, *error: Any) -> Any:
        if error not in links:
            return count
        return Markup(f'<a href="#image-{links[error]}">{count}</a>')

    names, table = content['classes'], confusion(content)
    # without classes that have no segment at all
    kept = [i for i in range(len(names)) if table[i].sum() + table[:, i].sum()]
    places = [*kept, len(names)]
    return dict(
        kinds=[(name, link(content['segments']['kind'].count(i),
                           name), *_KINDS[name])
               for i, name in enumerate(content['kinds'])],
        rows=[[
            link(count, column, label)
            for column, count in row._asdict().items()
        ] for label, row in enumerate(rows) if row.matched + row.fn + row.fp],
        fn=sum(row.fn for row in rows),
        fp=sum(row.fp for row in rows),
        pairs=[(*pair, link(count, *pair))
               for *pair, count in worst_confusions(table, names)],
        confusion=charts.draw_confusion(table[places][:, places],
                                        [names[i] for i in kept]))


def _links(pictures: List[Dict], names: Sequence[str]) -> Dict[Tuple, int]:
    """Index of the image with the fewest errors that shows one: by column and
    class of the table of classes, by kind, by the names of a confusion."""
    links: Dict[Tuple, int] = {}
    for picture in sorted(pictures, key=lambda one: -len(one['errors'])):
        found = picture['errors'] if picture['data'] else ()
        for kind, label, predicted in found:
            of = predicted if kind == SPURIOUS else label
            keys: List[Tuple] = [(KINDS[kind], ), (KINDS[kind], of)]
            if kind == WRONG_CLASS:
                keys += [('called', predicted),
                         (names[label], names[predicted])]
            links.update(dict.fromkeys(keys, picture['index']))
    return links


def _pictures(run: Run) -> Iterator[Dict]:
    """The worst and the best images, and others with other errors, each once:
    ``errors`` (kind, label, predicted label), and ``data`` (a URI) of the
    picture, or ``problem``: why there is none."""
    content, columns = run.segments, run.segments['segments']
    sections: Dict[Any, str] = {}
    for section in ('worst', 'best', 'examples'):
        for image_id in content.get(section, ()):
            sections.setdefault(image_id, section)
    images = {one['id']: (i, one) for i, one in enumerate(content['images'])}
    errors: Dict[int, List] = defaultdict(list)
    outcomes = zip(columns['kind'], columns['label'], columns['predicted'])
    for index, outcome in zip(columns['image'], outcomes):
        if outcome[0] != MATCHED:
            errors[index].append(outcome)
    for image_id, section in sections.items():
        index, entry = images.get(image_id, (-1, {}))
        data = problem = ''
        try:
            data = _picture(run, entry)
        except (InputError, OSError, EOFError, ValueError, LookupError,
                BadZipFile) as error:
            problem = (f'No picture of image {image_id} '
                       f'({type(error).__name__}: {error}). Run tools/test.py '
                       '--report again.')
        yield dict(
            section=section,
            id=image_id,
            index=index,
            PQ=entry.get('PQ'),
            errors=errors[index],
            data=data,
            problem=problem)


def _picture(run: Run, entry: Dict) -> str:
    """Photograph, where there is one, ground truth and prediction of an image,
    as data URI."""
    content = run.segments
    names, things = content['classes'], content['num_things']
    space = LabelSpace.from_metainfo(
        dict(
            classes=names,
            thing_classes=names[:things],
            palette=content['palette']))
    with np.load(map_file(run.folder, entry['id'])) as maps:
        truth, prediction = maps['gt'], maps['pred']
    panels = {}
    image = np.full((*truth.shape, 3), 255, np.uint8)
    if entry['path']:
        image = np.ascontiguousarray(read_image(entry['path'])[..., ::-1])
        panels['image'] = enlarge(image, display_scale(image.shape))
    prediction, _ = match_numbers(prediction, truth, things, space.void)
    panels['ground truth'] = draw_panoptic(image, truth, space)
    panels['prediction'] = draw_panoptic(image, prediction, space)
    figure = side_by_side(panels)
    if figure.shape[1] > _WIDTH:
        height = round(figure.shape[0] * _WIDTH / figure.shape[1])
        figure = cv2.resize(
            figure, (_WIDTH, height), interpolation=cv2.INTER_AREA)
    _, jpeg = cv2.imencode('.jpg', figure[..., ::-1],
                           [cv2.IMWRITE_JPEG_QUALITY, 85])
    return ('data:image/jpeg;base64,' +
            base64.b64encode(jpeg.tobytes()).decode())
