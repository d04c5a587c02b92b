"""Lineage on real tables and a real registry: from a source to the predictions, and back."""

import json
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml
from typer.testing import CliRunner

from penstock.cli import app
from penstock.clock import parse_as_of
from penstock.errors import GateError, PenstockError, TableError
from penstock.features import FeatureStore
from penstock.features.definition import create_table, definition_hash
from penstock.features.known import KNOWN_UNTIL
from penstock.features.refresh import stage_table
from penstock.lakehouse.records import CommitRecord, record
from penstock.lakehouse.small_tables import create_if_missing, fill_missing, to_arrow, upsert
from penstock.lineage.build import build_graph, lineage_of
from penstock.lineage.dependants import naming_dependants
from penstock.lineage.graph import NodeKind
from penstock.spec.loading import LoadedProject
from penstock.spec.project import Column, ColumnType, Project
from penstock.training.feature_spec import FILE_NAME, spec_values
from penstock.workspace import Connections, Workspace

PROJECT = f"yard_{uuid.uuid4().hex[:8]}"  # the registry may be shared with others
MODEL = f"{PROJECT}.delay"
SPEC = {
    "name": PROJECT,
    "description": "A shunting yard.",
    "owner": "yard@example.com",
    "sources": {
        "trains": {
            "description": "Trains.", "primary_keys": ["train"], "available_at": "known_at",
            "columns": {"train": "string", "wagons": "int", "weight": "double", "state": "string",
                        "arrived_at": "timestamp", "known_at": "timestamp"},
        },
    },
    "feature_tables": {
        "daily": {
            "description": "Trains of a day.", "primary_keys": ["train"], "inputs": ["trains"], "sql": "daily.sql",
            "columns": {"train": "string", "event_time": "timestamp", "load": "double", "trips": "bigint"},
        },
        "smooth": {
            "description": "The same, smoothed.", "primary_keys": ["train"], "inputs": ["daily"],
            "function": "smooth.transform",
            "columns": {"train": "string", "event_time": "timestamp", "load": "double"},
        },
    },
    "models": {
        "delay": {
            "description": "How late is a train?",
            "entity": {"table": "trains", "keys": ["train"], "prediction_time": "arrived_at", "features": ["wagons"]},
            "label": {"name": "late", "table": "trains", "expression": "weight > 10"},
            "lookups": [{"table": "daily", "keys": {"train": "train"}, "features": ["load"]}],
            "training": {"function": "model.train", "metric": "log_loss"},
            "promotion": {"metric": "log_loss"},
        }
    },
}  # fmt: skip
SQL = """
SELECT train, known_at AS event_time, sum(weight * wagons) AS load, count(*) AS trips
FROM trains WHERE state = 'running' GROUP BY train, known_at
"""


@pytest.fixture(scope="module")
def yard(stack: Connections, repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workspace]:
    """Tables from a source to predictions, each with the record of its inputs, and a registered version."""
    root = tmp_path_factory.mktemp("yard")
    folder = root / "include" / "projects" / PROJECT
    folder.mkdir(parents=True)
    (folder / "project.yaml").write_text(yaml.safe_dump(SPEC))
    (folder / "daily.sql").write_text(SQL)
    (folder / "smooth.py").write_text("def transform(inputs):\n    return inputs['daily']\n")
    shutil.copytree(repository / "include" / "environments", root / "include" / "environments")
    found = Workspace.open("dev", root)
    lakehouse = found.environment.lakehouse.model_copy(update={"root": str(root / "lakehouse")})
    environment = found.environment.model_copy(update={"lakehouse": lakehouse, "replay_clock": None})
    workspace = found.with_(environment=environment, connections=stack)
    write(workspace, "trains", {})
    write(workspace, "daily", {"trains": 1})
    write(workspace, "smooth", {"daily": 1})
    write(workspace, "delay_training_set", {f"{PROJECT}.trains": 1, f"{PROJECT}.daily": 1})
    register(workspace)
    write(workspace, "delay_predictions", {f"{PROJECT}.daily": 1, MODEL: 1})
    yield workspace
    from mlflow import MlflowClient

    MlflowClient().delete_registered_model(MODEL)


def write(workspace: Workspace, table: str, inputs: dict[str, int]) -> None:
    """One row of a table, committed with the record that pipelines write."""
    spec = workspace.project(PROJECT).spec
    declared = spec.sources.get(table) or spec.feature_tables.get(table)
    columns = dict(declared.columns) if declared else {"train": Column(type=ColumnType.STRING)}
    if table.endswith("_history"):
        columns[KNOWN_UNTIL] = Column(type=ColumnType.TIMESTAMP)
    path = workspace.addresses.writable(f"{PROJECT}.{table}")
    create_if_missing(path, columns, keys=["train"], description=table)
    row = {name: "a" if column.type is ColumnType.STRING else None for name, column in columns.items()}
    kinds = {name: column.type for name, column in columns.items()}
    upsert(path, to_arrow(pd.DataFrame([row], dtype=object), kinds, table, ["train"]), ["train"],
           record(parse_as_of("2024-01-01"), inputs))  # fmt: skip


