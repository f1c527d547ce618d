"""The page: one HTML file that needs no other."""
import json
from html import escape
from typing import Any, Dict, Iterable, List, Optional, Sequence, Tuple

import numpy as np

from mmengine_exact.files import write_bytes

from . import charts, errors, pictures
from .read import Run

#: Curves that are drawn where a run has them, and their titles.
_SCORES = (('coco_panoptic/PQ', 'PQ'), ('coco_panoptic/PQ_th', 'PQ of things'),
           ('coco_panoptic/PQ_st', 'PQ of stuff'),
           ('coco/segm_mAP', 'mask AP'), ('coco/bbox_mAP', 'box AP'), ('mIoU',
                                                                       'mIoU'))
_MEANING = dict(
    matched='true positives (IoU above 0.5)',
    wrong_class='found, and called another class (IoU above 0.5)',
    poor_mask='found, with an IoU of 0.1 to 0.5',
    missed='true segments that nothing matches',
    spurious='predicted where nothing of the class is')

_STYLE = '''
:root { color-scheme: light dark; --line: #8886; --soft: #8881; }
body { font: 15px/1.5 system-ui, sans-serif; margin: 0 auto; padding: 1.5rem;
       max-width: 1240px; }
h1 { font-size: 1.6rem; margin: 0; } h2 { margin: 2.2rem 0 .6rem;
     border-bottom: 1px solid var(--line); font-size: 1.2rem; }
nav a { margin-right: 1rem; } .charts { display: flex; flex-wrap: wrap; }
svg { max-width: 100%; height: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: .2rem .7rem; text-align: right;
         border-bottom: 1px solid var(--line); }
th:first-child, td:first-child { text-align: left; }
.classes th { cursor: pointer; position: sticky; top: 0; background: Canvas; }
.classes tr:hover td { background: var(--soft); }
.wide { overflow-x: auto; } .note { background: #e9a2; padding: .4rem .8rem;
        border-left: 4px solid #e08a2e; margin: .4rem 0; }
.tiles { display: flex; flex-wrap: wrap; gap: .8rem; margin: 1rem 0; }
.tile { border: 1px solid var(--line); border-radius: 8px;
        padding: .5rem 1rem; min-width: 6rem; }
.tile b { display: block; font-size: 1.5rem; } .tile small { opacity: .7; }
figure { margin: 0 0 1.2rem; } figure img { max-width: 100%;
         border: 1px solid var(--line); }
pre { overflow: auto; max-height: 30rem; background: var(--soft);
      padding: .8rem; font-size: 12px; }
.bar { display: flex; height: 1.6rem; border-radius: 4px; overflow: hidden;
       max-width: 50rem; } .bar i { display: block; }
.key i { display: inline-block; width: .8rem; height: .8rem;
         border-radius: 2px; margin-right: .4rem; }
@media print { nav { display: none; } pre { max-height: none; }
  figure, tr, svg { break-inside: avoid; } }
'''
_KIND_COLORS = dict(
    matched='#4c9f70',
    wrong_class='#c2527a',
    poor_mask='#e0b02e',
    missed='#3b82c4',
    spurious='#e0732e')
_SCRIPT = '''
for (const head of document.querySelectorAll('.classes th')) {
  head.addEventListener('click', () => {
    const table = head.closest('table'), body = table.tBodies[0];
    const column = [...head.parentNode.children].indexOf(head);
    const down = head.dataset.down !== '1';
    const value = row => {
      const text = row.cells[column].textContent;
      const number = parseFloat(text);
      return column === 0 ? text : isNaN(number) ? -Infinity : number;
    };
    const rows = [...body.rows].sort((a, b) => {
      const x = value(a), y = value(b);
      return (x < y ? -1 : x > y ? 1 : 0) * (down ? -1 : 1);
    });
    head.dataset.down = down ? '1' : '0';
    body.append(...rows);
  });
}
'''


