"""Training against a real MLflow server, on a synthetic project with numbers, whole numbers, strings and nulls."""

import copy
import json
import os
import shutil
import subprocess
import sys
import uuid
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from deltalake import DeltaTable, write_deltalake
from fastapi.testclient import TestClient
from mlflow import MlflowClient
from mlflow.entities import Run
from typer.testing import CliRunner

from penstock.cli import app
from penstock.clock import parse_as_of
from penstock.errors import ServiceError
from penstock.features.training_set import TrainingSet
from penstock.profiles import Profile
from penstock.spec.environment import Environment, Limits, Search
from penstock.spec.functions import load_function
from penstock.training import ScoringError, TrainingError
from penstock.training.best_options import best_options
from penstock.training.blocks import LABEL
from penstock.training.card import card_model
from penstock.training.evaluate import evaluate_model
from penstock.training.explain import explain_model
from penstock.training.origins import read_origins
from penstock.training.predictors import predict
from penstock.training.profile import profile_model
from penstock.training.register import RegisteredVersion, register_model
from penstock.training.runs import ABANDONED, open_run, tracking
from penstock.training.scoring import load_scorer, load_scorer_from
from penstock.training.train import train_model
from penstock.training.trained_model import TrainedModel
from penstock.training.trial_runs import TrialRuns
from penstock.workspace import Connections, Lineage, Workspace

PROJECT = f"shop_{uuid.uuid4().hex[:8]}"  # the registry may be shared with others
ROWS = 4_000
AS_OF = "2024-04-01T00:00:00Z"
FEATURES = ["channel", "items", "amount", "region"]
PICTURES = [
    "calibration", "confusion", "costs", "importance", "precision_recall", "roc", "shap_summary", "slices"
]  # fmt: skip

CODE = """
import os, signal
from pathlib import Path

import numpy as np

FITTED = []

def classify(training, tuning, parameters):
    import lightgbm
    if Path(__file__).with_name("kill").exists() and FITTED:
        os.kill(os.getpid(), signal.SIGKILL)
    assert list(training.features.dtypes.astype(str)) == ["category", "float64", "float64", "category"]
    data = lightgbm.Dataset(training.features, training.label, free_raw_data=False)
    fixed = {"objective": "binary", "verbosity": -1, "num_threads": 1, "deterministic": True, "force_row_wise": True}
    model = lightgbm.train({**fixed, **parameters}, data, 20)
    FITTED.append((parameters, model))
    return model

def regress(training, tuning, parameters):
    from sklearn.ensemble import HistGradientBoostingRegressor
    model = HistGradientBoostingRegressor(categorical_features="from_dtype", **parameters)
    return model.fit(training.features, training.label)

def boosted(training, tuning, parameters):
    import lightgbm
    return lightgbm.LGBMClassifier(n_estimators=10, n_jobs=1, verbosity=-1, **parameters).fit(
        training.features, training.label)

def folded(training, tuning, parameters):
    from sklearn.ensemble import HistGradientBoostingClassifier
    assert training.prediction_time.max() < tuning.prediction_time.min()
    label = 1 - training.label if parameters["flip"] else training.label
    return HistGradientBoostingClassifier(max_iter=5, categorical_features="from_dtype").fit(training.features, label)

def broken(training, tuning, parameters):
    raise ValueError("no luck")

def cost(label, prediction):
    return float(np.mean(np.where(prediction > 0.3, label < 0.5, 5 * (label > 0.5))))

def fitted(parameters):
    return next(model for chosen, model in FITTED if chosen == parameters)  # the first of them: `trained`
"""


