"""A metric over many bootstrap draws at once: arrays instead of a loop, except for a project's own metrics."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from penstock.spec.loading import LoadedProject
from penstock.spec.project import Model
from penstock.training.metrics import metric_function
from penstock.training.units import MOST_GROUPS, Units

if TYPE_CHECKING:
    import numpy as np

Replicate = Callable[["np.ndarray"], "np.ndarray"]
"""(r, count) draws of units -> r values of a metric; NaN where a draw does not define it."""

_MOST_OWN_ROWS = 20_000_000  # rows that a metric of the project's own sees in all draws together
LEAST_REPEATS = 200


def repeats_of(model: Model, metric: str, rows: int) -> int:
    """How many draws a metric gets: those declared, and fewer for a Python function on many rows.

    A function of the number of rows alone, never of the time that it took: the same comparison again must
    give the same figures.
    """
    if metric not in model.training.metrics:
        return model.promotion.repeats
    return min(model.promotion.repeats, max(LEAST_REPEATS, _MOST_OWN_ROWS // max(rows, 1)))


def replicate(
    project: LoadedProject, model: Model, metric: str, label: "np.ndarray", prediction: "np.ndarray", units: Units
) -> Replicate:
    """The metric of n labels and predictions (float64) as a function of draws."""
    if metric in model.training.metrics:
        return _own(metric_function(project, model, metric), label, prediction, units)
    return _BUILT_IN[metric](label, prediction, units)


def _mean(values: "np.ndarray", units: Units) -> Replicate:
    import numpy as np

    sums = np.bincount(units.codes, weights=values, minlength=units.count)
    return lambda draws: draws @ sums / (draws @ units.sizes)


def _log_loss(label: "np.ndarray", prediction: "np.ndarray", units: Units) -> Replicate:
    import numpy as np

    least = np.finfo("float64").eps
    sure = np.clip(prediction, least, 1 - least)
    return _mean(-np.where(label > 0.5, np.log(sure), np.log1p(-sure)), units)


def _accuracy(label: "np.ndarray", prediction: "np.ndarray", units: Units) -> Replicate:
    return _mean(((prediction >= 0.5) == (label > 0.5)).astype("float64"), units)


def _squared(label: "np.ndarray", prediction: "np.ndarray", units: Units) -> Replicate:
    return _mean((prediction - label) ** 2, units)


def _rmse(label: "np.ndarray", prediction: "np.ndarray", units: Units) -> Replicate:
    squared = _squared(label, prediction, units)
    return lambda draws: squared(draws) ** 0.5


def _mae(label: "np.ndarray", prediction: "np.ndarray", units: Units) -> Replicate:
    return _mean(abs(prediction - label), units)


def _r2(label: "np.ndarray", prediction: "np.ndarray", units: Units) -> Replicate:
    import numpy as np

    centred = label - label.mean()  # of labels far from 0, squares would lose what differs
    missed, square, level = _squared(label, prediction, units), _mean(centred**2, units), _mean(centred, units)

    def values(draws: "np.ndarray") -> "np.ndarray":
        with np.errstate(divide="ignore", invalid="ignore"):
            return 1 - missed(draws) / (square(draws) - level(draws) ** 2)

    return values


def _roc_auc(label: "np.ndarray", prediction: "np.ndarray", units: Units) -> Replicate:
    """The share of pairs of a positive and a negative that are in the right order; ties count half."""
    return (
        _auc_by_pairs(label, prediction, units)
        if units.count <= MOST_GROUPS
        else _auc_by_rows(label, prediction, units)
    )


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
        with np.errstate(divide="ignore", invalid="ignore"):
            return ((draws @ won) * draws).sum(axis=1) / ((draws @ positives) * (draws @ negatives_of))

    return values


def _auc_by_rows(label: "np.ndarray", prediction: "np.ndarray", units: Units) -> Replicate:
    import numpy as np

    order = np.argsort(prediction, kind="stable")
    codes, positive = units.codes[order], label[order] > 0.5
    starts = _tie_starts(prediction[order])

    def values(draws: "np.ndarray") -> "np.ndarray":
        weight = draws[:, codes]
        up = np.add.reduceat(weight * positive, starts, axis=1)
        down = np.add.reduceat(weight * ~positive, starts, axis=1)
        below = np.cumsum(down, axis=1) - down / 2
        with np.errstate(divide="ignore", invalid="ignore"):
            return (up * below).sum(axis=1) / (up.sum(axis=1) * down.sum(axis=1))

    return values


def _average_precision(label: "np.ndarray", prediction: "np.ndarray", units: Units) -> Replicate:
    """The mean precision at each positive, going down the predictions; ties are one threshold."""
    import numpy as np

    order = np.argsort(-prediction, kind="stable")
    codes, positive = units.codes[order], label[order] > 0.5
    starts = _tie_starts(prediction[order])

    def values(draws: "np.ndarray") -> "np.ndarray":
        weight = draws[:, codes]
        hits = np.add.reduceat(weight * positive, starts, axis=1)
        found, seen = np.cumsum(hits, axis=1), np.cumsum(np.add.reduceat(weight, starts, axis=1), axis=1)
        with np.errstate(divide="ignore", invalid="ignore"):
            precision = np.where(seen > 0, found / seen, 0.0)
            return (hits * precision).sum(axis=1) / found[:, -1]

    return values


def _tie_starts(ordered: "np.ndarray") -> "np.ndarray":
    """Where each run of equal predictions begins."""
    import numpy as np

    return np.flatnonzero(np.concatenate([[True], ordered[1:] != ordered[:-1]]))


def _own(
    metric: Callable[["np.ndarray", "np.ndarray"], float], label: "np.ndarray", prediction: "np.ndarray", units: Units
) -> Replicate:
    """A Python function has to be called once a draw, on the drawn rows."""
    import numpy as np

    def value(draw: "np.ndarray") -> float:
        rows = np.repeat(np.arange(len(label)), draw[units.codes].astype("int64"))
        try:
            return float(metric(label[rows], prediction[rows]))
        except Exception:  # on such rows it is not defined; on all rows it was
            return float("nan")

    return lambda draws: np.array([value(draw) for draw in draws])


_BUILT_IN: dict[str, Callable[["np.ndarray", "np.ndarray", Units], Replicate]] = {
    "log_loss": _log_loss, "roc_auc": _roc_auc, "average_precision": _average_precision, "brier_score": _squared,
    "accuracy": _accuracy, "rmse": _rmse, "mae": _mae, "r2": _r2,
}  # fmt: skip
