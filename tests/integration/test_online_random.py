"""Whatever is inserted, corrected, removed and published, in any order: online equals offline."""

import tempfile
from datetime import timedelta
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.errors import NothingToDo
from penstock.online.compare import compare_online
from penstock.online.publish import publish_table
from penstock.online.reading import OnlineFeatures
from tests.integration.online_shop import PROJECT, TABLE, at, delete, open_shop, put, row

CUSTOMERS = ("ann", "bob", "eve")
ROWS = st.tuples(st.sampled_from(CUSTOMERS), st.integers(1, 12), st.none() | st.integers(0, 9))
STEPS = st.one_of(
    st.tuples(st.just("put"), st.lists(ROWS, min_size=1, max_size=4, unique_by=lambda found: found[:2])),
    st.tuples(st.just("delete"), st.tuples(st.sampled_from(CUSTOMERS), st.integers(1, 12))),
    st.tuples(st.just("publish"), st.integers(0, 5)),
)


@settings(max_examples=12, deadline=None)
@given(st.lists(STEPS, min_size=3, max_size=9), st.none() | st.integers(1, 6))
def test_online_equals_offline_after_any_sequence(steps: list[tuple[str, Any]], ttl_days: int | None) -> None:
    with tempfile.TemporaryDirectory() as name:
        store = {"kind": "sqlite", "path": f"{name}/online.sqlite"}
        workspace = open_shop(Path(name), store, **({"ttl": f"{ttl_days}d"} if ttl_days else {}))
        kept: dict[tuple[str, int], int | None] = {("ann", 1): 0}
        put(workspace, [row("ann", at(1), items=0)], at(1))
        now = 6
        for what, given_ in [*steps, ("publish", 1)]:
            if what == "put":
                kept |= {(customer, day): items for customer, day, items in given_}
                put(workspace, [row(customer, at(day), items=items) for customer, day, items in given_], at(1))
            elif what == "delete":
                kept.pop(given_, None)
                day = f"{at(given_[1]):%Y-%m-%d}"
                delete(workspace, f"customer = '{given_[0]}' AND event_time = '{day}T00:00:00Z'")
            else:
                now = min(now + given_, 31)
                _publish(workspace, now)
                assert compare_online(workspace, PROJECT, TABLE, at(now)).passed
                assert _online(workspace, now) == _expected(kept, now, ttl_days)


def _publish(workspace: Any, day: int) -> None:
    try:
        publish_table(workspace, PROJECT, TABLE, at(day))
    except NothingToDo:
        return


def _expected(kept: dict[tuple[str, int], int | None], now: int, ttl_days: int | None) -> dict[str, Any]:
    """Each customer's newest row, by the definition."""
    newest: dict[str, Any] = {}
    for (customer, day), items in sorted(kept.items(), key=lambda item: item[0][1]):
        if day <= now and (ttl_days is None or at(day) >= at(now) - timedelta(days=ttl_days)):
            newest[customer] = row(customer, at(day), items=items)
    return newest


def _online(workspace: Any, now: int) -> dict[str, Any]:
    with OnlineFeatures(workspace, PROJECT) as features:
        found = features.rows({TABLE: [{"customer": name, "shelf": 1} for name in CUSTOMERS]}, at(now))[TABLE]
    return {name: values for name, values in zip(CUSTOMERS, found, strict=True) if values is not None}
