"""The page of a run: what it counts, what it says of what is missing."""
import json
import re
from html.parser import HTMLParser

import cv2
import numpy as np
import pytest

from mmengine_exact.errors import InputError
from panoptic_apps.report import read_run
from panoptic_apps.report import segment_errors as errors
from panoptic_apps.report import write_report
from panoptic_apps.report.segment_errors import (SegmentErrorMetric,
                                                 SegmentOutcome)
from panoptic_fpn.labels import LabelSpace
from panoptic_fpn.metrics import PanopticQualityMetric
from panoptic_fpn.training.metrics_json import write_images
from tests.browser import fits, open_page
from tests.conftest import call_tool

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


def sample(image_id, gt, codes, pred):
    return dict(
        img_id=image_id,
        img_path=f'{image_id}.jpg',
        gt_panoptic_seg=dict(sem_seg=gt[None]),
        gt_codes=codes,
        crowd_codes=codes[:0],
        pred_panoptic_seg=dict(sem_seg=pred[None]))


def line(step, value, name='loss'):
    return {name: value, 'step': step}


def make_run(folder, shift=0.):
    """A work directory with everything a report can have."""
    logs = folder / '20260101_000000' / 'vis_data'
    logs.mkdir(parents=True)
    lines = [
        dict(loss=4 / (i + 1), loss_seg=1.0, lr=0.01, step=10 * i)
        for i in range(1, 6)
    ]
    lines += [line(10 * i, 30 + i + shift, 'coco_panoptic/PQ') for i in (2, 4)]
    (logs / 'scalars.json').write_text('\n'.join(map(json.dumps, lines)))
    (folder / 'record.json').write_text(
        json.dumps(
            dict(
                config='a.py',
                seed=3,
                weights='/a/long/path' * 20,
                config_text='model = "<script>"')))
    metrics = (SegmentErrorMetric(str(folder), keep=2),
               PanopticQualityMetric(extra=['images', 'size', 'interval']))
    for metric in metrics:
        metric.dataset_meta = SPACE.metainfo()
    for image_id in range(4):
        rng = np.random.default_rng(image_id)
        gt, codes = scene(rng)
        one = sample(image_id, gt, codes, disturbed(rng, gt))
        one['img_path'] = str(folder / f'{image_id}.png')
        cv2.imwrite(one['img_path'],
                    rng.integers(0, 255, (*gt.shape, 3), np.uint8))
        for metric in metrics:
            metric.process(None, [one])
    _, quality = (metric.evaluate(4) for metric in metrics)
    write_images(
        str(folder / 'images.json'), metrics[1].by_image, SPACE.metainfo())
    classwise = {
        'class 0': dict(PQ=50.0 + shift, segm_AP=0.25),
        '<b>$x$ & y': dict(PQ=None)
    }
    scores = {
        'coco_panoptic/PQ': quality['coco_panoptic/PQ'] + shift / 100,
        'coco_panoptic/PQ_low': quality['coco_panoptic/PQ_low'],
        'coco_panoptic/PQ_small': quality['coco_panoptic/PQ_small'],
        'coco/segm_mAP': 0.333,
        'mIoU': None,
        'classwise': classwise
    }
    (folder / 'metrics.json').write_text(json.dumps(scores))
    return folder


@pytest.fixture(scope='module')
def whole(tmp_path_factory):
    return make_run(tmp_path_factory.mktemp('runs') / 'run <1>')


def page_of(tmp_path, *folders):
    path = tmp_path / 'page.html'
    write_report(str(path), *map(read_run, folders))
    return path.read_text()


class Parser(HTMLParser):
    """Checks that tags are closed, collects what the page refers to."""

    EMPTY = {'meta', 'link', 'img'}

    def __init__(self):
        super().__init__()
        self.open, self.links = [], []

    def handle_starttag(self, tag, attrs):
        self.links += [
            v for k, v in attrs if k in ('src', 'href', 'xlink:href')
        ]
        if tag not in self.EMPTY:
            self.open.append(tag)

    def handle_endtag(self, tag):
        if tag not in self.EMPTY:
            assert self.open.pop() == tag


def test_sums_are_those_of_the_counts(whole):
    content = read_run(whole).segments
    rows = errors.by_class(content)
    kinds = content['segments']['kind']
    table = errors.confusion(content)
    assert sum(row.matched for row in rows) == kinds.count(0)
    assert sum(row.fn
               for row in rows) == sum(kinds.count(k) for k in (1, 2, 3))
    assert sum(row.fp
               for row in rows) == sum(kinds.count(k) for k in (1, 2, 4))
    # a row has all true segments of a class, a column all predicted ones
    for i, row in enumerate(rows):
        assert table[i].sum() == row.matched + row.fn
        assert table[:, i].sum() == row.matched + row.fp
    assert table.trace() == kinds.count(0)
    inner = table[:-1, :-1].sum() - table.trace()
    assert inner == kinds.count(1)
    found = errors.worst_confusions(table, content['classes'], 100)
    assert sum(count for *_, count in found) == inner
    assert found == sorted(found, key=lambda entry: -entry[2])