def model_values(function: str, flavor: str, task: str = "classification", **training: object) -> dict:
    metric = "log_loss" if task == "classification" else "rmse"
    return {
        "description": "What happens to an order.",
        "limits": "Not for real customers.",
        "tags": {"cost_centre": "42"},
        "entity": {"table": "orders", "keys": ["order_id"], "prediction_time": "ordered_at", "features": FEATURES[:3]},
        "label": {"name": "late", "table": "payments", "expression": "days > 14"},
        "lookups": [
            {"table": "customers", "keys": {"customer": "customer"}, "features": ["area"],
             "rename": {"area": "region"}, "max_age": "3d"},
        ],
        "training": {"function": f"models.orders.{function}", "flavor": flavor, "task": task, "metric": metric,
                     "requirements": ["pandas", "numpy"], **training},
        "evaluation": {"slices": ["channel", "amount"], "minimum_slice_rows": 50, "bootstrap_repeats": 100},
        "promotion": {"metric": metric},
    }  # fmt: skip


SPEC = {
    "name": PROJECT,
    "description": "A synthetic shop.",
    "owner": "the shop's team",
    "sources": {
        "orders": {
            "description": "Orders.", "primary_keys": ["order_id"], "available_at": "known_at",
            "columns": {"order_id": "bigint", "channel": "string", "items": "int", "amount": "double",
                        "customer": "string", "ordered_at": "timestamp", "known_at": "timestamp"},
        },
        "payments": {
            "description": "Payments.", "primary_keys": ["order_id"], "available_at": "known_at",
            "columns": {"order_id": "bigint", "days": "double", "known_at": "timestamp"},
        },
    },
    "feature_tables": {
        "customers": {
            "description": "Customers.", "primary_keys": ["customer"], "inputs": ["orders"], "sql": "c.sql",
            "columns": {"customer": "string", "event_time": "timestamp", "area": "string"},
        },
    },
    "models": {
        "late": model_values(
            "classify", "lightgbm", trials=5, parameters={"learning_rate": 0.2},
            search={"num_leaves": {"int": [4, 31]}}, metrics={"cost": "models.orders.cost"}, lower_is_better=["cost"],
        ),
        "days": model_values("regress", "sklearn", "regression", parameters={"max_iter": 20, "max_features": 0.5}),
        "boosted": model_values("boosted", "lightgbm"),
        "sampled": model_values("boosted", "lightgbm", sampling="random"),
        "folded": model_values(
            "folded", "sklearn", trials=8, folds=3, seed=1, parameters={"flip": 0}, search={"flip": {"choice": [0, 1]}}
        ),
        "broken": model_values("broken", "lightgbm"),
        "mislabelled": model_values("classify", "sklearn"),
        "unknown_flavor": model_values("classify", "crayons"),
    },
}  # fmt: skip
SPEC["models"]["late"]["evaluation"]["costs"] = {"false_positive": 1, "false_negative": 5}


@pytest.fixture(scope="module")
def shop(stack: Connections, repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workspace]:
    """A workspace with the synthetic project, whose registered models vanish at the end."""
    root = tmp_path_factory.mktemp("shop")
    folder = root / "include" / "projects" / PROJECT
    (folder / "models").mkdir(parents=True)
    (folder / "models" / "orders.py").write_text(CODE)
    (folder / "project.yaml").write_text(yaml.safe_dump(SPEC))
    shutil.copytree(repository / "include" / "environments", root / "include" / "environments")
    found = Workspace.open("dev", root)
    lakehouse = found.environment.lakehouse.model_copy(update={"root": str(root / "lakehouse")})
    limits = found.environment.limits.model_copy(update={"trials": 3})
    environment = found.environment.model_copy(update={"lakehouse": lakehouse, "limits": limits})
    workspace = found.with_(environment=environment, connections=stack, lineage=Lineage(run="manual__1"))
    yield workspace
    forget(workspace)


def forget(workspace: Workspace) -> None:
    from mlflow import MlflowClient

    workspace.mlflow()  # without it MLflow would make a database of its own in the current folder
    client = MlflowClient()
    for name in SPEC["models"]:
        for found in client.search_registered_models(f"name = '{PROJECT}.{name}'"):
            client.delete_registered_model(found.name)
        experiment = client.get_experiment_by_name(f"{PROJECT}.{name}")
        if experiment is not None:
            client.delete_experiment(experiment.experiment_id)


