"""Plain pickles of numpy arrays, as Detectron2's model zoo has them.

A pickle is a program: it names functions and calls them. Here it can name a
few, those that numpy's arrays and ``OrderedDict`` need, and each has a
stand-in that builds a plain array of numbers from checked arguments. Nothing
that a file names is imported or called, not even numpy's own function (a
forged ``dtype`` would make it follow pointers that the file chose).

torch's own files are read by ``mmengine_exact.checkpoint``.
"""
import pickle
import re
from typing import Any, Callable, Dict, Optional, Sequence

import numpy as np

from mmengine_exact.checkpoint import describe_fault
from mmengine_exact.errors import CheckpointError

#: Types of an array's elements: numbers and truth values.
_NUMBERS = re.compile(r'[<>|=]?(b1|[iu][1248]|f[248])')


def _require(fits: bool, found: str) -> None:
    if not fits:
        raise pickle.UnpicklingError(found)


class _DType:
    """What a pickled ``dtype`` becomes."""

    def __init__(self, code: Any, *unused: Any) -> None:
        _require(
            isinstance(code, str) and bool(_NUMBERS.fullmatch(code)),
            f'an array of {code!r}')
        self.dtype = np.dtype(code)

    def __setstate__(self, state: Sequence) -> None:
        # version, byte order, then what only structures of fields have
        _, byte_order, *structure = state[:5]
        _require(not any(structure), 'an array of structures')
        if byte_order in ('<', '>'):
            self.dtype = self.dtype.newbyteorder(byte_order)


class _Array:
    """A pickled array; its ``value`` comes with its state."""

    def __init__(self, value: Optional[np.ndarray] = None) -> None:
        self.value = value

    def __setstate__(self, state: Sequence) -> None:
        _, shape, dtype, fortran, raw = state
        self.value = _to_array(raw, dtype, shape, 'F' if fortran else 'C')


class _Mapping(dict):
    """A pickled ``OrderedDict``, without attributes of its own."""

    def __setstate__(self, state: Any) -> None:
        pass


class _Builder:
    """A function that a pickle may call and cannot change."""

    __slots__ = ('_function', )

    def __init__(self, function: Callable) -> None:
        self._function = function

    def __call__(self, *args: Any) -> Any:
        return self._function(*args)

    def __setstate__(self, state: Any) -> None:
        _require(False, 'a function with a state')


def _to_array(raw: Any, dtype: Any, shape: Any, order: Any) -> np.ndarray:
    """A writable array in the byte order of this machine."""
    if isinstance(raw, str):  # bytes of Python 2
        raw = raw.encode('latin1')
    _require(
        isinstance(raw, (bytes, bytearray)) and isinstance(dtype, _DType),
        'an array of objects')
    value = np.frombuffer(raw, dtype.dtype).reshape(shape, order=order)
    return np.array(value, dtype.dtype.newbyteorder('='), order='C')


def _encode(text: str, encoding: str = '') -> bytes:
    """Bytes as they are written in pickles that Python 2 can read."""
    _require(encoding in ('latin1', 'latin-1'), f'encoding {encoding!r}')
    return text.encode('latin1')


#: What a pickle may name; numpy 2 calls its core ``numpy._core``.
_NAMES: Dict[str, Any] = {
    'collections.OrderedDict': _Mapping,
    'numpy.dtype': _DType,
    # an argument of `_reconstruct` alone, never called
    'numpy.ndarray': 'numpy.ndarray',
    'numpy.core.multiarray._reconstruct': _Builder(lambda *_: _Array()),
    'numpy.core.multiarray.scalar': _Builder(
        lambda dtype, raw: _to_array(raw, dtype, (), 'C').item()),
    # in pickle's protocol 5
    'numpy.core.numeric._frombuffer': _Builder(
        lambda *args: _Array(_to_array(*args))),
    '_codecs.encode': _Builder(_encode),
    # in an empty array, written for Python 2
    '__builtin__.bytes': _Builder(lambda: b''),
}  # yapf: disable


class _ArrayUnpickler(pickle.Unpickler):

    def find_class(self, module: str, name: str) -> Any:
        full = f'{module}.{name}'
        known = _NAMES.get(full.replace('numpy._core.', 'numpy.core.'))
        # torch's words; a name that no module has is not printed as it is
        _require(known is not None, f'GLOBAL {ascii(full)[1:-1]}')
        return known


def read_arrays(path: str) -> Dict[str, np.ndarray]:
    """Weights of a pickle: its 'model', or all that it holds.

    Raises:
        CheckpointError: It names a python object (which is not loaded), is
            damaged or has no arrays.
    """
    with open(path, 'rb') as file:
        try:  # as Detectron2 reads what Python 2 wrote
            weights = _ArrayUnpickler(file, encoding='latin1').load()
        except Exception as error:  # arbitrary bytes raise anything
            raise CheckpointError(describe_fault(path, error)) from error
    if isinstance(weights, dict):
        weights = weights.get('model', weights)
    if not (isinstance(weights, dict) and weights and all(
            isinstance(key, str) and isinstance(value, _Array)
            and value.value is not None for key, value in weights.items())):
        raise CheckpointError(
            f"Checkpoint {path} holds no 'model' of numpy arrays (files of "
            "Caffe2 and Detectron have 'blobs'). Give one of Detectron2's "
            'model zoo.')
    return {key: array.value for key, array in weights.items()}
