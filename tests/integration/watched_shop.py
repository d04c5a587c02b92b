"""A shop whose orders are predicted and come back as a test wants it: what monitoring and retraining look at."""

import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from penstock.lakehouse.records import record
from penstock.lakehouse.small_tables import append_once, create_if_missing, read, to_arrow
from penstock.monitoring.monitor import MonitoringReport, monitor
from penstock.monitoring.retraining import decide_retraining
from penstock.profiles import build_profile
from penstock.registry.client import RegisteredModel
from penstock.spec.project import Column, ColumnType
from penstock.workspace import Workspace

FIRST = datetime(2020, 5, 1, tzinfo=UTC)
MAY, JUNE = (datetime(2020, month, 1, tzinfo=UTC) for month in (6, 7))  # as_of: the ends of these months
ROWS = 2000
PROMISED = {"log_loss": 0.62, "mean_gap": 0.0}

ENVIRONMENT = {
    "name": "dev",
    "description": "for tests",
    "lakehouse": {"root": "unused"},
    "schedules": False,
    "approval": {"mode": "automatic"},
}
METRICS = """
def mean_gap(label, prediction):
    return float(abs(label.mean() - prediction.mean()))
"""
SHOP_DAILY = """
SELECT shop, date_trunc('DAY', placed_at) + INTERVAL 1 DAY AS event_time, CAST(count(*) AS DOUBLE) AS shop_orders
FROM orders GROUP BY ALL
"""
PREDICTIONS = {
    "shop": "string", "order_id": "bigint", "prediction_time": "timestamp", "amount": "double", "channel": "string",
    "shop_orders": "double", "prediction": "double", "model_version": "int", "as_of": "timestamp",
    "scored_at": "timestamp", "run": "string",
}  # fmt: skip


def declaration(name: str) -> dict:
    return {
        "name": name,
        "description": "Orders that come back.",
        "owner": "shop@example.com",
        "sources": {
            "orders": {
                "description": "Orders.",
                "primary_keys": ["shop", "order_id"],
                "available_at": "placed_at",
                "columns": {
                    "shop": "string", "order_id": "bigint", "placed_at": "timestamp", "amount": "double",
                    "channel": "string",
                },
            },
            "returns": {
                "description": "What came back.",
                "primary_keys": ["shop", "order_id"],
                "available_at": "known_at",
                "columns": {"shop": "string", "order_id": "bigint", "items_back": "int", "known_at": "timestamp"},
            },
        },
        "feature_tables": {
            "shop_daily": {
                "description": "Orders of a shop in a day.",
                "primary_keys": ["shop"],
                "inputs": ["orders"],
                "sql": "shop_daily.sql",
                "columns": {"shop": "string", "event_time": "timestamp", "shop_orders": "double"},
            },
        },
        "models": {
            "comes_back": {
                "description": "Whether an order comes back.",
                "entity": {
                    "table": "orders", "keys": ["shop", "order_id"], "prediction_time": "placed_at",
                    "features": ["amount", "channel"],
                },
                "label": {"name": "back", "table": "returns", "expression": "items_back > 0"},
                "lookups": [
                    {"table": "shop_daily", "keys": {"shop": "shop"}, "features": ["shop_orders"], "max_age": "3d"}
                ],
                "training": {
                    "function": "models.train", "metric": "log_loss", "metrics": {"mean_gap": "metrics.mean_gap"},
                    "lower_is_better": ["mean_gap"],
                },
                "promotion": {"metric": "log_loss"},
                "monitoring": {
                    "features": {"method": "psi", "threshold": 0.2},
                    "prediction": {"method": "psi", "threshold": 0.1},
                    "quality": [{"metric": "log_loss", "tolerance": 0.05}, {"metric": "mean_gap", "tolerance": 0.1}],
                    "minimum_rows": 200,
                },
                "retraining": {"minimum_labelled_rows": 1000, "cool_down": "14d"},
            }
        },
    }  # fmt: skip


