"""What a model reaches on rows that it has not seen: metrics with intervals, slices, calibration, threshold."""

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from penstock.spec.loading import LoadedProject
from penstock.spec.project import Model, Task
from penstock.training.blocks import LABEL, PREDICTION_TIME
from penstock.training.calibration import Calibration, calibrate
from penstock.training.errors import TrainingError
from penstock.training.intervals import Bootstrap, Interval, Intervals
from penstock.training.metrics import evaluate_metrics, metric_names
from penstock.training.replicates import row_losses
from penstock.training.slices import MOST_VALUES, Slice, is_cut, slice_rows
from penstock.training.threshold import ThresholdChoice, choose_threshold
from penstock.training.units import Units
from penstock.training.worst_slices import SliceSearch, find_worst_slices

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

_SLICE_REPEATS = 200
_MOST_SEARCHED_ROWS = 200_000
_RESIDUAL_QUANTILES = (0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99)


@dataclass(frozen=True)
class SliceResult:
    """A slice's metrics with their intervals. reason: why it, or one of its metrics, is not judged."""

    name: str
    column: str
    value: str
    rows: int
    label_mean: float
    prediction_mean: float
    metrics: dict[str, float]
    intervals: dict[str, Interval]
    reason: str = ""


@dataclass(frozen=True)
class EvaluationReport:
    """All that was measured on `rows` hold-out rows: JSON values, kept as evaluation/hold_out.json.

    metrics: what the model promises; heuristic: what `promotion.heuristic` reaches on the same rows. left_out and
    no_interval: metrics that have no value, or no interval, with the reason. drawn: what the bootstrap drew.
    threshold, calibration: of classifications. residual_quantiles: of predictions less labels, of regressions.
    searched_by: the loss by which the worst slices were searched. notes: what is missing in the report, and why.
    """

    rows: int
    window: tuple[str, str]
    metrics: dict[str, float]
    heuristic: dict[str, float]
    left_out: dict[str, str]
    intervals: dict[str, Interval]
    no_interval: dict[str, str]
    confidence: float
    drawn: str
    slices: tuple[SliceResult, ...]
    worst: SliceSearch
    searched_by: str
    threshold: ThresholdChoice | None = None
    calibration: Calibration | None = None
    residual_quantiles: dict[str, float] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @classmethod
    def from_dict(cls, values: object) -> "EvaluationReport":
        """From the content of evaluation/hold_out.json."""
        from pydantic import TypeAdapter

        return TypeAdapter(cls).validate_python(values)


@dataclass(frozen=True)
class Predicted:
    """The rows of a block, sorted by prediction time, with the model's predictions of them."""

    rows: "pd.DataFrame"
    label: "np.ndarray"
    prediction: "np.ndarray"

    @classmethod
    def of(cls, rows: "pd.DataFrame", prediction: "np.ndarray") -> "Predicted":
        """With the labels that stand in the rows."""
        return cls(rows, rows[LABEL].to_numpy(dtype="float64"), prediction)

    def usable(self) -> "Predicted":
        """Without rows whose label or prediction is null or infinite."""
        import numpy as np

        return self.where(np.isfinite(self.label) & np.isfinite(self.prediction))

    def where(self, mask: "np.ndarray") -> "Predicted":
        """Some of the rows."""
        return Predicted(self.rows[mask], self.label[mask], self.prediction[mask])

    def __len__(self) -> int:
        return len(self.label)


@dataclass(frozen=True)
class Subject:
    """Whose predictions are judged: the model's declaration, and its features that are cut into slices."""

    project: LoadedProject
    model: Model
    features: list[str]


def evaluate_predictions(
    about: Subject,
    hold_out: Predicted,
    tuning: Predicted,
    heuristic: "np.ndarray",
    known_repeats: dict[str, int] | None = None,
) -> EvaluationReport:
    """Everything that the declaration asks for, and what these rows allow. known_repeats: see Bootstrap."""
    model, rules = about.model, about.model.evaluation
    reached = evaluate_metrics(about.project, model, hold_out.label, hold_out.prediction)
    usable = hold_out.usable()
    units = Units.stretches(usable.rows[PREDICTION_TIME], rules.resample_by)
    bootstrap = Bootstrap(about.project, model, rules.bootstrap_repeats, known_repeats or {})
    intervals = bootstrap.intervals(list(reached.values), usable.label, usable.prediction, units)
    notes = _unusable(hold_out, usable)
    report = EvaluationReport(
        rows=len(hold_out),
        window=time_window(hold_out.rows),
        metrics=reached.values,
        heuristic=evaluate_metrics(about.project, model, hold_out.label, heuristic).values,
        left_out=reached.left_out,
        intervals=intervals.found,
        no_interval=intervals.left_out,
        confidence=rules.confidence,
        drawn=_drawn(units, model),
        slices=_slices(about, usable, units, bootstrap, intervals),
        worst=_worst(about, usable, units),
        searched_by=_searched_by(model),
    )
    if model.training.task is Task.REGRESSION:
        return replace(report, residual_quantiles=_residuals(usable), notes=notes)
    return _with_probabilities(report, model, usable, tuning.usable(), notes)


def time_window(rows: "pd.DataFrame") -> tuple[str, str]:
    """The first and last prediction time of rows that are sorted by it, ISO 8601 UTC."""
    from penstock.clock import to_text

    times = rows[PREDICTION_TIME]
    return to_text(times.iloc[0].to_pydatetime()), to_text(times.iloc[-1].to_pydatetime())


