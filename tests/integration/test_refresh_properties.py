"""Whatever happens to the raw tables, and whenever it is refreshed: a feature table equals its full recomputation.

And its history says what it said at each as_of: both are held against a plain model in Python.
"""

import os
import tempfile
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from penstock.errors import GateError, NothingToDo
from penstock.features.known import KNOWN_AT, KNOWN_UNTIL, history_name
from penstock.workspace import Workspace
from tests.integration.refreshing import moment
from tests.integration.shop import Shop, open_shop

EXAMPLES = int(os.environ.get("PENSTOCK_PROPERTY_EXAMPLES", "4"))
START = moment("2024-01-10")
STORES = ["a", "b", "c"]
HOUR = "date_trunc('HOUR', at) + INTERVAL 1 HOUR"
STORE_HOURLY = {
    "description": "A store's only order of an hour: nothing is aggregated.", "primary_keys": ["store"],
    "inputs": ["orders"], "sql": "store_hourly.sql",
    "grain": {"columns": ["store", "event_time"],
              "inputs": {"orders": {"expressions": {"store": "store", "event_time": HOUR}}}},
    "columns": {"store": "string", "event_time": "timestamp", "amount": "double"},
}  # fmt: skip
Key = tuple[str, pd.Timestamp]
Values = tuple[float, ...]

stores, regions = st.sampled_from(STORES), st.sampled_from(["north", "south"])
hours = st.integers(-60, 6)
mutations = st.one_of(
    st.tuples(st.just("insert"), stores, hours, st.integers(-3, 20), st.integers(1, 9)),
    st.tuples(st.just("update"), st.integers(0, 20), stores, hours, st.integers(1, 9)),
    st.tuples(st.just("delete"), st.integers(0, 20)),
    st.tuples(st.just("repeat"), st.integers(8, 20), st.integers(1, 9)),
    st.tuples(st.just("undated"), stores),
    st.tuples(st.just("move"), stores, regions),
    st.tuples(st.just("close"), stores),
)
steps = st.lists(
    st.tuples(st.lists(mutations, min_size=1, max_size=4), st.integers(0, 40)), min_size=1, max_size=3
)  # fmt: skip


@dataclass
class Model:
    """What a feature table must say: its rows, and the versions that ended."""

    rows: dict[Key, tuple[Values, datetime]] = field(default_factory=dict)
    ended: dict[tuple[Key, datetime], tuple[Values, datetime]] = field(default_factory=dict)
    reached: datetime | None = None

    def refresh(self, expected: dict[Key, Values], known_from: dict[Key, datetime], as_of: datetime) -> None:
        """What a refresh as of a moment does. known_from: when the last row behind each was available."""
        for key in {*self.rows, *expected}:
            now, (before, known) = expected.get(key), self.rows.get(key, (None, None))
            if now == before:
                continue
            if before is not None:
                self.ended[key, known] = (before, as_of)
            if now is None:
                del self.rows[key]
                continue
            is_late = before is not None or (self.reached is not None and key[1] <= self.reached)
            self.rows[key] = (now, as_of if is_late else max(key[1].to_pydatetime(), known_from[key]))
        if self.rows or self.reached is not None:
            self.reached = as_of


