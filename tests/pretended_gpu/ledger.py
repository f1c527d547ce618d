"""What is counted, and the line of the code that caused it."""
import sys
from collections import Counter
from dataclasses import dataclass, field, fields
from functools import lru_cache
from pathlib import Path
from typing import Dict, Optional

import torch

_HERE = Path(__file__).resolve().parent
_ROOT = _HERE.parents[1]
#: Frames in these files cause nothing themselves.
_SKIPPED = (str(Path(torch.__file__).parent), 'importlib', 'contextlib')
_OWN = frozenset(
    str(_HERE / name)
    for name in ('autocast.py', 'device.py', 'functions.py', 'ledger.py',
                 'operators.py', 'patches.py', 'tags.py'))


@dataclass(frozen=True)
class Counts:
    """Sums of a part; bytes of copies."""
    launches: int = 0
    waits: int = 0
    to_gpu: int = 0
    from_gpu: int = 0
    collectives: int = 0

    def __add__(self, other: 'Counts') -> 'Counts':
        return Counts(*(getattr(self, f.name) + getattr(other, f.name)
                        for f in fields(self)))


@dataclass
class Ledger:
    """Counts by place; a place is 'file:line function (operator)'."""
    launches: Counter = field(default_factory=Counter)
    waits: Counter = field(default_factory=Counter)
    to_gpu: Counter = field(default_factory=Counter)
    from_gpu: Counter = field(default_factory=Counter)
    collectives: Counter = field(default_factory=Counter)

    def counts(self) -> Counts:
        """Sums over all places."""
        return Counts(*(sum(c.values()) for c in vars(self).values()))

    def update(self, other: 'Ledger') -> None:
        """Add what another one has counted."""
        for name, counter in vars(self).items():
            counter.update(getattr(other, name))

    def clear(self) -> None:
        """Forget everything."""
        for counter in vars(self).values():
            counter.clear()

    def places(self, what: str, most: int = 12) -> str:
        """The places that count most for ``what``, one a line."""
        counter: Counter = getattr(self, what)
        return '\n'.join(f'{number:12,d}  {place}'
                         for place, number in counter.most_common(most))

    def text(self, most: int = 12) -> str:
        """Sums and places of everything that was counted."""
        sums: Dict[str, int] = vars(self.counts())
        return '\n'.join(f'{what}: {number:,}\n{self.places(what, most)}'
                         for what, number in sums.items() if number)


def caller(operator: str) -> str:
    """Place of the innermost line that is neither torch's nor this folder's;
    'autograd' where there is none."""
    frame = sys._getframe(1)
    while frame is not None:
        name = _shown(frame.f_code.co_filename)
        if name:
            return (f'{name}:{frame.f_lineno} {frame.f_code.co_name} '
                    f'({operator})')
        frame = frame.f_back
    return f'autograd ({operator})'


@lru_cache(maxsize=None)
def _shown(filename: str) -> Optional[str]:
    """A short name of the file; None where its frames are skipped."""
    if filename in _OWN or any(part in filename for part in _SKIPPED):
        return None
    _, installed, name = filename.rpartition('site-packages/')
    if installed:
        return name
    return filename[len(str(_ROOT)) +
                    1:] if filename.startswith(str(_ROOT)) else filename
