"""Refresh of a feature table, first half: what it lacks is computed and staged.

The author writes the full transformation and declares its grain. The rows of the inputs that are new since
the table's last commit touch some groups of the grain; only those are recomputed, and rows of a touched group
that have no source any more are removed. The result equals the full recomputation. Where there is no grain, a
changed input does not map to it, or most groups are touched, the whole table is computed and only what differs
is merged.

The table's own commit records input versions and as_of, and carries Delta's txn mark: of two writers that planned
after one mark, one commits and the other is refused.
"""

from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING

from penstock.clock import to_text
from penstock.errors import NothingToDo, SpecError, TableError
from penstock.features.commits import commit_batch, new_record
from penstock.features.differences import difference, difference_here
from penstock.features.inputs import sql_moment, unused_rows
from penstock.features.known_moments import Moments, moments_there
from penstock.features.plan import Plan, make_plan
from penstock.features.readmission import settle_all
from penstock.features.restricted import current_here, has_whole_inputs, of_touched_groups, restricted_inputs
from penstock.features.staging import (
    Mode,
    StagedBatch,
    new_staging,
    remove_staging,
)
from penstock.features.touched import Touched, touched_groups
from penstock.lakehouse.records import BackfillProgress
from penstock.lakehouse.session import read_version
from penstock.spec.functions import load_function
from penstock.spec.loading import LoadedProject
from penstock.spec.project import FeatureTable
from penstock.spec.sql import bind, quote
from penstock.workspace import Workspace

if TYPE_CHECKING:
    import pyarrow as pa
    from pyspark.sql.connect.dataframe import DataFrame
    from pyspark.sql.connect.session import SparkSession


def stage_table(workspace: Workspace, project_name: str, table_name: str, as_of: datetime) -> StagedBatch:
    """Computes what a feature table lacks as of a moment, into a staging table that nobody else reads.

    Raises NothingToDo where no input changed or as_of was reached before; GateError where the table's definition
    changed, which asks for a backfill.
    """
    project = workspace.project(project_name)
    spec = feature_table(project, table_name)
    plan = make_plan(workspace, project, table_name, spec, as_of)
    with workspace.spark() as spark:
        views = {name: table.read(spark, as_of) for name, table in plan.inputs.items()}
        with touched_groups(spark, spec, plan, views, as_of) as (plan, touched):
            batch = new_batch(workspace, project, table_name, plan, as_of)
            if touched is None:
                batch = write_staging(batch, _changed_rows(spark, project, spec, plan, views, None, as_of))
            elif touched.count:
                query = _query(project, spec)
                with restricted_inputs(spark, spec, plan, views, touched, as_of, f"{batch.path}_inputs", query) as (
                    restricted,
                    moments,
                ):
                    rows = _changed_rows(spark, project, spec, plan, restricted, touched, as_of, moments)
                    batch = write_staging(batch, rows, few_rows=touched.few_rows)
    if batch.rows == 0:
        if batch.mode is Mode.FULL:
            settle_all(workspace, project_name, table_name)
        _record_reached(workspace, project, spec, plan, batch)
        raise NothingToDo(f"{project_name}.{table_name}: nothing changed as of {to_text(as_of)} ({plan.why})")
    return batch


def _changed_rows(
    spark: "SparkSession", project: LoadedProject, spec: FeatureTable, plan: Plan, views: dict[str, "DataFrame"],
    touched: Touched | None, as_of: datetime, moments: Moments | None = None,
) -> "DataFrame | pa.Table":  # fmt: skip
    time = quote(spec.event_time)
    # Rows without an event time are the gate's to set apart: it says so, and why.
    output = transform(spark, project, spec, views).where(f"{time} <= {sql_moment(as_of)} OR {time} IS NULL")
    if touched is not None and has_whole_inputs(spec):
        output = of_touched_groups(spark, output, spec, touched)
    moments = moments or moments_there(spec, plan, views, as_of)
    here = current_here(spec, plan, touched, as_of) if touched is not None else None
    if here is not None and moments.are_here:
        return difference_here(moments.added_here(output.toArrow(), spec), here, spec)
    output = moments.added(output, spec)
    if here is not None:
        return difference_here(output.toArrow(), here, spec)
    current = read_version(spark, plan.path, plan.version)
    if touched is not None:
        current = of_touched_groups(spark, current, spec, touched)
    return difference(output, None if plan.is_empty else current, spec)


