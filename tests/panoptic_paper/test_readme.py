"""The README tells of the miniature what its report says."""
import json

from .fakes import ROOT


def test_readme_has_the_verdicts_of_the_miniature():
    """Each claim that is judged, with its medians and ranges."""
    readme = (ROOT / 'README.md').read_text()
    report = json.loads(
        (ROOT / 'docs' / 'miniature' / 'miniature.json').read_text())
    claims = [c for table in report['tables'] for c in table['claims']]
    lines = [line for line in readme.splitlines() if line.startswith('| ')]
    for claim in claims:
        if claim['metric'] in ('PQ_th', 'PQ_st'):
            continue  # the README has AP's and mIoU's
        verdict = claim['verdict'] + ', as claimed' * claim['as_claimed']
        left, _ = claim['why'].split(' against ')
        numbers = left.split(' ')[-6:-2]  # '30.6 (29.3 to 30.6, 3 seeds)'
        text = ' '.join(numbers).rstrip(',')
        found = [line for line in lines if text in line and verdict in line]
        assert found, (claim, text)
