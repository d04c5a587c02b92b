"""The grain's simple expressions: which they are, and what they give."""

from datetime import UTC, datetime

import pyarrow as pa
import pytest

from penstock.features.grain_values import GrainValue, grain_value

MOMENTS = pa.timestamp("us", "UTC")


def chunked(*values: str | None) -> pa.ChunkedArray:
    moments = [None if value is None else datetime.fromisoformat(value).replace(tzinfo=UTC) for value in values]
    return pa.chunked_array([pa.array(moments, MOMENTS)])


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("at", "2024-02-29T13:45:10.000001"),
        ("`at`", "2024-02-29T13:45:10.000001"),
        ("(orders.at)", "2024-02-29T13:45:10.000001"),
        ("date_trunc('DAY', at) + INTERVAL 1 DAY", "2024-03-01T00:00:00"),
        ("date_trunc('week', at)", "2024-02-26T00:00:00"),
        ("date_trunc('MONTH', at) - INTERVAL '3' HOURS", "2024-01-31T21:00:00"),
        ("date_trunc('quarter', at + INTERVAL 5 WEEKS)", "2024-04-01T00:00:00"),
        ("date_trunc('YEAR', at)", "2024-01-01T00:00:00"),
    ],
)
def test_a_simple_expression_has_its_value(expression: str, expected: str) -> None:
    value = grain_value(expression, "orders")
    assert value is not None
    assert value.of(chunked("2024-02-29T13:45:10.000001", None)).equals(chunked(expected, None))


def test_days_before_1970_begin_at_midnight_too() -> None:
    value = grain_value("date_trunc('DAY', at)", "orders")
    assert value is not None
    assert value.of(chunked("1969-12-31T23:59:59")).equals(chunked("1969-12-31T00:00:00"))


@pytest.mark.parametrize(
    "expression",
    [
        "upper(store)",
        "date_trunc('DAYS', at)",  # null in Spark
        "trunc(at, 'MONTH')",  # a date
        "at + INTERVAL 1 MONTH",
        "at + INTERVAL 1.5 DAY",
        "at + INTERVAL '1 02:00:00' DAY TO SECOND",
        "at + INTERVAL 1 DAY 2 HOURS",
        "items.at",
        "at::date",
        "1",
    ],
)
def test_of_any_other_expression_nothing_is_known(expression: str) -> None:
    assert grain_value(expression, "orders") is None


@pytest.mark.parametrize(
    "kind", [pa.float64(), pa.timestamp("us"), pa.decimal128(9, 2), pa.binary(), pa.list_(pa.int8())]
)
def test_types_that_compare_otherwise_in_spark_are_left_to_it(kind: pa.DataType) -> None:
    assert not GrainValue("a").takes(kind)


def test_only_utc_timestamps_are_truncated() -> None:
    value = grain_value("date_trunc('DAY', at)", "orders")
    assert value is not None
    assert value.takes(MOMENTS)
    assert not value.takes(pa.date32())
