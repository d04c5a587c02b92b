"""Reading features online: many keys of several tables in one call, with the types that they have offline."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import lru_cache
from typing import Any, Self

from penstock.errors import TableError
from penstock.online.codec import RowCodec
from penstock.online.offline import OnlineTable, online_table
from penstock.online.store import OnlineStore, Position, open_store
from penstock.spec.project import ColumnType, Lookup
from penstock.workspace import Workspace

Key = Mapping[str, Any]
Row = dict[str, Any]


class OnlineFeatures:
    """Reads a project's online tables; opened once and used for many reads, by one thread at a time."""

    def __init__(self, workspace: Workspace, project: str) -> None:
        self._workspace = workspace
        self._project = project
        self._tables: dict[str, OnlineTable] = {}
        self._stores: dict[str, OnlineStore] = {}

    def rows(self, requests: Mapping[str, Sequence[Key]], at: datetime | None = None) -> dict[str, list[Row | None]]:
        """For each table (`table` or `project.table`) the row of each key, in their order.

        None stands for a key without a row, and for one that is older than the table's ttl at `at` (the replay clock
        or now by default). A row has every declared column; timestamps are in UTC.

        Raises TableError where a table was never published, and for a key of another type; SpecError where a table
        is not served online; ServiceError where the store does not answer.
        """
        moment = at or self._workspace.moment()
        encoded: dict[str, list[tuple[str, list[bytes]]]] = {}
        for name, keys in requests.items():
            table = self._table(name)
            encoded.setdefault(table.settings.store, []).append((name, [table.codec.key(key) for key in keys]))
        found: dict[str, list[Row | None]] = {}
        for store, wanted in encoded.items():
            pairs = [(self._table(name).address, keys) for name, keys in wanted]
            for (name, _), (position, rows) in zip(wanted, self._store(store).read_many(pairs), strict=True):
                found[name] = self._decoded(self._table(name), position, rows, moment)
        return found

    def features(self, lookups: Sequence[Lookup], keys: Sequence[Key], at: datetime | None = None) -> list[Row]:
        """For each entry of `keys` the features of all lookups, by their output names; null where there are none.

        An entry has, for each primary key of a lookup's table, the column that the lookup names or the key itself.
        A lookup's max_age applies as in training sets, with `at` as the prediction time.
        """
        moment = at or self._workspace.moment()
        wanted: dict[str, dict[tuple[Any, ...], Key]] = {lookup.table: {} for lookup in lookups}
        asked: list[list[tuple[Any, ...]]] = []
        for entry in keys:
            asked.append([])
            for lookup in lookups:
                key = {name: _key_value(lookup, name, text, entry) for name, text in lookup.keys.items()}
                wanted[lookup.table].setdefault(tuple(sorted(key.items())), key)
                asked[-1].append(tuple(sorted(key.items())))
        found = self.rows({table: list(by_key.values()) for table, by_key in wanted.items()}, moment)
        by_key = {table: dict(zip(wanted[table], rows, strict=True)) for table, rows in found.items()}
        return [
            {
                lookup.output_name(name): value
                for lookup, key in zip(lookups, entry, strict=True)
                for name, value in self._chosen(lookup, by_key[lookup.table][key], moment).items()
            }
            for entry in asked
        ]

    def close(self) -> None:
        """Closes the stores."""
        for store in self._stores.values():
            store.close()
        self._stores.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _chosen(self, lookup: Lookup, row: Row | None, at: datetime) -> Row:
        if row is not None and lookup.max_age is not None:
            row = row if row[self._table(lookup.table).event_time] >= at - lookup.max_age else None
        unknown = [name for name in lookup.features if row is not None and name not in row]
        if unknown:
            raise TableError(f"{lookup.table} has no column(s) {', '.join(unknown)} online: publish it again")
        return {name: None if row is None else row[name] for name in lookup.features}

    def _decoded(
        self, table: OnlineTable, position: Position | None, rows: list[bytes | None], at: datetime
    ) -> list[Row | None]:
        if position is None:
            raise TableError(
                f"{table.address} has not been published yet: run feature_refresh, or "
                f"`penstock online publish {table.address}`"
            )
        codec = _codec(table.address, position.columns, table.primary_keys)
        decoded = [None if row is None else codec.decode(row) for row in rows]
        ttl, time = table.settings.ttl, table.event_time
        if ttl is None:
            return list(decoded)
        return [row if row is not None and row[time] >= at - ttl else None for row in decoded]

    def _table(self, name: str) -> OnlineTable:
        if name not in self._tables:
            self._tables[name] = online_table(self._workspace, self._project, name)
        return self._tables[name]

    def _store(self, name: str) -> OnlineStore:
        if name not in self._stores:
            self._stores[name] = open_store(self._workspace.environment, name)
        return self._stores[name]


def read_features(
    workspace: Workspace, project: str, lookups: Sequence[Lookup], keys: Sequence[Key], at: datetime | None = None
) -> list[Row]:
    """As OnlineFeatures.features, for a single call."""
    with OnlineFeatures(workspace, project) as features:
        return features.features(lookups, keys, at)


@lru_cache(maxsize=256)
def _codec(address: str, columns: tuple[tuple[str, str], ...], keys: tuple[str, ...]) -> RowCodec:
    return RowCodec(address, {name: ColumnType(kind) for name, kind in columns}, keys)


def _key_value(lookup: Lookup, name: str, expression: str, entry: Key) -> Any:
    column = expression.strip().strip("`")
    if column in entry:
        return entry[column]
    if name in entry:
        return entry[name]
    given = ", ".join(map(str, entry)) or "none"
    raise TableError(f"the lookup of {lookup.table} needs {column!r} or its key {name!r}; given were: {given}")
