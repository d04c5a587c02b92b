"""The built-in metrics of many resamples at once: each row counts as often as it was drawn."""

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

Weighted = Callable[["np.ndarray"], "np.ndarray"]


def weighted_metric(name: str, label: "np.ndarray", prediction: "np.ndarray") -> Weighted:
    """A function of counts (r, n) that answers the metric (r,) of r resamples of these n rows; NaN where undefined.

    With counts of 1 it is the metric that penstock.training.metrics computes.
    """
    if name in ("roc_auc", "average_precision"):
        return _roc_auc(label, prediction) if name == "roc_auc" else _average_precision(label, prediction)
    if name == "r2":
        return _r2(label, prediction)
    return _mean(row_losses(name, label, prediction), root=name == "rmse")


def row_losses(name: str, label: "np.ndarray", prediction: "np.ndarray") -> "np.ndarray":
    """What each row adds (n,) to a metric that is a mean over rows (rmse: the squared error, before the root)."""
    import numpy as np

    if name == "log_loss":
        said = np.clip(prediction, np.finfo("float64").eps, 1 - np.finfo("float64").eps)  # as scikit-learn does
        return -np.log(np.where(label > 0.5, said, 1 - said))
    if name in ("brier_score", "rmse"):
        return (prediction - label) ** 2
    if name == "accuracy":
        return ((prediction >= 0.5) == (label > 0.5)).astype("float64")
    if name == "mae":
        return np.abs(prediction - label)
    raise KeyError(name)


def _mean(losses: "np.ndarray", *, root: bool) -> Weighted:
    import numpy as np

    def measure(counts: "np.ndarray") -> "np.ndarray":
        means = counts @ losses / counts.sum(axis=1)
        return np.sqrt(means) if root else means

    return measure


def _r2(label: "np.ndarray", prediction: "np.ndarray") -> Weighted:
    import numpy as np

    middle = label - label.mean()  # small numbers: the difference of sums of squares stays exact
    parts = np.column_stack([(label - prediction) ** 2, middle**2, middle])

    def measure(counts: "np.ndarray") -> "np.ndarray":
        error, squares, total = (counts @ parts).T
        spread = squares - total**2 / counts.sum(axis=1)
        return _ratio(spread - error, spread)

    return measure


def _roc_auc(label: "np.ndarray", prediction: "np.ndarray") -> Weighted:
    """The share of pairs (label 1, label 0) in which the first has the greater prediction, ties half."""
    import numpy as np

    order, starts, positive = _tied_groups(label, prediction, ascending=True)

    def measure(counts: "np.ndarray") -> "np.ndarray":
        hits, misses = _sums(counts[:, order], positive, starts)
        below = np.cumsum(misses, axis=1) - misses / 2
        return _ratio((hits * below).sum(axis=1), hits.sum(axis=1) * misses.sum(axis=1))

    return measure


def _average_precision(label: "np.ndarray", prediction: "np.ndarray") -> Weighted:
    """The mean of the precisions at each threshold, by the rise of recall there."""
    import numpy as np

    order, starts, positive = _tied_groups(label, prediction, ascending=False)

    def measure(counts: "np.ndarray") -> "np.ndarray":
        hits, misses = _sums(counts[:, order], positive, starts)
        above = np.cumsum(hits, axis=1)
        precision = above / np.maximum(above + np.cumsum(misses, axis=1), 1)
        return _ratio((hits * precision).sum(axis=1), above[:, -1])

    return measure


def _tied_groups(
    label: "np.ndarray", prediction: "np.ndarray", *, ascending: bool
) -> tuple["np.ndarray", "np.ndarray", "np.ndarray"]:
    """Rows by prediction: their order, where each group of equal predictions starts, and which have label 1."""
    import numpy as np

    order = np.argsort(prediction if ascending else -prediction, kind="stable")
    ordered = prediction[order]
    starts = np.flatnonzero(np.concatenate([[True], ordered[1:] != ordered[:-1]]))
    return order, starts, label[order] > 0.5


def _sums(counts: "np.ndarray", positive: "np.ndarray", starts: "np.ndarray") -> tuple["np.ndarray", "np.ndarray"]:
    import numpy as np

    return np.add.reduceat(counts * positive, starts, axis=1), np.add.reduceat(counts * ~positive, starts, axis=1)


def _ratio(numerator: "np.ndarray", denominator: "np.ndarray") -> "np.ndarray":
    import numpy as np

    return np.divide(numerator, denominator, out=np.full(len(numerator), np.nan), where=denominator > 0)
