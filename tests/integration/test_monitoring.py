"""Monitoring and retraining decisions on real Delta tables, with a real Spark and a real MLflow registry."""

import json
import uuid
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from penstock.errors import NothingToDo, TableError
from penstock.lakehouse.records import record
from penstock.lakehouse.small_tables import append_once, create_if_missing, read, to_arrow
from penstock.monitoring.metric_rows import Measurement
from penstock.monitoring.monitor import (
    WindowReference,
    ingest_logs,
    measure_drift,
    measure_infrastructure,
    measure_quality,
    monitor,
    publish,
)
from penstock.monitoring.retraining import decide_retraining
from penstock.profiles import build_profile
from penstock.registry.client import RegisteredModel
from penstock.spec.project import Column, ColumnType
from penstock.workspace import Workspace

FIRST = datetime(2020, 5, 1, tzinfo=UTC)
MAY, JUNE, JULY = (datetime(2020, month, 1, tzinfo=UTC) for month in (6, 7, 8))
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

    def register(self, frame: pd.DataFrame, trained_as_of: datetime = FIRST, profile: bool = True) -> int:
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
        RegisteredModel(self.workspace, self.project, self.model).move_alias("production", int(made.version))
        return int(made.version)

    def monitor(self, as_of: datetime):
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
def calm(shop: Shop) -> Shop:
    """A version in production, and a month of predictions and labels like those that it was trained on."""
    shop.register(shop.orders(FIRST - timedelta(days=60), FIRST, 5000))
    shop.label(shop.score(shop.orders(FIRST, MAY), MAY), MAY)
    return shop


def alerts_of(report) -> set[tuple[str, str, str]]:
    return {(row.kind, row.column, row.metric) for row in report.alerts}


def same(before: dict[str, pd.DataFrame], after: dict[str, pd.DataFrame]) -> None:
    for name, frame in before.items():
        pd.testing.assert_frame_equal(frame, after[name], obj=name)


def test_a_calm_month_gives_figures_and_no_alert(calm: Shop):
    report = calm.monitor(MAY)
    assert report.alerts == []
    assert (report.rows, report.labelled_rows, report.baseline_versions) == (ROWS, ROWS, [1])
    assert report.window == ("2020-05-01T00:00:00Z", "2020-06-01T00:00:00Z")
    table = calm.table("monitoring_metrics")
    assert set(table["kind"]) == {"feature_drift", "missing", "prediction_drift", "quality", "volume", "freshness"}
    figures = {(row.kind, row.column, row.metric): row for row in table.itertuples()}
    assert figures["quality", "", "label_coverage"].value == 1.0
    log_loss = figures["quality", "", "log_loss"]
    assert log_loss.baseline == 0.62
    assert log_loss.threshold == pytest.approx(0.67)
    assert figures["quality", "", "mean_gap"].value < 0.05
    assert figures["freshness", "shop_daily", "age_hours"].threshold == 72
    assert figures["volume", "", "rows"].value == ROWS
    assert set(table["model"]) == {"comes_back"}
    assert calm.table("alerts").empty


def test_figures_equal_an_independent_computation(calm: Shop):
    calm.monitor(MAY)
    predictions, labels = calm.table("comes_back_predictions"), calm.table("returns")
    joined = predictions.merge(labels, on=["shop", "order_id"])
    late = (joined["items_back"] > 0).to_numpy(dtype=float)
    expected = -np.mean(late * np.log(joined["prediction"]) + (1 - late) * np.log(1 - joined["prediction"]))
    table = calm.table("monitoring_metrics").set_index(["kind", "column", "metric"])["value"]
    assert table["quality", "", "log_loss"] == pytest.approx(expected, rel=1e-9)
    assert table["prediction_drift", "", "mean"] == pytest.approx(predictions["prediction"].mean(), rel=1e-9)


