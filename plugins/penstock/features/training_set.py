"""Training sets: labelled entity rows with the features as they were known at each prediction time."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from penstock.clock import to_text
from penstock.errors import TableError
from penstock.features.inputs import InputTable, open_input, quote, sql_moment
from penstock.features.point_in_time import PREDICTION_TIME, join_features
from penstock.lakehouse.records import CommitRecord, latest_record, record
from penstock.spec.project import Entity, Lookup, Model
from penstock.workspace import Workspace

if TYPE_CHECKING:
    import pandas as pd
    from pyspark.sql.connect.dataframe import DataFrame
    from pyspark.sql.connect.session import SparkSession

LABEL = "label"
LABEL_KNOWN_AT = "label_known_at"


@dataclass(frozen=True)
class TrainingSet:
    """A training set in the lakehouse: `table`@`version`, from which table versions, over which time."""

    table: str
    version: int
    path: str
    as_of: str
    inputs: dict[str, int]
    rows: int
    first_prediction_time: str
    last_prediction_time: str
    label_mean: float


def build_training_set(
    workspace: Workspace, project_name: str, model_name: str, as_of: datetime, table: str | None = None
) -> TrainingSet:
    """Builds a model's training set as of a moment, as the Delta table `<model>_training_set` (or `table`).

    Columns: the entity's keys, prediction_time, label, label_known_at, the features. A label enters once its
    available_at <= as_of; a feature value only if its event_time <= the row's prediction time.
    Where the newest version was made from the same table versions as of the same moment, it is left as it is.
    Raises TableError where no row has a label.
    """
    from penstock.lakehouse.small_tables import version

    project = workspace.project(project_name)
    model = project.model(model_name)
    name = f"{project_name}.{table or model_name + '_training_set'}"
    path = workspace.addresses.writable(name)
    inputs = _open_inputs(workspace, project_name, model, model.lookups)
    versions = {found.address: found.version for found in inputs.values()}
    commit = record(
        as_of, versions, folder=project.folder, definition=_definition(model), run=workspace.lineage.run
    )  # fmt: skip
    if _is_built(path, commit):
        return _describe(name, path, version(path), as_of, versions)
    with workspace.spark() as spark:
        after = as_of - model.training.window if model.training.window else None
        frame = _labelled(spark, model, model.lookups, inputs, as_of, after)
        spark.conf.set("spark.databricks.delta.commitInfo.userMetadata", commit.to_json())
        frame.write.format("delta").mode("overwrite").option("overwriteSchema", "true").save(path)
    return _describe(name, path, version(path), as_of, versions)


def _definition(model: Model) -> str:
    """A digest of what decides a training set's rows and columns."""
    declared = model.model_dump_json(include={"entity": True, "label": True, "lookups": True, "training": {"window"}})
    return hashlib.sha256(declared.encode()).hexdigest()[:16]


def _is_built(path: str, commit: CommitRecord) -> bool:
    last = latest_record(path)
    if last is None:
        return False
    return (last.as_of, last.inputs, last.definition) == (commit.as_of, commit.inputs, commit.definition)


def read_training_set(training_set: TrainingSet) -> "pd.DataFrame":
    """The rows of a training set, sorted by prediction time and keys."""
    from penstock.lakehouse.small_tables import read

    return _sorted(read(training_set.path, version=training_set.version))


def labelled_rows(
    workspace: Workspace, project_name: str, model_name: str, as_of: datetime, after: datetime,
    lookups: Sequence[Lookup] | None = None, entity_features: Sequence[str] | None = None,
) -> "pd.DataFrame":  # fmt: skip
    """Labelled rows with a prediction time after `after`, as a training set's columns, sorted by time.

    `lookups` and `entity_features` are those of a registered version; the spec's own by default.
    """
    model = workspace.project(project_name).model(model_name)
    if entity_features is not None:
        entity = model.entity.model_copy(update={"features": list(entity_features)})
        model = model.model_copy(update={"entity": entity})
    chosen = list(model.lookups if lookups is None else lookups)
    inputs = _open_inputs(workspace, project_name, model, chosen)
    with workspace.spark() as spark:
        return _sorted(utc_timestamps(_labelled(spark, model, chosen, inputs, as_of, after).toPandas()))


