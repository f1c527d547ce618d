"""Reasons of errors: against masks compared one by one, and the PQ metric."""
import json
from collections import Counter

import numpy as np
import pytest

from panoptic_apps.report.segment_errors import (KINDS, SegmentErrorMetric,
                                                 SegmentOutcome, explain,
                                                 image_quality)
from panoptic_fpn.labels import LabelSpace
from panoptic_fpn.metrics import panoptic_counts
from panoptic_fpn.metrics.panoptic_quality import match_segments

C, THINGS = 6, 4
SPACE = LabelSpace.from_coco([
    dict(id=i + 1, name=f'class {i}', isthing=int(i < THINGS))
    for i in range(C)
])


def scene(rng, shape=(40, 50), segments=7):
    """Rectangles over one another on void; codes in an order of their own."""
    panoptic = np.full(shape, C, np.int32)
    for number in range(segments):
        y, x = rng.integers(0, 30, 2)
        h, w = rng.integers(4, 20, 2)
        label = int(rng.integers(0, C))
        code = label + 1000 * (number + 1) if label < THINGS else label
        panoptic[y:y + h, x:x + w] = code
    codes = np.unique(panoptic[panoptic % 1000 != C])
    return panoptic, rng.permutation(codes)


def disturbed(rng, gt):
    """Moved by a few pixels, some segments renamed or removed."""
    pred = np.roll(gt, rng.integers(-5, 6, 2), (0, 1)).copy()
    for code in np.unique(pred):
        if code % 1000 == C:
            continue
        change = rng.integers(0, 5)
        if change == 0:
            pred[pred == code] = C
        elif change == 1:
            label = int(rng.integers(0, C))
            new = label + 1000 * int(code // 1000 + 20) if label < THINGS \
                else label
            pred[pred == code] = new
    return pred


def plain_outcomes(gt, codes, crowd, pred):
    """(kind, true code or None, predicted code or None), by whole masks."""
    void = gt % 1000 == C
    known = [c for c in np.unique(pred) if c % 1000 != C]
    masks = {c: gt == c for c in codes}
    found = {c: pred == c for c in known}

    def iou(a, b):
        both = (masks[a] & found[b]).sum()
        union = (masks[a] | (found[b] & ~void)).sum()
        return both / union if union else 0

    outcomes, true, seen = [], [], list(known)
    for code, is_crowd in zip(codes, crowd):
        match = [
            c for c in known if c % 1000 == code % 1000 and iou(code, c) > 0.5
        ]
        if is_crowd:
            continue
        if match:
            outcomes.append(('matched', code, match[0]))
            seen.remove(match[0])
        else:
            true.append(code)
    crowds = {
        int(c % 1000): c
        for c, is_crowd in zip(codes, crowd) if is_crowd
    }
    for code in list(seen):
        ignored = void.copy()
        if int(code % 1000) in crowds:
            ignored |= gt == crowds[int(code % 1000)]
        if (found[code] & ignored).sum() > 0.5 * found[code].sum():
            seen.remove(code)
    for kind in ('wrong_class', 'poor_mask'):
        pairs = sorted(
            ((-iou(a, b), list(codes).index(a), known.index(b), a, b)
             for a in true for b in seen))
        for value, _, _, a, b in pairs:
            same = a % 1000 == b % 1000
            fits = (not same and -value > 0.5) if kind == 'wrong_class' else (
                same and -value >= 0.1)
            if fits and a in true and b in seen:
                true.remove(a)
                seen.remove(b)
                outcomes.append((kind, a, b))
    outcomes += [('missed', code, None) for code in true]
    outcomes += [('spurious', None, code) for code in seen]
    return outcomes


def test_reasons_are_those_of_whole_masks_and_add_up():
    seen = Counter()
    for seed in range(150):
        rng = np.random.default_rng(seed)
        gt, codes = scene(rng)
        crowd = (codes % 1000 < THINGS) & (rng.random(len(codes)) < 0.15)
        pred = disturbed(rng, gt)
        labels = codes % 1000
        args = (gt, codes, labels, crowd, pred, C, C)
        outcomes = explain(match_segments(*args), labels)
        wanted = plain_outcomes(gt, codes, crowd, pred)
        found = sorted((KINDS[f.kind], f.label, f.predicted) for f in outcomes)
        assert found == sorted((kind, -1 if a is None else int(a % 1000),
                                -1 if b is None else int(b % 1000))
                               for kind, a, b in wanted)
        kinds = Counter(kind for kind, *_ in found)
        seen += kinds
        tp, fp, fn, iou = panoptic_counts(*args).sum(axis=0)
        pairs = kinds['wrong_class'] + kinds['poor_mask']
        assert kinds['matched'] == tp
        assert pairs + kinds['missed'] == fn
        assert pairs + kinds['spurious'] == fp
        if tp + fp + fn:
            assert image_quality(outcomes) == pytest.approx(
                100 * iou / (tp + fp / 2 + fn / 2))
    assert min(seen[kind] for kind in KINDS) > 10


def sample(image_id, gt, codes, pred):
    return dict(
        img_id=image_id,
        img_path=f'{image_id}.jpg',
        gt_panoptic_seg=dict(sem_seg=gt[None]),
        gt_codes=codes,
        crowd_codes=codes[:0],
        pred_panoptic_seg=dict(sem_seg=pred[None]))


def test_the_file_and_its_maps(tmp_path):
    metric = SegmentErrorMetric(str(tmp_path), keep=2)
    metric.dataset_meta = SPACE.metainfo()
    scenes = {}
    for image_id in (7, 3, 9, 4, 1):
        rng = np.random.default_rng(image_id)
        gt, codes = scene(rng)
        pred = disturbed(rng, gt) if image_id != 9 else gt
        scenes[image_id] = gt, pred
        metric.process(None, [sample(image_id, gt, codes, pred)])
    assert metric.evaluate(5) == {}
    content = json.loads((tmp_path / 'segments.json').read_text())
    quality = {image['id']: image['PQ'] for image in content['images']}
    assert list(quality) == sorted(scenes) and quality[9] == 100
    order = sorted(quality, key=lambda i: (quality[i], i))
    worst = [quality[i] for i in content['worst']]
    assert worst == [quality[i] for i in order[:2]]
    assert content['best'][0] == 9
    kept = {*content['worst'], *content['best']}
    files = {path.stem for path in (tmp_path / 'segments').iterdir()}
    assert files == {str(i) for i in kept}
    for image_id in kept:
        with np.load(tmp_path / 'segments' / f'{image_id}.npz') as maps:
            assert (maps['gt'] == scenes[image_id][0]).all()
            assert (maps['pred'] == scenes[image_id][1]).all()
    columns = content['segments']
    assert set(columns) == {'image', *SegmentOutcome._fields}
    assert len({len(column) for column in columns.values()}) == 1
    # area of a true segment
    first = list(quality).index(9)
    areas = sorted(a for i, a in zip(columns['image'], columns['area'])
                   if i == first)
    gt = scenes[9][0]
    assert areas == sorted(
        np.unique(gt[gt % 1000 != C], return_counts=True)[1].tolist())