@dataclass
class Shop:
    """A project whose orders are predicted, and whose parcels come back, as a test wants it."""

    workspace: Workspace
    project: str
    model: str = "comes_back"
    spec: dict = field(default_factory=dict)
    next_id: int = 0

    @property
    def name(self) -> str:
        return f"{self.project}.{self.model}"

    def change(self, *path: str, value: object) -> None:
        """Changes one entry of the model's declaration."""
        part = self.spec["models"][self.model]
        for key in path[:-1]:
            part = part[key]
        part[path[-1]] = value
        self.save()

    def save(self) -> None:
        folder = self.workspace.root / "include" / "projects" / self.project
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "project.yaml").write_text(yaml.safe_dump(self.spec))
        (folder / "metrics.py").write_text(METRICS)
        (folder / "models.py").write_text("def train(training, tuning, parameters): ...\n")
        (folder / "shop_daily.sql").write_text(SHOP_DAILY)

    def orders(self, start: datetime, end: datetime, rows: int = ROWS, shift: float = 0.0) -> pd.DataFrame:
        """Orders spread over (start, end], whose chance to come back grows with the amount."""
        random = np.random.default_rng(self.next_id + 1)
        ids = np.arange(self.next_id, self.next_id + rows)
        self.next_id += rows
        amount = random.normal(50 + shift, 10, rows)
        return pd.DataFrame(
            {
                "shop": random.choice(["north", "south"], rows),
                "order_id": ids,
                "prediction_time": pd.date_range(start, end, periods=rows + 1)[1:].as_unit("us"),
                "amount": amount,
                "channel": random.choice(["web", "phone", "shop"], rows, p=[0.6, 0.3, 0.1]),
                "shop_orders": random.poisson(100, rows).astype(float),
                "prediction": 1 / (1 + np.exp(-(amount - 50) / 10)),
            }
        )

    def score(self, frame: pd.DataFrame, as_of: datetime, version: int = 1) -> pd.DataFrame:
        """Appends predictions, the orders themselves, and their shops' features."""
        scored = frame.assign(model_version=version, as_of=as_of, scored_at=as_of, run="test")
        self.append(f"{self.model}_predictions", PREDICTIONS, scored, as_of)
        columns = self.spec["sources"]["orders"]["columns"]
        self.append("orders", columns, frame.rename(columns={"prediction_time": "placed_at"}), as_of)
        columns = self.spec["feature_tables"]["shop_daily"]["columns"]
        daily = pd.DataFrame({"shop": ["north"], "event_time": [as_of], "shop_orders": [100.0]})
        self.append("shop_daily", columns, daily, as_of)
        return scored

    def label(self, frame: pd.DataFrame, known_at: datetime, flipped: bool = False) -> None:
        """Appends the truth that the predictions promise, or its opposite."""
        random = np.random.default_rng(len(frame))
        chance = 1 - frame["prediction"] if flipped else frame["prediction"]
        back = (random.random(len(frame)) < chance).astype("int32")
        rows = frame[["shop", "order_id"]].assign(items_back=back, known_at=known_at)
        self.append("returns", self.spec["sources"]["returns"]["columns"], rows, known_at)

    def append(self, table: str, columns: dict, frame: pd.DataFrame, as_of: datetime) -> None:
        path = self.workspace.addresses.writable(f"{self.project}.{table}")
        types = {name: ColumnType(kind) for name, kind in columns.items()}
        create_if_missing(path, {n: Column(type=t) for n, t in types.items()}, keys=[], description=table)
        append_once(path, to_arrow(frame, types, table), record(as_of), f"test:{uuid.uuid4()}", 1, None)

    def register(
        self, frame: pd.DataFrame, trained_as_of: datetime = FIRST, profile: bool = True, production: bool = True
    ) -> int:
        """Registers a version with the profile of its training data, and puts it into production."""
        import mlflow

        self.workspace.mlflow()
        mlflow.set_experiment(self.name)
        with mlflow.start_run() as run:
            if profile:
                features = frame[["amount", "channel", "shop_orders"]]
                built = build_profile(features, prediction=frame["prediction"], metrics=PROMISED)
                mlflow.log_text(built.to_json(), "profile.json")
            else:
                mlflow.log_text("nothing", "other.txt")
        client = mlflow.MlflowClient()
        if not client.search_registered_models(f"name='{self.name}'"):
            client.create_registered_model(self.name)
        tags = {
            "penstock.as_of": trained_as_of.isoformat(),
            "penstock.trained_until": (trained_as_of - timedelta(days=28)).isoformat(),
        }
        made = client.create_model_version(
            self.name, f"{run.info.artifact_uri}/model", run_id=run.info.run_id, tags=tags
        )
        if production:
            RegisteredModel(self.workspace, self.project, self.model).move_alias("production", int(made.version))
        return int(made.version)

    def monitor(self, as_of: datetime) -> MonitoringReport:
        return monitor(self.workspace, self.project, self.model, as_of)

    def decide(self, as_of: datetime):
        return decide_retraining(self.workspace, self.project, self.model, as_of)

    def table(self, name: str) -> pd.DataFrame:
        path = self.workspace.addresses.find(f"{self.project}.{name}")
        return pd.DataFrame() if path is None else read(path)

    def state(self) -> dict[str, pd.DataFrame]:
        """The tables of monitoring without wall-clock columns, in one order."""
        keys = ["model", "model_version", "window_end", "kind", "column", "metric"]
        return {
            name: self.table(name)
            .drop(columns=["computed_at", "raised_at", "run"], errors="ignore")
            .sort_values(keys, ignore_index=True)
            for name in ("monitoring_metrics", "alerts")
        }


@pytest.fixture
def shop(make_workspace: Callable[..., Workspace], tmp_path: Path) -> Shop:
    environments = tmp_path / "include" / "environments"
    environments.mkdir(parents=True)
    (environments / "dev.yaml").write_text(yaml.safe_dump(ENVIRONMENT))
    name = f"shop_{uuid.uuid4().hex[:8]}"
    found = Shop(make_workspace(tmp_path), name, spec=declaration(name))
    found.save()
    return found


@pytest.fixture
def promoted(shop: Shop) -> Shop:
    """A version in production, which has predicted nothing yet."""
    shop.register(shop.orders(FIRST - timedelta(days=60), FIRST, 5000))
    return shop


@pytest.fixture
def calm(promoted: Shop) -> Shop:
    """A month of predictions and labels like those that the version was trained on."""
    promoted.label(promoted.score(promoted.orders(FIRST, MAY), MAY), MAY)
    return promoted


@pytest.fixture
def failing(promoted: Shop) -> Shop:
    """A month of predictions that came out the other way round, and was monitored."""
    promoted.label(promoted.score(promoted.orders(FIRST, MAY), MAY), MAY, flipped=True)
    promoted.monitor(MAY)
    return promoted


def alerts_of(report: MonitoringReport) -> set[tuple[str, str, str]]:
    return {(row.kind, row.column, row.metric) for row in report.alerts}
