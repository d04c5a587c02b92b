"""Point-in-time joins and training sets, against a plain search through all rows in pandas."""

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from deltalake import DeltaTable, write_deltalake

from penstock.errors import TableError
from penstock.features.inputs import open_input
from penstock.features.known import KNOWN_AT, KNOWN_UNTIL, history_name
from penstock.features.point_in_time import BROADCAST_CELLS, join_features, matched
from penstock.features.training_set import read_training_set, rebuild_training_set, training_set_of
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


def versions_of(draws: np.random.Generator, *, removals: bool) -> tuple[pd.DataFrame, pd.DataFrame]:
    """A feature table's present rows, and the versions that were corrected or removed, with when each was known."""
    current, old = [], []
    number = 0
    for park in ("a", "b", "c"):
        for hour in sorted(set(draws.integers(0, 300, 25).tolist())):
            known = after(hour + int(draws.integers(-5, 30)))
            rows = []
            for _ in range(int(draws.integers(1, 4))):
                number += 1
                rows.append(
                    {
                        "park": park,
                        "event_time": after(hour),
                        "value": float(number),
                        "word": f"w{number}",
                        KNOWN_AT: known,
                    }
                )
                known += pd.Timedelta(hours=int(draws.integers(1, 60)))
            for row, following in zip(rows, rows[1:], strict=False):
                old.append({**row, KNOWN_UNTIL: following[KNOWN_AT]})
            if removals and draws.random() < 0.4:
                old.append({**rows[-1], KNOWN_UNTIL: known})
                if draws.random() < 0.5:  # and it came back later
                    current.append({**rows[-1], KNOWN_AT: known + pd.Timedelta(hours=20), "value": number + 0.5})
            else:
                current.append(rows[-1])
    return pd.DataFrame(current), pd.DataFrame(old)


@pytest.mark.parametrize("removals", [False, True])
def test_values_are_those_known_at_the_prediction_time(workspace: Workspace, removals: bool) -> None:
    draws = np.random.default_rng(2)
    current, old = versions_of(draws, removals=removals)
    put(workspace, "parks", current)
    put(workspace, history_name("parks"), old)
    entities = entity_rows(draws)
    entities[AT] = [after(int(hour)) for hour in draws.integers(-10, 450, len(entities))]
    lookup = Lookup(
        table="parks",
        keys={"park": "park"},
        features=["value", "word"],
        max_age=timedelta(hours=30),
        offset=timedelta(hours=2),
    )
    made = training_set_of(workspace, PROJECT, entities, [lookup], timestamp_key=AT, as_of=AS_OF, as_known=True)
    assert f"{PROJECT}.parks_history" in made.inputs
    everything = pd.concat([current.assign(**{KNOWN_UNTIL: pd.NaT}), old], ignore_index=True)
    everything[KNOWN_UNTIL] = pd.to_datetime(everything[KNOWN_UNTIL], utc=True)
    age, offset = pd.Timedelta("30h"), timedelta(hours=2)
    known = search(entities, everything, {"park": "park"}, max_age=age, offset=offset, as_known=True)
    for name in lookup.features:
        assert column(read_training_set(made), name) == values(known, name)
    today = search(entities, current, {"park": "park"}, max_age=age, offset=offset)
    assert values(today, "value") != values(known, "value")


def test_a_row_version_that_a_killed_writer_left_in_both_tables_is_the_present_one(workspace: Workspace) -> None:
    """Writers put the old version into the history first, and then replace it."""
    unknown = pd.Series([pd.NaT, after(3)], dtype="datetime64[us, UTC]")
    rows = pd.DataFrame({"park": "a", "event_time": [after(0), after(2)], "value": [1.0, 2.0]})
    rows = rows.assign(**{KNOWN_AT: unknown})
    before = rows.tail(1).assign(value=1.5, **{KNOWN_AT: after(2), KNOWN_UNTIL: after(3)})
    left = rows.assign(**{KNOWN_UNTIL: [after(5), after(6)]})
    entities = pd.DataFrame({"row": range(5), "park": "a", AT: [after(hour) for hour in (1, 2, 4, 5, 7)]})
    for history in (pd.concat([before, left]), pd.concat([left[::-1], before])):
        put(workspace, "parks", rows)
        put(workspace, history_name("parks"), history)
        assert known_values(workspace, entities) == [1.0, 1.5, 2.0, 2.0, 2.0]


