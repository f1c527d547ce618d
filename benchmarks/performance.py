"""Figures of docs/performance.md: beside mmdet, and what 8 and 64 GPUs need.

The second is on paper. Measured parts come from ``docs/benchmark/*.json``,
sizes of gradients from the configs' models (shapes alone), GPU speeds from a
published figure. What is neither is an assumption, and the page lists it.
"""
import math
from statistics import median
from typing import Dict, List, NamedTuple, Sequence

from .figures import PageError, figures
from .harness import ROOT, Row
from .table import (counts_section, duration, fill, markdown, markdown_table,
                    rows_of)
from .two_processes import efficiency

GPUS_OF_A_MACHINE = 8
GPUS = (8, 64)
#: Detectron2's model zoo: Panoptic FPN R50 1x, seconds of an iteration of 16
#: images on 8 V100.
ITERATION, ITERATION_IMAGES = 0.304, 16
#: GPUs: name, times as fast as a V100 there.
SPEEDS = (('V100, published', 1), ('three times as fast', 3))
#: Bytes a second: between the GPUs of a machine, and of a machine's network.
NVLINK, NETWORK = 100e9, 100e9 / 8
#: Of a COCO photograph of 3:4 whose shorter side is 800, and of a crop.
COCO_PIXELS, CROP_PIXELS = 800 * 1067, 512 * 1024
#: Bytes of an image file: published size of the archive over its images.
FILE_BYTES = dict(COCO=18e9 / 118287, Cityscapes=11e9 / 5000)
#: Images of val.
VAL = dict(COCO=5000, Cityscapes=500)
MODELS = (('R50', 'coco/panoptic-fpn_r50_fpn_1x_coco'),
          ('R101', 'coco/panoptic-fpn_r101_fpn_1x_coco'))


class Loader(NamedTuple):
    """Seconds of a core for a training image, and a V100's images/s."""
    data: str
    ours: float
    mmdet: float
    images: float


def sections() -> str:
    """Markdown of the page's figures.

    Raises:
        PageError: Figures are missing.
    """
    report = figures('benchmark')
    parts = [
        '<!-- Written by `python -m benchmarks.page`; changes are lost. -->',
        '## Beside mmdet',
        markdown(report),
        '![Times faster than mmdet](benchmark/benchmark.png)',
        counts_section(report['counts']), '## What 8 and 64 GPUs need', _INTRO,
        '### Assumptions',
        _assumptions(), '### Loaders',
        *_loader_section(report, figures('scaling')), '### Gradients',
        *_gradient_section(trained_parameters(), figures('two_processes')),
        '### Metrics', *_metric_section(figures('memory')), '## Long runs',
        *_endurance_section(figures('endurance'))
    ]
    return '\n\n'.join(parts)


_INTRO = fill(
    'A calculation on paper: nothing here ran on a GPU. Speeds of loading and '
    'sizes of what is gathered were measured on the CPU of the first table, '
    'sizes of gradients follow from the models, and a published figure says '
    'how fast a GPU asks for images.')


