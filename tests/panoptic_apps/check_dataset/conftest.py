"""A clean data set, written once, and a copy for each test."""
import pytest

from . import data


@pytest.fixture(scope='session', name='original')
def _original(tmp_path_factory):
    return data.clean_data(tmp_path_factory.mktemp('clean') / 'data')


@pytest.fixture
def path(original, tmp_path):
    """JSON of a copy that a test may change."""
    return data.copy(original, tmp_path / 'data')
