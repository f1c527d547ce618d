"""What runs with faults are compared with."""
import time

import pytest

from .runs import Run


@pytest.fixture(scope='session')
def reference(tmp_path_factory):
    """Uninterrupted runs by number of processes, and their seconds."""
    made = {}

    def get(world=1, **options):
        key = (world, repr(sorted(options.items())))
        if key not in made:
            folder = tmp_path_factory.mktemp('whole')
            begin = time.monotonic()
            run = Run(folder, world, **options)
            assert run.wait(120) and set(run.codes.values()) == {0}, \
                run.output()[-2000:]
            made[key] = folder, time.monotonic() - begin
        return made[key]

    return get