def write_report(path: str, run: Run, other: Optional[Run] = None) -> None:
    """Write the page.

    Args:
        path (str): The HTML file; it is complete or not there.
        run (Run): What is reported.
        other (Run, optional): What it is compared with.

    Raises:
        OSError: It cannot be written.
    """
    parts = [
        _head(run, other),
        _section('curves', 'Over time', _curves(run, other)),
        _section('classes', 'Classes', _classes(run)),
        _section('compare', f'Against {other.name}', _comparison(run, other))
        if other else '',
        _section('errors', 'Errors', _errors(run)),
        _section('images', 'Worst and best images', _images(run)),
        _section('made', 'What it was made with', _record(run)),
    ]
    title = escape(run.name)
    page = ('<!doctype html><html lang="en"><head><meta charset="utf-8">'
            '<meta name="viewport" content="width=device-width">'
            '<link rel="icon" href="data:,">'
            f'<title>{title}</title><style>{_STYLE}</style></head><body>'
            f'{"".join(parts)}<script>{_SCRIPT}</script></body></html>\n')
    write_bytes(path, page.encode())


def _section(anchor: str, title: str, content: str) -> str:
    if not content:
        return ''
    return f'<h2 id="{anchor}">{escape(title)}</h2>{content}'


def _head(run: Run, other: Optional[Run]) -> str:
    notes = run.notes + [f'{other.name}: {n}'
                         for n in other.notes] if other else run.notes
    links = ''.join(f'<a href="#{anchor}">{name}</a>'
                    for anchor, name in (('curves', 'over time'),
                                         ('classes', 'classes'), ('errors',
                                                                  'errors'),
                                         ('images', 'images'), ('made',
                                                                'made with')))
    tiles = ''.join(f'<div class="tile"><small>{title}</small>'
                    f'<b>{_percent(run.scores[key], key)}</b></div>'
                    for key, title in _SCORES
                    if run.scores.get(key) is not None)
    about = ', '.join(
        str(part)
        for part in (run.record.get('config'), run.record.get('date')) if part)
    return (f'<h1>{escape(run.name)}</h1><p>{escape(about)}</p>'
            f'<nav>{links}</nav><div class="tiles">{tiles}</div>' +
            ''.join(f'<p class="note">{escape(note)}</p>' for note in notes))


def _percent(value: Any, key: str) -> str:
    """Scores of AP are fractions, the others percentages."""
    if not isinstance(value, (int, float)):
        return 'n/a'
    return f'{100 * value if key.startswith("coco/") else value:.1f}'


def _curves(run: Run, other: Optional[Run]) -> str:
    runs = [run] + ([other] if other else [])
    names = dict((name, name) for one in runs for name in one.curves
                 if 'loss' in name and not name.startswith('coco'))
    names.update(dict(lr='learning rate') if 'lr' in run.curves else {})
    # a single score is no curve; it stands above
    names.update({
        key: title
        for key, title in _SCORES if any(
            len(one.curves.get(key, ((), ))[0]) > 1 for one in runs)
    })
    drawn = [
        charts.draw_curves(
            title,
            {one.name: one.curves[key]
             for one in runs if key in one.curves})
        for key, title in names.items()
    ]
    return f'<div class="charts">{"".join(drawn)}</div>' if drawn else ''


def _table(heads: Sequence[str],
           rows: Iterable[Sequence[Any]],
           kind: str = '') -> str:
    cells = ''.join(f'<th>{escape(str(head))}</th>' for head in heads)
    body = ''.join('<tr>' + ''.join(f'<td>{escape(str(cell))}</td>'
                                    for cell in row) + '</tr>' for row in rows)
    return (f'<div class="wide"><table class="{kind}"><thead><tr>{cells}</tr>'
            f'</thead><tbody>{body}</tbody></table></div>')


def _number(value: Any) -> str:
    return f'{value:.1f}' if isinstance(value, (int, float)) else 'n/a'


def _classes(run: Run) -> str:
    if not run.classwise:
        return ''
    heads = list(
        dict.fromkeys(name for scores in run.classwise.values()
                      for name in scores))
    rows = [[
        name, *(_percent(scores.get(head), 'coco/' if 'AP' in head else head)
                for head in heads)
    ] for name, scores in run.classwise.items()]
    return ('<p>Click a head to sort.</p>' +
            _table(['class', *heads], rows, 'classes'))


