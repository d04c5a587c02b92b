"""Metrics: the built-in ones by name, and a project's own."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from penstock.spec.functions import load_function, place_of_error
from penstock.spec.loading import LoadedProject
from penstock.spec.project import Model, Task
from penstock.training.errors import TrainingError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import ArrayLike

Metric = Callable[["np.ndarray", "np.ndarray"], float]

CLASSIFICATION = ("log_loss", "roc_auc", "average_precision", "brier_score", "accuracy")
REGRESSION = ("rmse", "mae", "r2")
_LOWER_IS_BETTER = {"log_loss", "brier_score", "rmse", "mae"}
_NEED_BOTH_CLASSES = {"roc_auc", "average_precision"}
UNDEFINED = (ValueError, ZeroDivisionError, FloatingPointError)
"""What a metric raises for rows that do not define it, of one class only, say. Anything else is its fault."""


@dataclass(frozen=True)
class MetricValues:
    """The metrics of some predictions, and the names of those that they do not allow, with the reason."""

    values: dict[str, float]
    left_out: dict[str, str]


def metric_names(model: Model) -> list[str]:
    """The metrics of a model: those of its task, then its own."""
    built_in = CLASSIFICATION if model.training.task is Task.CLASSIFICATION else REGRESSION
    return [*built_in, *(name for name in model.training.metrics if name not in built_in)]


def is_lower_better(model: Model, name: str) -> bool:
    """Whether less of a metric is better. Raises TrainingError for a metric that the model does not have."""
    _check_known(model, name)
    if name in model.training.metrics:
        return name in model.training.lower_is_better
    return name in _LOWER_IS_BETTER


def metric_function(project: LoadedProject, model: Model, name: str) -> Metric:
    """The function(label, prediction) -> float of a metric; both arrays are float64 of length n > 0.

    A project's own metric goes before a built-in one of the same name. Where it fails otherwise than by one of
    UNDEFINED, it raises TrainingError, which names metric and file. Raises TrainingError for an unknown name,
    SpecError where the project's function cannot be imported.
    """
    _check_known(model, name)
    own = model.training.metrics.get(name)
    if own is not None:
        return _own(project, name, own)
    return lambda label, prediction: _built_in(name, label, prediction)


def evaluate_metrics(
    project: LoadedProject,
    model: Model,
    label: "ArrayLike",
    prediction: "ArrayLike",
    names: list[str] | None = None,
) -> MetricValues:
    """The metrics (all by default) of n labels and n predictions.

    A metric is left out, with the reason, where it is not defined: no rows, one class only, a result that
    is no finite number, or a function of the project's own that raises one of UNDEFINED.
    Raises TrainingError where the lengths differ, and where a function of the project's own fails otherwise.
    """
    import numpy as np

    labels, predictions = np.asarray(label, dtype="float64"), np.asarray(prediction, dtype="float64")
    if labels.shape != predictions.shape:
        raise TrainingError(f"{labels.shape} labels but {predictions.shape} predictions: give one for each row")
    values: dict[str, float] = {}
    left_out: dict[str, str] = {}
    for name in names if names is not None else metric_names(model):
        reason = _why_undefined(name, model, labels, predictions)
        if reason is None:
            value, reason = _measure(project, model, name, labels, predictions)
        if reason is None:
            values[name] = value
        else:
            left_out[name] = reason
    return MetricValues(values, left_out)


def _why_undefined(name: str, model: Model, label: "np.ndarray", prediction: "np.ndarray") -> str | None:
    import numpy as np

    if not len(label):
        return "there are no labelled rows"
    bad = int((~np.isfinite(prediction)).sum() + (~np.isfinite(label)).sum())
    if bad:
        return f"{bad} of {len(label)} labels or predictions are null or infinite"
    if name in model.training.metrics:
        return None
    if name in _NEED_BOTH_CLASSES and len(np.unique(label)) < 2:
        return f"all {len(label)} labels are {label[0]:g}"
    if name == "r2" and len(np.unique(label)) < 2:
        return f"all {len(label)} labels are equal"
    return None


def _measure(
    project: LoadedProject, model: Model, name: str, label: "np.ndarray", prediction: "np.ndarray"
) -> tuple[float, str | None]:
    """A metric's value, and why it has none."""
    try:
        value = metric_function(project, model, name)(label, prediction)
    except UNDEFINED as error:
        own = model.training.metrics.get(name)
        where = f" ({place_of_error(project, own, error)})" if own is not None else ""
        return math.nan, f"it raised {type(error).__name__}: {error}{where}"
    return value, None if math.isfinite(value) else f"its result is {value}"


def _own(project: LoadedProject, name: str, dotted_name: str) -> Metric:
    function = load_function(project, dotted_name)

    def metric(label: "np.ndarray", prediction: "np.ndarray") -> float:
        try:
            return float(function(label, prediction))
        except UNDEFINED:
            raise
        except Exception as error:  # a project's own code may raise anything
            raise TrainingError(
                f"{project.folder / place_of_error(project, dotted_name, error)}: the metric {name!r} failed on "
                f"{len(label)} rows: {type(error).__name__}: {error}. Correct it; for rows that do not define it (of "
                "one class only, say) let it raise ValueError"
            ) from error

    return metric


def _built_in(name: str, label: "np.ndarray", prediction: "np.ndarray") -> float:
    import numpy as np
    from sklearn import metrics

    functions: dict[str, Callable[[], float]] = {
        "log_loss": lambda: metrics.log_loss(label, prediction, labels=[0.0, 1.0]),
        "roc_auc": lambda: metrics.roc_auc_score(label, prediction),
        "average_precision": lambda: metrics.average_precision_score(label, prediction),
        "brier_score": lambda: np.mean((prediction - label) ** 2),
        "accuracy": lambda: np.mean((prediction >= 0.5) == (label > 0.5)),
        "rmse": lambda: np.sqrt(np.mean((prediction - label) ** 2)),
        "mae": lambda: np.mean(np.abs(prediction - label)),
        "r2": lambda: 1 - np.sum((label - prediction) ** 2) / np.sum((label - label.mean()) ** 2),
    }
    return float(functions[name]())


def _check_known(model: Model, name: str) -> None:
    if name not in (known := metric_names(model)):
        raise TrainingError(
            f"unknown metric {name!r} for {model.training.task}: use one of {', '.join(known)}, "
            "or declare your own under training.metrics"
        )
