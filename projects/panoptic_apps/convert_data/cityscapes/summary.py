"""What a prepared split holds, class by class."""
from typing import Any, Dict, List

from terminaltables import AsciiTable

from panoptic_fpn.cityscapes import label_space


def summarize(entries: List[Dict]) -> Dict:
    """Count the segments of a split.

    Args:
        entries (list[dict]): For each image ``height``, ``width`` and, where
            annotated, ``segments_info``, ``ignored_ids``.

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
    pixels = ignored = 0
    for entry in entries:
        pixels += entry['height'] * entry['width']
        ignored += len(entry['ignored_ids'])
        for segment in entry['segments_info']:
            row = rows[segment['category_id']]
            row['groups' if segment['iscrowd'] else 'segments'] += 1
            row['pixels'] += segment['area']
        for id_ in {s['category_id'] for s in entry['segments_info']}:
            rows[id_]['images'] += 1
    classes = list(rows.values())
    return dict(
        images=len(entries),
        pixels=pixels,
        classes=classes,
        void_pixels=pixels - sum(row['pixels'] for row in classes),
        ignored=ignored)


def format_summary(split: str, summary: Dict) -> str:
    """A table of :func:`summarize`, for a terminal."""
    title = f'{split}: {summary["images"]} images'
    if 'classes' not in summary:
        return f'{title}, without annotation'
    total = max(1, summary['pixels'])
    table = [['class', 'segments', 'groups', 'images', 'pixels']]
    for row in summary['classes']:
        table.append([
            row['name'], row['segments'],
            row['groups'] if row['isthing'] else '', row['images'],
            f'{row["pixels"] / total:.2%}'
        ])
    table.append(['void', '', '', '', f'{summary["void_pixels"] / total:.2%}'])
    result = AsciiTable(table)
    result.inner_footing_row_border = True
    for column in range(1, 5):
        result.justify_columns[column] = 'right'
    return (f'{title}, {summary["ignored"]} instances of caravan and trailer '
            f'(ignored)\n{result.table}')
