"""One data set as a folder, as a zip archive and in an LMDB."""
import shutil

import numpy as np
import pytest
import torch
from mmdet.registry import DATASETS
from mmengine.dataset import pseudo_collate
from torch.utils.data import DataLoader

from mmengine_exact.errors import CorruptFileError
from panoptic_fpn.metrics import PanopticQualityMetric
from tests.oracles.perturb import random_data, write_coco_panoptic

LOAD = dict(type='LoadPanopticImage'), dict(type='LoadPanopticMap')
TARGETS = dict(type='DerivePanopticTargets', panoptic=True)


@pytest.fixture(name='path')
def _path(tmp_path):
    data = random_data(17, num_images=6, shape=(45, 61))
    return write_coco_panoptic(data, tmp_path / 'folder', with_images=True)


def as_folder(path):
    return dict(data_root=str(path.parent)), None


def as_zip(path, start=''):
    """Images and PNGs in archives; JSON beside them."""
    for name in ('images', 'panoptic'):
        shutil.make_archive(path.with_name(name), 'zip', path.parent, name)
        shutil.rmtree(path.parent / name)
    prefix = dict(img='images.zip/images/', seg='panoptic.zip/panoptic/')
    return dict(data_root=start + str(path.parent), data_prefix=prefix), None


def as_zip_paths(path):
    return as_zip(path, 'zip://')[0], None


def as_zip_backend(path):
    return as_zip(path)[0], dict(backend='zip')


def as_lmdb(path):
    """Keys are the paths below the folder."""
    lmdb = pytest.importorskip('lmdb')
    with lmdb.open(str(path.with_name('lmdb')), map_size=2**24) as database:
        with database.begin(write=True) as transaction:
            for name in ('images', 'panoptic'):
                for file in (path.parent / name).iterdir():
                    transaction.put(f'{name}/{file.name}'.encode(),
                                    file.read_bytes())
                shutil.rmtree(path.parent / name)
    backend = dict(backend='lmdb', db_path=str(path.with_name('lmdb')))
    return dict(data_root='', ann_file=str(path)), backend


ARCHIVES = [as_zip_paths, as_zip_backend, as_lmdb]


def build(path, store):
    kwargs, backend = store(path)
    load = [dict(step, backend_args=backend) for step in LOAD]
    kwargs = dict(
        dict(
            type='CocoPanopticFPNDataset',
            ann_file=path.name,
            data_prefix=dict(img='images/', seg='panoptic/'),
            pipeline=[*load, TARGETS,
                      dict(type='PackPanopticInputs')]), **kwargs)
    return DATASETS.build(kwargs)


def load(dataset):
    """Samples by two workers, which are forked after a first read."""
    first = dataset[0]
    loader = DataLoader(dataset, 2, num_workers=2, collate_fn=pseudo_collate)
    samples = [s for b in loader for s in zip(b['inputs'], b['data_samples'])]
    assert torch.equal(samples[0][0], first['inputs'])
    return samples


def pq(dataset, samples):
    """Of the ground truth as prediction, but for the first image's."""
    metric = PanopticQualityMetric()
    metric.dataset_meta = dataset.metainfo
    for _, sample in samples:
        sample.pred_panoptic_seg = sample.gt_panoptic_seg.clone()
    pred = samples[0][1].pred_panoptic_seg
    pred.sem_seg = torch.full_like(pred.sem_seg,
                                   dataset.label_space.num_classes)
    metric.process({}, [sample.to_dict() for _, sample in samples])
    return metric.evaluate(len(samples))


@pytest.mark.parametrize('store', ARCHIVES)
def test_samples_and_scores_are_those_of_the_folder(path, store):
    folder = build(path, as_folder)
    expected = load(folder)
    archive = build(path, store)
    found = load(archive)
    assert len(found) == len(expected) == 6
    for (image, sample), (image_, sample_) in zip(found, expected):
        assert torch.equal(image, image_)
        for key in ('gt_sem_seg', 'gt_panoptic_seg'):
            assert torch.equal(
                sample.get(key).sem_seg,
                sample_.get(key).sem_seg)
        ours, theirs = sample.gt_instances, sample_.gt_instances
        assert torch.equal(ours.bboxes.tensor, theirs.bboxes.tensor)
        assert torch.equal(ours.labels, theirs.labels)
        assert np.array_equal(ours.masks.to_ndarray(),
                              theirs.masks.to_ndarray())
    scores = pq(archive, found)
    assert scores == pq(folder, expected) and scores['coco_panoptic/PQ'] > 50


@pytest.mark.parametrize('store', ARCHIVES)
def test_what_an_archive_lacks_is_named(path, store):
    dataset = build(path, store)
    info = dataset.get_data_info(0)
    name = info['img_path'] = info['img_path'] + 'x'
    with pytest.raises(CorruptFileError) as error:
        dataset.pipeline(info)
    assert str(error.value).startswith(f'{name}: cannot read the image (no ')


def test_a_database_that_is_not_there_is_named(path):
    args = dict(backend='lmdb', db_path=str(path.with_name('none')))
    pytest.importorskip('lmdb')
    with pytest.raises(CorruptFileError, match='none: No such file'):
        build(path, lambda path: (as_folder(path)[0], args))[0]