def orders(task: str) -> pd.DataFrame:
    random = np.random.default_rng(5)
    frame = pd.DataFrame({"order_id": np.arange(ROWS)})
    frame["prediction_time"] = pd.date_range("2024-01-01", "2024-04-01", periods=ROWS, tz="UTC", unit="us")
    frame["channel"] = random.choice(["app", "shop", "web", None], ROWS)
    frame["items"] = pd.array(random.integers(1, 9, ROWS), dtype="Int32")
    frame.loc[::11, "items"] = pd.NA
    frame["amount"] = random.gamma(2, 20, ROWS)
    frame.loc[::7, "amount"] = np.nan
    frame["region"] = random.choice([f"r{number}" for number in range(8)], ROWS)
    frame.loc[frame.index[-1], "region"] = "new in the hold-out block"
    signal = frame["channel"].eq("web") + frame["amount"].fillna(30) / 40 + random.normal(size=ROWS) - 2
    frame["label"] = (signal > 0).astype(float) if task == "classification" else 10 + 3 * signal
    frame["label_known_at"] = frame["prediction_time"]
    return frame


def training_set(workspace: Workspace, model: str) -> TrainingSet:
    frame = orders(SPEC["models"][model]["training"]["task"])
    table = f"{PROJECT}.{model}_training_set"
    path = workspace.addresses.writable(table)
    if workspace.addresses.find(table) is None:
        write_deltalake(path, frame)
    write_deltalake(f"{workspace.environment.lakehouse.root}/{PROJECT}/orders", frame.head(1), mode="ignore")
    first, last = "2024-01-01T00:00:00Z", AS_OF
    inputs = {f"{PROJECT}.orders": 0}
    return TrainingSet(table, 0, path, AS_OF, inputs, ROWS, first, last, float(frame["label"].mean()))


@pytest.fixture(scope="module")
def trained(shop: Workspace) -> TrainedModel:
    return train_model(shop, PROJECT, "late", training_set(shop, "late"))


@pytest.fixture(scope="module")
def registered(shop: Workspace, trained: TrainedModel) -> RegisteredVersion:
    for step in (evaluate_model, explain_model, profile_model):
        step(shop, PROJECT, "late", trained.run_id)
    return register_model(shop, PROJECT, "late", trained.run_id)


@pytest.fixture(scope="module")
def run(registered: RegisteredVersion):
    from mlflow import MlflowClient

    return MlflowClient().get_run(registered.run_id)


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
    limits = shop.environment.limits.model_copy(update={"training_rows": 2_500})
    small = shop.with_(environment=shop.environment.model_copy(update={"limits": limits}))
    found = train_model(small, PROJECT, "late", training_set(shop, "late"))
    assert sum(asdict(found.rows).values()) == 2_500
    assert found.rows.hold_out == evaluate_model(small, PROJECT, "late", found.run_id).rows


def test_a_run_holds_metrics_pictures_and_a_description(run, registered):
    from mlflow import MlflowClient
    from mlflow.artifacts import load_text

    client = MlflowClient()
    plots = {item.path for item in client.list_artifacts(run.info.run_id, "plots")}
    assert plots == {f"plots/{name}.png" for name in PICTURES}
    names = {item.path for item in client.list_artifacts(run.info.run_id)}
    assert {item.path for item in client.list_artifacts(run.info.run_id, "tuning")} == {"tuning/history.png"}
    assert {"trials.csv", "importance.csv", "profile.json", "description.md", "evaluation", "model_card.md"} <= names
    assert run.data.metrics["log_loss"] < run.data.metrics["heuristic_log_loss"]
    assert run.data.metrics["cost"] < run.data.metrics["heuristic_cost"]
    text = load_text(f"runs:/{run.info.run_id}/description.md")
    for part in ("What happens to an order.", "Not for real customers.", "the shop's team", "log_loss", AS_OF,
                 f"{PROJECT}.orders, version 0", "amount", "`days > 14`"):  # fmt: skip
        assert part in text


