"""The embedded online store: one SQLite file, readers beside one writer (WAL)."""

import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Self

from penstock.errors import ServiceError
from penstock.online.store import Batch, Found, Overtaken, Position

_BUSY_SECONDS = 60
_MOST_VARIABLES = 500


class SqliteStore:
    """Rows in a table of the file for each feature table; connections are kept per thread."""

    def __init__(self, path: str | Path) -> None:
        self._path = Path(path)
        self._local = threading.local()

    def write(self, table: str, batch: Batch) -> None:
        """Publishes a batch in one transaction. Raises Overtaken."""
        with self._transaction("IMMEDIATE") as connection:
            if _position(connection, table) != batch.planned:
                raise Overtaken(f"{table}: another publication was faster; run this again, it goes on from there")
            name = _quote(table)
            connection.execute(f"CREATE TABLE IF NOT EXISTS {name} (key BLOB PRIMARY KEY, row BLOB) WITHOUT ROWID")
            if batch.replace:
                connection.execute(f"DELETE FROM {name}")
            connection.executemany(f"DELETE FROM {name} WHERE key = ?", ((key,) for key in batch.removed))
            for keys, rows in batch.rows:
                connection.executemany(f"REPLACE INTO {name} VALUES (?, ?)", zip(keys, rows, strict=True))
            connection.execute("REPLACE INTO positions VALUES (?, ?)", (table, batch.position.to_json()))

    def read(self, table: str, keys: Sequence[bytes]) -> list[bytes | None]:
        """The row of each key, in their order; None for a key without one."""
        return self.read_many([(table, keys)])[0][1]

    def read_many(self, requests: Sequence[tuple[str, Sequence[bytes]]]) -> list[Found]:
        """For each (table, keys), the table's position and the rows, of one moment."""
        with self._transaction("DEFERRED") as connection:
            found: list[Found] = []
            for table, keys in requests:
                position = _position(connection, table)
                found.append((position, _rows(connection, table, keys) if position else [None] * len(keys)))
            return found

    def scan(self, table: str) -> Iterator[tuple[bytes, bytes]]:
        """Every key and row of a table, of one moment."""
        with self._transaction("DEFERRED") as connection:
            if _position(connection, table) is not None:
                yield from connection.execute(f"SELECT key, row FROM {_quote(table)}")

    def position(self, table: str) -> Position | None:
        """What of a table is published; None where nothing is."""
        with self._transaction("DEFERRED") as connection:
            return _position(connection, table)

    def remove(self, table: str) -> None:
        """Forgets a table."""
        with self._transaction("IMMEDIATE") as connection:
            connection.execute(f"DROP TABLE IF EXISTS {_quote(table)}")
            connection.execute("DELETE FROM positions WHERE feature_table = ?", (table,))

    def close(self) -> None:
        """Closes this thread's connection."""
        connection = self._local.__dict__.pop("connection", None)
        if connection is not None:
            connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @contextmanager
    def _transaction(self, kind: str) -> Iterator[sqlite3.Connection]:
        try:
            connection = self._connection()
            connection.execute(f"BEGIN {kind}")
            try:
                yield connection
            except BaseException:
                connection.rollback()
                raise
            connection.commit()
        except sqlite3.Error as error:
            raise ServiceError(
                f"the online store {self._path} does not answer: {error}. Is its disk full, or its folder not "
                "writable? If the file is damaged, remove it: the next publication writes it anew"
            ) from error

    def _connection(self) -> sqlite3.Connection:
        found: sqlite3.Connection | None = getattr(self._local, "connection", None)
        if found is None:
            try:
                self._path.parent.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise ServiceError(f"the online store {self._path} cannot be made: {error}") from error
            found = sqlite3.connect(self._path, timeout=_BUSY_SECONDS, isolation_level=None)
            found.execute("PRAGMA journal_mode = WAL")
            found.execute("PRAGMA synchronous = NORMAL")
            found.execute("CREATE TABLE IF NOT EXISTS positions (feature_table TEXT PRIMARY KEY, position TEXT)")
            self._local.connection = found
        return found


def _position(connection: sqlite3.Connection, table: str) -> Position | None:
    row = connection.execute("SELECT position FROM positions WHERE feature_table = ?", (table,)).fetchone()
    return Position.from_json(row[0]) if row else None


def _rows(connection: sqlite3.Connection, table: str, keys: Sequence[bytes]) -> list[bytes | None]:
    found: dict[bytes, bytes] = {}
    for start in range(0, len(keys), _MOST_VARIABLES):
        part = keys[start : start + _MOST_VARIABLES]
        marks = ",".join("?" * len(part))
        found.update(connection.execute(f"SELECT key, row FROM {_quote(table)} WHERE key IN ({marks})", part))
    return [found.get(key) for key in keys]


def _quote(table: str) -> str:
    return '"' + table.replace('"', '""') + '"'
