"""COCO instances and semantic maps, on scenes worked out by hand."""
import json

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as mask_util

from mmengine_exact.errors import InputError
from panoptic_apps.convert_data import convert_instances_and_semantic

from .conftest import box, faults_of, names_of, written

SIZE = (20, 30)
CLASSES = [
    dict(id=11, name='grass', isthing=0),
    dict(id=2, name='sky', isthing=0, values=[12, 13]),
    dict(id=5, name='dog', isthing=1),
    dict(id=6, name='cat', isthing=1),
    dict(id=90, name='caption', isthing=1, ignore=1),
]
#: ids of the instances JSON are others
INSTANCE_CATEGORIES = [
    dict(id=1, name='cat'),
    dict(id=2, name='dog'),
    dict(id=3, name='caption')
]


def rle(y1, x1, y2, x2, compressed):
    mask = np.zeros(SIZE, np.uint8, order='F')
    mask[y1:y2, x1:x2] = 1
    if compressed:
        found = mask_util.encode(mask)
        return dict(size=list(SIZE), counts=found['counts'].decode())
    counts, last = [0], 0
    for pixel in mask.ravel('F').tolist():
        if pixel != last:
            counts.append(0)
            last = pixel
        counts[-1] += 1
    return dict(size=list(SIZE), counts=counts)


def note(id_, category_id, iscrowd, segmentation):
    return dict(
        id=id_,
        image_id='x',
        category_id=category_id,
        iscrowd=iscrowd,
        segmentation=segmentation)


def annotations():
    """A large dog, then a small cat below it, a crowd that covers both, a
    cat that is hidden, a caption."""
    return [
        note(1, 1, 0, box(8, 8, 10, 10)),
        note(2, 2, 0, rle(5, 5, 15, 15, compressed=True)),
        note(3, 2, 1, rle(4, 4, 18, 18, compressed=False)),
        note(4, 1, 0, box(8, 8, 10, 10)),
        note(5, 3, 0, box(0, 0, 20, 30)),
    ]


def semantic():
    """Sky in two values, grass, a cat that no instance covers, void."""
    values = np.full(SIZE, 11, np.uint8)
    values[:2] = 12
    values[2:3] = 13
    values[19] = 0
    values[10:12, 25:28] = 6
    values[6:8, 6:8] = 5
    return values


@pytest.fixture(name='root')
def _root(tmp_path):
    for folder in ('semantic', 'images'):
        (tmp_path / folder).mkdir()
    Image.fromarray(semantic()).save(tmp_path / 'semantic/x.png')
    Image.fromarray(np.zeros((*SIZE, 3),
                             np.uint8)).save(tmp_path / 'images/x.jpg')
    (tmp_path / 'classes.json').write_text(json.dumps(CLASSES))
    write(tmp_path, annotations())
    return tmp_path


def write(root, notes, **changes):
    content = dict(
        images=[
            dict(id='x', file_name='x.jpg', height=SIZE[0], width=SIZE[1])
        ],
        annotations=notes,
        categories=INSTANCE_CATEGORIES)
    (root / 'instances.json').write_text(json.dumps(dict(content, **changes)))


def convert(root, **kwargs):
    summary = convert_instances_and_semantic(
        str(root / 'instances.json'), str(root / 'semantic'),
        str(root / 'classes.json'), str(root / 'out'), 'set',
        **dict(dict(num_workers=1, report=str), **kwargs))
    return (summary, *written(root / 'out/set'))


def expected(order):
    """Name and crowd flag of each pixel, painted by hand."""
    names = np.full(SIZE, '', object)
    names[:3] = 'sky'
    names[3:19] = 'grass'
    names[10:12, 25:28] = ''
    names[4:18, 4:18] = 'dog crowd'
    if order == 'annotation':
        names[8:10, 8:10] = 'cat'
    names[5:15, 5:15] = 'dog'
    if order == 'area':
        names[8:10, 8:10] = 'cat'
    return names