def test_one_file_with_everything(whole, tmp_path):
    page = page_of(tmp_path, whole)
    parser = Parser()
    parser.feed(page)
    assert parser.open == []
    assert all(link.startswith(('data:', '#')) for link in parser.links)
    assert page.count('data:image/jpeg') == 4
    shown = read_run(whole).scores['coco_panoptic/PQ']
    assert f'<b>{shown:.1f}</b>' in page
    assert '33.3' in page and '25.0' in page  # AP in percent, too
    measures = re.search('<h2 id="measures">.*?</table>', page, re.S)[0]
    cells = re.findall('<t[hd]>(.*?)</t[hd]>', measures)
    assert cells[:4] == ['', 'PQ', '95 % from', 'PQ small']
    scores = read_run(whole).scores
    low, small = (f'{scores[f"coco_panoptic/PQ_{key}"]:.1f}'
                  for key in ('low', 'small'))
    assert cells[4:] == [
        'all', f'{shown:.1f}', low, '', 'things', '', '', small, 'stuff', '',
        '', ''
    ]
    for title in ('Over time', 'Classes', 'Errors', 'Worst and best images'):
        assert title in page
    assert 'run &lt;1&gt;' in page and 'run <1>' not in page
    assert '&lt;b&gt;$x$ &amp; y' in page and '<b>$x$' not in page
    assert '"<script>"' not in page
    assert 'class="note"' not in page


def test_two_runs(whole, tmp_path):
    other = make_run(tmp_path / 'other', shift=-2.)
    page = page_of(tmp_path, whole, other)
    assert 'Against other' in page
    row = re.search('<td>coco_panoptic/PQ</td>(.*?)</tr>', page)[1]
    assert re.findall('<td>(.*?)</td>', row)[2] == '+0.02'
    assert '<td>wrong class</td>' in page
    # the same counts
    assert 'Over 4 images that both have.' in page
    assert page.count('<td>+0.00</td>') == 3 * (3 + C)
    (other / 'images.json').unlink()
    assert "PanopticQualityMetric(extra=['images'])" in page_of(
        tmp_path, whole, other)


def test_two_runs_of_one_name_have_two_curves(tmp_path):
    page = page_of(tmp_path, make_run(tmp_path / 'a' / 'same'),
                   make_run(tmp_path / 'b' / 'same', shift=-2.))
    panels = page.count('>iteration</text>')
    assert page.count('>same</text>') == 2 * panels > 0


def test_what_is_missing_is_said(tmp_path):
    run = make_run(tmp_path / 'run')
    (run / 'segments.json').unlink()
    assert '--report' in page_of(tmp_path, run)
    (run / 'metrics.json').write_text('{"a": ')
    log, = run.glob('*/vis_data/scalars.json')
    log.write_text(log.read_text() + '\n{"loss": 1.')
    notes = ' '.join(read_run(run).notes)
    assert 'metrics.json cannot be read' in notes
    assert '1 lines cannot be read' in notes
    log.unlink()
    with pytest.raises(InputError, match='neither losses'):
        read_run(run)
    with pytest.raises(InputError, match='nothing: neither losses'):
        read_run(tmp_path / 'nothing')


def spoil(run, name, change):
    path = run / name
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def test_damaged_files_are_named_and_left_out(tmp_path):
    run = make_run(tmp_path / 'run')
    kept = json.loads((run / 'segments.json').read_text())
    for image_id, content in zip(kept['worst'], (b'', b'PK torn')):
        (run / 'segments' / f'{image_id}.npz').write_bytes(content)
    gone = kept['best'][0]
    (run / f'{gone}.png').unlink()
    spoil(run, 'segments.json', lambda c: c['best'].append('nothing'))
    spoil(run, 'metrics.json', lambda c: c.update({'coco_panoptic/PQ': 99.}))
    log, = run.glob('*/vis_data/scalars.json')
    log.write_text('{"loss": 1' + '0' * 400 + ', "step": 10}\n' +
                   log.read_text())
    page = page_of(tmp_path, run)
    for image_id in (*kept['worst'], gone, 'nothing'):
        assert f'No picture of image {image_id} ' in page
    assert 'of another evaluation' in page
    spoil(run, 'images.json', lambda c: c.pop('images'))
    assert 'images.json: no scores of images' in page_of(tmp_path, run)
    spoil(run, 'segments.json', lambda c: c['segments'].pop('kind'))
    assert 'is not what tools/test.py' in page_of(tmp_path, run)


