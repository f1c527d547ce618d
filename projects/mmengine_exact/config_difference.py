"""The config that a checkpoint was trained with against the one at hand."""
import ast
from typing import Any, Iterator, Optional, Tuple

#: Parts of ``model`` that may differ between training and a test.
_MAY_DIFFER = ('init_cfg', 'train_cfg', 'loss_weights')


def stored_config(text: Any) -> dict:
    """Values of a config's text, as checkpoints hold it.

    Nothing is executed: literals and ``dict(...)`` are understood, other
    values are left out.

    Args:
        text (Any): Python, of mmengine's ``Config.pretty_text``; anything but
            a string has no values.
    """
    if not isinstance(text, str):
        return {}
    try:
        tree = ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return {}
    found = {}
    for node in tree.body:
        if isinstance(node, ast.Assign) and isinstance(node.targets[0],
                                                       ast.Name):
            try:
                found[node.targets[0].id] = _value(node.value)
            except (ValueError, TypeError, RecursionError):
                continue
    return found


def _value(node: Optional[ast.AST]) -> Any:
    """Raises:
        ValueError: Neither a literal nor ``dict(...)``.
    """
    if isinstance(node, ast.Call):
        named = [keyword for keyword in node.keywords if keyword.arg]
        if getattr(node.func, 'id',
                   '') != 'dict' or node.args or len(named) < len(
                       node.keywords):
            raise ValueError
        return {keyword.arg: _value(keyword.value) for keyword in named}
    if isinstance(node, (ast.List, ast.Tuple)):
        return [_value(item) for item in node.elts]
    if isinstance(node, ast.Dict):
        return {
            _value(key): _value(value)
            for key, value in zip(node.keys, node.values)
        }
    if node is None:  # of **names
        raise ValueError
    return ast.literal_eval(node)


def differences(then: dict,
                now: dict,
                prefix: str = '') -> Iterator[Tuple[str, Any, Any]]:
    """(dotted key, then, now) wherever nested values differ; None: absent."""
    for key in sorted({*then, *now}, key=str):
        if key in _MAY_DIFFER:
            continue
        a, b = then.get(key), now.get(key)
        if isinstance(a, dict) and isinstance(b, dict):
            yield from differences(a, b, f'{prefix}{key}.')
        elif _plain(a) != _plain(b):
            yield f'{prefix}{key}', a, b


def _plain(value: Any) -> Any:
    """Tuples are lists after a config was written and read."""
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return value


def model_warning(text: Any, model: dict, source: str) -> str:
    """What to tell of a checkpoint whose model was configured otherwise.

    Args:
        text (Any): ``meta['cfg']`` of the checkpoint, a string if it is well.
        model (dict): ``model`` of the config at hand.
        source (str): The checkpoint's file.

    Returns:
        str: Empty without a difference, or without a stored config.
    """
    then = stored_config(text).get('model')
    if not isinstance(then, dict):
        return ''
    found = list(differences(then, model, 'model.'))
    if not found:
        return ''
    shown = '; '.join(f'{key}: {a!r} then, {b!r} now'[:160]
                      for key, a, b in found[:6])
    more = f'; and {len(found) - 6} more' if len(found) > 6 else ''
    return (f'{source} was trained with another model config: {shown}{more}. '
            'Scores may differ from those of its training; test with its own '
            'config, or see whether the change is meant.')


def classes_warning(then: Optional[dict], now: Optional[dict],
                    source: str) -> str:
    """What to tell of a checkpoint that was trained on other classes.

    Args:
        then (dict): ``dataset_meta`` of the checkpoint.
        now (dict): ``metainfo`` of the data set at hand.
        source (str): The checkpoint's file.

    Returns:
        str: Empty where names and order are the same, or not known.
    """
    for key in ('thing_classes', 'stuff_classes', 'classes'):
        a, b = (then or {}).get(key), (now or {}).get(key)
        if not isinstance(a, (list, tuple)) or b is None or list(a) == list(b):
            continue
        place = next(
            (i for i, pair in enumerate(zip(a, b)) if pair[0] != pair[1]),
            min(len(a), len(b)))
        names = [
            str(side[place]) if place < len(side) else 'nothing'
            for side in (list(a), list(b))
        ]
        return (f'{source} was trained on other classes than the data have: '
                f'{len(a)} and {len(b)} {key}, and number {place} is '
                f'{names[0]!r} in training and {names[1]!r} in the data. Its '
                'scores mean little unless these are names of one thing.')
    return ''
