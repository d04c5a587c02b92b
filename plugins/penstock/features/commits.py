"""The commits of a refresh: a batch and the record of what it was made from, once."""

from dataclasses import replace
from typing import TYPE_CHECKING

from penstock.clock import parse_as_of
from penstock.errors import ServiceError
from penstock.features.staging import CHANGE, Change, StagedBatch, app_id, stored_names
from penstock.lakehouse.records import CommitRecord, latest_record, record
from penstock.lakehouse.small_tables import further_fields, read_parts, stream, with_nulls
from penstock.spec.loading import LoadedProject
from penstock.spec.project import FeatureTable
from penstock.spec.sql import quote
from penstock.workspace import Workspace

if TYPE_CHECKING:
    import pyarrow as pa
    from deltalake import CommitProperties, DeltaTable


def new_record(workspace: Workspace, project: LoadedProject, batch: StagedBatch) -> CommitRecord:
    """The record of the commit that merges a batch."""
    commit = record(
        parse_as_of(batch.as_of), batch.inputs, folder=project.folder, definition=batch.definition,
        run=workspace.lineage.run,
    )  # fmt: skip
    return replace(
        commit, input_ids=batch.input_ids, batch=batch.id, backfill=batch.backfill, known_by_inputs=True,
        sources=batch.sources,
    )  # fmt: skip


def commit_batch(
    target: str, spec: FeatureTable, batch: StagedBatch, commit: CommitRecord, *, with_rows: bool = True
) -> None:  # fmt: skip
    """Appends (new keys only; or nothing, without `with_rows`) or merges staged rows, in a commit with record and mark.

    Rows are read and written part by part. Raises ServiceError where another refresh has left its mark since the plan.
    """
    import pyarrow as pa
    from deltalake import CommitProperties, DeltaTable, Transaction, write_deltalake
    from deltalake.exceptions import CommitFailedError

    consumer = app_id(batch.project, batch.table)
    table = DeltaTable(target)
    if table.transaction_version(consumer) != batch.planned_mark:
        raise _overtaken(target, batch)
    properties = CommitProperties(
        custom_metadata={"userMetadata": commit.to_json()},
        app_transactions=[Transaction(consumer, batch.planned_version + 1)],
    )
    try:
        if not with_rows:
            nothing = pa.schema(table.schema().to_arrow()).empty_table()
            write_deltalake(table, nothing, mode="append", commit_properties=properties)
        elif _has_only_inserts(batch):
            names = stored_names(spec)
            fields = further_fields(target, names)
            parts = (with_nulls(part, fields) for part in read_parts(batch.path, batch.version, names))
            write_deltalake(table, stream(parts), mode="append", commit_properties=properties)
        else:
            staged = read_parts(batch.path, batch.version, [*stored_names(spec), CHANGE])
            _merge(table, spec, stream(staged), properties)
    except CommitFailedError as error:
        raise _overtaken(target, batch) from error


def _overtaken(target: str, batch: StagedBatch) -> ServiceError:
    last = latest_record(target)
    return ServiceError(
        f"{batch.project}.{batch.table}: another writer (as of {last.as_of if last else 'unknown'}) was faster; "
        "run the refresh again, it goes on from there"
    )


def _has_only_inserts(batch: StagedBatch) -> bool:
    import pyarrow.compute as compute

    parts = read_parts(batch.path, batch.version, [CHANGE])
    return all(set(compute.unique(part[CHANGE]).to_pylist()) <= {str(Change.INSERT)} for part in parts)


def _merge(
    table: "DeltaTable", spec: FeatureTable, rows: "pa.RecordBatchReader", properties: "CommitProperties"
) -> None:
    keys = " AND ".join(f"t.{quote(key)} = s.{quote(key)}" for key in spec.key_columns)
    values = {quote(name): f"s.{quote(name)}" for name in stored_names(spec)}
    (
        table.merge(rows, keys, source_alias="s", target_alias="t", commit_properties=properties)
        .when_matched_delete(f"s.{CHANGE} = '{Change.DELETE}'")
        .when_matched_update(values)
        .when_not_matched_insert(values, predicate=f"s.{CHANGE} <> '{Change.DELETE}'")
        .execute()
    )  # fmt: skip
