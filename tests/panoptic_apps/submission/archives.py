"""Archives of random data, valid or with one thing made wrong."""
import io
import json
import zipfile
from pathlib import Path

import numpy as np
from PIL import Image

from panoptic_apps.submission import SERVERS, Expected, write_archive
from panoptic_fpn.cityscapes import label_space
from panoptic_fpn.metrics import (CityscapesInstanceAPMetric,
                                  CityscapesSemanticIoUMetric,
                                  PanopticEvaluator, PanopticInstanceAPMetric,
                                  PanopticQualityMetric)
from tests.oracles.cityscapes_scenes import random_scenes
from tests.panoptic_fpn.metrics.cityscapes import META, sample_of
from tests.panoptic_fpn.metrics.data import make_case, space_of

COCO = SERVERS['coco-test-dev'].tasks
CITYSCAPES = SERVERS['cityscapes'].tasks


def write_results(metrics, samples, metainfo):
    """Write results of samples as of images without annotation."""
    evaluator = PanopticEvaluator(metrics)
    evaluator.dataset_meta = metainfo
    hidden = ('seg_map_path', 'gt_panoptic_seg', 'gt_codes', 'crowd_codes')
    for sample in samples:
        evaluator.process([{
            key: value
            for key, value in sample.items() if key not in hidden
        }])
    assert evaluator.evaluate(len(samples)) == {}


def coco_results(folder, seed=3):
    """Results of a random data set with prefix ``folder/r``.

    Returns:
        tuple: The data, and what an archive has to be about.
    """
    data, _, samples = make_case(seed, num_images=4)
    kwargs = dict(format_only=True, outfile_prefix=str(folder / 'r'))
    space = space_of(data)
    write_results(
        [PanopticQualityMetric(**kwargs),
         PanopticInstanceAPMetric(**kwargs)], samples, space.metainfo())
    sizes = {image.image_id: image.id_map.shape for image in data.images}
    return data, Expected(sizes, space)


def cityscapes_results(folder, seed=3):
    """Same as :func:`coco_results`, of scenes."""
    scenes = random_scenes(seed, num_images=3)
    kwargs = dict(format_only=True, outfile_prefix=str(folder / 'r'))
    write_results([
        PanopticQualityMetric(png_name='{img_id}_panoptic.png', **kwargs),
        CityscapesInstanceAPMetric(**kwargs),
        CityscapesSemanticIoUMetric(**kwargs)
    ], [sample_of(scene, annotated=False) for scene in scenes], META)
    sizes = {scene.image_id: scene.values.shape for scene in scenes}
    return scenes, Expected(sizes, label_space())


def zip_task(task, folder, name='net'):
    """Archive of a task with results of prefix ``folder/r``."""
    path = Path(task.archive(str(folder / 'out'), name))
    files = task.files(str(folder / 'r'), path.stem)
    write_archive(path, files, lambda done: None)
    return path


def read_all(path):
    """{name: content} of an archive."""
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def write_all(path, files):
    """Write an archive by Python's own means."""
    with zipfile.ZipFile(path, 'w') as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


def edit_json(files, change):
    """Change the content of the only JSON in place."""
    name, = (name for name in files if name.endswith('.json'))
    content = json.loads(files[name])
    change(content)
    files[name] = json.dumps(content).encode()


def edit_png(files, change):
    """Change the first PNG in place, by another library than ours."""
    name = min(name for name in files if name.endswith('.png'))
    with Image.open(io.BytesIO(files[name])) as image:
        pixels = change(np.array(image))
    target = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels)).save(target, 'png')
    files[name] = target.getvalue()