def register(workspace: Workspace) -> None:
    """A version as training registers one: with feature_spec.json and the lineage tags."""
    import mlflow
    from sklearn.dummy import DummyRegressor

    model = workspace.project(PROJECT).model("delay")
    spec = Path(workspace.root, FILE_NAME)
    spec.write_text(json.dumps({
        "project": PROJECT, "entity": spec_values(model.entity), "label": spec_values(model.label),
        "lookups": [spec_values(lookup) for lookup in model.lookups],
    }))  # fmt: skip
    workspace.mlflow()
    mlflow.set_experiment(MODEL)
    with mlflow.start_run():
        fitted = DummyRegressor().fit([[0.0]], [1.0])
        logged = mlflow.sklearn.log_model(
            fitted, name="model", extra_files=[str(spec)], pip_requirements=["scikit-learn"]
        )
    client = mlflow.MlflowClient()
    client.create_registered_model(MODEL)
    inputs = json.dumps({f"{PROJECT}.trains": 1, f"{PROJECT}.daily": 1})
    tags = {"penstock.training_set": f"{PROJECT}.delay_training_set@1", "penstock.inputs": inputs}
    client.create_model_version(MODEL, logged.model_uri, model_id=logged.model_id, tags=tags)
    client.set_registered_model_alias(MODEL, "production", "1")


def names(graph) -> set[str]:
    return {node.id.removeprefix(f"{PROJECT}.").replace(f"{PROJECT}.", "") for node in graph.nodes} - {graph.start}


def test_a_source_leads_to_features_training_sets_models_and_predictions(yard: Workspace) -> None:
    found = lineage_of(yard, f"{PROJECT}.trains").downstream()
    assert names(found) >= {
        "daily", "smooth", "delay_training_set", "delay/1", "delay_predictions", "model:delay"
    }  # fmt: skip
    assert not [node for node in found.nodes if node.kind is NodeKind.COLUMN]


def test_predictions_lead_back_to_the_source_with_versions(yard: Workspace) -> None:
    found = lineage_of(yard, f"{PROJECT}.delay_predictions").upstream()
    assert names(found) >= {"delay/1", "delay_training_set", "daily", "trains"}
    versions = {(edge.source, edge.target): edge.version for edge in found.edges}
    assert versions[(f"{PROJECT}.trains", f"{PROJECT}.daily")] == 1
    assert versions[(f"{PROJECT}.delay_training_set", f"{MODEL}/1")] == 1


def test_a_feature_leads_to_the_columns_that_it_was_computed_from(yard: Workspace) -> None:
    found = lineage_of(yard, f"{PROJECT}.daily.load")
    assert {"trains.weight", "trains.wagons"} <= names(found.upstream())
    assert not {"trains.state", "trains.arrived_at", "smooth"} & names(found.upstream())
    assert {"delay/1", "delay_training_set", "delay_predictions", "smooth"} <= names(found.downstream())


def test_what_sql_does_not_tell_is_followed_by_the_table(yard: Workspace) -> None:
    assert "trains" in names(lineage_of(yard, f"{PROJECT}.daily.trips").upstream())
    assert {"daily", "trains"} <= names(lineage_of(yard, f"{PROJECT}.smooth.load").upstream())


def test_a_column_that_only_filters_touches_the_whole_table(yard: Workspace) -> None:
    assert "daily" in names(lineage_of(yard, f"{PROJECT}.trains.state").downstream())


def test_a_version_leads_to_its_columns_tables_and_predictions(yard: Workspace) -> None:
    found = lineage_of(yard, f"{MODEL}/1")
    assert {"daily.load", "trains.wagons", "trains.weight", "delay_training_set"} <= names(found.upstream())
    assert names(found.downstream()) == {"delay/1", "delay_predictions"}


def test_the_graph_is_shown_as_text_json_and_mermaid(yard: Workspace) -> None:
    graph = FeatureStore(PROJECT, yard).lineage("daily")
    text = graph.to_text()
    assert f"{PROJECT}.daily@1 (feature table)" in text
    assert f"{MODEL}/1 (model version, production)" in text
    assert "daily.sql, version 1" in text
    drawn = graph.to_mermaid()
    assert drawn.startswith("flowchart LR")
    assert drawn.count("-->") == len(graph.edges)
    assert json.loads(json.dumps(graph.to_dict()))["start"] == f"{PROJECT}.daily"


