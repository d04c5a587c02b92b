"""From a table of one's own to a model that is scored by keys: training sets, logged models, lineage, online."""

import json
import uuid
from collections.abc import Iterator
from contextlib import suppress

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from deltalake import DeltaTable, write_deltalake
from pyspark.sql.connect.dataframe import DataFrame
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder
from typer.testing import CliRunner

from penstock.cli import app
from penstock.errors import NothingToDo, PenstockError, RegistryError, ServiceError, TableError
from penstock.features import FeatureStore
from penstock.features import training_set as training_set_module
from penstock.features.landing import land_source
from penstock.features.training_content import Content, write_observed
from penstock.features.training_set import labelled_rows
from penstock.inference.batch import _entities as batch_rows
from penstock.inference.keys import _with_entity as with_entity
from penstock.spec.project import ColumnType, Lookup, Training
from penstock.training.feature_columns import Feature, FeatureColumns
from penstock.training.given import GivenTrainingSet
from penstock.training.model_files import ModelParts, log_native_model
from penstock.training.register import RegisteredVersion
from penstock.workspace import Connections, Workspace
from tests.integration.refreshing import PROJECT, copy_root, moment

MODEL = f"windy_{uuid.uuid4().hex[:8]}"  # the registry may be shared with others
PARKS = ["north", "south", "west"]
LOOKUPS = [
    {"table": "ratings", "features": ["score"], "rename": {"score": "park_score"}},
    {"table": "moods", "keys": {"engineer": "lower(engineer_name)"}, "max_age": "2d"},
]


@pytest.fixture(scope="module")
def store(stack: Connections, tmp_path_factory: pytest.TempPathFactory) -> FeatureStore:
    """A client with two tables of one's own."""
    folder = tmp_path_factory.mktemp("models")
    found = Workspace.open("dev", copy_root(folder))
    lakehouse = found.environment.lakehouse.model_copy(update={"root": str(folder / "lakehouse")})
    environment = found.environment.model_copy(update={"lakehouse": lakehouse, "replay_clock": None})
    store = FeatureStore(PROJECT, found.with_(environment=environment, connections=stack))
    days = pd.date_range("2024-01-01", periods=20, tz="UTC")
    rows = [
        (park, day, float(number + 10 * place)) for place, park in enumerate(PARKS) for number, day in enumerate(days)
    ]
    store.create_table("ratings", "park", "rated_at", df=pd.DataFrame(rows, columns=["park", "rated_at", "score"]))
    moods = pd.DataFrame({"engineer": ["ann", "bob"], "felt_at": [days[4], days[4]], "mood": ["glad", "sad"]})
    store.create_table("moods", "engineer", "felt_at", df=moods)
    return store


def visits() -> pd.DataFrame:
    """Entity rows: who visited which park when, how long, and whether it went well."""
    times = pd.date_range("2024-01-02T12:00", periods=60, freq="6h", tz="Europe/Berlin")
    frame = pd.DataFrame({"visit": range(60), "park": np.resize(PARKS, 60), "visited_at": times, "hours": 2.0})
    return frame.assign(engineer_name=np.resize(["Ann", "Bob"], 60), well=np.resize([0, 0, 1], 60))


@pytest.fixture(scope="module")
def training_set(store: FeatureStore) -> GivenTrainingSet:
    return store.create_training_set(
        visits(), LOOKUPS, label="well", timestamp_key="visited_at", exclude_columns=["visit", "engineer_name"],
        name="visits",
    )  # fmt: skip


@pytest.fixture(scope="module")
def registered(store: FeatureStore, training_set: GivenTrainingSet) -> Iterator[RegisteredVersion]:
    features, label = training_set.features_and_label()
    encode = OneHotEncoder(handle_unknown="ignore")
    model = make_pipeline(encode, LogisticRegression()).fit(features.fillna({"park_score": -1}), label)
    yield store.log_model(model, training_set, MODEL, flavor="sklearn", requirements=["scikit-learn"])
    from mlflow import MlflowClient

    client = MlflowClient()
    client.delete_registered_model(f"{PROJECT}.{MODEL}")
    client.delete_experiment(client.get_experiment_by_name(f"{PROJECT}.{MODEL}").experiment_id)


