"""What is known so far: printed line by line, and complete in a JSON file."""
import json
import math
import os.path as osp
import time
from typing import Any, Callable, Dict, List, Optional

from tabulate import tabulate

from mmengine_exact.files import write_bytes

from .measure import Figures

RIGHT, WRONG, DROPPED = 'right', 'WRONG', 'dropped'
FASTER, SLOWER = 'faster', 'SLOWER than mmdet'
COLUMNS = ('ms', 'host ms', 'launches', 'waits', 'peak MB')


class Report:
    """Verdicts and figures, in ``FOLDER/check_gpu.json`` after each of them.

    Args:
        folder (str): An existing folder.
        facts (dict): What was checked: device, versions.
    """

    def __init__(self, folder: str, facts: Dict[str, Any]) -> None:
        self.path = osp.join(folder, 'check_gpu.json')
        self.begin = time.perf_counter()
        self.content: Dict[str, Any] = dict(facts, checks=[], parts=[])
        for name, value in facts.items():
            print(f'{name:18} {value}')
        self._save()

    def check(self,
              name: str,
              verdict: str,
              detail: str = '',
              **more: Any) -> None:
        """Add a verdict; ``more`` stands in the file alone."""
        self.content['checks'].append(
            dict(name=name, verdict=verdict, detail=detail, **more))
        self._say(f'{verdict:18} {name}', detail)

    def agree(self, name: str, errors: Dict[str, float], most: float) -> None:
        """Add the verdict on errors that may be at most ``most``."""
        right = all(value <= most for value in errors.values())  # NaN: no
        worst = max(errors, key=lambda k: (math.isnan(errors[k]), errors[k]))
        self.check(
            name,
            RIGHT if right else WRONG,
            f'{worst} {errors[worst]:.1e}, at most {most:.0e}',
            # JSON has no NaN and no infinity
            errors={
                name: value if math.isfinite(value) else str(value)
                for name, value in errors.items()
            })

    def figures(self, case: str, work: str, ours: Figures,
                theirs: Figures) -> None:
        """Add the figures of each part, ours beside mmdet's."""
        rows = []
        for part in dict.fromkeys([*ours, *theirs]):
            sides = dict(ours=ours.get(part, {}), mmdet=theirs.get(part, {}))
            self.content['parts'].append(
                dict(case=case, work=work, part=part, **sides))
            rows.append([part] + [
                ' / '.join(
                    _number(side.get(column)) for side in sides.values())
                for column in COLUMNS
            ])
        self._say(f'{work}, {case}, ours / mmdet', '')
        align = ['left'] + ['right'] * len(COLUMNS)
        print(tabulate(rows, ['', *COLUMNS], 'plain', colalign=align))

    def attempt(self, name: str, run: Callable, *args: Any) -> Any:
        """Run a part of the check; one that raises is WRONG."""
        try:
            return run(*args)
        except Exception as error:
            lines = str(error).strip().splitlines() or ['']
            self.check(name, WRONG, f'{type(error).__name__}: {lines[0]}')
            return None

    def finish(self) -> bool:
        """Print all verdicts; whether nothing is wrong."""
        checks: List[Dict[str, str]] = self.content['checks']
        wrong = sum(check['verdict'] == WRONG for check in checks)
        self.content['wrong'] = wrong
        self._save()
        print('\nVerdict')
        for check in checks:
            print(f'{check["verdict"]:18} {check["name"]}')
        print(
            f'{wrong} of {len(checks)} checks are wrong.'
            if wrong else 'Nothing is wrong.', self.path)
        return not wrong

    def _say(self, text: str, detail: str) -> None:
        spent = time.perf_counter() - self.begin
        print(
            f'[{spent:4.0f} s] {text}' + (f': {detail}' if detail else ''),
            flush=True)
        self._save()

    def _save(self) -> None:
        self.content['seconds'] = round(time.perf_counter() - self.begin, 1)
        text = json.dumps(self.content, indent=1, allow_nan=False)
        write_bytes(self.path, text.encode())


def _number(value: Optional[float]) -> str:
    if value is None:
        return '-'
    return f'{value:.0f}' if value >= 100 or value == int(value) else (
        f'{value:.2f}')
