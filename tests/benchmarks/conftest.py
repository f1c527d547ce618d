"""What stages log is none of other tests' business."""
from collections import OrderedDict

import pytest
from mmengine.logging import MMLogger


@pytest.fixture(autouse=True)
def own_logger(monkeypatch):
    """A logger keeps the stdout of its beginning, here a test's."""
    monkeypatch.setattr(MMLogger, '_instance_dict', OrderedDict())