def test_slices_add_up_to_the_hold_out_block(run):
    from mlflow.artifacts import download_artifacts

    found = pd.read_csv(download_artifacts(f"runs:/{run.info.run_id}/evaluation/slices.csv"))
    counts = found.groupby("column")["rows"].sum()
    assert counts.to_dict() == dict.fromkeys(["channel", "amount"], int(run.data.params["hold_out.rows"]))
    assert {"channel=web", "channel missing", "amount missing"} <= set(found["slice"])
    judged = found[found["reason"].isna()]
    assert len(judged) >= 6
    assert ((judged["cost_low"] <= judged["cost"]) & (judged["cost"] <= judged["cost_high"])).all()
    assert (judged["log_loss_low"] < judged["log_loss_high"]).all()


def test_metrics_lie_within_their_intervals_and_the_threshold_is_a_tag(run, registered):
    from mlflow import MlflowClient

    found = run.data.metrics
    for name in ("log_loss", "roc_auc", "average_precision", "brier_score", "accuracy", "cost"):
        assert found[f"interval_low_{name}"] < found[name] < found[f"interval_high_{name}"]
    assert 0 < found["threshold_value"] < 0.5  # a miss costs five times a false alarm
    version = MlflowClient().get_model_version(registered.name, registered.version)
    assert float(version.tags["penstock.threshold"]) == pytest.approx(found["threshold_value"], rel=1e-5)
    assert found["calibration_error"] < 0.2


def test_the_card_tells_what_a_person_must_know_and_stands_alone(run, registered):
    from mlflow.artifacts import load_text

    text = load_text(f"runs:/{run.info.run_id}/model_card.md")
    for part in (f"# {registered.name}, version {registered.version}", "Not for real customers.", "the shop's team",
                 f"`{PROJECT}.late_training_set@0`", f"`{PROJECT}.orders`", "`days > 14`", "`channel=web`",
                 "costs least on the tuning block", "expected calibration error", "Where the model is worst",
                 "plots/shap_summary.png", run.info.run_id):  # fmt: skip
        assert part in text
    page = load_text(f"runs:/{run.info.run_id}/model_card.html")
    assert page.count("data:image/png;base64,") == len(PICTURES) - 1  # importance is a table there
    assert "is missing" not in page
    assert "http" not in page.replace("http-equiv", "")


@pytest.fixture
def pages(shop: Workspace) -> Iterator[TestClient]:
    """Penstock's pages as Airflow mounts them, for somebody who may read every project."""
    from airflow.api_fastapi.app import create_auth_manager, purge_cached_app
    from airflow.api_fastapi.auth.managers.simple.user import SimpleAuthManagerUser
    from airflow.api_fastapi.core_api.security import get_user

    from penstock.ui import catalogue
    from penstock.ui.app import app

    create_auth_manager()
    app.dependency_overrides = {
        get_user: lambda: SimpleAuthManagerUser(username="ada", role="viewer"),
        catalogue.open_workspace: lambda: shop,
    }
    with TestClient(app, follow_redirects=False, headers={"accept": "text/html"}) as client:
        yield client
    app.dependency_overrides = {}
    purge_cached_app()


def test_the_pages_show_a_card_by_version_and_by_run_and_none_of_another_model(pages, registered, trained):
    frame = f"/cards/{PROJECT}/late/{trained.run_id}"
    for query in (f"version={registered.version}", f"run={trained.run_id}"):
        page = pages.get(f"/cards/{PROJECT}/late?{query}")
        assert page.status_code == 200
        assert f'src="{frame}"' in page.text
    card = pages.get(frame)
    assert f"version {registered.version}</h1>" in card.text
    policy = card.headers["content-security-policy"]
    assert "img-src data:" in policy
    assert "script-src" not in policy
    assert policy.endswith("sandbox")
    assert pages.get(f"/cards/{PROJECT}/days/{trained.run_id}").status_code == 404
    assert pages.get(f"/cards/{PROJECT}/late?version=99").status_code == 404


