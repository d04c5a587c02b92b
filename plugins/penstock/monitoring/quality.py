"""Measures how good the predictions of a window were, once labels say so."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from penstock.features.entities import LABEL, known_labels
from penstock.lakehouse.session import read_version
from penstock.monitoring.metric_rows import Kind, Measurement, MetricRow
from penstock.monitoring.windows import LABEL_COVERAGE, MODEL_VERSION, PREDICTION, Window, WindowReference
from penstock.monitoring.windows import PREDICTION_TIME as TIME
from penstock.registry.history import promised_metrics
from penstock.spec.loading import LoadedProject
from penstock.spec.project import Model, QualityRule
from penstock.workspace import Workspace

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

    from penstock.training.metrics import MetricValues

_IS_CURRENT = "in_current_window"


@dataclass(frozen=True)
class _Promise:
    """What a version promised: the metrics with which it was promoted, else those of its training."""

    version: int
    metrics: dict[str, float]


def measure_quality(workspace: Workspace, reference: WindowReference) -> Measurement:
    """The model's metrics over the window's predictions whose labels were known at as_of, against the promise.

    Labels come late: the window before this one is judged again where more of its labels have arrived since
    it was published. Figures: every metric of the model, and `label_coverage` (labelled rows / rows). Fewer
    labelled rows than `minimum_rows` give figures without alerts, and a note.
    """
    labelled = _labelled_predictions(workspace, reference)
    parts = [_measure_window(workspace, reference, reference.window, labelled[labelled[_IS_CURRENT]])]
    if reference.previous is not None:
        late = labelled[~labelled[_IS_CURRENT]]
        if _grew(reference.previous, late):
            parts.append(_measure_window(workspace, reference, reference.previous, late))
    return Measurement(
        scope=[pair for part in parts for pair in part.scope],
        rows=[row for part in parts for row in part.rows],
        notes=[note for part in parts for note in part.notes],
    )


def _measure_window(
    workspace: Workspace, reference: WindowReference, window: Window, labelled: "pd.DataFrame"
) -> Measurement:
    rows: list[MetricRow] = []
    notes: list[str] = []
    project = workspace.project(reference.project)
    model = project.model(reference.model)
    for version in window.versions:
        found = labelled[labelled[MODEL_VERSION] == version]
        promise = _Promise(version, promised_metrics(workspace, reference.project, reference.model, version))
        metrics = _metrics(project, model, found[LABEL].to_numpy(), found[PREDICTION].to_numpy())
        judged, said = _judge(model, promise, window, metrics, len(found))
        rows += judged
        notes += said
    return Measurement(scope=[(window.end, str(Kind.QUALITY))], rows=rows, notes=notes)


def _metrics(project: LoadedProject, model: Model, label: "np.ndarray", prediction: "np.ndarray") -> "MetricValues":
    """Every metric of the model. One of the project's own that fails is left out: the others are watched on."""
    from penstock.training.errors import TrainingError
    from penstock.training.metrics import MetricValues, evaluate_metrics, metric_names

    values: dict[str, float] = {}
    left_out: dict[str, str] = {}
    for name in metric_names(model):
        try:
            found = evaluate_metrics(project, model, label, prediction, [name])
        except TrainingError as error:
            left_out[name] = str(error)
        else:
            values |= found.values
            left_out |= found.left_out
    return MetricValues(values, left_out)


