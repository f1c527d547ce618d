"""Preparing Cityscapes, and the formats its label images could have.

Example:
    OMP_NUM_THREADS=1 python -m benchmarks.cityscapes_converter --images 20

Draws a miniature Cityscapes of full size (1024 x 2048), in one process

- prepares val as the official converter does, and with ours: panoptic PNGs
  and JSON alike (``val``), and the prepared JSON alone, which is all that
  train needs (``train``);
- reads each label map in three formats, as a training pipeline would: the
  official 16 bit ``instanceIds``, COCO's RGB panoptic PNG, and an 8 bit PNG
  of indices into the segments. Each is decoded and looked up to indices.

and prints milliseconds per image (the median of ``--rounds``), ratios and
sizes. Exit code 1 where the two converters or the formats disagree.
"""
import argparse
import contextlib
import io
import json
import shutil
import sys
import tempfile
from pathlib import Path
from statistics import median

import cv2
import numpy as np
from tabulate import tabulate

from benchmarks.harness import alternate

NAME = 'cityscapes_panoptic_val'


def parse_args():
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('--images', type=int, default=20)
    parser.add_argument('--rounds', type=int, default=3)
    parser.add_argument('--seed', type=int, default=0)
    return parser.parse_args()


def milliseconds(rounds, count, *functions):
    """Of each function, per image."""
    times = alternate(dict(enumerate(functions)), rounds, warmup=0)
    return [median(spent) / count * 1e3 for spent in times.values()]


def official(root, out):
    from cityscapesscripts.preparation.createPanopticImgs import \
        convert2panoptic
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir()
    with contextlib.redirect_stdout(io.StringIO()):
        convert2panoptic(str(root / 'gtFine'), str(out), setNames=['val'])


def ours(root, split):
    from panoptic_apps.convert_data import prepare
    for path in (root / 'gtFine').glob('*panoptic*'):
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    prepare(str(root), [split], num_workers=1, report=lambda line: None)


def same_results(root, out):
    contents = []
    for folder in (root / 'gtFine', out):
        content = json.loads((folder / f'{NAME}.json').read_text())
        for image in content['images']:
            image['file_name'] = None
        contents.append(content)
    return contents[0] == contents[1] and all(
        (cv2.imread(str(path)) == cv2.imread(str(out / NAME /
                                                 path.name))).all()
        for path in (root / 'gtFine' / NAME).iterdir())


def compare_converters(root, out, args):
    """Table rows, and whether both wrote the same."""
    val = milliseconds(args.rounds, args.images, lambda: official(root, out),
                       lambda: ours(root, 'val'))
    same = same_results(root, out)
    train, = milliseconds(args.rounds, args.images,
                          lambda: ours(root, 'train'))
    # the official converter does for train what it does for val
    rows = [('val: PNGs and JSON', val[0], val[1]),
            ('train: JSON alone', val[0], train)]
    return rows, same


def encodings(root, out):
    """Bytes of each label map in each format, and its table to indices."""
    content = json.loads((root / 'gtFine/panoptic_fpn_val.json').read_text())
    result = []
    for note in content['annotations']:
        label = root / 'gtFine/val' / note['file_name']
        rgb = out / NAME / f'{note["image_id"]}_gtFine_panoptic.png'
        # index 0 is void
        table = np.zeros(1 << 16, np.uint8)
        for index, segment in enumerate(note['segments_info'], 1):
            table[segment['id']] = index
        values = cv2.imread(str(label), cv2.IMREAD_UNCHANGED)
        index = cv2.imencode('.png', table[values])[1].tobytes()
        result.append((label.read_bytes(), rgb.read_bytes(), index, table))
    return result


def decode(content):
    return cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED)


def read_16_bit(item):
    return np.take(item[3], decode(item[0]))


def read_rgb(item):
    from panoptic_fpn.labels import rgb_to_id
    return np.take(item[3], rgb_to_id(decode(item[1])[..., ::-1]))


def read_8_bit(item):
    return decode(item[2])


def compare_formats(items, rounds):
    """Table rows, and whether all formats give the same indices."""
    readers = read_16_bit, read_rgb, read_8_bit
    same = all(
        np.array_equal(readers[0](item), reader(item)) for item in items
        for reader in readers[1:])
    times = milliseconds(
        rounds, len(items),
        *(lambda reader=reader: list(map(reader, items))
          for reader in readers))
    names = '16 bit instanceIds', 'RGB panoptic PNG', '8 bit indices'
    sizes = [np.mean([len(item[i]) for item in items]) / 1e3 for i in range(3)]
    return list(zip(names, times, sizes)), same


def main():
    args = parse_args()
    from panoptic_apps.toy_data.miniature import make_miniature
    cv2.setNumThreads(0)
    with tempfile.TemporaryDirectory() as folder:
        root, out = Path(folder) / 'data', Path(folder) / 'official'
        counts = dict(val=args.images, train=args.images)
        print(f'drawing 2 x {args.images} images', flush=True)
        make_miniature(str(root), counts, (1024, 2048), args.seed)
        rows, same = compare_converters(root, out, args)
        rows = [(*row, row[1] / row[2]) for row in rows]
        print(
            tabulate(
                rows, ('ms per image', 'official', 'ours', 'ratio'),
                floatfmt='.1f'))
        ours(root, 'val')
        formats, equal = compare_formats(encodings(root, out), args.rounds)
        rows = [(*row, row[1] / formats[0][1]) for row in formats]
        print(tabulate(rows, ('reading', 'ms', 'kB', 'ratio'), floatfmt='.1f'))
    for problem, fine in (('converters', same), ('formats', equal)):
        if not fine:
            print(f'error: the {problem} disagree', file=sys.stderr)
    return 0 if same and equal else 1


if __name__ == '__main__':
    sys.exit(main())
