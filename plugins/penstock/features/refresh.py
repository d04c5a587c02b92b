"""Refresh of a feature table: stage what changed, validate it, merge it.

The author writes the full transformation and declares its grain. The rows of the inputs that are new since
the table's last commit touch some groups of the grain; only those are recomputed and merged, and rows of
a touched group that have no source any more are removed. The result equals the full recomputation.
Where there is no grain, or a changed input does not map to it, the whole table is computed and only what
differs is merged.

The table's own commit records input versions and as_of, and carries Delta's txn mark `version it was
planned against + 1`: of two writers that planned on one version, one commits and the other is refused
or skipped.
"""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import TYPE_CHECKING

from penstock.clock import to_text
from penstock.errors import NothingToDo, SpecError, TableError
from penstock.features.inputs import InputTable, open_input, quote, sql_moment
from penstock.lakehouse.records import CommitRecord, latest_record, record
from penstock.lakehouse.small_tables import create_if_missing, version
from penstock.spec.functions import load_function
from penstock.spec.loading import LoadedProject
from penstock.spec.project import FeatureTable, Grain, GrainInput
from penstock.spec.sql import bind
from penstock.workspace import Workspace

if TYPE_CHECKING:
    from pyspark.sql.connect.dataframe import DataFrame
    from pyspark.sql.connect.session import SparkSession

CHANGE = "_change"


class Change(StrEnum):
    """What a staged row does to the table; the column `_change` of a staging table."""

    INSERT = "insert"
    UPDATE = "update"
    DELETE = "delete"


class Mode(StrEnum):
    """How much of a table a refresh computes."""

    INCREMENTAL = "incremental"
    FULL = "full"


@dataclass(frozen=True)
class StagedBatch:
    """Rows to merge into a feature table: a staging table at a version, and what they were made from."""

    project: str
    table: str
    path: str
    version: int
    rows: int
    mode: Mode
    why: str
    as_of: str
    inputs: dict[str, int]
    planned_version: int
    definition: str


@dataclass(frozen=True)
class _Plan:
    mode: Mode
    why: str
    inputs: dict[str, InputTable]
    last: CommitRecord | None
    definition: str
    is_empty: bool = False


def stage_table(workspace: Workspace, project_name: str, table_name: str, as_of: datetime) -> StagedBatch:
    """Computes what a feature table lacks as of a moment, into a staging table that nobody else reads.

    Raises NothingToDo where no input changed or as_of was reached before.
    """
    project = workspace.project(project_name)
    spec = feature_table(project, table_name)
    target = _create(workspace, project, table_name, spec)
    planned_version = version(target)
    plan = _plan(workspace, project, table_name, spec, target, as_of)
    with workspace.spark() as spark:
        staging = workspace.addresses.writable(f"{project_name}._staging_{table_name}")
        with _touched_groups(spark, spec, plan, as_of) as touched:
            batch = _compute(spark, project, spec, plan, target, as_of, touched)
            batch.write.format("delta").mode("overwrite").option("overwriteSchema", "true").save(staging)
    staged_version = version(staging)
    rows = _row_count(staging, staged_version)
    if rows == 0:
        raise NothingToDo(f"{project_name}.{table_name}: nothing changed as of {to_text(as_of)} ({plan.why})")
    return StagedBatch(
        project=project_name, table=table_name, path=staging, version=staged_version, rows=rows,
        mode=plan.mode, why=plan.why, as_of=to_text(as_of), planned_version=planned_version,
        inputs={name: table.version for name, table in plan.inputs.items()}, definition=plan.definition,
    )  # fmt: skip


def feature_table(project: LoadedProject, name: str) -> FeatureTable:
    """A feature table's declaration. Raises SpecError for an unknown one."""
    if name not in project.spec.feature_tables:
        known = ", ".join(project.spec.feature_tables) or "none"
        raise SpecError(f"{project.folder / 'project.yaml'}: no feature table {name!r} (there are: {known})")
    return project.spec.feature_tables[name]


def _create(workspace: Workspace, project: LoadedProject, name: str, spec: FeatureTable) -> str:
    path = workspace.addresses.writable(f"{project.name}.{name}")
    create_if_missing(
        path, spec.columns, keys=spec.key_columns, description=spec.description,
        properties={"penstock.owner": spec.owner or project.spec.owner, "penstock.event_time": spec.event_time,
                    "penstock.inputs": ",".join(spec.inputs), "penstock.writer": "spark"},
    )  # fmt: skip
    return path


