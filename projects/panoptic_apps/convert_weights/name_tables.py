"""Names of weights in two layouts: rows of a table, read in both directions.

A row has two templates, 'theirs' and 'ours'. Braces hold what both share:

{i}, {i+2}, {2i}   a number; the value i, where 2 more or twice of it is
                   written. So a table has no depths in it.
{leaf}             the last part: weight, bias, running_mean, ...
{norm}             bn or gn, as mmcv names a normalization
{rest}             anything

``{norm}`` may be in our template alone, for a layout that calls every
normalization the same: running statistics show which it is.
"""
import re
from typing import Dict, Iterable, List, NamedTuple, Optional, Tuple, Union

_BRACES = re.compile(r'\{(\d*)([a-z]+)(?:\+(\d+))?\}')
_WORDS = dict(
    leaf='weight|bias|running_mean|running_var|num_batches_tracked',
    norm='bn|gn',
    rest='.+')
_STATISTICS = ('running_mean', 'running_var')

Values = Dict[str, Union[int, str]]


class _Field(NamedTuple):
    name: str
    factor: int
    offset: int


class Template:
    """A pattern of names with fields for numbers and words; see the module.

    Args:
        text (str): Such as 'backbone.layer{i}.{j}.conv{k}.weight'.
    """

    def __init__(self, text: str) -> None:
        self.text = text
        self.fields: List[_Field] = []
        pattern, end = '', 0
        for match in _BRACES.finditer(text):
            factor, name, offset = match.groups()
            self.fields.append(
                _Field(name, int(factor or 1), int(offset or 0)))
            pattern += re.escape(text[end:match.start()])
            pattern += f'({_WORDS.get(name, "[0-9]+")})'
            end = match.end()
        self._pattern = re.compile(pattern + re.escape(text[end:]))

    def read(self, key: str) -> Optional[Values]:
        """Values of the fields in a name; None if it does not fit."""
        match = self._pattern.fullmatch(key)
        if match is None:
            return None
        values: Values = {}
        for field, text in zip(self.fields, match.groups()):
            if field.name in _WORDS:
                values[field.name] = text
                continue
            value, left = divmod(int(text) - field.offset, field.factor)
            if left or value < 0:
                return None
            values[field.name] = value
        return values

    def write(self, values: Values) -> str:
        """The name with these values."""
        written = dict(values)
        for name, factor, offset in self.fields:
            if name not in _WORDS:
                written[name] = int(values[name]) * factor + offset
        return _BRACES.sub(lambda match: str(written[match[2]]), self.text)


class NameTable:
    """Rows (theirs, ours) of templates.

    Args:
        rows (Iterable[tuple[str, str]]): The first that fits counts.
    """

    def __init__(self, rows: Iterable[Tuple[str, str]]) -> None:
        self.rows = [(Template(theirs), Template(ours))
                     for theirs, ours in rows]

    def to_ours(self, keys: Iterable[str]) -> Dict[str, Optional[str]]:
        """Our name of each of their names; None where there is none."""
        keys = list(keys)
        known = set(keys)
        return {key: self._our_name(key, known) for key in keys}

    def to_theirs(self, keys: Iterable[str]) -> Dict[str, Optional[str]]:
        """Their name of each of ours; None where there is none."""
        return {key: self._their_name(key) for key in keys}

    def _our_name(self, key: str, known: set) -> Optional[str]:
        for theirs, ours in self.rows:
            values = theirs.read(key)
            if values is not None:
                values.setdefault('norm', _kind_of_norm(key, known))
                return ours.write(values)
        return None

    def _their_name(self, key: str) -> Optional[str]:
        for theirs, ours in self.rows:
            values = ours.read(key)
            if values is not None:
                return theirs.write(values)
        return None


def _kind_of_norm(key: str, known: set) -> str:
    """'bn' for a layer with running statistics, else 'gn'."""
    layer = key.rpartition('.')[0]
    statistics = (f'{layer}.{name}' for name in _STATISTICS)
    return 'bn' if any(name in known for name in statistics) else 'gn'
