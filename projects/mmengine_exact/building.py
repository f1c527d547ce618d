"""What a config's mistakes become: one line with the key and the fix.

MMEngine builds by name and passes values on, so that a mistake in a config is
an error of some class, deep below. The config's entry is found again in the
frames of the traceback. The traceback itself stays the error's ``__cause__``:
tools print it, too, where the code that failed is the user's own, or with
``PANOPTIC_TRACEBACK=1``.
"""
import difflib
import inspect
import os
import re
import sysconfig
import traceback
from contextlib import contextmanager
from pathlib import Path
from traceback import walk_tb
from typing import Any, Iterator, List, Optional, Sequence, Tuple

from mmengine.config import Config

from .errors import ConfigError
from .failures import explain

#: Set to 1: tools print the traceback of each error.
VARIABLE = 'PANOPTIC_TRACEBACK'
_PACKAGE = Path(__file__).resolve().parents[1]
#: Arguments of MMEngine's builders that are entries of a config.
_ENTRIES = ('cfg', 'dataloader', 'loop', 'hook', 'scheduler', 'optim_wrapper',
            'evaluator', 'metric', 'model', 'visualizer', 'log_processor',
            'custom_hooks', 'default_hooks')


@contextmanager
def building(cfg: Config, *keys: str) -> Iterator[None]:
    """Errors inside name the config and the entry that was being built.

    Args:
        cfg (Config): Of the run.
        *keys (str): Its entries that are built inside.

    Raises:
        ConfigError: In the place of any error that is not this project's own
            or the system's.
    """
    try:
        yield
    except Exception as error:
        if explain(error) is not None:
            raise
        raise ConfigError(describe(error, cfg, keys)) from error


def describe(error: BaseException, cfg: Config, keys: Sequence[str]) -> str:
    """One line: the config, the entry and what is wrong with it.

    Args:
        error (BaseException): With its traceback.
        cfg (Config): Of the run.
        keys (Sequence[str]): Entries that were being built.
    """
    key, entry, frame = _failing_entry(error, cfg, keys)
    name = cfg.filename or 'The config'
    kind = entry.get('type') if entry else None
    text = None
    if frame is not None and frame.f_code.co_name == 'build_from_cfg':
        text = _wrong_type(error, key, kind, frame) or _wrong_argument(
            error, key, frame)
    if text is None:
        shown = f' (type={kind})' if isinstance(kind, str) else ''
        text = (f'{key}{shown} cannot be built: {reason(error)}'
                f'{place(error)}. Correct it')
    return f'{name}: {text}. {hint()}'


def hint() -> str:
    return f'({VARIABLE}=1 shows the traceback.)'


def reason(error: BaseException) -> str:
    """Kind and first lines of an error, in one line."""
    text = str(error).strip()
    if 'Original Traceback' in text:  # of a worker of a loader
        text = text.splitlines()[-1].split(': ', 1)[-1]
    text = ' '.join(text.split())[:300].rstrip('. ')
    missing = re.fullmatch(r"'?ConfigDict'? object has no attribute '(\w+)'",
                           text)
    if missing:
        return f'{missing[1]} is not set'
    return f'{type(error).__name__}: {text}' if text else type(error).__name__


def place(error: BaseException) -> str:
    """File and line where an error arose, in brackets."""
    frames = list(walk_tb(error.__traceback__))
    if not frames:
        return ''
    frame, line = frames[-1]
    path = Path(frame.f_code.co_filename)
    return f' ({"/".join(path.parts[-3:])}:{line})'


def _failing_entry(
        error: BaseException, cfg: Config,
        keys: Sequence[str]) -> Tuple[str, Optional[dict], Optional[Any]]:
    """Dotted key of the entry, the entry and the builder's frame."""
    for frame, _ in reversed(list(walk_tb(error.__traceback__))):
        if '/mmengine/' not in Path(frame.f_code.co_filename).as_posix():
            continue
        for name in _ENTRIES:
            entry = frame.f_locals.get(name)
            if not isinstance(entry, dict) or isinstance(entry, Config):
                continue
            key = _locate(entry, cfg, keys)
            if key is not None:
                return key, entry, frame
    return ', '.join(keys), None, None


def _entries(value: Any, key: str) -> Iterator[Tuple[str, dict]]:
    if isinstance(value, dict):
        yield key, value
        for name, item in value.items():
            yield from _entries(item, f'{key}.{name}')
    elif isinstance(value, (list, tuple)):
        for i, item in enumerate(value):
            yield from _entries(item, f'{key}[{i}]')


