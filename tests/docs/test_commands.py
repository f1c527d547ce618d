"""Commands of the project's Markdown exist, and are run or say why not.

A block of commands is run unless the line before it is

    <!-- not run: REASON -->

where REASON may be ``covered by PATH``, a test that runs them. Blocks find
what `make demo` leaves, and what blocks before them on their page leave.
"""
import io
import os
import re
import shlex
import subprocess
import sys
from contextlib import redirect_stdout
from functools import lru_cache
from itertools import dropwhile, groupby
from pathlib import Path

import pytest
from mmengine.config import Config

from tests.conftest import REPO_ROOT, call_tool

from .pages import PAGES, blocks, copy_repository, inline_commands

#: What a reader puts a value for.
PLACEHOLDER = re.compile(r'[A-Z_]{4,}(\.\w+)?|.*\.\.\..*|/path/to/.*')
#: Between commands.
SEPARATORS = ';&|'
#: Folders whose files commands name.
FOLDERS = ('tools/', 'configs/', 'requirements/', 'benchmarks/', 'tests/')
#: The demo in a few seconds.
SHORT = """_base_ = './panoptic-fpn_tiny_synthetic.py'
train_cfg = dict(max_iters=20, val_interval=20)
"""


def commands(text):
    """Words of each command of a shell script, without ``NAME=value``."""
    for line in text.replace('\\\n', ' ').splitlines():
        lexer = shlex.shlex(line, posix=True, punctuation_chars=SEPARATORS)
        lexer.whitespace_split = True
        for separate, words in groupby(
                lexer, lambda word: not word.strip(SEPARATORS)):
            words = list(dropwhile(re.compile(r'\w+=|sudo$').match, words))
            if words and not separate:
                yield words


@lru_cache(maxsize=None)
def help_of(tool, *command):
    """What a tool prints for --help."""
    with redirect_stdout(io.StringIO()) as text, \
            pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(REPO_ROOT / 'tools')  # as a script has it
        assert call_tool(patch, tool, *command, '--help') == 0
    parts = re.search(r'\{([\w,-]+)\} \.\.\.', text.getvalue())
    return text.getvalue(), parts.group(1).split(',') if parts else []


def unknown_options(script, arguments):
    """Options that the help of a script does not have."""
    tool = script.removeprefix('tools/').removesuffix('.py')
    tool = re.sub(r'(dist|slurm)_(\w+)\.sh', r'\2', tool)  # passes them on
    text, parts = help_of(tool)
    if arguments and arguments[0] in parts:
        text, _ = help_of(tool, arguments[0])
    for word in arguments:
        option = word.split('=')[0]
        if re.match('--[a-z]', option) and \
                not re.search(rf'{option}(?![\w-])', text):
            yield f'{script} has no {option}'


def unknown_keys(arguments):
    """Keys of --cfg-options that the config does not have."""
    configs = [word for word in arguments if word.startswith('configs/')]
    if '--cfg-options' not in arguments or not configs:
        return
    config = Config.fromfile(
        REPO_ROOT / configs[0], import_custom_modules=False)
    for word in arguments[arguments.index('--cfg-options') + 1:]:
        if word.startswith('--'):
            return
        value, *parts = config, *word.split('=')[0].split('.')
        for i, part in enumerate(parts):
            if isinstance(value, list) and part.isdigit():
                value = value[int(part)]
            elif part in value:
                value = value[part]
            elif i < len(parts) - 1 or 'type' not in value:
                yield f'{configs[0]} has no {word}'
                break  # else an argument of a class


def wrong(words, written):
    """What a command names and the project does not have.

    ``written`` are the configs that commands before it write.
    """
    for word in words:
        if word.startswith(FOLDERS) and word not in written and \
                not any(REPO_ROOT.glob(word)):
            yield f'{word} does not exist'
    if words[0] == 'make':
        makefile = (REPO_ROOT / 'Makefile').read_text()
        for word in words[1:]:
            name, _, value = word.partition('=')
            if not re.search(
                    rf'^{name} *\?=|^# {name}\b|\({name}\)'
                    if value else rf'^{name}:', makefile, re.M):
                yield f'make has no {word}'
    script = words[1:] if words[0].startswith('python') else words
    if script and (REPO_ROOT / script[0]).is_file() and \
            script[0].startswith('tools/'):
        if script is words and not os.access(REPO_ROOT / words[0], os.X_OK):
            yield f'{words[0]} cannot be executed'
        if script[0] != 'tools/setup_env.sh':
            yield from unknown_options(script[0], script[1:])
        yield from unknown_keys(script[1:])


@pytest.mark.parametrize('page', PAGES)
def test_commands_name_what_exists(page):
    texts = [block.text for block in blocks(page) if block.language == 'bash']
    words = [
        command for text in texts + inline_commands(page)
        for command in commands(text)
    ]
    written = {
        f'configs/custom/{command[2]}.py'
        for command in words if 'tools/new_dataset.py' in command[:2]
    }
    assert not [
        problem for command in words for problem in wrong(command, written)
    ]


@pytest.mark.parametrize('page', PAGES)
def test_blocks_are_bash_and_run_or_say_why_not(page):
    for block in blocks(page):
        where = f'{page}:{block.line}'
        if block.language != 'bash':
            assert not re.match(r'\$ |(python|make|tools/\S+) ',
                                block.text), f'{where}: ```bash'
            continue
        done = subprocess.run(['bash', '-nc', block.text], capture_output=True)
        assert not done.stderr, where
        if block.not_run is None:
            words = sum(commands(block.text), [])
            assert not list(filter(PLACEHOLDER.fullmatch, words)), where
        elif block.not_run.startswith('covered by '):
            path = block.not_run.removeprefix('covered by ')
            assert (REPO_ROOT / path).exists(), where


def to_run(page):
    """The script of a page, one block after another."""
    return '\n'.join(
        block.text for block in blocks(page)
        if block.language == 'bash' and block.not_run is None)


@pytest.fixture(scope='module', name='run')
def _run(tmp_path_factory):
    """Runs a script in a copy of the repository after a short `make demo`."""
    root = copy_repository(tmp_path_factory.mktemp('repository'))
    environment = dict(
        os.environ,
        PATH=f'{Path(sys.executable).parent}:{os.environ["PATH"]}',
        PYTHONPATH=f'{root}/projects:{os.environ.get("PYTHONPATH", "")}')

    def run(script):
        done = subprocess.run(['bash', '-exc', script],
                              cwd=root,
                              env=environment,
                              stdin=subprocess.DEVNULL,
                              stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT,
                              text=True)
        assert done.returncode == 0, done.stdout[-5000:]

    (root / 'configs/synthetic/short.py').write_text(SHORT)
    run('make demo PYTHON=python DEMO_CONFIG=configs/synthetic/short.py')
    return run


@pytest.mark.slow
@pytest.mark.parametrize('page', [page for page in PAGES if to_run(page)])
def test_commands_run(page, run):
    run(to_run(page))
