"""Pickles: arrays come back, nothing else is loaded or run."""
import os
import pickle
from collections import OrderedDict

import numpy as np
import pytest
import torch

from mmengine_exact import CheckpointError
from panoptic_apps.convert_weights import read_weights

ARRAYS = OrderedDict(
    a=np.arange(24, dtype=np.float32).reshape(2, 3, 4),
    fortran=np.asfortranarray(np.random.RandomState(0).rand(3, 5)),
    big_endian=np.arange(6, dtype='>f4').reshape(2, 3),
    half=np.float16([1.5, -2]),
    whole=np.array(7),
    empty=np.zeros((0, 4), np.float32),
    truth=np.array([True, False]),
    strided=np.arange(20, dtype=np.int64)[::3])


def write(path, content):
    path.write_bytes(content)
    return str(path)


@pytest.mark.parametrize('protocol', [0, 1, 2, 3, 4, 5])
@pytest.mark.parametrize('package', [b'cnumpy._core.', b'cnumpy.core.'])
def test_arrays_come_back(tmp_path, protocol, package):
    """Also with the names that numpy gave its functions before version 2."""
    content = pickle.dumps(
        dict(model=ARRAYS, __author__='Zoo', step=np.float64(3.5)), protocol)
    content = content.replace(b'cnumpy._core.', package)
    found, meta = read_weights(write(tmp_path / 'w.pkl', content))
    assert list(found) == list(ARRAYS) and meta == {}
    for name, array in ARRAYS.items():
        value = found[name].numpy()
        assert value.dtype == array.dtype.newbyteorder('=')
        assert value.shape == array.shape and value.flags.writeable
        assert np.array_equal(value, array)


def test_bare_weights_of_a_model_inside_a_wrapper(tmp_path):
    path = write(tmp_path / 'w.pkl',
                 pickle.dumps({'module.a': np.ones(2, np.float32)}))
    assert read_weights(path)[0]['a'].tolist() == [1, 1]


class Call:
    """Pickled as a call of a function."""

    def __init__(self, function, *args):
        self.content = function, args

    def __reduce__(self):
        return self.content


def evil(path):
    """Pickles that would run code; none of them may touch ``path``."""
    command = f'touch {path}'
    yield 'system', pickle.dumps(Call(os.system, command))
    yield 'getattr', pickle.dumps(
        dict(model=Call(getattr, 'text', 'format'), __author__='Zoo'))
    opening = f'open({str(path)!r}, "w")'
    yield 'eval', pickle.dumps(dict(model=dict(a=[Call(eval, opening)])))
    yield 'system', pickle.dumps(
        OrderedDict(a=np.ones(2), b=Call(os.system, command)))
    # what an array is rebuilt with
    yield 'system', (b'cnumpy.core.multiarray\n_reconstruct\n(cposix\nsystem\n'
                     b'(I0\ntS\'b\'\ntR.')
    yield 'system', b'cos\nsystem\n(S\'' + command.encode() + b'\'\ntR.'
    yield 'system', b'(S\'' + command.encode() + b'\'\nios\nsystem\n.'
    yield 'sys.modules', b'csys\nmodules\n.'
    yield 'multiarray.fromfile', (
        b'cnumpy.core.multiarray\nfromfile\n(S\'x\'\ntR.')
    yield 'numpy.core.multiarray._reconstruct.__globals__', (
        b'\x80\x04\x8c\x15numpy.core.multiarray\x8c\x18'
        b'_reconstruct.__globals__\x93.')


def test_code_is_not_run(tmp_path):
    made = tmp_path / 'made'
    for name, content in evil(made):
        path = write(tmp_path / 'evil.pkl', content)
        with pytest.raises(CheckpointError) as error:
            read_weights(path)
        text = str(error.value)
        assert name in text and 'could run code' in text, (name, text)
        assert text.startswith(f'Checkpoint {path} holds the python obj')
        assert not made.exists()
    objects = np.array([Call(os.system, f'touch {made}')], dtype=object)
    path = write(tmp_path / 'evil.pkl', pickle.dumps(objects))
    with pytest.raises(CheckpointError, match="an array of 'O8'"):
        read_weights(path)
    assert not made.exists()