def _assumptions() -> str:
    coco, cityscapes = (FILE_BYTES[k] / 1e6 for k in ('COCO', 'Cityscapes'))
    texts = [
        f'A V100 trains R50 on COCO at {v100_images():.2f} images a second: '
        f'Detectron2 publishes {ITERATION} s for an iteration of '
        f'{ITERATION_IMAGES} images on {GPUS_OF_A_MACHINE} V100. Ours was not '
        'timed on one.',
        'A GPU needs the same time for a pixel of a Cityscapes crop '
        '(512 x 1024) as of a COCO image (taken as 800 x 1067).',
        "'Three times as fast' stands for a newer GPU, mixed precision or "
        'both.',
        "A core of the GPUs' machine loads as fast as the one measured, cores "
        'do not slow each other down, and a sample gets from a worker to the '
        'training process at no cost (the images a second by workers below '
        'have that cost).',
        f'Machines have {GPUS_OF_A_MACHINE} GPUs. Between these, all-reduce '
        f'moves {NVLINK / 1e9:.0f} GB/s a GPU (NVLink); the network of a '
        f'machine moves {NETWORK * 8 / 1e9:.0f} Gb/s, that is '
        f'{NETWORK / 1e9:.1f} GB/s.',
        'Gradients are float32 and summed in a ring: with n GPUs, '
        '2 (n - 1) / n of their bytes pass each link. None of it is hidden '
        'behind backward, although DistributedDataParallel hides most.',
        f'An image file of COCO has {coco:.2f} MB, one of Cityscapes '
        f'{cityscapes:.1f} MB (archives of 18 GB for 118287 images and of '
        '11 GB for 5000); label images are small beside them.',
        "The batch grows with the GPUs beyond the paper's 16 and 32 images: "
        'a question of learning rates, not of speed.'
    ]
    return '\n'.join(
        fill(f'{i}. {text}', 3) for i, text in enumerate(texts, 1))


def v100_images() -> float:
    """COCO images a second of one V100."""
    return ITERATION_IMAGES / ITERATION / GPUS_OF_A_MACHINE


def loaders(rows: Sequence[Row]) -> List[Loader]:
    """Both data sets.

    Raises:
        PageError: The benchmark lacks one.
    """
    coco = v100_images()
    crops = coco * COCO_PIXELS / CROP_PIXELS
    found = []
    for data, mark, images in (('COCO', '800x', coco), ('Cityscapes',
                                                        '2048x1024', crops)):
        # the last one is of the files that our config reads
        row = [
            r for r in rows if r.stage == 'input pipeline' and mark in r.case
        ]
        if not row:
            raise PageError('docs/benchmark/benchmark.json has no row of the '
                            f'input pipeline with {mark!r} in its input. '
                            'Measure all stages.')
        found.append(
            Loader(data, row[-1].seconds, row[-1].their_seconds, images))
    return found


def cores(images: float, seconds: float) -> int:
    """Cores that load so many images a second."""
    return math.ceil(images * seconds)


def _loader_section(report: dict, scaling: dict) -> List[str]:
    found = loaders(rows_of(report))
    rows = []
    for loader in found:
        for name, speed in SPEEDS:
            images = loader.images * speed
            machine = images * GPUS_OF_A_MACHINE
            read = [images * n * FILE_BYTES[loader.data] / 1e6 for n in GPUS]
            rows.append(
                (loader.data, name, f'{images:.1f}',
                 f'{images * loader.ours:.2f}', f'{images * loader.mmdet:.2f}',
                 cores(machine, loader.ours), cores(machine, loader.mmdet),
                 f'{read[0]:.0f}', f'{read[1]:.0f}'))
    head = ('data', 'a GPU', 'images/s a GPU', 'cores a GPU: ours', 'mmdet',
            'cores a machine: ours', 'mmdet', 'MB/s read by 8 GPUs', 'by 64')
    seconds = '; '.join(f'{loader.data}: {duration(loader.ours)}, mmdet '
                        f'{duration(loader.mmdet)}' for loader in found)
    workers = cores(found[-1].images * SPEEDS[-1][1], found[-1].ours)
    rates = scaling['workers']['ours']
    seen = ', '.join(f'{rate:.1f} with {n}' for n, rate in rates.items())
    return [
        markdown_table(head, rows, 2),
        fill('Cores a GPU are images/s a GPU times the measured seconds of a '
             f'core ({seconds}). Each machine feeds its own GPUs, so 64 GPUs '
             'take these cores in each of 8 machines. `num_workers` of a GPU '
             f'must be at least its cores: {workers} for Cityscapes on the '
             'faster GPU.'),
        fill(f'Seen on {scaling["machine"]["cores"]} cores, images a second '
             'by the number of loader workers (0: none but the training '
             "process; Cityscapes pipeline, the data set and torch's "
             f'DataLoader): {seen}.'),
        '![Cost against area, instances, classes and '
        'workers](benchmark/scaling.png)'
    ]