def test_a_training_set_joins_tables_of_ones_own_as_of_each_time(training_set: GivenTrainingSet) -> None:
    frame = training_set.load_df()
    assert len(frame) == 60
    north = frame[frame["park"] == "north"].iloc[0]
    assert north["visited_at"] == pd.Timestamp("2024-01-02T11:00", tz="UTC")
    assert north["park_score"] == 1.0  # of the day that had begun, not of the next
    recent = frame["visited_at"].between(pd.Timestamp("2024-01-05", tz="UTC"), pd.Timestamp("2024-01-07", tz="UTC"))
    assert (frame["mood"].notna() == recent).all()
    assert training_set.columns.names == ["park", "hours", "park_score", "mood"]


def test_lookups_may_leave_out_keys_and_features(store: FeatureStore) -> None:
    made = store.create_training_set(visits().head(3), [{"table": "ratings"}], timestamp_key="visited_at", name="short")
    assert made.lookups[0].keys == {"park": "park"}
    assert made.lookups[0].features == ["score"]
    with pytest.raises(PenstockError, match="has no label"):
        made.features_and_label()


@pytest.mark.parametrize(
    ("lookup", "message"),
    [
        ({"table": "rating"}, "write ratings"),
        ({"table": "ratings", "keys": "perk"}, "its keys are park; write park"),
        ({"table": "ratings", "features": ["scores"]}, "no column 'scores': write score"),
        ({"table": "ratings", "max_age": "soon"}, "'soon' is no duration"),
        ({"features": ["score"]}, "a lookup names its table"),
    ],
)
def test_a_wrong_lookup_is_refused_with_the_closest_name(store: FeatureStore, lookup: dict, message: str) -> None:
    with pytest.raises(TableError, match=message):
        store.create_training_set(visits(), [lookup], timestamp_key="visited_at", name="wrong")


def test_the_name_of_a_declared_model_is_refused(store: FeatureStore) -> None:
    with pytest.raises(TableError, match=r"energy_training_set is a table that Penstock keeps itself: choose another"):
        store.create_training_set(visits(), LOOKUPS, timestamp_key="visited_at", name="energy")


def test_a_table_that_is_no_training_set_is_not_overwritten_by_one(store: FeatureStore) -> None:
    place = store.workspace.addresses.writable(f"{PROJECT}.taken_training_set")
    write_deltalake(place, store.read_table("ratings").head(3))
    for made_by in ("somebody", "FeatureStore"):
        DeltaTable(place).alter.set_table_properties({"penstock.made_by": made_by}, raise_if_not_exists=False)
        with pytest.raises(TableError, match="taken_training_set .* is no training set, and would be overwritten"):
            store.create_training_set(visits(), LOOKUPS, timestamp_key="visited_at", name="taken")
        assert DeltaTable(place).to_pyarrow_table().num_rows == 3
    assert store.workspace.addresses.find(f"{PROJECT}._entities_taken") is None


def test_each_of_two_writers_gets_the_rows_that_it_wrote(store: FeatureStore, monkeypatch: pytest.MonkeyPatch) -> None:
    def and_another_writer(frame: DataFrame, path: str, *about: object) -> Content:
        content = write_observed(frame, path, *about)
        DeltaTable(path).delete("park = 'north'")
        return content

    monkeypatch.setattr(training_set_module, "write_observed", and_another_writer)
    made = store.create_training_set(visits(), LOOKUPS, timestamp_key="visited_at", name="contended")
    assert DeltaTable(made.record.path).version() == made.record.version + 1
    assert len(made.load_df()) == made.record.rows == 60


def test_a_table_that_was_filled_later_than_the_times_asked_for_is_named(store: FeatureStore) -> None:
    def warnings(as_known: bool) -> list[str]:
        return store.create_training_set(
            visits(), LOOKUPS[:1], timestamp_key="visited_at", as_known=as_known, name=f"filled_{int(as_known)}"
        ).record.warnings

    (warning,) = warnings(as_known=True)
    assert f"{PROJECT}.ratings was first filled as of 20" in warning
    assert "begin at 2024-01-02T11:00:00Z" in warning
    assert warnings(as_known=False) == []


