"""Faults of files and of JSON, drawn at random, and a table of what came of
them.

``draw`` is a ``random.Random``, so a seed gives the same faults again.
"""
import copy
import struct
import zlib
from collections import Counter

#: Files of other kinds, as copies and downloads leave them.
OTHER_FORMATS = dict(
    page=b'<!DOCTYPE html>\n<html><body>404 Not Found</body></html>\n',
    pointer=b'version https://git-lfs.github.com/spec/v1\n'
    b'oid sha256:' + b'0' * 64 + b'\nsize 187\n',
    gzip=b'\x1f\x8b\x08\x00' + bytes(6) + b'\x03\x00' + bytes(8),
    zip=b'PK\x05\x06' + bytes(18),
    text='Ünïcode\n'.encode() * 9,
    utf16='{"a": 1}'.encode('utf-16'),
    zeros=bytes(4096))

BYTES = ('flip', 'flips', 'random', 'zeroed', 'truncated', 'tail', 'removed',
         'doubled', 'inserted', 'appended', 'zeros appended', 'prepended',
         'twice', 'header', 'lines', 'empty', 'other')


def mutated_bytes(draw, content, header=64):
    """(kind, changed content) of one fault of a disk, a copy or an editor;
    'header' edits the first ``header`` bytes."""
    while True:
        kind = draw.choice(BYTES)
        mutated = _mutated_bytes(draw, content, kind, header)
        if mutated != content:
            return kind, mutated


