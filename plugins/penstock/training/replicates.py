"""A metric over many bootstrap draws at once: arrays instead of a loop, except for a project's own metrics."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from penstock.spec.loading import LoadedProject
from penstock.spec.project import Model
from penstock.training.metrics import UNDEFINED, Metric, metric_function
from penstock.training.units import MOST_GROUPS, Units

if TYPE_CHECKING:
    import numpy as np

Replicate = Callable[["np.ndarray"], "np.ndarray"]
"""(r, count) draws of units -> r values of a metric; NaN where a draw does not define it."""

MOST_UNDEFINED = 0.05
"""Draws say nothing about a metric that is not defined in a greater share of them."""
LEAST_REPEATS = 200
_MOST_OWN_ROWS = 20_000_000  # rows that a metric of the project's own sees in all draws of a comparison together
_NO_SPREAD = 1e-12  # of the labels' squares: less than that is what sums of floats leave over


def repeats_of(model: Model, metric: str, rows: int) -> int:
    """How many draws a comparison gives a metric: those declared, and fewer for a Python function on many rows.

    A function of the number of rows alone, never of the time that it took: the same comparison again must
    give the same figures.
    """
    if metric not in model.training.metrics:
        return model.promotion.repeats
    return min(model.promotion.repeats, max(LEAST_REPEATS, _MOST_OWN_ROWS // max(rows, 1)))


def replicate(
    project: LoadedProject, model: Model, metric: str, label: "np.ndarray", prediction: "np.ndarray", units: Units
) -> Replicate:
    """The metric of n labels and predictions (float64) as a function of draws.

    With each unit drawn once it is the metric that penstock.training.metrics computes. Raises TrainingError, when it
    is asked, where a metric of the project's own fails; where one says by a ValueError, ZeroDivisionError or
    FloatingPointError that it is not defined, the value is NaN.
    """
    if metric in model.training.metrics:
        return _own(metric_function(project, model, metric), label, prediction, units)
    if metric in _BY_RANK:
        return _BY_RANK[metric](label, prediction, units)
    if metric == "r2":
        return _r2(label, prediction, units)
    return _mean(row_losses(metric, label, prediction), units, root=metric == "rmse")


def row_losses(metric: str, label: "np.ndarray", prediction: "np.ndarray") -> "np.ndarray":
    """What each row adds (n,) to a metric that is a mean over rows (rmse: the squared error, before the root)."""
    import numpy as np

    if metric == "log_loss":
        least = np.finfo("float64").eps  # as scikit-learn does
        sure = np.clip(prediction, least, 1 - least)
        return -np.where(label > 0.5, np.log(sure), np.log1p(-sure))
    if metric in ("brier_score", "rmse"):
        return (prediction - label) ** 2
    if metric == "accuracy":
        return ((prediction >= 0.5) == (label > 0.5)).astype("float64")
    if metric == "mae":
        return np.abs(prediction - label)
    raise KeyError(metric)


def _mean(losses: "np.ndarray", units: Units, *, root: bool) -> Replicate:
    import numpy as np

    sums = np.bincount(units.codes, weights=losses, minlength=units.count)

    def values(draws: "np.ndarray") -> "np.ndarray":
        means = draws @ sums / (draws @ units.sizes)
        return np.sqrt(means) if root else means

    return values


def _r2(label: "np.ndarray", prediction: "np.ndarray", units: Units) -> Replicate:
    import numpy as np

    middle = label - label.mean()  # of labels far from 0, squares would lose what differs
    parts = ((label - prediction) ** 2, middle**2, middle)
    sums = np.column_stack([np.bincount(units.codes, weights=part, minlength=units.count) for part in parts])

    def values(draws: "np.ndarray") -> "np.ndarray":
        missed, squares, total = (draws @ sums).T
        spread = squares - total**2 / (draws @ units.sizes)
        return _ratio(spread - missed, np.where(spread > _NO_SPREAD * squares, spread, 0.0))

    return values


def _roc_auc(label: "np.ndarray", prediction: "np.ndarray", units: Units) -> Replicate:
    """The share of pairs of a positive and a negative that are in the right order; ties count half."""
    by_pairs = units.count <= MOST_GROUPS
    return _auc_by_pairs(label, prediction, units) if by_pairs else _auc_by_rows(label, prediction, units)


def _auc_by_pairs(label: "np.ndarray", prediction: "np.ndarray", units: Units) -> Replicate:
    """won[a, b]: pairs of a positive of unit a and a negative of unit b in the right order."""
    import numpy as np

    positive = label > 0.5
    order = np.argsort(prediction[positive])  # sorted values are found several times faster
    codes, scores = units.codes[positive][order], prediction[positive][order]
    won = np.zeros((units.count, units.count))
    for unit in range(units.count):
        negatives = np.sort(prediction[~positive & (units.codes == unit)])
        below = np.searchsorted(negatives, scores, "left") + np.searchsorted(negatives, scores, "right")
        won[:, unit] = np.bincount(codes, weights=below / 2, minlength=units.count)
    positives = np.bincount(codes, minlength=units.count).astype("float64")
    negatives_of = units.sizes - positives

    def values(draws: "np.ndarray") -> "np.ndarray":
        return _ratio(((draws @ won) * draws).sum(axis=1), (draws @ positives) * (draws @ negatives_of))

    return values


def _auc_by_rows(label: "np.ndarray", prediction: "np.ndarray", units: Units) -> Replicate:
    import numpy as np

    ranked = _ranked(label, prediction, units, ascending=True)

    def values(draws: "np.ndarray") -> "np.ndarray":
        hits, misses = ranked(draws)
        below = np.cumsum(misses, axis=1) - misses / 2
        return _ratio((hits * below).sum(axis=1), hits.sum(axis=1) * misses.sum(axis=1))

    return values


def _average_precision(label: "np.ndarray", prediction: "np.ndarray", units: Units) -> Replicate:
    """The mean of the precisions at each threshold, by the rise of recall there; ties are one threshold."""
    import numpy as np

    ranked = _ranked(label, prediction, units, ascending=False)

    def values(draws: "np.ndarray") -> "np.ndarray":
        hits, misses = ranked(draws)
        above = np.cumsum(hits, axis=1)
        precision = above / np.maximum(above + np.cumsum(misses, axis=1), 1)
        return _ratio((hits * precision).sum(axis=1), above[:, -1])

    return values


def _ranked(
    label: "np.ndarray", prediction: "np.ndarray", units: Units, *, ascending: bool
) -> Callable[["np.ndarray"], tuple["np.ndarray", "np.ndarray"]]:
    """A function of draws: how often rows of label 1, and of label 0, were drawn at each distinct prediction."""
    import numpy as np

    order = np.argsort(prediction if ascending else -prediction, kind="stable")
    ordered = prediction[order]
    codes, positive = units.codes[order], label[order] > 0.5
    starts = np.flatnonzero(np.concatenate([[True], ordered[1:] != ordered[:-1]]))

    def counts(draws: "np.ndarray") -> tuple["np.ndarray", "np.ndarray"]:
        weight = draws[:, codes]
        hits = np.add.reduceat(weight * positive, starts, axis=1)
        return hits, np.add.reduceat(weight * ~positive, starts, axis=1)

    return counts


def _own(metric: Metric, label: "np.ndarray", prediction: "np.ndarray", units: Units) -> Replicate:
    """A Python function has to be called once a draw, on the drawn rows."""
    import numpy as np

    def value(draw: "np.ndarray") -> float:
        rows = np.repeat(np.arange(len(label)), draw[units.codes].astype("int64"))
        try:
            return metric(label[rows], prediction[rows])
        except UNDEFINED:  # on such rows it is not defined; on all rows it was
            return float("nan")

    return lambda draws: np.array([value(draw) for draw in draws])


def _ratio(numerator: "np.ndarray", denominator: "np.ndarray") -> "np.ndarray":
    import numpy as np

    return np.divide(numerator, denominator, out=np.full(len(numerator), np.nan), where=denominator > 0)


_BY_RANK = {"roc_auc": _roc_auc, "average_precision": _average_precision}