def test_before_a_run_has_a_card_its_page_says_what_writes_one(pages, shop):
    hasty = train_model(shop.with_(lineage=Lineage(run="hasty")), PROJECT, "late", training_set(shop, "late"))
    answer = pages.get(f"/cards/{PROJECT}/late?run={hasty.run_id}")
    assert answer.status_code == 404
    assert "Registering a model writes its card" in answer.text


def test_a_regression_has_residuals_in_place_of_probabilities(shop):
    from mlflow import MlflowClient
    from mlflow.artifacts import load_dict, load_text

    found = train_model(shop, PROJECT, "days", training_set(shop, "days"))
    reached = evaluate_model(shop, PROJECT, "days", found.run_id)
    explain_model(shop, PROJECT, "days", found.run_id)
    card_model(shop, PROJECT, "days", found.run_id)
    plots = {item.path for item in MlflowClient().list_artifacts(found.run_id, "plots")}
    assert plots == {
        f"plots/{name}.png" for name in ("predicted_vs_actual", "residuals", "slices", "importance", "shap_summary")
    }
    assert reached.threshold is None
    assert set(reached.intervals) == {"rmse", "mae", "r2"}
    report = load_dict(f"runs:/{found.run_id}/evaluation/hold_out.json")
    assert report["calibration"] is None
    assert report["residual_quantiles"]["5%"] < 0 < report["residual_quantiles"]["95%"]
    text = load_text(f"runs:/{found.run_id}/model_card.md")
    assert f"# {PROJECT}.days, not registered" in text
    assert "## Residuals" in text
    assert "## Threshold" not in text


def test_the_profile_is_of_the_training_features_and_the_hold_out_predictions(shop, run, trained):
    from mlflow.artifacts import load_text

    profile = Profile.from_json(load_text(f"runs:/{run.info.run_id}/profile.json"))
    frame = orders("classification")
    learned = frame[frame.prediction_time <= pd.Timestamp(trained.boundaries.tune_after)]
    held_out = frame[frame.prediction_time > pd.Timestamp(trained.trained_until)]
    assert profile.rows == len(learned) == trained.rows.training
    assert profile.columns["amount"].mean == pytest.approx(learned["amount"].mean())
    assert profile.columns["channel"].kind == "categorical"
    predicted = load_scorer_from(shop, trained.model_uri).predict(held_out)
    assert profile.prediction.mean == pytest.approx(predicted.mean())
    assert profile.metrics["log_loss"] == run.data.metrics["log_loss"]


def test_a_version_has_the_runs_tags_and_description_and_no_stage(registered, run):
    from mlflow import MlflowClient

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
    frame = orders(SPEC["models"][model]["training"]["task"])
    answers = [load_scorer_from(shop, made.model_uri).predict(frame) for made in found]
    np.testing.assert_array_equal(*answers)


def test_every_step_again_changes_nothing(shop, trained, registered):
    from mlflow import MlflowClient

    client = MlflowClient()
    before = client.get_run(trained.run_id).data
    assert train_model(shop, PROJECT, "late", training_set(shop, "late")) == trained
    for step in (evaluate_model, explain_model, profile_model):
        assert step(shop, PROJECT, "late", trained.run_id) == step(shop, PROJECT, "late", trained.run_id)
    assert register_model(shop, PROJECT, "late", trained.run_id) == registered
    after = client.get_run(trained.run_id).data
    assert (after.metrics, after.tags, after.params) == (before.metrics, before.tags, before.params)
    assert len(client.search_model_versions(f"name = '{registered.name}'")) == 1


def test_changed_code_is_trained_even_in_the_same_dag_run(shop, trained):
    code = shop.project(PROJECT).folder / "models" / "orders.py"
    code.write_text(CODE + "\n# a change\n")
    try:
        assert train_model(shop, PROJECT, "late", training_set(shop, "late")).run_id != trained.run_id
    finally:
        code.write_text(CODE)


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


