"""A registered version: what it carries, and that everybody who loads it gets what the model in memory said."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from deltalake import DeltaTable
from mlflow import MlflowClient
from mlflow.artifacts import download_artifacts, load_dict

from penstock.clock import parse_as_of
from penstock.spec.functions import load_function
from penstock.training import ScoringError, TrainingError, scoring
from penstock.training.evaluate import evaluate_model
from penstock.training.explain import explain_model
from penstock.training.origins import read_origins
from penstock.training.predictors import predict
from penstock.training.profile import profile_model
from penstock.training.register import register_model
from penstock.training.scoring import load_scorer, load_scorer_from
from penstock.training.train import train_model
from penstock.workspace import Lineage, Workspace
from tests.integration.orders import AS_OF, FEATURES, PROJECT, orders, registered, run, shop, trained, training_set

__all__ = ["registered", "run", "shop", "trained"]


def test_a_version_has_the_runs_tags_and_description_and_no_stage(registered, run):
    client = MlflowClient()
    version = client.get_model_version(registered.name, registered.version)
    assert version.run_id == run.info.run_id
    assert version.tags["penstock.training_set"] == f"{PROJECT}.late_training_set@0"
    assert not {"penstock.stage", "penstock.run_key"} & version.tags.keys()
    assert version.description.startswith(f"# {PROJECT}.late")
    assert client.get_registered_model(registered.name).aliases == {}


def test_the_registered_model_predicts_what_the_model_in_memory_did(shop, registered, trained):
    memory = load_function(shop.project(PROJECT), "models.orders.fitted")(trained.parameters)
    scorer = load_scorer(shop, registered.name, registered.version)
    frame = orders("classification").sample(frac=1, random_state=1)[[*reversed(FEATURES), "order_id"]]
    expected = predict(memory, scorer.prepare(frame), scorer.task)
    np.testing.assert_array_equal(scorer.predict(frame), expected)
    assert expected.dtype == np.float64
    assert 0 < expected.min() < expected.max() < 1


def test_the_feature_spec_is_enough_to_ask_the_model(shop, registered):
    spec = load_scorer(shop, registered.name, registered.version).feature_spec
    assert [item["name"] for item in spec["features"]] == FEATURES
    assert [item["type"] for item in spec["features"]] == ["string", "int", "double", "string"]
    assert spec["features"][0]["categories"] == ["app", "shop", "web"]
    assert spec["features"][3]["source"] == "customers.area"
    assert spec["entity"]["keys"] == ["order_id"]
    assert spec["inputs"] == {f"{PROJECT}.orders": 0}
    assert (spec["as_of"], spec["trained_until"]) == (AS_OF, "2024-03-18T00:00:00Z")


PLAIN = """
import json, sys
import mlflow, pandas as pd
assert not any(name.startswith("penstock") for name in sys.modules)
folder = mlflow.artifacts.download_artifacts(sys.argv[1])
spec = json.load(open(folder + "/extra_files/feature_spec.json"))
frame = pd.read_parquet(sys.argv[2])
for feature in spec["features"]:
    if feature["categories"] is None:
        frame[feature["name"]] = frame[feature["name"]].astype("float64")
    else:
        frame[feature["name"]] = pd.Categorical(frame[feature["name"]], categories=feature["categories"])