def test_without_mlflow_the_rest_is_shown_and_it_says_so(yard: Workspace) -> None:
    down = yard.with_(connections=Connections(yard.resolved.spark_url, "http://localhost:9"))
    found = lineage_of(down, f"{PROJECT}.daily")
    assert "daily.sql" in found.to_text()
    assert "MLflow at http://localhost:9 does not answer" in found.to_text()


def test_an_unknown_name_comes_with_the_closest_one(yard: Workspace) -> None:
    with pytest.raises(TableError, match=rf"write {PROJECT}\.daily"):
        lineage_of(yard, f"{PROJECT}.dailly")


def test_a_table_that_models_need_is_dropped_by_force_only(yard: Workspace) -> None:
    store = FeatureStore(PROJECT, yard)
    frame = pd.DataFrame({"train": ["a"], "seen_at": pd.to_datetime(["2024-01-01"], utc=True), "mood": [1.0]})
    store.create_table("moods", "train", "seen_at", df=frame)
    store.create_table("derived", "train", "seen_at", df=frame)
    store.write_table("derived", frame.assign(mood=2.0), inputs=["moods"])
    with pytest.raises(TableError, match=rf"{PROJECT}\.moods is needed by feature table {PROJECT}\.derived"):
        store.drop_table("moods")
    store.drop_table("derived")
    store.drop_table("moods")
    assert "moods" not in yard.addresses.tables(PROJECT)