def trained_parameters() -> Dict[str, int]:
    """Of the COCO models, by name: what has a gradient."""
    from panoptic_apps.complexity import build_on_meta
    models = {
        name: build_on_meta(ROOT / 'configs' / f'{config}.py')
        for name, config in MODELS
    }
    return {
        name: sum(p.numel() for p in model.parameters() if p.requires_grad)
        for name, model in models.items()
    }


def ring_bytes(size: float, gpus: int) -> float:
    """Bytes that pass each link when ``size`` bytes are summed."""
    return 2 * (gpus - 1) / gpus * size


def _gradient_section(parameters: Dict[str, int], two: dict) -> List[str]:
    rows = []
    for name, number in parameters.items():
        size = 4 * number
        cells = [name, f'{number / 1e6:.1f}', f'{size / 1e6:.0f}']
        for gpus, rate in zip(GPUS, (NVLINK, NETWORK)):
            moved = ring_bytes(size, gpus)
            cells += [
                f'{moved / 1e6:.0f}', f'{1e3 * moved / rate:.1f}',
                f'{100 * moved / rate / ITERATION:.0f} %'
            ]
        rows.append(cells)
    share = 'of the iteration'
    head = ('model', 'trained parameters (1e6)', 'MB', '8 GPUs: MB a link',
            'ms', share, '64 GPUs: MB a link', 'ms', share)
    side = two['data']['size']
    seen = ' and '.join(
        f'{efficiency(two[task]):.2f} in {task} '
        f'({median(two[task]["1"]):.1f} and {median(two[task]["2"]):.1f} '
        'images/s)' for task in ('training', 'evaluation'))
    return [
        markdown_table(head, rows, 1),
        fill('Frozen stages and BatchNorm have no gradient. 8 GPUs are one '
             'machine; with 64 the network is the slowest link of the ring. '
             f'The iteration is {ITERATION} s, that of R50, for both models, '
             "so R101's true share is smaller; on a GPU three times as fast "
             'the shares are three times as large.'),
        fill('Measured: two gloo processes of one thread each on '
             f'{two["machine"]["cores"]} CPU cores against one (tiny model, '
             f'{side} x {side} pixels, as many images for each process) have '
             f'an efficiency of {seen}.')
    ]


def _metric_section(memory: dict) -> List[str]:
    rows = []
    for name, line in memory['lines'].items():
        last = line['points'][-1]
        size = last['rows'] / last['images']
        coco = size * VAL['COCO']
        rows.append((name, f'{size:,.0f}', f'{coco / 1e6:.1f}',
                     f'{1e3 * coco / NETWORK:.1f}',
                     f'{size * VAL["Cityscapes"] / 1e6:.1f}'))
    head = ('metrics', 'bytes an image', 'COCO val: MB', 'ms over the network',
            'Cityscapes val: MB')
    shape = ' x '.join(map(str, memory['shape']))
    return [
        markdown_table(head, rows, 1),
        fill('Once an evaluation, the first process receives the rows of all '
             'images, 256 at a time of each other process. The number of '
             'images counts, not that of GPUs. Measured '
             f'with {memory["segments"]} segments and '
             f'{memory["detections"]} detections an image of {shape} pixels; '
             'RLEs of larger images are longer, so AP takes more than this '
             'on Cityscapes.'),
        '![Memory of an evaluation](benchmark/memory.png)'
    ]


def _endurance_section(found: dict) -> List[str]:
    """Of the tasks that were measured."""
    parts = []
    if 'training' in found and 'evaluation' in found:
        parts += _flat_runs(found)
    if 'predictions' in found:
        parts.append(_many_predictions(found['predictions']))
    return [*parts, '![Memory of long runs](benchmark/endurance.png)']