def test_without_history_a_null_known_at_counts_as_the_event_time(workspace: Workspace) -> None:
    unknown = pd.Series([pd.NaT, pd.NaT, after(9)], dtype="datetime64[us, UTC]")
    rows = {"park": ["a"] * 3, "event_time": [after(0), after(2), after(4)], "value": [1.0, 2.0, 3.0]}
    put(workspace, "parks", pd.DataFrame(rows).assign(**{KNOWN_AT: unknown}))
    entities = pd.DataFrame({"row": range(4), "park": "a", AT: [after(1), after(2), after(8.99), after(9)]})
    assert known_values(workspace, entities) == [1.0, 2.0, 2.0, 3.0]
    put(workspace, "parks", pd.DataFrame(rows))
    assert known_values(workspace, entities) == [1.0, 2.0, 3.0, 3.0]


def known_values(workspace: Workspace, entities: pd.DataFrame) -> list:
    """The values of the table `parks` as they were known."""
    made = training_set_of(
        workspace, PROJECT, entities, [PARKS], timestamp_key=AT, as_of=AS_OF, as_known=True
    )  # fmt: skip
    return column(read_training_set(made), "value")


PARKS = Lookup(table="parks", keys={"park": "park"}, features=["value"])


def test_zones_and_the_hour_that_daylight_saving_repeats_are_kept_apart(workspace: Workspace) -> None:
    first = pd.Timestamp("2023-11-05 05:30", tz="UTC").tz_convert("America/New_York")  # 01:30, for the first time
    second = first + pd.Timedelta(hours=1)
    assert first.strftime("%H:%M") == second.strftime("%H:%M")
    half = pd.Timedelta(minutes=30)
    times = pd.Series([first - half, first + half]).dt.tz_convert("UTC")
    put(workspace, "parks", pd.DataFrame({"park": "a", "event_time": times, "value": [1.0, 2.0]}))
    mixed = [first, second, second.tz_convert("Europe/Berlin"), first.tz_convert("Asia/Kolkata")]
    entities = pd.DataFrame({"row": range(4), "park": "a", AT: pd.Series(mixed, dtype=object)})
    found = read_training_set(training_set_of(workspace, PROJECT, entities, [PARKS], timestamp_key=AT, as_of=AS_OF))
    assert column(found, "value") == [1.0, 2.0, 2.0, 1.0]
    assert list(found.sort_values("row")[AT]) == [moment.tz_convert("UTC") for moment in mixed]


def test_one_key_with_most_of_the_rows_and_a_row_from_1970_are_found_right(workspace: Workspace) -> None:
    draws = np.random.default_rng(3)
    busy = pd.DataFrame({"park": "a", "event_time": [START + pd.Timedelta(seconds=37 * n) for n in range(20_000)]})
    calm = pd.DataFrame({"park": [f"p{n}" for n in range(200)], "event_time": START})
    old = pd.DataFrame({"park": ["a", "p1"], "event_time": pd.Timestamp("1970-01-01", tz="UTC")})
    rows = pd.concat([busy, calm, old], ignore_index=True)
    rows["value"] = np.arange(len(rows), dtype="float64")
    put(workspace, "parks", rows)
    seconds = draws.integers(-3600, 800_000, 20_000)
    entities = pd.DataFrame({"row": range(20_000), AT: [START + pd.Timedelta(seconds=int(s)) for s in seconds]})
    entities["park"] = draws.choice(["a", "p1", "p2"], 20_000)
    found = read_training_set(training_set_of(workspace, PROJECT, entities, [PARKS], timestamp_key=AT, as_of=AS_OF))
    merged = pd.merge_asof(
        entities.sort_values(AT).assign(**{AT: lambda frame: frame[AT].dt.as_unit("us")}),
        rows.sort_values("event_time").assign(event_time=lambda frame: frame["event_time"].dt.as_unit("us")),
        left_on=AT, right_on="event_time", by="park",
    )  # fmt: skip
    assert column(found, "value") == column(merged, "value")


def test_a_training_set_is_recorded_and_built_again_after_its_tables_moved_on(workspace: Workspace) -> None:
    draws = np.random.default_rng(4)
    parks = feature_rows(draws, 100, {"park": ["a", "b", "c"]})
    put(workspace, "parks", parks)
    entities = entity_rows(draws, 200).assign(late=lambda frame: frame["row"] % 2)
    made = training_set_of(
        workspace, PROJECT, entities, [PARKS], timestamp_key=AT, label="late", as_of=AS_OF, name="given"
    )
    first = read_training_set(made)
    put(workspace, "parks", parks.assign(value=-1.0))
    shuffled = entities.sample(frac=1, random_state=1).head(50)
    later = training_set_of(
        workspace, PROJECT, shuffled, [PARKS], timestamp_key=AT, label="late", as_of=AS_OF, name="given"
    )
    assert (later.table, later.hash == made.hash) == (made.table, False)
    again = rebuild_training_set(workspace, PROJECT, made.id)
    pd.testing.assert_frame_equal(read_training_set(again), first)
    assert made.label_mean == pytest.approx(entities["late"].mean())
    assert made.inputs == again.inputs
    path = workspace.addresses.writable(f"{PROJECT}.parks")
    DeltaTable(path).vacuum(0, enforce_retention_duration=False, dry_run=False)
    with pytest.raises(TableError, match=r"cannot be built again: .*parks@\d+, from which it was made, was removed"):
        rebuild_training_set(workspace, PROJECT, made.id)
    with pytest.raises(TableError, match="no training set 'unknown@1'"):
        rebuild_training_set(workspace, PROJECT, "unknown@1")


