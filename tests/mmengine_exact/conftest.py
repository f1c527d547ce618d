"""Toy runs save often: the text of the config is left as it is."""
import pytest
from mmengine.config import config


@pytest.fixture(autouse=True)
def unformatted_configs(monkeypatch):
    """Laying out the config for each file takes most of the time."""
    monkeypatch.setattr(config, 'FormatCode', lambda text, **_: (text, True))
