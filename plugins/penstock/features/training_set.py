"""Training sets: entity rows with the features as they were known at each prediction time.

Each is a version of a Delta table with a record in `training_sets`, from which it can be built again.
"""

import uuid
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING

from penstock.clock import now, parse_as_of
from penstock.errors import TableError
from penstock.features import on_demand
from penstock.features.entities import (
    ENTITY_VERSIONS,
    LABEL,
    LABEL_KNOWN_AT,
    LABEL_VERSIONS,
    entity_rows,
    known_labels,
)
from penstock.features.first_fills import first_fill_warnings
from penstock.features.inputs import InputTable, open_input, open_lookups, unused_rows
from penstock.features.kept_entities import keep_entities
from penstock.features.own_tables import check_name
from penstock.features.point_in_time import PREDICTION_TIME, join_features
from penstock.features.training_content import Content, superseded_warnings, write_observed
from penstock.features.training_records import (
    Definition,
    GivenEntities,
    TrainingSet,
    content_digest,
    find_training_set,
    new_training_set,
    require_training_set,
    training_set_path,
    write_record,
)
from penstock.lakehouse.addresses import Address
from penstock.lakehouse.old_versions import is_readable
from penstock.lakehouse.records import CommitRecord, latest_commit, record, version_of
from penstock.lakehouse.session import read_version
from penstock.spec.project import Lookup, OnDemand
from penstock.spec.sql import quote
from penstock.workspace import Workspace

if TYPE_CHECKING:
    import pandas as pd
    from pyspark.sql.connect.dataframe import DataFrame
    from pyspark.sql.connect.session import SparkSession

    from penstock.features.kept_entities import Entities

__all__ = ["LABEL", "LABEL_KNOWN_AT", "TrainingSet"]


def build_training_set(
    workspace: Workspace, project_name: str, model_name: str, as_of: datetime, table: str | None = None
) -> TrainingSet:
    """Builds a model's training set as of a moment, as the Delta table `<model>_training_set` (or `table`).

    Columns: the entity's keys, prediction_time, label, label_known_at, the features. A label enters once its
    available_at <= as_of; a feature value only if its event_time <= the row's prediction time. Of several rows of an
    entity, and of several labels, the newest that was known counts; `warnings` says how many were superseded.
    Where the newest version was made from the same table versions and code as of the same moment, it stays as it is.
    Raises TableError where no row has a label, or no lookup finds a value for any row.
    """
    definition = Definition.of_model(model_name, workspace.project(project_name).model(model_name))
    inputs = _open_inputs(workspace, project_name, definition)
    name = f"{project_name}.{table or model_name + '_training_set'}"
    return _build(workspace, name, definition, inputs, as_of, [])


def training_set_of(
    workspace: Workspace, project: str, entities: "Entities", lookups: Sequence[Lookup], *, timestamp_key: str,
    label: str | None = None, as_known: bool = False, as_of: datetime | None = None, name: str | None = None,
    on_demand_features: dict[str, OnDemand] | None = None,
) -> TrainingSet:  # fmt: skip
    """The training set of entity rows that are given, as the Delta table `<name>_training_set`.

    Its rows are those of `entities` (a DataFrame of pandas or Spark, an Arrow table, or the name of a table), each
    once, duplicates too (`warnings` says how many); its columns those of `entities` and the features. timestamp_key:
    the column that says when each prediction is asked for, with a time zone. as_of: feature rows after it do not count;
    now by default. Rows that do not lie in a table are kept in `_entities_<name>`.

    Raises TableError for entity rows that cannot be used, for unknown tables, columns and keys, for a name that is
    taken (a declared model's), and where no lookup finds a value for any row.
    """
    title = name or "given"
    check_name(workspace, Address(project, f"{title}_training_set"))
    training_set_path(workspace, f"{project}.{title}_training_set")
    moment = now() if as_of is None else parse_as_of(as_of)
    inputs = open_lookups(workspace, project, lookups, as_known)
    commit = _marked(record(moment, run=workspace.lineage.run))
    kept = keep_entities(workspace, project, title, entities, timestamp_key, label, inputs, commit)
    computed = on_demand_features or {}
    looked_up = [lookup.output_name(feature) for lookup in lookups for feature in lookup.features]
    on_demand.check_inputs(f"{project}.{title}", computed, kept.columns, looked_up)
    columns = kept.columns if isinstance(entities, str) else None
    given = GivenEntities(table=kept.table.name, timestamp_key=timestamp_key, label=label, columns=columns)
    definition = Definition(given=given, lookups=list(lookups), on_demand=computed, as_known=as_known)
    inputs[kept.table.name] = kept.table
    return _build(workspace, f"{project}.{title}_training_set", definition, inputs, moment, kept.warnings)


