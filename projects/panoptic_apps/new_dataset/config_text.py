"""Python text of a config file, laid out as the configs of this project."""
from typing import Any, List

#: Columns of a line.
WIDTH = 79


class Code(str):
    """An expression that is written as it is, not as a string."""


def format_assignment(name: str, value: Any) -> str:
    """``name = value`` on as many lines as it needs.

    Args:
        name (str): Of the variable.
        value (Any): Dicts with string keys, lists, tuples, :class:`Code`,
            and anything whose ``repr`` is Python.
    """
    return f'{name} = {_format(value, 0, len(name) + 3)}'


def _format(value: Any, indent: int, used: int) -> str:
    """Text of a value that begins in column ``used`` of its line."""
    flat = _flat(value)
    # one column for the comma or bracket that follows
    if used + len(flat) < WIDTH or isinstance(
            value, Code) or not isinstance(value,
                                           (dict, list, tuple)) or not value:
        return flat
    inner = indent + 4
    if isinstance(value, dict):
        parts = [
            f'{key}={_format(item, inner, inner + len(key) + 1)}'
            for key, item in value.items()
        ]
        return _broken('dict(', parts, ')', inner)
    parts = [_format(item, inner, inner) for item in value]
    if all(isinstance(item, (str, int, float)) for item in value):
        parts = _filled(parts, inner)
    begin, end = ('(', ')') if isinstance(value, tuple) else ('[', ']')
    return _broken(begin, parts, end, inner)


def _flat(value: Any) -> str:
    if isinstance(value, Code):
        return str(value)
    if isinstance(value, dict):
        items = ', '.join(f'{k}={_flat(v)}' for k, v in value.items())
        return f'dict({items})'
    if isinstance(value, tuple):
        items = ', '.join(map(_flat, value))
        return f'({items}, )' if len(value) == 1 else f'({items})'
    if isinstance(value, list):
        return f'[{", ".join(map(_flat, value))}]'
    return repr(value)


def _broken(begin: str, parts: List[str], end: str, indent: int) -> str:
    pad = '\n' + ' ' * indent
    text = begin + pad + f',{pad}'.join(parts)
    # a tuple of one keeps the comma that makes it one
    return text + (',' if begin == '(' and len(parts) == 1 else '') + end


def _filled(parts: List[str], indent: int) -> List[str]:
    """Short items, several to a line."""
    lines: List[str] = []
    for part in parts:
        if lines and indent + len(lines[-1]) + 2 + len(part) < WIDTH:
            lines[-1] += f', {part}'
        else:
            lines.append(part)
    return lines