def _plan(
    workspace: Workspace, project: LoadedProject, name: str, spec: FeatureTable, target: str, as_of: datetime
) -> _Plan:
    from deltalake import DeltaTable

    inputs = {table: open_input(workspace, project.name, table) for table in spec.inputs}
    definition = definition_hash(project, spec)
    last = latest_record(target)
    if last is None:
        return _Plan(Mode.FULL, "the table is new", inputs, None, definition, DeltaTable(target).count() == 0)
    if as_of < last.as_of_moment:
        raise NothingToDo(
            f"{project.name}.{name} has already reached {last.as_of}: as_of {to_text(as_of)} writes nothing"
        )
    if last.definition != definition:
        return _Plan(Mode.FULL, "its definition changed", inputs, last, definition)
    changed = [table for table, found in inputs.items() if last.inputs.get(table) != found.version]
    if not changed and as_of == last.as_of_moment:
        raise NothingToDo(f"{project.name}.{name}: no input changed since {last.as_of}")
    if spec.grain is None:
        return _Plan(Mode.FULL, "it declares no grain", inputs, last, definition)
    moved = [name for name in inputs if name in changed or inputs[name].has_rows(last.as_of_moment, as_of)]
    unmapped = [table for table in moved if table not in spec.grain.inputs]
    if unmapped:
        return _Plan(Mode.FULL, f"{', '.join(unmapped)} changed and has no grain", inputs, last, definition)
    unfed = [table for table in changed if not inputs[table].has_change_feed()]
    if unfed:
        return _Plan(Mode.FULL, f"{', '.join(unfed)} has no change data feed", inputs, last, definition)
    return _Plan(Mode.INCREMENTAL, f"changed: {', '.join(changed) or 'the clock'}", inputs, last, definition)


def definition_hash(project: LoadedProject, spec: FeatureTable) -> str:
    """A digest of what decides a table's content: its transformation's source, inputs, keys and grain."""
    if spec.sql is not None:
        source = (project.folder / spec.sql).read_text(encoding="utf-8")
    else:
        module = str(spec.function).rpartition(".")[0].replace(".", "/")
        source = f"{spec.function}\n{(project.folder / (module + '.py')).read_text(encoding='utf-8')}"
    declared = spec.model_dump_json(include={"primary_keys", "event_time", "inputs", "grain", "columns"})
    return hashlib.sha256(f"{source}\n{declared}".encode()).hexdigest()[:16]


def _compute(
    spark: "SparkSession", project: LoadedProject, spec: FeatureTable, plan: _Plan, target: str, as_of: datetime,
    touched: "DataFrame | None",
) -> "DataFrame":  # fmt: skip
    views = {name: table.read(spark, as_of) for name, table in plan.inputs.items()}
    current = spark.read.format("delta").load(target)
    if touched is not None and spec.grain is not None:
        views = {name: _restrict(frame, name, spec.grain, touched) for name, frame in views.items()}
        current = _semi_join(current, touched, {column: quote(column) for column in spec.grain.columns})
    output = _transform(spark, project, spec, views)
    output = output.where(f"{quote(spec.event_time)} <= {sql_moment(as_of)}")
    if plan.last is None and plan.is_empty:
        from pyspark.sql.connect import functions as F

        return output.withColumn(CHANGE, F.lit(str(Change.INSERT)))
    return _difference(output, current, spec)


@contextmanager
def _touched_groups(
    spark: "SparkSession", spec: FeatureTable, plan: _Plan, as_of: datetime
) -> Iterator["DataFrame | None"]:
    """The groups to compute, kept on the server while they are used; None where everything is computed."""
    if plan.mode is Mode.FULL or spec.grain is None:
        yield None
        return
    views = {name: table.read(spark, as_of) for name, table in plan.inputs.items()}
    touched = _touched(spark, spec.grain, spec.event_time, plan, views, as_of).persist()
    try:
        yield touched
    finally:
        touched.unpersist()


def _touched(
    spark: "SparkSession", grain: Grain, event_time: str, plan: _Plan, views: dict[str, "DataFrame"], as_of: datetime
) -> "DataFrame":
    """The groups to compute: those of changed rows, of rows that as_of uncovered, and those withheld so far."""
    assert plan.last is not None
    since = plan.last.as_of_moment
    parts = []
    for name, mapping in grain.inputs.items():
        table, seen = plan.inputs[name], plan.last.inputs.get(name)
        if seen is None:
            parts.append(_groups(table.read(spark, as_of), name, mapping, grain, views))
            continue
        if seen != table.version:
            parts.append(_groups(table.changes(spark, seen, as_of), name, mapping, grain, views))
        parts.append(_groups(table.read(spark, as_of, after=since), name, mapping, grain, views))
        if event_time in grain.columns:
            withheld = _groups(views[name], name, mapping, grain, views)
            parts.append(withheld.where(f"{quote(event_time)} > {sql_moment(since)}"))
    union = parts[0]
    for part in parts[1:]:
        union = union.unionByName(part)
    return union.distinct()


