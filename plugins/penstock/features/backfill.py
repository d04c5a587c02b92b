"""Backfill: rows that are already there are computed again, in bounded pieces that can be resumed.

A piece is a range of event times, and one commit. The table stays at the as_of that it had reached; what came since
is left to the next refresh. The record of each commit says how far the backfill has come: a repeat goes on after
the last finished piece, and only the last one records the new definition.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from itertools import pairwise
from typing import TYPE_CHECKING

from penstock.clock import parse_as_of, to_text
from penstock.errors import NothingToDo, SpecError
from penstock.features.definition import create_table, definition_hash
from penstock.features.differences import difference
from penstock.features.inputs import open_input, quote, sql_moment
from penstock.features.merge import CheckedBatch, merge_batch, validate_batch
from penstock.features.plan import Plan
from penstock.features.refresh import feature_table, new_batch, transform, with_known_at, write_staging
from penstock.features.staging import Mode, StagedBatch, app_id
from penstock.features.time_ranges import TimeRange, column_condition
from penstock.lakehouse.records import BackfillProgress, CommitRecord, latest_record
from penstock.spec.loading import LoadedProject
from penstock.spec.project import FeatureTable
from penstock.workspace import Workspace

if TYPE_CHECKING:
    from deltalake import DeltaTable
    from pyspark.sql.connect.dataframe import DataFrame

# A piece is computed, compared and checked in memory of some hundred megabytes.
ROWS_PER_PIECE = 1_000_000
Say = Callable[[str], None]


@dataclass(frozen=True)
class BackfillRequest:
    """Which tables to compute again, and which event times: after `start` (None: from the first) to `until`."""

    tables: tuple[str, ...]
    start: datetime | None = None
    until: datetime | None = None


@dataclass(frozen=True)
class Backfilled:
    """What a backfill did: the pieces of this run, the rows that they changed, the table's version after them."""

    table: str
    version: int
    pieces: int
    rows: int


@dataclass(frozen=True)
class Piece:
    """Event times after `after` (None: all before) up to `until`."""

    after: datetime | None
    until: datetime


def parse_request(tables: str | list[str] | None, start: str | None, until: str | None) -> BackfillRequest | None:
    """The request in the parameters of a DAG or a command: tables as a list or a text with commas.

    None where no table is named. Raises SpecError for a range without tables, or an empty one.
    """
    words = tables.split(",") if isinstance(tables, str) else tables or []
    names = tuple(dict.fromkeys(word.strip() for word in words if word.strip()))
    if not names:
        if start or until:
            raise SpecError("backfill_from and backfill_until need backfill: name the tables, with commas between them")
        return None
    begin, end = parse_as_of(start) if start else None, parse_as_of(until) if until else None
    if begin is not None and end is not None and begin >= end:
        raise SpecError(f"backfill_from {to_text(begin)} is not before backfill_until {to_text(end)}")
    return BackfillRequest(names, begin, end)


def check_tables(project: LoadedProject, request: BackfillRequest | None) -> None:
    """Raises SpecError where a table to backfill is no feature table of the project."""
    for name in request.tables if request else ():
        feature_table(project, name)


def backfill_table(
    workspace: Workspace, project_name: str, table_name: str, as_of: datetime, request: BackfillRequest,
    rows_per_piece: int = ROWS_PER_PIECE, say: Say = lambda _: None,
) -> Backfilled:  # fmt: skip
    """Computes a table's rows again, piece by piece, each through the gate; goes on where an earlier try stopped.

    Rows outside the range stay. Changed rows count as known from as_of. Raises NothingToDo for a table that was never
    filled, GateError where a piece fails its suite (the pieces before it stay), ServiceError where another refresh
    of the table was faster.
    """
    project = workspace.project(project_name)
    spec = feature_table(project, table_name)
    path = workspace.addresses.writable(f"{project_name}.{table_name}")
    last = latest_record(create_table(project, table_name, spec, path))
    if last is None:
        raise NothingToDo(f"{project_name}.{table_name} was never filled: a first refresh fills it, and is no backfill")
    if request.start is not None and request.start >= last.as_of_moment:
        raise NothingToDo(f"{project_name}.{table_name} has reached {last.as_of}: there is nothing after backfill_from")
    progress = resume(last, definition_hash(project, spec), request)
    pieces = plan_pieces(_months(path, spec.event_time), progress, last.as_of_moment, rows_per_piece)
    rows = 0
    for number, piece in enumerate(pieces, start=1):
        progress = replace(progress, done_until=to_text(piece.until), finished=number == len(pieces))
        batch = _stage_piece(workspace, project, table_name, piece, progress, as_of)
        merged = merge_batch(workspace, validate_batch(workspace, batch) if batch.rows else CheckedBatch(batch, 0))
        rows += merged.rows
        say(f"{project_name}.{table_name}: piece {number} of {len(pieces)}, up to {progress.done_until}, "
            f"{merged.rows} row(s) changed")  # fmt: skip
    return Backfilled(f"{project_name}.{table_name}", merged.version, len(pieces), rows)