def _judge(
    model: Model, promise: _Promise, window: Window, metrics: "MetricValues", labelled: int
) -> tuple[list[MetricRow], list[str]]:
    """The figures of one version in one window, and what could not be judged."""
    version, spec = promise.version, model.monitoring
    count = window.rows[str(version)]
    rules = {rule.metric: rule for rule in spec.quality}
    where = f"version {version}, window up to {window.end}"
    enough = labelled >= spec.minimum_rows
    if enough:
        notes = [f"{where}: {name} is left out: {reason}" for name, reason in metrics.left_out.items()]
        notes += [
            f"{where}: {name} cannot be held against a promise: neither the training run of the version nor its "
            "comparison has such a metric"
            for name in rules
            if name not in promise.metrics
        ]
    else:
        notes = [
            f"{where}: {labelled} of {count} predictions have a label, fewer than minimum_rows "
            f"{spec.minimum_rows}: quality is no alert yet"
        ]

    def row(metric: str, value: float, promised: float | None, limit: float | None, message: str) -> MetricRow:
        return MetricRow(
            model_version=version, window_start=window.start, window_end=window.end, kind=str(Kind.QUALITY),
            metric=metric, value=value, baseline=promised, threshold=limit, alert=bool(message), rows=count,
            labelled_rows=labelled, message=message,
        )  # fmt: skip

    rows = [row(LABEL_COVERAGE, labelled / count, None, None, "")]
    for name, value in metrics.values.items():
        promised, rule = promise.metrics.get(name), rules.get(name)
        limit = None if promised is None or rule is None else _limit(model, rule, promised)
        message = _complaint(model, name, value, promised, limit) if enough else ""
        rows.append(row(name, value, promised, limit, message))
    return rows, notes


def _limit(model: Model, rule: QualityRule, promised: float) -> float:
    from penstock.training.metrics import is_lower_better

    return promised + rule.tolerance if is_lower_better(model, rule.metric) else promised - rule.tolerance


def _complaint(model: Model, name: str, value: float, promised: float | None, limit: float | None) -> str:
    """What is wrong with a figure; empty where it holds its bound or has none."""
    from penstock.training.metrics import is_lower_better

    if promised is None or limit is None:
        return ""
    lower = is_lower_better(model, name)
    if value <= limit if lower else value >= limit:
        return ""
    side = "above" if lower else "below"
    return (
        f"{name} {value:.4f} is {side} {limit:.4f} (promised {promised:.4f}, tolerated {abs(limit - promised):g} worse)"
    )


def _grew(window: Window, labelled: "pd.DataFrame") -> bool:
    """Whether a published window has more labels now."""
    return len(labelled) > sum(window.labelled_rows.values())


def _labelled_predictions(workspace: Workspace, reference: WindowReference) -> "pd.DataFrame":
    """label, prediction, model_version, in_current_window of the predictions whose label was known at as_of.

    One Spark query over the window and the one before: the label is a Spark SQL expression over the columns
    of its table, and both tables may be large.
    """
    import pandas as pd

    from penstock.features.inputs import open_input, sql_moment
    from penstock.lakehouse.addresses import Address
    from penstock.spec.sql import quote

    model = workspace.project(reference.project).model(reference.model)
    columns = [LABEL, PREDICTION, MODEL_VERSION, _IS_CURRENT]
    if workspace.addresses.find(Address.parse(model.label.table, reference.project)) is None:
        return pd.DataFrame({name: pd.Series(dtype=bool if name == _IS_CURRENT else float) for name in columns})
    labels = open_input(workspace, reference.project, model.label.table)
    path = workspace.addresses.readable(reference.predictions)
    start = (reference.previous or reference.window).start
    keys = list(model.entity.keys)
    with workspace.spark() as spark:
        from pyspark.sql.connect import functions as F

        predictions = (
            read_version(spark, path, reference.predictions_version)
            .where(f"{TIME} > {_moment(start)} AND {TIME} <= {_moment(reference.window.end)}")
            .where(f"as_of <= {sql_moment(reference.as_of_moment)}")
            .where(f"{PREDICTION} IS NOT NULL AND NOT isnan({PREDICTION})")
            .select(*map(quote, keys), PREDICTION, MODEL_VERSION,
                    F.expr(f"{TIME} > {_moment(reference.window.start)}").alias(_IS_CURRENT))
        )  # fmt: skip
        known = known_labels(spark, model.label, keys, labels, reference.as_of_moment)
        return predictions.join(known, keys).select(*columns).toPandas()


def _moment(text: str) -> str:
    from penstock.clock import parse_as_of
    from penstock.features.inputs import sql_moment

    return sql_moment(parse_as_of(text))
