"""What stands in several files of the repository is the same in all."""
import configparser
import re

import yaml

from .conftest import REPO_ROOT


def setup_cfg():
    config = configparser.ConfigParser()
    config.read(REPO_ROOT / 'setup.cfg')
    return config['metadata']


def test_debian_packages():
    """README's line is the one of the image and of both kinds of CI."""
    lines = {}
    for name in ('README.md', 'Dockerfile', '.ci/run',
                 '.github/workflows/ci.yml'):
        text = (REPO_ROOT / name).read_text()
        lines[name] = re.findall(r'\bmake (?:[\w.+-]+ )+libglib2\.0-0', text)
    found = set(sum(lines.values(), []))
    assert all(lines.values()) and len(found) == 1, lines


def test_versions_of_python():
    workflow = yaml.safe_load(
        (REPO_ROOT / '.github/workflows/ci.yml').read_text())
    matrix = workflow['jobs']['test']['strategy']['matrix']['include']
    tried = [row['python'] for row in matrix]
    assert tried == re.findall(r'(3\.\d+)', setup_cfg()['classifiers'])


def test_citation():
    citation = yaml.safe_load((REPO_ROOT / 'CITATION.cff').read_text())
    assert str(citation['version']) == setup_cfg()['version']
    assert citation['license'] == setup_cfg()['license']
    paper = citation['preferred-citation']
    assert paper['title'] == 'Panoptic Feature Pyramid Networks'
    assert len(paper['authors']) == 4
