"""Writing a table of one's own: a merge by primary keys and event time, in one commit with its record.

A row that was overwritten or removed stays readable in `<table>_history`, with the time until which it was known:
whoever asks for the values as known at a moment gets them from there. The history is written first, so that a
killed writer leaves a version at most twice, never not at all.
"""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from penstock.clock import to_text
from penstock.errors import TableError
from penstock.features.histories import history_path
from penstock.features.known import KNOWN_AT, KNOWN_UNTIL
from penstock.features.own_tables import (
    OwnTable,
    TableDefinition,
    check_types,
    infer_schema,
    require_columns,
    stored_columns,
)
from penstock.features.rows_here import MappedTable
from penstock.lakehouse.addresses import Address
from penstock.lakehouse.attempts import attempts
from penstock.lakehouse.records import CommitRecord, latest_record, record
from penstock.spec.project import Column, ColumnType
from penstock.spec.sql import quote
from penstock.workspace import Workspace

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

_OLD = "__old"
_CHANGED = "__changed"


class WriteMode(StrEnum):
    """merge: rows of new keys are added, of known keys replaced; overwrite: rows that are not given go, too."""

    MERGE = "merge"
    OVERWRITE = "overwrite"


@dataclass(frozen=True)
class WrittenTable:
    """A table after a write: its version, and how many rows were added, changed and removed."""

    table: str
    version: int
    added: int
    changed: int
    removed: int
    as_of: str


def write_rows(
    workspace: Workspace, table: OwnTable, frame: "pd.DataFrame", mode: WriteMode, as_of: datetime,
    inputs: dict[str, int] | None = None,
) -> WrittenTable:  # fmt: skip
    """Writes rows; what does not change anything leaves the table at its version.

    A changed row is known from as_of; a new one from its event time, or, where the table had already been written
    up to a later moment, from as_of (it is late). Raises TableError for unknown or missing columns, other types, null
    or repeated keys, and an as_of before the last write's; ServiceError where other writers were faster many times.
    """
    rows = check_rows(table.address, table.definition, frame)
    folder = workspace.project(table.address.project).folder
    commit = record(as_of, inputs, folder=folder, definition=CLIENT_WRITE, run=workspace.lineage.run)
    for _ in attempts(str(table.address)):
        last = latest_record(table.path)
        if last is not None and as_of < last.as_of_moment:
            raise TableError(
                f"{table.address} was written as of {last.as_of} already: as_of {to_text(as_of)} lies before it"
            )
        found = _try(workspace, table, rows, mode, as_of, last, commit)
        if found is not None:
            return found
    raise AssertionError  # attempts raises before it ends


CLIENT_WRITE = "FeatureStore.write_table"


def check_rows(address: Address, definition: TableDefinition, frame: "pd.DataFrame") -> "pa.Table":
    """The frame as an Arrow table of the declared columns. Raises TableError for what does not fit."""
    import pyarrow as pa

    from penstock.lakehouse.small_tables import to_arrow

    require_columns(address, definition, [str(name) for name in frame.columns])
    missing = [name for name in definition.columns if name not in frame.columns]
    if missing:
        raise TableError(
            f"{address}: the column(s) {', '.join(missing)} are missing; give nulls where nothing is known"
        )
    _check_kinds(address, definition, frame)
    rows = to_arrow(frame, {name: column.type for name, column in definition.columns.items()}, str(address))
    _check_keys(address, definition.key_columns, rows)
    return rows.cast(
        pa.schema([field.with_nullable(field.name not in definition.key_columns) for field in rows.schema])
    )


def _check_kinds(address: Address, definition: TableDefinition, frame: "pd.DataFrame") -> None:
    """Numbers may widen (int to double); text never becomes a number, nor a number text."""
    import pyarrow as pa

    numbers = {ColumnType.INT, ColumnType.BIGINT, ColumnType.FLOAT, ColumnType.DOUBLE}
    given = {}
    for name in frame.columns:
        try:
            rows = pa.table({str(name): pa.Array.from_pandas(frame[name])})
        except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
            raise TableError(f"{address}.{name} holds values of several types: {error}") from error
        if rows.column(0).null_count == len(rows):
            continue
        (column,) = infer_schema(rows, {}).values()
        if not {column.type, definition.columns[str(name)].type} <= numbers:
            given[str(name)] = column
    check_types(address, definition, given)


def _check_keys(address: Address, keys: list[str], rows: "pa.Table") -> None:
    import pyarrow.compute as compute

    for key in keys:
        if rows[key].null_count:
            raise TableError(
                f"{address}.{key} is null in {rows[key].null_count} of {len(rows)} rows: a key has a value"
            )
    counts = rows.group_by(keys).aggregate([([], "count_all")])
    repeated = counts.filter(compute.greater(counts["count_all"], 1))
    if len(repeated):
        first = repeated.slice(0, 1).to_pylist()[0]
        shown = ", ".join(f"{key}={first[key]}" for key in keys)
        raise TableError(
            f"{address}: {len(repeated)} key(s) occur more than once, such as {shown}: "
            "keep one row for each of the primary keys and event time"
        )


def _try(
    workspace: Workspace, table: OwnTable, rows: "pa.Table", mode: WriteMode, as_of: datetime,
    last: CommitRecord | None, commit: CommitRecord,
) -> WrittenTable | None:  # fmt: skip
    """One attempt against the newest version; None where another writer was faster."""
    from deltalake import DeltaTable
    from deltalake.exceptions import CommitFailedError

    stored = DeltaTable(table.path)
    there = _read(stored, table, rows, mode)
    plan = _plan(table, rows, there, mode, as_of, last)
    if plan.is_empty:
        return WrittenTable(str(table.address), stored.version(), 0, 0, 0, to_text(as_of))
    if len(plan.old):
        _keep_old(workspace, table, plan.old, as_of, commit)
    try:
        _merge(stored, table, plan.new, mode, commit)
    except CommitFailedError:
        return None
    return WrittenTable(
        str(table.address), stored.version(), plan.added, plan.changed, len(plan.old) - plan.changed, to_text(as_of)
    )


