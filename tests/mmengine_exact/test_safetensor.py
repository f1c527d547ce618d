"""Safetensors: the same bits there and back, whole or refused, not resumed."""
import json
import random
import shutil
import struct
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from mmengine_exact import CheckpointError, read_checkpoint
from mmengine_exact.safetensor import write_safetensors

from . import toy

SHARED = torch.arange(12, dtype=torch.float64)
WEIGHTS = dict(
    whole=SHARED,
    part=SHARED[3:7],
    strided=SHARED.view(3, 4).T,
    channels_last=torch.randn(2, 3, 4,
                              5).to(memory_format=torch.channels_last),
    scalar=torch.tensor(7),
    empty=torch.zeros(0, 4),
    truth=torch.tensor([True, False, True]),
    half=torch.tensor([1.5, float('nan'), -0.]).half(),
    brain=torch.tensor([1.5, float('inf')]).bfloat16(),
    parameter=torch.nn.Parameter(torch.ones(2)))
META = dict(
    dataset_meta=dict(classes=('Person', 'weiß', '空'), palette=[(1, 2, 3)]),
    cfg='a = 1\n',
    iter=20,
    none=None)


def bits(value):
    value = value.detach().contiguous().reshape(-1)
    return value.view(torch.uint8).numpy().tobytes()


@pytest.fixture
def path(tmp_path):
    path = str(tmp_path / 'x.safetensors')
    write_safetensors(path, WEIGHTS, META)
    return path


def test_there_and_back_each_bit_is_the_same(path):
    read = read_checkpoint(path)
    assert set(read) == {'state_dict', 'meta'}
    assert set(read['state_dict']) == set(WEIGHTS)
    for key, value in WEIGHTS.items():
        found = read['state_dict'][key]
        assert found.dtype == value.dtype and found.shape == value.shape
        assert bits(found) == bits(value)
    assert SHARED.tolist() == list(range(12))
    classes = dict(META['dataset_meta'], classes=['Person', 'weiß', '空'])
    assert read['meta'] == dict(
        META, dataset_meta=dict(classes, palette=[[1, 2, 3]]))


def test_the_bytes_are_where_the_format_says(path):
    """Header and offsets, read with struct and numpy alone."""
    with open(path, 'rb') as file:
        content = file.read()
    size, = struct.unpack('<Q', content[:8])
    header = json.loads(content[8:8 + size])
    assert header['__metadata__']['format'] == 'pt'
    assert json.loads(header['__metadata__']['meta'])['iter'] == 20
    one = header['strided']
    assert one['dtype'] == 'F64' and one['shape'] == [4, 3]
    start, end = (8 + size + offset for offset in one['data_offsets'])
    found = np.frombuffer(content[start:end], '<f8').reshape(4, 3)
    assert np.array_equal(found, np.arange(12.).reshape(3, 4).T)


def test_files_of_other_projects_are_read(tmp_path):
    path = str(tmp_path / 'x.safetensors')
    for metadata in (None, dict(format='pt'), dict(meta='by hand'),
                     dict(meta='[1]')):
        save_file(dict(w=torch.ones(2)), path, metadata)
        read = read_checkpoint(path)
        assert read['meta'] == {} and read['state_dict']['w'].tolist(
        ) == [1] * 2


def test_damaged_files(tmp_path, path):
    with open(path, 'rb') as file:
        whole = file.read()
    bare = str(tmp_path / 'bare')
    save_file({}, bare)
    draw, cases = random.Random(0), [b'', b'{}', whole[:5], whole[:-1]]
    cases += [whole + b'0', open(bare, 'rb').read()]
    for _ in range(300):
        at = draw.randrange(len(whole))
        bit = bytes([whole[at] ^ 1 << draw.randrange(8)])
        cases.append(whole[:at] + bit + whole[at + 1:])
    unseen = 0
    for content in cases:
        with open(path, 'wb') as file:
            file.write(content)
        try:
            found = read_checkpoint(path)['state_dict']
        except CheckpointError as error:
            text = str(error)
            assert text.startswith(f'Checkpoint {path} cannot be read; it is ')
            assert '\n' not in text and len(text) < 500
        else:  # in what is no number: the name of the sum, 'pt', padding
            unseen += 1
            assert all(bits(found[key]) == bits(WEIGHTS[key]) for key in found)
    assert unseen < 15
    with pytest.raises(CheckpointError, match='no.safetensors does not exist'):
        read_checkpoint(str(tmp_path / 'no.safetensors'))


def test_the_content_counts_not_the_name(tmp_path, path):
    torchs, tensors = (
        str(tmp_path / name) for name in ('y.safetensors', 'y.pth'))
    torch.save(dict(state_dict=WEIGHTS), torchs)
    shutil.copy(path, tensors)
    for renamed in (torchs, tensors):
        found = read_checkpoint(renamed)['state_dict']
        assert all(bits(found[key]) == bits(WEIGHTS[key]) for key in WEIGHTS)


def test_at_an_address(path, monkeypatch):
    monkeypatch.setenv('no_proxy', '127.0.0.1')
    folder, name = path.rsplit('/', 1)
    server = ThreadingHTTPServer(
        ('127.0.0.1', 0), partial(SimpleHTTPRequestHandler, directory=folder))
    Thread(target=server.serve_forever, daemon=True).start()
    address = f'http://127.0.0.1:{server.server_port}/'
    try:
        found = read_checkpoint(address + name)['state_dict']
        with pytest.raises(CheckpointError, match='cannot be downloaded'):
            read_checkpoint(f'{address}no.safetensors')
    finally:
        server.shutdown()
        server.server_close()
    assert bits(found['part']) == bits(WEIGHTS['part'])


def test_a_training_begins_from_it_and_cannot_resume(tmp_path):
    assert toy.run(tmp_path / 'one', max_iters=5) == [0]
    pth = str(tmp_path / 'one' / 'iter_5.pth')
    tensors, content = str(tmp_path / 'x.safetensors'), read_checkpoint(pth)
    write_safetensors(tensors, content['state_dict'], content['meta'])
    for name, file in (('two', pth), ('three', tensors)):
        assert toy.run(tmp_path / name, max_iters=5, load_from=file) == [0]
    two, three = (
        toy.final_state(tmp_path / name, 5) for name in ('two', 'three'))
    assert toy.same(two['state_dict'], three['state_dict'])
    assert three['meta']['record']['weights'][0]['file'] == tensors
    assert toy.run(
        tmp_path / 'four', max_iters=9, load_from=tensors, resume=True) == [1]
    text = toy.message(tmp_path / 'four')
    assert text.count('\n') <= 1 and tensors in text
    assert 'cannot be resumed: it has no optimizer state' in text
    assert 'use it as load_from to fine-tune' in text