def test_smaller_instances_lie_on_larger_ones(root):
    summary, content, ids = convert(root)
    assert (names_of(content, ids) == expected('area')).all()
    # two cats of one shape: the later hides the earlier
    assert summary == dict(
        images=1, segments=5, hidden=[1], unmasked=[], crowds=[3], uncovered=6)
    segments = content['annotations'][0]['segments_info']
    assert {s['id'] for s in segments} == set(np.unique(ids).tolist()) - {0}
    names = [c['name'] for c in content['categories']]
    assert names == ['grass', 'sky', 'dog', 'cat']
    assert faults_of(root) == {}


def test_the_order_of_the_json(root):
    notes = annotations()
    # the cat of id 4 would lie on top of all: leave the first alone
    del notes[3]
    write(root, notes)
    summary, content, ids = convert(root, order='annotation')
    want = expected('annotation')
    assert (names_of(content, ids) == want).all()
    assert summary['hidden'] == [1] and 'cat' not in set(want.ravel())


def test_things_that_no_instance_covers_may_be_crowd(root):
    summary, content, ids = convert(root, uncovered='crowd')
    want = expected('area')
    want[10:12, 25:28] = 'cat crowd'
    assert (names_of(content, ids) == want).all()
    assert summary['uncovered'] == 6


def change(notes, index, **values):
    notes[index].update(values)
    return notes


@pytest.mark.parametrize('notes,why', [
    (change(annotations(), 0, segmentation=dict(
        size=[1, 1], counts=[1])), 'annotation 1: its segmentation'),
    (change(annotations(), 0, segmentation='x'), 'annotation 1'),
    (change(annotations(), 0, segmentation=[['a'] * 6]), 'annotation 1'),
    (change(annotations(), 0, category_id=9), 'category_id=9'),
    (change(annotations(), 0, image_id='y'), "image_id='y'"),
    ([dict(id=1)], 'image_id=None'),
])
def test_annotations_that_cannot_be_used(root, notes, why):
    write(root, notes)
    with pytest.raises(InputError) as error:
        convert(root)
    assert why in str(error.value)
    assert 'instances.json' in str(error.value)
    assert not (root / 'out/set.json').exists()


def test_annotations_without_a_mask_are_not_called_hidden(root, capsys):
    """Boxes, polygons of two points or outside; one more is hidden."""
    masks = [None, None, [], [[1, 1, 2, 2]], box(40, 40, 50, 50)]
    notes = annotations()[1:] + [note('a', 1, 0, box(8, 8, 10, 10))]
    notes += [note(i, 2, 0, mask) for i, mask in enumerate(masks, 6)]
    del notes[5]['segmentation']
    write(root, notes)
    summary, _, _ = convert(root, report=print)
    assert summary['unmasked'] == [6, 7, 8, 9, 10]
    assert summary['hidden'] == [4]
    lines = capsys.readouterr().out.splitlines()
    assert ('5 annotations have no mask, or none in the image: id 6, 7, 8, '
            '... (5 in all)') in lines
    assert '1 annotations are hidden altogether by others: id 4' in lines


def test_values_and_categories_without_a_class(root):
    values = semantic()
    values[0, :3] = 77
    Image.fromarray(values).save(root / 'semantic/x.png')
    with pytest.raises(InputError, match='value 77: no class has it'):
        convert(root)
    convert(root, void_values=(0, 77))
    horse = dict(id=4, name='horse')
    write(root, annotations(), categories=INSTANCE_CATEGORIES + [horse])
    convert(root, void_values=(0, 77))  # no annotation uses it
    write(
        root, [note(1, 4, 0, box(0, 0, 9, 9))],
        categories=INSTANCE_CATEGORIES + [horse])
    with pytest.raises(InputError, match="'horse', .* 1 .*is missing"):
        convert(root, void_values=(0, 77))