def _flat_runs(found: dict) -> List[str]:
    training, evaluation = found['training'], found['evaluation']
    runs = (('training', training, 'iterations', '1000 iterations'),
            ('evaluation', evaluation, 'images',
             f'{evaluation["images"]} images'))
    rows = []
    for name, run, what, unit in runs:
        last, slopes = run['points'][-1], run['slopes']
        growth = [
            '{:.0f} ± {:.0f}'.format(*(v / 1e3 for v in slopes[key]))
            for key in ('heap', 'workers_uss')
        ]
        most = max(point['uss'] for point in run['points'])
        rows.append(
            (name, f'{last["at"]:,} {what}', f'{last["heap"] / 1e6:.0f}',
             f'{growth[0]} kB by {unit}', f'{most / 1e6:.0f}',
             f'{last["workers_uss"] / 1e6:.0f}', f'{growth[1]} kB',
             '{:.0f} ± {:.0f}'.format(*slopes['objects'])))
    head = ('run', 'length', 'MB in use in the end', 'growth',
            'MB of the process at most', 'MB of its workers', 'growth',
            'growth in objects')
    saved = [p for p in training['points'] if p['checkpoint']]
    side = found['size']
    return [
        markdown_table(head, rows, 2),
        fill('In use is what malloc has handed out; of the process and of '
             'its workers, memory that they share with no other. Looked at '
             f'{len(training["points"])} times in the training and '
             f'{len(evaluation["points"])} times in the evaluations; growth '
             'is the slope of a line through the second half (of '
             'evaluations: through their ends) with its 95 % interval. '
             f'Tiny model, {side} x {side} pixels, two loader workers, '
             'validations, pictures and checkpoints as in every run. A '
             f'checkpoint has {saved[0]["checkpoint"] / 1e6:.2f} MB after '
             f'{saved[0]["at"]:,} iterations and '
             f'{saved[-1]["checkpoint"] / 1e6:.2f} MB after '
             f'{saved[-1]["at"]:,}: the log keeps 1000 values of each '
             'scalar, or what its windows ask for.'),
        fill('What is in use grows in the first thousands of iterations by '
             'the operators that oneDNN compiles, one for each number of '
             'boxes. 16 are kept here (`ONEDNN_PRIMITIVE_CACHE_CAPACITY`), '
             '1024 by default, which take 40 MB more.'),
        fill('On a CPU, freed memory is kept for the next image '
             '(`allocator.py`). In about one of ten evaluations small blocks '
             'that stay, such as the scores of an image, cut the holes that '
             'large ones leave, and the process grew by 5 MB an image, to '
             '4.7 GB. Therefore memory is given back once a process holds '
             'half as much again as usual. Where holes count although they '
             'hold no memory (`ulimit -v`, `vm.overcommit_memory=2`), '
             'nothing is kept.')
    ]


def _many_predictions(found: Dict[str, List[dict]]) -> str:
    one, two = found.values()
    images, ap = one[0]['points'][-1]['at'], 'PanopticInstanceAPMetric'
    size = one[0]['rows']
    small = [f'{v:.0f}' for k, v in size.items() if k != ap]
    peaks = [
        (run[0]['scores'][ap]['held'] + run[0]['scores'][ap]['peak']) / 1e9
        for run in (one, two)
    ]
    return fill(
        f'Predictions of {images:,} images like those of the table above: PQ '
        f'and mIoU keep {" and ".join(small)} bytes of an image, AP '
        f'{size[ap] / 1e3:.1f} kB (pickled). One process counts them in '
        f'{one[0]["process_seconds"]:.0f} s (masks in RLE already), holds at '
        f'most {peaks[0]:.1f} GB in all and computes AP in '
        f'{one[0]["scores"][ap]["seconds"]:.0f} s. Of two processes, which '
        f'come to the same scores, the first holds at most {peaks[1]:.1f} GB. '
        'AP judges classes until they have 50,000 detections together, then '
        'the next ones; the most frequent class decides about its peak.')