def test_a_table_that_is_declared_no_longer_is_dropped_by_command(
    yard: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlflow import MlflowClient

    monkeypatch.setenv("PENSTOCK_ROOT", str(yard.root))
    monkeypatch.setenv("PENSTOCK_LAKEHOUSE_ROOT", yard.environment.lakehouse.root)
    write(yard, "aged", {"trains": 1})
    write(yard, "aged_history", {})
    there = Path(yard.addresses.writable(f"{PROJECT}.aged"))

    def drop(table: str, *words: str, answer: str = "") -> tuple[int, str]:
        done = CliRunner().invoke(app, ["table", "drop", f"{PROJECT}.{table}", *words], input=answer)
        return done.exit_code, done.output.replace("\n", " ")

    for table, why in {
        "daily": "is declared in", "delay_training_set": "keeps itself", "aged_history": "belongs to another table",
        "agde": "write aged",
    }.items():  # fmt: skip
        code, said = drop(table, "--yes")
        assert code == 1
        assert why in said
    client, old = MlflowClient(), f"{PROJECT}.old"
    client.create_registered_model(old)
    try:
        tags = {"penstock.inputs": json.dumps({f"{PROJECT}.aged": 1})}
        run = client.create_run(client.get_experiment_by_name(MODEL).experiment_id)
        client.create_model_version(old, f"{run.info.artifact_uri}/model", run.info.run_id, tags)
        assert f"is needed by model version {old}/1" in drop("aged", "--yes")[1]
    finally:
        client.delete_registered_model(old)
    assert drop("aged", answer="n\n")[0] == 1
    assert there.is_dir()

    code, said = drop("aged", "--yes", "--keep-files")
    assert code == 0, said
    assert not there.is_dir()
    assert "aged" not in yard.addresses.tables(PROJECT)
    (kept,) = there.parent.glob("_dropped/aged_*")
    assert str(kept) in said
    for folder in kept.iterdir():
        folder.rename(there.with_name(folder.name))  # as the command says
    assert {"aged", "aged_history"} <= set(yard.addresses.tables(PROJECT))
    assert drop("aged", "--yes", "--force")[0] == 0
    assert not [name for name in yard.addresses.tables(PROJECT) if name.startswith("aged")]


def test_whether_a_table_is_needed_is_not_guessed_while_mlflow_is_down(yard: Workspace) -> None:
    down = yard.with_(connections=Connections(yard.resolved.spark_url, "http://localhost:9"))
    store = FeatureStore(PROJECT, down)
    frame = pd.DataFrame({"train": ["a"], "seen_at": pd.to_datetime(["2024-01-01"], utc=True), "mood": [1.0]})
    store.create_table("unsure", "train", "seen_at", df=frame)
    with pytest.raises(TableError, match="cannot be told: MLflow at http://localhost:9"):
        store.drop_table("unsure")
    store.drop_table("unsure", force=True)


def test_a_version_whose_files_cannot_be_read_leaves_open_whether_a_table_is_needed(yard: Workspace) -> None:
    from mlflow import MlflowClient
    from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

    store, lost = FeatureStore(PROJECT, yard), f"{PROJECT}.lost"
    frame = pd.DataFrame({"train": ["a"], "seen_at": pd.to_datetime(["2024-01-01"], utc=True), "mood": [1.0]})
    store.create_table("doubted", "train", "seen_at", df=frame)
    client = MlflowClient()
    run = client.create_run(client.get_experiment_by_name(MODEL).experiment_id)
    place, foreign = (f"{run.info.artifact_uri}/{name}" for name in ("model", "foreign"))
    client.create_registered_model(lost)
    try:
        client.create_model_version(lost, place, run.info.run_id)
        with pytest.raises(TableError, match=rf"cannot be told: what {lost}/1 needs is not known"):
            store.drop_table("doubted")
        spec = yard.root / FILE_NAME
        lookups = [{"table": "doubted", "keys": {"train": "train"}, "features": ["mood"]}]
        spec.write_text(json.dumps({"project": PROJECT, "lookups": lookups, "inputs": {f"{PROJECT}.doubted": 0}}))
        get_artifact_repository(place).log_artifact(str(spec), "extra_files")  # the store is mended
        with pytest.raises(TableError, match=rf"doubted is needed by model version {lost}/1"):
            store.drop_table("doubted")
        client.create_model_version(lost, foreign, run.info.run_id)
        get_artifact_repository(foreign).log_artifact(str(spec.rename(spec.with_name("MLmodel"))))
        client.delete_model_version(lost, "1")
        store.drop_table("doubted")  # a model of somebody else's has no such file: that is known
    finally:
        client.delete_registered_model(lost)


DAILY = SPEC["feature_tables"]["daily"]


def changed(yard: Workspace, weekly: dict[str, Any], *, definition: str | None = None, mlflow: str = "") -> Workspace:
    """The yard with a table `weekly` that was filled as `daily` is declared, and is now declared as given."""
    lookups = [{"table": "weekly", "keys": {"train": "train"}, "features": ["load"]}]
    before, after = (
        LoadedProject(
            Project.model_validate(
                {**SPEC, "feature_tables": {**SPEC["feature_tables"], "weekly": declared},
                 "models": {"delay": {**SPEC["models"]["delay"], "lookups": lookups}}}
            ),
            yard.root / "include/projects" / PROJECT,
        )
        for declared in (DAILY, weekly)
    )  # fmt: skip
    made = before.spec.feature_tables["weekly"]
    path = yard.addresses.writable(f"{PROJECT}.weekly")
    create_table(before, "weekly", made, path)
    rows = to_arrow(
        pd.DataFrame([{"train": "a", "event_time": parse_as_of("2024-01-01"), "load": 1.0, "trips": 1}]),
        {name: column.type for name, column in made.columns.items()}, "weekly", made.key_columns,
    )  # fmt: skip
    commit = CommitRecord("2024-01-01T00:00:00Z", {"trains": 1}, definition=definition or definition_hash(before, made))
    upsert(path, fill_missing(rows, path), made.key_columns, commit)
    connections = Connections(yard.resolved.spark_url, mlflow) if mlflow else yard.resolved
    return yard.with_(inline=(after,), connections=connections)


@pytest.mark.parametrize("mlflow_answers", [True, False])
def test_a_refresh_that_is_refused_names_who_needs_a_removed_column(yard: Workspace, mlflow_answers: bool) -> None:
    fewer = {**DAILY, "columns": {name: kind for name, kind in DAILY["columns"].items() if name != "load"}}
    there = changed(yard, fewer, mlflow="" if mlflow_answers else "http://localhost:9")
    with pytest.raises(GateError, match="Nothing was written") as refused, naming_dependants(there):
        stage_table(there, PROJECT, "weekly", parse_as_of("2024-01-01"))
    said = str(refused.value)
    assert "The column(s) load, declared no longer, are needed by " in said
    assert f"declared model {MODEL}" in said
    assert (f"model version {MODEL}/1 (production)" in said) is mlflow_answers
    assert ("could not be asked: MLflow at http://localhost:9" in said) is not mlflow_answers


@pytest.mark.parametrize(
    ("change", "definition", "refusal"),
    [
        ({}, "2:another transformation", "Nothing was written"),
        ({"columns": {**DAILY["columns"], "load": "float"}}, None, "the column load is .*double.* declared as .*float"),
        ({"primary_keys": ["train", "trips"]}, None, "its rows are identified by train, event_time"),
    ],
)
def test_a_refresh_that_is_refused_names_who_needs_the_table(
    yard: Workspace, change: dict[str, Any], definition: str | None, refusal: str
) -> None:
    there = changed(yard, {**DAILY, **change}, definition=definition)
    with pytest.raises(PenstockError, match=refusal) as refused, naming_dependants(there):
        stage_table(there, PROJECT, "weekly", parse_as_of("2024-01-01"))
    said = str(refused.value).partition(f"The rows of {PROJECT}.weekly are needed by ")[2]
    assert f"model version {MODEL}/1 (production)" in said
    assert f"declared model {MODEL}" in said


def test_every_edge_has_its_ends(yard: Workspace) -> None:
    graph = build_graph(yard)
    known = {node.id for node in graph.nodes}
    assert all({edge.source, edge.target} <= known for edge in graph.edges)