def test_late_corrections_are_left_out_where_that_is_asked(store: FeatureStore) -> None:
    asked = pd.DataFrame({"park": ["east"], "asked_at": [pd.Timestamp("2024-01-05", tz="UTC")]})
    table = {"park": "string", "seen_at": "timestamp", "value": "double"}
    row = pd.DataFrame({"park": ["east"], "seen_at": [pd.Timestamp("2024-01-02", tz="UTC")], "value": [1.0]})
    store.create_table("corrected", "park", "seen_at", schema=table)
    store.write_table("corrected", row, as_of="2024-01-03")
    store.write_table("corrected", row.assign(value=2.0), as_of="2024-01-09")

    def made(as_known: bool) -> GivenTrainingSet:
        return store.create_training_set(
            asked, [{"table": "corrected"}], timestamp_key="asked_at", as_known=as_known,
            exclude_columns=["park"], name=f"known_{int(as_known)}",
        )  # fmt: skip

    assert made(as_known=True).record.warnings == []
    assert learned_and_asked(store, made(as_known=True)) == (1.0, 1.0)
    assert learned_and_asked(store, made(as_known=False)) == (2.0, 2.0)


def learned_and_asked(store: FeatureStore, training_set: GivenTrainingSet) -> tuple[float, float]:
    """The value that a model learns from, and the one by which it is scored."""
    rows, name = training_set.load_df(), f"{MODEL}_{training_set.record.as_known}".lower()
    model = LinearRegression().fit(pd.DataFrame({"value": [0.0, 1.0]}), [0.0, 1.0])
    made = store.log_model(model, training_set, name, task="regression", requirements=["scikit-learn"])
    client = store.mlflow().MlflowClient()
    try:
        scored = store.score_batch(f"{made.name}/{made.version}", rows[["park", "asked_at"]])
    finally:
        client.delete_registered_model(made.name)
        client.delete_experiment(client.get_experiment_by_name(made.name).experiment_id)
    return rows["value"].item(), round(scored["prediction"].item(), 6)


def land(store: FeatureStore, source: str) -> None:
    """Fills a raw table, unless another test has."""
    with suppress(NothingToDo):
        land_source(store.workspace, PROJECT, source, moment("2024-01-12"))


def test_batches_and_comparisons_ask_the_tables_as_a_version_learned_from_them(store: FeatureStore) -> None:
    for source in ("slots", "yields"):
        land(store, source)
    parks = store.read_table("slots")["park"].unique()
    rows = pd.DataFrame({"park": parks, "seen_at": pd.Timestamp("2023-12-31", tz="UTC"), "value": 1.0})
    store.create_table(
        "mended", "park", "seen_at", schema={"park": "string", "seen_at": "timestamp", "value": "double"}
    )
    store.write_table("mended", rows, as_of="2023-12-31")
    store.write_table("mended", rows.assign(value=2.0), as_of="2024-01-20")
    model = store.workspace.project(PROJECT).model("energy")
    lookups = [Lookup(table="mended", keys={"park": "park"}, features=["value"])]
    after, as_of = moment("2024-01-02"), moment("2024-01-31")
    for as_known, value in ((True, 1.0), (False, 2.0)):
        scored, _ = batch_rows(
            store.workspace, PROJECT, model, model.entity, lookups, {}, after, as_of, as_known=as_known
        )
        compared = labelled_rows(store.workspace, PROJECT, "energy", as_of, after, lookups, as_known=as_known)
        assert set(scored["value"]) == set(compared["value"]) == {value}


def test_what_a_model_takes_from_its_entity_is_found_by_its_keys(store: FeatureStore) -> None:
    land(store, "slots")
    slots = store.read_table("slots").head(5)
    keys = slots[["park", "turbine", "starts_at"]]
    name = f"{PROJECT}.{MODEL}_entity"
    register_reading_capacity(store, name)
    try:
        scored = store.score_batch(f"{name}/1", keys.astype({"turbine": "int64"}))
        np.testing.assert_allclose(scored["prediction"], slots["capacity"])
        corrected = slots.head(1).assign(capacity=70.0, known_at=slots["known_at"] + pd.Timedelta(hours=1))
        write_deltalake(store.get_table("slots").path, corrected, mode="append")
        scored = store.score_batch(f"{name}/1", keys)
        np.testing.assert_allclose(scored["prediction"], [70.0, *slots["capacity"][1:]])
        with pytest.raises(TableError, match="1 of 5 rows are not in wind_parks.slots"):
            store.score_batch(f"{name}/1", keys.assign(turbine=[99, *keys["turbine"][1:]]))
        with pytest.raises(TableError, match=r"neither capacity nor the key\(s\) turbine"):
            store.score_batch(f"{name}/1", keys.drop(columns="turbine"))
    finally:
        store.mlflow().MlflowClient().delete_registered_model(name)