model = mlflow.lightgbm.load_model(folder)
print(json.dumps(model.predict(frame[[f["name"] for f in spec["features"]]]).tolist()))
"""


def test_plain_mlflow_can_score_without_penstock(shop, registered, tmp_path):
    frame = orders("classification").head(50)
    frame[FEATURES].to_parquet(tmp_path / "rows.parquet")
    uri = f"models:/{registered.name}/{registered.version}"
    answer = subprocess.run(
        [sys.executable, "-I", "-c", PLAIN, uri, str(tmp_path / "rows.parquet")],
        env=service_environment(shop), capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert answer.returncode == 0, answer.stderr
    expected = load_scorer(shop, registered.name, registered.version).predict(frame)
    np.testing.assert_array_equal(json.loads(answer.stdout.splitlines()[-1]), expected)


def service_environment(workspace: Workspace) -> dict[str, str]:
    found = workspace.resolved
    login = {"MLFLOW_TRACKING_USERNAME": found.mlflow_username, "MLFLOW_TRACKING_PASSWORD": found.mlflow_password}
    return {
        **os.environ,
        "MLFLOW_TRACKING_URI": found.mlflow_uri,
        "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
        **{name: value for name, value in login.items() if value},
    }


def test_every_step_again_changes_nothing(shop, trained, registered):
    client = MlflowClient()
    before = client.get_run(trained.run_id).data
    assert train_model(shop, PROJECT, "late", training_set(shop, "late")) == trained
    for step in (evaluate_model, explain_model, profile_model):
        assert step(shop, PROJECT, "late", trained.run_id) == step(shop, PROJECT, "late", trained.run_id)
    assert register_model(shop, PROJECT, "late", trained.run_id) == registered
    after = client.get_run(trained.run_id).data
    assert (after.metrics, after.tags, after.params) == (before.metrics, before.tags, before.params)
    assert len(client.search_model_versions(f"name = '{registered.name}'")) == 1


def test_registering_waits_for_evaluation_description_and_profile(shop):
    found = train_model(shop.with_(lineage=Lineage(run="hasty")), PROJECT, "late", training_set(shop, "late"))
    with pytest.raises(TrainingError, match="lacks description.md, evaluation, profile.json: do explain_model"):
        register_model(shop, PROJECT, "late", found.run_id)
    with pytest.raises(TrainingError, match="has no hold-out metrics: evaluate it first"):
        explain_model(shop, PROJECT, "late", found.run_id)


def _exchange_a_file(trained, tmp_path):
    """Whoever may write to MLflow's artifact store puts other contents in the place of the model's."""
    folder = Path(download_artifacts(trained.model_uri, dst_path=str(tmp_path)))
    booster = folder / "model.lgb"
    booster.write_text(booster.read_text().replace("leaf_value=", "leaf_value=0."))
    MlflowClient().log_model_artifacts(trained.model_uri.removeprefix("models:/"), str(folder))


def test_files_that_were_exchanged_after_training_are_not_registered(shop, tmp_path):
    about = shop.with_(lineage=Lineage(run="exchanged")), PROJECT, "late"
    found = train_model(*about, training_set(shop, "late"))
    written = read_origins(shop, PROJECT, "late", run_id=found.run_id)
    assert {str(row.kind) for row in written} == {"record", "trained"}
    assert {row.as_of for row in written} == {parse_as_of(found.as_of)}
    record = load_dict(f"runs:/{found.run_id}/trained_model.json")
    MlflowClient().log_dict(found.run_id, {**record, "trained_until": found.as_of}, "trained_model.json")
    with pytest.raises(TrainingError, match=f"trained_model.json of run {found.run_id} .* is not what training wrote"):
        evaluate_model(*about, found.run_id)
    MlflowClient().log_dict(found.run_id, record, "trained_model.json")
    _exchange_a_file(found, tmp_path)
    with pytest.raises(TrainingError, match=rf"are not those that run {found.run_id} of {PROJECT}.late wrote"):
        register_model(*about, found.run_id)
    assert read_origins(shop, PROJECT, "late", run_id=found.run_id) == written


def test_files_of_a_version_that_were_exchanged_later_score_nothing(shop, registered, tmp_path):
    about = shop.with_(lineage=Lineage(run="exchanged later")), PROJECT, "late"
    found = train_model(*about, training_set(shop, "late"))
    client, name, model_id = MlflowClient(), registered.name, found.model_uri.removeprefix("models:/")
    version = client.create_model_version(name, found.model_uri, run_id=found.run_id, model_id=model_id).version
    try:
        assert load_scorer(shop, name, version)
        _exchange_a_file(found, tmp_path)
        scoring._load.cache_clear()  # as in the next process
        with pytest.raises(ScoringError, match=rf"version {version} is not loaded: .* not those that training wrote "):
            load_scorer(shop, name, version)
        client.set_registered_model_alias(name, "odd", version)
        with pytest.raises(ScoringError, match=rf"penstock rollback {name} --reason WHY"):
            load_scorer_from(shop, f"models:/{name}@odd")
    finally:
        client.delete_model_version(name, version)


def test_a_run_whose_files_nobody_noted_is_trained_again(shop):
    about = shop.with_(lineage=Lineage(run="not noted")), PROJECT, "late", training_set(shop, "late")
    first = train_model(*about)
    table = DeltaTable(shop.addresses.readable(f"{PROJECT}.model_origins"))
    table.delete(f"run_id = '{first.run_id}'")
    second = train_model(*about)
    assert second.run_id != first.run_id
    assert train_model(*about).run_id == second.run_id


def test_only_models_of_this_mlflow_are_loaded(shop, trained, registered):
    with pytest.raises(ScoringError, match="no model of this workspace"):
        load_scorer_from(shop, "/tmp/somewhere")
    with pytest.raises(ScoringError, match="cannot be read"):
        load_scorer(shop, registered.name, 99)
