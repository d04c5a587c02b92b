"""The reference project on its real data: what lands when, that keys and suites hold, what features say."""

from datetime import UTC, datetime, timedelta

import pandas as pd
import pytest

from penstock.lakehouse.small_tables import to_arrow
from penstock.quality.suite import load_suite
from penstock.quality.validation import validate_batch
from penstock.spec.functions import load_function
from penstock.spec.loading import load_project

SOURCES = ("flights", "flight_outcomes", "weather", "planes", "airlines", "airports")
FEATURE_TABLES = ("carrier_daily", "route_daily", "origin_weather", "aircraft")
FLIGHT = ["carrier", "flight", "origin", "scheduled_departure"]
END = datetime(2015, 1, 1, tzinfo=UTC)
MAY = datetime(2013, 5, 1, tzinfo=UTC)


@pytest.fixture(scope="module")
def owner(repository):
    """The project that a table belongs to, by the table's name."""
    projects = [load_project(repository, name) for name in ("aviation", "flight_delays")]
    return {table: project for project in projects for table in (*project.spec.sources, *project.spec.feature_tables)}


@pytest.fixture(scope="module")
def land(owner):
    return lambda name, after=None, until=END: load_function(owner[name], f"sources.{name}")(after, until)


@pytest.fixture(scope="module")
def year(land):
    return {name: land(name) for name in SOURCES}


@pytest.mark.parametrize("name", SOURCES)
def test_a_source_has_its_declared_columns_types_and_unique_keys(owner, year, name):
    source, rows = owner[name].spec.sources[name], year[name]
    assert list(rows.columns) == list(source.columns)
    required = [*source.primary_keys, source.available_at]
    arrow = to_arrow(rows, {key: column.type for key, column in source.columns.items()}, name, required)
    arrow.validate(full=True)
    assert [column.null_count for column in arrow.columns] == rows.isna().sum().tolist()
    assert not rows.duplicated(source.primary_keys).any()


def test_the_year_is_whole(year):
    sizes = {name: len(rows) for name, rows in year.items()}
    assert sizes == {
        "flights": 336_776, "flight_outcomes": 336_776 - 9_430, "weather": 26_115, "planes": 3_322,
        "airlines": 16, "airports": 1_458,
    }  # fmt: skip


@pytest.mark.parametrize("name", SOURCES)
def test_slices_add_up_to_the_whole(owner, land, year, name):
    keys = owner[name].spec.sources[name].primary_keys
    moments = [None, MAY, *(MAY + timedelta(days=30 * step, hours=step, minutes=7) for step in range(1, 5)), END]
    slices = [land(name, after, until) for after, until in zip(moments, moments[1:], strict=False)]
    for part, after, until in zip(slices, moments, moments[1:], strict=False):
        assert (part["known_at"] <= until).all()
        assert after is None or (part["known_at"] > after).all()
    whole = pd.concat(slices).sort_values(keys, ignore_index=True)
    pd.testing.assert_frame_equal(whole, year[name].sort_values(keys, ignore_index=True))
    assert land(name, END, END + timedelta(days=9)).empty


def test_a_landed_slice_can_be_changed_without_changing_the_next(land):
    land("airlines")["name"] = "changed"
    assert "changed" not in set(land("airlines")["name"])


def test_the_schedule_is_known_a_week_ahead_and_an_outcome_after_taxiing(year):
    flights, outcomes = year["flights"], year["flight_outcomes"]
    assert (flights["scheduled_departure"] - flights["known_at"] == timedelta(days=7)).all()
    minutes = outcomes["dep_delay"] + outcomes["air_time"] + 30
    assert (outcomes["known_at"] == outcomes["scheduled_departure"] + pd.to_timedelta(minutes, unit="min")).all()
    assert (outcomes["known_at"] > outcomes["scheduled_departure"]).all()
    assert (year["weather"]["known_at"] - year["weather"]["time_hour"] == timedelta(hours=1)).all()


def test_the_first_flight_is_as_the_package_has_it(year):
    key = (year["flights"]["carrier"] == "UA") & (year["flights"]["flight"] == 1545)
    flight = year["flights"][key].sort_values("scheduled_departure").iloc[0]
    assert flight["scheduled_departure"] == pd.Timestamp("2013-01-01T10:15:00Z")  # 5:15 in New York
    assert (flight["sched_hour"], flight["sched_minute"], flight["weekday"]) == (5, 15, 1)  # a Tuesday
    assert (flight["tailnum"], flight["dest"], flight["distance"]) == ("N14228", "IAH", 1400.0)


def test_every_outcome_belongs_to_a_scheduled_flight(year):
    found = year["flight_outcomes"].merge(year["flights"], on=FLIGHT, how="left", indicator=True)
    assert (found["_merge"] == "both").all()


