"""Point-in-time joins and training sets, against a plain search through all rows in pandas."""

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from deltalake import DeltaTable, write_deltalake

from penstock.features.known import KNOWN_AT, KNOWN_UNTIL
from penstock.features.training_set import read_training_set, training_set_of
from penstock.spec.project import Lookup
from penstock.workspace import Workspace
from tests.integration.refreshing import PROJECT, copy_root, moment

Make = Callable[..., Workspace]
START = pd.Timestamp("2024-03-01", tz="UTC")
AS_OF = moment("2024-06-01")
AT = "asked_at"


@pytest.fixture
def workspace(make_workspace: Make, tmp_path: Path) -> Workspace:
    """A workspace over the second project, with an empty lakehouse."""
    return make_workspace(copy_root(tmp_path))


def put(workspace: Workspace, name: str, frame: pd.DataFrame, event_time: str = "event_time") -> None:
    """Writes a feature table that says itself which its event time is; replaces one that is there."""
    times = frame.select_dtypes("datetimetz").columns
    micros = frame.assign(**{column: frame[column].dt.as_unit("us") for column in times})
    rows = pa.Table.from_pandas(micros, preserve_index=False)
    path = workspace.addresses.writable(f"{PROJECT}.{name}")
    DeltaTable.create(
        path, rows.schema, mode="ignore", configuration={"penstock.event_time": event_time},
        raise_if_key_not_exists=False,
    )  # fmt: skip
    write_deltalake(path, rows, mode="overwrite", schema_mode="overwrite")


def after(hours: float) -> pd.Timestamp:
    """A moment some hours after the start of the data."""
    return START + pd.Timedelta(hours=hours)


def moments(draws: np.random.Generator, count: int, hours: int = 1000) -> list[pd.Timestamp]:
    """Whole hours at random, so that ties are frequent."""
    return [after(int(hour)) for hour in draws.integers(0, hours, count)]


def feature_rows(draws: np.random.Generator, count: int, keys: dict[str, list]) -> pd.DataFrame:
    """Rows of a feature table with values that tell them apart, some of them null."""
    frame = pd.DataFrame({name: draws.choice(values, count) for name, values in keys.items()})
    frame["event_time"] = moments(draws, count)
    frame = frame.drop_duplicates(ignore_index=True)
    frame["value"] = np.arange(len(frame), dtype="float64")
    frame["word"] = [None if index % 7 == 0 else f"w{index}" for index in range(len(frame))]
    return frame


def search(
    entities: pd.DataFrame, rows: pd.DataFrame, keys: dict[str, str], *, max_age: pd.Timedelta | None = None,
    offset: timedelta = timedelta(0), as_known: bool = False,
) -> list[dict | None]:  # fmt: skip
    """The reference: for each entity row all feature rows are looked through."""
    found: list[dict | None] = []
    for _, entity in entities.iterrows():
        at = entity[AT] - offset
        same = rows[rows["event_time"] <= at]
        for feature_key, column in keys.items():
            same = same[same[feature_key] == entity[column]]
        if as_known:
            known = same[KNOWN_AT].fillna(same["event_time"])
            same = same.assign(known=known)[(known <= at) & ~(same[KNOWN_UNTIL] <= at)]
        order = ["event_time", "known"] if as_known else ["event_time"]
        best = same.sort_values(order).iloc[-1].to_dict() if len(same) else None
        if best is not None and max_age is not None and best["event_time"] < at - max_age:
            best = None
        found.append(best)
    return found


def values(found: list[dict | None], column: str, default: object = None) -> list:
    """A column of the reference, None where there is nothing."""
    raw = [default if row is None or pd.isna(row[column]) else row[column] for row in found]
    return [None if value is None else value for value in raw]


def column(frame: pd.DataFrame, name: str) -> list:
    """A column with None for every kind of missing value."""
    return [None if pd.isna(value) else value for value in frame.sort_values("row")[name]]


def entity_rows(draws: np.random.Generator, count: int = 400) -> pd.DataFrame:
    """Entity rows before, among and after the feature rows; some without a key, some twice."""
    frame = pd.DataFrame(
        {
            "row": range(count),
            "park": draws.choice(["a", "b", "c", "unknown", None], count),
            "turbine": draws.integers(0, 4, count).astype("int32"),
            AT: [after(int(hour)) for hour in draws.integers(-100, 1200, count)],
        }
    )
    return pd.concat([frame, frame.head(5).assign(row=range(count, count + 5))], ignore_index=True)


def test_several_tables_composite_keys_ages_offsets_and_defaults_match_the_search(workspace: Workspace) -> None:
    draws = np.random.default_rng(1)
    parks = feature_rows(draws, 60, {"park": ["a", "b", "c"]})
    parks.loc[len(parks)] = ["a", pd.Timestamp("1970-01-01", tz="UTC"), -1.0, "always"]
    turbines = feature_rows(draws, 500, {"park": ["a", "b", "c"], "turbine": [0, 1, 2]})
    put(workspace, "parks", parks)
    put(workspace, "turbines", turbines)  # bigint keys, looked up by an int column
    entities = entity_rows(draws)
    week = pd.Timedelta("7D")
    made = training_set_of(
        workspace, PROJECT, entities,
        [
            Lookup(table="parks", keys={"park": "park"}, features=["value", "word"]),
            Lookup(table="turbines", keys={"turbine": "turbine", "park": "park"}, features=["value"],
                   rename={"value": "recent"}, max_age=timedelta(hours=20)),
            Lookup(table="parks", keys={"park": "park"}, features=["value", "word"], offset=timedelta(days=7),
                   rename={"value": "week_ago", "word": "word_week_ago"}, defaults={"value": -5, "word": "none"}),
        ],
        timestamp_key=AT, as_of=AS_OF,
    )  # fmt: skip
    found = read_training_set(made)
    assert len(found) == made.rows == len(entities)
    now, ago = search(entities, parks, {"park": "park"}), search(entities, parks, {"park": "park"}, offset=week)
    keys = {"park": "park", "turbine": "turbine"}
    recent = search(entities, turbines, keys, max_age=pd.Timedelta("20h"))
    assert sum(row is not None for row in recent) > 50
    assert column(found, "value") == values(now, "value")
    assert column(found, "word") == values(now, "word")
    assert column(found, "recent") == values(recent, "value")
    assert column(found, "week_ago") == values(ago, "value", -5)
    assert column(found, "word_week_ago") == values(ago, "word", "none")
    missing = np.mean([row is None for row in recent])
    assert made.missing["recent"] == pytest.approx(missing)