def test_a_killed_training_is_given_up_and_made_anew(shop, trained):
    from mlflow import MlflowClient

    data = training_set(shop, "late")
    given = {
        "root": str(shop.root), "lakehouse": shop.environment.lakehouse.root, "project": PROJECT,
        "connections": asdict(shop.resolved), "training_set": asdict(data),
    }  # fmt: skip
    flag = shop.project(PROJECT).folder / "models" / "kill"
    flag.touch()
    killed = subprocess.run([sys.executable, "-c", KILLED, json.dumps(given)], capture_output=True, check=False)
    flag.unlink()
    assert killed.returncode == -9, killed.stderr.decode()

    again = train_model(shop.with_(lineage=Lineage(run="killed")), PROJECT, "late", data)
    client = MlflowClient()
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
    frame = orders("classification")
    answers = [load_scorer_from(shop, made.model_uri).predict(frame) for made in (again, trained)]
    np.testing.assert_array_equal(*answers)


def trials_of(client: MlflowClient, run_id: str) -> list[Run]:
    experiment = client.get_run(run_id).info.experiment_id
    children = client.search_runs([experiment], f"tags.`mlflow.parentRunId` = '{run_id}'")
    return sorted(children, key=lambda child: child.info.end_time)


def test_each_trial_is_a_nested_run(run, trained):
    from mlflow import MlflowClient

    children = trials_of(MlflowClient(), run.info.run_id)
    assert len(children) == trained.tuning.trials == 3
    values = [child.data.metrics["log_loss"] for child in children]
    assert min(values) == values[trained.tuning.chosen] == run.data.metrics["tune_log_loss"]
    assert children[0].data.params == {"learning_rate": "0.2"}
    assert children[1].data.params.keys() == {"learning_rate", "num_leaves"}
    assert {child.info.status for child in children} == {"FINISHED"}


def test_a_recorded_model_is_made_again_by_one_fit_with_its_parameters(shop, trained):
    again = train_model(shop, PROJECT, "late", training_set(shop, "late"), parameters=trained.parameters)
    assert again.run_id != trained.run_id
    assert (again.parameters, again.metrics) == (trained.parameters, trained.metrics)
    assert (again.tuning.search, again.tuning.trials, again.tuning.seed) == ("given", 1, trained.tuning.seed)
    frame = orders("classification")
    answers = [load_scorer_from(shop, made.model_uri).predict(frame) for made in (again, trained)]
    np.testing.assert_array_equal(*answers)


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
    limits = shop.environment.limits.model_copy(update={"search": Search.BEST})
    prod = shop.with_(environment=shop.environment.model_copy(update={"limits": limits}))
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


def test_random_rows_are_recorded_and_read_again_the_same(shop):
    limits = shop.environment.limits.model_copy(update={"training_rows": 2_500})
    small = shop.with_(environment=shop.environment.model_copy(update={"limits": limits}))
    found = train_model(small, PROJECT, "sampled", training_set(shop, "sampled"))
    with tracking(small) as client:
        run = open_run(small, client, PROJECT, "sampled", found.run_id)
        assert run.split.rows == found.rows
        assert run.split.training[LABEL].mean() == found.label_mean
    assert (found.sampling, sum(asdict(found.rows).values())) == ("random", 2_500)


def test_a_training_set_that_does_not_fit_is_refused(shop):
    limits = shop.environment.limits.model_copy(update={"training_memory_gb": 1e-4})
    small = shop.with_(environment=shop.environment.model_copy(update={"limits": limits}))
    with pytest.raises(TrainingError, match=rf"{PROJECT}.late_training_set@0: 4,000 rows .* limits.training_rows"):
        train_model(small, PROJECT, "late", training_set(shop, "late"))


