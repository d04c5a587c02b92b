"""Publishes what was measured: `alerts`, then `monitoring_metrics`, and the report.

A window is done once its rows stand in `monitoring_metrics`; alerts come first, so that a run that was
killed in between measures the same window again and ends the same.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from penstock.clock import now, parse_as_of, to_text
from penstock.lakehouse.attempts import attempts
from penstock.lakehouse.records import CommitRecord, record
from penstock.lakehouse.system_tables import SystemTable
from penstock.monitoring.metric_rows import Kind, Measurement, MetricRow
from penstock.monitoring.windows import LABEL_COVERAGE, WindowReference
from penstock.workspace import Workspace

if TYPE_CHECKING:
    from deltalake import DeltaTable

_KEYS = ("model_version", "window_end", "kind", "column", "metric")
_END, _KIND = _KEYS.index("window_end"), _KEYS.index("kind")


@dataclass(frozen=True)
class MonitoringReport:
    """What one monitoring run found. `rows` and `labelled_rows` are of `window`, (start, end].

    `baseline_versions` are the model versions whose training the figures are held against: those that
    predicted. `metrics` and `alerts` may also hold figures of the window before, whose labels came late.
    `notes` say what could not be judged, and why. `report` is the path of a page with charts.
    """

    project: str
    model: str
    as_of: str
    window: tuple[str, str]
    rows: int
    labelled_rows: int
    baseline_versions: list[int]
    metrics: list[MetricRow]
    alerts: list[MetricRow]
    notes: list[str]
    report: str


@dataclass(frozen=True)
class Scope:
    """Which rows of a model a run answers for: (window_end, kind) that it measured in full.

    No window ends between the two moments of `never_published`: what stands there is of a run that was
    killed after its alerts, and whose window had grown before it came again.
    """

    model: str
    measured: frozenset[tuple[str, str]]
    never_published: tuple[datetime, datetime] | None = None

    def holds(self, window_end: datetime, kind: str) -> bool:
        """Whether rows of this window and kind are this run's to replace."""
        start, end = self.never_published or (window_end, window_end)
        return (to_text(window_end), kind) in self.measured or start < window_end < end


def publish(workspace: Workspace, reference: WindowReference, measurements: Sequence[Measurement]) -> MonitoringReport:
    """Writes the figures and alerts of a window to their tables, and the report. A repeat changes nothing.

    An alert or figure of an earlier run of the same window that does not hold any more is removed.
    """
    from penstock.lakehouse.small_tables import write_system_rows
    from penstock.monitoring.report import write_report

    metrics = [row for measurement in measurements for row in measurement.rows]
    alerts = [row for row in metrics if row.alert]
    scope = Scope(
        model=reference.model,
        measured=frozenset(pair for measurement in measurements for pair in measurement.scope),
        never_published=(parse_as_of(reference.window.start), parse_as_of(reference.window.end)),
    )
    project = workspace.project(reference.project)
    commit = record(
        parse_as_of(reference.as_of),
        {reference.predictions: reference.predictions_version},
        folder=project.folder,
        run=workspace.lineage.run,
    )
    stamp = {"model": reference.model, "as_of": parse_as_of(reference.as_of), "run": workspace.lineage.run}
    found = {
        SystemTable.ALERTS: [_alert_row(row, stamp) for row in alerts],
        SystemTable.MONITORING_METRICS: [_metric_row(row, stamp) for row in metrics],
    }
    for table, rows in found.items():
        path = workspace.addresses.writable(f"{reference.project}.{table}")
        write_system_rows(path, table, rows, commit)
        remove_stale(path, scope, rows, commit)
    report = MonitoringReport(
        project=reference.project,
        model=reference.model,
        as_of=reference.as_of,
        window=(reference.window.start, reference.window.end),
        rows=reference.window.total,
        labelled_rows=_labelled(metrics, reference.window.end),
        baseline_versions=reference.window.versions,
        metrics=metrics,
        alerts=alerts,
        notes=[note for measurement in measurements for note in measurement.notes],
        report="",
    )
    return write_report(workspace, report, [item for part in measurements for item in part.distributions])


def _labelled(metrics: Sequence[MetricRow], window_end: str) -> int:
    coverage = [row for row in metrics if row.kind == Kind.QUALITY and row.metric == LABEL_COVERAGE]
    return sum(row.labelled_rows or 0 for row in coverage if row.window_end == window_end)


def _metric_row(row: MetricRow, stamp: dict[str, Any]) -> dict[str, Any]:
    return {
        **stamp, **_window(row), "kind": row.kind, "column": row.column, "metric": row.metric, "value": row.value,
        "baseline": row.baseline, "threshold": row.threshold, "alert": row.alert, "rows": row.rows,
        "labelled_rows": row.labelled_rows, "computed_at": now(),
    }  # fmt: skip


def _alert_row(row: MetricRow, stamp: dict[str, Any]) -> dict[str, Any]:
    return {
        **stamp, **_window(row), "kind": row.kind, "column": row.column, "metric": row.metric, "value": row.value,
        "threshold": row.threshold, "message": row.message, "raised_at": now(),
    }  # fmt: skip


def _window(row: MetricRow) -> dict[str, Any]:
    return {
        "model_version": row.model_version,
        "window_start": parse_as_of(row.window_start),
        "window_end": parse_as_of(row.window_end),
    }


def remove_stale(path: str, scope: Scope, rows: list[dict[str, Any]], commit: CommitRecord) -> None:
    """Deletes the model's rows within `scope` whose keys are not among `rows`, where the table exists."""
    from deltalake import CommitProperties, DeltaTable
    from deltalake.exceptions import CommitFailedError

    for _ in attempts(path):
        if not DeltaTable.is_deltatable(path):
            return
        table = DeltaTable(path)
        stale = _stale(table, scope, rows)
        if not stale:
            return
        predicate = f"model = {_literal(scope.model)} AND ({' OR '.join(_condition(key) for key in stale)})"
        try:
            table.delete(
                predicate,
                commit_properties=CommitProperties(custom_metadata={"userMetadata": commit.to_json()}),
            )
        except CommitFailedError:
            continue
        return


def _stale(table: "DeltaTable", scope: Scope, rows: list[dict[str, Any]]) -> list[tuple[Any, ...]]:
    # compared after reading: a scanner does not compare the string views that merges write
    everybody = table.to_pyarrow_table(columns=list(dict.fromkeys([*_KEYS, "model"]))).to_pandas()
    found = everybody.loc[everybody["model"] == scope.model, list(_KEYS)]
    kept = {tuple(row[key] for key in _KEYS) for row in rows}
    return [
        key
        for key in found.itertuples(index=False, name=None)
        if key not in kept and scope.holds(key[_END].to_pydatetime(), key[_KIND])
    ]


def _condition(key: tuple[Any, ...]) -> str:
    version, end, kind, column, metric = key
    return (
        f"(model_version = {int(version)} AND window_end = {_timestamp(end)} AND kind = {_literal(kind)} "
        f"AND `column` = {_literal(column)} AND metric = {_literal(metric)})"
    )


def _literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _timestamp(moment: Any) -> str:
    return f"arrow_cast('{to_text(moment)}', 'Timestamp(Microsecond, Some(\"UTC\"))')"
