"""The project's Markdown: pages, links, anchors and blocks of commands."""
import re
import shutil
import subprocess
from functools import lru_cache
from html.parser import HTMLParser
from typing import NamedTuple, Optional

import pytest
from markdown_it import MarkdownIt
from mdit_py_plugins.anchors import anchors_plugin

from tests.conftest import REPO_ROOT

#: Where a stranger reads, relative to the repository.
PAGES = sorted(
    str(path.relative_to(REPO_ROOT))
    for pattern in ('*.md', 'docs/**/*.md', 'configs/**/*.md',
                    'projects/*/README.md')
    for path in REPO_ROOT.glob(pattern))

_MARKDOWN = MarkdownIt('commonmark').enable('table').use(
    anchors_plugin, max_level=6)
_NOT_RUN = re.compile(r'<!-- not run: (\S.*?) -->\s*')


class Html(HTMLParser):
    """Links and ids of a page."""

    def __init__(self, text):
        super().__init__()
        self.links, self.ids = [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        found = dict(attrs)
        self.links += filter(None, map(found.get, ('href', 'src')))
        self.ids += filter(None, map(found.get, ('id', 'name')))


@lru_cache(maxsize=None)
def read(path):
    """A page, of Markdown (with GitHub's anchors) or HTML."""
    text = path.read_text()
    return Html(_MARKDOWN.render(text) if path.suffix == '.md' else text)


class Block(NamedTuple):
    """A fenced block."""
    language: str
    text: str
    line: int  #: of the fence, from 1
    not_run: Optional[str]  #: why it is not run


def blocks(page):
    """Fenced blocks of a page, in its order."""
    found, reason = [], None
    for token in _MARKDOWN.parse((REPO_ROOT / page).read_text()):
        if token.type == 'fence':
            found.append(
                Block(token.info, token.content, token.map[0] + 1, reason))
        match = _NOT_RUN.fullmatch(token.content)
        reason = match and match.group(1)
    return found


def inline_commands(page):
    """What stands between backticks and begins as a command."""
    tokens = _MARKDOWN.parse((REPO_ROOT / page).read_text())
    return [
        part.content for token in tokens for part in token.children or []
        if part.type == 'code_inline'
        and re.match(r'(python |make |tools/\S+ )', part.content)
    ]


def copy_repository(folder):
    """Copy what git tracks or would add; gives the folder, or skips."""
    if shutil.which('git') is None:
        pytest.skip('git is not here')
    listed = subprocess.run(
        ['git', 'ls-files', '-z', '-co', '--exclude-standard'],
        cwd=REPO_ROOT,
        capture_output=True,
        check=True,
        text=True).stdout
    for name in filter(None, listed.split('\0')):
        source, target = REPO_ROOT / name, folder / name
        if source.is_file():
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, target)
    return folder