def rebuild_training_set(workspace: Workspace, project: str, identifier: str) -> TrainingSet:
    """Builds a recorded training set again, from the table versions that it was made from.

    identifier: its id in `training_sets`, such as `late_arrival_training_set@3`. The result is the table
    `<table>_rebuilt`. Raises TableError for an unknown id, for table versions that are no longer there, and
    where the rows differ from those recorded.
    """
    made, definition = require_training_set(workspace, project, identifier)
    inputs = _open_inputs(workspace, project, definition, made.inputs)
    _require_versions(identifier, inputs)
    path = training_set_path(workspace, f"{made.table}_rebuilt")
    commit = _commit(workspace, project, definition, inputs, parse_as_of(made.as_of))
    content = _write(workspace, project, path, definition, inputs, commit)
    if content.hash != made.hash:
        raise TableError(
            f"{made.table}_rebuilt has {content.rows} rows with the hash {content.hash}, but {identifier} "
            f"had {made.rows} with {made.hash}: was the function of an on-demand feature changed since?"
        )
    return replace(made, table=f"{made.table}_rebuilt", path=path, version=version_of(path, commit))


def _require_versions(identifier: str, inputs: dict[str, InputTable]) -> None:
    """Raises TableError where VACUUM or a clean-up of the log removed what a recorded version needs."""
    for table in inputs.values():
        if not is_readable(table.path, table.version):
            raise TableError(
                f"{identifier} cannot be built again: {table.address}@{table.version}, from which it was made, was "
                "removed (VACUUM). Versions that a registered model needs are kept by the maintenance pipeline"
            )


def _build(
    workspace: Workspace, table: str, definition: Definition, inputs: dict[str, InputTable], as_of: datetime,
    warnings: list[str],
) -> TrainingSet:  # fmt: skip
    project, _, short = table.partition(".")
    path = training_set_path(workspace, table)
    commit = _commit(workspace, project, definition, inputs, as_of)
    last = latest_commit(path)
    if last is not None and _is_same(last[1], commit):
        standing = find_training_set(workspace, project, f"{short}@{last[0]}")
        if standing is not None:
            return standing[0]
    content = _write(workspace, project, path, definition, inputs, commit)
    warnings = [*warnings, *superseded_warnings(content), *_unused(definition, inputs)]
    if definition.as_known and content.first is not None:
        warnings = [*warnings, *first_fill_warnings(inputs, definition.lookups, content.first)]
    made = new_training_set(table, version_of(path, commit), path, commit, definition, content, warnings)
    write_record(workspace, made, definition, commit)
    return made


def _unused(definition: Definition, inputs: dict[str, InputTable]) -> list[str]:
    """What a person should know of rows of the entity and label tables that never count."""
    if definition.entity is None or definition.label is None:
        return []
    entity, label = definition.entity, definition.label
    found = [*unused_rows(inputs[entity.table], entity.prediction_time), *unused_rows(inputs[label.table])]
    return list(dict.fromkeys(found))


def _write(
    workspace: Workspace, project: str, path: str, definition: Definition, inputs: dict[str, InputTable],
    commit: CommitRecord,
) -> Content:  # fmt: skip
    with workspace.spark() as spark:
        frame, columns = _rows(workspace, spark, project, definition, inputs, commit.as_of_moment, None)
        spark.conf.set("spark.databricks.delta.commitInfo.userMetadata", commit.to_json())
        with on_demand.named_failures():
            return write_observed(
                frame, path, columns, definition.timestamp_key, definition.label_column, definition.lookups
            )


def _commit(
    workspace: Workspace, project: str, definition: Definition, inputs: dict[str, InputTable], as_of: datetime
) -> CommitRecord:
    versions = {table.address: table.version for table in inputs.values()}
    loaded = workspace.project(project)
    digest = content_digest(loaded, definition)
    return _marked(record(as_of, versions, folder=loaded.folder, definition=digest, run=workspace.lineage.run))


def _marked(commit: CommitRecord) -> CommitRecord:
    """The record with a mark of its own, by which the version that it makes is found."""
    return replace(commit, batch=uuid.uuid4().hex)


def _is_same(last: CommitRecord, commit: CommitRecord) -> bool:
    return (last.as_of, last.inputs, last.definition) == (commit.as_of, commit.inputs, commit.definition)


def read_training_set(training_set: TrainingSet) -> "pd.DataFrame":
    """The rows of a training set, sorted by prediction time and the columns before it.

    Raises TableError where maintenance removed them.
    """
    from penstock.lakehouse.small_tables import read

    require_rows(training_set)
    return in_order(read(training_set.path, version=training_set.version), training_set.timestamp_key)


def require_rows(training_set: TrainingSet) -> None:
    """Raises TableError where the rows of a recorded training set are no longer there."""
    if not is_readable(training_set.path, training_set.version):
        raise TableError(
            f"the rows of {training_set.id} were removed by maintenance, or with their table: build them again by "
            "rebuild_training_set"
        )


