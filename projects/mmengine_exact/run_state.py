"""What else of a checkpoint than its weights must fit the run at hand.

Resume     MMEngine takes the state of the run as it is: an average of another
           shape fails in the first step, a missing schedule starts again at
           its beginning without a word.
Evaluate   A model whose config or classes differ from those of its training
           gets a warning.
"""
import ast
import json
from typing import Any, Iterator, List, Optional, Tuple

from mmengine.optim import OptimWrapper
from torch import nn

from .errors import CheckpointError
from .match import RESUME, MatchReport, require

#: Averages of SGD and of Adam's kind; they have their parameter's shape.
_AVERAGES = ('momentum_buffer', 'exp_avg', 'exp_avg_sq', 'max_exp_avg_sq')
_FIX = ('Resume with the config that wrote it, or use it as load_from to '
        'fine-tune.')
#: Parts of ``model`` that may differ between training and a test.
_MAY_DIFFER = ('init_cfg', 'train_cfg', 'loss_weights')
_SHOWN = 6


def misfit(filename: str, what: object) -> CheckpointError:
    """The error of an optimizer or schedule that is not the run's."""
    return CheckpointError(f'Checkpoint {filename}: its optimizer or schedule '
                           f'does not fit the config ({what}). {_FIX}')


def require_run_state(checkpoint: dict, filename: str,
                      scheduled: bool) -> None:
    """A resume needs more than weights.

    Raises:
        CheckpointError: The file lacks the iteration, the optimizer, the
            schedule or what the loggers know.
    """
    meta = checkpoint.get('meta') or {}
    meta.pop('config', None)  # MMEngine would run that text
    needed = dict(
        meta='iteration',
        optimizer='optimizer state (a best or published checkpoint)',
        message_hub='message_hub, which the loggers continue')
    if scheduled:
        needed['param_schedulers'] = 'state of the schedule'
    lacking = [text for key, text in needed.items() if key not in checkpoint]
    if lacking or 'iter' not in meta:
        raise CheckpointError(
            f'Checkpoint {filename} cannot be resumed: it has no '
            f'{(lacking or ["iteration"])[0]}. Resume from iter_N.pth, or use '
            'it as load_from to fine-tune.')


def require_schedules(saved: Any, own: Any, filename: str) -> None:
    """A checkpoint has a state for each schedule; MMEngine pairs them in
    order and ignores those that are left over.

    Raises:
        CheckpointError: There is another number of them, or their kinds
            differ.
    """
    names = own if isinstance(own, dict) else [None]
    for name in names:
        states = saved if name is None else saved[name]
        schedules = own if name is None else own[name]
        if len(states) != len(schedules) or any(
                set(state) != set(schedule.state_dict())
                for state, schedule in zip(states, schedules)):
            raise misfit(
                filename, f'it has {len(states)} states of param_scheduler, '
                f'the config {len(schedules)} entries, or of other kinds')


def require_fitting_averages(wrapper: Any, filename: str) -> None:
    """The averages of an optimizer have the shapes of its parameters.

    Raises:
        CheckpointError: They are of another model.
    """
    wrappers = [wrapper] if isinstance(
        wrapper, OptimWrapper) else [one for _, one in wrapper.items()]
    states = [item for one in wrappers for item in one.optimizer.state.items()]
    for parameter, values in states:
        for name in _AVERAGES:
            shape = getattr(values.get(name), 'shape', parameter.shape)
            if shape != parameter.shape:
                raise misfit(
                    filename, f'{name} has shape {tuple(shape)} for a '
                    f'parameter of shape {tuple(parameter.shape)}')


def require_ema(checkpoint: dict, model: nn.Module, hooked: bool,
                filename: str) -> None:
    """With EMAHook the weights of a file are averages, which the hook swaps
    for those of the run.

    Raises:
        CheckpointError: There is no such hook to do so, or shapes differ.
    """
    if 'ema_state_dict' not in checkpoint:
        return
    if not hooked:
        raise CheckpointError(
            f'Checkpoint {filename} was written with EMAHook: its weights are '
            'averages, from which no run continues. Resume with EMAHook in '
            'custom_hooks, or use it as load_from to fine-tune.')
    report = MatchReport()
    for key, own in model.state_dict().items():
        for state, name in ((checkpoint['state_dict'], key),
                            (checkpoint['ema_state_dict'], f'module.{key}')):
            if name not in state:
                report.missing.append(name)
            elif state[name].shape != own.shape:
                report.mismatched[name] = (state[name].shape, own.shape)
    require(report, RESUME, filename)


