"""Scores of single classes: ``{class: {score: value}}``.

Metrics keep theirs in ``by_class`` after an evaluation, on the first process;
the evaluator merges them for ``metrics.json``. Units are those of the flat
scores: PQ and IoU in percent, AP as a fraction; NaN where there is nothing to
judge.
"""
from typing import Any, Dict, Iterable, Mapping, Sequence

ByClass = Dict[str, Dict[str, float]]


def scores_by_class(names: Sequence[str],
                    columns: Mapping[str, Iterable[float]]) -> ByClass:
    """Columns of scores as one dict for each class.

    Args:
        names (Sequence[str]): Names of the n classes.
        columns (dict): Score -> n values.
    """
    return {
        name: {
            key: float(value)
            for key, value in zip(columns, values)
        }
        for name, *values in zip(names, *columns.values())
    }


def merge_by_class(metrics: Iterable[Any]) -> ByClass:
    """What several metrics know about each class, in the order they know it.

    Args:
        metrics (Iterable): Metrics; those without ``by_class`` add nothing.
    """
    merged: ByClass = {}
    for metric in metrics:
        for name, scores in getattr(metric, 'by_class', {}).items():
            merged.setdefault(name, {}).update(scores)
    return merged
