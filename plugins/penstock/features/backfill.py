"""Backfill: rows that are already there are computed again, in bounded pieces that can be resumed.

A piece is a range of event times, and one commit. The table stays at the as_of that it had reached; what came since
is left to the next refresh. The record of each commit says which event times are done: a repeat goes on with the
others. The new definition is recorded once all are done, whether by one backfill or by several of a part each.
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from penstock.clock import parse_as_of, to_text
from penstock.errors import ClockError, NothingToDo, SpecError
from penstock.features.definition import create_table, definition_hash, definition_sources
from penstock.features.differences import difference
from penstock.features.inputs import open_input, sql_moment
from penstock.features.known_moments import late_only
from penstock.features.merge import CheckedBatch, merge_batch, validate_batch
from penstock.features.pieces import DAY, Piece, covered, covered_texts, merged, plan_pieces, remaining
from penstock.features.plan import Plan
from penstock.features.refresh import feature_table, new_batch, transform, write_staging
from penstock.features.restricted import has_whole_inputs
from penstock.features.staging import Mode, StagedBatch, app_id
from penstock.features.time_ranges import TimeRange, column_condition
from penstock.lakehouse.records import BackfillProgress, CommitRecord, latest_record
from penstock.lakehouse.session import read_version
from penstock.spec.common import parse_duration
from penstock.spec.loading import LoadedProject
from penstock.spec.project import FeatureTable
from penstock.spec.sql import quote
from penstock.workspace import Workspace

if TYPE_CHECKING:
    from pyspark.sql.connect.dataframe import DataFrame

# A piece is computed, compared and checked in memory of some hundred megabytes.
ROWS_PER_PIECE = 1_000_000
Say = Callable[[str], None]


@dataclass(frozen=True)
class BackfillRequest:
    """Which tables to compute again, and which event times: after `start` (None: from the first) to `until`.

    longest: how much time a piece covers at most; None: as much as the bound of rows allows.
    """

    tables: tuple[str, ...]
    start: datetime | None = None
    until: datetime | None = None
    longest: timedelta | None = None


@dataclass(frozen=True)
class Backfilled:
    """What a backfill did: the pieces of this run, the rows that they changed, the table's version after them.

    left: the event times that are still as another definition made them; refreshes wait until they are computed, too.
    """

    table: str
    version: int
    pieces: int
    rows: int
    left: tuple[str, ...] = ()


def parse_request(
    tables: str | list[str] | None, start: str | None, until: str | None, piece: str | None = None
) -> BackfillRequest | None:
    """The request in the parameters of a DAG or a command: tables as a list or a text with commas.

    None where no table is named. Raises SpecError for a range or piece without tables, an end of the range that is no
    moment, an empty range, and a piece that is no duration or shorter than a day.
    """
    words = tables.split(",") if isinstance(tables, str) else tables or []
    names = tuple(dict.fromkeys(word.strip() for word in words if word.strip()))
    if not names:
        if start or until or piece:
            raise SpecError(
                "backfill_from, backfill_until and backfill_piece need backfill: name the tables, with commas between "
                "them"
            )
        return None
    begin, end = _moment("backfill_from", start), _moment("backfill_until", until)
    if begin is not None and end is not None and begin >= end:
        raise SpecError(f"backfill_from {to_text(begin)} is not before backfill_until {to_text(end)}")
    return BackfillRequest(names, begin, end, _longest(piece))


def _moment(parameter: str, text: str | None) -> datetime | None:
    try:
        return parse_as_of(text) if text else None
    except ClockError as error:
        raise SpecError(f"{parameter}: {str(error).removeprefix('as_of ')}") from error


def _longest(piece: str | None) -> timedelta | None:
    if not piece:
        return None
    try:
        found = parse_duration(piece)
    except ValueError as error:
        raise SpecError(f"backfill_piece: {error}") from error
    if found < DAY:
        raise SpecError(f"backfill_piece: {piece} is shorter than a day: write 1d or more")
    return found


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
    filled and for a range that is done, GateError where a piece fails its suite (the pieces before it stay),
    ServiceError where another refresh of the table was faster.
    """
    project = workspace.project(project_name)
    spec = feature_table(project, table_name)
    path = workspace.addresses.writable(f"{project_name}.{table_name}")
    last = latest_record(create_table(project, table_name, spec, path))
    if last is None:
        raise NothingToDo(f"{project_name}.{table_name} was never filled: a first refresh fills it, and is no backfill")
    if request.start is not None and request.start >= last.as_of_moment:
        raise NothingToDo(f"{project_name}.{table_name} has reached {last.as_of}: there is nothing after backfill_from")
    reached, definition = last.as_of_moment, definition_hash(project, spec)
    whole = Piece(request.start, min(request.until, reached) if request.until else reached)
    done = done_before(last, definition, request)
    ranges = remaining(whole, done)
    if not ranges:
        raise NothingToDo(_all_done(f"{project_name}.{table_name}", whole, remaining(Piece(None, reached), done)))
    pieces = plan_pieces(_rows_by_day(path, spec.event_time), ranges, rows_per_piece, request.longest)
    rows = 0
    for number, piece in enumerate(pieces, start=1):
        done = merged([*done, piece])
        is_last = number == len(pieces)
        finished = is_last and (last.definition == definition or not remaining(Piece(None, reached), done))
        progress = progress_of(definition, request, piece, done, finished)
        batch = _stage_piece(workspace, project, table_name, piece, progress, as_of)
        checked = validate_batch(workspace, batch) if batch.rows else CheckedBatch(batch, 0)
        table = merge_batch(workspace, checked)
        rows += table.rows
        say(f"{project_name}.{table_name}: piece {number} of {len(pieces)}, up to {progress.done_until}, "
            f"{table.rows} row(s) changed")  # fmt: skip
    left = [] if finished else remaining(Piece(None, reached), done)
    return Backfilled(
        f"{project_name}.{table_name}", table.version, len(pieces), rows, tuple(map(str, left))
    )  # fmt: skip