def _locate(entry: dict, cfg: Config, keys: Sequence[str]) -> Optional[str]:
    """Where an entry stands in a config: builders add to it, or take away,
    so the most alike of its type counts."""
    best, found = 0.0, None
    for key in keys:
        for path, other in _entries(cfg.get(key), key):
            alike = _likeness(entry, other)
            if alike > best:
                best, found = alike, path
    return found


def _likeness(entry: dict, other: dict) -> float:
    if entry.get('type') != other.get('type'):
        return 0.0
    names = {*entry, *other}
    same = sum(
        name in entry and name in other and bool(entry[name] == other[name])
        for name in names)
    return (same + 0.5) / (len(names) + 0.5) if same else 0.0


def _wrong_type(error: BaseException, key: str, kind: Any,
                frame: Any) -> Optional[str]:
    """An entry without a type, or with one that nobody has registered."""
    if 'obj_cls' in frame.f_locals and \
            frame.f_locals['obj_cls'] is not None:
        return None
    registry = frame.f_locals.get('registry')
    if isinstance(error, KeyError) and kind is None:
        return f'{key} has no type. Set {key}.type'
    if not isinstance(error, KeyError) or not isinstance(kind, str):
        return None
    return unregistered(f'{key}.type', kind, registry)


def unregistered(key: str, kind: Any, registry: Any) -> str:
    """What to tell of a type that nobody has registered."""
    return (f'{key}={kind!r} is not registered as '
            f'{getattr(registry, "name", "such")}. '
            f'{_nearest(str(kind), _registered(registry))}Correct it; a class '
            'of your own has to be imported (custom_imports)')


def _registered(registry: Any) -> List[str]:
    names: List[str] = []
    while registry is not None:
        names += list(registry.module_dict)
        registry = registry.parent
    return names


def _wrong_argument(error: BaseException, key: str,
                    frame: Any) -> Optional[str]:
    """An argument that a class does not take, or one that it needs."""
    frames = [f for f, _ in walk_tb(error.__traceback__)]
    if not isinstance(error, TypeError) or frames[-1] is not frame:
        return None
    built = frame.f_locals.get('obj_cls')
    name = getattr(built, '__name__', str(built))
    unknown = re.search(r"unexpected keyword argument '(\w+)'", str(error))
    if unknown:
        return (f'{key}.{unknown[1]}: {name} takes no such argument. '
                f'{_nearest(unknown[1], _arguments(built))}Correct or remove '
                'it')
    missing = re.search(r'required positional arguments?: (.*)', str(error))
    if missing:
        return f'{key}: {name} needs {missing[1]}. Set it'
    return None


def _arguments(built: Any) -> List[str]:
    """Of a class and those that it passes the rest on to."""
    classes = inspect.getmro(built) if inspect.isclass(built) else [built]
    names: List[str] = []
    for one in classes:
        try:
            names += inspect.signature(one).parameters
        except (TypeError, ValueError):
            continue
    return names


def _nearest(name: str, names: Sequence[str]) -> str:
    found = difflib.get_close_matches(name, names, 1, 0.6)
    return f'Is {found[0]!r} meant? ' if found else ''


def print_traceback(error: BaseException) -> None:
    """The traceback of what a config's error was, where it is wanted: the
    code that failed is the user's own, or ``PANOPTIC_TRACEBACK=1``."""
    cause = error.__cause__ if isinstance(error, ConfigError) else None
    if os.environ.get(VARIABLE, '0') not in ('', '0'):
        cause = cause or error
    elif cause is None or not _is_own(cause):
        return
    traceback.print_exception(type(cause), cause, cause.__traceback__)


def _is_own(error: BaseException) -> bool:
    """Whether the innermost code is neither installed nor this project's, nor
    a config."""
    if 'Original Traceback' in str(error):  # of a worker of a loader
        files = re.findall(r'File "(.*?)", line', str(error))
    else:
        frames = [frame for frame, _ in walk_tb(error.__traceback__)]
        files = [frame.f_code.co_filename for frame in frames]
        if any(frame.f_code.co_name == '_file2dict' for frame in frames):
            return False  # a config, whose line the message names
    if not files or not os.path.isfile(files[-1]):
        return False
    path = Path(files[-1]).resolve()
    installed = [
        Path(sysconfig.get_path(name)).resolve()
        for name in ('stdlib', 'purelib', 'platlib')
    ]
    return not any(
        folder in path.parents
        for folder in (*installed, _PACKAGE, _PACKAGE.parents[1] / 'tools',
                       _PACKAGE.parents[1] / 'configs'))
