"""What ought to be online: the newest row of each key of a feature table at one version, as of a moment.

The rows are read in process (deltalake finds the files, DuckDB reads them in parallel and in bounded memory).
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from penstock.clock import EPOCH, to_text
from penstock.errors import SpecError, TableError
from penstock.lakehouse.addresses import Address
from penstock.lakehouse.table_properties import (
    EVENT_TIME,
    is_made_by_client,
    stored_column_types,
    stored_keys,
    stored_online,
)
from penstock.online.codec import RowCodec
from penstock.online.store import Position
from penstock.spec.project import ColumnType, Online
from penstock.workspace import Workspace

if TYPE_CHECKING:
    import duckdb
    import pyarrow as pa
    from deltalake import DeltaTable

_BATCH_ROWS = 100_000


@dataclass(frozen=True)
class OnlineTable:
    """A feature table that is served online: its keys, event time and columns, its settings and its codec."""

    address: str
    primary_keys: tuple[str, ...]
    event_time: str
    types: dict[str, ColumnType]
    settings: Online
    codec: RowCodec

    @property
    def columns(self) -> dict[str, str]:
        """The columns by type: those that are published."""
        return {name: str(kind) for name, kind in self.types.items()}

    @property
    def definition(self) -> str:
        """A digest of what decides the published rows, but for the table itself."""
        import hashlib

        declared = f"{self.columns} {list(self.primary_keys)} {self.event_time} {self.settings.ttl}"
        return hashlib.sha256(declared.encode()).hexdigest()[:16]


def online_table(workspace: Workspace, project: str, table: str) -> OnlineTable:
    """The table `table` (of the project, or `project.table`): a declared one, or one that the client made.

    Raises TableError where it is no feature table, SpecError where it is not served online.
    """
    address = Address.parse(table, project)
    loaded = workspace.project(address.project)
    spec = loaded.spec.feature_tables.get(address.table)
    if spec is None:
        return _own_table(workspace, address, list(loaded.spec.feature_tables))
    if spec.online_settings is None:
        raise SpecError(
            f"{loaded.folder / 'project.yaml'}: {address} is not served online: write `online: true` in its declaration"
        )
    types = {name: column.type for name, column in spec.columns.items()}
    return _table(address, tuple(spec.primary_keys), spec.event_time, types, spec.online_settings)


def online_tables(workspace: Workspace, project: str) -> list[str]:
    """The names of a project's feature tables that are served online: declared ones, then those of the client."""
    tables = workspace.project(project).spec.feature_tables
    declared = [name for name, spec in tables.items() if spec.online_settings is not None]
    return declared + [
        name for name, path in workspace.addresses.tables(project).items()
        if name not in tables and _client_settings(path) is not None
    ]  # fmt: skip


def _own_table(workspace: Workspace, address: Address, declared: list[str]) -> OnlineTable:
    from deltalake import DeltaTable

    path = workspace.addresses.find(address)
    if path is None or not is_made_by_client(path):
        known = ", ".join(declared) or "none"
        raise TableError(f"{address.project} has no feature table {address.table!r} (declared are: {known})")
    settings = _client_settings(path)
    if settings is None:
        raise SpecError(
            f"{address} is not served online: call create_table for it again with online=True and exist_ok=True"
        )
    table = DeltaTable(path)
    time = table.metadata().configuration[EVENT_TIME]
    return _table(address, stored_keys(table), time, stored_column_types(str(address), table), settings)


def _table(
    address: Address, keys: tuple[str, ...], time: str, types: dict[str, ColumnType], settings: Online
) -> OnlineTable:
    return OnlineTable(str(address), keys, time, types, settings, RowCodec(str(address), types, list(keys)))


def _client_settings(path: str) -> Online | None:
    from deltalake import DeltaTable

    return stored_online(DeltaTable(path)) if is_made_by_client(path) else None