def test_drift_bad_quality_and_missing_values_are_alerts_with_a_message(shop: Shop):
    shop.register(shop.orders(FIRST - timedelta(days=60), FIRST, 5000))
    drifted = shop.orders(FIRST, MAY, shift=15)
    drifted.loc[::3, "shop_orders"] = np.nan
    shop.label(shop.score(drifted, MAY), MAY, flipped=True)
    report = shop.monitor(MAY)
    assert alerts_of(report) == {
        ("feature_drift", "amount", "psi"),
        ("missing", "shop_orders", "missing_share"),
        ("prediction_drift", "", "psi"),
        ("quality", "", "log_loss"),
        ("quality", "", "mean_gap"),
    }
    messages = shop.table("alerts").set_index(["kind", "column"])["message"]
    assert (
        "shop_orders is missing in 33.4% of the predictions, 0.0% in training"
        in messages["missing", "shop_orders"].item()
    )


def test_a_window_starts_where_the_last_one_ended(calm: Shop):
    calm.monitor(MAY)
    calm.label(calm.score(calm.orders(MAY, JUNE), JUNE), JUNE)
    report = calm.monitor(JUNE)
    assert report.window == ("2020-06-01T00:00:00Z", "2020-07-01T00:00:00Z")
    volume = calm.table("monitoring_metrics").query("kind == 'volume' and metric == 'rows'")
    assert volume["rows"].tolist() == [ROWS, ROWS]
    per_day = [row for row in report.metrics if row.metric == "rows_per_day"]
    assert per_day[0].baseline == pytest.approx(ROWS / 31)


def test_monitoring_that_runs_ahead_of_inference_leaves_nothing_out(calm: Shop):
    assert calm.monitor(MAY + timedelta(days=10)).window[1] == "2020-06-01T00:00:00Z"
    calm.score(calm.orders(MAY, JUNE), JUNE)
    assert calm.monitor(JUNE).rows == ROWS


def test_what_became_available_after_as_of_is_not_read(calm: Shop):
    calm.label(calm.score(calm.orders(MAY, JUNE), JUNE), JUNE)
    report = calm.monitor(MAY + timedelta(days=1))
    assert (report.rows, report.labelled_rows) == (ROWS, ROWS)


def test_again_is_the_same(calm: Shop):
    calm.monitor(MAY)
    before = calm.state()
    report = calm.monitor(MAY)
    same(before, calm.state())
    assert report.rows == ROWS


@pytest.mark.parametrize("killed_after", ["alerts", "metrics"])
def test_a_run_that_was_killed_between_its_writes_ends_the_same(shop: Shop, monkeypatch, killed_after: str):
    import penstock.lakehouse.small_tables as small_tables

    shop.register(shop.orders(FIRST - timedelta(days=60), FIRST, 5000))
    shop.score(shop.orders(FIRST, MAY, shift=15), MAY)
    write, done = small_tables.write_system_rows, []

    def killed(path, table, rows, commit):
        write(path, table, rows, commit)
        done.append(table)
        if len(done) == (1 if killed_after == "alerts" else 2):
            raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(small_tables, "write_system_rows", killed)
        with pytest.raises(KeyboardInterrupt):
            shop.monitor(MAY)
    # the window grows before the run comes again
    shop.score(shop.orders(MAY, JUNE, shift=15), JUNE)
    shop.monitor(JUNE)
    ends = {"alerts": [JUNE], "metrics": [MAY, JUNE]}[killed_after]
    for frame in shop.state().values():
        assert sorted(set(frame["window_end"])) == ends


