"""Tuning against a real MLflow server: trials as nested runs, what an interruption leaves, folds, the best options."""

import copy
import json
import os
import subprocess
import sys
from dataclasses import asdict

import numpy as np
import pytest
import yaml
from mlflow import MlflowClient
from mlflow.entities import Run
from typer.testing import CliRunner

from penstock.cli import app
from penstock.spec.environment import Limits, Search
from penstock.training import TrainingError
from penstock.training.best_options import best_options
from penstock.training.runs import ABANDONED
from penstock.training.train import train_model
from penstock.training.trial_runs import TrialRuns
from penstock.workspace import Lineage
from tests.integration.orders import PROJECT, SPEC, limited, run, same_predictions, shop, trained, training_set

__all__ = ["run", "shop", "trained"]


def trials_of(client: MlflowClient, run_id: str) -> list[Run]:
    experiment = client.get_run(run_id).info.experiment_id
    children = client.search_runs([experiment], f"tags.`mlflow.parentRunId` = '{run_id}'")
    return sorted(children, key=lambda child: child.info.end_time)


def test_each_trial_is_a_nested_run(run, trained):
    children = trials_of(MlflowClient(), run.info.run_id)
    assert len(children) == trained.tuning.trials == 3
    values = [child.data.metrics["log_loss"] for child in children]
    assert min(values) == values[trained.tuning.chosen] == run.data.metrics["tune_log_loss"]
    assert children[0].data.params == {"learning_rate": "0.2"}
    assert children[1].data.params.keys() == {"learning_rate", "num_leaves"}
    assert {child.info.status for child in children} == {"FINISHED"}


KILLED = """
import json, sys
from pathlib import Path
from penstock.features.training_set import TrainingSet
from penstock.training.train import train_model
from penstock.workspace import Connections, Lineage, Workspace
given = json.loads(sys.argv[1])
workspace = Workspace.open("dev", given["root"])
lakehouse = workspace.environment.lakehouse.model_copy(update={"root": given["lakehouse"]})
limits = workspace.environment.limits.model_copy(update={"trials": 3})
environment = workspace.environment.model_copy(update={"lakehouse": lakehouse, "limits": limits})
workspace = workspace.with_(
    environment=environment, connections=Connections(**given["connections"]), lineage=Lineage(run="killed"))
train_model(workspace, given["project"], "late", TrainingSet(**given["training_set"]))
"""


def test_a_killed_training_is_given_up_and_made_anew(shop, trained, monkeypatch):
    """The deployment that killed it brought a new commit, which changed nothing of its code."""
    data = training_set(shop, "late")
    given = {
        "root": str(shop.root), "lakehouse": shop.environment.lakehouse.root, "project": PROJECT,
        "connections": asdict(shop.resolved), "training_set": asdict(data),
    }  # fmt: skip
    flag = shop.project(PROJECT).folder / "models" / "kill"
    flag.touch()
    killed = subprocess.run(
        [sys.executable, "-c", KILLED, json.dumps(given)], capture_output=True, check=False,
        env={**os.environ, "PENSTOCK_CODE_VERSION": "0ne"},
    )  # fmt: skip
    flag.unlink()
    assert killed.returncode == -9, killed.stderr.decode()

    monkeypatch.setenv("PENSTOCK_CODE_VERSION", "tw0")
    again = train_model(shop.with_(lineage=Lineage(run="killed")), PROJECT, "late", data)
    client = MlflowClient()
    assert client.get_run(again.run_id).data.tags["penstock.code"] == "tw0"
    experiment = client.get_experiment_by_name(f"{PROJECT}.late").experiment_id
    runs = client.search_runs([experiment], filter_string="tags.`penstock.run` = 'killed'")
    states = {run.info.run_id: (run.info.status, ABANDONED in run.data.tags) for run in runs}
    assert states.pop(again.run_id) == ("FINISHED", False)
    assert list(states.values()) == [("FAILED", True)]
    assert (again.metrics, again.parameters, again.tuning) == (trained.metrics, trained.parameters, trained.tuning)
    children = trials_of(client, again.run_id)
    assert [child.data.tags["mlflow.runName"] for child in children] == ["trial 1", "trial 2", "trial 3"]
    # the first trial is the killed try's: it was not made again
    assert children[0].info.end_time < client.get_run(again.run_id).info.start_time < children[1].info.end_time
    same_predictions(shop, again, trained)


def test_folds_in_time_and_pruning_reach_the_record(shop):
    unlimited = shop.with_(environment=shop.environment.model_copy(update={"limits": Limits()}))
    found = train_model(unlimited, PROJECT, "folded", training_set(shop, "folded"))
    children = trials_of(MlflowClient(), found.run_id)
    assert found.tuning.folds == 3
    assert len(children) == 8
    states = [child.info.status for child in children]
    assert "KILLED" in states  # given up: it learned the opposite
    best = children[found.tuning.chosen]
    folds = MlflowClient().get_metric_history(best.info.run_id, "fold_log_loss")
    assert len(folds) == 3
    assert best.data.metrics["log_loss"] == pytest.approx(np.mean([fold.value for fold in folds]))


def test_the_best_options_of_dev_are_all_that_is_tried_where_an_environment_wants_these(shop, trained, monkeypatch):
    monkeypatch.setenv("PENSTOCK_ROOT", str(shop.root))
    found = best_options(shop, PROJECT, "late", most=2)
    tuned = TrialRuns.of(MlflowClient(), MlflowClient().get_run(found.run_id), "log_loss")
    assert found.trials == len(tuned) == 3
    assert found.options[0] == {"num_leaves": min(tuned[1:], key=lambda trial: trial.value).parameters["num_leaves"]}
    said = CliRunner().invoke(app, ["tuning", "best", f"{PROJECT}.late", "--most", "2"])
    declared = yaml.safe_load(said.stdout)["best"]
    assert declared == found.options

    file = shop.project(PROJECT).folder / "project.yaml"
    changed = copy.deepcopy(SPEC)
    changed["models"]["late"]["training"]["best"] = declared
    prod = limited(shop, search=Search.BEST)
    file.write_text(yaml.safe_dump(changed))
    try:
        made = train_model(prod, PROJECT, "late", training_set(shop, "late"))
    finally:
        file.write_text(yaml.safe_dump(SPEC))
    assert (made.tuning.search, made.tuning.trials) == ("best", 2)
    tried = [
        trial.parameters for trial in TrialRuns.of(MlflowClient(), MlflowClient().get_run(made.run_id), "log_loss")
    ]
    assert tried == [{"learning_rate": 0.2, **option} for option in declared]
    assert made.parameters == tried[0]


def test_best_options_are_asked_of_a_model():
    said = CliRunner().invoke(app, ["tuning", "best", PROJECT])
    assert said.exit_code != 0
    assert "names no model: write PROJECT.MODEL" in said.stderr


def test_without_a_tuning_there_are_no_best_options(shop):
    with pytest.raises(TrainingError, match=f"{PROJECT}.unknown_flavor was not tuned in dev yet"):
        best_options(shop, PROJECT, "unknown_flavor")
