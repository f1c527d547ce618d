"""A check as text for a terminal, and as JSON."""
from typing import Dict, List, Optional

from .check import CheckResult
from .findings import ERROR, KINDS, WARNING, Findings
from .repair import Repair
from .statistics import format_statistics

#: Places in the JSON that are told of pixels whose category is unknown.
_SHOWN = 5


def format_report(path: str, result: CheckResult, examples: int = 5) -> str:
    """The whole check, for a terminal.

    Args:
        path (str): The JSON that was checked.
        result (CheckResult): Of :func:`check_dataset`.
        examples (int): Findings of each kind to show; the rest is counted.
    """
    findings, blocks = result.findings, []
    if result.summary is not None:
        blocks.append(format_statistics(path, result.summary))
    for severity in (ERROR, WARNING):
        for name in findings.kinds(severity):
            blocks.append(_format_kind(name, findings, examples))
    blocks.append(_verdict(path, findings))
    return '\n\n'.join(blocks)


def _format_kind(name: str, findings: Findings, examples: int) -> str:
    kind, count = KINDS[name], findings.counts[name]
    times = 'once' if count == 1 else f'{count} times'
    lines = [f'{kind.severity}: {kind.title} [{name}], {times}']
    for finding in findings.examples[name][:examples]:
        lines.append(f'  {finding.where}: {finding.value}')
    if count > examples:
        lines.append(f'  ... and {count - examples} more')
    tail = ' --fix does so where it can.' if kind.fixable else ''
    lines.append(f'  -> {kind.remedy}{tail}')
    return '\n'.join(lines)


def _verdict(path: str, findings: Findings) -> str:
    errors, warnings = findings.total(ERROR), findings.total(WARNING)
    if not errors + warnings:
        return f'{path}: nothing found, ready to train'
    kinds = len(findings.kinds(ERROR)), len(findings.kinds(WARNING))
    told = [
        f'{count} {what}{"s" * (count > 1)} of {number} '
        f'kind{"s" * (number > 1)}'
        for count, number, what in ((errors, kinds[0], 'error'),
                                    (warnings, kinds[1], 'warning')) if count
    ]
    tail = '' if errors else '; it can be trained on'
    return f'{path}: {", ".join(told)}{tail}'


def format_repair(path: str, repair: Repair) -> str:
    """What was mended, and what is left to do by hand."""
    counts = repair.counts
    lines = [
        f'{path}: {counts["areas"]} areas, {counts["boxes"]} boxes, '
        f'{counts["sizes"]} image sizes and {counts["iscrowd"]} iscrowd set, '
        f'{counts["added"]} segments added, {counts["removed"]} removed'
    ]
    for where, ids in repair.left[:_SHOWN]:
        lines.append(f'  not added, their category is unknown: {where}: ids '
                     f'{ids[:_SHOWN]}')
    if len(repair.left) > _SHOWN:
        lines.append(f'  ... and in {len(repair.left) - _SHOWN} more images')
    return '\n'.join(lines)


def report_content(path: str, result: CheckResult) -> Dict:
    """The check for machines.

    Returns:
        dict: ``file``, ``errors`` and ``warnings`` (counts), ``summary``,
        ``findings``: for each kind its name, severity, title, count, fix and
        the examples that were kept (file, value); ``repair``: what was
        mended (None where it was not asked for).
    """
    findings = result.findings
    return dict(
        file=path,
        errors=findings.total(ERROR),
        warnings=findings.total(WARNING),
        summary=result.summary,
        findings=[
            _kind_content(name, findings) for severity in (ERROR, WARNING)
            for name in findings.kinds(severity)
        ],
        repair=_repair_content(result.repair))


def _kind_content(name: str, findings: Findings) -> Dict:
    kind = KINDS[name]
    examples: List[Dict] = [
        dict(file=finding.where, value=finding.value)
        for finding in findings.examples[name]
    ]
    return dict(
        kind=name,
        severity=kind.severity,
        title=kind.title,
        count=findings.counts[name],
        fix=kind.remedy,
        examples=examples)


def _repair_content(repair: Optional[Repair]) -> Optional[Dict]:
    if repair is None:
        return None
    left = [dict(file=where, ids=ids) for where, ids in repair.left]
    return dict(repair.counts, left=left)