def entity_rows(
    spark: "SparkSession", entity: Entity, inputs: dict[str, InputTable], as_of: datetime, after: datetime | None
) -> "DataFrame":
    """Entity rows with prediction time in (after, as_of] that were known at as_of, with `prediction_time`."""
    from pyspark.sql.connect import functions as F

    frame = inputs[entity.table].read(spark, as_of)
    time = quote(entity.prediction_time)
    frame = frame.where(f"{time} <= {sql_moment(as_of)}")
    if after is not None:
        frame = frame.where(f"{time} > {sql_moment(after)}")
    return frame.withColumn(PREDICTION_TIME, F.col(time))


def _open_inputs(workspace: Workspace, project: str, model: Model, lookups: Sequence[Lookup]) -> dict[str, InputTable]:
    names = {model.entity.table, model.label.table, *(lookup.table for lookup in lookups)}
    return {name: open_input(workspace, project, name) for name in sorted(names)}


def _labelled(
    spark: "SparkSession", model: Model, lookups: Sequence[Lookup], inputs: dict[str, InputTable],
    as_of: datetime, after: datetime | None,
) -> "DataFrame":  # fmt: skip
    from pyspark.sql.connect import functions as F

    labels = inputs[model.label.table]
    known = labels.read(spark, as_of).select(
        *(F.col(quote(key)) for key in model.entity.keys),
        F.expr(model.label.expression).cast("double").alias(LABEL),
        F.col(quote(labels.available_at)).alias(LABEL_KNOWN_AT),
    )  # fmt: skip
    entities = (
        entity_rows(spark, model.entity, inputs, as_of, after)
        .join(known, list(model.entity.keys))
        .where(f"{LABEL} IS NOT NULL")
    )
    joined = join_features(spark, entities, lookups, inputs, as_of)
    return joined.select(*_columns(model, lookups))


def _columns(model: Model, lookups: Sequence[Lookup]) -> list[str]:
    looked_up = [lookup.output_name(name) for lookup in lookups for name in lookup.features]
    ordered = [*model.entity.keys, PREDICTION_TIME, LABEL, LABEL_KNOWN_AT, *model.entity.features, *looked_up]
    return list(dict.fromkeys(ordered))


def _describe(name: str, path: str, version: int, as_of: datetime, inputs: dict[str, int]) -> TrainingSet:
    from penstock.lakehouse.small_tables import read_arrow

    frame = read_arrow(path, version=version, columns=[PREDICTION_TIME, LABEL]).to_pandas()
    if frame.empty:
        raise TableError(
            f"{name}: no entity row has a label that was known at {to_text(as_of)}: "
            "have the entity and label tables been filled, and do their keys match?"
        )
    times = frame[PREDICTION_TIME]
    return TrainingSet(
        table=name, version=version, path=path, as_of=to_text(as_of), inputs=inputs, rows=len(frame),
        first_prediction_time=to_text(times.min()), last_prediction_time=to_text(times.max()),
        label_mean=float(frame[LABEL].mean()),
    )  # fmt: skip


def _sorted(frame: "pd.DataFrame") -> "pd.DataFrame":
    keys = list(frame.columns[: list(frame.columns).index(PREDICTION_TIME)])
    return frame.sort_values([PREDICTION_TIME, *keys], kind="stable", ignore_index=True)


def utc_timestamps(frame: "pd.DataFrame") -> "pd.DataFrame":
    """Spark's Connect client hands out timestamps without a zone, in the session's: UTC."""
    for name, dtype in frame.dtypes.items():
        if str(dtype).startswith("datetime64") and getattr(dtype, "tz", None) is None:
            frame[name] = frame[name].dt.tz_localize("UTC")
    return frame