def resume(last: CommitRecord, definition: str, request: BackfillRequest) -> BackfillProgress:
    """The unfinished backfill of the same definition and range, or a new one."""
    new = BackfillProgress(
        definition, to_text(request.start) if request.start else None, to_text(request.until) if request.until else None
    )
    begun = last.backfill
    if begun is None or begun.finished or replace(begun, done_until=None) != new:
        return new
    return begun


def plan_pieces(
    months: Mapping[datetime, int], progress: BackfillProgress, reached: datetime, rows_per_piece: int
) -> list[Piece]:
    """The ranges that remain: whole months, gathered as long as their rows stay within the bound.

    months: rows of the table by the first moment of their month. reached: the as_of of the table, its last event time.
    There is always one piece, so that the end is recorded.
    """
    begun = progress.done_until or progress.start
    after = parse_as_of(begun) if begun else None
    until = min(parse_as_of(progress.until), reached) if progress.until else reached
    bounds: list[datetime | None] = [after]
    gathered = 0
    for month in sorted(months):
        if after is not None and month < after.replace(day=1, hour=0, minute=0, second=0, microsecond=0):
            continue
        if gathered and gathered + months[month] > rows_per_piece and month < until:
            bounds.append(month)
            gathered = 0
        gathered += months[month]
    return [Piece(first, last or until) for first, last in pairwise([*bounds, until])]


def _months(path: str, event_time: str) -> dict[datetime, int]:
    from penstock.lakehouse.small_tables import read_arrow

    times = read_arrow(path, columns=[event_time])[event_time].to_pandas().dt.tz_localize(None)
    counts = times.dt.to_period("M").value_counts()
    return {month.to_timestamp().to_pydatetime().replace(tzinfo=UTC): int(rows) for month, rows in counts.items()}


def _stage_piece(
    workspace: Workspace, project: LoadedProject, name: str, piece: Piece, progress: BackfillProgress, as_of: datetime
) -> StagedBatch:
    from deltalake import DeltaTable

    spec = feature_table(project, name)
    table = DeltaTable(workspace.addresses.writable(f"{project.name}.{name}"))
    plan = _plan(workspace, project, name, spec, table, progress)
    assert plan.last is not None
    reached = plan.last.as_of_moment
    with workspace.spark() as spark:
        views = {item: _within(found.read(spark, reached), item, spec, piece) for item, found in plan.inputs.items()}
        current = spark.read.format("delta").option("versionAsOf", plan.version).load(plan.path)
        output = transform(spark, project, spec, views).where(_between(quote(spec.event_time), piece))
        rows = difference(
            with_known_at(output, spec, plan, as_of), current.where(_between(quote(spec.event_time), piece)), spec
        )
        batch = write_staging(new_batch(workspace, project, name, plan, reached, as_of, progress), rows)
    # inputs are the recorded ones: what changed in them since is for the next refresh to find
    return replace(batch, inputs=plan.last.inputs, input_ids=plan.last.input_ids)


def _plan(
    workspace: Workspace, project: LoadedProject, name: str, spec: FeatureTable, table: "DeltaTable",
    progress: BackfillProgress,
) -> Plan:  # fmt: skip
    last = latest_record(table)
    assert last is not None
    return Plan(
        Mode.BACKFILL, f"backfill up to {progress.done_until}",
        {item: open_input(workspace, project.name, item) for item in spec.inputs}, last,
        progress.definition if progress.finished else last.definition or "",
        table.table_uri, table.version(), table.transaction_version(app_id(project.name, name)),
    )  # fmt: skip


def _within(view: "DataFrame", name: str, spec: FeatureTable, piece: Piece) -> "DataFrame":
    """The rows of an input that make the piece's rows; all, where the grain does not say."""
    mapping = spec.grain.inputs.get(name) if spec.grain else None
    if mapping is None or mapping.join is not None or spec.event_time not in mapping.expressions:
        return view
    expression = mapping.expressions[spec.event_time]
    view = view.where(column_condition(expression, [TimeRange(piece.after, piece.until)]) or "true")
    return view.where(_between(f"({expression})", piece))


def _between(expression: str, piece: Piece) -> str:
    upper = f"{expression} <= {sql_moment(piece.until)}"
    return upper if piece.after is None else f"{expression} > {sql_moment(piece.after)} AND {upper}"
