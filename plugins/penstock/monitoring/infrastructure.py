"""Measures how much was predicted, and how old predictions, features and labels are."""

from datetime import datetime
from typing import TYPE_CHECKING

from penstock.clock import EPOCH, parse_as_of
from penstock.monitoring.metric_rows import Kind, Measurement, MetricRow
from penstock.monitoring.windows import PREDICTION_TIME, Window, WindowReference, read_predictions
from penstock.spec.project import Model
from penstock.workspace import Workspace

if TYPE_CHECKING:
    from penstock.features.inputs import InputTable

_HOUR = 3600.0
_DAY = 24 * _HOUR


def measure_infrastructure(workspace: Workspace, reference: WindowReference) -> Measurement:
    """Volume of each version (`rows`, `rows_per_day`), and `age_hours` of what the model lives on.

    An age is as_of minus the newest prediction time (column empty), event time of a feature table or
    available_at of the label table (column = the table), in hours, as far as they were known at as_of. A
    feature table that is older than its lookup's max_age is an alert: its features are null. Tables whose
    rows count from 1970 do not age.
    """
    rows = _volume(reference.window, reference.previous)
    # freshness is not about a version: it stands with the newest that predicted
    version = reference.window.versions[-1]
    model = workspace.project(reference.project).model(reference.model)
    limits = _longest_ages(model)
    ages = {"": _prediction_age(workspace, reference), **_table_ages(workspace, reference, model)}
    for table, age in ages.items():
        limit = limits.get(table)
        message = _complaint(table, age, limit, reference.as_of)
        rows.append(
            MetricRow(
                model_version=version, window_start=reference.window.start, window_end=reference.window.end,
                kind=str(Kind.FRESHNESS), metric="age_hours", value=age, column=table, threshold=limit,
                rows=reference.window.rows[str(version)],
                alert=bool(message), message=message,
            )
        )  # fmt: skip
    return Measurement(
        scope=[(reference.window.end, str(Kind.VOLUME)), (reference.window.end, str(Kind.FRESHNESS))], rows=rows
    )


def _volume(window: Window, previous: Window | None) -> list[MetricRow]:
    before = previous.total / _days(previous) if previous else None
    rows = []
    for version in window.versions:
        count = window.rows[str(version)]
        common = {
            "model_version": version, "window_start": window.start, "window_end": window.end,
            "kind": str(Kind.VOLUME), "rows": count,
        }  # fmt: skip
        rows.append(MetricRow(**common, metric="rows", value=float(count)))  # type: ignore[arg-type]
        rows.append(MetricRow(**common, metric="rows_per_day", value=count / _days(window), baseline=before))  # type: ignore[arg-type]
    return rows


def _days(window: Window) -> float:
    return (parse_as_of(window.end) - parse_as_of(window.start)).total_seconds() / _DAY


def _prediction_age(workspace: Workspace, reference: WindowReference) -> float | None:
    import pyarrow.compute as pc

    found = read_predictions(workspace, reference, [PREDICTION_TIME])
    return _age(reference.as_of_moment, pc.max(found.column(PREDICTION_TIME)).as_py())


def _table_ages(workspace: Workspace, reference: WindowReference, model: Model) -> dict[str, float | None]:
    """The age of each lookup's table and of the label's; of those that exist and age."""
    from penstock.features.inputs import open_input
    from penstock.lakehouse.addresses import Address

    ages: dict[str, float | None] = {}
    for name in dict.fromkeys([*(lookup.table for lookup in model.lookups), model.label.table]):
        if workspace.addresses.find(Address.parse(name, reference.project)) is None:
            continue
        newest = _newest(open_input(workspace, reference.project, name), reference.as_of_moment)
        if newest != EPOCH:
            ages[name] = _age(reference.as_of_moment, newest)
    return ages


def _newest(table: "InputTable", as_of: datetime) -> datetime | None:
    import pyarrow.compute as pc

    from penstock.lakehouse.small_tables import read_arrow

    column = table.available_at
    found = read_arrow(table.path, version=table.version, columns=[column], filters=[(column, "<=", as_of)])
    return pc.max(found.column(column)).as_py() if found.num_rows else None


def _longest_ages(model: Model) -> dict[str, float]:
    """The strictest max_age of the lookups of each table, in hours."""
    limits: dict[str, float] = {}
    for lookup in model.lookups:
        if lookup.max_age is not None:
            hours = lookup.max_age.total_seconds() / _HOUR
            limits[lookup.table] = min(hours, limits.get(lookup.table, hours))
    return limits


def _complaint(table: str, age: float | None, limit: float | None, as_of: str) -> str:
    if age is None or limit is None or age <= limit:
        return ""
    return f"{table} is {age:.1f} h old at {as_of}: its features are null, lookups take nothing older than {limit:g} h"


def _age(as_of: datetime, moment: datetime | None) -> float | None:
    if moment is None:
        return None
    return (as_of - moment).total_seconds() / _HOUR