def test_late_labels_are_judged_again_with_the_window_that_they_belong_to(shop: Shop):
    shop.register(shop.orders(FIRST - timedelta(days=60), FIRST, 5000))
    may = shop.score(shop.orders(FIRST, MAY), MAY)
    shop.label(may.iloc[:100], MAY)
    report = shop.monitor(MAY)
    assert report.labelled_rows == 100
    assert any("fewer than minimum_rows 200" in note for note in report.notes)
    shop.label(may.iloc[100:], MAY + timedelta(days=5), flipped=True)
    shop.score(shop.orders(MAY, JUNE), JUNE)
    report = shop.monitor(JUNE)
    assert report.labelled_rows == 0
    quality = shop.table("monitoring_metrics").query("kind == 'quality' and metric == 'label_coverage'")
    assert quality.sort_values("window_end")["labelled_rows"].tolist() == [ROWS, 0]
    alerts = shop.table("alerts").query("kind == 'quality'")
    assert set(alerts["window_end"]) == {MAY}


def test_labels_alone_bring_the_last_window_back(shop: Shop):
    shop.register(shop.orders(FIRST - timedelta(days=60), FIRST, 5000))
    may = shop.score(shop.orders(FIRST, MAY), MAY)
    assert shop.monitor(MAY).labelled_rows == 0
    shop.label(may, MAY + timedelta(days=2))
    report = shop.monitor(MAY + timedelta(days=3))
    assert (report.window[1], report.labelled_rows) == ("2020-06-01T00:00:00Z", ROWS)
    with pytest.raises(NothingToDo, match="nothing new since"):
        shop.monitor(MAY + timedelta(days=4))


def test_an_alert_that_no_longer_holds_disappears(shop: Shop):
    shop.register(shop.orders(FIRST - timedelta(days=60), FIRST, 5000))
    shop.score(shop.orders(FIRST, MAY, shift=15), MAY)
    assert ("feature_drift", "amount", "psi") in alerts_of(shop.monitor(MAY))
    shop.change("monitoring", "features", "threshold", value=50.0)
    shop.monitor(MAY)
    assert set(shop.table("alerts")["kind"]) == {"prediction_drift"}
    metrics = shop.table("monitoring_metrics").query("kind == 'feature_drift' and column == 'amount'")
    assert metrics[["threshold", "alert"]].to_numpy().tolist() == [[50.0, False]]


def test_another_method_replaces_the_figures_of_the_old_one(calm: Shop):
    calm.monitor(MAY)
    calm.change("monitoring", "features", value={"method": "wasserstein", "threshold": 0.3})
    report = calm.monitor(MAY)
    drift = calm.table("monitoring_metrics").query("kind == 'feature_drift'")
    assert set(zip(drift["column"], drift["metric"], strict=True)) == {
        ("amount", "wasserstein"),
        ("shop_orders", "wasserstein"),
    }
    assert any("channel" in note and "needs numbers" in note for note in report.notes)


def test_few_rows_give_figures_without_alerts_and_a_reason(shop: Shop):
    shop.register(shop.orders(FIRST - timedelta(days=60), FIRST, 5000))
    shop.score(shop.orders(FIRST, MAY, rows=150, shift=30), MAY)
    report = shop.monitor(MAY)
    assert report.alerts == []
    assert any("150 predictions are fewer than minimum_rows 200" in note for note in report.notes)
    assert any(row.kind == "feature_drift" and row.value > 1 for row in report.metrics)


def test_two_versions_in_a_window_are_held_against_their_own_baselines(calm: Shop):
    calm.monitor(MAY)
    calm.score(calm.orders(MAY, MAY + timedelta(days=10), shift=15), MAY + timedelta(days=10), version=1)
    assert calm.register(calm.orders(FIRST, MAY, 5000, shift=15), MAY) == 2
    calm.score(calm.orders(MAY + timedelta(days=10), JUNE, shift=15), JUNE, version=2)
    report = calm.monitor(JUNE)
    assert report.baseline_versions == [1, 2]
    drifted = {row.model_version for row in report.alerts if row.kind == "feature_drift"}
    assert drifted == {1}


def test_without_predictions_there_is_nothing_to_do(shop: Shop):
    with pytest.raises(NothingToDo, match="nothing was predicted yet"):
        shop.monitor(MAY)