def done_before(last: CommitRecord, definition: str, request: BackfillRequest) -> list[Piece]:
    """The event times that need not be computed again: an unfinished backfill of the same definition has done them.

    Where the table's definition is this one already, only a backfill of the same range is gone on with.
    """
    begun = last.backfill
    if begun is None or begun.finished or begun.definition != definition:
        return []
    start, until = _texts(request)
    return covered(begun) if last.definition != definition or (begun.start, begun.until) == (start, until) else []


def progress_of(
    definition: str, request: BackfillRequest, piece: Piece, done: list[Piece], finished: bool
) -> BackfillProgress:
    """How far a backfill is once a piece is merged."""
    start, until = _texts(request)
    return BackfillProgress(
        definition, start, until, to_text(piece.until), finished, [] if finished else covered_texts(done)
    )  # fmt: skip


def _texts(request: BackfillRequest) -> tuple[str | None, str | None]:
    return (to_text(request.start) if request.start else None, to_text(request.until) if request.until else None)


def _all_done(table: str, whole: Piece, left: list[Piece]) -> str:
    rest = ", and ".join(map(str, left))
    return (
        f"{table}: its event times {whole} are computed by this definition already; what is left: {rest}. A backfill "
        "without a range computes it"
    )


def _rows_by_day(path: str, event_time: str) -> dict[datetime, int]:
    """The table's rows by the end of their day, counted file by file."""
    import pyarrow.compute as compute

    from penstock.lakehouse.small_tables import open_dataset

    counts: Counter[datetime] = Counter()
    for batch in open_dataset(path, None).to_batches(columns=[event_time]):
        ends = compute.ceil_temporal(batch[event_time].cast("timestamp[us]"), unit="day")
        for found in compute.value_counts(ends):
            counts[found["values"].as_py().replace(tzinfo=UTC)] += found["counts"].as_py()
    return counts


def _stage_piece(
    workspace: Workspace, project: LoadedProject, name: str, piece: Piece, progress: BackfillProgress, as_of: datetime
) -> StagedBatch:
    spec = feature_table(project, name)
    path = workspace.addresses.writable(f"{project.name}.{name}")
    plan = _plan(workspace, project, name, spec, path, progress)
    assert plan.last is not None
    reached = plan.last.as_of_moment
    with workspace.spark() as spark:
        views = {item: _within(found.read(spark, reached), item, spec, piece) for item, found in plan.inputs.items()}
        current = read_version(spark, plan.path, plan.version)
        output = transform(spark, project, spec, views).where(
            _between(quote(spec.event_time), piece, undated=_shows_undated(spec))
        )
        output = late_only(plan, as_of).added(output, spec)
        rows = difference(output, current.where(_between(quote(spec.event_time), piece)), spec)
        batch = write_staging(new_batch(workspace, project, name, plan, reached, as_of, progress), rows)
    # inputs are the recorded ones: what changed in them since is for the next refresh to find
    return replace(batch, inputs=plan.last.inputs, input_ids=plan.last.input_ids)


def _plan(
    workspace: Workspace, project: LoadedProject, name: str, spec: FeatureTable, path: str, progress: BackfillProgress,
) -> Plan:  # fmt: skip
    from deltalake import DeltaTable

    table = DeltaTable(path)
    last = latest_record(table)
    assert last is not None
    return Plan(
        Mode.BACKFILL, f"backfill up to {progress.done_until}",
        {item: open_input(workspace, project.name, item) for item in spec.inputs}, last,
        progress.definition if progress.finished else last.definition or "",
        path, table, table.transaction_version(app_id(project.name, name)),
        sources=definition_sources(project, spec) if progress.finished else last.sources,
    )  # fmt: skip


def _within(view: "DataFrame", name: str, spec: FeatureTable, piece: Piece) -> "DataFrame":
    """The rows of an input that make the piece's rows; all, where the grain does not say."""
    mapping = spec.grain.inputs.get(name) if spec.grain else None
    if mapping is None or mapping.join is not None or spec.event_time not in mapping.expressions:
        return view
    expression = mapping.expressions[spec.event_time]
    within = column_condition(expression, [TimeRange(piece.after, piece.until)]) or "true"
    if piece.after is None:
        within = f"{within} OR ({expression}) IS NULL"
    return view.where(within).where(_between(f"({expression})", piece, undated=True))


def _shows_undated(spec: FeatureTable) -> bool:
    """Whether a row without an event time is one of the whole table, too: an outer join of some inputs that are cut to
    the piece with others that are not makes more of them."""
    return spec.grain is None or not has_whole_inputs(spec)


def _between(expression: str, piece: Piece, *, undated: bool = False) -> str:
    """Whether an event time is the piece's. undated: the first piece also has the rows without one."""
    upper = f"{expression} <= {sql_moment(piece.until)}"
    if piece.after is None:
        return f"({upper} OR {expression} IS NULL)" if undated else upper
    return f"{expression} > {sql_moment(piece.after)} AND {upper}"
