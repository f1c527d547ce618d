"""Result files scored, beside panopticapi and hotcoco on the same files."""
import json
import re

import numpy as np
import pytest
from hotcoco.panoptic import PanopticEval
from PIL import Image

from mmengine_exact.errors import InputError
from panoptic_apps.eval_panoptic import pair_files, score_pairs
from panoptic_apps.report import read_run, write_report
from panoptic_fpn.metrics import PanopticEvaluator, PanopticQualityMetric
from panoptic_fpn.metrics.semantic_iou import DERIVED
from tests.conftest import call_tool
from tests.oracles.perturb import (PanopticData, PanopticImage, perturbed_data,
                                   random_data, write_coco_panoptic)


def write_files(root, seed=0, **kwargs):
    """Ground truth and results, without photographs."""
    data = random_data(seed, **kwargs)
    write_coco_panoptic(data, root, name='truth')
    write_coco_panoptic(
        perturbed_data(seed + 100, data, unite_stuff=seed % 2 == 0),
        root,
        name='found')
    change(root / 'found.json',
           lambda c: [c.pop('images'), c.pop('categories')])
    return data


def change(path, function):
    content = json.loads(path.read_text())
    function(content)
    path.write_text(json.dumps(content))


def names(root):
    return [
        str(root / name)
        for name in ('truth.json', 'truth', 'found.json', 'found')
    ]


def scores_of(root, num_workers=1):
    """Scores, and PQ, SQ and RQ of each class."""
    space, pairs = pair_files(*names(root))
    evaluator = PanopticEvaluator([PanopticQualityMetric()])
    evaluator.dataset_meta = space.metainfo()
    done = []
    scores = score_pairs(pairs, evaluator, num_workers, done.append)
    assert sum(done) == len(pairs)
    return scores, evaluator.by_class


def panopticapi_scores(root):
    """By group and by category id, fractions."""
    evaluation = pytest.importorskip('panopticapi.evaluation')
    truth, found = (
        json.loads((root / name).read_text())
        for name in ('truth.json', 'found.json'))
    of = {note['image_id']: note for note in found['annotations']}
    categories = {c['id']: c for c in truth['categories']}
    stat = evaluation.pq_compute_single_core(
        0, [(note, of[note['image_id']]) for note in truth['annotations']],
        str(root / 'truth'), str(root / 'found'), categories)
    groups = {
        end: stat.pq_average(categories, isthing)
        for end, isthing in (('', None), ('_th', True), ('_st', False))
    }
    return groups, {
        c['name']: groups[''][1][id_]
        for id_, c in categories.items()
    }


def hotcoco_scores(root):
    truth, truth_pngs, found, found_pngs = names(root)
    result = PanopticEval(
        truth, found, gt_folder=truth_pngs, pred_folder=found_pngs)
    result.evaluate()
    return result.results()


@pytest.mark.parametrize('seed', range(4))
def test_scores_are_those_of_the_official_script(tmp_path, seed):
    write_files(tmp_path, seed, num_images=20, string_ids=seed == 3)
    scores, by_class = scores_of(tmp_path)
    groups, classes = panopticapi_scores(tmp_path)
    third = hotcoco_scores(tmp_path) if seed < 3 else {}  # no strings
    for end, group in zip(groups, ('All', 'Things', 'Stuff')):
        for key in ('pq', 'sq', 'rq'):
            ours = scores[f'coco_panoptic/{key.upper()}{end}'] / 100
            for theirs in (groups[end][0], third.get(group)):
                assert theirs is None or abs(ours - theirs[key]) <= 1e-9
    for name, row in classes.items():
        for key in ('pq', 'sq', 'rq'):
            ours = np.nan_to_num(by_class[name][key.upper()]) / 100
            assert abs(ours - row[key]) <= 1e-9
    assert scores_of(tmp_path, 2) == (scores, by_class)


def test_what_is_in_one_file_alone_is_left_out(tmp_path, caplog):
    """As panopticapi does with images without annotation and with results of
    other images."""
    write_files(tmp_path)
    change(
        tmp_path / 'truth.json', lambda c: c['images'].append(
            dict(id=10**6, file_name='new.jpg', height=5, width=5)))
    change(
        tmp_path / 'found.json', lambda c: c['annotations'].append(
            dict(image_id=10**7, file_name='other.png', segments_info=[])))
    scores, _ = scores_of(tmp_path)
    groups, _ = panopticapi_scores(tmp_path)
    assert scores['coco_panoptic/PQ'] == pytest.approx(100 *
                                                       groups[''][0]['pq'])


