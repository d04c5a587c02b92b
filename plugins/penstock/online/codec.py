"""Rows and keys as bytes, and back with the types that the table declares.

A row is a msgpack array of the declared columns. Dates are days and timestamps microseconds since 1970 (UTC), so
that what is read is what is stored offline: 32-bit floats, NaN and null included.
"""

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, Any

import msgpack

from penstock.errors import TableError
from penstock.online.store import Encoded
from penstock.spec.project import ColumnType

if TYPE_CHECKING:
    import pyarrow as pa

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_FIRST_DAY = date(1970, 1, 1)
_MICROSECOND = timedelta(microseconds=1)
_INT_BITS = {ColumnType.INT: 31, ColumnType.BIGINT: 63}


class RowCodec:
    """Encodes and decodes the rows of one table: `columns` by type in their order, `keys` among them."""

    def __init__(self, table: str, columns: Mapping[str, ColumnType], keys: Sequence[str]) -> None:
        self._table = table
        self._columns = dict(columns)
        self._names = list(columns)
        self._keys = list(keys)
        decoders = {ColumnType.TIMESTAMP: _to_moment, ColumnType.DATE: _to_day}
        self._decoders: list[tuple[int, Callable[[int], Any]]] = [
            (index, decoders[kind]) for index, kind in enumerate(columns.values()) if kind in decoders
        ]

    def encode(self, rows: "pa.Table | pa.RecordBatch") -> Encoded:
        """The keys and the rows of an Arrow table that has at least the declared columns."""
        values = {name: _plain(rows[name], kind) for name, kind in self._columns.items()}
        pack = msgpack.Packer().pack
        keys = [pack(key) for key in zip(*(values[name] for name in self._keys), strict=True)]
        return keys, [pack(row) for row in zip(*values.values(), strict=True)]

    def encode_keys(self, rows: "pa.Table | pa.RecordBatch") -> list[bytes]:
        """The keys of an Arrow table that has at least the key columns."""
        pack = msgpack.Packer().pack
        plain = (_plain(rows[name], self._columns[name]) for name in self._keys)
        return [pack(key) for key in zip(*plain, strict=True)]

    def key(self, values: Mapping[str, Any]) -> bytes:
        """A key given as Python values by column.

        Raises TableError for a missing or unknown column, null, and a value of another type.
        """
        if set(values) != set(self._keys):
            raise TableError(
                f"{self._table}: a key is {', '.join(self._keys)}; given were: {', '.join(map(str, values)) or 'none'}"
            )
        packed: bytes = msgpack.packb([self._key_value(name, values[name]) for name in self._keys])
        return packed

    def decode(self, row: bytes) -> dict[str, Any]:
        """A row as Python values by column; timestamps as datetimes in UTC. Raises TableError for damaged bytes."""
        try:
            values = msgpack.unpackb(row)
            for index, decode in self._decoders:
                if values[index] is not None:
                    values[index] = decode(values[index])
            return dict(zip(self._names, values, strict=True))
        except (ValueError, TypeError, IndexError, OverflowError) as error:
            raise TableError(
                f"{self._table}: a row in its online store is damaged ({error}): publish the table with --full"
            ) from error

    def decode_key(self, key: bytes) -> dict[str, Any]:
        """The reverse of `key`."""
        decoders = {ColumnType.TIMESTAMP: _to_moment, ColumnType.DATE: _to_day}
        values = zip(self._keys, msgpack.unpackb(key), strict=True)
        return {name: decoders.get(self._columns[name], _same)(value) for name, value in values}

    def _key_value(self, name: str, value: Any) -> Any:
        kind = self._columns[name]
        plain = _plain_key(value, kind)
        if plain is None:
            raise TableError(
                f"{self._table}: the key {name} is declared as {kind}, but given as {value!r} ({type(value).__name__})"
            )
        return plain


def _plain_key(value: Any, kind: ColumnType) -> Any:
    """A key's value as it is stored; None where its type is another."""
    if hasattr(value, "item"):  # a numpy scalar
        value = value.item()
    if kind in _INT_BITS:
        fits = isinstance(value, int) and not isinstance(value, bool) and -(2 ** _INT_BITS[kind]) <= value
        return value if fits and value < 2 ** _INT_BITS[kind] else None
    if kind is ColumnType.TIMESTAMP:
        return (_in_utc(value) - _EPOCH) // _MICROSECOND if isinstance(value, datetime) else None
    if kind is ColumnType.DATE:
        is_day = isinstance(value, date) and not isinstance(value, datetime)
        return (value - _FIRST_DAY).days if is_day else None
    wanted = {ColumnType.STRING: str, ColumnType.BOOLEAN: bool}.get(kind)
    return value if wanted is not None and isinstance(value, wanted) else None


def _plain(column: "pa.Array | pa.ChunkedArray", kind: ColumnType) -> list[Any]:
    """A column as a list of what msgpack knows."""
    import pyarrow as pa

    if kind is ColumnType.TIMESTAMP:
        column = column.cast(pa.timestamp("us", "UTC")).cast(pa.int64())
    elif kind is ColumnType.DATE:
        column = column.cast(pa.int32())
    if kind is ColumnType.STRING or column.null_count:
        return list(column.to_pylist())
    array = column if isinstance(column, pa.Array) else column.combine_chunks()
    return list(array.to_numpy(zero_copy_only=False).tolist())


def _in_utc(moment: datetime) -> datetime:
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment


def _to_moment(micros: int) -> datetime:
    return _EPOCH + timedelta(microseconds=micros)


def _to_day(days: int) -> date:
    return _FIRST_DAY + timedelta(days=days)


def _same(value: Any) -> Any:
    return value
