"""Write the table of counts: ``python -m tests.pretended_gpu.record``.

Counts parts of ours and of mmdet's models and prints what changed. Run it
where a part became cheaper, or where it has to cost more.

Exit code: 0.
"""
import sys

from . import counting


def main() -> int:
    before = counting.read() if counting.TABLE.is_file() else {}
    found = {key: counting.count(key, quick=True) for key in counting.KEYS}
    for key, parts in counting.as_table(found).items():
        for part, row in parts.items():
            old = before.get(key, {}).get(part)
            if row != old:
                print(f'{key}, {part}: {old} -> {row}')
    counting.write(found)
    return 0


if __name__ == '__main__':
    sys.exit(main())