def test_more_than_a_thousand_instances_of_a_class(tmp_path):
    """One in each of 48 x 50 pixels, found but for the last row."""
    ids = np.arange(1, 2401).reshape(48, 50)
    categories = [
        dict(id=7, name='dot', isthing=1, color=[0, 0, 9]),
        dict(id=3, name='sky', isthing=0, color=[9, 0, 0])
    ]
    found = np.where(np.arange(48)[:, None] < 47, ids, 0)
    for name, plane in (('truth', ids), ('found', found)):
        segments = [
            dict(id=int(i), category_id=7, iscrowd=0)
            for i in np.unique(plane[plane > 0])
        ]
        image = PanopticImage(1, '1.jpg', '1.png', plane, segments)
        write_coco_panoptic(
            PanopticData(categories, [image]), tmp_path, name=name)
    scores, by_class = scores_of(tmp_path)
    assert by_class['dot']['PQ'] == pytest.approx(100 * 2350 / 2375)
    assert scores['coco_panoptic/SQ'] == 100


def first_note(function):
    return lambda content: function(content['annotations'][0])


def unreadable(root):
    (root / 'found.json').write_text('{')


def no_annotation(root):
    change(root / 'truth.json', lambda c: c.update(annotations=[]))


def no_result(root):
    change(root / 'found.json', lambda c: c['annotations'].pop(0))


def ids_as_text(root):
    change(
        root / 'found.json', lambda c: [
            note.update(image_id=str(note['image_id']))
            for note in c['annotations']
        ])


def unknown_category(root):
    change(
        root / 'found.json',
        first_note(
            lambda note: note['segments_info'][0].update(category_id=999)))


def other_names(root):
    change(
        root / 'found.json', lambda c: c.update(categories=[
            dict(
                id=json.loads(
                    (root / 'truth.json').read_text())['categories'][0]['id'],
                name='ufo',
                isthing=1)
        ]))


def id_twice(root):
    change(
        root / 'found.json',
        first_note(lambda note: note['segments_info'].append(note[
            'segments_info'][0])))


def only_in_json(root):
    change(
        root / 'found.json',
        first_note(lambda note: note['segments_info'].append(
            dict(note['segments_info'][0], id=77))))


def only_in_png(root):
    change(root / 'found.json',
           first_note(lambda note: note['segments_info'].pop()))


def png_of(root):
    note = json.loads((root / 'found.json').read_text())['annotations'][0]
    return root / 'found' / note['file_name']


def no_png(root):
    png_of(root).unlink()


def other_size(root):
    with Image.open(png_of(root)) as image:
        image.resize((20, 20)).save(png_of(root))


def grey(root):
    with Image.open(png_of(root)) as image:
        image.convert('L').save(png_of(root))


def leads_away(root):
    change(root / 'found.json',
           first_note(lambda note: note.update(file_name='../a.png')))


@pytest.mark.parametrize('damage, message', [
    (unreadable, r'found\.json: not a JSON file'),
    (no_annotation, r'truth\.json: no image has an annotation'),
    (no_result, r'found\.json: no result of 1 of 4 images, such as image_id='),
    (ids_as_text, r"no result of 4 of 4 .* others, such as '\d+'\)"),
    (unknown_category, r'found\.json: image_id=.*category_id=999 is not in'),
    (other_names, r"found\.json: category \d+ is 'ufo', in .*truth\.json"),
    (id_twice, r'found\.json: image_id=.* two segments_info have id='),
    (only_in_json, r'pan-.*png: the JSON lists segments without a pixel .*77'),
    (only_in_png, r'pan-.*png: \d+ pixels have segment ids that the JSON'),
    (no_png, r'pan-.*png: cannot read the panoptic PNG'),
    (other_size, r'pan-.*png: the panoptic PNG is \(20, 20\) \(h, w\), its'),
    (grey, r'pan-.*png: shape \(40, 56\) of uint8; a panoptic PNG is 8-bit'),
    (leads_away, r"found\.json: image_id=.*file_name='../a.png' cannot be"),
])
def test_a_fault_is_one_error_that_names_the_file(tmp_path, damage, message):
    write_files(tmp_path)
    damage(tmp_path)
    with pytest.raises(InputError) as raised:
        scores_of(tmp_path)
    assert re.search(message, str(raised.value)), str(raised.value)


