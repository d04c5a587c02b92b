"""Batch inference: the entity rows since the last score, by the production version, each exactly once.

Which rows were scored is part of the commit that holds them: the record of the newest one says up to which
as_of, and its txn mark makes a repeat append nothing.
"""

from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING

from penstock.clock import now, to_micros, to_text
from penstock.errors import NothingToDo
from penstock.features import on_demand
from penstock.features.entities import entity_rows
from penstock.features.inputs import open_input, open_lookups
from penstock.features.point_in_time import PREDICTION_TIME, join_features
from penstock.features.training_set import utc_timestamps
from penstock.features.watermarks import watermark
from penstock.lakehouse.addresses import Address
from penstock.lakehouse.records import CommitRecord, all_records, latest_record, record
from penstock.spec.project import Column, ColumnType, Entity, Lookup, Model, OnDemand
from penstock.spec.sql import quote
from penstock.workspace import Workspace

if TYPE_CHECKING:
    import pandas as pd

PREDICTION = "prediction"


@dataclass(frozen=True)
class ScoredBatch:
    """Predictions that were appended to `table`, as its `version`: prediction times in (after, as_of]."""

    table: str
    version: int
    rows: int
    model_version: int
    after: str
    as_of: str


def score_batch(workspace: Workspace, project_name: str, model_name: str, as_of: datetime) -> ScoredBatch:
    """Scores entity rows with prediction time in (last scored, as_of], labelled or not; each once, by its newest row.

    Not beyond what the entity table has reached: rows that it lacks would never be scored. A task's later try answers
    with the batch that an earlier one has appended.
    An alias that a hand moved is adopted or reverted first. The first window starts at the as_of of the first
    promotion. Features are those of the version's own feature_spec; of a version that was fitted on rows that a person
    gave, those of the entity are read from the declared entity's table.
    Raises NothingToDo without a production version, without new rows, or where as_of was reached.
    """
    from penstock.lakehouse.small_tables import append_once, fill_missing, to_arrow, version
    from penstock.registry.production import settled_production
    from penstock.training.feature_spec import spec_as_asked, trained_as_known
    from penstock.training.scoring import load_scorer

    project = workspace.project(project_name)
    model = project.model(model_name)
    table = predictions_table(project_name, model_name)
    path = workspace.addresses.writable(table)
    production = settled_production(workspace, project_name, model_name, as_of)
    if production is None:
        raise NothingToDo(f"{project_name}.{model_name} has no version in production yet: nothing is scored")
    last = latest_record(path)
    asked, as_of = as_of, _reached(workspace, project_name, model, as_of)
    if last is not None and _is_standing(workspace, last, asked, as_of):
        return _standing(workspace, project_name, model_name, path, last)
    after = _scored_until(workspace, project_name, model_name, last, as_of)
    scorer = load_scorer(workspace, f"{project_name}.{model_name}", production)
    spec = spec_as_asked(scorer.feature_spec, model.entity)
    lookups = [Lookup.model_validate(item) for item in spec["lookups"]]
    computed = {name: OnDemand.model_validate(item) for name, item in spec.get("on_demand", {}).items()}
    frame, inputs = _entities(
        workspace, project_name, model, Entity.model_validate(spec["entity"]), lookups, computed, after, as_of,
        as_known=trained_as_known(spec),
    )  # fmt: skip
    if frame.empty:
        raise NothingToDo(f"{table}: no entity row has its prediction time in ({to_text(after)}, {to_text(as_of)}]")
    frame[PREDICTION] = scorer.predict(frame)
    frame = frame.assign(model_version=production, as_of=as_of, scored_at=now(), run=workspace.lineage.run)
    given = scorer.feature_spec["entity"].get("table") is None
    columns = _columns(workspace, project_name, model, spec, given=given)
    _create(path, columns, model, project.spec.owner)
    rows = to_arrow(frame, {name: column.type for name, column in columns.items()}, table)
    commit = record(
        as_of, inputs | {f"{project_name}.{model_name}": production}, folder=project.folder, run=workspace.lineage.run
    )
    commit = replace(commit, batch=_task(workspace))
    app_id = f"batch_inference:{project_name}.{model_name}"
    planned = to_micros(last.as_of_moment) if last else None
    if not append_once(path, fill_missing(rows, path), commit, app_id, to_micros(as_of), planned):
        raise NothingToDo(f"{table}: another run has scored up to {to_text(as_of)}, or further, meanwhile")
    return ScoredBatch(table, version(path), rows.num_rows, production, to_text(after), to_text(as_of))


def predictions_table(project: str, model: str) -> str:
    """The address of a model's predictions."""
    return f"{project}.{model}_predictions"


def _task(workspace: Workspace) -> str | None:
    """The task that scores; None outside Airflow."""
    return workspace.session_key.task if workspace.session_key else None


def _is_standing(workspace: Workspace, last: CommitRecord, asked: datetime, reached: datetime) -> bool:
    """Whether an earlier try appended the newest batch, and was killed before it was published.

    A task knows its batch again however far the inputs have come meanwhile: the rest is for the next run. Outside
    Airflow there are no tries; there it is the batch of a run that has nothing to add.
    """
    task = _task(workspace)
    if task is not None and last.batch is not None:
        return last.batch == task and last.as_of_moment <= asked
    return last.run == workspace.lineage.run and last.as_of_moment == reached