@pytest.mark.parametrize('content', [
    b'',
    b'not a pickle',
    pickle.dumps(dict(model=ARRAYS))[:300],
    pickle.dumps(dict(model=ARRAYS))[:-1],
    # an array of objects, of structures, of text, of too many elements
    pickle.dumps(np.array([None, 'x'], dtype=object)),
    pickle.dumps(np.zeros(2, dtype=[('a', 'f4'), ('b', 'i4')])),
    pickle.dumps(np.array(['x'])),
    b'cnumpy.core.numeric\n_frombuffer\n(S\'ab\'\ncnumpy\ndtype\n(S\'f4\'\n'
    b'tR(I9\ntS\'C\'\ntR.',
    # a type that is none, a forged one, calls of what is no function
    b'cnumpy\ndtype\n(S\'f3\'\ntR.',
    b'cnumpy\ndtype\n(S\'f4\'\ntR(I3\nS\'<\'\nNN}S\'a\'\nI1\ns'
    b'I4\nI4\nI63\ntb.',
    b'cnumpy\nndarray\n(I9\ntR.',
    b'c_codecs\nencode\n(S\'x\'\nS\'rot13\'\ntR.',
    b'c_codecs\nencode\n}S\'x\'\nI1\nsb.',
    b'P1\n.',
    b'\x82\x01.',
    # a name of which a part was overwritten
    b'ccollections' + bytes(600) + b'\nOrderedDict\n.',
])  # yapf: disable
def test_files_that_are_no_arrays(tmp_path, content):
    path = write(tmp_path / 'odd.pkl', content)
    with pytest.raises(CheckpointError) as error:
        read_weights(path)
    text = str(error.value)
    assert text.startswith(f'Checkpoint {path} cannot be read; it is damaged')
    assert 'Copy or download it again' in text
    assert '\n' not in text and len(text) < 500


@pytest.mark.parametrize('content, message', [
    (dict(blobs=dict(conv1_w=np.ones(2))), "have 'blobs'"),
    (dict(model=dict(a=1.5)), "no 'model' of numpy arrays"),
    (dict(model={}), "no 'model' of numpy arrays"),
    ({
        1: np.ones(2)
    }, "no 'model' of numpy arrays"),
    ([np.ones(2)], "no 'model' of numpy arrays"),
])
def test_pickles_without_weights(tmp_path, content, message):
    path = write(tmp_path / 'odd.pkl', pickle.dumps(content))
    with pytest.raises(CheckpointError, match=message) as error:
        read_weights(path)
    assert str(error.value).startswith(f'Checkpoint {path}')


def test_a_reading_leaves_no_trace(tmp_path):
    """A state given to a function of one file is not seen by the next."""
    path = write(tmp_path / 'odd.pkl',
                 b'c_codecs\nencode\nN}S\'x\'\nI1\ns\x86b.')
    with pytest.raises(CheckpointError):
        read_weights(path)
    good = write(tmp_path / 'good.pkl', pickle.dumps(dict(a=np.ones(3)), 2))
    assert read_weights(good)[0]['a'].tolist() == [1, 1, 1]


def test_files_of_torch_are_known_by_their_content(tmp_path):
    weights = {'a': torch.arange(3.)}
    for name, content, options in (
        ('zip.pkl', dict(model=weights, iteration=3), {}),
        ('old.pth', dict(state_dict=weights, meta=dict(epoch=1)),
         dict(_use_new_zipfile_serialization=False)),
        ('bare.pth', weights, {}),
    ):
        torch.save(content, tmp_path / name, **options)
        found, meta = read_weights(str(tmp_path / name))
        assert torch.equal(found['a'], weights['a'])
        assert meta == content.get('meta', {})
    cut = tmp_path / 'cut.pth'
    cut.write_bytes((tmp_path / 'zip.pkl').read_bytes()[:200])
    with pytest.raises(CheckpointError, match='cannot be read; it is damaged'):
        read_weights(str(cut))
    with pytest.raises(CheckpointError, match='does not exist'):
        read_weights(str(tmp_path / 'absent.pkl'))