def test_where_keys_are_asked_for_at_several_times_the_entity_of_that_time_is_read(store: FeatureStore) -> None:
    land(store, "slots")
    slots = store.read_table("slots").query("turbine == 2").drop_duplicates(["park", "starts_at"]).head(5)
    spec = {"project": PROJECT, "lookups": [], "entity": {
        "table": "slots", "keys": ["park", "turbine"], "prediction_time": "starts_at", "features": ["known_at"],
    }}  # fmt: skip
    asked = pa.Table.from_pandas(slots[["park", "turbine"]].assign(asked_at=slots["starts_at"]), preserve_index=False)
    found = with_entity(store.workspace, spec, asked, "asked_at", moment("2024-01-12")).to_pandas()
    assert sorted(found["known_at"]) == sorted(slots["known_at"])
    assert (found["asked_at"] - found["known_at"] == pd.Timedelta(days=1)).all()


def register_reading_capacity(store: FeatureStore, name: str) -> None:
    """A version that predicts the capacity of a slot, which it reads from the entity's own table."""
    model = LinearRegression().fit(pd.DataFrame({"capacity": [0.0, 1.0]}), [0.0, 1.0])
    columns = FeatureColumns((Feature("capacity", ColumnType.DOUBLE, "entity"),))
    entity = {"table": "slots", "keys": ["park", "turbine", "starts_at"], "prediction_time": "starts_at",
              "features": ["capacity"]}  # fmt: skip
    spec = {"project": PROJECT, "task": "regression", "entity": entity, "lookups": [], "features": columns.to_list(),
            "trained_until": "2024-01-12T00:00:00Z"}  # fmt: skip
    training = Training(function="test.model", metric="rmse", flavor="sklearn", requirements=["scikit-learn"])
    mlflow = store.mlflow()
    mlflow.set_experiment(f"{PROJECT}.{MODEL}")
    with mlflow.start_run():
        parts = ModelParts(model, columns, json.dumps(spec), pd.DataFrame({"capacity": [1.0]}))
        mlflow.register_model(log_native_model(parts, training).uri, name)