def test_the_hash_does_not_depend_on_the_order_of_rows(workspace: Workspace) -> None:
    draws = np.random.default_rng(5)
    put(workspace, "parks", feature_rows(draws, 100, {"park": ["a", "b", "c"]}))
    entities = entity_rows(draws, 200)
    hashes = [
        training_set_of(workspace, PROJECT, frame, [PARKS], timestamp_key=AT, as_of=AS_OF).hash
        for frame in (entities, entities.sample(frac=1, random_state=1), entities.drop(index=7))
    ]
    assert hashes[0] == hashes[1] != hashes[2]


def test_sent_to_every_worker_or_shuffled_the_rows_are_those_of_duckdb(workspace: Workspace) -> None:
    draws = np.random.default_rng(6)
    parks = feature_rows(draws, 60, {"park": ["a", "b", "c", None]})
    turbines = feature_rows(draws, 3_000, {"park": ["a", "b", "c", None], "turbine": [-1, 0, 2**40]})
    turbines["number"] = draws.integers(-(2**60), 2**60, len(turbines))
    turbines["since"] = [
        None if number % 3 == 0 else at for number, at in zip(turbines["number"], turbines["event_time"], strict=True)
    ]
    put(workspace, "parks", parks)
    put(workspace, "turbines", turbines)
    entities = entity_rows(draws, 2_000)
    entities["turbine"] = draws.choice([-1, 0, 5, 2**40], len(entities))
    put(workspace, "asked", entities, event_time=AT)
    lookups = [
        Lookup(table="turbines", keys={"turbine": "turbine", "park": "park"}, features=["value", "number", "since"],
               rename={"value": "newest"}, max_age=timedelta(hours=9), offset=timedelta(hours=1)),
        Lookup(table="parks", keys={"park": "lower(upper(park))"}, features=["value", "word"], defaults={"word": "-"}),
    ]  # fmt: skip
    names = ["row", "newest", "number", "since", "value", "word", matched(0), matched(1)]
    tables = {name: open_input(workspace, PROJECT, name) for name in ("asked", "parks", "turbines")}
    expected = by_duckdb(entities, turbines, parks)
    assert 100 < sum(row["newest"] is not None for row in expected) < len(entities)
    with workspace.spark() as spark:
        spark.conf.set("spark.sql.autoBroadcastJoinThreshold", -1)  # what is not marked to be sent is shuffled
        for cells in (BROADCAST_CELLS, 0):
            rows = tables["asked"].read(spark, AS_OF)
            found = join_features(
                spark, rows, lookups, tables, AS_OF, keep=["row"], time=AT, broadcast_cells=cells
            )  # fmt: skip
            assert found.columns == names
            plain = found.selectExpr("* EXCEPT (since)", "unix_micros(since) AS since")
            assert plain.toArrow().select(names).sort_by("row").to_pylist() == expected
            assert ("BroadcastExchange" in found._explain_string()) == (cells > 0)


def by_duckdb(entities: pd.DataFrame, turbines: pd.DataFrame, parks: pd.DataFrame) -> list[dict]:
    """The reference: DuckDB's ASOF JOIN."""
    import duckdb

    db = duckdb.connect()
    db.execute("SET TimeZone = 'UTC'")
    for name, frame in (("e", entities), ("t", turbines), ("p", parks)):
        times = frame.select_dtypes("datetimetz").columns
        micros = frame.assign(**{column: frame[column].dt.as_unit("us") for column in times})
        db.register(name, pa.Table.from_pandas(micros, preserve_index=False))
    recent = f"e.{AT} - INTERVAL 1 HOUR - t.event_time <= INTERVAL 9 HOUR"
    found = db.execute(
        f"SELECT e.row, CASE WHEN {recent} THEN t.value END AS newest, CASE WHEN {recent} THEN t.number END AS number, "
        f"CASE WHEN {recent} THEN epoch_us(t.since) END AS since, p.value, coalesce(p.word, '-') AS word, "
        f"coalesce({recent}, false) AS {matched(0)}, p.event_time IS NOT NULL AS {matched(1)} FROM e ASOF LEFT JOIN t "
        f"ON e.park = t.park AND e.turbine = t.turbine AND e.{AT} - INTERVAL 1 HOUR >= t.event_time "
        f"ASOF LEFT JOIN p ON e.park = p.park AND e.{AT} >= p.event_time ORDER BY e.row"
    )
    return found.to_arrow_table().to_pylist()


