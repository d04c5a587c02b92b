"""Training against a real MLflow server: what a run records, that it can be repeated, and what is refused."""

import json
import os
import shutil
import subprocess
from dataclasses import asdict, replace

import numpy as np
import pandas as pd
import pytest
from mlflow import MlflowClient

from penstock.errors import ServiceError
from penstock.training import TrainingError
from penstock.training.blocks import LABEL
from penstock.training.evaluate import evaluate_model
from penstock.training.explain import explain_model
from penstock.training.profile import profile_model
from penstock.training.register import register_model
from penstock.training.runs import open_run, tracking
from penstock.training.scoring import load_scorer
from penstock.training.train import train_model
from penstock.training.trained_model import TrainedModel
from penstock.training.trial_runs import TrialRuns
from penstock.workspace import Lineage
from tests.integration.orders import (
    AS_OF,
    CODE,
    PROJECT,
    SPEC,
    limited,
    orders,
    run,
    same_predictions,
    shop,
    trained,
    training_set,
)

__all__ = ["run", "shop", "trained"]


def test_a_run_says_what_it_was_made_from(run, trained):
    tags = run.data.tags
    assert run.info.status == "FINISHED"
    assert (tags["penstock.project"], tags["penstock.model"]) == (PROJECT, "late")
    assert tags["penstock.as_of"] == AS_OF
    assert tags["penstock.trained_until"] == trained.trained_until == "2024-03-18T00:00:00Z"
    assert tags["penstock.training_set"] == f"{PROJECT}.late_training_set@0"
    assert json.loads(tags["penstock.inputs"]) == {f"{PROJECT}.orders": 0}
    assert tags["penstock.run"] == "manual__1"
    assert tags["cost_centre"] == "42"
    assert {"penstock.code", "penstock.library"} <= tags.keys()
    assert run.data.params["learning_rate"] == "0.2"
    assert run.data.params["training.rows"] == str(trained.rows.training)
    used = {item.dataset.name: item.dataset for item in run.inputs.dataset_inputs}
    assert used[f"{PROJECT}.late_training_set"].digest == "v0"
    assert set(used) == {f"{PROJECT}.late_training_set", f"{PROJECT}.orders"}


def test_a_trained_model_travels_as_json(trained):
    assert TrainedModel.from_dict(json.loads(json.dumps(asdict(trained)))) == trained


def test_the_environment_bounds_the_trials_and_the_rows(shop, run):
    assert run.data.params["training.trials"] == "3"
    small = limited(shop, training_rows=2_500)
    found = train_model(small, PROJECT, "late", training_set(shop, "late"))
    assert sum(asdict(found.rows).values()) == 2_500
    assert found.rows.hold_out == evaluate_model(small, PROJECT, "late", found.run_id).rows


@pytest.mark.parametrize("model", ["late", "days"])  # days draws features at random, and declares no seed
def test_the_same_data_and_seed_give_the_same_model(shop, model):
    data = training_set(shop, model)
    found = []
    for number in (1, 2):
        np.random.seed(number)  # what ran before in the process must not matter
        found.append(train_model(shop.with_(lineage=Lineage(run=f"same__{number}")), PROJECT, model, data))
    one, two = found
    assert one.run_id != two.run_id
    assert (one.parameters, one.metrics) == (two.parameters, two.metrics)
    same_predictions(shop, one, two)


def test_changed_code_is_trained_even_in_the_same_dag_run(shop, trained):
    code = shop.project(PROJECT).folder / "models" / "orders.py"
    code.write_text(CODE + "\n# a change\n")
    try:
        assert train_model(shop, PROJECT, "late", training_set(shop, "late")).run_id != trained.run_id
    finally:
        code.write_text(CODE)


def test_what_was_trained_from_uncommitted_changes_is_no_answer_once_they_are_committed(shop, tmp_path, monkeypatch):
    asked, real = tmp_path / "asked", shutil.which("git")
    (tmp_path / "git").write_text(f'#!/bin/sh\necho "$*" >> {asked}\nexec {real} "$@"\n')
    (tmp_path / "git").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    git = [real, "-C", str(shop.root), "-c", "user.name=Ann", "-c", "user.email=ann@example.com"]
    about = shop.with_(lineage=Lineage(run="committed later")), PROJECT, "late", training_set(shop, "late")
    notes, client = shop.project(PROJECT).folder / "notes.txt", MlflowClient()
    try:
        for words in (["init", "-q"], ["add", "include"], ["commit", "-q", "-m", "as it is"]):
            subprocess.run([*git, *words], check=True)
        notes.write_text("of no consequence")
        dirty = train_model(*about)
        assert asked.read_text().count(" status ") == 1
        assert train_model(*about) == dirty
        subprocess.run([*git, "add", "include"], check=True)
        subprocess.run([*git, "commit", "-q", "-m", "a note"], check=True)
        clean = train_model(*about)
        assert train_model(*about) == clean
    finally:
        shutil.rmtree(shop.root / ".git", ignore_errors=True)
        notes.unlink(missing_ok=True)
    runs = [client.get_run(found.run_id) for found in (dirty, clean)]
    assert [run.data.tags["penstock.code"].endswith("-dirty") for run in runs] == [True, False]
    assert runs[0].data.tags["penstock.uncommitted"].endswith("notes.txt")
    assert runs[0].info.status == "FINISHED"
    assert [len(TrialRuns.of(client, run, "log_loss")) for run in runs] == [3, 3], "each record is whole"