def _mutated_bytes(draw, content, kind, header):
    size = len(content)
    at = draw.randrange(size)
    length = draw.choice((1, 2, 4, 16, 64, 512, max(1, size // 3)))
    block = draw.randbytes(min(length, 600))
    if kind in ('flip', 'flips'):
        mutated = bytearray(content)
        for _ in range(1 if kind == 'flip' else 8):
            mutated[draw.randrange(size)] ^= 1 << draw.randrange(8)
        return bytes(mutated)
    if kind == 'header':
        at = draw.randrange(min(header, size))
        block = draw.choice(
            (b'\0', b'\1', b'\x7f', b'\xff', b'\xff' * 4, b'\0' * 4,
             draw.randbytes(2)))
        return content[:at] + block + content[at + len(block):]
    if kind == 'other':
        return draw.choice(list(OTHER_FORMATS.values()))
    return {
        'random':
        content[:at] + block + content[at + len(block):],
        'zeroed':
        content[:at] + bytes(min(length, size - at)) + content[at + length:],
        'truncated':
        content[:at],
        'tail':
        content[:-draw.randint(1, min(16, size))],
        'removed':
        content[:at] + content[at + length:],
        'doubled':
        content[:at] + content[at:at + length] + content[at:],
        'inserted':
        content[:at] + block + content[at:],
        'appended':
        content + block,
        'zeros appended':
        content + bytes(length),
        'prepended':
        block + content,
        'twice':
        content + content,
        'lines':
        content.replace(b'\n', b'\r\n'),
        'empty':
        b'',
    }[kind]


def png_chunks(content):
    """[(name, data)] of a sound PNG."""
    chunks, place = [], 8
    while place < len(content):
        length, name = struct.unpack_from('>I4s', content, place)
        chunks.append((name, content[place + 8:place + 8 + length]))
        place += 12 + length
    return chunks


def as_png(chunks):
    """A PNG of chunks, all checksums right."""
    return b'\x89PNG\r\n\x1a\n' + b''.join(
        struct.pack('>I', len(data)) + name + data +
        struct.pack('>I', zlib.crc32(name + data)) for name, data in chunks)


#: Values that a JSON may hold and a data set may not.
ODD = (None, True, False, [], {}, '', 'x', 'é\x00', -1, 0, 1.5,
       1e300, 2**31, 2**63, -2**63, 2**64, 10**30, 10**400, float('nan'),
       float('inf'), [None], [[1]], {
           'id': 1
       })

JSON = ('dropped', 'odd', 'as text', 'number', 'twice', 'swapped', 'moved',
        'emptied', 'nested', 'key', 'other id')


def places(node, path=()):
    """Path of every value of a JSON, below lists and objects."""
    items = node.items() if isinstance(node, dict) else enumerate(node)
    for key, value in items:
        yield (*path, key)
        if isinstance(value, (dict, list)):
            yield from places(value, (*path, key))


def owner_of(node, path):
    """The list or object that holds the value at a path."""
    for key in path[:-1]:
        node = node[key]
    return node


def mutated_json(draw, content):
    """(kind, changed copy) of one fault of an exporter of JSON; now and then
    the copy is equal."""
    content = copy.deepcopy(content)
    kind = draw.choice(JSON)
    # short paths are rare among all, yet as likely to be wrong
    by_depth = {}
    for path in places(content):
        by_depth.setdefault(len(path), []).append(path)
    path = draw.choice(by_depth[draw.choice(list(by_depth))])
    owner, key = owner_of(content, path), path[-1]
    value = owner[key]
    if kind == 'dropped':
        del owner[key]
    elif kind == 'odd':
        owner[key] = copy.deepcopy(draw.choice(ODD))
    elif kind == 'as text':
        owner[key] = str(value)
    elif kind == 'number':
        number = value if isinstance(value, (int, float)) else 1
        owner[key] = draw.choice(
            (number + 1, number - 1, -number, number * 1000, number / 3,
             number + 0.5, float(number), float('nan'), 2**24, 2**40))
    elif kind == 'twice':
        holder = next((owner_of(content, path[:n + 1])
                       for n in range(len(path) - 1, -1, -1)
                       if isinstance(owner_of(content, path[:n + 1]), list)),
                      None)
        if holder:
            holder.append(copy.deepcopy(draw.choice(holder)))
    elif kind in ('swapped', 'moved'):
        other = draw.choice(by_depth[len(path)])
        theirs = owner_of(content, other)
        if other[:len(path)] != path:
            owner[key] = theirs[other[-1]]
            if kind == 'swapped':
                theirs[other[-1]] = value
    elif kind == 'emptied':
        owner[key] = type(value)() if value is not None else {}
    elif kind == 'nested':
        for _ in range(draw.choice((1, 2, 50))):
            value = draw.choice(([value], {'x': value}))
        owner[key] = value
    elif kind == 'key' and isinstance(owner, dict):
        del owner[key]
        owner[draw.choice((key.upper(), key + ' ', key[:-1], ''))] = value
    elif kind == 'other id':
        ids = [p for p in places(content) if str(p[-1]).endswith('id')]
        if ids:
            one, other = draw.choice(ids), draw.choice(ids)
            owner_of(content, one)[one[-1]] = owner_of(content,
                                                       other)[other[-1]]
    return kind, content


class Outcomes:
    """Counts of what became of inputs, by kind of fault; ``good`` are the
    outcomes that are as they should be."""

    def __init__(self, title, good=('refused', 'right')):
        self.title = title
        self.good = good
        self.counts = Counter()
        self.bad = []

    def add(self, kind, outcome):
        """Count one; anything but a good outcome is kept as it is."""
        if outcome not in self.good:
            self.bad.append((kind, outcome))
        self.counts[kind, outcome if outcome in
                    self.good else outcome.split()[0]] += 1

    def table(self):
        """Kinds by outcomes, with their sums."""
        columns = sorted({outcome for _, outcome in self.counts})
        total = sum(self.counts.values())
        lines = [
            f'{self.title}: {total} inputs',
            f'{"":24}' + ''.join(f'{name:>12}' for name in columns)
        ]
        for kind in sorted({kind for kind, _ in self.counts}):
            lines.append(f'{kind:24}' + ''.join(f'{self.counts[kind, name]:12}'
                                                for name in columns))
        lines.append(f'{"all":24}' + ''.join(
            f'{sum(n for (_, c), n in self.counts.items() if c == name):12}'
            for name in columns))
        return '\n'.join(lines)

    def judge(self):
        """Print the table; nothing may be bad."""
        print('\n' + self.table())
        assert not self.bad, f'{len(self.bad)}: {self.bad[:5]}'
