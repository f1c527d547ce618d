"""Plain pickles of numpy arrays, as Detectron2's model zoo has them.

A pickle is a program: it names functions and calls them. Here it can name a
few, those that numpy's arrays and ``OrderedDict`` need, and each has a
stand-in that builds a plain array of numbers from checked arguments. Nothing
that a file names is imported or called, not even numpy's own function (a
forged ``dtype`` would make it follow pointers that the file chose).

torch's own files are read with ``weights_only``
(``mmengine_exact.checkpoint``).
"""
import pickle
import re
from typing import Any, BinaryIO, Callable, Dict, Sequence

import numpy as np

from mmengine_exact.errors import CheckpointError

#: Types of an array's elements: numbers and truth values.
_NUMBERS = re.compile(r'[<>|=]?(b1|[iu][1248]|f[248])')
#: What a python object can be called.
_NAME = re.compile(r'[\w.]{1,200}')


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


def _reconstruct(kind: Any, shape: Any, code: Any) -> _Array:
    """numpy's empty array, before it gets its state."""
    return _Array()


def _from_buffer(raw: Any, dtype: Any, shape: Any, order: str) -> _Array:
    """An array of pickle's protocol 5."""
    array = _Array()
    array.value = _to_array(raw, dtype, shape, order)
    return array


def _scalar(dtype: Any, raw: Any) -> Any:
    return _to_array(raw, dtype, (), 'C').item()


def _encode(text: str, encoding: str = '') -> bytes:
    """Bytes, as pickles that Python 2 can read write them."""
    _require(encoding in ('latin1', 'latin-1'), f'encoding {encoding!r}')
    return text.encode('latin1')


def _known_names() -> Dict[str, Any]:
    """Stand-in for each name; numpy 2 moved its functions."""
    names = {
        'collections.OrderedDict': _Mapping,
        'numpy.dtype': _DType,
        # an argument of `_reconstruct` alone, never called
        'numpy.ndarray': 'numpy.ndarray',
        '_codecs.encode': _Builder(_encode),
        # of an empty array, written for Python 2
        '__builtin__.bytes': _Builder(lambda: b''),
    }
    for core in ('numpy.core', 'numpy._core'):
        names[f'{core}.multiarray._reconstruct'] = _Builder(_reconstruct)
        names[f'{core}.multiarray.scalar'] = _Builder(_scalar)
        names[f'{core}.numeric._frombuffer'] = _Builder(_from_buffer)
    return names


class _Refused(pickle.UnpicklingError):
    """The pickle names something that is not among the known names."""


class _ArrayUnpickler(pickle.Unpickler):

    def __init__(self, file: BinaryIO) -> None:
        # as Detectron2 reads what Python 2 wrote
        super().__init__(file, encoding='latin1')
        self._names = _known_names()

    def find_class(self, module: str, name: str) -> Any:
        try:
            return self._names[f'{module}.{name}']
        except KeyError:
            pass
        # a name that no module has is a damaged one
        _require(
            bool(_NAME.fullmatch(f'{module}.{name}')),
            f'the name {name[:40]!r}')
        raise _Refused(f'{module}.{name}')


def load_arrays(path: str) -> Any:
    """Content of a pickle of numbers, text, containers and numpy arrays.

    Args:
        path (str): Local file.

    Returns:
        Any: What was pickled; an ``OrderedDict`` is a dict. Arrays are
        numpy's, on the two upper levels of dicts; deeper ones are not
        looked at.

    Raises:
        CheckpointError: The file names anything else, which is not loaded,
            is cut off, or is no pickle.
    """
    try:
        with open(path, 'rb') as file:
            return _with_arrays(_ArrayUnpickler(file).load())
    except _Refused as error:
        raise CheckpointError(
            f'Checkpoint {path} holds the python object {error}, which is '
            'not loaded because it could run code. Get the file from its '
            'publisher, or save its weights alone as numpy arrays.') from None
    # what an unpickler makes of any bytes
    except (pickle.UnpicklingError, EOFError, ValueError, TypeError,
            LookupError, AttributeError, ArithmeticError, ImportError,
            MemoryError, RecursionError) as error:
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise CheckpointError(
            f'Checkpoint {path} cannot be read; it is damaged or no '
            f'checkpoint ({lines[0][:120]}). Copy or download it again.'
        ) from None


def _with_arrays(value: Any, levels: int = 2) -> Any:
    """Replace stand-ins by their arrays, in ``levels`` of dicts."""
    if isinstance(value, _Array):
        return value.value
    if isinstance(value, dict) and levels:
        return {k: _with_arrays(v, levels - 1) for k, v in value.items()}
    return value