def reported_metrics(model: Model) -> list[str]:
    """The metrics that are reported by slice: those that decide, and the project's own."""
    deciding = {model.training.metric, model.promotion.metric, *model.training.metrics}
    return [name for name in metric_names(model) if name in deciding]


def _unusable(all_rows: Predicted, usable: Predicted) -> tuple[str, ...]:
    bad = len(all_rows) - len(usable)
    if not bad:
        return ()
    return (
        f"{bad} of {len(all_rows)} labels or predictions are null or infinite: no metric is defined; slices, "
        "calibration and pictures are of the other rows",
    )


def _drawn(units: Units, model: Model) -> str:
    from penstock.spec.common import duration_text

    length = model.evaluation.resample_by
    if length is None:
        return f"{units.count} rows"
    return f"{units.count} stretches of {duration_text(length)}"


def _slices(
    about: Subject, usable: Predicted, units: Units, bootstrap: Bootstrap, whole: Intervals
) -> tuple[SliceResult, ...]:
    """The declared slices; without a declaration those of each feature of few texts or booleans."""
    columns = about.model.evaluation.slices or [
        name for name in about.features
        if usable.rows[name].nunique() <= MOST_VALUES and _is_text(usable.rows[name])
    ]  # fmt: skip
    names = [name for name in reported_metrics(about.model) if name not in whole.left_out]
    known = {name: min(_SLICE_REPEATS, interval.repeats) for name, interval in whole.found.items()}
    fewer = replace(bootstrap, repeats=min(_SLICE_REPEATS, bootstrap.repeats), known_repeats=known)
    return tuple(_slice(about, usable, units, fewer, one, names) for one in slice_rows(usable.rows, columns))


def _slice(
    about: Subject, usable: Predicted, units: Units, bootstrap: Bootstrap, one: Slice, with_interval: list[str]
) -> SliceResult:
    rows, least = usable.where(one.mask), about.model.evaluation.minimum_slice_rows
    facts = (one.name, one.column, one.value, one.rows, float(rows.label.mean()), float(rows.prediction.mean()))
    if one.rows < least:
        return SliceResult(*facts, {}, {}, f"{one.rows} rows, and evaluation.minimum_slice_rows is {least}")
    reached = evaluate_metrics(about.project, about.model, rows.label, rows.prediction, reported_metrics(about.model))
    names = [name for name in with_interval if name in reached.values]
    intervals = bootstrap.intervals(names, rows.label, rows.prediction, units.within(one.mask))
    reasons = [f"{name}: {reason}" for name, reason in {**reached.left_out, **intervals.left_out}.items()]
    return SliceResult(*facts, reached.values, intervals.found, "; ".join(reasons))


def _worst(about: Subject, usable: Predicted, units: Units) -> SliceSearch:
    import numpy as np

    if len(usable) > _MOST_SEARCHED_ROWS:
        mask = np.arange(len(usable)) % (-(-len(usable) // _MOST_SEARCHED_ROWS)) == 0
        usable, units = usable.where(mask), units.within(mask)
    if not len(usable):
        return SliceSearch(0, (), "no row has a label and a prediction")
    columns = [name for name in about.features if _is_searched(usable.rows[name])]
    loss = row_losses(_searched_by(about.model), usable.label, usable.prediction)
    rules = about.model.evaluation
    return find_worst_slices(
        slice_rows(usable.rows, columns), loss, usable.prediction - usable.label, units,
        minimum_rows=rules.minimum_slice_rows, confidence=rules.confidence,
    )  # fmt: skip


def _searched_by(model: Model) -> str:
    """The loss of a row: that of the promotion metric where it is a mean of such, else that of the task."""
    wanted = model.promotion.metric
    if model.training.task is Task.REGRESSION:
        return "mae" if wanted == "mae" else "rmse"
    return "brier_score" if wanted == "brier_score" else "log_loss"


def _with_probabilities(
    report: EvaluationReport, model: Model, usable: Predicted, tuning: Predicted, notes: tuple[str, ...]
) -> EvaluationReport:
    if not len(usable):
        return replace(report, notes=notes)
    costs = model.evaluation.costs
    if costs is not None and not len(tuning):
        costs, notes = None, (*notes, "no tuning row has a prediction: the costs could choose no threshold")
    threshold = choose_threshold(costs, (tuning.label, tuning.prediction), (usable.label, usable.prediction))
    try:
        found = calibrate(usable.label, usable.prediction)
    except TrainingError as error:
        return replace(report, threshold=threshold, notes=(*notes, str(error)))
    if len(set(usable.label.tolist())) < 2:
        only = f"all {len(usable)} labels are {usable.label[0]:g}"
        notes = (*notes, f"{only}: there are no ROC and precision-recall curves, and calibration says little")
    return replace(report, threshold=threshold, calibration=found, notes=notes)


def _residuals(usable: Predicted) -> dict[str, float]:
    import numpy as np

    if not len(usable):
        return {}
    values = np.quantile(usable.prediction - usable.label, _RESIDUAL_QUANTILES)
    return {f"{level:.0%}": float(value) for level, value in zip(_RESIDUAL_QUANTILES, values, strict=True)}


def _is_text(values: "pd.Series") -> bool:
    from pandas.api.types import infer_dtype

    return infer_dtype(values, skipna=True) in ("string", "boolean", "categorical")


def _is_searched(values: "pd.Series") -> bool:
    """Texts of many values are names of single things: their most frequent ones are no groups."""
    return is_cut(values) or values.nunique() <= 5 * MOST_VALUES
