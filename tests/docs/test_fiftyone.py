"""The Python of docs/import.md: to FiftyOne and back."""
import json

import numpy as np
import pytest

from tests.docs.pages import blocks
from tests.oracles.perturb import random_data, write_coco_panoptic
from tests.panoptic_apps.check_dataset.data import read_ids


def test_to_fiftyone_and_back(tmp_path):
    pytest.importorskip('fiftyone')
    found = {}
    for block in blocks('docs/import.md'):
        if block.language == 'python' and 'fiftyone' in block.text:
            exec(block.text, found)
    data = random_data(5, num_images=3)
    path = write_coco_panoptic(data, tmp_path / 'data', with_images=True)
    root = path.parent
    samples, categories = found['read_samples'](path, root / 'images',
                                                root / 'panoptic')
    found['write_samples'](samples, 'ground_truth', categories,
                           tmp_path / 'back')
    old, new = map(json.loads,
                   (path.read_text(), (tmp_path / 'back.json').read_text()))
    assert new['categories'] == old['categories']
    assert [i['id'] for i in new['images']] == [i['id'] for i in old['images']]
    for old_note, new_note in zip(old['annotations'], new['annotations']):
        before = read_ids(root / 'panoptic' / old_note['file_name'])
        after = read_ids(tmp_path / 'back' / new_note['file_name'])
        segments = old_note['segments_info']
        expected = np.zeros_like(before)
        for number, segment in enumerate(segments, 1):
            expected[before == segment['id']] = number
        assert np.array_equal(after, expected)
        assert new_note['segments_info'] == [
            dict(
                id=number,
                category_id=segment['category_id'],
                iscrowd=segment['iscrowd'])
            for number, segment in enumerate(segments, 1)
        ]