def test_an_earlier_as_of_writes_nothing_and_says_so(calm: Shop):
    calm.monitor(MAY)
    before = calm.state()
    with pytest.raises(NothingToDo, match="is monitored as of 2020-06-01T00:00:00Z"):
        calm.monitor(MAY - timedelta(days=1))
    same(before, calm.state())


def test_a_version_without_a_profile_is_named(shop: Shop):
    shop.register(shop.orders(FIRST, MAY), profile=False)
    shop.score(shop.orders(FIRST, MAY), MAY)
    with pytest.raises(TableError, match=r"version 1: its MLflow run has no profile\.json"):
        shop.monitor(MAY)


def test_the_steps_travel_as_small_json(calm: Shop):
    workspace = calm.workspace

    def travel(value):
        text = json.dumps(asdict(value), allow_nan=False)
        assert len(text) < 30_000
        return json.loads(text)

    reference = WindowReference.from_dict(travel(ingest_logs(workspace, calm.project, calm.model, MAY)))
    steps = (measure_drift, measure_quality, measure_infrastructure)
    measured = [Measurement.from_dict(travel(step(workspace, reference))) for step in steps]
    travel(publish(workspace, reference, measured))
    apart = calm.state()
    calm.monitor(MAY)
    same(apart, calm.state())


def test_the_report_is_one_file_with_charts(calm: Shop):
    calm.monitor(MAY)
    calm.score(calm.orders(MAY, JUNE, shift=15), JUNE)
    path = Path(calm.monitor(JUNE).report)
    root = Path(calm.workspace.environment.lakehouse.root)
    assert path == root / calm.project / "_reports" / calm.model / "monitoring" / "2020-07-01T000000Z.html"
    page = path.read_text()
    assert page.count("<svg") >= 4
    assert "the prediction drifted" in page
    assert "src=" not in page
    assert "<script" not in page


def test_bad_quality_retrains_and_the_figures_say_why(shop: Shop):
    shop.register(shop.orders(FIRST - timedelta(days=60), FIRST, 5000))
    shop.label(shop.score(shop.orders(FIRST, MAY), MAY), MAY, flipped=True)
    shop.monitor(MAY)
    decision = shop.decide(MAY)
    assert decision.decision == "retrain"
    assert any("log_loss" in reason and "promised 0.6200" in reason for reason in decision.reasons)
    row = shop.table("retraining_decisions").iloc[0]
    assert (row["decision"], row["production_version"]) == ("retrain", 1)
    assert json.loads(row["evidence"])["facts"]["new_labelled_rows"] == ROWS
    assert json.loads(row["reasons"]) == decision.reasons


@pytest.mark.parametrize(
    ("path", "value", "decision"),
    [
        (("retraining", "minimum_labelled_rows"), ROWS + 1, "hand_back"),
        (("retraining", "cool_down"), "90d", "no"),
        (("retraining", "mode"), "manual", "hand_back"),
        (("monitoring", "quality"), [{"metric": "log_loss", "tolerance": 5.0}], "no"),
    ],
)
def test_one_changed_threshold_flips_the_decision_on_the_same_data(shop: Shop, path, value, decision: str):
    shop.register(shop.orders(FIRST - timedelta(days=60), FIRST, 5000))
    shop.label(shop.score(shop.orders(FIRST, MAY), MAY), MAY, flipped=True)
    shop.monitor(MAY)
    assert shop.decide(MAY).decision == "retrain"
    shop.change(*path, value=value)
    shop.monitor(MAY)
    assert shop.decide(MAY).decision == decision
    assert shop.table("retraining_decisions")["decision"].tolist() == [decision]
    handed = shop.table("alerts").query("kind == 'retraining'")
    assert len(handed) == (decision == "hand_back")


def test_a_calm_month_is_decided_too(calm: Shop):
    calm.monitor(MAY)
    assert calm.decide(MAY).decision == "no"
    assert calm.table("retraining_decisions")["decision"].tolist() == ["no"]