def _record_reached(
    workspace: Workspace, project: LoadedProject, spec: FeatureTable, plan: Plan, batch: StagedBatch
) -> None:
    """Records that a table is as it was up to a later as_of: a row that comes for a moment before it is late."""
    if plan.last is not None:
        commit_batch(plan.path, spec, batch, new_record(workspace, project, batch), with_rows=False)
    remove_staging(batch.path)


def feature_table(project: LoadedProject, name: str) -> FeatureTable:
    """A feature table's declaration. Raises SpecError for an unknown one."""
    if name not in project.spec.feature_tables:
        known = ", ".join(project.spec.feature_tables) or "none"
        raise SpecError(f"{project.folder / 'project.yaml'}: no feature table {name!r} (there are: {known})")
    return project.spec.feature_tables[name]


def new_batch(
    workspace: Workspace, project: LoadedProject, table: str, plan: Plan, as_of: datetime,
    known_at: datetime | None = None, backfill: BackfillProgress | None = None,
) -> StagedBatch:  # fmt: skip
    """A batch without rows yet. as_of: what the table has reached with it; known_at: when its changes became known."""
    batch, path = new_staging(workspace, project.name, table)
    return StagedBatch(
        id=batch, project=project.name, table=table, path=path, version=0, rows=0, mode=plan.mode,
        why="; ".join([plan.why, *(said for found in plan.inputs.values() for said in unused_rows(found))]),
        as_of=to_text(as_of), known_at=to_text(known_at or as_of),
        inputs={name: found.version for name, found in plan.inputs.items()},
        input_ids={name: found.id for name, found in plan.inputs.items()},
        planned_mark=plan.mark, planned_version=plan.version, definition=plan.definition,
        backfill=backfill or _carried(plan), sources=plan.sources,
    )  # fmt: skip


def write_staging(batch: StagedBatch, rows: "DataFrame | pa.Table", few_rows: bool = False) -> StagedBatch:
    """Writes a batch's rows to its staging table; few of them by this process, which is quicker."""
    import pyarrow as pa
    from deltalake import DeltaTable, write_deltalake

    if isinstance(rows, pa.Table):
        write_deltalake(batch.path, rows)
    elif few_rows:
        write_deltalake(batch.path, rows.toArrow())
    else:
        rows.write.format("delta").save(batch.path)
    staged = DeltaTable(batch.path)
    return replace(batch, version=staged.version(), rows=staged.count())


def _carried(plan: Plan) -> BackfillProgress | None:
    """The table's last backfill; one that was not finished is, where everything is computed."""
    found = plan.last.backfill if plan.last else None
    return replace(found, finished=True) if found is not None and plan.mode is Mode.FULL else found


def transform(
    spark: "SparkSession", project: LoadedProject, spec: FeatureTable, views: dict[str, "DataFrame"]
) -> "DataFrame":
    """The output of a table's transformation over these inputs, with the declared columns and types.

    Raises TableError where a declared column is missing.
    """
    query = _query(project, spec)
    if query is not None:
        names = {name: f"penstock_{name.replace('.', '__').replace(':', '__')}" for name in views}
        for name, frame in views.items():
            frame.createOrReplaceTempView(names[name])
        output = spark.sql(bind(query, names))
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


def _query(project: LoadedProject, spec: FeatureTable) -> str | None:
    return None if spec.sql is None else (project.folder / spec.sql).read_text(encoding="utf-8")
