"""A page in headless Chromium, for tests of pages that people look at.

``open_page(url)`` gives the page and the list of what went wrong on it. The
test skips where playwright or Chromium is not installed:

    pip install -r requirements/browser.txt
    apt-get install --no-install-recommends chromium

Nothing beyond this machine can be reached from the page; an attempt is an
error of the page.
"""
import os
import re
import shutil
from contextlib import contextmanager
from pathlib import Path
from typing import Iterator, List, Tuple, Union

import pytest

#: Names of the browser on Debian, Ubuntu, Fedora, and Google's own.
_NAMES = ('chromium', 'chromium-browser', 'google-chrome',
          'google-chrome-stable')

#: What is not on this machine.
_ELSEWHERE = re.compile(r'^(https?|wss?)://'
                        r'(?!(127\.0\.0\.1|localhost|\[::1\])([:/]|$))')

#: For root, and for containers whose /dev/shm is small.
_OPTIONS = ['--disable-dev-shm-usage', '--disable-gpu']


def find_chromium() -> str:
    """Path of Chromium: ``$CHROMIUM``, or the first known name on the path;
    empty if there is none."""
    names = [os.environ.get('CHROMIUM'), *_NAMES]
    found = (shutil.which(name) for name in names if name)
    return next(filter(None, found), '')


@contextmanager
def open_page(url: Union[str, Path],
              width: int = 1280) -> Iterator[Tuple[object, List[str]]]:
    """Open an address on this machine or an HTML file in a window of this
    width in pixels; skip the test where there is no browser.

    Yields:
        tuple[Page, list[str]]: playwright's page after its ``load`` event, and
        a list that grows while it is open: what the console calls an error,
        exceptions that nobody caught, failed requests and requests to other
        machines.
    """
    playwright = pytest.importorskip(
        'playwright.sync_api',
        reason='no playwright: pip install -r requirements/browser.txt')
    chromium = find_chromium()
    if not chromium:
        pytest.skip('no Chromium: apt-get install --no-install-recommends '
                    'chromium, or set CHROMIUM to its path')
    if isinstance(url, Path):
        url = url.resolve().as_uri()
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(
            executable_path=chromium, args=_OPTIONS)
        try:
            page = browser.new_page(viewport=dict(width=width, height=900))
            errors = _watch(page)
            page.goto(url, wait_until='load')
            yield page, errors
        finally:
            browser.close()


def fits(page: object) -> bool:
    """Whether a page is not wider than its window: nothing but tables and
    charts in their boxes is scrolled sideways."""
    return page.evaluate('document.documentElement.scrollWidth'
                         ' <= document.documentElement.clientWidth')


def _watch(page: object) -> List[str]:
    """Keep a page on this machine; list what goes wrong on it."""
    errors: List[str] = []

    def refuse(route):
        errors.append(f'request to another machine: {route.request.url}')
        route.abort()

    def console(message):
        if message.type == 'error':
            where = message.location.get('url', '')
            errors.append(f'console: {message.text} ({where})')

    def failed(request):
        # a page that is left, or a stream that is closed, aborts requests
        if request.failure != 'net::ERR_ABORTED':
            errors.append(f'request failed: {request.url} '
                          f'({request.failure})')

    page.route(_ELSEWHERE, refuse)
    page.on('console', console)
    page.on('pageerror', lambda error: errors.append(f'exception: {error}'))
    page.on('requestfailed', failed)
    return errors
