"""Categories of a COCO panoptic JSON: what :class:`LabelSpace` would refuse,
all of it at once."""
from typing import Any, Dict, List, TypeGuard

from panoptic_fpn.labels import (INSTANCE_OFFSET, LabelSpace, LabelSpaceError,
                                 short)

from .findings import Findings


def is_whole(value: Any) -> TypeGuard[int]:
    """Whether a value of a JSON is a whole number (``true`` is none)."""
    return isinstance(value, int) and not isinstance(value, bool)


def check_categories(categories: Any, path: str,
                     findings: Findings) -> Dict[int, dict]:
    """Check the list of categories.

    Args:
        categories (Any): What the JSON has under that key.
        path (str): The JSON.
        findings (Findings): Where to add what is wrong.

    Returns:
        dict[int, dict]: Entries by id, those that can be used.
    """
    if not isinstance(categories, list):
        findings.add('wrong_value', path,
                     f'"categories" is {str(categories)[:80]}, no list')
        return {}
    if not categories:
        findings.add('no_category', path, '0 categories')
    if len(categories) >= INSTANCE_OFFSET:
        findings.add('too_many_categories', path,
                     f'{len(categories)}, at most {INSTANCE_OFFSET - 1}')
    usable: Dict[int, dict] = {}
    by_id: Dict[str, List[dict]] = {}
    by_name: Dict[str, List[dict]] = {}
    for place, entry in enumerate(categories):
        if not isinstance(entry, dict):
            findings.add('wrong_value', path,
                         f'categories[{place}] is {str(entry)[:80]}')
            continue
        _check_category(entry, f'{path}: categories[{place}]', findings)
        if is_whole(entry.get('id')):
            usable.setdefault(entry['id'], entry)
        for key, found in (('id', by_id), ('name', by_name)):
            # 1 and '1' are one id to LabelSpace, which calls int()
            value = str(entry[key]) if key in entry else None
            if value is not None:
                found.setdefault(value, []).append(entry)
    _report_twice(by_id, 'category_id_twice', 'id', path, findings)
    _report_twice(by_name, 'category_name_twice', 'name', path, findings)
    _check_kinds(list(usable.values()), path, findings)
    return usable


def _check_category(entry: dict, where: str, findings: Findings) -> None:
    name = short(entry.get('name', '?'))
    for key in ('id', 'name'):
        if key not in entry:
            findings.add('key_missing', where, f'{str(entry)[:80]} has no '
                         f'"{key}"')
    if 'id' in entry and not is_whole(entry['id']):
        findings.add('category_id', where, f'{name} has id={entry["id"]!r}')
    elif entry.get('id', 0) < 0:
        findings.add('negative_category', where,
                     f'{name} has id={entry["id"]}')
    if 'isthing' not in entry:
        findings.add('isthing', where, f'{name} has none')
    elif entry['isthing'] not in (0, 1):
        findings.add('isthing', where,
                     f'{name} has isthing={entry["isthing"]!r}')
    elif 'name' in entry and is_whole(entry.get('id')):
        try:  # name and colour, too
            LabelSpace.from_coco([entry], where)
        except LabelSpaceError as error:
            findings.add('wrong_value', where, str(error))


def _report_twice(found: Dict[str, List[dict]], kind: str, key: str, path: str,
                  findings: Findings) -> None:
    other = 'name' if key == 'id' else 'id'
    for value, entries in found.items():
        if len(entries) > 1:
            names = ', '.join(repr(e.get(other)) for e in entries[:5])
            findings.add(kind, path, f'{key}={value}: {other} {names}')


def _check_kinds(categories: List[dict], path: str,
                 findings: Findings) -> None:
    kinds = {
        bool(c['isthing'])
        for c in categories if c.get('isthing') in (0, 1)
    }
    if len(kinds) == 1:
        missing = 'stuff' if kinds.pop() else 'things'
        findings.add('one_kind_of_class', path,
                     f'{len(categories)} categories, no {missing}')
