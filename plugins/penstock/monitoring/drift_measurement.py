"""Measures a window against the training profile: missing values, drift of the features and the prediction."""

from typing import TYPE_CHECKING

from penstock.errors import TableError
from penstock.monitoring.baseline import Baseline, load_baseline
from penstock.monitoring.drift import METHODS, Comparison, measures
from penstock.monitoring.metric_rows import Distribution, Kind, Measurement, MetricRow
from penstock.monitoring.windows import PREDICTION, WindowReference, read_predictions
from penstock.profiles import CategoricalProfile, NumericProfile, missing_share
from penstock.spec.project import DriftRule, Monitoring
from penstock.workspace import Workspace

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

_KINDS = (Kind.FEATURE_DRIFT, Kind.MISSING, Kind.PREDICTION_DRIFT)


def measure_drift(workspace: Workspace, reference: WindowReference) -> Measurement:
    """How far features and prediction are from the training profile of the version that predicted.

    Figures: for each feature its `missing_share` and its distance by the declared method; for the prediction
    its distance and its `mean`. Versions are measured apart. Fewer rows than `minimum_rows` give figures
    without alerts, and a note; a version without a profile gives the note alone.
    """
    monitoring = workspace.project(reference.project).model(reference.model).monitoring
    parts = [_measure_version(workspace, reference, monitoring, version) for version in reference.window.versions]
    return Measurement(
        scope=[(reference.window.end, str(kind)) for kind in _KINDS],
        rows=[row for part in parts for row in part.rows],
        distributions=[item for part in parts for item in part.distributions],
        notes=[note for part in parts for note in part.notes],
    )


def _measure_version(
    workspace: Workspace, reference: WindowReference, monitoring: Monitoring, version: int
) -> Measurement:
    try:
        baseline = load_baseline(workspace, reference.project, reference.model, version)
    except TableError as error:  # a version from elsewhere: its quality is measured all the same
        return Measurement(scope=[], rows=[], notes=[f"no drift is measured: {error}"])
    judge = _Judge(reference, monitoring, baseline)
    known = _columns_of(workspace, reference)
    watched = [name for name in baseline.profile.columns if name in known]
    judge.note_absent([name for name in baseline.profile.columns if name not in known])
    table = read_predictions(workspace, reference, [*watched, PREDICTION], versions=[version])
    for name in watched:
        # one column at a time: a million rows of all columns as pandas would be held twice
        judge.feature(name, _series(table, name))
    judge.prediction(_series(table, PREDICTION))
    return judge.result()


class _Judge:
    """Collects the figures of one model version; alerts only where there are enough rows."""

    def __init__(self, reference: WindowReference, monitoring: Monitoring, baseline: Baseline) -> None:
        self._window = reference.window
        self._spec = monitoring
        self._baseline = baseline
        self._count = reference.window.rows[str(baseline.version)]
        self._rows: list[MetricRow] = []
        self._distributions: list[Distribution] = []
        self._notes: list[str] = []
        self._enough = self._count >= monitoring.minimum_rows
        if not self._enough:
            self._notes.append(
                f"version {baseline.version}: {self._count} predictions are fewer than minimum_rows "
                f"{monitoring.minimum_rows}: drift is measured, but nothing is an alert"
            )

    def note_absent(self, columns: list[str]) -> None:
        """Says which profiled columns the predictions do not hold."""
        if columns:
            self._notes.append(
                f"version {self._baseline.version}: not in the predictions, so not watched: {', '.join(columns)}"
            )

    def feature(self, name: str, sample: "pd.Series") -> None:
        """A feature's missing share, and its distance."""
        profile = self._baseline.profile.columns[name]
        self._missing(name, profile.missing_share, missing_share(sample))
        rule = self._spec.feature_rules.get(name, self._spec.features)
        self._distance(Kind.FEATURE_DRIFT, name, profile, rule, sample)

    def prediction(self, sample: "pd.Series") -> None:
        """The prediction's missing share, its mean, and its distance."""
        profile = self._baseline.profile.prediction
        if profile is None:
            self._notes.append(
                f"version {self._baseline.version}: its profile has no prediction: its drift cannot be measured"
            )
            return
        mean = float(sample.mean()) if sample.notna().any() else None
        self._missing(PREDICTION, profile.missing_share, missing_share(sample))
        self._add(Kind.PREDICTION_DRIFT, "", "mean", mean, baseline=profile.mean)
        self._distance(Kind.PREDICTION_DRIFT, "", profile, self._spec.prediction, sample)

    def result(self) -> Measurement:
        """What was collected."""
        return Measurement(scope=[], rows=self._rows, distributions=self._distributions, notes=self._notes)

    def _missing(self, name: str, before: float, share: float) -> None:
        limit = before + self._spec.missing_share
        message = (
            f"{name} is missing in {share:.1%} of the predictions, {before:.1%} in training: "
            f"a rise of more than {self._spec.missing_share:.1%}"
        )
        self._add(Kind.MISSING, name, "missing_share", share, before, limit, share > limit, message)

    def _distance(
        self, kind: Kind, name: str, profile: NumericProfile | CategoricalProfile, rule: DriftRule, sample: "pd.Series"
    ) -> None:
        if not measures(rule.method, profile):
            self._notes.append(
                f"{name}: no drift measured: {rule.method} needs numbers, and this column holds categories; "
                f"declare monitoring.feature_rules.{name} with psi or jensen_shannon"
            )
            return
        pair = Comparison(profile, sample)
        value = METHODS[rule.method](pair)
        passed = value is not None and value > rule.threshold
        what = name or "the prediction"
        message = f"{what} drifted: {rule.method} {value:.3f} is above {rule.threshold:g}" if value is not None else ""
        self._add(kind, name, str(rule.method), value, None, rule.threshold, passed, message)
        self._distributions.append(
            Distribution(
                model_version=self._baseline.version,
                column=name or PREDICTION,
                bins=profile.bins,
                expected=pair.expected.round(6).tolist(),
                actual=pair.actual.round(6).tolist(),
            )
        )

    def _add(
        self, kind: Kind, column: str, metric: str, value: float | None, baseline: float | None = None,
        threshold: float | None = None, passed: bool = False, message: str = "",
    ) -> None:  # fmt: skip
        alert = passed and self._enough
        self._rows.append(
            MetricRow(
                model_version=self._baseline.version,
                window_start=self._window.start,
                window_end=self._window.end,
                kind=str(kind),
                metric=metric,
                value=value,
                column=column,
                baseline=baseline,
                threshold=threshold,
                alert=alert,
                rows=self._count,
                message=message if alert else "",
            )
        )


def _columns_of(workspace: Workspace, reference: WindowReference) -> set[str]:
    from deltalake import DeltaTable

    path = workspace.addresses.readable(reference.predictions)
    return {field.name for field in DeltaTable(path, version=reference.predictions_version).schema().fields}


def _series(table: "pa.Table", name: str) -> "pd.Series":
    """A column as pandas; texts as categories, which are counted many times faster than objects."""
    import pyarrow as pa

    column = table.column(name)
    if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
        column = column.dictionary_encode().unify_dictionaries()
    series = column.to_pandas()
    series.name = name
    return series