def test_the_tool_its_report_and_a_comparison(tmp_path, monkeypatch, capsys):
    data = write_files(tmp_path, num_images=50, shape=(24, 32))
    out = tmp_path / 'out'
    assert call_tool(monkeypatch, 'eval_panoptic', *names(tmp_path), '--extra',
                     'interval', '--report', '--out', out) == 0
    scores = json.loads((out / 'metrics.json').read_text())
    expected, by_class = scores_of(tmp_path)
    assert scores.items() >= expected.items()
    assert set(scores['classwise']) == set(by_class)
    assert '50/50' in capsys.readouterr().err
    # maps of the images that are shown, and of no others
    content = json.loads((out / 'segments.json').read_text())
    shown = {
        str(i)
        for name in ('best', 'worst', 'examples')
        for i in content[name]
    }
    assert {path.stem for path in (out / 'segments').iterdir()} == shown
    assert 12 <= len(shown) < 50
    record = json.loads((out / 'record.json').read_text())
    assert [len(one['sha256']) for one in record['files']] == [64, 64]
    # against other results of the same images
    worse = perturbed_data(7, data, void_rate=0.8)
    write_coco_panoptic(worse, tmp_path, name='found')
    other = tmp_path / 'other'
    assert call_tool(monkeypatch, 'eval_panoptic', *names(tmp_path), '--out',
                     other, '--against', out / 'images.json') == 0
    said = capsys.readouterr().out
    assert re.search(r'\| all +\| +50 \| .* -\d.* \| \* +\|', said)
    assert 'Over 50 images that both have.' in said
    page = tmp_path / 'page.html'
    write_report(str(page), read_run(out), read_run(other))
    text = page.read_text()
    assert text.count('data:image/jpeg') == len(shown)
    assert 'class="note">No picture' not in text
    assert 'Over 50 images that both have.' in text
    assert 'Measures of panoptic quality' in text


@pytest.mark.parametrize('num_workers', [1, 2])
def test_mean_iou(tmp_path, monkeypatch, capsys, num_workers):
    """Beside sums over the maps of labels; void where nothing is predicted is
    wrong."""
    data = write_files(tmp_path)
    assert call_tool(monkeypatch, 'eval_panoptic', *names(tmp_path), '--out',
                     tmp_path, '--num-workers', num_workers) == 0
    scores = json.loads((tmp_path / 'metrics.json').read_text())
    found = json.loads((tmp_path / 'found.json').read_text())['annotations']
    pairs = [(categories_of(image.id_map, image.segments),
              categories_of(id_map_of(tmp_path, note), note['segments_info']))
             for image, note in zip(data.images, found)]
    ious = {}
    for category in data.categories:
        id_ = category['id']
        both = sum(((a == id_) & (b == id_)).sum() for a, b in pairs)
        true = sum((a == id_).sum() for a, _ in pairs)
        wrong = sum(
            ((a != id_) & (a >= 0) & (b == id_)).sum() for a, b in pairs)
        if true:
            ious[category['name']] = 100 * both / (true + wrong)
            assert scores['classwise'][
                category['name']]['IoU'] == pytest.approx(
                    ious[category['name']])
    assert scores['mIoU'] == pytest.approx(np.mean([*ious.values()]))
    assert capsys.readouterr().out.count(DERIVED) == 1


def categories_of(id_map, segments):
    """(h, w) category ids, -1 where void."""
    found = np.full_like(id_map, -1)
    for segment in segments:
        found[id_map == segment['id']] = segment['category_id']
    return found


def id_map_of(root, note):
    with Image.open(root / 'found' / note['file_name']) as image:
        return np.array(image).astype(int) @ [1, 256, 65536]


def test_wrong_arguments(tmp_path, monkeypatch, capsys):
    write_files(tmp_path)
    for more, said in ((['--report'], 'need --out DIR'),
                       (['--num-workers', '0'], 'must be at least 1'),
                       (['--images', tmp_path / 'no'], 'no such folder')):
        assert call_tool(monkeypatch, 'eval_panoptic', *names(tmp_path),
                         *more) == 2
        assert said in capsys.readouterr().err
    assert call_tool(monkeypatch, 'eval_panoptic', *names(tmp_path), '--out',
                     tmp_path, '--against', tmp_path / 'none.json') == 1
    assert 'none.json: cannot read' in capsys.readouterr().err
