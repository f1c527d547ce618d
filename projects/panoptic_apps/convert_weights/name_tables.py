"""Names of weights in two layouts: rows of a table, read in both directions.

A row has two templates, 'theirs' and 'ours'. Braces hold what both share:

{i}, {i+2}, {2i}   a number that is written as i, i + 2 or 2 i, so that no
                   table depends on the depth of a network
{leaf}             the last part: weight, bias, running_mean, ...
{norm}             bn or gn, as mmcv names a normalization
{rest}             anything

``{norm}`` may be in our template alone, for a layout that calls every
normalization the same: running statistics show which it is.
"""
import re
from typing import Dict, Iterable, Optional, Sequence, Tuple, Union

_BRACES = re.compile(r'\{(\d*)([a-z]+)(?:\+(\d+))?\}')
_WORDS = dict(
    leaf='weight|bias|running_mean|running_var|num_batches_tracked',
    norm='bn|gn',
    rest='.+')
_STATISTICS = ('.running_mean', '.running_var')

Values = Dict[str, Union[int, str]]


class Template:
    """A pattern of names such as 'backbone.layer{i}.{j}.conv{k}.weight'."""

    def __init__(self, text: str) -> None:
        self.text = text
        self._pattern = re.compile(
            _BRACES.sub(lambda m: f'(?P<{m[2]}>{_WORDS.get(m[2], "[0-9]+")})',
                        text.replace('.', r'\.')))

    def read(self, key: str) -> Optional[Values]:
        """Values of the fields in a name; None if it does not fit."""
        match = self._pattern.fullmatch(key)
        if match is None:
            return None
        values: Values = {**match.groupdict()}
        for factor, name, offset in _BRACES.findall(self.text):
            if name not in _WORDS:
                value, left = divmod(
                    int(match[name]) - int(offset or 0), int(factor or 1))
                if left or value < 0:
                    return None
                values[name] = value
        return values

    def write(self, values: Values) -> str:
        """The name with these values."""

        def field(match: re.Match) -> str:
            value = values[match[2]]
            if isinstance(value, int):
                value = value * int(match[1] or 1) + int(match[3] or 0)
            return str(value)

        return _BRACES.sub(field, self.text)


class NameTable:
    """Rows (theirs, ours) of templates; the first that fits counts."""

    def __init__(self, rows: Iterable[Tuple[str, str]]) -> None:
        self.rows = [(Template(theirs), Template(ours))
                     for theirs, ours in rows]

    def translate(self, keys: Sequence[str],
                  to_ours: bool) -> Dict[str, Optional[str]]:
        """Name of each key on the other side; None where there is none."""
        rows = self.rows if to_ours else [(b, a) for a, b in self.rows]
        layers = {
            key.rpartition('.')[0]
            for key in keys if key.endswith(_STATISTICS)
        }
        found: Dict[str, Optional[str]] = dict.fromkeys(keys)
        for key in keys:
            norm = 'bn' if key.rpartition('.')[0] in layers else 'gn'
            for source, target in rows:
                values = source.read(key)
                if values is not None:
                    found[key] = target.write({'norm': norm, **values})
                    break
        return found
