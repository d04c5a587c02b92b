"""A synthetic project with numbers, whole numbers, strings and nulls, whose models are trained on a real MLflow."""

import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from deltalake import write_deltalake
from mlflow import MlflowClient
from mlflow.entities import Run

from penstock.features.training_set import TrainingSet
from penstock.training.evaluate import evaluate_model
from penstock.training.explain import explain_model
from penstock.training.profile import profile_model
from penstock.training.register import RegisteredVersion, register_model
from penstock.training.scoring import load_scorer_from
from penstock.training.train import train_model
from penstock.training.trained_model import TrainedModel
from penstock.workspace import Connections, Lineage, Workspace

PROJECT = f"shop_{uuid.uuid4().hex[:8]}"  # the registry may be shared with others
ROWS = 4_000
AS_OF = "2024-04-01T00:00:00Z"
FEATURES = ["channel", "items", "amount", "region"]

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


@pytest.fixture(scope="package")
def orders_shop(stack: Connections, repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workspace]:
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


@pytest.fixture(scope="module")
def shop(orders_shop: Workspace) -> Workspace:
    """The project's workspace."""
    return orders_shop


def forget(workspace: Workspace) -> None:
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


def limited(workspace: Workspace, **limits: object) -> Workspace:
    """The same with other limits of the environment."""
    changed = workspace.environment.limits.model_copy(update=limits)
    return workspace.with_(environment=workspace.environment.model_copy(update={"limits": changed}))


def same_predictions(workspace: Workspace, one: TrainedModel, other: TrainedModel) -> None:
    """Two models say the same about all rows."""
    frame = orders(SPEC["models"][one.model]["training"]["task"])
    answers = [load_scorer_from(workspace, made.model_uri).predict(frame) for made in (one, other)]
    np.testing.assert_array_equal(*answers)


@pytest.fixture(scope="module")
def trained(shop: Workspace) -> TrainedModel:
    return train_model(shop, PROJECT, "late", training_set(shop, "late"))


@pytest.fixture(scope="module")
def registered(shop: Workspace, trained: TrainedModel) -> RegisteredVersion:
    for step in (evaluate_model, explain_model, profile_model):
        step(shop, PROJECT, "late", trained.run_id)
    return register_model(shop, PROJECT, "late", trained.run_id)


@pytest.fixture(scope="module")
def run(trained: TrainedModel) -> Run:
    """The run of `trained`, as training left it."""
    return MlflowClient().get_run(trained.run_id)
