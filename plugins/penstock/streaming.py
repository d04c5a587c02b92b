"""Continuous refresh: a Structured Streaming query over raw tables runs feature_refresh for each micro-batch.

The stream says when there is news and remembers how far it was answered (its checkpoint); what a refresh reads and
writes is the same as on a schedule or on arrival, so the three ways give the same tables, and a repeat changes nothing.
"""

import hashlib
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from tenacity import retry, retry_if_exception_message, stop_after_attempt

from penstock.errors import NothingToDo, PenstockError, ServiceError, TableError
from penstock.features.inputs import InputTable, open_input
from penstock.runner import Request, run_pipeline
from penstock.workspace import Workspace

if TYPE_CHECKING:
    from pyspark.sql.connect.session import SparkSession
    from pyspark.sql.connect.streaming.query import StreamingQuery
    from pyspark.sql.connect.streaming.readwriter import DataStreamWriter

_POLL_SECONDS = 0.5
_RAISED = re.compile(r"^[\w.]+(?:Error|Exception): (.+)$", re.MULTILINE)

Report = Callable[[str], None]


@dataclass(frozen=True)
class Streamed:
    """What a stream did: so many micro-batches, each a refresh."""

    project: str
    batches: int


def refresh_continuously(
    workspace: Workspace, project: str, *, every: timedelta = timedelta(seconds=10), available_now: bool = False,
    lasting: timedelta | None = None, report: Report = lambda _: None,
) -> Streamed:  # fmt: skip
    """Refreshes a project's features whenever one of its raw tables changes.

    :param every: the least time between two micro-batches.
    :param available_now: ends once everything that is there now has been refreshed.
    :param lasting: ends after this time; by default it goes on until it is interrupted.
    :param report: gets a line for each micro-batch.

    Raises NothingToDo where no raw table exists yet; TableError where a raw table's columns changed on the way;
    ServiceError where Spark does not answer or a refresh fails, with its message. Starting it again goes on from there.
    """
    tables = _raw_tables(workspace, project)
    deadline = time.monotonic() + lasting.total_seconds() if lasting else None
    with workspace.spark() as spark, _query(spark, workspace, project, tables, every, available_now) as query:
        batches, seen = 0, -1
        while True:
            active = query.isActive
            for progress in query.recentProgress:
                if progress["batchId"] > seen and "addBatch" in progress["durationMs"]:
                    batches, seen = batches + 1, progress["batchId"]
                    report(f"micro-batch {seen} refreshed in {progress['durationMs']['addBatch'] / 1000:.1f} s")
            failure = query.exception()
            if failure is not None:
                raise _explained(project, str(failure))
            if not active or (deadline is not None and time.monotonic() > deadline):
                return Streamed(project, batches)
            time.sleep(_POLL_SECONDS)


def _raw_tables(workspace: Workspace, project: str) -> list[InputTable]:
    """The raw tables that others fill and that exist."""
    sources = workspace.project(project).spec.sources
    fed = [name for name, source in sources.items() if source.land is None]
    found = [open_input(workspace, project, name) for name in fed if workspace.addresses.find(f"{project}.{name}")]
    if not found:
        raise NothingToDo(
            f"{project}: there is no raw table to stream from; a source with `land` is filled by feature_refresh "
            f"itself, and of the others ({', '.join(fed) or 'none'}) no table exists yet"
        )
    return found


@contextmanager
def _query(
    spark: "SparkSession", workspace: Workspace, project: str, tables: list[InputTable], every: timedelta, once: bool
) -> Iterator["StreamingQuery"]:
    streams = [_changes(spark, table) for table in tables]
    union = streams[0]
    for stream in streams[1:]:
        union = union.unionByName(stream)
    trigger: dict[str, Any] = {"availableNow": True} if once else {"processingTime": f"{every.total_seconds()} seconds"}
    writer = (
        union.writeStream.foreachBatch(_refresh(workspace, project))
        .option("checkpointLocation", _checkpoint(workspace, project, tables)).trigger(**trigger)
    )  # fmt: skip
    query = _start(writer)
    try:
        yield query
    finally:
        query.stop()


@retry(
    retry=retry_if_exception_message(match=r"(?s).*Python worker failed to connect back"),
    stop=stop_after_attempt(3), reraise=True,
)  # fmt: skip
def _start(writer: "DataStreamWriter") -> "StreamingQuery":
    """Starts a query; again where the server was too busy to start its Python within ten seconds."""
    return writer.start()


def _changes(spark: "SparkSession", table: InputTable) -> Any:
    """A row for each changed row of a table, the rows that it has now first."""
    option = "readChangeFeed" if table.has_change_feed() else "ignoreChanges"
    return spark.readStream.format("delta").option(option, "true").load(table.path).selectExpr("1 AS changed")


def _checkpoint(workspace: Workspace, project: str, tables: list[InputTable]) -> str:
    """A place for the position in these tables; one that was made again, or whose columns changed, is another one.

    Delta does not go on from a position before a column was lost. A new one costs one refresh, which decides by state.
    """
    ids = sorted(f"{table.name}@{table.id} {table.opened.schema().to_json()}" for table in tables)
    digest = hashlib.sha256(" ".join(ids).encode()).hexdigest()[:12]
    return workspace.addresses.writable(f"{project}._stream") + f"/{digest}"


def _refresh(workspace: Workspace, project: str) -> Callable[[Any, int], None]:
    """The function that Spark's server calls for each micro-batch, with the Python and the files that it sees."""
    opened = workspace.with_(connections=workspace.resolved, session_key=None)

    def refresh(changes: Any, batch: int) -> None:  # noqa: ARG001
        request = Request(project, "", opened.moment(), reason="stream")
        run_pipeline(opened, "feature_refresh", request, lambda *_: None)

    return refresh


def _explained(project: str, failure: str) -> PenstockError:
    if "SCHEMA_CHANGE" in failure or "INCOMPATIBLE_DATA_SCHEMA" in failure or "SchemaChanged" in failure:
        return TableError(
            f"{project}: the columns of a raw table changed while it was streamed. Where the project's declaration "
            f"fits the new ones (penstock validate), start the stream again: it goes on from there. {failure[:300]}"
        )
    told = _RAISED.search(failure)
    return ServiceError(f"{project}: the stream stopped: {told[1] if told else failure[:1000]}")