def stream_warning(former: Optional[dict], current: dict, scaled: bool,
                   filename: str) -> str:
    """Compare what else than the seed decides which images a batch holds.

    Returns:
        str: A warning; empty where both are equal, or the first not known.

    Raises:
        CheckpointError: The schedule is scaled to another batch.
    """
    if former is None or former == current:
        return ''
    both = f'{filename} was written with {former}, this run has {current}: '
    if scaled and former.get('images_per_iteration') \
            != current['images_per_iteration']:
        raise CheckpointError(
            f'{both}its learning rate and milestones are of another batch '
            'than --auto-scale-lr scales to. Resume with the same number of '
            'images per iteration.')
    return (f'{both}it continues at the same iteration, with other images '
            'than the former run would have seen.')


class _DictCalls(ast.NodeTransformer):
    """Turns ``dict(a=1)`` into ``{'a': 1}``, which is a literal."""

    def visit_Call(self, node: ast.Call) -> ast.AST:
        self.generic_visit(node)
        if getattr(node.func, 'id', '') != 'dict' or node.args:
            return node
        return ast.Dict([ast.Constant(item.arg) for item in node.keywords],
                        [item.value for item in node.keywords])


def stored_config(text: Any) -> dict:
    """Values of a config's text, as checkpoints hold it.

    Nothing is executed: literals and ``dict(...)`` are understood, other
    values are left out.
    """
    found = {}
    try:
        tree = _DictCalls().visit(ast.parse(text))
    except (SyntaxError, ValueError, TypeError, RecursionError, MemoryError):
        return {}
    for node in tree.body:
        try:
            found[node.targets[0].id] = ast.literal_eval(node.value)
        except (AttributeError, ValueError, TypeError, RecursionError):
            continue  # no assignment, or no literal
    return found


def _flat(value: Any, key: str) -> Iterator[Tuple[str, Any]]:
    """Dotted keys and values; tuples are lists after a config was written
    and read."""
    if isinstance(value, dict) and value:
        for name, item in value.items():
            if name not in _MAY_DIFFER:
                yield from _flat(item, f'{key}.{name}')
    else:
        yield key, json.loads(json.dumps(value, default=str))


def model_warning(text: Any, model: dict, source: str) -> str:
    """Compare the model's config with that of its training.

    Returns:
        str: A warning; empty without a difference or a stored config.
    """
    stored = stored_config(text).get('model')
    then, now = dict(_flat(stored, 'model')), dict(_flat(model, 'model'))
    found = [key for key in {**then, **now} if then.get(key) != now.get(key)]
    if stored is None or not found:
        return ''
    shown = '; '.join(
        f'{key}: {then.get(key)!r} then, {now.get(key)!r} now'[:160]
        for key in found[:_SHOWN])
    more = len(found) - _SHOWN
    return (f'{source} was trained with another model config: {shown}'
            f'{f"; and {more} more" if more > 0 else ""}. Scores may differ '
            'from those of its training; test with its own config, or see '
            'whether the change is meant.')


def classes_warning(then: Optional[dict], now: Optional[dict],
                    source: str) -> str:
    """Compare the classes of the data with those of the training.

    Returns:
        str: A warning; empty where names and order are the same, or not
        known.
    """
    for key in ('thing_classes', 'stuff_classes', 'classes'):
        a, b = (then or {}).get(key), (now or {}).get(key)
        if not isinstance(a, (list, tuple)) or b is None or list(a) == list(b):
            continue
        sides: List[list] = [[*a, 'nothing'], [*b, 'nothing']]
        index = next(i for i, pair in enumerate(zip(*sides))
                     if pair[0] != pair[1])
        return (f'{source} was trained on other classes than the data have: '
                f'{len(a)} and {len(b)} {key}, and number {index} is '
                f'{sides[0][index]!r} in training and {sides[1][index]!r} in '
                'the data. Its scores mean little unless these are names of '
                'one thing.')
    return ''
