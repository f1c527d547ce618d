"""What is wrong with an archive, one entry for each place."""
from collections import Counter
from dataclasses import dataclass
from typing import Iterable, List, Sequence


@dataclass(frozen=True)
class Violation:
    """A rule, the file or image that breaks it, and how.

    ``error``: the server refuses or misreads it. Others are odd and may be
    meant.
    """

    rule: str
    where: str
    text: str
    error: bool = True

    def __str__(self) -> str:
        kind = 'error' if self.error else 'warning'
        return f'{kind} [{self.rule}] {self.where}: {self.text}'


def warning(rule: str, where: str, text: str) -> Violation:
    """An oddity that the server takes."""
    return Violation(rule, where, text, error=False)


def count_errors(violations: Iterable[Violation]) -> int:
    return sum(violation.error for violation in violations)


def format_violations(violations: Sequence[Violation],
                      examples: int = 5) -> List[str]:
    """Lines: the first of each rule, and how many there are more.

    Args:
        violations (Sequence[Violation]): Errors and warnings.
        examples (int): Of each rule and kind.
    """
    lines = []
    totals = Counter((v.error, v.rule) for v in violations)
    for (error, rule), total in sorted(
            totals.items(), key=lambda item: (not item[0][0], item[0][1])):
        found = [v for v in violations if (v.error, v.rule) == (error, rule)]
        lines += [str(v) for v in found[:examples]]
        if total > examples:
            lines.append(f'... and {total - examples} more [{rule}]')
    return lines
