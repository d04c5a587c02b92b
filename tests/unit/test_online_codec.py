"""Rows online have the values and types that they have offline."""

from datetime import UTC, date, datetime
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.errors import TableError
from penstock.lakehouse.small_tables import arrow_schema
from penstock.online.codec import RowCodec
from penstock.spec.project import ColumnType

KEYS = {"number": ColumnType.BIGINT, "name": ColumnType.STRING, "day": ColumnType.DATE, "moment": ColumnType.TIMESTAMP,
        "flag": ColumnType.BOOLEAN}  # fmt: skip
COLUMNS = {**KEYS, **{f"a_{kind}": kind for kind in ColumnType}}
MOMENTS = st.datetimes(datetime(1, 1, 2), datetime(9999, 12, 30), timezones=st.just(UTC)).map(
    lambda moment: moment.replace(fold=0)
)
DAYS = st.dates()
VALUES: dict[ColumnType, st.SearchStrategy[Any]] = {
    ColumnType.STRING: st.text(st.characters(exclude_categories=["Cs"])),
    ColumnType.BOOLEAN: st.booleans(),
    ColumnType.INT: st.integers(-(2**31), 2**31 - 1),
    ColumnType.BIGINT: st.integers(-(2**63), 2**63 - 1),
    ColumnType.FLOAT: st.floats(width=32),
    ColumnType.DOUBLE: st.floats(),
    ColumnType.DATE: DAYS,
    ColumnType.TIMESTAMP: MOMENTS,
}
ROWS = st.fixed_dictionaries(
    {
        **{name: VALUES[kind] for name, kind in KEYS.items()},
        **{name: st.none() | VALUES[kind] for name, kind in COLUMNS.items() if name not in KEYS},
    }
)
CODEC = RowCodec("shop.customers", COLUMNS, list(KEYS))


@settings(deadline=None)
@given(st.lists(ROWS, max_size=5))
def test_rows_and_keys_come_back_as_they_went(rows: list[dict[str, Any]]) -> None:
    keys, encoded = CODEC.encode(pa.Table.from_pylist(rows, arrow_schema(COLUMNS)))
    assert [_texts(CODEC.decode(row)) for row in encoded] == [_texts(row) for row in rows]
    assert keys == [CODEC.key({name: row[name] for name in KEYS}) for row in rows]
    assert [CODEC.decode_key(key) for key in keys] == [{name: row[name] for name in KEYS} for row in rows]


def _texts(row: dict[str, Any]) -> dict[str, str]:
    """Values by text, which tells -0.0 from 0.0 and 1 from 1.0, and NaN is NaN."""
    return {name: repr(value) for name, value in row.items()}


@settings(deadline=None)
@given(ROWS, ROWS)
def test_different_keys_have_different_bytes(one: dict[str, Any], other: dict[str, Any]) -> None:
    first, second = ({name: row[name] for name in KEYS} for row in (one, other))
    assert (CODEC.key(first) == CODEC.key(second)) == (first == second)


def test_a_moment_in_another_zone_is_the_same_key() -> None:
    codec = RowCodec("t", {"moment": ColumnType.TIMESTAMP}, ["moment"])
    local = datetime.fromisoformat("2024-03-31T02:30:00+02:00")
    assert codec.key({"moment": local}) == codec.key({"moment": datetime(2024, 3, 31, 0, 30)})


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (ColumnType.INT, True), (ColumnType.INT, 1.0), (ColumnType.INT, 2**31), (ColumnType.BIGINT, 2**63),
        (ColumnType.STRING, 1), (ColumnType.BOOLEAN, 1), (ColumnType.DATE, datetime(2024, 1, 1)),
        (ColumnType.TIMESTAMP, date(2024, 1, 1)), (ColumnType.TIMESTAMP, "2024-01-01"), (ColumnType.STRING, None),
    ],
)  # fmt: skip
def test_a_key_of_another_type_is_refused(kind: ColumnType, value: Any) -> None:
    with pytest.raises(TableError, match=f"declared as {kind}, but given as"):
        RowCodec("t", {"key": kind}, ["key"]).key({"key": value})


@pytest.mark.parametrize("damaged", [b"", b"\xc1", b"\x91\x01", b"\x92\x01\xa1a\x00"])
def test_a_damaged_row_is_named(damaged: bytes) -> None:
    codec = RowCodec("shop.customers", {"a": ColumnType.INT, "b": ColumnType.TIMESTAMP}, ["a"])
    with pytest.raises(TableError, match="shop.customers: a row in its online store is damaged"):
        codec.decode(damaged)


def test_numbers_of_numpy_are_keys() -> None:
    import numpy as np

    codec = RowCodec("t", {"a": ColumnType.INT, "s": ColumnType.STRING}, ["a", "s"])
    assert codec.key({"a": np.int32(4), "s": np.str_("x")}) == codec.key({"a": 4, "s": "x"})
