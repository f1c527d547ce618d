"""Whatever stands in the JSON, the check comes to its end and says so."""
import copy
import json
import random

import pytest

from panoptic_apps.check_dataset import (check_dataset, format_report,
                                         report_content)

WEIRD = [
    None, True, [], {}, '', 'x', -1, 0, 1.5, 10**30,
    float('nan'), [None], {
        'id': 1
    }, [[1]]
]


def places(node, found):
    """(container, key) of every value of a JSON."""
    items = node.items() if isinstance(node, dict) else enumerate(node)
    for key, value in list(items):
        found.append((node, key))
        if isinstance(value, (dict, list)):
            places(value, found)
    return found


@pytest.mark.parametrize('seed', range(30))
def test_a_value_of_another_kind_anywhere(original, tmp_path, seed):
    draw = random.Random(seed)
    content = json.loads(original.read_text())
    content['annotations'][0]['void_ids'] = [0]
    for level in (content, content['images'], content['annotations'],
                  content['annotations'][1]['segments_info'],
                  content['categories']):
        container, key = draw.choice(places(level, []))
        container[key] = copy.deepcopy(draw.choice(WEIRD))
        path = tmp_path / 'odd.json'
        path.write_text(json.dumps(content))
        result = check_dataset(
            str(path),
            str(original.parent / 'images'),
            str(original.parent / 'panoptic'),
            num_workers=1,
            repair=True)
        assert format_report(str(path), result)
        json.dumps(report_content(str(path), result))
