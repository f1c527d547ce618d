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
    lines = {
        name: re.search(r'\bmake (?:[\w.+-]+ ?)*libglib2\.0-0',
                        (REPO_ROOT / name).read_text())
        for name in ('README.md', 'Dockerfile', '.ci/run',
                     '.github/workflows/ci.yml')
    }
    assert all(lines.values()), lines
    assert len({line[0] for line in lines.values()}) == 1, lines


def test_versions_of_python():
    workflow = yaml.safe_load(
        (REPO_ROOT / '.github/workflows/ci.yml').read_text())
    matrix = workflow['jobs']['test']['strategy']['matrix']['include']
    assert [row['python'] for row in matrix] == re.findall(
        r'Python :: (3\.\d+)', setup_cfg()['classifiers'])


def test_citation():
    citation = yaml.safe_load((REPO_ROOT / 'CITATION.cff').read_text())
    assert str(citation['version']) == setup_cfg()['version']
    assert citation['license'] == setup_cfg()['license']
    paper = citation['preferred-citation']
    assert paper['title'] == 'Panoptic Feature Pyramid Networks'
    assert len(paper['authors']) == 4