def _comparison(run: Run, other: Run) -> str:
    rows = []
    for key in [
            *run.scores, *(k for k in other.scores if k not in run.scores)
    ]:
        values = ours, theirs = run.scores.get(key), other.scores.get(key)
        if any(isinstance(v, (int, float)) for v in values):
            difference = ''
            if isinstance(ours,
                          (int, float)) and isinstance(theirs, (int, float)):
                difference = f'{ours - theirs:+.4g}'
            rows.append([
                key, *(f'{v:.4g}' if isinstance(v, (int, float)) else 'n/a'
                       for v in values), difference
            ])
    text = _table(['score', run.name, other.name, 'difference'], rows)
    if run.segments and other.segments:
        kinds = [one.segments['segments']['kind'] for one in (run, other)]
        text += _table(
            ['segments', run.name, other.name],
            [[name.replace('_', ' '), *(each.count(i) for each in kinds)]
             for i, name in enumerate(run.segments['kinds'])])
    changes = {
        name: scores['PQ'] - other.classwise[name]['PQ']
        for name, scores in run.classwise.items()
        if isinstance(scores.get('PQ'), (int, float))
        and isinstance(other.classwise.get(name, {}).get('PQ'), (int, float))
    }
    if changes:
        order = sorted(changes, key=lambda name: changes[name])[::-1]
        if len(order) > 40:
            order = order[:20] + order[-20:]
        text += charts.draw_bars(order, [changes[name] for name in order],
                                 f'PQ of {run.name} minus {other.name}')
    return text


def _errors(run: Run) -> str:
    content = run.segments
    if not content:
        return ''
    rows = errors.by_class(content)
    kinds = content['kinds']
    sums = [content['segments']['kind'].count(i) for i in range(len(kinds))]
    table = errors.confusion(content)
    named = [(name, count) for name, count in zip(kinds, sums)]
    bar = ''.join(f'<i style="width:{100 * count / max(sum(sums), 1):.2f}%;'
                  f'background:{_KIND_COLORS[name]}" title="{name}"></i>'
                  for name, count in named)
    key = ''.join(
        f'<li class="key"><i style="background:{_KIND_COLORS[name]}"></i>'
        f'<b>{count}</b> {name.replace("_", " ")}: {_MEANING[name]}</li>'
        for name, count in named)
    heads = [
        'class', 'matched', 'wrong class', 'poor mask', 'missed', 'spurious',
        'called so wrongly', 'FN', 'FP'
    ]
    lines = [[*row, row.fn, row.fp] for row in rows
             if row.matched + row.fn + row.fp]
    pairs = errors.worst_confusions(table, content['classes'])
    confused = ''
    if pairs:
        confused = '<h3>Most frequent confusions</h3>' + _table(
            ['ground truth', 'predicted', 'segments'], pairs)
    fn, fp = (sum(getattr(row, name) for row in rows) for name in ('fn', 'fp'))
    return (f'<div class="bar">{bar}</div><ul style="list-style:none">{key}'
            f'</ul><p>FN {fn} = wrong class + poor mask + missed; FP {fp} = '
            'wrong class + poor mask + spurious: these two count on both '
            'sides.</p>' + _table(heads, lines, 'classes') + confused +
            '<h3>Confusion</h3><p>Segments; colour is the share of the row. '
            'What is not found, and what is found where nothing is, are '
            '"(nothing)".</p>' +
            charts.draw_confusion(*_occurring(table, content['classes'])))


def _occurring(table: np.ndarray,
               names: List[str]) -> Tuple[np.ndarray, List[str]]:
    """Without classes that have no segment at all."""
    kept = [i for i in range(len(names)) if table[i].sum() + table[:, i].sum()]
    places = [*kept, len(names)]
    return table[places][:, places], [names[i] for i in kept]


def _images(run: Run) -> str:
    if not run.segments:
        return ''
    text = ''
    for which in ('worst', 'best'):
        text += f'<h3>{which.capitalize()}</h3>'
        for picture in pictures.draw_pictures(run, which):
            caption = f'{picture.image_id}: PQ {_number(picture.quality)}'
            shown = (f'<img alt="{escape(caption)}" src="{picture.data}">'
                     if picture.data else
                     f'<p class="note">{escape(picture.problem)}</p>')
            text += (f'<figure><figcaption>{escape(caption)}</figcaption>'
                     f'{shown}</figure>')
    return text


def _record(run: Run) -> str:
    record: Dict[str, Any] = dict(run.record)
    config = record.pop('config_text', '')
    if not record:
        return ''
    rows = [(key, json.dumps(value) if isinstance(value,
                                                  (dict, list)) else value)
            for key, value in record.items()]
    text = '<table>' + ''.join(
        f'<tr><td>{escape(str(key))}</td><td style="text-align:left;'
        f'overflow-wrap:anywhere">{escape(str(value))}</td></tr>'
        for key, value in rows) + '</table>'
    if config:
        text += ('<details><summary>Config</summary><pre>'
                 f'{escape(str(config))}</pre></details>')
    return text