class Offline:
    """One version of a feature table, asked for newest rows and for what changed."""

    def __init__(self, connection: "duckdb.DuckDBPyConnection", table: OnlineTable, delta: "DeltaTable") -> None:
        self._connection = connection
        self._table = table
        self._delta = delta
        self._table_id = str(delta.metadata().id)
        self.version = int(delta.version())
        self._keys = ", ".join(_quote(key) for key in table.primary_keys)
        self._time = _quote(table.event_time)

    def position(self, as_of: datetime) -> Position:
        """What the online store holds once this version is published as of a moment."""
        return Position(
            self._table_id, self.version, to_text(as_of), self._table.definition, tuple(self._table.columns.items())
        )

    def newest(self, as_of: datetime, *, of_changed: bool = False) -> "Iterator[pa.RecordBatch]":
        """The newest row of each key (of those that `find_changed` found) with event time in [as_of - ttl, as_of]."""
        changed = f"SEMI JOIN changed USING ({self._keys})" if of_changed else ""
        columns = ", ".join(_quote(name) for name in self._table.columns)
        visible = f"{self._time} >= {self._oldest(as_of)} AND {self._time} <= {_moment(as_of)}"
        yield from self._batches(
            f"SELECT {columns} FROM rows SEMI JOIN (SELECT {self._keys}, max({self._time}) AS {self._time} FROM rows "
            f"{changed} WHERE {visible} GROUP BY {self._keys}) AS newest USING ({self._keys}, {self._time})"
        )

    def find_changed(self, since_version: int, since: datetime, as_of: datetime) -> int:
        """Finds the keys whose newest row may differ from that at `since_version` as of `since`; answers how many.

        Those of rows that commits changed, that as_of uncovers, and that have grown older than the ttl.
        Raises DeltaError (of deltalake) where the change feed does not reach back that far.
        """
        import pyarrow as pa

        select = f"SELECT DISTINCT {self._keys} FROM"
        parts = [f"{select} rows WHERE {self._time} > {_moment(since)} AND {self._time} <= {_moment(as_of)}"]
        if self._table.settings.ttl is not None:
            lived = f"{self._time} >= {self._oldest(since)} AND {self._time} <= {_moment(as_of)}"
            aged = f"GROUP BY {self._keys} HAVING max({self._time}) < {self._oldest(as_of)}"
            parts.append(f"SELECT {self._keys} FROM rows WHERE {lived} {aged}")
        if since_version < self.version:
            keys = list(self._table.primary_keys)
            feed = self._delta.load_cdf(since_version + 1, self.version, columns=keys)
            self._connection.register("feed", pa.RecordBatchReader.from_stream(feed))
            parts.append(f"{select} feed")
        self._connection.execute(f"CREATE OR REPLACE TABLE changed AS {' UNION '.join(parts)}")
        return len(self._connection.table("changed"))

    def changed_keys(self) -> "Iterator[pa.RecordBatch]":
        """The keys that `find_changed` found."""
        yield from self._batches(f"SELECT {self._keys} FROM changed")

    def _oldest(self, as_of: datetime) -> str:
        ttl = self._table.settings.ttl
        return _moment(max(as_of - ttl, EPOCH) if ttl is not None else None)

    def _batches(self, sql: str) -> "Iterator[pa.RecordBatch]":
        yield from self._connection.sql(sql).to_arrow_reader(_BATCH_ROWS)


@contextmanager
def open_offline(workspace: Workspace, table: OnlineTable, version: int | None = None) -> Iterator[Offline]:
    """A version of a table, the newest by default. Raises TableError where it lacks declared columns or all."""
    import duckdb
    from deltalake import DeltaTable

    from penstock.lakehouse.small_tables import open_dataset

    path = workspace.addresses.readable(table.address)
    delta = DeltaTable(path, version=version)
    dataset = open_dataset(path, delta.version())
    missing = [name for name in table.columns if name not in dataset.schema.names]
    if missing:
        raise TableError(
            f"{table.address} does not have the declared column(s) {', '.join(missing)} yet: refresh it first"
        )
    with duckdb.connect(config={"threads": 2}) as connection:
        connection.register("rows", dataset)
        yield Offline(connection, table, delta)


def _moment(moment: datetime | None) -> str:
    return f"TIMESTAMPTZ '{'-infinity' if moment is None else moment.isoformat()}'"


def _quote(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
