"""What this process works out of a refresh is what Spark works out: groups, rows of groups, and differences."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from deltalake import DeltaTable, write_deltalake

from penstock.features import rows_here
from penstock.features.differences import difference, difference_here
from penstock.features.grain_values import grain_value
from penstock.features.rows_here import MappedTable
from penstock.spec.table import FeatureTable
from penstock.workspace import Workspace
from tests.integration.refreshing import moment
from tests.integration.shop import Shop, open_shop

MOMENTS = pa.timestamp("us", "UTC")
EXPRESSIONS = [
    *(f"date_trunc('{unit}', at)" for unit in ("SECOND", "MINUTE", "HOUR", "DAY", "WEEK", "MONTH", "QUARTER", "YEAR")),
    "date_trunc('DAY', at) + INTERVAL 1 DAY", "date_trunc('HOUR', at - INTERVAL 90 MINUTES) + INTERVAL 2 HOURS", "at",
]  # fmt: skip


@pytest.fixture
def shop(make_workspace: Callable[..., Workspace], tmp_path: Path) -> Shop:
    """A shop without rows."""
    return open_shop(make_workspace, tmp_path)


def test_times_are_truncated_and_shifted_as_by_spark(shop: Shop) -> None:
    first, last = (int(datetime(year, 1, 1, tzinfo=UTC).timestamp()) * 1_000_000 for year in (1890, 2110))
    numbers = np.random.default_rng(1).integers(first, last, 2_000)
    table = pa.table({"at": pa.array([*numbers.tolist(), None, 0, -1], MOMENTS)})
    with shop.workspace.spark() as spark:
        names = [f"v{number}" for number in range(len(EXPRESSIONS))]
        frame = spark.createDataFrame(table)
        by_spark = frame.selectExpr(*(f"{e} AS {n}" for e, n in zip(EXPRESSIONS, names, strict=True))).toArrow()
    for expression, name in zip(EXPRESSIONS, names, strict=True):
        value = grain_value(expression, "orders")
        assert value is not None
        assert value.of(table["at"]).equals(by_spark[name].cast(MOMENTS)), expression


def test_rows_of_groups_are_found_in_the_files_that_may_hold_them(tmp_path: Path) -> None:
    path, begin = str(tmp_path / "orders"), datetime(2024, 1, 1, tzinfo=UTC)
    for day in range(4):
        times = [begin + timedelta(days=day, hours=hour) for hour in (1, 23)]
        columns = {"store": ["a", "b"], "at": pa.array(times, MOMENTS), "n": [day, day]}
        write_deltalake(path, pa.table(columns), mode="append")
    day = "date_trunc('DAY', at)"
    mapped = MappedTable.of(path, DeltaTable(path, version=3), "orders", {"store": "store", "day": day})
    assert mapped is not None
    days = pa.array([begin + timedelta(days=1), begin + timedelta(days=2)], MOMENTS)
    groups = pa.table({"store": ["b", "z"], "day": days})
    assert mapped.files_of(groups).tolist() == [False, True, True, False]
    found = rows_here.rows_here(mapped, groups, ["store", "n"], None, begin)
    assert found is not None
    assert found.to_pylist() == [{"store": "b", "n": 1}]


def test_rows_that_became_available_later_or_never_are_left_out(tmp_path: Path) -> None:
    path, at = str(tmp_path / "orders"), moment("2024-01-01T10:00")
    known = [at + timedelta(hours=hours) for hours in (1, 2, 3)]
    for values in ([at, known[0]], [known[1], None], [known[2]]):
        rows = {"store": ["a"] * len(values), "known_at": pa.array(values, MOMENTS)}
        write_deltalake(path, pa.table(rows), mode="append")
    mapped = MappedTable.of(path, DeltaTable(path, version=2), "orders", {"store": "store"})
    assert mapped is not None
    for as_of, count in ((at, 1), (known[0], 2), (known[1], 3), (known[2], 4)):
        found = rows_here.rows_here(mapped, pa.table({"store": ["a"]}), ["store"], "known_at", as_of)
        assert found is not None
        assert len(found) == count


@pytest.mark.parametrize("limit", ["MOST_BYTES", "MOST_ROWS"])
def test_what_is_too_much_for_this_process_is_left_to_spark(
    shop: Shop, limit: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    refresh_twice(shop, lambda: monkeypatch.setattr(rows_here, limit, 0))


def test_a_table_with_deletion_vectors_is_left_to_spark(shop: Shop) -> None:
    def delete_one() -> None:
        with shop.workspace.spark() as spark:
            path = f"delta.`{shop.path('orders')}`"
            spark.sql(f"ALTER TABLE {path} SET TBLPROPERTIES ('delta.enableDeletionVectors' = 'true')").collect()
            spark.sql(f"DELETE FROM {path} WHERE id = 2").collect()

    refresh_twice(shop, delete_one, without=2)


def refresh_twice(shop: Shop, before: Callable[[], None], without: int | None = None) -> None:
    """Refreshes, adds a late order and refreshes again; the day's totals are right."""
    day = {"store": "a", "at": moment("2024-03-01T10:00"), "known_at": moment("2024-03-01T11:00")}
    other = {**day, "at": moment("2024-02-01T10:00")}
    shop.add("orders", *({**day, "id": number, "amount": float(number)} for number in (1, 2, 4)))
    shop.add("orders", *({**other, "id": number, "store": f"s{number}", "amount": 1.0} for number in range(10, 15)))
    shop.refresh("store_daily", moment("2024-03-02"))
    before()
    shop.add("orders", {**day, "id": 8, "amount": 8.0, "known_at": moment("2024-03-02T05:00")})
    done = shop.refresh("store_daily", moment("2024-03-03"))
    assert done.mode == "incremental"
    assert done.rows == 1
    totals = {row["store"]: row["total"] for row in shop.rows("store_daily", ["store"]).to_dict("records")}
    assert totals == {"a": 15.0 - (without or 0), **{f"s{number}": 1.0 for number in range(10, 15)}}


