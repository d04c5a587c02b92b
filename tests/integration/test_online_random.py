"""Whatever is inserted, corrected, removed and published, in any order: online equals offline."""

import random
import tempfile
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.errors import NothingToDo
from penstock.features import FeatureStore
from penstock.online.compare import compare_online
from penstock.online.publish import publish_table
from penstock.online.reading import OnlineFeatures
from penstock.spec.project import Lookup
from penstock.workspace import Workspace
from tests.integration import refreshing
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


DEFAULTS: dict[str, list[Any]] = {
    "score": [-1, 0.25], "visits": [-1, 2**40], "remark": ["none"], "closed": [True, False], "share": [0.1, 3]
}  # fmt: skip


def test_online_features_are_those_of_a_training_set_at_the_same_moment(
    make_workspace: Callable[..., Workspace], tmp_path: Path
) -> None:
    draws = random.Random(11)
    store = FeatureStore(refreshing.PROJECT, make_workspace(refreshing.copy_root(tmp_path)))
    store.create_table("ratings", "park", "rated_at", df=_ratings(draws), online=True)
    store.publish_table("ratings", as_of=at(20))
    lookups = [_lookup(draws, number) for number in range(5)]
    sites = [*(f"p{number}" for number in range(14)), "unknown"]
    entities = pd.DataFrame({"site": sites, "asked_at": at(20)})
    made = store.create_training_set(entities, lookups, timestamp_key="asked_at", as_of=at(20))
    offline = made.load_df().set_index("site").loc[sites]
    online = pd.DataFrame(store.read_online(lookups, [{"site": site} for site in sites], at=at(20)), index=sites)
    assert len(online.columns) > 8
    for name in online:
        expected, found = (
            [None if pd.isna(value) else value for value in frame[name]] for frame in (offline, online.astype(object))
        )
        assert found == expected, name
    given = [name for name in online if online[name].notna().all()]
    assert given  # lookups with defaults leave nothing out


def _ratings(draws: random.Random) -> pd.DataFrame:
    """Some days of fourteen parks before and after the twentieth; a third of the values are null."""
    rows = [
        {"park": f"p{number}", "rated_at": pd.Timestamp(at(day)), "score": draws.random(),
         "visits": draws.randint(0, 9), "remark": f"r{day}", "closed": draws.random() < 0.5, "share": draws.random()}
        for number in range(14) for day in draws.sample(range(1, 31), 4)
    ]  # fmt: skip
    for found in rows:
        found |= {name: None for name in DEFAULTS if draws.random() < 1 / 3}
    kinds = {"visits": "Int64", "closed": "boolean", "share": np.float32, "score": np.float64}
    return pd.DataFrame(rows).astype(kinds).assign(rated_at=lambda frame: frame["rated_at"].dt.as_unit("us"))


def _lookup(draws: random.Random, number: int) -> Lookup:
    features = draws.sample(list(DEFAULTS), draws.randint(1, 4))
    return Lookup(
        table="ratings", keys={"park": "site"}, features=features,
        rename={name: f"{name}_{number}" for name in features},
        max_age=draws.choice([None, timedelta(days=2), timedelta(days=6)]),
        defaults={name: draws.choice(DEFAULTS[name]) for name in features if draws.random() < 0.6},
    )  # fmt: skip
