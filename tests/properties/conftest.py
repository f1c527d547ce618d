"""How many examples the properties are tried on.

By default a few of each, the same ones every time. ``PROPERTY_EXAMPLES=2000``
tries other 2000 of each property in every run and prints their numbers.
"""
import functools
import os
from collections import Counter

import pytest
from hypothesis import HealthCheck, configuration, settings

from tests.conftest import REPO_ROOT

WANTED = os.environ.get('PROPERTY_EXAMPLES')
#: Examples that ran to their end, by test.
ran = Counter()

configuration.set_hypothesis_home_dir(REPO_ROOT / '.pytest_cache' /
                                      'hypothesis')
_COMMON = dict(
    database=None,
    deadline=None,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
settings.register_profile('fast', derandomize=True, max_examples=30, **_COMMON)
settings.register_profile(
    'thorough', max_examples=int(WANTED or 2000), **_COMMON)
settings.load_profile('thorough' if WANTED else 'fast')


@pytest.fixture(autouse=True)
def counted(request, monkeypatch):
    """Counts the examples of a property that hold."""
    handle = getattr(request.function, 'hypothesis', None)
    if handle is None:
        return
    inner, name = handle.inner_test, request.node.nodeid.split('/')[-1]

    @functools.wraps(inner)
    def run(*args, **kwargs):
        inner(*args, **kwargs)
        ran[name] += 1

    monkeypatch.setattr(handle, 'inner_test', run)


def pytest_terminal_summary(terminalreporter):
    if not WANTED or not ran:
        return
    terminalreporter.section('examples of each property')
    for name, number in sorted(ran.items()):
        terminalreporter.write_line(f'{number:8,}  {name}')
    terminalreporter.write_line(
        f'{sum(ran.values()):8,}  of {len(ran)} properties')