def test_differences_are_those_of_spark(shop: Shop) -> None:
    spec = FeatureTable.model_validate({
        "description": "d", "primary_keys": ["store"], "inputs": ["orders"], "sql": "store_daily.sql",
        "columns": {"store": "string", "event_time": "timestamp", "total": "double", "name": "string"},
    })  # fmt: skip
    nan, at = float("nan"), datetime(2024, 1, 1, tzinfo=UTC)

    def table(*rows: tuple[str | None, float | None, str | None], known: datetime | None = at) -> pa.Table:
        stores, totals, names = zip(*rows, strict=True)
        times = pa.array([at] * len(rows), MOMENTS)
        return pa.table({
            "store": pa.array(stores, pa.string()), "event_time": times, "total": pa.array(totals, pa.float64()),
            "name": pa.array(names, pa.string()), "_known_at": pa.array([known] * len(rows), MOMENTS),
        })  # fmt: skip

    output = table(
        ("same", 1.0, "x"), ("nan", nan, None), ("null", None, None), ("zero", -0.0, "x"), ("new", 1.0, "x"),
        ("more", 2.0, "x"), ("filled", 1.0, "x"), ("emptied", None, "x"), ("nan to null", None, "x"), (None, 1.0, "x"),
        ("twice", 1.0, "x"), ("twice", 2.0, "x"),
        known=at + timedelta(days=3),
    )  # fmt: skip
    current = table(
        ("same", 1.0, "x"), ("nan", nan, None), ("null", None, None), ("zero", 0.0, "x"), ("gone", 1.0, "x"),
        ("more", 1.0, "x"), ("filled", None, "x"), ("emptied", 1.0, "x"), ("nan to null", nan, "x"),
        ("twice", 1.0, "x"),
    )  # fmt: skip
    with shop.workspace.spark() as spark:
        by_spark = difference(spark.createDataFrame(output), spark.createDataFrame(current), spec).toArrow()
    here = difference_here(output, current, spec)
    assert here.column_names == by_spark.column_names
    assert ordered(here) == ordered(by_spark)
    assert len(here) == 9


def ordered(rows: pa.Table) -> list[Any]:
    """Rows as comparable values."""
    return sorted((repr(row) for row in rows.to_pylist()), key=str)


def test_a_file_without_statistics_is_read(tmp_path: Path) -> None:
    path = str(tmp_path / "orders")
    rows = pa.table({"store": ["a"], "at": pa.array([moment("2024-01-01T10:00")], MOMENTS)})
    write_deltalake(path, rows, configuration={"delta.dataSkippingNumIndexedCols": "0"})
    mapped = MappedTable.of(path, DeltaTable(path), "orders", {"store": "store"})
    assert mapped is not None
    found = rows_here.rows_here(mapped, pa.table({"store": ["a"]}), ["store"], None, moment("2024-01-02"))
    assert found is not None
    assert len(found) == 1
