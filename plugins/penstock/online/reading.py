"""Reading features online: many keys of several tables in one call, with the types that they have offline."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, Self

from penstock.clock import to_text
from penstock.errors import TableError
from penstock.online.codec import RowCodec
from penstock.online.offline import OnlineTable, online_table
from penstock.online.store import OnlineStore, Position, open_store
from penstock.spec.project import ColumnType, Lookup
from penstock.spec.sql import plain_column
from penstock.workspace import Workspace

Key = Mapping[str, Any]
Row = dict[str, Any]


@dataclass(frozen=True)
class _Found:
    """A table's rows at the moment that they are for, and the types of the columns that are online."""

    moment: datetime
    types: Mapping[str, ColumnType]
    rows: Sequence[Row | None]


class OnlineFeatures:
    """Reads a project's online tables; opened once and used for many reads, by one thread at a time."""

    def __init__(self, workspace: Workspace, project: str) -> None:
        self._workspace = workspace
        self._project = project
        self._tables: dict[str, OnlineTable] = {}
        self._stores: dict[str, OnlineStore] = {}

    def rows(self, requests: Mapping[str, Sequence[Key]], at: datetime | None = None) -> dict[str, list[Row | None]]:
        """For each table (`table` or `project.table`) the row of each key, in their order.

        None stands for a key without a row, and for one that is older than the table's ttl at `at`. Without `at` it
        is the replay clock or now, or what the table was published as of, should that be later. A row has every
        declared column; timestamps are in UTC.

        Raises TableError where a table was never published, for a key of another type, and for an `at` at which a
        key's row is not known: a later one has taken its place; SpecError where a table is not served online;
        ServiceError where the store does not answer.
        """
        return {name: list(found.rows) for name, found in self._read(requests, at).items()}

    def features(self, lookups: Sequence[Lookup], keys: Sequence[Key], at: datetime | None = None) -> list[Row]:
        """For each entry of `keys` the features of all lookups, by their output names, as in a training set.

        That is with `at` as the prediction time: max_age applies, and a missing feature is the lookup's default or
        null. An entry has, for each primary key of a lookup's table, the column that the lookup names; where it names
        an expression, the primary key itself. A key that is null finds no row, as in a training set.

        Raises what `rows` does, and TableError for a lookup with an offset: only newest rows are online.
        """
        for lookup in lookups:
            _refuse_offset(lookup)
        wanted: dict[str, dict[tuple[Any, ...], Key]] = {lookup.table: {} for lookup in lookups}
        asked: list[list[tuple[Any, ...]]] = []
        for entry in keys:
            asked.append([])
            for lookup in lookups:
                key = {name: _key_value(lookup, name, text, entry) for name, text in lookup.keys.items()}
                identity = tuple(sorted(key.items()))
                if not any(map(_is_null, key.values())):
                    wanted[lookup.table].setdefault(identity, key)
                asked[-1].append(identity)
        found = self._read({table: list(by_key.values()) for table, by_key in wanted.items()}, at)
        rows = {table: dict(zip(wanted[table], about.rows, strict=True)) for table, about in found.items()}
        missing = [_missing(lookup, found[lookup.table]) for lookup in lookups]
        return [
            {
                lookup.output_name(name): value
                for lookup, key, default in zip(lookups, entry, missing, strict=True)
                for name, value in self._chosen(
                    lookup, rows[lookup.table].get(key), default, found[lookup.table]
                ).items()
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

    def _read(self, requests: Mapping[str, Sequence[Key]], at: datetime | None) -> dict[str, "_Found"]:
        encoded: dict[str, list[tuple[str, list[bytes]]]] = {}
        for name, keys in requests.items():
            table = self._table(name)
            encoded.setdefault(table.settings.store, []).append((name, [table.codec.key(key) for key in keys]))
        found: dict[str, _Found] = {}
        for store, wanted in encoded.items():
            pairs = [(self._table(name).address, keys) for name, keys in wanted]
            for (name, packed), (position, rows) in zip(wanted, self._store(store).read_many(pairs), strict=True):
                found[name] = self._decoded(self._table(name), position, packed, rows, at)
        return found

    def _chosen(self, lookup: Lookup, row: Row | None, missing: Row, found: "_Found") -> Row:
        if row is None or (
            lookup.max_age is not None and row[self._table(lookup.table).event_time] < found.moment - lookup.max_age
        ):
            return missing
        return {name: missing[name] if row[name] is None else row[name] for name in lookup.features}

    def _decoded(
        self, table: OnlineTable, position: Position | None, keys: list[bytes], rows: list[bytes | None],
        at: datetime | None,
    ) -> "_Found":  # fmt: skip
        if position is None:
            raise TableError(
                f"{table.address} has not been published yet: run feature_refresh, or "
                f"`penstock online publish {table.address}`"
            )
        codec = _codec(table.address, position.columns, table.primary_keys)
        decoded = [None if row is None else codec.decode(row) for row in rows]
        as_of = datetime.fromisoformat(position.as_of)
        moment = _in_utc(at) if at is not None else max(self._workspace.moment(), as_of)
        ttl, time = table.settings.ttl, table.event_time
        for key, row in zip(keys, decoded, strict=True):
            if (row is not None and row[time] > moment) or (row is None and ttl is not None and moment < as_of):
                raise TableError(
                    f"{table.address} is online as of {position.as_of}: what it had at {to_text(moment)} for the key "
                    f"{table.codec.decode_key(key)} is not kept there. Ask without `at` or for a later moment; past "
                    "values are read from the lakehouse (read_table with as_of, or a training set)"
                )
        kept = [row if row is None or ttl is None or row[time] >= moment - ttl else None for row in decoded]
        return _Found(moment, {name: ColumnType(kind) for name, kind in position.columns}, kept)

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


def _in_utc(moment: datetime) -> datetime:
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment


def _refuse_offset(lookup: Lookup) -> None:
    if lookup.offset:
        raise TableError(
            f"the lookup of {lookup.table} has an offset of {lookup.offset}, and only the newest row of a key is "
            "online: make the earlier value a column of the feature table, leave this lookup out and give its "
            "features with the request, or score in batches"
        )


def _missing(lookup: Lookup, found: _Found) -> Row:
    """What stands for missing features: the lookup's defaults, as a training set casts them, or null."""
    unknown = [name for name in lookup.features if name not in found.types]
    if unknown:
        raise TableError(f"{lookup.table} has no column(s) {', '.join(unknown)} online: publish it again")
    return {
        name: _typed(lookup, name, lookup.defaults[name], found.types[name]) if name in lookup.defaults else None
        for name in lookup.features
    }


def _typed(lookup: Lookup, name: str, value: Any, kind: ColumnType) -> Any:
    if kind is ColumnType.DOUBLE and not isinstance(value, str):
        return float(value)
    if isinstance(value, {ColumnType.STRING: str, ColumnType.BOOLEAN: bool}.get(kind, ())):
        return value
    return _typed_by_arrow(lookup.table, name, value, kind)


@lru_cache(maxsize=1024, typed=True)
def _typed_by_arrow(table: str, name: str, value: Any, kind: ColumnType) -> Any:
    import pyarrow as pa

    from penstock.lakehouse.small_tables import arrow_schema

    try:
        if kind is ColumnType.STRING:
            raise pa.ArrowInvalid("it is no text")
        return pa.scalar(value).cast(arrow_schema({name: kind}).field(name).type).as_py()
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise TableError(
            f"the lookup of {table} has the default {value!r} for {name}, which is a {kind}: "
            f"write a value of that type ({error})"
        ) from error


def _is_null(value: Any) -> bool:
    """Whether a key's value is null, in whatever way Python, NumPy and pandas write it."""
    if value is None or type(value).__name__ == "NAType":  # pandas.NA equals nothing, and says so by an exception
        return True
    return isinstance(value, (float, datetime)) and value != value  # NaN, NaT


def _key_value(lookup: Lookup, name: str, expression: str, entry: Key) -> Any:
    column = plain_column(expression)
    wanted = column or expression.strip()
    if wanted in entry:
        return entry[wanted]
    if column is None and name in entry:
        return entry[name]
    given = ", ".join(map(str, entry)) or "none"
    needs = repr(column) if column is not None else f"{name!r}, the value of {wanted!r}"
    raise TableError(f"the lookup of {lookup.table} needs {needs}; given were: {given}")