@settings(
    max_examples=EXAMPLES, deadline=None, derandomize=True, database=None,
    phases=(Phase.generate, Phase.shrink) if EXAMPLES > 50 else (Phase.generate,),
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large],
)  # fmt: skip
@given(steps)
def test_a_refreshed_table_equals_its_full_recomputation(
    make_workspace: Callable[..., Workspace], story: list[tuple[list[tuple[Any, ...]], int]]
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        shop = open_shop(make_workspace, Path(folder))
        (shop.folder / "store_hourly.sql").write_text(f"SELECT store, {HOUR} AS event_time, amount FROM orders")
        shop.write_spec(lambda spec: spec["feature_tables"].update(store_hourly=STORE_HOURLY))
        shop.add("stores", *({"store": name, "region": "north", "known_at": START} for name in STORES[:2]))
        base = [("insert", name, -day * 24, 0, 5) for name in STORES for day in range(1, 5)]
        clock, number = START, 0
        models = {"store_daily": Model(), "region_daily": Model(), "store_hourly": Model()}
        for changes, advance in [(base, 0), *story]:
            for change in changes:
                number += 1
                mutate(shop, change, clock, number)
            clock += timedelta(hours=advance)
            check(shop, models, clock)


def mutate(shop: Shop, change: tuple[Any, ...], clock: datetime, number: int) -> None:
    """Applies one change to a raw table."""
    kind, *about = change
    if kind == "insert":
        store, at, known, amount = about
        row = {"id": number, "store": store, "at": clock + timedelta(hours=at), "amount": float(amount)}
        shop.add("orders", {**row, "known_at": clock + timedelta(hours=known)})
    elif kind == "update":
        order, store, at, amount = about
        moved = clock + timedelta(hours=at)
        literal = f"arrow_cast('{moved.isoformat()}', 'Timestamp(Microsecond, Some(\"UTC\"))')"
        new = {"store": f"'{store}'", "at": literal, "amount": f"{amount}.0"}
        shop.raw("orders").update(updates=new, predicate=f"id = {order}")
    elif kind == "repeat":  # two rows of one key, where nothing is aggregated
        order, amount = about
        there = shop.raw("orders").to_pyarrow_table(filters=[("id", "=", order)]).to_pylist()
        shop.add("orders", *({**row, "id": number, "amount": float(amount), "known_at": clock} for row in there))
    elif kind == "undated":
        shop.add("orders", {"id": number, "store": about[0], "at": None, "amount": 1.0, "known_at": clock})
    elif kind == "delete":
        shop.raw("orders").delete(f"id = {about[0]}")
    else:
        shop.raw("stores").delete(f"store = '{about[0]}'")
        if kind == "move":
            shop.add("stores", {"store": about[0], "region": about[1], "known_at": clock})


def check(shop: Shop, models: dict[str, Model], as_of: datetime) -> None:
    """Refreshes the tables, and compares them and their histories with the models.

    Where a key is repeated, the refresh is stopped, and the table stays.
    """
    orders, places = (shop.raw(name).to_pyarrow_table().to_pandas() for name in ("orders", "stores"))
    orders, places = (frame[frame["known_at"] <= as_of] for frame in (orders, places))
    hourly = orders.assign(event_time=orders["at"].dt.floor("h") + pd.Timedelta(hours=1))
    hourly = hourly[hourly["event_time"] <= as_of]
    orders = orders.assign(event_time=orders["at"].dt.floor("D") + pd.Timedelta(days=1))
    orders = orders[orders["event_time"] <= as_of]
    expected = {
        "store_hourly": summary(hourly, "store", {"amount": ("amount", "max")}),
        "store_daily": summary(orders, "store", {"total": ("amount", "sum"), "orders": ("amount", "size")}),
        "region_daily": summary(orders.merge(places, on="store"), "region", {"total": ("amount", "sum")}),
    }
    by_region = orders.merge(places, on="store", suffixes=("", "_of_store"))
    days = pd.concat([orders, by_region.assign(known_at=by_region["known_at_of_store"])])
    of_day = days.groupby("event_time")["known_at"].max()  # a region's group is the day
    of_store = orders.groupby(["store", "event_time"])["known_at"].max()
    of_hour = hourly.groupby(["store", "event_time"])["known_at"].max()
    known_from = {
        "store_hourly": {key: of_hour[key].to_pydatetime() for key in expected["store_hourly"]},
        "store_daily": {key: of_store[key].to_pydatetime() for key in expected["store_daily"]},
        "region_daily": {key: of_day[key[1]].to_pydatetime() for key in expected["region_daily"]},
    }
    for table, model in models.items():
        if table == "store_hourly" and hourly.duplicated(["store", "event_time"]).any():
            with pytest.raises(GateError, match="occur more than once in the batch"):
                shop.refresh(table, as_of)
        else:
            model.refresh(expected[table], known_from[table], as_of)
            with suppress(NothingToDo):
                shop.refresh(table, as_of)
        key = table.partition("_")[0]
        found = shop.rows(table, [key, "event_time"])
        assert contents(found, key) == model.rows, table
        history = shop.rows(history_name(table), [key, "event_time"])
        ended = {
            ((row[key], row["event_time"]), row[KNOWN_AT]): (values(row, key), row[KNOWN_UNTIL])
            for row in history.to_dict("records")
        }
        assert ended == model.ended, table


def summary(frame: pd.DataFrame, key: str, aggregates: dict[str, tuple[str, str]]) -> dict[Key, Values]:
    """The full recomputation."""
    grouped = frame.groupby([key, "event_time"]).agg(**aggregates)
    return {
        index: tuple(float(value) for value in row)
        for index, row in zip(grouped.index, grouped.to_numpy(), strict=True)
    }


def contents(frame: pd.DataFrame, key: str) -> dict[Key, tuple[Values, datetime]]:
    """A stored table by key: its values, and when they became known."""
    return {
        (row[key], row["event_time"]): (values(row, key), row[KNOWN_AT].to_pydatetime())
        for row in frame.to_dict("records")
    }


def values(row: dict[str, Any], key: str) -> Values:
    """The features of a stored row."""
    return tuple(float(row[name]) for name in row if name not in (key, "event_time", KNOWN_AT, KNOWN_UNTIL))
