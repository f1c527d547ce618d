"""Arguments and exit codes of tools/webdemo.py, without a page."""
import sys
from functools import partial
from types import SimpleNamespace

import pytest

from panoptic_apps import web_page
from tests import tiny


@pytest.fixture(scope='module')
def files(tmp_path_factory):
    return tiny.write_tiny_model(tmp_path_factory.mktemp('model'))


@pytest.fixture
def tool(monkeypatch):
    """The tool, on a machine with gradio but for the page itself."""
    monkeypatch.setitem(sys.modules, 'gradio', SimpleNamespace(__spec__='x'))
    monkeypatch.setattr(web_page, 'build_page', lambda *args: args)
    monkeypatch.setenv('GRADIO_ANALYTICS_ENABLED', 'True')
    return partial(tiny.run_tool, monkeypatch, 'webdemo')


def test_what_is_served(tool, files, monkeypatch):
    served = []
    monkeypatch.setattr(web_page, 'serve', lambda *args: served.append(args))
    assert tool(*files, '--port', 8123, '--cfg-options',
                'model.test_cfg.panoptic.score_thr=0.7') == 0
    (inferencer, name), host, port = served[0]
    assert (name, host, port) == ('tiny', '127.0.0.1', 8123)
    assert inferencer.model.label_space == tiny.SPACE
    merge = inferencer.model.panoptic_fusion_head
    assert merge.thresholds['score_thr'] == 0.7


def test_without_gradio(tool, files, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, 'gradio', None)
    assert tool(*files) == 1
    said = capsys.readouterr().err
    assert 'pip install -r requirements/webdemo.txt' in said
    assert (tiny.REPO_ROOT / 'requirements' / 'webdemo.txt').is_file()


def test_a_port_that_is_taken(tool, files, monkeypatch, capsys):

    def taken(*args):
        raise OSError('Cannot find empty port')

    monkeypatch.setattr(web_page, 'serve', taken)
    assert tool(*files, '--port', 8123) == 1
    assert '127.0.0.1:8123 (Cannot' in capsys.readouterr().err


def test_files_that_cannot_be_used(tool, files, tmp_path, capsys):
    config, checkpoint = files
    assert tool(config, tmp_path / 'none.pth') == 2
    assert 'none.pth: no such file' in capsys.readouterr().err
    (tmp_path / 'bad.pth').write_bytes(b'no checkpoint')
    assert tool(config, tmp_path / 'bad.pth') == 1
    assert 'bad.pth' in capsys.readouterr().err


@pytest.mark.parametrize('port', ['0', '70000', 'x'])
def test_ports_that_are_none(tool, files, port, capsys):
    assert tool(*files, '--port', port) == 2
    assert '--port' in capsys.readouterr().err