def good_entities() -> pd.DataFrame:
    """Rows that a training set can be made of."""
    return pd.DataFrame({"park": ["a", "a"], "turbine": [1, 1], AT: [after(5), after(5)]})


def test_repeated_entity_rows_are_kept_and_said(workspace: Workspace) -> None:
    put(workspace, "parks", pd.DataFrame({"park": ["a"], "event_time": [after(0)], "value": [1.0]}))
    made = training_set_of(workspace, PROJECT, good_entities(), [PARKS], timestamp_key=AT, as_of=AS_OF)
    assert made.rows == 2
    assert made.warnings == ["1 of 2 entity rows repeat another one; each was kept"]


def test_entity_rows_may_be_of_arrow_or_spark_or_lie_in_a_table(workspace: Workspace) -> None:
    draws = np.random.default_rng(7)
    put(workspace, "parks", feature_rows(draws, 100, {"park": ["a", "b", "c"]}))
    entities = entity_rows(draws, 200).assign(number=2**60 + 1)
    entities = pd.concat([entities, entities.tail(2)], ignore_index=True)
    put(workspace, "asked", entities.assign(_known_at=after(0)), event_time=AT)
    in_arrow = pa.Table.from_pandas(entities, preserve_index=False)
    there = in_arrow[AT].cast(pa.timestamp("us", "Asia/Kolkata"))
    in_arrow = in_arrow.set_column(in_arrow.column_names.index(AT), AT, there)
    with workspace.spark() as spark:
        given = {"pandas": entities, "arrow": in_arrow, "spark": spark.createDataFrame(in_arrow), "table": "asked"}
        made = {
            kind: training_set_of(workspace, PROJECT, rows, [PARKS], timestamp_key=AT, as_of=AS_OF, name=kind)
            for kind, rows in given.items()
        }
    frames = {kind: read_training_set(one).sort_values("row", ignore_index=True) for kind, one in made.items()}
    assert {one.hash for one in made.values()} == {made["pandas"].hash}
    assert frames["spark"].columns.tolist() == [*entities.columns, "value"]
    for kind, one in made.items():
        pd.testing.assert_frame_equal(frames[kind], frames["pandas"], check_dtype=False)
        assert one.warnings == ["2 of 207 entity rows repeat another one; each was kept"]
    assert set(made["table"].inputs) == {f"{PROJECT}.parks", f"{PROJECT}.asked"}
    put(workspace, "asked", entities.head(3), event_time=AT)
    assert rebuild_training_set(workspace, PROJECT, made["table"].id).hash == made["table"].hash
    assert rebuild_training_set(workspace, PROJECT, made["spark"].id).hash == made["spark"].hash


def test_a_table_is_joined_with_itself_at_one_version(workspace: Workspace) -> None:
    rows = pd.DataFrame({"park": ["a", "a"], "event_time": [after(0), after(2)], "value": [1.0, 2.0]})
    put(workspace, "parks", rows)
    before = PARKS.model_copy(update={"rename": {"value": "before"}, "offset": timedelta(hours=1)})
    made = training_set_of(workspace, PROJECT, "parks", [before], timestamp_key="event_time", as_of=AS_OF)
    assert read_training_set(made)["before"].fillna(0).tolist() == [0, 1]
    assert list(made.inputs) == [f"{PROJECT}.parks"]


BAD_ELSEWHERE: dict[str, tuple[str, str]] = {
    "no timestamps": ("SELECT 1 AS n", "no timestamp column asked_at"),
    "a null": (
        "SELECT timestamp '2024-03-02' AS asked_at UNION ALL SELECT NULL",
        "1 of 2 entity rows have no asked_at",
    ),
    "no zone": (
        "SELECT nullif(timestamp_ntz '2024-03-02', current_date()) AS asked_at",
        "have no time zone",
    ),
    "texts": ("SELECT '2024-03-02' AS asked_at", "asked_at is of the type string, no timestamp"),
    "no rows": ("SELECT timestamp '2024-03-02' AS asked_at WHERE false", "there is no entity row"),
}


