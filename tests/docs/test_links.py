"""Links of the project's Markdown and of the site made from it."""
import os
import re
import subprocess
import sys
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from urllib.parse import unquote, urlsplit

import pytest

from tests.browser import open_page
from tests.conftest import REPO_ROOT

from .pages import PAGES, copy_repository, read


def broken(page, root):
    """Links of a page that lead nowhere below ``root``, as they stand there;
    no machine is asked for what lies elsewhere."""
    for link in read(page).links:
        parts = urlsplit(link)
        if parts.netloc or parts.scheme not in ('', 'file'):
            continue
        path = page.parent / unquote(parts.path) if parts.path else page
        target = Path(os.path.abspath(path))
        if not target.exists() or root not in (target, *target.parents):
            yield link
        elif parts.fragment and parts.fragment not in read(target).ids:
            yield link


@pytest.mark.parametrize('page', PAGES)
def test_links_of_markdown_lead_somewhere(page):
    assert not list(broken(REPO_ROOT / page, REPO_ROOT))


def test_every_page_is_in_the_navigation_of_the_site():
    text = (REPO_ROOT / 'zensical.toml').read_text()
    listed = [f'docs/{name}' for name in re.findall(r'= "(\S+\.md)"', text)]
    assert sorted(listed) == [p for p in PAGES if p.startswith('docs/')]


@pytest.fixture(scope='module', name='site')
def _site(tmp_path_factory):
    """Folder of the site, built in a copy of the repository."""
    pytest.importorskip(
        'zensical', reason='no zensical: pip install -r requirements/docs.txt')
    root = copy_repository(tmp_path_factory.mktemp('repository'))
    done = subprocess.run(['make', 'docs', f'PYTHON={sys.executable}'],
                          cwd=root,
                          capture_output=True,
                          text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return root / 'build' / 'site'


def test_links_of_the_site_lead_somewhere(site):
    found = {
        path.name: list(broken(path, site.parents[1]))
        for path in site.rglob('*.html') if path.name != '404.html'
    }
    assert len(found) > 10
    assert not {page: links for page, links in found.items() if links}


def test_site_loads_nothing_from_elsewhere_and_searches(site):
    handler = partial(SimpleHTTPRequestHandler, directory=str(site))
    with ThreadingHTTPServer(('127.0.0.1', 0), handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        url = f'http://127.0.0.1:{server.server_port}/index.html'
        with open_page(url) as (page, errors):
            search = page.get_by_role('combobox')
            for _ in range(20):  # not every key reaches a page that is new
                if not search.is_visible():
                    page.keyboard.press('Control+k')
                    page.wait_for_timeout(500)
            search.fill('Cityscapes')
            page.get_by_text(re.compile('^[1-9][0-9]* results?$')).wait_for()
        server.shutdown()
    assert not errors