def _standing(workspace: Workspace, project: str, model: str, path: str, last: CommitRecord) -> ScoredBatch:
    from deltalake import DeltaTable

    from penstock.lakehouse.small_tables import read_arrow
    from penstock.registry.promotion import first_promotion_as_of

    found = DeltaTable(path)
    rows = read_arrow(path, columns=["model_version"], filters=[("as_of", "=", last.as_of_moment)])["model_version"]
    earlier = [one.as_of_moment for one in all_records(found) if one.as_of_moment < last.as_of_moment]
    after = max(earlier) if earlier else first_promotion_as_of(workspace, project, model)
    return ScoredBatch(
        predictions_table(project, model), found.version(), len(rows), int(rows[0].as_py()),
        to_text(after or last.as_of_moment), last.as_of,
    )  # fmt: skip


def _reached(workspace: Workspace, project: str, model: Model, as_of: datetime) -> datetime:
    """as_of, or how far the entity table has come where that is less: what it lacks would never be scored.

    Where nothing says how far it has come, the lookups do.
    """
    reached = watermark(workspace, Address.parse(model.entity.table, project))
    if reached is not None:
        return min(as_of, reached)
    others = [watermark(workspace, Address.parse(lookup.table, project)) for lookup in model.lookups]
    return min(as_of, max((moment for moment in others if moment is not None), default=as_of))


def _scored_until(
    workspace: Workspace, project: str, model: str, last: CommitRecord | None, as_of: datetime
) -> datetime:
    from penstock.registry.promotion import first_promotion_as_of

    until = last.as_of_moment if last else first_promotion_as_of(workspace, project, model)
    if until is None:
        raise NothingToDo(f"{project}.{model} was never promoted: nothing is scored")
    if as_of <= until:
        raise NothingToDo(f"{project}.{model} is scored up to {to_text(until)}: as_of {to_text(as_of)} adds nothing")
    return until


def _entities(
    workspace: Workspace,
    project: str,
    model: Model,
    entity: Entity,
    lookups: list[Lookup],
    computed: dict[str, OnDemand],
    after: datetime,
    as_of: datetime,
    *,
    as_known: bool,
) -> tuple["pd.DataFrame", dict[str, int]]:
    inputs = open_lookups(workspace, project, lookups, as_known)
    inputs[entity.table] = open_input(workspace, project, entity.table)
    keep = [*entity.keys, PREDICTION_TIME, *entity.features, *model.inference.keep]
    looked_up = [lookup.output_name(name) for lookup in lookups for name in lookup.features]
    with workspace.spark() as spark:
        rows = entity_rows(spark, entity, inputs, as_of, after)
        needed = [name for item in computed.values() for name in item.inputs if name not in looked_up]
        joined = join_features(spark, rows, lookups, inputs, as_of, keep=[*keep, *needed], as_known=as_known)
        frame = joined.select(*map(quote, dict.fromkeys([*keep, *needed, *looked_up]))).toPandas()
    frame = on_demand.apply(utc_timestamps(frame), on_demand.load(workspace.project(project), computed))
    return frame, {table.address: table.version for table in inputs.values()}


def _columns(workspace: Workspace, project: str, model: Model, spec: dict, *, given: bool) -> dict[str, Column]:
    """The predictions' columns: keys, prediction_time, features, kept columns, prediction, and who made it.

    given: the version was fitted on rows that a person gave, whose types may be others than the entity's.
    """
    entity = _table_columns(workspace, project, model.entity.table)
    features = {item["name"]: Column(type=ColumnType(item["type"])) for item in spec["features"]}
    if given:
        features |= {name: entity[name] for name in spec["entity"]["features"] if name in entity}
    chosen = {name: entity[name] for name in [*model.entity.keys, *model.inference.keep]}
    return {
        **{name: chosen[name] for name in model.entity.keys},
        PREDICTION_TIME: Column(type=ColumnType.TIMESTAMP, description="when the prediction was due, UTC"),
        **{name: column for name, column in features.items() if name not in chosen},
        **chosen,
        PREDICTION: Column(type=ColumnType.DOUBLE, description="probability of the label, or the number predicted"),
        "model_version": Column(type=ColumnType.INT, description="the registered version that predicted"),
        "as_of": Column(type=ColumnType.TIMESTAMP, description="the score's as_of, UTC"),
        "scored_at": Column(type=ColumnType.TIMESTAMP, description="wall clock, UTC"),
        "run": Column(type=ColumnType.STRING, description="the DAG run that scored"),
    }


def _table_columns(workspace: Workspace, project: str, table: str) -> dict[str, Column]:
    address = Address.parse(table, project)
    spec = workspace.project(address.project).spec
    found = spec.sources.get(address.table) or spec.feature_tables[address.table]
    return dict(found.columns)


def _create(path: str, columns: dict[str, Column], model: Model, owner: str) -> None:
    from penstock.lakehouse.small_tables import create_if_missing

    create_if_missing(
        path, columns, keys=[*model.entity.keys, PREDICTION_TIME],
        description=f"Predictions: {model.description}", properties={"penstock.owner": model.owner or owner},
    )  # fmt: skip
