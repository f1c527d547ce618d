"""JSON files of results."""
import json
import math
from typing import Any, List, Tuple, TypeGuard

from .violations import Violation


def read_json(content: bytes, name: str) -> Tuple[Any, List[Violation]]:
    """Content of a JSON; NaN and Infinity, which Python reads, are none.

    Returns:
        tuple: What it holds, None where it cannot be read; and why not.
    """
    try:
        return json.loads(content, parse_constant=_refuse), []
    except RecursionError:
        return None, [Violation('json', name, 'is nested too deeply')]
    except ValueError as error:  # also what is not UTF-8
        return None, [Violation('json', name, f'is no JSON ({error})')]


def _refuse(constant: str) -> None:
    raise ValueError(f'{constant} is no number of JSON')


def is_whole(value: Any) -> TypeGuard[int]:
    """An int; True and False are none."""
    return type(value) is int


def is_number(value: Any) -> TypeGuard[float]:
    """A finite int or float."""
    return type(value) in (int, float) and math.isfinite(value)
