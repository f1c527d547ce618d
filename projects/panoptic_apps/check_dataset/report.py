"""A check as JSON, and as text for a terminal."""
from typing import Dict, Optional

from panoptic_fpn.coco_format import ERROR, KINDS, WARNING

from .check import CheckResult
from .repair import Repair
from .statistics import format_statistics

#: Images to list among those with pixels whose category is unknown.
_SHOWN = 5


def report_content(path: str, result: CheckResult) -> Dict:
    """The check in plain types, for JSON.

    Returns:
        dict: ``file``, ``errors`` and ``warnings`` (counts), ``summary``,
        ``findings``: for each kind of fault its name, severity, title, count,
        fix and the examples that were kept (file, value); ``repair``: what
        was mended (None where it was not asked for).
    """
    faults, repair = result.faults, result.repair
    return dict(
        file=path,
        errors=faults.total(ERROR),
        warnings=faults.total(WARNING),
        summary=result.summary,
        findings=[
            dict(
                kind=name,
                severity=severity,
                title=KINDS[name].title,
                count=faults.counts[name],
                fix=KINDS[name].fix,
                examples=[
                    dict(file=fault.where, value=fault.value)
                    for fault in faults.examples[name]
                ]) for severity in (ERROR, WARNING)
            for name in faults.kinds(severity)
        ],
        repair=repair and dict(
            repair.counts,
            left=[dict(file=where, ids=ids) for where, ids in repair.left]))


def format_report(path: str, result: CheckResult, examples: int = 5) -> str:
    """The whole check, for a terminal, with some examples of each fault."""
    content, blocks = report_content(path, result), []
    if result.summary is not None:
        blocks.append(format_statistics(path, result.summary))
    blocks += [_format_kind(kind, examples) for kind in content['findings']]
    blocks.append(_verdict(path, content))
    return '\n\n'.join(blocks)


def _format_kind(kind: Dict, examples: int) -> str:
    count = kind['count']
    times = 'once' if count == 1 else f'{count} times'
    lines = [f'{kind["severity"]}: {kind["title"]} [{kind["kind"]}], {times}']
    for fault in kind['examples'][:examples]:
        lines.append(f'  {fault["file"]}: {fault["value"]}')
    if count > examples:
        lines.append(f'  ... and {count - examples} more')
    fixable = KINDS[kind['kind']].fixable
    tail = ' --fix does so where it can.' if fixable else ''
    lines.append(f'  -> {kind["fix"]}{tail}')
    return '\n'.join(lines)


def _verdict(path: str, content: Dict) -> str:
    parts = []
    for severity in (ERROR, WARNING):
        count = content[f'{severity}s']
        kinds = sum(k['severity'] == severity for k in content['findings'])
        if count:
            parts.append(f'{count} {severity}{"s" * (count > 1)} of {kinds} '
                         f'kind{"s" * (kinds > 1)}')
    if not parts:
        return f'{path}: nothing found, ready to train'
    tail = '' if content['errors'] else '; it can be trained on'
    return f'{path}: {", ".join(parts)}{tail}'


def format_repair(path: str,
                  repair: Repair,
                  folder: Optional[str] = None) -> str:
    """What was mended, and what is left to do by hand; ``folder`` holds the
    PNGs where they changed."""
    counts = repair.counts
    lines = [
        f'{path}: {counts["areas"]} areas, {counts["boxes"]} boxes, '
        f'{counts["sizes"]} image sizes, {counts["iscrowd"]} iscrowd and '
        f'{counts["names"]} file names set, {counts["added"]} segments added, '
        f'{counts["removed"]} removed, {counts["merged"]} merged'
    ]
    if folder is not None:
        lines.append(f'  its PNGs are in {folder}: name this folder as '
                     '--panoptic')
    for where, ids in repair.left[:_SHOWN]:
        lines.append(f'  not added, their category is unknown: {where}: ids '
                     f'{ids[:_SHOWN]}')
    if len(repair.left) > _SHOWN:
        lines.append(f'  ... and in {len(repair.left) - _SHOWN} more images')
    return '\n'.join(lines)
