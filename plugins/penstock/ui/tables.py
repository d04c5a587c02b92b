"""Tables as the pages show them: read by deltalake from the log, the statistics and, for a preview, a few rows."""

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from penstock.clock import to_text
from penstock.lakehouse.records import CommitRecord
from penstock.ui.catalogue import KnownTable
from penstock.ui.faults import NothingYet, Unreadable, reading
from penstock.workspace import Workspace

if TYPE_CHECKING:
    from deltalake import DeltaTable

PREVIEW_ROWS = 20
HISTORY_COMMITS = 50
_SPARK_NAMES = {"integer": "int", "long": "bigint", "short": "smallint", "byte": "tinyint"}
_CHANGES = (
    ("added", ("numTargetRowsInserted", "num_target_rows_inserted", "num_added_rows", "numOutputRows")),
    ("updated", ("numTargetRowsUpdated", "num_target_rows_updated", "numUpdatedRows")),
    ("deleted", ("numTargetRowsDeleted", "num_target_rows_deleted", "numDeletedRows", "num_deleted_rows")),
)


@dataclass(frozen=True)
class TableSummary:
    """A table in one line. `newest` is its newest time, as_of that of its newest commit by Penstock."""

    version: int
    rows: int
    newest: str | None
    as_of: str | None


@dataclass(frozen=True)
class ColumnView:
    """A column: Spark SQL type, whether it is a key, and what it means."""

    name: str
    type: str
    key: bool
    nullable: bool
    comment: str


@dataclass(frozen=True)
class Commit:
    """A version of a table; `changes` in words, `record` where Penstock made it."""

    version: int
    at: str
    operation: str
    changes: str
    record: CommitRecord | None


@dataclass(frozen=True)
class TableDetails:
    """Everything on a table's page. `preview`: rows of texts in the order of the columns."""

    path: str
    summary: TableSummary
    columns: tuple[ColumnView, ...]
    commits: tuple[Commit, ...]
    inputs: dict[str, int]
    preview: tuple[tuple[str, ...], ...]
    preview_problem: str
    writer: str


def summarize(workspace: Workspace, known: KnownTable) -> TableSummary | None:
    """A table in one line; None where it does not exist yet. Raises Unreadable."""
    from deltalake import DeltaTable

    with reading(f"{known.project}.{known.name}"):
        path = workspace.addresses.find(f"{known.project}.{known.name}")
        return _summary(DeltaTable(path), known.time) if path else None


def describe(workspace: Workspace, known: KnownTable) -> TableDetails:
    """A table's page. Raises NothingYet where the table does not exist, Unreadable."""
    from deltalake import DeltaTable

    with reading(f"{known.project}.{known.name}"):
        path = workspace.addresses.find(f"{known.project}.{known.name}")
        if path is None:
            raise NothingYet(f"The table {known.project}.{known.name} does not exist yet.", _who_fills(known))
        table = DeltaTable(path)
        commits = tuple(_commit(entry) for entry in table.history(HISTORY_COMMITS))
        columns = tuple(_columns(table, known))
        summary = _summary(table, known.time)
        newest = next((commit.record for commit in commits if commit.record), None)
        writer = str(table.metadata().configuration.get("penstock.writer", ""))
    try:
        with reading("a preview"):
            preview, problem = _preview(table, path, [column.name for column in columns]), ""
    except Unreadable as fault:
        preview, problem = (), fault.problem
    return TableDetails(path, summary, columns, commits, newest.inputs if newest else {}, preview, problem, writer)


def _who_fills(known: KnownTable) -> str:
    if not known.pipeline:
        return "Penstock makes it when it has something to record."
    return f"The DAG {known.project}.{known.pipeline} fills it: has it run?"


def _summary(table: "DeltaTable", time: str | None) -> TableSummary:
    import pyarrow as pa
    import pyarrow.compute as compute

    actions = pa.table(table.get_add_actions(flatten=True))
    counts = actions.column("num_records") if "num_records" in actions.column_names else None
    rows = compute.sum(counts).as_py() if counts is not None and counts.null_count == 0 else None
    newest = None
    if time and f"max.{time}" in actions.column_names:
        newest = compute.max(actions.column(f"max.{time}")).as_py()
    records = (CommitRecord.from_json(entry.get("userMetadata")) for entry in table.history(HISTORY_COMMITS))
    record = next((found for found in records if found), None)
    return TableSummary(
        version=table.version(),
        rows=table.count() if rows is None and actions.num_rows else rows or 0,
        newest=_time(newest) if isinstance(newest, datetime) else None,
        as_of=record.as_of if record else None,
    )


def _columns(table: "DeltaTable", known: KnownTable) -> list[ColumnView]:
    stored = table.metadata().configuration.get("penstock.primary_keys")
    keys = set(json.loads(stored)) if stored else set(known.keys)
    found = []
    for field in table.schema().fields:
        kind = str(getattr(field.type, "type", field.type))
        comment = str(field.metadata.get("comment") or known.comments.get(field.name, ""))
        found.append(ColumnView(field.name, _SPARK_NAMES.get(kind, kind), field.name in keys, field.nullable, comment))
    return found


def _commit(entry: dict[str, Any]) -> Commit:
    at = datetime.fromtimestamp(entry["timestamp"] / 1000, UTC)
    operation = str(entry.get("operation", "")).lower()
    mode = str((entry.get("operationParameters") or {}).get("mode", "")).lower() if operation == "write" else ""
    return Commit(
        version=int(entry["version"]), at=_time(at), operation=f"{operation} ({mode})" if mode else operation,
        changes=_changes(entry.get("operationMetrics") or {}),
        record=CommitRecord.from_json(entry.get("userMetadata")),
    )  # fmt: skip


def _changes(metrics: dict[str, Any]) -> str:
    """What a commit did to rows, in words: `461 added, 3 updated`."""
    parts = []
    for word, names in _CHANGES:
        count = next((int(metrics[name]) for name in names if name in metrics), 0)
        if count:
            parts.append(f"{count:,} {word}")
    return ", ".join(parts)


def _preview(table: "DeltaTable", path: str, columns: list[str]) -> tuple[tuple[str, ...], ...]:
    from pyarrow.fs import LocalFileSystem, SubTreeFileSystem

    local = None if "://" in path else SubTreeFileSystem(path, LocalFileSystem())
    rows = table.to_pyarrow_dataset(filesystem=local).head(PREVIEW_ROWS, columns=columns).to_pylist()
    return tuple(tuple(_text(row[name]) for name in columns) for row in rows)


def _text(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, datetime):
        return _time(value)
    text = str(value)
    return text if len(text) <= 120 else text[:119] + "…"


def _time(moment: datetime) -> str:
    return to_text(moment if moment.tzinfo else moment.replace(tzinfo=UTC))