def test_label_maps_resized_with_interpolation(root):
    image = Image.fromarray(semantic() * 9).resize((15, 10), Image.BILINEAR)
    image.resize(SIZE[::-1], Image.BILINEAR).save(root / 'semantic/x.png')
    with pytest.raises(InputError, match='x.png: .*resized with interpolat'):
        convert(root)


def test_a_panoptic_json_is_called_so(root):
    write(root, [dict(image_id='x', file_name='x.png', segments_info=[])])
    with pytest.raises(InputError, match='is panoptic. Train on it as it is'):
        convert(root)


def test_annotations_without_id_are_numbered(root):
    notes = [
        dict(n, id=None) if i % 2 else {
            k: n[k]
            for k in n if k != 'id'
        } for i, n in enumerate(annotations())
    ]
    write(root, notes)
    summary, content, ids = convert(root)
    assert (names_of(content, ids) == expected('area')).all()
    assert summary['hidden'] == [0] and summary['crowds'] == [2]


def test_label_maps_that_are_missing(root):
    """Whichever image they are of; the others are converted."""
    images = [
        dict(id=name, file_name=f'{name}.jpg', height=SIZE[0], width=SIZE[1])
        for name in 'xyz'
    ]
    write(root, annotations(), images=images)
    with pytest.raises(InputError) as error:
        convert(root)
    assert 'y.png: cannot read the label map' in str(error.value)
    assert str(error.value).endswith(f'Also unusable: {root}/semantic/z.png.')
    assert (root / 'out/set/x.png').is_file()


def test_stuff_of_the_json_lies_on_the_semantic_map_below_things(root):
    """It joins the segment that the map has of its class."""
    sky = dict(id=4, name='sky')
    write(
        root,
        annotations() + [
            note(6, 4, 1, box(0, 20, 12, 30)),
            note(7, 4, 0, box(2, 22, 14, 24)),
            note(8, 4, 0, box(6, 6, 9, 9))
        ],
        categories=INSTANCE_CATEGORIES + [sky])
    summary, content, ids = convert(root)
    want = expected('area')
    want[:12, 20:] = 'sky'
    want[:14, 22:24] = 'sky'
    assert (names_of(content, ids) == want).all()
    assert len(set(ids[want == 'sky'])) == 1
    assert summary['hidden'] == [1] and summary['uncovered'] == 0


def test_a_background_that_is_listed_and_not_annotated(root):
    """It neither stops the converter nor becomes void."""
    background = dict(id=0, name='_background_')
    (root / 'classes.json').write_text(
        json.dumps(CLASSES + [dict(background, isthing=0)]))
    values = semantic()
    Image.fromarray(values).save(root / 'semantic/x.png')
    write(root, annotations(), categories=[background] + INSTANCE_CATEGORIES)
    _, content, ids = convert(root)
    assert (names_of(content, ids)[19] == '_background_').all()


def test_the_tool(root, run_tool, capfd):
    args = [
        root / 'instances.json', root / 'semantic', root / 'classes.json',
        '--num-workers', 1
    ]
    tool = 'coco_instances_and_semantic'
    assert run_tool(tool, *args, '--out-dir', root / 'out') == 0
    assert (root / 'out/panoptic.json').is_file()
    out = capfd.readouterr().out
    assert '1 images, 5 segments' in out and 'hidden altogether' in out
    for wrong in (['--out-dir', root, '--name',
                   'semantic'], ['--out-dir', root, '--name', 'instances'],
                  ['--out-dir', root, '--num-workers', 0]):
        assert run_tool(tool, *args, *wrong) == 2
    (root / 'semantic/x.png').unlink()
    assert run_tool(tool, *args, '--out-dir', root / 'out') == 1
    error = f'error: {root}/semantic/x.png: cannot read the label map'
    assert error in capfd.readouterr().err
    assert run_tool(tool, args[0], root / 'none', '--out-dir', root) == 2