@pytest.mark.parametrize('logs, curves', [
    # MMEngine's default has a validation at step 0
    ([[line(10, 3.), line(0, 1., 'mIoU'), line(20, 2.), line(0, 2., 'mIoU')]],
     dict(loss=([10, 20], [3., 2.]), mIoU=([10, 20], [1., 2.]))),
    # a second training replaces the first
    ([[line(10, 3.), line(20, 2.)], [line(10, 9.)]], dict(loss=([10], [9.]))),
    # a resumed run has one curve
    ([[line(10, 3.), line(20, 2.)], [line(20, 9.), line(30, 8.)]],
     dict(loss=([10, 20, 30], [3., 9., 8.]))),
    # scores that it took away have none
    ([[line(10, 2.), line(20, 30., 'coco_panoptic/PQ')], [line(15, 1.)]],
     dict(loss=([10, 15], [2., 1.]))),
])  # yapf: disable
def test_curves(tmp_path, logs, curves):
    for number, lines in enumerate(logs):
        folder = tmp_path / f'{number}' / 'vis_data'
        folder.mkdir(parents=True)
        (folder / 'scalars.json').write_text('\n'.join(map(json.dumps, lines)))
    assert read_run(tmp_path).curves == curves
    assert 'loss' in page_of(tmp_path, tmp_path)


def test_the_tool(whole, tmp_path, monkeypatch, capsys):
    out = tmp_path / 'out.html'
    assert call_tool(monkeypatch, 'report', whole, '--out', out) == 0
    assert out.is_file() and str(out) in capsys.readouterr().out
    assert call_tool(monkeypatch, 'report', tmp_path / 'nothing') == 1
    assert 'error: ' in capsys.readouterr().err


def test_in_a_browser(whole, tmp_path):
    page_of(tmp_path, whole, make_run(tmp_path / 'other'))
    with open_page(tmp_path / 'page.html') as (page, found):
        assert page.locator('svg').count() > 4
        images = page.locator('figure img')
        assert images.count() == 4
        loaded = 'all => all.every(one => one.naturalWidth > 300)'
        assert images.evaluate_all(loaded)
        # sorted by PQ, up and down
        head = page.locator('#classes ~ .wide .classes th').nth(1)
        first = page.locator('#classes ~ .wide .classes tbody td').first
        head.click()
        assert first.inner_text() == 'class 0'
        head.click()
        assert first.inner_text() != 'class 0'
        # an error leads to a picture that has it
        link = page.locator('#errors ~ .wide .classes a').first
        link.click()
        target = page.locator('figure:target')
        assert target.locator('img').is_visible()
        assert target.locator('figcaption span').count() > 0
        assert fits(page) and found == []


#: Lines that the text of an element takes.
LINES = """one => {
    const text = document.createRange();
    text.selectNodeContents(one);
    return new Set([...text.getClientRects()].map(line => line.top)).size;
}"""


def test_on_a_phone(whole, tmp_path):
    page_of(tmp_path, whole, make_run(tmp_path / 'other'))
    with open_page(tmp_path / 'page.html', width=390) as (page, found):
        assert fits(page) and found == []
        # what is wider than the window scrolls in its box
        wide = 'all => all.some(box => box.scrollWidth > box.clientWidth)'
        assert page.locator('.wide').evaluate_all(wide)
        # a long value leaves its name whole
        name = page.locator('.record td:first-child').get_by_text('weights')
        assert name.evaluate(LINES) == 1 < name.locator('+ td').evaluate(LINES)


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
    kept = {*content['worst'], *content['best'], *content['examples']}
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


def test_each_error_has_an_image(whole, tmp_path):
    """By hand from the columns of the file."""
    page, content = page_of(tmp_path, whole), read_run(whole).segments
    names, columns = content['classes'], content['segments']
    targets = set(re.findall('<figure id="image-(.*?)">', page))
    assert targets == {'0', '1', '2', '3'}
    found = {}
    for image, kind, label, predicted in zip(
            *map(columns.get, ('image', 'kind', 'label', 'predicted'))):
        of = predicted if kind == errors.SPURIOUS else label
        found.setdefault((names[of], kind), set()).add(str(image))
    table = page[page.index('<th>predicted wrongly'):].split('</table>')[0]
    for row in re.findall('<tr>(.*?)</tr>', table, re.DOTALL):
        name, _, *cells = re.findall('<td>(.*?)</td>', row)
        for kind, cell in zip((1, 2, 3, 4), cells):
            linked = re.findall('#image-(.*?)"', cell)
            assert {*linked} <= found.get((name, kind), set())
            assert bool(linked) == (cell != '0')


def test_the_fewest_images_show_all_errors(tmp_path):
    """By hand: four images of one quality, each of which lacks one thing."""
    metric = SegmentErrorMetric(str(tmp_path), keep=1)
    metric.dataset_meta = SPACE.metainfo()
    for image_id, label in enumerate((0, 1, 1, 2, 3)):
        gt = np.full((10, 10), 5, np.int32)  # stuff, always found
        gt[:2] = 1000 + label
        pred = gt if label == 3 else np.full_like(gt, 5)
        metric.process(None, [sample(image_id, gt, np.unique(gt), pred)])
    metric.evaluate(5)
    content = json.loads((tmp_path / 'segments.json').read_text())
    chosen = [content[name] for name in ('best', 'worst', 'examples')]
    assert chosen == [[4], [0], [1, 3]]
    files = {path.stem for path in (tmp_path / 'segments').iterdir()}
    assert files == {'0', '1', '3', '4'}
