"""Gathers what a retraining decision depends on: alerts, labels, trainings, open data failures."""

from datetime import datetime
from typing import TYPE_CHECKING

from penstock.clock import EPOCH
from penstock.lakehouse.addresses import Address
from penstock.lakehouse.system_tables import SystemTable
from penstock.monitoring.baseline import training_of
from penstock.monitoring.metric_rows import HAND_BACK, Kind
from penstock.monitoring.retraining_policy import AlertFact, Facts
from penstock.monitoring.windows import LABEL_COVERAGE, PREDICTION_TIME, read_published
from penstock.spec.project import FeatureTable
from penstock.workspace import Workspace

if TYPE_CHECKING:
    import pandas as pd


def gather_facts(
    workspace: Workspace,
    project: str,
    model: str,
    as_of: datetime,
    production: int | None,
    last_retrain: datetime | None,
) -> Facts:
    """What is known at as_of about the production version and its newest monitored window."""
    if production is None:
        return Facts(as_of, None)
    window = _newest_window(workspace, project, model, as_of, production)
    training = training_of(workspace, project, model, production)
    if window.empty:
        return Facts(as_of, production, trained_as_of=training.as_of, trained_until=training.until)
    volume = window[(window["kind"] == Kind.VOLUME) & (window["metric"] == "rows")]
    coverage = window[(window["kind"] == Kind.QUALITY) & (window["metric"] == LABEL_COVERAGE)]
    end = window["window_end"].iloc[0].to_pydatetime()
    return Facts(
        as_of=as_of,
        production_version=production,
        window_start=window["window_start"].iloc[0].to_pydatetime(),
        window_end=end,
        rows=int(volume["rows"].sum()),
        labelled_rows=int(coverage["labelled_rows"].sum()),
        alerts=_alerts(workspace, project, model, production, end, as_of),
        trained_as_of=training.as_of,
        trained_until=training.until,
        new_labelled_rows=count_labelled(workspace, project, model, as_of, training.until or EPOCH),
        last_retrain=last_retrain,
        data_failures=_data_failures(workspace, project, model, as_of),
    )


def count_labelled(workspace: Workspace, project: str, model: str, as_of: datetime, after: datetime) -> int:
    """Entity rows with a prediction time after `after` whose label was known at as_of."""
    from penstock.features.entities import entity_rows, known_labels
    from penstock.features.inputs import open_input
    from penstock.spec.sql import quote

    spec = workspace.project(project).model(model)
    names = sorted({spec.entity.table, spec.label.table})
    if any(_missing(workspace, project, name) for name in names):
        return 0
    inputs = {name: open_input(workspace, project, name) for name in names}
    keys = list(spec.entity.keys)
    with workspace.spark() as spark:
        known = known_labels(spark, spec.label, keys, inputs[spec.label.table], as_of)
        entities = entity_rows(spark, spec.entity, inputs, as_of, after).select(*map(quote, keys), PREDICTION_TIME)
        return int(entities.join(known.select(*map(quote, keys)), keys).count())


def _missing(workspace: Workspace, project: str, table: str) -> bool:

    return workspace.addresses.find(Address.parse(table, project)) is None


def _newest_window(workspace: Workspace, project: str, model: str, as_of: datetime, version: int) -> "pd.DataFrame":
    """The published rows of a version in the model's newest window; empty where it did not predict there."""
    published = read_published(workspace, project, model)
    known = published[published["as_of"] <= as_of]
    newest = known[known["window_end"] == known["window_end"].max()]
    return newest[newest["model_version"] == version]


def _alerts(
    workspace: Workspace, project: str, model: str, version: int, window_end: datetime, as_of: datetime
) -> list[AlertFact]:
    from penstock.lakehouse.small_tables import read

    path = workspace.addresses.find(f"{project}.{SystemTable.ALERTS}")
    if path is None:
        return []
    found = read(path, filters=[("model", "=", model), ("model_version", "=", version), ("as_of", "<=", as_of)])
    found = found[(found["window_end"] == window_end) & (found["kind"] != HAND_BACK)]
    found = found.sort_values(["kind", "column", "metric"])
    return [
        AlertFact(row.kind, row.column, row.metric, row.message)
        for row in found[["kind", "column", "metric", "message"]].itertuples(index=False)
    ]


def _data_failures(workspace: Workspace, project: str, model: str, as_of: datetime) -> list[str]:
    """The open failures of the quality gates of the tables that the model is made from."""
    from penstock.quality.report import open_failures

    tables = tables_of(workspace, project, model)
    return [
        f"{address if address.project != project else failure.table} as of {failure.as_of}: {failure.reason} "
        f"(report: {failure.report})."
        for owner in sorted({address.project for address in tables})
        for failure in open_failures(workspace, owner, as_of)
        if (address := Address(owner, failure.table)) in tables
    ]


def tables_of(workspace: Workspace, project: str, model: str) -> set[Address]:
    """The tables that a model is made from, directly and through feature tables, of this project and of others."""
    spec = workspace.project(project).model(model)
    names = [spec.entity.table, spec.label.table, *(lookup.table for lookup in spec.lookups)]
    waiting = [Address.parse(name, project) for name in names]
    found: set[Address] = set()
    while waiting:
        address = waiting.pop()
        if address not in found:
            found.add(address)
            table = workspace.declared_table(address)
            if isinstance(table, FeatureTable):
                waiting += [Address.parse(name, address.project) for name in table.inputs]
    return found