@dataclass(frozen=True)
class _Plan:
    """new: the rows to merge, with `_known_at` and whether they differ; old: those that they replace or remove."""

    new: "pa.Table"
    old: "pa.Table"
    added: int
    changed: int

    @property
    def is_empty(self) -> bool:
        return not (self.added or self.changed or len(self.old))


def _read(stored: Any, table: OwnTable, rows: "pa.Table", mode: WriteMode) -> "pa.Table":
    """The stored rows that a write is held against: those of the given keys, and for an overwrite all.

    Files that have none of the keys by the log's statistics are not read; of the others, one after the other, only
    these rows stay.
    """
    import pyarrow as pa

    from penstock.lakehouse.small_tables import read_arrow, read_parts

    columns, keys = list(stored_columns(table.definition)), table.definition.key_columns
    if mode is WriteMode.OVERWRITE:
        return read_arrow(table.path, version=stored.version(), columns=columns)
    wanted = rows.select(keys)

    def of_keys(part: "pa.Table") -> "pa.Table":
        return part.join(wanted, keys, join_type="left semi")

    mapped = MappedTable.of(table.path, stored, "stored", {key: quote(key) for key in keys})
    if mapped is None:
        return pa.concat_tables(map(of_keys, read_parts(table.path, stored.version(), columns)))
    return mapped.files.read(columns, mapped.files_of(wanted), of_keys)


def _plan(
    table: OwnTable, rows: "pa.Table", there: "pa.Table", mode: WriteMode, as_of: datetime, last: CommitRecord | None
) -> _Plan:
    import pyarrow as pa
    import pyarrow.compute as compute

    keys, time = table.definition.key_columns, table.definition.timestamp_key
    values = [name for name in table.definition.columns if name not in keys]
    before = there.append_column("__is_old", pa.array([True] * len(there), pa.bool_()))
    joined = rows.join(before, keys, join_type="left outer", right_suffix=_OLD).combine_chunks()
    is_new = compute.is_null(joined["__is_old"])
    changed = compute.and_(compute.invert(is_new), _differs(joined, values))
    moment = pa.scalar(as_of, pa.timestamp("us", tz="UTC"))
    late = compute.less_equal(joined[time], pa.scalar(last.as_of_moment, moment.type)) if last else False
    known = compute.if_else(is_new, compute.if_else(late, moment, joined[time]), joined[KNOWN_AT])
    new = joined.select(list(table.definition.columns))
    new = new.append_column(KNOWN_AT, compute.if_else(changed, moment, known))
    new = new.append_column(_CHANGED, changed)
    if mode is WriteMode.MERGE:
        new = new.filter(compute.or_(is_new, changed))
    replaced = joined.filter(changed).select(keys)
    if mode is WriteMode.OVERWRITE:
        replaced = pa.concat_tables([replaced, there.select(keys).join(rows.select(keys), keys, join_type="left anti")])
    old = there.join(replaced, keys, join_type="left semi")
    return _Plan(new, old, _count(is_new), _count(changed))


def _differs(joined: "pa.Table", values: list[str]) -> Any:
    """Whether any value is not the old one; null equals null."""
    import pyarrow as pa
    import pyarrow.compute as compute

    differs = pa.chunked_array([pa.array([False] * len(joined), pa.bool_())])
    for name in values:
        now, before = joined[name], joined[f"{name}{_OLD}"]
        same = compute.fill_null(compute.equal(now, before), False)
        both_null = compute.and_(compute.is_null(now), compute.is_null(before))
        differs = compute.or_(differs, compute.invert(compute.or_(same, both_null)))
    return differs


def _count(mask: Any) -> int:
    import pyarrow.compute as compute

    return int(compute.sum(mask).as_py() or 0)


def _keep_old(workspace: Workspace, table: OwnTable, old: "pa.Table", as_of: datetime, commit: CommitRecord) -> None:
    import pyarrow as pa

    from penstock.lakehouse.small_tables import create_if_missing, upsert

    path = history_path(workspace, table.address)
    keys = [*table.definition.key_columns, KNOWN_AT]
    until = Column(type=ColumnType.TIMESTAMP, description="until when these values were known, UTC")
    create_if_missing(
        path, {**stored_columns(table.definition), KNOWN_UNTIL: until}, keys=table.definition.key_columns,
        description=f"Row versions of {table.address} that were corrected or removed.",
    )  # fmt: skip
    moment = pa.scalar(as_of, pa.timestamp("us", tz="UTC"))
    upsert(path, old.append_column(KNOWN_UNTIL, pa.repeat(moment, len(old))), keys, commit)


def _merge(stored: Any, table: OwnTable, new: "pa.Table", mode: WriteMode, commit: CommitRecord) -> None:
    from deltalake import CommitProperties

    keys = table.definition.key_columns
    columns = [name for name in new.column_names if name != _CHANGED]
    condition = " AND ".join(f"s.{quote(key)} = t.{quote(key)}" for key in keys)
    values = {quote(name): f"s.{quote(name)}" for name in columns}
    merge = (
        stored.merge(new, condition, source_alias="s", target_alias="t",
                     commit_properties=CommitProperties(custom_metadata={"userMetadata": commit.to_json()}))
        .when_matched_update(values, predicate=f"s.{_CHANGED} = true")
        .when_not_matched_insert(values)
    )  # fmt: skip
    if mode is WriteMode.OVERWRITE:
        merge = merge.when_not_matched_by_source_delete()
    merge.execute()