def _groups(
    rows: "DataFrame", name: str, mapping: GrainInput, grain: Grain, views: dict[str, "DataFrame"]
) -> "DataFrame":
    if mapping.join is not None:
        rows = rows.alias(name).join(views[mapping.join.input].alias(mapping.join.input), mapping.join.using)
    else:
        rows = rows.alias(name)
    return rows.selectExpr(
        *(f"{mapping.expressions[column]} AS {quote(column)}" for column in grain.columns)
    ).distinct()


def _restrict(frame: "DataFrame", name: str, grain: Grain, touched: "DataFrame") -> "DataFrame":
    mapping = grain.inputs.get(name)
    if mapping is None or mapping.join is not None:
        return frame
    return _semi_join(frame, touched, mapping.expressions)


def _semi_join(frame: "DataFrame", touched: "DataFrame", expressions: dict[str, str]) -> "DataFrame":
    from pyspark.sql.connect import functions as F

    keyed = frame.select("*", *(F.expr(expression).alias(f"__{column}") for column, expression in expressions.items()))
    groups = touched.select(*(F.col(column).alias(f"__touched_{column}") for column in expressions))
    same = [F.col(f"__{column}").eqNullSafe(F.col(f"__touched_{column}")) for column in expressions]
    joined = keyed.join(F.broadcast(groups), same, "left_semi")
    return joined.drop(*(f"__{column}" for column in expressions))


def _transform(
    spark: "SparkSession", project: LoadedProject, spec: FeatureTable, views: dict[str, "DataFrame"]
) -> "DataFrame":
    if spec.sql is not None:
        names = {name: f"penstock_{name.replace('.', '__').replace(':', '__')}" for name in views}
        for name, frame in views.items():
            frame.createOrReplaceTempView(names[name])
        output = spark.sql(bind((project.folder / spec.sql).read_text(encoding="utf-8"), names))
    else:
        output = load_function(project, str(spec.function))(views)
    missing = [name for name in spec.columns if name not in output.columns]
    if missing:
        where = spec.sql or spec.function
        raise TableError(
            f"{project.folder / str(where)}: the declared column(s) {', '.join(missing)} are missing in its output"
        )
    return output.selectExpr(
        *(f"CAST({quote(name)} AS {column.type}) AS {quote(name)}" for name, column in spec.columns.items())
    )


def _difference(output: "DataFrame", current: "DataFrame", spec: FeatureTable) -> "DataFrame":
    """Rows of `output` that `current` lacks or has otherwise, and rows that only `current` has, by their change."""
    from pyspark.sql.connect import functions as F

    same_key = [F.col(f"new.{quote(key)}") == F.col(f"old.{quote(key)}") for key in spec.key_columns]
    both = (
        output.withColumn("__new", F.lit(True)).alias("new")
        .join(current.withColumn("__old", F.lit(True)).alias("old"), same_key, "full_outer")
    )  # fmt: skip
    gone, new = F.col("__new").isNull(), F.col("__old").isNull()
    same = ~gone & ~new
    for name in spec.columns:
        same &= F.col(f"new.{quote(name)}").eqNullSafe(F.col(f"old.{quote(name)}"))
    return both.where(~same).select(
        *(
            F.when(gone, F.col(f"old.{quote(name)}")).otherwise(F.col(f"new.{quote(name)}")).alias(name)
            for name in spec.columns
        ),
        F.when(gone, str(Change.DELETE)).when(new, str(Change.INSERT)).otherwise(str(Change.UPDATE)).alias(CHANGE),
    )


def _row_count(path: str, at_version: int) -> int:
    from deltalake import DeltaTable

    return DeltaTable(path, version=at_version).count()


def new_record(workspace: Workspace, project: LoadedProject, batch: StagedBatch) -> CommitRecord:
    """The record of the commit that merges a batch."""
    from penstock.clock import parse_as_of

    return record(
        parse_as_of(batch.as_of), batch.inputs, folder=project.folder, definition=batch.definition,
        run=workspace.lineage.run,
    )  # fmt: skip