def test_mlflow_that_is_away_while_a_model_is_logged_is_no_fault_of_the_model(
    store: FeatureStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    columns = FeatureColumns((Feature("capacity", ColumnType.DOUBLE, "entity"),))
    model = LinearRegression().fit(pd.DataFrame({"capacity": [0.0, 1.0]}), [0.0, 1.0])
    parts = ModelParts(model, columns, "{}", pd.DataFrame({"capacity": [1.0]}))
    training = Training(function="test.model", metric="rmse", flavor="sklearn", requirements=["scikit-learn"])
    mlflow = store.mlflow()
    here = mlflow.get_tracking_uri()
    mlflow.set_experiment(f"{PROJECT}.{MODEL}")
    with mlflow.start_run():
        mlflow.set_tracking_uri("http://127.0.0.1:9")
        try:
            with pytest.raises(ServiceError, match="MLflow at .* did not answer"):
                log_native_model(parts, training)
        finally:
            mlflow.set_tracking_uri(here)


def test_a_logged_model_scores_keys_in_their_order(store: FeatureStore, registered: RegisteredVersion) -> None:
    asked = visits().iloc[::-7][["park", "visited_at", "hours", "engineer_name"]]
    scored = store.score_batch(f"{registered.name}/{registered.version}", asked, with_features=True)
    assert scored.index.equals(asked.index)
    assert scored["prediction"].between(0, 1).all()
    expected = asked["visited_at"].dt.tz_convert("UTC").dt.dayofyear - 1 + 10 * asked["park"].map(PARKS.index)
    pd.testing.assert_series_equal(scored["park_score"], expected, check_names=False, check_dtype=False)


def test_a_model_is_found_by_alias_and_unknown_ones_are_named(
    store: FeatureStore, registered: RegisteredVersion
) -> None:
    client = store.mlflow().MlflowClient()
    client.set_registered_model_alias(registered.name, "production", str(registered.version))
    asked = visits().head(2)
    by_version = store.score_batch(f"models:/{registered.name}/{registered.version}", asked)
    pd.testing.assert_frame_equal(store.score_batch(f"{registered.name}@Production", asked), by_version)
    with pytest.raises(RegistryError, match="no alias 'prod': known aliases: production"):
        store.score_batch(f"{registered.name}@prod", asked)
    with pytest.raises(RegistryError, match="has no version 7"):
        store.score_batch(f"{registered.name}/7", asked)
    with pytest.raises(TableError, match=r"lack the column\(s\) hours"):
        store.score_batch(f"{registered.name}/1", asked.drop(columns="hours"))


def test_a_table_that_a_registered_version_needs_is_not_dropped(
    store: FeatureStore, registered: RegisteredVersion
) -> None:
    needed = rf"{PROJECT}\.moods is needed by model version {registered.name}/{registered.version}"
    with pytest.raises(TableError, match=needed):
        store.drop_table("moods")
    with pytest.raises(TableError, match=rf"moods.mood is needed by model version {registered.name}"):
        store.drop_columns("moods", ["mood"])
    assert store.get_table("moods").rows == 2


def test_lineage_leads_from_a_feature_to_the_model_and_back(
    store: FeatureStore, registered: RegisteredVersion, training_set: GivenTrainingSet
) -> None:
    version = f"{registered.name}/{registered.version}"
    used_by = {node.id for node in store.lineage("ratings.score").downstream().nodes}
    assert version in used_by
    made_from = store.lineage(version).upstream()
    assert {f"{PROJECT}.ratings", f"{PROJECT}.moods", training_set.record.table} <= {
        node.id for node in made_from.nodes
    }
    versions = {(edge.source, edge.target): edge.version for edge in made_from.edges}
    assert versions[(f"{PROJECT}.ratings", training_set.record.table)] == store.get_table("ratings").version


def test_recorded_training_sets_are_found_read_and_built_again(
    store: FeatureStore, training_set: GivenTrainingSet
) -> None:
    found = store.training_sets("visits_training_set")
    assert found == [training_set.record]
    assert training_set.record.id in {made.id for made in store.training_sets()}
    again = store.get_training_set(training_set.record.id, exclude_columns=["visit", "engineer_name"])
    assert again.columns == training_set.columns
    pd.testing.assert_frame_equal(again.load_df(), training_set.load_df())
    with store.spark() as spark:
        assert again.load_df(spark=spark).count() == 60
    rebuilt = store.rebuild_training_set(training_set.record.id)
    assert (rebuilt.table, rebuilt.hash) == (f"{PROJECT}.visits_training_set_rebuilt", training_set.record.hash)
    with pytest.raises(TableError, match="no training set 'visit_training_set@0': write visits_training_set@"):
        store.get_training_set("visit_training_set@0")


def test_the_command_lists_training_sets_and_builds_one_again(
    store: FeatureStore, training_set: GivenTrainingSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Workspace, "open", lambda *_: store.workspace)
    identifier = training_set.record.id

    def penstock(*words: str) -> str:
        done = CliRunner().invoke(app, ["training-set", *words])
        assert done.exit_code == 0, done.output
        return done.output

    assert identifier in penstock("list", PROJECT)
    (row,) = json.loads(penstock("list", PROJECT, "--table", "visits_training_set", "--json"))
    assert (row["id"], row["rows"]) == (identifier, 60)
    assert f"60 rows, the same as {identifier} had" in penstock("rebuild", f"{PROJECT}.{identifier}")


def test_rows_that_maintenance_removed_can_be_built_again(store: FeatureStore) -> None:
    def make(rows: int) -> GivenTrainingSet:
        return store.create_training_set(visits().head(rows), LOOKUPS, timestamp_key="visited_at", name="vacuumed")

    first, _ = make(10), make(20)
    DeltaTable(first.record.path).vacuum(0, enforce_retention_duration=False, dry_run=False)
    with pytest.raises(TableError, match="build them again by rebuild_training_set"):
        store.get_training_set(first.record.id).load_df()
    assert store.rebuild_training_set(first.record.id).rows == 10


ON_DEMAND = {"long": {"function": "models.asking.is_long", "inputs": ["hours", "park_score"], "type": "boolean"}}


def test_on_demand_features_are_in_training_sets_models_and_scores(store: FeatureStore) -> None:
    models = store.workspace.root / "include/projects" / PROJECT / "models"
    (models / "asking.py").write_text(
        "def is_long(inputs):\n    return inputs['hours'] + inputs['park_score'].fillna(0) > 20\n"
    )
    made = store.create_training_set(
        visits(), LOOKUPS[:1], label="well", timestamp_key="visited_at", exclude_columns=["visit", "engineer_name"],
        name="asking", on_demand=ON_DEMAND,
    )  # fmt: skip
    rows = made.load_df()
    expected = rows["hours"] + rows["park_score"].fillna(0) > 20
    assert 0 < expected.sum() < 60
    pd.testing.assert_series_equal(rows["long"], expected, check_names=False, check_dtype=False)
    assert made.columns.features[-1].source == "on demand: models.asking.is_long"
    recorded = store.get_training_set(made.record.id, exclude_columns=["visit", "engineer_name"])
    assert (recorded.columns, recorded.on_demand) == (made.columns, made.on_demand)
    assert store.rebuild_training_set(made.record.id).hash == made.record.hash
    features, label = made.features_and_label()
    model = make_pipeline(OneHotEncoder(handle_unknown="ignore"), LogisticRegression())
    name = f"{MODEL}_asking"
    version = store.log_model(
        model.fit(features.fillna({"park_score": -1}), label), made, name, requirements=["scikit-learn"]
    )
    client = store.mlflow().MlflowClient()
    try:
        scored = store.score_batch(
            f"{version.name}/{version.version}", visits()[["park", "visited_at", "hours"]], with_features=True
        )
    finally:
        client.delete_registered_model(version.name)
        client.delete_experiment(client.get_experiment_by_name(version.name).experiment_id)
    assert scored["long"].astype(bool).tolist() == expected.tolist()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"inputs": ["hour"]},
            "its input 'hour' is no column of the entity rows, .*: write hours",
        ),
        ({"type": "date"}, "a model sees no date"),
        ({"type": "number"}, "on-demand feature long: .*type"),
        ({"function": "models.asking.nothing"}, "nothing"),
    ],
)
def test_an_on_demand_feature_that_cannot_be_is_refused(store: FeatureStore, change: dict, message: str) -> None:
    with pytest.raises(PenstockError, match=f"(?s){message}"):
        store.create_training_set(
            visits(), LOOKUPS[:1], timestamp_key="visited_at", name="wrong",
            on_demand={"long": {**ON_DEMAND["long"], **change}},
        )  # fmt: skip
    with pytest.raises(TableError, match="on-demand feature hours: the rows have that column"):
        store.create_training_set(
            visits(), LOOKUPS[:1], timestamp_key="visited_at", name="wrong", on_demand={"hours": ON_DEMAND["long"]}
        )


def test_a_run_that_is_open_gets_the_model(store: FeatureStore, training_set: GivenTrainingSet) -> None:
    mlflow = store.mlflow()
    features, label = training_set.features_and_label()
    mlflow.set_experiment(f"{PROJECT}.{MODEL}")
    with mlflow.start_run() as run:
        mlflow.log_metric("hits", 1.0)
        model = make_pipeline(OneHotEncoder(handle_unknown="ignore"), LogisticRegression()).fit(features, label)
        version = store.log_model(model, training_set, MODEL, requirements=["scikit-learn"])
    assert version.run_id == run.info.run_id
    data = {item.dataset.name for item in mlflow.get_run(run.info.run_id).inputs.dataset_inputs}
    assert {training_set.record.table, f"{PROJECT}.ratings", f"{PROJECT}.moods"} <= data