def test_a_recorded_model_is_made_again_by_one_fit_with_its_parameters(shop, trained):
    again = train_model(shop, PROJECT, "late", training_set(shop, "late"), parameters=trained.parameters)
    assert again.run_id != trained.run_id
    assert (again.parameters, again.metrics) == (trained.parameters, trained.metrics)
    assert (again.tuning.search, again.tuning.trials, again.tuning.seed) == ("given", 1, trained.tuning.seed)
    same_predictions(shop, again, trained)


def test_random_rows_are_recorded_and_read_again_the_same(shop):
    small = limited(shop, training_rows=2_500)
    found = train_model(small, PROJECT, "sampled", training_set(shop, "sampled"))
    with tracking(small) as client:
        run = open_run(small, client, PROJECT, "sampled", found.run_id)
        assert run.split.rows == found.rows
        assert run.split.training[LABEL].mean() == found.label_mean
    assert (found.sampling, sum(asdict(found.rows).values())) == ("random", 2_500)


def test_a_training_set_that_does_not_fit_is_refused(shop):
    small = limited(shop, training_memory_gb=1e-4)
    with pytest.raises(TrainingError, match=rf"{PROJECT}.late_training_set@0: 4,000 rows .* limits.training_rows"):
        train_model(small, PROJECT, "late", training_set(shop, "late"))


@pytest.mark.parametrize("model", ["days", "boosted"])
def test_other_libraries_go_the_same_way(shop, model):
    task = SPEC["models"][model]["training"]["task"]
    found = train_model(shop, PROJECT, model, training_set(shop, model))
    reached = evaluate_model(shop, PROJECT, model, found.run_id)
    explained = explain_model(shop, PROJECT, model, found.run_id)
    profile_model(shop, PROJECT, model, found.run_id)
    version = register_model(shop, PROJECT, model, found.run_id)
    scorer = load_scorer(shop, version.name, version.version)
    frame = orders(task)
    assert set(list(explained.top_features)[:2]) == {"amount", "channel"}
    promised = "rmse" if task == "regression" else "log_loss"
    assert reached.metrics[promised] < 0.9 * reached.heuristic[promised]
    held_out = frame[frame.prediction_time > pd.Timestamp(found.trained_until)]
    np.testing.assert_array_equal(scorer.predict(held_out), scorer.predict(frame)[held_out.index])


def test_a_run_of_another_model_or_of_nobody_is_refused(shop, trained):
    with pytest.raises(TrainingError, match=f"belongs to {PROJECT}.late, not to {PROJECT}.days"):
        evaluate_model(shop, PROJECT, "days", trained.run_id)
    with pytest.raises(TrainingError, match="MLflow has no run 'nonsense'"):
        evaluate_model(shop, PROJECT, "late", "nonsense")


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("broken", r"models.orders.broken of .* failed with .*: ValueError: no luck"),
        ("mislabelled", r"lightgbm.basic.Booster cannot be logged as training.flavor sklearn"),
        ("unknown_flavor", r"training.flavor 'crayons' is no MLflow flavour"),
    ],
)
def test_model_code_that_fails_says_how(shop, model, message):
    with pytest.raises(TrainingError, match=message):
        train_model(shop, PROJECT, model, training_set(shop, model))
    client = MlflowClient()
    experiment = client.get_experiment_by_name(f"{PROJECT}.{model}").experiment_id
    assert [run.info.status for run in client.search_runs([experiment])] == ["FAILED"]


def test_without_mlflow_the_error_says_so(shop, monkeypatch):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    gone = shop.with_(connections=replace(shop.resolved, mlflow_uri="http://127.0.0.1:9"))
    with pytest.raises(ServiceError, match="MLflow at http://127.0.0.1:9 did not answer"):
        train_model(gone, PROJECT, "late", training_set(shop, "late"))
    with pytest.raises(ServiceError, match="MLflow at http://127.0.0.1:9 did not answer"):
        load_scorer(gone, f"{PROJECT}.late", 1)
    shop.mlflow()
