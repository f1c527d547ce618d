"""The pretended GPU for one test."""
import pytest

from . import pretended_gpu


@pytest.fixture
def gpu():
    with pretended_gpu() as found:
        yield found
