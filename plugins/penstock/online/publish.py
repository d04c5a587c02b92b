"""Publishing: the newest value of each key of a feature table goes to its online store."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import TYPE_CHECKING

from penstock.clock import parse_as_of
from penstock.errors import NothingToDo, PenstockError
from penstock.online.codec import RowCodec
from penstock.online.offline import Offline, OnlineTable, online_table, online_tables, open_offline
from penstock.online.store import Batch, Encoded, OnlineStore, Overtaken, Position, open_store
from penstock.workspace import Workspace

if TYPE_CHECKING:
    import pyarrow as pa

_ATTEMPTS = 3


class PublishMode(StrEnum):
    """How much was published."""

    INCREMENTAL = "incremental"
    FULL = "full"


@dataclass(frozen=True)
class PublishedTable:
    """A publication: `table`@`version` is online; `rows` keys were written and `removed` ones taken away."""

    table: str
    version: int
    rows: int
    removed: int
    mode: str
    why: str
    store: str
    as_of: str


@dataclass(frozen=True)
class Publication:
    """What of a project's tables was published; the others had nothing new."""

    tables: tuple[PublishedTable, ...]

    @property
    def table(self) -> str:
        """The tables' addresses, in one line."""
        return ", ".join(published.table for published in self.tables)

    @property
    def mode(self) -> str:
        """How they were published."""
        return ", ".join(sorted({published.mode for published in self.tables}))

    @property
    def rows(self) -> int:
        """The keys that were written or removed."""
        return sum(published.rows + published.removed for published in self.tables)


def publish_online(workspace: Workspace, project: str, as_of: datetime) -> Publication:
    """Publishes each of a project's online tables that exists, as `publish_table` does.

    Raises NothingToDo where none of them had anything new. Where a table fails, the others are published first.
    """
    published: list[PublishedTable] = []
    failures: list[PenstockError] = []
    for table in online_tables(workspace, project):
        if workspace.addresses.find(f"{project}.{table}") is None:
            continue
        try:
            published.append(publish_table(workspace, project, table, as_of))
        except NothingToDo:
            continue
        except PenstockError as error:
            failures.append(error)
    if failures:
        raise type(failures[0])("\n".join(str(error) for error in failures))
    if not published:
        raise NothingToDo(f"{project}: what is online is up to date")
    return Publication(tuple(published))


def publish_table(
    workspace: Workspace, project: str, table: str, as_of: datetime, *, full: bool = False
) -> PublishedTable:
    """Makes the online store hold the newest row of each key with event time in [as_of - ttl, as_of].

    What commits changed since the published version is looked at by its keys, so late rows, corrections and
    removals come out right in any order. Everything is published where there is no change feed that far back, where
    the table or its declaration is another, and with `full`. A repeat changes nothing.

    Raises NothingToDo where this, or a later moment, is published already, ServiceError where the store does not
    answer: the store then holds what it held before.
    """
    about = online_table(workspace, project, table)
    with open_store(workspace.environment, about.settings.store) as store:
        for attempt in range(_ATTEMPTS):
            try:
                return _publish(workspace, about, store, as_of, full)
            except Overtaken:
                if attempt == _ATTEMPTS - 1:
                    raise
    raise AssertionError("unreachable")


def _publish(
    workspace: Workspace, about: OnlineTable, store: OnlineStore, as_of: datetime, full: bool
) -> PublishedTable:
    planned = store.position(about.address)
    with open_offline(workspace, about) as offline:
        position = offline.position(as_of)
        if planned is not None and not full:
            _refuse_past(about, planned, position)
        counted = _Counted(about.codec)
        mode, why = _find_changed(offline, planned, position, full)
        if mode is PublishMode.FULL:
            batch = Batch(position, planned, counted.rows(offline.newest(as_of)), replace=True)
        else:
            batch = _incremental(offline, counted, planned, position)
        store.write(about.address, batch)
    return PublishedTable(
        about.address, position.version, counted.written, len(list(batch.removed)), str(mode), why,
        about.settings.store, position.as_of,
    )  # fmt: skip


def _refuse_past(about: OnlineTable, planned: Position, position: Position) -> None:
    if planned == position:
        raise NothingToDo(f"{about.address}: version {position.version} is online already, as of {position.as_of}")
    same_table = planned.table_id == position.table_id
    if same_table and parse_as_of(planned.as_of) > parse_as_of(position.as_of):
        raise NothingToDo(f"{about.address} is online as of {planned.as_of}: nothing to publish as of {position.as_of}")


def _find_changed(
    offline: Offline, planned: Position | None, position: Position, full: bool
) -> tuple[PublishMode, str]:
    """How to publish, and why; the changed keys are found where it is incremental."""
    from deltalake.exceptions import DeltaError

    reasons = {
        "everything was asked for": full,
        "nothing was online yet": planned is None,
        "the table was made anew": planned is not None and planned.table_id != position.table_id,
        "its declaration changed": planned is not None and planned.definition != position.definition,
        "the table was taken back to an earlier version": planned is not None and planned.version > position.version,
    }
    for reason, holds in reasons.items():
        if holds:
            return PublishMode.FULL, reason
    assert planned is not None
    try:
        keys = offline.find_changed(planned.version, parse_as_of(planned.as_of), parse_as_of(position.as_of))
    except (DeltaError, OSError) as error:
        reason = str(error).splitlines()[0][:200]
        return PublishMode.FULL, f"the change feed since version {planned.version} cannot be read: {reason}"
    return PublishMode.INCREMENTAL, f"{keys} keys changed since version {planned.version}"


def _incremental(offline: Offline, counted: "_Counted", planned: Position | None, position: Position) -> Batch:
    """The changed keys' newest rows; those that have none are removed."""
    encoded = list(counted.rows(offline.newest(parse_as_of(position.as_of), of_changed=True)))
    present = {key for keys, _ in encoded for key in keys}
    changed = (key for batch in offline.changed_keys() for key in counted.codec.encode_keys(batch))
    return Batch(position, planned, encoded, [key for key in changed if key not in present])


class _Counted:
    """Encodes rows and counts them."""

    def __init__(self, codec: RowCodec) -> None:
        self.codec = codec
        self.written = 0

    def rows(self, batches: "Iterable[pa.RecordBatch]") -> Iterator[Encoded]:
        for batch in batches:
            self.written += batch.num_rows
            yield self.codec.encode(batch)