@pytest.mark.parametrize("name", ["flights", "flight_outcomes", "weather"])
def test_the_suites_of_sources_hold_on_the_whole_year_and_on_every_week(owner, year, name):
    source, rows = owner[name].spec.sources[name], year[name]
    suite = load_suite(owner[name].folder / source.expectations)
    weeks = [part for _, part in rows.groupby(rows["known_at"].dt.floor("7D"))]
    for batch in [rows, *weeks[::10], rows.head(1)]:
        result = validate_batch(batch, suite, source.primary_keys, name, source.columns)
        assert (result.passed, result.bad_count) == (True, 0), result.verdict.reason


@pytest.fixture(scope="module")
def features(owner, year, stack, repository, tmp_path_factory):
    """The feature tables of the whole year, by Spark."""
    from deltalake import write_deltalake

    from penstock.workspace import Workspace

    folder = tmp_path_factory.mktemp("raw")
    with Workspace.open("dev", repository).with_(connections=stack).spark() as spark:
        for name in ("flights", "flight_outcomes", "weather", "planes"):
            types = {key: column.type for key, column in owner[name].spec.sources[name].columns.items()}
            write_deltalake(str(folder / name), to_arrow(year[name], types, name))
            spark.read.format("delta").load(str(folder / name)).createOrReplaceTempView(name)
        return {
            name: spark.sql((owner[name].folder / owner[name].spec.feature_tables[name].sql).read_text()).toArrow()
            for name in FEATURE_TABLES
        }


@pytest.mark.parametrize("name", FEATURE_TABLES)
def test_a_feature_table_has_its_declared_columns_and_its_suite_holds(owner, features, name):
    table = owner[name].spec.feature_tables[name]
    rows = features[name].to_pandas()
    assert list(rows.columns) == list(table.columns)
    suite = load_suite(owner[name].folder / table.expectations)
    result = validate_batch(rows, suite, table.key_columns, name, table.columns)
    assert (result.passed, result.bad_count) == (True, 0), result.verdict.reason


def test_daily_features_equal_those_of_pandas(year, features):
    outcomes = year["flight_outcomes"].merge(year["flights"][[*FLIGHT, "dest"]], on=FLIGHT)
    outcomes["event_time"] = outcomes["known_at"].dt.floor("D") + timedelta(days=1)
    outcomes["route"] = outcomes["origin"] + "-" + outcomes["dest"]
    outcomes["late"] = (outcomes["arr_delay"] > 15).astype(float)
    for table, key in (("carrier_daily", "carrier"), ("route_daily", "route")):
        expected = outcomes.groupby([key, "event_time"], as_index=False).agg(
            mean_arr_delay=("arr_delay", "mean"), share_late=("late", "mean"), flights=("late", "size")
        )
        found = features[table].to_pandas().sort_values([key, "event_time"], ignore_index=True)
        pd.testing.assert_frame_equal(found, expected, rtol=1e-12, check_dtype=False)


def test_weather_is_usable_when_its_hour_is_over_and_aircraft_at_any_time(year, features):
    found = features["origin_weather"].to_pandas()
    expected = year["weather"].assign(event_time=year["weather"]["time_hour"] + timedelta(hours=1))
    order = ["origin", "event_time"]
    pd.testing.assert_frame_equal(
        found.sort_values(order, ignore_index=True),
        expected[found.columns].sort_values(order, ignore_index=True),
        check_dtype=False,
    )
    assert set(features["aircraft"].to_pandas()["event_time"]) == {pd.Timestamp(0, tz="UTC")}


@pytest.mark.parametrize(
    ("name", "column", "value"),
    [
        ("flights", "distance", -1.0),
        ("flights", "distance", float("nan")),
        ("flights", "sched_hour", 24),
        ("flights", "dest", "nowhere"),
        ("flights", "tailnum", "???"),
        ("flights", "known_at", END),
        ("flight_outcomes", "arr_delay", 99_999.0),
        ("flight_outcomes", "arr_delay", float("nan")),
        ("flight_outcomes", "air_time", 0.0),
        ("flight_outcomes", "known_at", datetime(2012, 1, 1, tzinfo=UTC)),
        ("weather", "temp", 999.0),
        ("weather", "wind_speed", 1048.36),
    ],
)
def test_the_suites_catch_broken_rows(owner, year, name, column, value):
    source = owner[name].spec.sources[name]
    rows = year[name].head(2000).copy()
    rows[column] = rows[column].where(rows.index != 7, value)
    result = validate_batch(
        rows, load_suite(owner[name].folder / source.expectations), source.primary_keys, name, source.columns
    )
    assert result.passed
    assert [(bad.position, {reason["column"].split(", ")[0] for reason in bad.reasons}) for bad in result.bad_rows] == [
        (7, {column} if column != "known_at" or name != "flights" else {"scheduled_departure"})
    ]


@pytest.mark.parametrize("name", ["flights", "flight_outcomes", "weather"])
def test_another_airports_rows_stop_the_table(owner, year, name):
    source = owner[name].spec.sources[name]
    rows = year[name].head(2000).assign(origin="ORD")
    suite = load_suite(owner[name].folder / source.expectations)
    assert not validate_batch(rows, suite, source.primary_keys, name, source.columns).passed
