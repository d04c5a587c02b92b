"""The client of the feature store: tables of one's own beside declared ones, found, written, read and dropped."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable, write_deltalake

from penstock.errors import PenstockError, TableError
from penstock.features import FeatureStore, writing
from penstock.features.landing import land_source
from penstock.features.own_tables import open_own_table, parse_schema
from penstock.lakehouse.addresses import Address
from penstock.lakehouse.records import latest_record, record
from penstock.lakehouse.small_tables import create_if_missing, read_arrow, to_arrow, upsert
from penstock.online.compare import check_online
from penstock.spec.project import ColumnType
from penstock.workspace import Workspace
from tests.integration.refreshing import PROJECT, copy_root, moment, version

Make = Callable[..., Workspace]
JANUARY = ["2024-01-01", "2024-01-02"]


@pytest.fixture
def store(make_workspace: Make, tmp_path: Path) -> FeatureStore:
    """A client of the second project, whose lakehouse is empty."""
    return FeatureStore(PROJECT, make_workspace(copy_root(tmp_path)))


def ratings(days: list[str] | None = None, **changes: list) -> pd.DataFrame:
    """A small feature table: what an engineer thinks of two parks."""
    columns = {"park": ["north", "south"], "rated_at": pd.to_datetime(days or JANUARY, utc=True),
               "score": [1.5, None], "visits": [3, 4], "remark": ["good", None]}  # fmt: skip
    return pd.DataFrame({**columns, **changes})


def make_ratings(store: FeatureStore, frame: pd.DataFrame | None = None) -> None:
    store.create_table("ratings", "park", "rated_at", df=ratings() if frame is None else frame)


def test_a_table_is_described_by_what_it_was_made_with(store: FeatureStore) -> None:
    made = store.create_table(
        "ratings", ["park"], "rated_at", df=ratings(), description="What engineers think of a park.",
        owner="me@example.com", tags={"domain": "wind"}, column_descriptions={},
    )  # fmt: skip
    assert made == store.get_table(f"{PROJECT}.ratings")
    assert (made.primary_keys, made.timestamp_key, made.features) == (
        ("park",),
        "rated_at",
        ["score", "visits", "remark"],
    )
    assert (made.description, made.owner, made.tags) == (
        "What engineers think of a park.",
        "me@example.com",
        {"domain": "wind"},
    )
    assert {column.name: column.type for column in made.columns} == {
        "park": "string", "rated_at": "timestamp", "score": "double", "visits": "bigint", "remark": "string"
    }  # fmt: skip
    assert (made.rows, made.latest, made.declared) == (2, "2024-01-02T00:00:00Z", False)


def test_what_is_read_is_what_was_written(store: FeatureStore) -> None:
    make_ratings(store)
    read = store.read_table("ratings").sort_values("park", ignore_index=True)
    pd.testing.assert_frame_equal(read, ratings(), check_dtype=False)
    assert "_known_at" not in read.columns
    large = pd.Series([2**53 + 1, None], dtype="Int64")  # a float would round it
    store.write_table("ratings", ratings(visits=large))
    assert store.read_table("ratings").sort_values("park")["visits"].tolist() == large.tolist()


def test_a_frame_of_spark_or_arrow_is_written_as_it_is(store: FeatureStore) -> None:
    large = 2**53 + 1  # the first whole number that a float does not hold
    with store.spark() as spark:
        spark.conf.set("spark.sql.session.timeZone", "America/New_York")
        frame = spark.sql(
            f"SELECT park, TIMESTAMP '2024-01-01 00:00:00' AS rated_at, visits "
            f"FROM VALUES ('north', {large}), ('south', NULL) AS t(park, visits)"
        )
        for number, given in enumerate((frame, frame.toArrow())):
            made = store.create_table(f"exact_{number}", "park", "rated_at", df=given)
            stored = read_arrow(made.path, columns=["park", "rated_at", "visits"]).sort_by("park").to_pylist()
            assert [tuple(row.values()) for row in stored] == [
                ("north", moment("2024-01-01T05:00"), large), ("south", moment("2024-01-01T05:00"), None),
            ]  # fmt: skip
            assert {column.name: column.type for column in made.columns}["visits"] == "bigint"


def test_spark_reads_the_same_rows(store: FeatureStore) -> None:
    make_ratings(store)
    store.write_table("ratings", ratings(visits=[3, 9]))
    with store.spark() as spark:
        for options in ({}, {"version": 1}, {"as_of": pd.Timestamp.now("UTC").to_pydatetime()}):
            found = store.read_table("ratings", spark=spark, columns=["park", "visits"], **options).toPandas()
            expected = store.read_table("ratings", columns=["park", "visits"], **options)
            pd.testing.assert_frame_equal(
                found.sort_values("park", ignore_index=True), expected.sort_values("park", ignore_index=True)
            )


def test_a_merge_adds_new_rows_replaces_known_ones_and_leaves_the_others(store: FeatureStore) -> None:
    make_ratings(store)
    written = store.write_table("ratings", ratings(["2024-01-01", "2024-01-05"], visits=[30, 40]))
    assert (written.added, written.changed, written.removed) == (1, 1, 0)
    visits = store.read_table("ratings").set_index(["park", "rated_at"])["visits"]
    assert visits.to_dict() == {
        ("north", pd.Timestamp("2024-01-01", tz="UTC")): 30,
        ("south", pd.Timestamp("2024-01-02", tz="UTC")): 4,
        ("south", pd.Timestamp("2024-01-05", tz="UTC")): 40,
    }


def test_a_merge_reads_only_the_files_that_may_have_the_given_keys(store: FeatureStore) -> None:
    make_ratings(store)
    later = ["2024-02-01", "2024-02-02"]
    store.write_table("ratings", ratings(later))
    path = store.workspace.addresses.readable(f"{PROJECT}.ratings")
    old = next(file for file in DeltaTable(path).file_uris() if pq.read_table(file)["rated_at"][0].as_py().month == 1)
    Path(old).rename(f"{old}.aside")  # whoever reads it fails
    table = open_own_table(store.workspace, Address(PROJECT, "ratings"))

    def stored(days: list[str], mode: writing.WriteMode = writing.WriteMode.MERGE) -> list:
        rows = writing.check_rows(table.address, table.definition, ratings(days))
        return writing._read(DeltaTable(path), table, rows, mode)["rated_at"].to_pylist()

    assert stored([later[0], "2024-02-03"]) == [moment(later[0])]
    for days, mode in ((JANUARY, writing.WriteMode.MERGE), (later, writing.WriteMode.OVERWRITE)):
        with pytest.raises(FileNotFoundError):
            stored(days, mode)
    Path(f"{old}.aside").rename(old)
    assert store.write_table("ratings", ratings([JANUARY[0], later[1]], visits=[9, 9])).changed == 2
    assert store.read_table("ratings")["visits"].sort_values().tolist() == [3, 4, 9, 9]


def test_a_repeated_write_leaves_the_version_as_it_is(store: FeatureStore) -> None:
    make_ratings(store)
    before = version(store.workspace, "ratings")
    assert store.write_table("ratings", ratings()).version == before
    assert version(store.workspace, "ratings") == before


def test_an_overwrite_removes_what_is_not_given(store: FeatureStore) -> None:
    make_ratings(store)
    written = store.write_table("ratings", ratings().head(1), mode="overwrite")
    assert (written.changed, written.removed) == (0, 1)
    assert store.read_table("ratings")["park"].tolist() == ["north"]


def test_values_are_read_as_they_were_known_then(store: FeatureStore) -> None:
    store.create_table(
        "ratings", "park", "rated_at", schema={"park": "string", "rated_at": "timestamp", "score": "double"}
    )
    first = ratings()[["park", "rated_at", "score"]].assign(score=[1.0, 2.0])
    store.write_table("ratings", first, as_of="2024-01-03")
    store.write_table("ratings", first.assign(score=[1.0, 5.0]), as_of="2024-01-10")
    late = first.head(1).assign(park="west")
    store.write_table("ratings", late, as_of="2024-01-12")

    def scores(as_of: str) -> dict[str, float]:
        return store.read_table("ratings", as_of=as_of).set_index("park")["score"].to_dict()

    assert scores("2024-01-01") == {"north": 1.0}  # the other one was not available yet
    assert scores("2024-01-09") == {"north": 1.0, "south": 2.0}
    assert scores("2024-01-10") == {"north": 1.0, "south": 5.0}
    assert scores("2024-01-12") == {"north": 1.0, "south": 5.0, "west": 1.0}
    with pytest.raises(TableError, match="as_of 2024-01-11T00:00:00Z lies before"):
        store.write_table("ratings", first, as_of="2024-01-11")


def test_a_commit_records_inputs_and_run(store: FeatureStore) -> None:
    for as_of in ("2024-01-10", "2024-01-11"):
        land_source(store.workspace, PROJECT, "slots", moment(as_of))
    make_ratings(store)
    store.write_table("ratings", ratings(visits=[7, 8]), inputs=["slots", "ratings@1"])
    record = latest_record(store.workspace.addresses.readable(f"{PROJECT}.ratings"))
    assert record is not None
    assert record.inputs == {f"{PROJECT}.slots": version(store.workspace, "slots"), f"{PROJECT}.ratings": 1}
    assert store.get_table("ratings").inputs == record.inputs


@pytest.mark.parametrize(
    ("frame", "message"),
    [
        (ratings(park=["north", None]), "ratings.park is null in 1 of 2 rows"),
        (ratings(["2024-01-01", None]), "ratings.rated_at is null"),
        (ratings(park=["north", "north"], rated_at=pd.to_datetime(["2024-01-01"] * 2, utc=True)), "park=north"),
        (ratings().rename(columns={"visits": "visit"}), "no column 'visit': write visits"),
        (ratings().drop(columns="score"), r"column\(s\) score are missing"),
        (ratings(score=["1", "2"]), "ratings.score is a double, and a string is given"),
        (ratings(remark=[1, 2]), "ratings.remark is a string, and a bigint is given"),
        (ratings(visits=[1.5, 2]), "visits"),
        (ratings(remark=["a", 1]), "remark holds values of several types"),
    ],
)
def test_rows_that_do_not_fit_are_refused_and_nothing_is_written(
    store: FeatureStore, frame: pd.DataFrame, message: str
) -> None:
    make_ratings(store)
    before = version(store.workspace, "ratings")
    with pytest.raises(TableError, match=message):
        store.write_table("ratings", frame)
    assert version(store.workspace, "ratings") == before


@pytest.mark.parametrize(
    ("name", "keys", "time", "message"),
    [
        ("ratings", "perk", "rated_at", "no column 'perk': write park"),
        ("ratings", "park", "rated", "no column 'rated': write rated_at"),
        ("ratings", "park", "visits", "the timestamp key is a bigint"),
        ("ratings", [], "rated_at", "name the primary keys"),
        ("ratings", ["park", "park"], "rated_at", "park is named twice"),
        ("turbine_daily", "park", "rated_at", "is declared in wind_parks's project.yaml"),
        ("energy_predictions", "park", "rated_at", "a table that Penstock keeps itself"),
        ("Ratings", "park", "rated_at", "lower-case letters"),
        ("churn_training_set", "park", "rated_at", "are those of models' tables: choose another name"),
        ("churn_predictions", "park", "rated_at", "are those of models' tables: choose another name"),
        ("other.ratings", "park", "rated_at", "unknown project 'other'"),
    ],
)
def test_a_wrong_definition_is_refused_and_nothing_is_made(
    store: FeatureStore, name: str, keys: str, time: str, message: str
) -> None:
    with pytest.raises(PenstockError, match=message):
        store.create_table(name, keys, time, df=ratings())
    assert not list(Path(store.workspace.environment.lakehouse.root).rglob("*.json"))


def test_a_table_is_made_once_unless_it_may_exist(store: FeatureStore) -> None:
    make_ratings(store)
    with pytest.raises(TableError, match="is there already"):
        make_ratings(store)
    kept = store.create_table("ratings", "park", "rated_at", df=ratings(visits=[8, 9]), exist_ok=True)
    assert store.read_table("ratings")["visits"].sort_values().tolist() == [8, 9]
    with pytest.raises(TableError, match="is there with the keys park, rated_at"):
        store.create_table("ratings", "remark", "rated_at", df=ratings(remark=["a", "b"]), exist_ok=True)
    assert store.get_table("ratings") == kept


def test_owner_description_and_tags_change_and_the_rows_stay(store: FeatureStore) -> None:
    make_ratings(store)
    made = store.get_table("ratings")
    assert store.update_table("ratings") == made
    changed = store.update_table(
        "ratings", description="Opinions.", owner="me@example.com", tags={"by": "hand"},
        column_descriptions={"score": "from 0 to 5"},
    )  # fmt: skip
    assert changed == store.get_table("ratings")
    assert (changed.description, changed.owner, changed.tags) == ("Opinions.", "me@example.com", {"by": "hand"})
    assert {column.name: column.description for column in changed.columns}["score"] == "from 0 to 5"
    assert (changed.rows, changed.as_of) == (made.rows, made.as_of)
    again = store.create_table("ratings", "park", "rated_at", df=ratings(), owner="you@example.com", exist_ok=True)
    assert (again.description, again.owner, again.tags) == ("Opinions.", "you@example.com", {"by": "hand"})
    assert store.update_table("ratings", description="", tags={}).tags == {}
    assert store.get_table("ratings").description == ""
    with pytest.raises(TableError, match="no column 'scores': write score"):
        store.update_table("ratings", column_descriptions={"scores": "what?"})
    with pytest.raises(TableError, match="is declared in wind_parks's project.yaml"):
        store.update_table("turbine_daily", owner="me@example.com")


def test_unknown_names_come_with_the_closest_ones(store: FeatureStore) -> None:
    make_ratings(store)
    with pytest.raises(TableError, match="write ratings"):
        store.get_table("rating")
    with pytest.raises(TableError, match="no column 'scores': write score"):
        store.read_table("ratings", columns=["scores"])
    with pytest.raises(TableError, match="no version 9: its newest is 1"):
        store.read_table("ratings", version=9)
    with pytest.raises(TableError, match="was never filled"):
        store.read_table("turbine_daily")


def test_a_version_that_maintenance_removed_is_named_with_those_that_are_left(store: FeatureStore) -> None:
    make_ratings(store)
    for visits in ([5, 6], [7, 8], [9, 10]):
        store.write_table("ratings", ratings(visits=visits), mode="overwrite")
    table = DeltaTable(store.workspace.addresses.readable(f"{PROJECT}.ratings"))
    table.vacuum(0, enforce_retention_duration=False, dry_run=False, keep_versions=[2])
    message = r"ratings@3 cannot be read any more: .* versions 0, 2, 4 to 6\. .* a registered model was trained from"
    with pytest.raises(TableError, match=message):
        store.read_table("ratings", version=3)
    with store.spark() as spark, pytest.raises(TableError, match="ratings@1 cannot be read"):
        store.read_table("ratings", version=1, spark=spark)
    assert store.read_table("ratings", version=2)["visits"].sort_values().tolist() == [5, 6]


def test_search_finds_declared_tables_and_those_of_ones_own(store: FeatureStore) -> None:
    store.create_table(
        "ratings", "park", "rated_at", df=ratings(), description="Opinions of engineers.", tags={"by": "hand"}
    )

    def found(*words: str, **chosen: object) -> list[str]:
        return [table.name.removeprefix(f"{PROJECT}.") for table in store.search(*words, **chosen)]

    assert found("opinions") == ["ratings"]
    assert found("mean energy") == ["turbine_daily"]
    assert found("turbine", owner="wind@example.com") == ["slots", "yields", "turbine_daily"]
    assert found(tags={"by": "hand"}) == ["ratings"]
    assert found("nothing of the kind") == []
    assert [table.name for table in store.list_tables()][-1] == f"{PROJECT}.ratings"


def test_columns_are_added_and_dropped(store: FeatureStore) -> None:
    make_ratings(store)
    store.write_table("ratings", ratings(visits=[3, 5]))  # leaves a history without the column
    before = pd.Timestamp.now("UTC").to_pydatetime()
    added = store.add_columns("ratings", {"height": {"type": "int", "description": "metres"}})
    assert added.columns[-1].description == "metres"
    assert store.read_table("ratings", as_of=before)["height"].isna().tolist() == [True, True]
    store.write_table("ratings", ratings().assign(height=[1, None]))
    assert store.read_table("ratings", columns=["height"])["height"].sum() == 1
    assert "height" in store.read_table("ratings", as_of=pd.Timestamp.now("UTC").to_pydatetime()).columns
    assert "remark" not in store.drop_columns("ratings", ["remark"]).column_names
    assert len(store.read_table("ratings")) == 2
    with pytest.raises(TableError, match="ratings.park is a key"):
        store.drop_columns("ratings", ["park"])
    with pytest.raises(TableError, match="ratings.visits is a bigint, and a string is given"):
        store.add_columns("ratings", {"visits": "string"})


def test_a_column_does_not_come_back_with_another_type_than_its_old_values_have(store: FeatureStore) -> None:
    make_ratings(store)
    store.write_table("ratings", ratings(score=[4.5, 1.0]))
    store.drop_columns("ratings", ["score"])
    with pytest.raises(TableError, match="ratings.score was a double once, .*give the string another name"):
        store.add_columns("ratings", {"score": "string"})
    assert "score" in store.add_columns("ratings", {"score": "double"}).column_names
    assert store.write_table("ratings", ratings(visits=[8, 9])).changed == 2


def test_a_table_of_other_rows_is_no_history(store: FeatureStore) -> None:
    for name in ("ratings_history", "moods_history"):
        kinds = {column: ColumnType(kind) for column, kind in KINDS.items()}
        create_if_missing(raw_path(store, name), parse_schema(KINDS), keys=[], description="Raw.")
        write_deltalake(raw_path(store, name), to_arrow(ratings(), kinds, name), mode="append")
    with pytest.raises(TableError, match=r"ratings_history .* holds other rows than old versions of .*ratings, which"):
        make_ratings(store)
    create_before_its_history_was_taken(store, "moods")
    store.write_table("moods", ratings(), as_of="2024-01-05")
    with pytest.raises(TableError, match="give one of the two tables another name"):
        store.write_table("moods", ratings(visits=[8, 9]), as_of="2024-01-06")
    assert sorted(store.read_table("moods", as_of="2024-01-07")["visits"]) == [3, 4]
    store.drop_table("moods")
    assert DeltaTable(raw_path(store, "moods_history")).to_pyarrow_table().column_names == list(KINDS)
    store.drop_table("moods_history")
    assert list(store.workspace.addresses.tables(PROJECT)) == ["ratings_history"]


def create_before_its_history_was_taken(store: FeatureStore, name: str) -> None:
    taken = raw_path(store, f"{name}_history")
    Path(taken).rename(f"{taken}_aside")
    store.create_table(name, "park", "rated_at", schema=KINDS)
    Path(f"{taken}_aside").rename(taken)


def raw_path(store: FeatureStore, name: str) -> str:
    return store.workspace.addresses.writable(f"{PROJECT}.{name}")


def test_a_table_is_dropped_with_its_history_but_not_a_declared_one(store: FeatureStore) -> None:
    make_ratings(store)
    store.write_table("ratings", ratings(visits=[7, 8]))
    store.drop_table("ratings")
    assert store.workspace.addresses.tables(PROJECT) == {}
    with pytest.raises(TableError, match="is declared in wind_parks's project.yaml"):
        store.drop_table("turbine_daily", force=True)


def test_a_write_that_died_before_its_commit_is_repeated_without_a_trace(
    store: FeatureStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.create_table("ratings", "park", "rated_at", schema={name: KINDS[name] for name in ratings().columns})
    store.write_table("ratings", ratings(), as_of="2024-01-03")
    with monkeypatch.context() as killed:
        killed.setattr(writing, "_merge", die)
        with pytest.raises(KeyboardInterrupt):
            store.write_table("ratings", ratings(visits=[9, 4]), as_of="2024-01-05")
    for as_of in ("2024-01-04", "2024-01-06"):
        assert store.read_table("ratings", as_of=as_of)["visits"].sort_values().tolist() == [3, 4]
    with store.spark() as spark:
        assert store.read_table("ratings", as_of="2024-01-04", spark=spark).count() == 2
    store.write_table("ratings", ratings(visits=[9, 4]), as_of="2024-01-07")
    assert store.read_table("ratings", as_of="2024-01-06")["visits"].sort_values().tolist() == [3, 4]
    assert store.read_table("ratings", as_of="2024-01-07")["visits"].sort_values().tolist() == [4, 9]


KINDS = {"park": "string", "rated_at": "timestamp", "score": "double", "visits": "bigint", "remark": "string"}


def die(*_: object) -> None:
    raise KeyboardInterrupt


def test_writers_at_once_lose_nothing(store: FeatureStore) -> None:
    make_ratings(store)

    def write(number: int) -> None:
        rows = pd.concat([ratings().assign(park=f"p{number}").head(1), ratings(visits=[number, 4]).head(1)])
        FeatureStore(PROJECT, store.workspace).write_table("ratings", rows)

    with ThreadPoolExecutor(4) as pool:
        outcomes = list(pool.map(lambda number: attempt(lambda: write(number)), range(8)))
    there = set(store.read_table("ratings")["park"])
    assert there == {"north", "south"} | {f"p{number}" for number, error in enumerate(outcomes) if error is None}
    assert outcomes.count(None) >= 2
    assert all("run this again" in str(error) or "lies before it" in str(error) for error in outcomes if error)
    assert not store.read_table("ratings").duplicated(["park", "rated_at"]).any()


def test_dropping_columns_loses_no_write_of_another(store: FeatureStore, monkeypatch: pytest.MonkeyPatch) -> None:
    from penstock.lakehouse import small_tables

    make_ratings(store)
    read = small_tables.read_arrow
    left = [{"visits": 9}, {"park": "p1"}]  # what others write (another value, a new row) just after the table was read

    def overtaken(path: str, **about: Any) -> Any:
        found = read(path, **about)
        if left:
            with monkeypatch.context() as patched:
                patched.setattr(small_tables, "read_arrow", read)
                rows = ratings().head(1).assign(**left.pop(0))
                store.write_table(
                    "ratings", rows[[*rows.columns.intersection(store.get_table("ratings").column_names)]]
                )
        return found

    with monkeypatch.context() as patched:
        patched.setattr(small_tables, "read_arrow", overtaken)
        assert "remark" not in store.drop_columns("ratings", ["remark"]).column_names
    there = store.read_table("ratings")
    assert not left
    assert set(there["park"]) == {"north", "south", "p1"}
    assert there.set_index("park")["visits"].to_dict()["north"] == 9


def attempt(function: Callable[[], None]) -> PenstockError | None:
    try:
        function()
    except PenstockError as error:
        return error
    return None


def test_a_declared_table_is_published_and_read_online(make_workspace: Make, tmp_path: Path) -> None:
    root = copy_root(tmp_path)
    file = root / "include/projects/wind_parks/project.yaml"
    before = "    function: features.park_wind.transform\n"
    file.write_text(file.read_text().replace(before, f"{before}    online: true\n"))
    store = FeatureStore(PROJECT, make_workspace(root))
    path = store.workspace.addresses.writable(f"{PROJECT}.park_wind")
    columns = parse_schema({"park": "string", "event_time": "timestamp", "wind": "double"})
    create_if_missing(path, columns, keys=["park", "event_time"], description="Wind.")
    rows = ratings().rename(columns={"rated_at": "event_time", "score": "wind"})[["park", "event_time", "wind"]]
    kinds = {name: column.type for name, column in columns.items()}
    upsert(path, to_arrow(rows, kinds, "park_wind"), ["park", "event_time"], record(moment("2024-01-05")))
    assert store.publish_table("park_wind", as_of="2024-01-05").rows == 2
    found = store.read_online([{"table": "park_wind"}], [{"park": "north"}, {"park": "nowhere"}], at="2024-01-05")
    assert found == [{"wind": 1.5}, {"wind": None}]
    make_ratings(store)
    with pytest.raises(PenstockError, match="ratings"):
        store.publish_table("ratings")


def test_a_table_of_the_client_is_served_online(store: FeatureStore) -> None:
    made = store.create_table("ratings", "park", "rated_at", df=ratings(), online={"ttl": "2d"})
    assert made.online is not None
    assert store.get_table("ratings").online == made.online
    at = moment("2024-01-02 12:00")
    assert store.publish_table("ratings", as_of=at).rows == 2
    store.write_table("ratings", ratings(["2024-01-03", "2024-01-01"], score=[2.5, 0.5]))
    published = store.publish_table("ratings", as_of=moment("2024-01-03"))
    assert (published.mode, published.rows) == ("incremental", 2)
    keys = [{"park": "north"}, {"park": "south"}, {"park": "west"}]
    found = store.read_online([{"table": "ratings", "keys": {"park": "park"}, "features": ["score", "visits"]}], keys,
                              at=moment("2024-01-03"))  # fmt: skip
    assert found == [{"score": 2.5, "visits": 3}, {"score": None, "visits": 4}, {"score": None, "visits": None}]
    assert check_online(store.workspace, PROJECT, moment("2024-01-03")).passed


def test_a_table_that_is_not_online_says_how_it_becomes_so(store: FeatureStore) -> None:
    make_ratings(store)
    with pytest.raises(PenstockError, match="online=True and exist_ok=True"):
        store.publish_table("ratings")
    with pytest.raises(TableError, match="no online store 'fast'"):
        store.create_table("moods", "park", "rated_at", df=ratings(), online={"store": "fast"})
    with pytest.raises(TableError, match="is no setting"):
        store.create_table("moods", "park", "rated_at", df=ratings(), online={"ttl": "soon"})
    store.create_table("ratings", "park", "rated_at", df=ratings(), online=True, exist_ok=True)
    assert store.publish_table("ratings", as_of=moment("2024-02-01")).rows == 2
