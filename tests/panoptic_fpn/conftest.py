"""Fixtures of the tests of panoptic_fpn."""
import io
import logging

import pytest
from mmengine.logging import MMLogger


@pytest.fixture
def log():
    """Stream (``getvalue()``) of what goes to MMEngine's current logger."""
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    logger = MMLogger.get_current_instance()
    logger.addHandler(handler)
    yield stream
    logger.removeHandler(handler)