def labelled_rows(
    workspace: Workspace, project_name: str, model_name: str, as_of: datetime, after: datetime,
    lookups: Sequence[Lookup] | None = None, entity_features: Sequence[str] | None = None,
    on_demand_features: dict[str, OnDemand] | None = None, as_known: bool | None = None,
) -> "pd.DataFrame":  # fmt: skip
    """Labelled rows with a prediction time after `after`, as a training set's columns, sorted by time.

    `lookups`, `entity_features`, `on_demand_features` and `as_known` are those of a registered version; the spec's own
    by default.
    `attrs["inputs"]` names the tables that were read, with their versions.
    """
    definition = Definition.of_model(model_name, workspace.project(project_name).model(model_name))
    changes: dict[str, object] = {}
    if entity_features is not None and definition.entity is not None:
        changes["entity"] = definition.entity.model_copy(update={"features": list(entity_features)})
    if lookups is not None:
        changes["lookups"] = list(lookups)
    if on_demand_features is not None:
        changes["on_demand"] = on_demand_features
    if as_known is not None:
        changes["as_known"] = as_known
    definition = definition.model_copy(update=changes)
    inputs = _open_inputs(workspace, project_name, definition)
    with workspace.spark() as spark, on_demand.named_failures():
        frame, columns = _rows(workspace, spark, project_name, definition, inputs, as_of, after)
        found = frame.select(*map(quote, columns)).toPandas()
    rows = in_order(utc_timestamps(found), PREDICTION_TIME)
    rows.attrs["inputs"] = {table.address: table.version for table in inputs.values()}
    return rows


def _open_inputs(
    workspace: Workspace, project: str, definition: Definition, recorded: dict[str, int] | None = None
) -> dict[str, InputTable]:
    """The tables that a definition reads, by their names in it; with `recorded`, at these versions."""
    inputs = open_lookups(workspace, project, definition.lookups, definition.as_known)
    if definition.given is not None:
        kept = definition.given.table
        path = workspace.addresses.readable(kept)
        inputs[kept] = InputTable(kept, kept, path, definition.given.timestamp_key, -1)
    for part in (definition.entity, definition.label):
        if part is not None:
            inputs[part.table] = open_input(workspace, project, part.table)
    if recorded is None:
        return inputs
    return {
        name: replace(table, version=recorded[table.address])
        for name, table in inputs.items()
        if table.address in recorded
    }


def _rows(
    workspace: Workspace, spark: "SparkSession", project: str, definition: Definition, inputs: dict[str, InputTable],
    as_of: datetime, after: datetime | None,
) -> tuple["DataFrame", list[str]]:  # fmt: skip
    """The rows with all features (and whether each lookup matched), and the columns of the training set."""
    if definition.given is not None:
        kept = inputs[definition.given.table]
        entities = read_version(spark, kept.path, kept.version)
        own, counts = definition.given.columns or list(entities.columns), []
    else:
        entities, own = _labelled(spark, definition, inputs, as_of, after)
        counts = [ENTITY_VERSIONS, LABEL_VERSIONS]
    looked_up = [lookup.output_name(name) for lookup in definition.lookups for name in lookup.features]
    needed = [name for spec in definition.on_demand.values() for name in spec.inputs if name not in looked_up]
    joined = join_features(
        spark, entities, definition.lookups, inputs, as_of,
        keep=[*own, *needed, *counts], time=definition.timestamp_key, as_known=definition.as_known,
    )  # fmt: skip
    computed = on_demand.add(joined, on_demand.load(workspace.project(project), definition.on_demand))
    return computed, list(dict.fromkeys([*own, *looked_up, *definition.on_demand]))


def _labelled(
    spark: "SparkSession", definition: Definition, inputs: dict[str, InputTable], as_of: datetime,
    after: datetime | None,
) -> tuple["DataFrame", list[str]]:  # fmt: skip
    entity, label = definition.entity, definition.label
    assert entity is not None
    assert label is not None
    if after is None and definition.window is not None:
        after = as_of - definition.window
    known = known_labels(spark, label, entity.keys, inputs[label.table], as_of)
    rows = entity_rows(spark, entity, inputs, as_of, after).drop(LABEL, LABEL_KNOWN_AT)
    labelled = rows.join(known, list(entity.keys))
    own = [*entity.keys, PREDICTION_TIME, LABEL, LABEL_KNOWN_AT, *entity.features]
    return labelled, list(dict.fromkeys(own))


def in_order(frame: "pd.DataFrame", time: str) -> "pd.DataFrame":
    """Rows sorted by prediction time, and of one time by the columns before it."""
    before = list(frame.columns[: list(frame.columns).index(time)])
    return frame.sort_values([time, *before], kind="stable", ignore_index=True)


def utc_timestamps(frame: "pd.DataFrame") -> "pd.DataFrame":
    """Spark's Connect client hands out timestamps without a zone, in the session's: UTC."""
    for name, dtype in frame.dtypes.items():
        if str(dtype).startswith("datetime64") and getattr(dtype, "tz", None) is None:
            frame[name] = frame[name].dt.tz_localize("UTC")
    return frame