@pytest.mark.parametrize("case", BAD_ELSEWHERE)
def test_rows_of_arrow_spark_and_tables_are_checked_like_those_of_pandas(workspace: Workspace, case: str) -> None:
    query, message = BAD_ELSEWHERE[case]
    put(workspace, "parks", pd.DataFrame({"park": ["a"], "event_time": [after(0)], "value": [1.0]}))
    with workspace.spark() as spark:
        in_spark = spark.sql(query)
        write_deltalake(workspace.addresses.writable(f"{PROJECT}.asked"), in_spark.toArrow())
        for rows in (in_spark, in_spark.toArrow(), "asked"):
            with pytest.raises(TableError, match=message):
                training_set_of(workspace, PROJECT, rows, [PARKS], timestamp_key=AT, as_of=AS_OF)


def test_what_can_be_no_entity_rows_is_refused(workspace: Workspace) -> None:
    for rows, message in (([{"park": "a"}], "not list"), ("nowhere", "wind_parks.nowhere does not exist")):
        with pytest.raises(TableError, match=message):
            training_set_of(workspace, PROJECT, rows, [], timestamp_key=AT, as_of=AS_OF)  # type: ignore[arg-type]


BAD_ENTITIES: dict[str, tuple[Callable[[pd.DataFrame], pd.DataFrame], str]] = {
    "no timestamps": (lambda frame: frame.drop(columns=AT), "no timestamp column asked_at"),
    "a null": (lambda frame: frame.assign(**{AT: [after(1), None]}), "1 of 2 entity rows have no asked_at"),
    "no zone": (lambda frame: frame.assign(**{AT: frame[AT].dt.tz_localize(None)}), "have no time zone"),
    "one without a zone": (
        lambda frame: frame.assign(**{AT: pd.Series([after(1), pd.Timestamp("2024-03-02")], dtype=object)}),
        "have no time zone",
    ),
    "texts": (lambda frame: frame.assign(**{AT: "2024-03-02"}), "'2024-03-02' .str., no timestamp"),
    "no rows": (lambda frame: frame.head(0), "there is no entity row"),
    "values of several types": (lambda frame: frame.assign(turbine=[1, "two"]), "turbine holds values of no one type"),
    "the name of a feature": (lambda frame: frame.assign(value=1.0), "would be named value, which is a column of"),
    "no label": (lambda frame: frame, "no label column late"),
}


@pytest.mark.parametrize("case", BAD_ENTITIES)
def test_entity_rows_that_cannot_be_used_are_refused(workspace: Workspace, case: str) -> None:
    put(workspace, "parks", pd.DataFrame({"park": ["a"], "event_time": [after(0)], "value": [1.0]}))
    change, message = BAD_ENTITIES[case]
    label = "late" if case == "no label" else None
    with pytest.raises(TableError, match=message):
        training_set_of(
            workspace, PROJECT, change(good_entities()), [PARKS], timestamp_key=AT, label=label, as_of=AS_OF
        )


BAD_LOOKUPS: dict[str, tuple[dict, str]] = {
    "an unknown table": ({"table": "nothing"}, "nothing does not exist|neither a source nor a feature table"),
    "an unknown column": ({"features": ["speed"]}, r"parks@\d+ has no column\(s\) speed"),
    "an unknown key": ({"keys": {"site": "park"}}, r"has no column\(s\) site"),
    "a key of another type": ({"keys": {"park": "turbine"}}, "park of .*parks is string, but 'turbine' .* is bigint"),
    "nothing found": ({"keys": {"park": "upper(park)"}}, "lookup found a value .missing: value 100%"),
}


@pytest.mark.parametrize("case", BAD_LOOKUPS)
def test_lookups_that_cannot_be_made_are_refused(workspace: Workspace, case: str) -> None:
    put(workspace, "parks", pd.DataFrame({"park": ["a"], "event_time": [after(0)], "value": [1.0]}))
    change, message = BAD_LOOKUPS[case]
    with pytest.raises(TableError, match=message):
        training_set_of(
            workspace, PROJECT, good_entities(), [PARKS.model_copy(update=change)], timestamp_key=AT, as_of=AS_OF
        )


def test_a_table_without_its_event_time_is_refused(workspace: Workspace) -> None:
    put(workspace, "parks", pd.DataFrame({"park": ["a"], "value": [1.0]}))
    with pytest.raises(TableError, match=r"parks@\d+ has no column\(s\) event_time"):
        training_set_of(workspace, PROJECT, good_entities(), [PARKS], timestamp_key=AT, as_of=AS_OF)