def test_without_production_or_monitoring_the_decision_is_no(shop: Shop):
    assert shop.decide(FIRST).decision == "no"
    shop.register(shop.orders(FIRST, MAY))
    decision = shop.decide(MAY)
    assert decision.decision == "no"
    assert "none of its predictions was monitored yet" in decision.reasons[0]


def test_feature_drift_alone_retrains_nothing(calm: Shop):
    drifted = calm.orders(MAY, JUNE)
    drifted["amount"] += 30  # the prediction stays as it was
    calm.label(calm.score(drifted, JUNE), JUNE)
    assert alerts_of(calm.monitor(JUNE)) == {("feature_drift", "amount", "psi")}
    decision = calm.decide(JUNE)
    assert decision.decision == "no"
    assert any("drift of features alone only alerts" in reason for reason in decision.reasons)


def test_no_label_at_all_is_handed_back_with_an_alert(shop: Shop):
    shop.register(shop.orders(FIRST - timedelta(days=60), FIRST, 5000))
    shop.score(shop.orders(FIRST, MAY), MAY)
    shop.monitor(MAY)
    assert shop.decide(MAY).decision == "hand_back"
    alert = shop.table("alerts").query("kind == 'retraining'").iloc[0]
    assert "No label has become known" in alert["message"]


def test_an_open_data_failure_of_a_table_that_the_model_needs_hands_back(shop: Shop):
    from penstock.quality.report import write_report
    from penstock.quality.validation import validate_batch

    shop.register(shop.orders(FIRST - timedelta(days=60), FIRST, 5000))
    shop.label(shop.score(shop.orders(FIRST, MAY), MAY), MAY, flipped=True)
    shop.monitor(MAY)
    columns = {name: Column(type=kind) for name, kind in shop.spec["sources"]["orders"]["columns"].items()}
    broken = pd.DataFrame({"shop": ["north"]})
    result = validate_batch(broken, None, ["shop", "order_id"], f"{shop.project}.orders", columns)
    assert not result.passed
    write_report(shop.workspace, shop.project, "orders", result, MAY)
    decision = shop.decide(MAY)
    assert decision.decision == "hand_back"
    assert "orders as of 2020-06-01T00:00:00Z" in decision.reasons[0]


def test_a_decision_that_led_to_a_new_version_stands(shop: Shop):
    shop.register(shop.orders(FIRST - timedelta(days=60), FIRST, 5000))
    shop.label(shop.score(shop.orders(FIRST, MAY), MAY), MAY, flipped=True)
    shop.monitor(MAY)
    shop.decide(MAY)
    assert shop.decide(MAY).decision == "retrain"  # killed before the training: again is the same
    shop.register(shop.orders(FIRST, MAY), MAY)
    with pytest.raises(NothingToDo, match="version 2 is in production now"):
        shop.decide(MAY)
    with pytest.raises(NothingToDo, match="decided as of"):
        shop.decide(MAY - timedelta(days=1))
    assert shop.table("retraining_decisions")["decision"].tolist() == ["retrain"]
    # the old version's alerts say nothing about the new one
    decision = shop.decide(MAY + timedelta(days=1))
    assert decision.decision == "no"
    assert "Version 2 is in production, but none of its predictions was monitored yet" in decision.reasons[0]


def test_an_earlier_decision_to_retrain_starts_the_cool_down(shop: Shop):
    shop.register(shop.orders(FIRST - timedelta(days=60), FIRST, 5000))
    shop.label(shop.score(shop.orders(FIRST, MAY), MAY), MAY, flipped=True)
    shop.monitor(MAY)
    assert shop.decide(MAY).decision == "retrain"
    later = MAY + timedelta(days=7)
    shop.label(shop.score(shop.orders(MAY, later), later), later, flipped=True)
    shop.monitor(later)
    decision = shop.decide(later)
    assert decision.decision == "no"
    assert "cool-down of 14 days holds until 2020-06-15T00:00:00Z" in decision.reasons[-1]