def test_folds_in_time_and_pruning_reach_the_record(shop):
    from mlflow import MlflowClient

    found = train_model(shop.with_(environment=without_limits(shop)), PROJECT, "folded", training_set(shop, "folded"))
    children = trials_of(MlflowClient(), found.run_id)
    assert found.tuning.folds == 3
    assert len(children) == 8
    states = [child.info.status for child in children]
    assert "KILLED" in states  # given up: it learned the opposite
    best = children[found.tuning.chosen]
    folds = MlflowClient().get_metric_history(best.info.run_id, "fold_log_loss")
    assert len(folds) == 3
    assert best.data.metrics["log_loss"] == pytest.approx(np.mean([fold.value for fold in folds]))


def without_limits(workspace: Workspace) -> Environment:
    return workspace.environment.model_copy(update={"limits": Limits()})


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


def test_registering_waits_for_evaluation_description_and_profile(shop):
    found = train_model(shop.with_(lineage=Lineage(run="hasty")), PROJECT, "late", training_set(shop, "late"))
    with pytest.raises(TrainingError, match="lacks description.md, evaluation, profile.json: do explain_model"):
        register_model(shop, PROJECT, "late", found.run_id)
    with pytest.raises(TrainingError, match="has no hold-out metrics: evaluate it first"):
        explain_model(shop, PROJECT, "late", found.run_id)


def _exchange_a_file(trained, tmp_path):
    """Whoever may write to MLflow's artifact store puts other contents in the place of the model's."""
    from mlflow.artifacts import download_artifacts

    folder = Path(download_artifacts(trained.model_uri, dst_path=str(tmp_path)))
    booster = folder / "model.lgb"
    booster.write_text(booster.read_text().replace("leaf_value=", "leaf_value=0."))
    MlflowClient().log_model_artifacts(trained.model_uri.removeprefix("models:/"), str(folder))


def test_files_that_were_exchanged_after_training_are_not_registered(shop, tmp_path):
    about = shop.with_(lineage=Lineage(run="exchanged")), PROJECT, "late"
    found = train_model(*about, training_set(shop, "late"))
    written = read_origins(shop, PROJECT, "late", run_id=found.run_id)
    assert [(row.kind, row.as_of) for row in written] == [("trained", parse_as_of(found.as_of))]
    _exchange_a_file(found, tmp_path)
    with pytest.raises(TrainingError, match=rf"are not those that run {found.run_id} of {PROJECT}.late wrote"):
        register_model(*about, found.run_id)
    assert read_origins(shop, PROJECT, "late", run_id=found.run_id) == written


def test_a_run_whose_files_nobody_noted_is_trained_again(shop):
    about = shop.with_(lineage=Lineage(run="not noted")), PROJECT, "late", training_set(shop, "late")
    first = train_model(*about)
    table = DeltaTable(shop.addresses.readable(f"{PROJECT}.model_origins"))
    table.delete(f"run_id = '{first.run_id}'")
    second = train_model(*about)
    assert second.run_id != first.run_id
    assert train_model(*about).run_id == second.run_id


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
    from mlflow import MlflowClient

    with pytest.raises(TrainingError, match=message):
        train_model(shop, PROJECT, model, training_set(shop, model))
    client = MlflowClient()
    experiment = client.get_experiment_by_name(f"{PROJECT}.{model}").experiment_id
    assert [run.info.status for run in client.search_runs([experiment])] == ["FAILED"]


def test_only_models_of_this_mlflow_are_loaded(shop, trained, registered):
    with pytest.raises(ScoringError, match="no model of this workspace"):
        load_scorer_from(shop, "/tmp/somewhere")
    with pytest.raises(ScoringError, match="cannot be read"):
        load_scorer(shop, registered.name, 99)


def test_without_mlflow_the_error_says_so(shop, monkeypatch):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    gone = shop.with_(connections=replace(shop.resolved, mlflow_uri="http://127.0.0.1:9"))
    with pytest.raises(ServiceError, match="MLflow at http://127.0.0.1:9 did not answer"):
        train_model(gone, PROJECT, "late", training_set(shop, "late"))
    with pytest.raises(ServiceError, match="MLflow at http://127.0.0.1:9 did not answer"):
        load_scorer(gone, f"{PROJECT}.late", 1)
    shop.mlflow()
