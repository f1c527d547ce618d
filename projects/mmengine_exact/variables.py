"""Variables of config files: names that other keys are computed from.

MMEngine evaluates a file such as ::

    max_iters = 600
    train_cfg = dict(max_iters=max_iters)

before a config that inherits it and before ``--cfg-options``: another
``max_iters`` alone changes nothing there. Here copies of the files are
evaluated with the other value, and keys that differ are computed from it. On
the command line they follow. A file means what it means to MMEngine, so one
that sets the variable without them is refused.
"""
import ast
import os
import os.path as osp
import re
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Container, Dict, Iterator, List, Tuple

from mmengine.config import Config
from mmengine.logging import print_log

from .errors import RunError

#: Names and indices that lead to a value in nested dicts and lists.
KeyPath = Tuple[Any, ...]


class ConfigFiles:
    """A config file and its bases, to be evaluated with other values.

    Args:
        path (str): The file. Values can be replaced in Python files, but not
            in those that inherit by MMEngine's ``read_base``.
        read (Container[str]): Top-level keys that a run reads; others are
            variables.
    """

    def __init__(self, path: str, read: Container[str]) -> None:
        self.path, self.read = path, read
        #: Files that assign each name, in the order of evaluation.
        self.assigned_in: Dict[str, Dict[str, bool]] = {}
        self.config = self._evaluate({})

    def changes(self, values: dict, but: str = '') -> Dict[KeyPath, Any]:
        """Keys of a run that change, and their values, if variables have other
        ``values`` wherever they are assigned, ``but`` in one file."""
        found = differences(self.config, self._evaluate(values, but))
        return {path: new for path, new in found if path[0] in self.read}

    def _evaluate(self, values: dict, but: str = '') -> dict:
        with TemporaryDirectory() as folder:
            copied = self._copy(self.path, values, but, folder)
            return Config.fromfile(
                copied, import_custom_modules=False).to_dict()

    def _copy(self, path: str, values: dict, but: str, folder: str) -> str:
        """Write a file and its bases with other values; return the path."""
        path = osp.abspath(osp.expanduser(path))
        if not path.endswith('.py'):
            return path
        text = Path(path).read_text(encoding='utf-8')
        # the copy lies elsewhere
        text = re.sub(r'\{\{\s*fileDirname\s*\}\}', osp.dirname(path), text)
        lines: List[str] = []
        for statement in ast.parse(text).body:
            if isinstance(statement, ast.With):  # read_base
                return path
            lines.append(ast.unparse(statement))
            names = {
                node.id
                for node in ast.walk(statement) if isinstance(node, ast.Name)
                and isinstance(node.ctx, ast.Store)
            }
            if '_base_' in names:
                # no public function resolves 'PACKAGE::PATH'
                bases = [
                    self._copy(
                        Config._get_cfg_path(base, path)[0], values, but,
                        folder) for base in Config._get_base_files(path)
                ]
                lines[-1] = f'_base_ = {bases!r}'
            for name in names - {'_base_'}:
                # a dict, for the order
                self.assigned_in.setdefault(name, {})[path] = True
                if name in values and path != but:
                    lines.append(f'{name} = {values[name]!r}')
        copied = Path(folder, str(len(os.listdir(folder))), osp.basename(path))
        copied.parent.mkdir()
        copied.write_text('\n'.join(lines), encoding='utf-8')
        return str(copied)


def check_inherited(files: ConfigFiles) -> None:
    """Refuse another value of a variable that bases have computed with.

    Raises:
        RunError: Names the file, the variable and the keys to set as well.
    """
    for name, (*former, last) in list(files.assigned_in.items()):
        if not former or name in files.read or name not in files.config:
            continue
        try:
            found = files.changes({name: files.config[name]}, but=last)
        except Exception:  # bases need not be able to compute with it
            continue
        if found:
            raise RunError(
                f'{last}: {name} is set anew, but keys that a base computed '
                'from its former value keep theirs. Set them, too: '
                f'{options_text(found)}. Or choose another name.')


def computed_from(files: ConfigFiles, options: dict) -> Dict[KeyPath, Any]:
    """Keys of a run, and their values, that follow from what ``options``
    (dotted keys and values) say of variables.

    Raises:
        RunError: No key is computed from a variable, none of its name given.
    """
    changed = Config(files.config)
    changed.merge_from_dict(options)
    names = {key.split('.')[0] for key in options}
    values = {
        name: value
        for name, value in changed.to_dict().items() if name in names
        and name not in files.read and value != files.config[name]
    }
    given = {key.split('.')[-1] for key in options if '.' in key}
    for name, value in values.items():
        if name not in given and not files.changes({name: value}):
            same = {
                path: value
                for path in keys_like(name, files.config[name], files.config)
                if path[0] in files.read
            }
            raise RunError(
                f'--cfg-options {name}: no run reads it, and no key of this '
                'config is computed from it. Override the keys themselves; '
                'with its name or value there are: '
                f'{options_text(same) or "none"}.')
    found = files.changes(values) if values else {}
    if found:
        print_log(
            f'--cfg-options {", ".join(values)}: this also sets '
            f'{options_text(found)}', 'current')
    return found


def differences(old: Any, new: Any,
                path: KeyPath = ()) -> Iterator[Tuple[KeyPath, Any]]:
    """Paths of what is other in ``new``, and its values there."""
    if isinstance(old, list) and isinstance(
            new, list) and len(old) == len(new) and all(
                isinstance(v, (dict, list)) for v in old + new):
        old, new = dict(enumerate(old)), dict(enumerate(new))
    if isinstance(old, dict) and isinstance(new, dict):
        for key, value in new.items():
            yield from differences(old.get(key), value, (*path, key))
    elif old != new:
        yield path, new


def keys_like(name: str, value: Any, node: Any,
              path: KeyPath = ()) -> Iterator[KeyPath]:
    """Paths that end in a name or lead to a value, in nested dicts and
    lists."""
    if node == value or path[-1:] == (name, ):
        yield path
    elif isinstance(node, (dict, list)):
        items = node.items() if isinstance(node, dict) else enumerate(node)
        for key, item in items:
            yield from keys_like(name, value, item, (*path, key))


def options_text(found: Dict[KeyPath, Any]) -> str:
    """Keys and values as ``--cfg-options`` take them; the key alone where
    they do not take the value."""
    texts = [('.'.join(map(str, path)), str(value).replace(' ', ''))
             for path, value in found.items()]
    return ' '.join(key if '{' in value else f'{key}={value}'
                    for key, value in texts)
