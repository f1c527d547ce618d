"""Which versions are here, what would not work, and the command that mends it.

    python tools/check_env.py            everything, about 6 seconds
    python tools/check_env.py machine    before .venv is made: what the system
                                         has to provide

Exit code: 0 usable, 1 something to mend, 2 wrong arguments.
"""
import argparse
import dataclasses
import json
import sys
from typing import List, Optional, Tuple

from envcheck import checks
from envcheck import facts as env


def version_table(facts: env.Facts) -> List[Tuple[str, str]]:
    """(name, version) lines: everything that matters on one screen."""

    def of(module):
        texts = [
            facts.distributions[n] + (f' ({n})' if n != module else '')
            for n in facts.providers(module)
        ]
        return ', '.join(texts) or 'not installed'

    operators = facts.operators or 'none'
    if not operators.startswith('none'):
        operators += f', CUDA {facts.mmcv_cuda}'
    gpus = f'{len(facts.gpus)}: {", ".join(facts.gpus)}'
    rows = [
        ('python', f'{facts.python} ({facts.executable})'),
        ('platform', facts.platform),
        ('torch', f'{of("torch")}, CUDA {facts.torch_cuda or "none"}'),
        ('GPUs', gpus if facts.gpus else '0'),
        ('package family', facts.family),
        ('mmengine', of('mmengine')),
        ('mmcv', of('mmcv')),
        ('compiled with', operators),
    ]
    names = ('mmdet', 'mmseg', 'numpy', 'cv2', 'pycocotools',
             'cityscapesscripts', 'setuptools', 'kornia-rs', 'hotcoco',
             'torchvision')
    rows += [(name, of(name)) for name in names
             if name != 'torchvision' or facts.providers(name)]
    return rows


def untested(facts: env.Facts) -> List[str]:
    """Versions other than the pinned ones: worth a line, not an error."""
    notes = []
    if not (3, 10) <= env.release(facts.python)[:2] <= (3, 13):
        notes.append(f'Python {facts.python}; tested: 3.10 to 3.13')
    for name in ('torch', 'torchvision', 'mmengine', 'mmcv', 'mmcv-lite',
                 'mmdet', 'mmsegmentation', 'opencv-python', 'pycocotools',
                 'cityscapesscripts', *checks.FORKS.values()):
        found, pin = facts.distributions.get(name), checks.pinned(name)
        if found and env.release(found) != env.release(pin.split('==')[-1]):
            notes.append(f'{name} {found}; pinned: {pin}')
    if facts.family == 'mixed':
        notes.append('packages of both families, openmmlab and onedl')
    return notes


def slower(facts: env.Facts) -> List[str]:
    """Packages that nothing needs and something is faster with."""
    if facts.providers('hotcoco'):
        return []
    return [
        'pycocotools counts AP, 7 times as long: '
        f'{checks.pip(facts)} install {checks.pinned("hotcoco")}'
    ]


def print_report(facts: env.Facts, findings: List[checks.Finding]) -> None:
    for name, value in version_table(facts):
        print(f'{name:18} {value}')
    for note in untested(facts) + slower(facts):
        print(f'{"note":18} {note}')
    print(f'\nNot usable, {len(findings)} to mend:' if findings else 'Usable.')


def main(argv: Optional[List[str]] = None) -> int:
    parser = argparse.ArgumentParser(
        description='Print the versions that matter and what would not work, '
        'with the command that mends it.')
    parser.add_argument(
        'stage',
        nargs='?',
        default='all',
        choices=('all', 'machine'),
        help='all: the environment of this Python (default); machine: what '
        'the system has to provide')
    parser.add_argument(
        '--json', action='store_true', help='print facts and findings as JSON')
    args = parser.parse_args(argv)
    if args.stage == 'machine':
        facts = env.collect_machine()
        findings = checks.check_machine(facts)
    else:
        facts = env.collect()
        findings = checks.diagnose(facts)
    if args.json:
        report = dict(
            usable=not findings,
            findings=[dataclasses.asdict(finding) for finding in findings],
            facts=dataclasses.asdict(facts))
        print(json.dumps(report, indent=2))
    else:
        if args.stage == 'all':
            print_report(facts, findings)
        for number, finding in enumerate(findings, 1):
            print(f'{number}. {finding.problem}\n   mend: {finding.command}')
    return int(bool(findings))


if __name__ == '__main__':
    sys.exit(main())
