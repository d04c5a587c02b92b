"""Two trained versions go through compliance, comparison, promotion, rejection and rollback."""

import json
import shutil
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from penstock.clock import to_text
from penstock.errors import GateError, NothingToDo, RegistryError, ServiceError
from penstock.gates import Outcome
from penstock.lakehouse.records import record
from penstock.lakehouse.small_tables import arrow_schema, read, upsert
from penstock.monitoring.follow_up import follow_up_promotion
from penstock.registry import client, settling
from penstock.registry.audit import AuditLog
from penstock.registry.comparison import compare_with_production
from penstock.registry.compliance import check_compliance
from penstock.registry.deployments import repair
from penstock.registry.freezing import allow
from penstock.registry.promotion import (
    decide_automatic,
    first_promotion_as_of,
    follow_up,
    production_since,
    promised_metrics,
    promote,
    reject,
    rollback,
    stage_after_compliance,
)
from penstock.registry.stages import Stage, current_production, stage_of, versions
from penstock.spec.project import ColumnType
from penstock.workspace import Connections, Workspace
from tests.integration.promised import publish_window

START = datetime(2020, 1, 1, tzinfo=UTC)
FIRST, SECOND = START + timedelta(days=60), START + timedelta(days=110)
TURN = START + timedelta(days=62)  # what `load` means for a breakdown turns around here
TEMPLATE, MODEL = "", "breaks"

PROJECT = """
name: NAME
description: Machines that break down.
owner: machines@example.com
sources:
  jobs:
    description: Jobs of machines.
    primary_keys: [machine, job]
    available_at: known_at
    columns: {machine: string, job: bigint, start: timestamp, kind: string, load: double, known_at: timestamp}
  outcomes:
    description: What became of the jobs.
    primary_keys: [machine, job]
    available_at: known_at
    columns: {machine: string, job: bigint, broke: boolean, known_at: timestamp}
feature_tables:
  machine_daily:
    description: Of each machine and day.
    primary_keys: [machine]
    inputs: [outcomes]
    sql: features/machine_daily.sql
    columns: {machine: string, event_time: timestamp, heat: double}
models:
  breaks:
    description: The probability that a job breaks the machine down.
    limits: Not for machines of glass.
    entity: {table: jobs, keys: [machine, job], prediction_time: start, features: [kind, load]}
    label: {name: broke, table: outcomes, expression: broke}
    lookups:
      - {table: machine_daily, keys: {machine: machine}, features: [heat]}
    training:
      function: models.trees.train
      metric: log_loss
      window: 50d
      tune: 7d
      hold_out: 7d
      trials: 1
      parameters: {learning_rate: 0.2}
      requirements: [lightgbm]
    promotion:
      metric: log_loss
      minimum_rows: 100
      first_bounds: {roc_auc: {min: 0.55}}
      required_tags: [penstock.project, penstock.as_of, penstock.code]
"""
TREES = """
import lightgbm

def train(training, tuning, parameters):
    chosen = {"objective": "binary", "verbosity": -1, "num_threads": 1, "deterministic": True, **parameters}
    data = lightgbm.Dataset(training.features, training.label)
    return lightgbm.train(chosen, data, num_boost_round=15)
"""
ENVIRONMENT = """
name: dev
description: for tests
lakehouse: {root: unused}
schedules: false
approval: {mode: automatic}
"""


def _write_project(root: Path, name: str, edit: Callable[[dict], None] = lambda spec: None) -> Path:
    folder = root / "include" / "projects" / name
    (folder / "models").mkdir(parents=True, exist_ok=True)
    (folder / "features").mkdir(exist_ok=True)
    spec = yaml.safe_load(PROJECT.replace("NAME", name))
    edit(spec)
    (folder / "project.yaml").write_text(yaml.safe_dump(spec, sort_keys=False))
    (folder / "models" / "trees.py").write_text(TREES)
    (folder / "features" / "machine_daily.sql").write_text("SELECT 1")
    (root / "include" / "environments").mkdir(exist_ok=True)
    (root / "include" / "environments" / "dev.yaml").write_text(ENVIRONMENT)
    return folder


def _machine_data() -> dict[str, pd.DataFrame]:
    chance = np.random.default_rng(5)
    n = 6000
    start = pd.Timestamp(START) + pd.to_timedelta(np.sort(chance.uniform(0, 120 * 86400, n)), unit="s")
    start = start.floor("us")
    machine = chance.choice(["a", "b", "c", "d"], n)
    load, kind = chance.normal(size=n), chance.choice(["old", "new"], n)
    days = pd.date_range(START, periods=121, freq="D")
    heat = pd.DataFrame(
        [(m, day, float(chance.normal())) for m in "abcd" for day in days], columns=["machine", "event_time", "heat"]
    )
    jobs = pd.DataFrame({"machine": machine, "job": range(n), "start": start, "kind": kind, "load": load})
    jobs["known_at"] = jobs.start - pd.Timedelta(days=1)
    newest = heat.sort_values("event_time")
    felt = pd.merge_asof(jobs, newest, left_on="start", right_on="event_time", by="machine").heat
    turn = np.where(start < pd.Timestamp(TURN), 1.0, -1.0)
    logit = 1.5 * turn * load + 0.8 * felt + np.where(kind == "old", 0.5, -0.5)
    outcomes = jobs[["machine", "job"]].copy()
    outcomes["broke"] = chance.uniform(size=n) < 1 / (1 + np.exp(-logit))
    outcomes["known_at"] = jobs.start + pd.Timedelta(hours=6)
    return {"jobs": jobs, "outcomes": outcomes, "machine_daily": heat}


def _write_table(path: str, frame: pd.DataFrame, columns: dict[str, str]) -> None:
    import pyarrow as pa
    from deltalake import DeltaTable

    schema = arrow_schema({name: ColumnType(kind) for name, kind in columns.items()})
    DeltaTable.create(path, schema)
    arrow = pa.Table.from_pandas(frame[list(columns)], schema=schema, preserve_index=False)
    upsert(path, arrow, ["machine", next(n for n in ("job", "event_time") if n in columns)], record(SECOND))


@dataclass
class Trained:
    """Finished runs, with what registering them needs."""

    root: Path
    lakehouse: Path
    project: str
    data: dict[str, pd.DataFrame]
    versions: dict[str, object]  # name -> mlflow ModelVersion registered by penstock.training

    def uri(self, name: str) -> str:
        return f"models:/{self.project}.{MODEL}/{self.versions[name].version}"


@pytest.fixture(scope="module")
def trained(stack: Connections, tmp_path_factory) -> Iterator[Trained]:
    """Runs `first` (before the turn), `second` (after it) and `lean` (as second, without lookups)."""
    import mlflow

    from penstock.features.training_set import build_training_set
    from penstock.training.evaluate import evaluate_model
    from penstock.training.explain import explain_model
    from penstock.training.profile import profile_model
    from penstock.training.register import register_model
    from penstock.training.train import train_model

    root, project = tmp_path_factory.mktemp("trained"), f"machines_{uuid.uuid4().hex[:8]}"
    _write_project(root, project)
    workspace = _open(root, root / "lakehouse", stack)
    spec, data = workspace.project(project).spec, _machine_data()
    for name, frame in data.items():
        declared = (spec.sources.get(name) or spec.feature_tables[name]).columns
        path = workspace.addresses.writable(f"{project}.{name}")
        _write_table(path, frame, {key: str(column.type) for key, column in declared.items()})
    found = {}
    for name, as_of in (("first", FIRST), ("second", SECOND), ("lean", SECOND)):
        if name == "lean":
            _write_project(root, project, lambda spec: spec["models"][MODEL].update(lookups=[]))
        table = build_training_set(workspace, project, MODEL, as_of)
        run = train_model(workspace, project, MODEL, table).run_id
        for step in (evaluate_model, explain_model, profile_model):
            step(workspace, project, MODEL, run)
        registered = register_model(workspace, project, MODEL, run)
        found[name] = client.RegisteredModel(workspace, project, MODEL).version(registered.version)
    yield Trained(root, root / "lakehouse", project, data, found)
    workspace.mlflow()
    api = mlflow.MlflowClient()
    api.delete_registered_model(f"{project}.{MODEL}")
    api.delete_experiment(api.get_experiment_by_name(f"{project}.{MODEL}").experiment_id)


def _open(root: Path, lakehouse: Path, stack: Connections, **changes: object) -> Workspace:
    found = Workspace.open("dev", root)
    place = found.environment.lakehouse.model_copy(update={"root": str(lakehouse)})
    environment = found.environment.model_copy(update={"lakehouse": place, **changes})
    return found.with_(environment=environment, connections=stack)


@dataclass
class Plant:
    """A project of its own, whose registered model gets versions of the trained runs."""

    workspace: Workspace
    project: str
    trained: Trained

    @property
    def about(self) -> tuple:
        return self.workspace, self.project, MODEL

    @property
    def registered(self) -> client.RegisteredModel:
        return client.RegisteredModel(*self.about)

    def edit(self, change: Callable[[dict], None]) -> None:
        _write_project(self.workspace.root, self.project, change)

    def add(self, name: str, *, source: str | None = None, run_id: str | None = None, **changes: object) -> int:
        """Registers a run once more, as penstock.training does; answers the version."""
        import mlflow

        api, found = mlflow.MlflowClient(), self.trained.versions[name]
        given = {"tags": dict(found.tags), "description": found.description, **changes}
        source = source or found.source
        made = api.create_model_version(
            f"{self.project}.{MODEL}", source, run_id=run_id or found.run_id,
            model_id=source.removeprefix("models:/") if source.startswith("models:/") else None, **given,
        )  # fmt: skip
        return int(made.version)

    def add_tampered(
        self, tamper: Callable[[Path], None], tmp_path: Path, name: str = "second", **changes: object
    ) -> int:
        """Registers a run's model with files that were changed."""
        import mlflow

        folder = tmp_path / f"tampered{uuid.uuid4().hex[:4]}"
        local = Path(mlflow.artifacts.download_artifacts(self.trained.uri(name), dst_path=str(folder)))
        tamper(local)
        api = mlflow.MlflowClient()
        run = api.create_run(api.get_experiment_by_name("Default").experiment_id)
        api.log_artifacts(run.info.run_id, str(local), "model")
        return self.add(name, source=f"{run.info.artifact_uri}/model", run_id=run.info.run_id, **changes)

    def through_gates(self, version: int, as_of: datetime = SECOND):
        """The whole of model_promotion; answers both verdicts."""
        compliance = check_compliance(*self.about, version, as_of)
        stage_after_compliance(*self.about, version, compliance, as_of)
        if not compliance.passed:
            return compliance, None
        comparison = compare_with_production(*self.about, version, as_of)
        decision = decide_automatic(self.workspace, comparison)
        act = promote if decision.approved else reject
        act(*self.about, version, decision.decided_by, decision.reason, {"comparison": comparison.to_dict()}, as_of)
        return compliance, comparison

    def comparisons(self) -> pd.DataFrame:
        return read(self.workspace.addresses.readable(f"{self.project}.model_comparisons"))

    @property
    def state(self) -> dict:
        clocks = ["requested_at", "completed_at", "compared_at", "run"]
        frames = {}
        keys = {
            "deployments": ["transition_id"],
            "model_comparisons": ["candidate_version", "as_of", "method", "metric"],
        }
        for table, key in keys.items():
            path = self.workspace.addresses.find(f"{self.project}.{table}")
            if path:
                frame = read(path).sort_values(key, ignore_index=True)
                frames[table] = frame.drop(columns=[c for c in clocks if c in frame]).to_json()
        return {
            "aliases": self.registered.aliases(),
            "versions": {v.version: (dict(v.tags), v.description) for v in self.registered.versions()},
            **frames,
        }

    def stages(self) -> list[str]:
        return [str(v.stage) for v in versions(*self.about)]


@pytest.fixture
def make_plant(trained: Trained, stack: Connections, tmp_path: Path) -> Iterator[Callable[..., Plant]]:
    import mlflow

    made = []

    def make(**environment: object) -> Plant:
        project = f"plant_{uuid.uuid4().hex[:8]}"
        _write_project(tmp_path, project)
        lakehouse = tmp_path / "lakehouse"
        for name in ("jobs", "outcomes", "machine_daily"):
            shutil.copytree(trained.lakehouse / trained.project / name, lakehouse / project / name)
        sets = f"{MODEL}_training_set"
        kept = lakehouse / trained.project / sets
        shutil.copytree(trained.lakehouse / trained.project / sets, kept, dirs_exist_ok=True)
        workspace = _open(tmp_path, lakehouse, stack, **environment)
        workspace.mlflow()
        mlflow.MlflowClient().create_registered_model(f"{project}.{MODEL}")
        made.append(f"{project}.{MODEL}")
        return Plant(workspace, project, trained)

    yield make
    mlflow.set_tracking_uri(stack.mlflow_uri)
    mlflow.set_registry_uri(stack.mlflow_uri)
    for name in made:
        mlflow.MlflowClient().delete_registered_model(name)


@pytest.fixture
def plant(make_plant) -> Plant:
    return make_plant()


def _checks(verdict) -> dict[str, str]:
    return {check.name: str(check.outcome) for check in verdict.checks}


def test_the_first_version_beats_the_heuristic_and_the_second_beats_the_first(plant):
    assert first_promotion_as_of(*plant.about) is None
    assert production_since(*plant.about) is None
    first, second = plant.add("first"), plant.add("second")
    compliance, comparison = plant.through_gates(first, FIRST)
    assert set(_checks(compliance).values()) == {"pass"}, compliance.to_markdown()
    assert compliance.checks[0].name == "loads"
    assert comparison.passed, comparison.to_markdown()
    assert _checks(comparison) == {
        "labelled rows": "pass", "better than heuristic": "pass", "bound on roc_auc": "pass", "other metrics": "pass",
    }  # fmt: skip
    assert current_production(*plant.about) == first
    compliance, comparison = plant.through_gates(second)
    assert comparison.passed, comparison.to_markdown()
    assert _checks(comparison) == {"labelled rows": "pass", "better than production": "pass", "other metrics": "pass"}
    assert "version 1" in comparison.reason
    assert plant.stages() == ["Archived", "Production"]
    assert first_promotion_as_of(*plant.about) == FIRST
    assert production_since(*plant.about) == SECOND
    promised = promised_metrics(*plant.about, second)
    run_metrics = plant.registered.run_metrics(plant.registered.version(second))
    assert promised
    names = ("log_loss", "roc_auc", "average_precision", "brier_score", "accuracy")
    assert promised == {name: run_metrics[name] for name in names}
    done = follow_up(*plant.about, second)
    assert (done.production, done.former, done.since) == (second, first, to_text(SECOND))
    assert done.promised_metrics == promised
    rows = plant.comparisons()
    decisive = rows[(rows.candidate_version == second) & (rows.metric == "log_loss")].iloc[0]
    assert (decisive.method, decisive.verdict, decisive.production_version) == ("production", "pass", first)
    assert decisive.better_by == pytest.approx(decisive.reference_value - decisive.candidate_value)
    assert decisive.window_start == pd.Timestamp(SECOND - timedelta(days=7))
    assert set(rows[rows.candidate_version == first].method) == {"heuristic", "bound_min"}


def test_the_whole_way_again_changes_nothing_even_after_a_newer_promotion(plant):
    first, second, third = plant.add("first"), plant.add("second"), plant.add("second")
    plant.through_gates(first, FIRST)
    before = plant.state
    plant.through_gates(first, FIRST)
    assert plant.state == before
    plant.through_gates(second)
    plant.through_gates(third, SECOND + timedelta(days=1))
    assert current_production(*plant.about) == third
    before = plant.state
    plant.through_gates(first, FIRST)
    plant.through_gates(second)
    assert plant.state == before


def test_the_metrics_are_those_of_an_independent_computation(plant):
    import mlflow
    from sklearn.metrics import log_loss

    first, second = plant.add("first"), plant.add("second")
    plant.through_gates(first, FIRST)
    as_of = SECOND + timedelta(days=3)
    compare_with_production(*plant.about, second, as_of)
    data = plant.trained.data
    rows = data["jobs"].merge(data["outcomes"], on=["machine", "job"], suffixes=("", "_y"))
    rows = rows[(rows.start > SECOND - timedelta(days=7)) & (rows.known_at_y <= as_of)].sort_values("start")
    heat = data["machine_daily"].sort_values("event_time")
    rows = pd.merge_asof(rows, heat, left_on="start", right_on="event_time", by="machine")
    rows["kind"] = pd.Categorical(rows.kind, categories=["new", "old"])
    found = plant.comparisons()
    row = found[(found.metric == "log_loss") & (found.candidate_version == second)].iloc[0]
    assert row.rows == len(rows)
    for name, value in (("first", row.reference_value), ("second", row.candidate_value)):
        booster = mlflow.lightgbm.load_model(plant.trained.uri(name))
        expected = log_loss(rows.broke, booster.predict(rows[["kind", "load", "heat"]]))
        assert value == pytest.approx(expected, abs=1e-9)


def test_a_worse_candidate_is_archived_with_the_figures(plant):
    second, first = plant.add("second"), plant.add("first")
    plant.through_gates(second)
    _, comparison = plant.through_gates(first)
    assert not comparison.passed
    assert "worse by" in comparison.reason
    assert plant.stages() == ["Production", "Archived"]
    row = AuditLog(*plant.about).read().latest(first)
    assert (row.decided_by, row.reason) == ("penstock (automatic)", comparison.reason)
    assert row.evidence["comparison"]["checks"][1]["evidence"]["rows"] > 100


def test_a_threshold_in_the_project_flips_the_decision_on_the_same_data(plant):
    first, second = plant.add("first"), plant.add("second")
    plant.through_gates(first, FIRST)
    verdict = compare_with_production(*plant.about, second, SECOND)
    gained = verdict.checks[1].evidence["better_by"]
    for required, passed in ((gained + 0.001, False), (gained - 0.001, True)):
        plant.edit(lambda spec, required=required: spec["models"][MODEL]["promotion"].update(better_by=float(required)))
        assert compare_with_production(*plant.about, second, SECOND).passed is passed


def test_an_equal_candidate_is_good_enough_only_if_nothing_more_is_asked(plant):
    one, two = plant.add("second"), plant.add("second")
    plant.through_gates(one)
    assert compare_with_production(*plant.about, two, SECOND).passed
    plant.edit(lambda spec: spec["models"][MODEL]["promotion"].update(better_by=0.0001))
    assert not compare_with_production(*plant.about, two, SECOND).passed


def test_the_first_version_must_beat_the_projects_own_heuristic_and_hold_its_bounds(plant):
    first = plant.add("first")
    oracle = "def sure(features):\n    return features['load'].rank(pct=True) * 0.8 + 0.1\n"
    (plant.workspace.project(plant.project).folder / "models" / "rules.py").write_text(oracle)
    plant.edit(lambda spec: spec["models"][MODEL]["promotion"].update(heuristic="models.rules.sure", better_by=0.5))
    verdict = compare_with_production(*plant.about, first, FIRST)
    assert _checks(verdict)["better than heuristic"] == "fail"
    plant.edit(lambda spec: spec["models"][MODEL]["promotion"].update(first_bounds={"roc_auc": {"min": 0.99}}))
    verdict = compare_with_production(*plant.about, first, FIRST)
    assert _checks(verdict)["better than heuristic"] == "pass"
    assert "wanted at least 0.99" in verdict.reason
    assert set(plant.comparisons().verdict) == {"fail", "info"}


def test_too_few_labelled_rows(plant):
    first = plant.add("first")
    plant.edit(lambda spec: spec["models"][MODEL]["promotion"].update(minimum_rows=100_000))
    verdict = compare_with_production(*plant.about, first, FIRST)
    assert not verdict.passed
    assert "at least 100000 are wanted (promotion.minimum_rows)" in verdict.reason


def test_no_labelled_row_at_all(plant):
    second = plant.add("second")
    verdict = compare_with_production(*plant.about, second, SECOND - timedelta(days=7))
    assert _checks(verdict)["labelled rows"] == "fail"
    assert "there are no labelled rows" in verdict.reason
    assert plant.comparisons().iloc[0].rows == 0


def test_a_metric_that_the_rows_do_not_define(plant):
    first = plant.add("first")
    plant.edit(
        lambda spec: (
            spec["models"][MODEL]["promotion"].update(metric="roc_auc"),
            spec["models"][MODEL]["label"].update(expression="broke OR true"),
        )
    )
    verdict = compare_with_production(*plant.about, first, FIRST)
    assert "roc_auc cannot be computed" in verdict.reason
    assert "all" in verdict.reason
    row = plant.comparisons().query("metric == 'roc_auc' and method == 'heuristic'").iloc[0]
    assert row.verdict == "fail"
    assert pd.isna(row.candidate_value)


def test_each_version_predicts_with_its_own_features(plant):
    second, lean = plant.add("second"), plant.add("lean")
    plant.edit(lambda spec: spec["models"][MODEL].update(lookups=[]))
    plant.through_gates(second)
    verdict = compare_with_production(*plant.about, lean, SECOND)
    evidence = verdict.checks[1].evidence
    promised = {name: plant.trained.versions[name].run_id for name in ("second", "lean")}
    assert evidence["reference"] != evidence["candidate"]
    for version, side in ((second, "reference"), (lean, "candidate")):
        metrics = plant.registered.run_metrics(plant.registered.version(version))
        assert evidence[side] == pytest.approx(metrics["log_loss"], abs=1e-9), promised


def test_production_that_cannot_be_asked_any_more_gives_way_to_the_heuristic(plant):
    second, lean = plant.add("second"), plant.add("lean")
    plant.through_gates(second)
    shutil.rmtree(Path(plant.workspace.environment.lakehouse.root) / plant.project / "machine_daily")
    plant.edit(lambda spec: spec["models"][MODEL].update(lookups=[]))
    verdict = compare_with_production(*plant.about, lean, SECOND)
    assert verdict.outcome is Outcome.WARN
    assert "the heuristic takes its place" in verdict.reason
    promote(*plant.about, lean, "a test", "it works at least", verdict.to_dict(), SECOND)
    assert current_production(*plant.about) == lean


def test_the_production_version_needs_no_comparison(plant):
    second = plant.add("second")
    plant.through_gates(second)
    later = SECOND + timedelta(days=1)
    before = plant.state["deployments"]
    compliance, comparison = plant.through_gates(second, later)
    assert _checks(comparison) == {"already in production": "pass"}
    assert plant.state["deployments"] == before


def _no_signature(folder: Path) -> None:
    spec = yaml.safe_load((folder / "MLmodel").read_text())
    del spec["signature"]
    (folder / "MLmodel").write_text(yaml.safe_dump(spec))


def _edit_features(folder: Path, change: Callable[[dict], None]) -> None:
    file = folder / "extra_files" / "feature_spec.json"
    spec = json.loads(file.read_text())
    change(spec)
    file.write_text(json.dumps(spec))


def _needs_another(table: str) -> Callable[[Path], None]:
    return lambda folder: _edit_features(folder, lambda spec: spec["features"][-1].update(source=f"{table}.heat"))


def _needs_weight(folder: Path) -> None:
    _edit_features(folder, lambda spec: spec["features"].append({**spec["features"][1], "name": "weight"}))


_FEATURES = {"features declared", "features in the lakehouse"}


@pytest.mark.parametrize(
    ("tamper", "failing", "reason"),
    [
        (_no_signature, {"signature"}, "the model has no signature"),
        (lambda f: (f / "model.lgb").write_text("nonsense"), {"loads"}, "cannot be loaded"),
        (lambda f: (f / "extra_files" / "feature_spec.json").unlink(), {"loads"}, "was not trained by Penstock"),
        (_needs_another("dreams"), _FEATURES, "does not declare PROJECT.dreams.heat"),
        (_needs_weight, {"signature", "scores"} | _FEATURES, "PROJECT.jobs.weight"),
    ],
    ids=["no signature", "broken file", "no feature_spec", "unknown feature table", "unknown entity column"],
)  # fmt: skip
def test_a_version_with_a_fault_is_archived_with_the_reason(plant, tmp_path, tamper, failing, reason):
    version = plant.add_tampered(tamper, tmp_path)
    compliance, _ = plant.through_gates(version)
    assert {name for name, outcome in _checks(compliance).items() if outcome == "fail"} == failing
    found = plant.registered.version(version)
    assert found.tags["penstock.compliance"] == "fail"
    assert reason.replace("PROJECT", plant.project) in found.tags["penstock.compliance_reason"]
    assert found.tags["penstock.stage"] == "Archived"
    assert "### compliance: fail" in found.description
    row = AuditLog(*plant.about).read().latest(version)
    assert row.to_stage is Stage.ARCHIVED
    assert reason.replace("PROJECT", plant.project) in row.reason
    assert plant.registered.aliases() == {}


def test_a_missing_tag_and_description_are_named_together(plant, tmp_path):
    missing = ("penstock.code", "penstock.as_of")
    tags = {k: v for k, v in plant.trained.versions["second"].tags.items() if k not in missing}
    version = plant.add_tampered(lambda folder: None, tmp_path, tags=tags, description=None)
    compliance, _ = plant.through_gates(version)
    assert {n for n, outcome in _checks(compliance).items() if outcome == "fail"} == {"description", "required tags"}
    assert "lacks the required tag(s) penstock.as_of, penstock.code" in compliance.reason
    again = check_compliance(*plant.about, version, SECOND)
    assert again == compliance, "its own section is no description"


def test_a_vanished_feature_table_and_undeclared_limits(plant):
    version = plant.add("second")
    shutil.rmtree(Path(plant.workspace.environment.lakehouse.root) / plant.project / "machine_daily")
    plant.edit(lambda spec: spec["models"][MODEL].update(limits=""))
    compliance = check_compliance(*plant.about, version, SECOND)
    assert _checks(compliance)["features in the lakehouse"] == "fail"
    assert f"{plant.project}.machine_daily (no such table)" in compliance.reason
    assert _checks(compliance)["owner and limits"] == "warn"


def test_a_changed_type_warns(plant):
    version = plant.add("second")
    plant.edit(lambda spec: spec["sources"]["jobs"]["columns"].update(load="float"))
    compliance = check_compliance(*plant.about, version, SECOND)
    assert compliance.outcome is Outcome.WARN
    assert "jobs.load (was double, is float)" in compliance.reason


def test_the_verdict_is_written_once_into_the_description_of_its_author(plant):
    version = plant.add("second")
    own = plant.registered.version(version).description
    for _ in range(2):
        check_compliance(*plant.about, version, SECOND)
    described = plant.registered.version(version).description
    assert described.startswith(own.strip()[:200])
    assert described.count("### compliance: pass") == 1
    assert len(described) <= 5000


def test_without_its_training_set_it_is_tried_on_the_stored_example(plant):
    version = plant.add("second")
    shutil.rmtree(Path(plant.workspace.environment.lakehouse.root) / plant.trained.project)
    compliance = check_compliance(*plant.about, version, SECOND)
    scores = next(check for check in compliance.checks if check.name == "scores")
    assert scores.outcome is Outcome.PASS
    assert scores.evidence["source"] == "the example stored with the model"


def test_mlflow_down_archives_nobody(plant, monkeypatch):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    version = plant.add("second")
    here = plant.workspace.resolved
    away = plant.workspace.with_(connections=Connections(here.spark_url, "http://127.0.0.1:9"))
    with pytest.raises(ServiceError, match="MLflow did not answer"):
        check_compliance(away, plant.project, MODEL, version, SECOND)
    assert stage_of(*plant.about, version) is Stage.NONE


def test_an_unknown_version_is_refused_by_every_gate(plant):
    for gate in (check_compliance, compare_with_production):
        with pytest.raises(RegistryError, match="version 7"):
            gate(*plant.about, 7, SECOND)


def test_a_promotion_upon_an_outdated_comparison_is_refused(plant):
    first, second, third = plant.add("first"), plant.add("second"), plant.add("second")
    plant.through_gates(first, FIRST)
    outdated = compare_with_production(*plant.about, third, SECOND)
    plant.through_gates(second)
    with pytest.raises(GateError, match=r"version 3 was compared with version 1, but production is version 2 by now"):
        promote(*plant.about, third, "Ann", "looked good", {"comparison": outdated.to_dict()}, SECOND)
    renewed = compare_with_production(*plant.about, third, SECOND)
    promote(*plant.about, third, "Ann", "looked good", {"comparison": renewed.to_dict()}, SECOND)
    assert current_production(*plant.about) == third


def test_a_human_decides_where_the_environment_says_so(make_plant):
    from penstock.spec.environment import Approval

    plant = make_plant(approval=Approval(mode="human"))
    version = plant.add("second")
    comparison = compare_with_production(*plant.about, version, SECOND)
    with pytest.raises(GateError, match="wants a human's approval"):
        decide_automatic(plant.workspace, comparison)
    reject(*plant.about, version, "Ann", "I know more", comparison.to_dict(), SECOND)
    row = AuditLog(*plant.about).read().latest(version)
    assert (row.decided_by, row.reason, str(row.to_stage)) == ("Ann", "I know more", "Archived")


def test_rollback_brings_the_former_version_back(plant):
    one, two, three = plant.add("first"), plant.add("second"), plant.add("second")
    with pytest.raises(NothingToDo, match="no version in production"):
        rollback(*plant.about, "Ann", "it smells")
    for n, version in enumerate((one, two, three)):
        promote(*plant.about, version, "a test", "because", {}, SECOND + timedelta(days=n))
    done = rollback(*plant.about, "Ann", "it smells", from_version=three, as_of=SECOND + timedelta(days=4))
    assert (done.version, done.displaced, done.production, done.repeated) == (two, three, two, False)
    before = plant.state
    again = rollback(*plant.about, "Ann", "it smells", from_version=three, as_of=SECOND + timedelta(days=4))
    assert again.repeated
    assert plant.state == before
    row = AuditLog(*plant.about).read().latest(two)
    assert (row.decided_by, row.reason) == ("Ann", "it smells")
    assert promised_metrics(*plant.about, two)
    assert rollback(*plant.about, "Ann", "worse and worse").version == one, "not the one that was rolled back"
    with pytest.raises(NothingToDo, match="there is none to go back to"):
        rollback(*plant.about, "Ann", "even further")
    with pytest.raises(NothingToDo, match="version 9 is not in production"):
        rollback(*plant.about, "Ann", "what?", from_version=9)
    allow(*plant.about, three, "Ann", "mended")
    promote(*plant.about, three, "Ann", "mended", {}, SECOND + timedelta(days=2), cause="after all")
    assert plant.stages() == ["Archived", "Archived", "Production"]
    assert rollback(*plant.about, "Ann", "no").version == one


def test_a_former_version_that_can_no_longer_score_is_not_gone_back_to(plant, tmp_path):
    def break_it(folder: Path) -> None:
        (folder / "model.lgb").unlink()

    one, broken, three = plant.add("first"), plant.add_tampered(break_it, tmp_path), plant.add("second")
    for n, version in enumerate((one, broken, three)):
        promote(*plant.about, version, "a test", "because", {}, SECOND + timedelta(days=n))
    before = plant.state
    with pytest.raises(GateError, match=rf"stays as it is: version {broken} can no longer score .*--to {one}"):
        rollback(*plant.about, "Ann", "it smells")
    plant.edit(lambda spec: spec["models"][MODEL].update(lookups=[]))
    plant.edit(lambda spec: spec.update(feature_tables={}) or spec["models"][MODEL].update(lookups=[]))
    with pytest.raises(GateError, match=rf"version {one} can no longer score .*machine_daily"):
        rollback(*plant.about, "Ann", "it smells", to_version=one)
    assert plant.state == before
    plant.edit(lambda spec: None)
    assert rollback(*plant.about, "Ann", "it smells", to_version=one).production == one


def _watch(plant: Plant, **rule: object) -> None:
    def declare(spec: dict) -> None:
        model = spec["models"][MODEL]
        model["promotion"]["follow_up"] = rule
        model["monitoring"] = {"quality": [{"metric": "log_loss", "tolerance": 0.1}], "minimum_rows": 200}

    plant.edit(declare)


def test_a_version_that_breaks_its_promise_is_rolled_back_by_the_follow_up(plant):
    _watch(plant, windows=2, action="rollback")
    one, two = plant.add("first"), plant.add("second")
    for version, as_of in ((one, FIRST), (two, SECOND)):
        promote(*plant.about, version, "a test", "because", {}, as_of)
    day = [SECOND + timedelta(days=n) for n in range(5)]
    window = {"metric": "log_loss", "bound": 0.6}
    publish_window(*plant.about, two, day[0], value=9.0, labelled=300, **window)  # before it was in production
    publish_window(*plant.about, two, day[1], value=9.0, labelled=150, **window)
    publish_window(*plant.about, one, day[2], value=9.0, labelled=300, **window)  # the former version's
    found = follow_up_promotion(*plant.about, day[2])
    assert (found.state, found.news) == ("watching", False)
    assert [one.outcome for one in found.windows] == ["undecided"]
    publish_window(*plant.about, two, day[1], value=0.5, labelled=300, **window)  # its labels arrive
    publish_window(*plant.about, two, day[2], value=0.7, labelled=199, rows=200, **window)
    publish_window(*plant.about, two, day[3], value=0.7, labelled=399, **window)
    assert follow_up_promotion(*plant.about, day[2]).state == "watching", "day 3 was not known then"
    before = current_production(*plant.about)
    found = follow_up_promotion(*plant.about, day[3])
    assert (before, found.state, found.production) == (two, "rolled back", one)
    assert current_production(*plant.about) == one
    row = AuditLog(*plant.about).read().latest(one)
    assert row.decided_by == "penstock (follow-up)"
    assert "log_loss 0.7 where 0.5 was promised and 0.6 is the bound" in row.reason
    notes = [note for note in AuditLog(*plant.about).read().notes if note.kind == "follow_up"]
    assert [(note.version, note.evidence["outcome"]) for note in notes] == [(two, "held"), (two, "failed")]
    with pytest.raises(NothingToDo, match="came back by a rollback"):
        follow_up_promotion(*plant.about, day[4])
    with pytest.raises(GateError, match="was rolled back"):
        promote(*plant.about, two, "a test", "once more", {}, day[4])


def test_a_follow_up_that_only_alerts_or_has_nowhere_to_go_back_to_moves_nothing(plant):
    one = plant.add("first")
    promote(*plant.about, one, "a test", "because", {}, FIRST)
    with pytest.raises(NothingToDo, match="declares no promotion.follow_up"):
        follow_up_promotion(*plant.about, FIRST)
    _watch(plant, windows=1)
    day = FIRST + timedelta(days=1)
    publish_window(*plant.about, one, day, metric="log_loss", bound=0.6, value=0.9, labelled=300)
    found = follow_up_promotion(*plant.about, day)
    assert (found.state, found.news) == ("failed", True)
    assert not follow_up_promotion(*plant.about, day).news, "it is told once"
    _watch(plant, windows=1, action="rollback")
    found = follow_up_promotion(*plant.about, day)
    assert found.state == "failed"
    assert "It stays in production" in found.reason
    assert current_production(*plant.about) == one


def test_batch_scoring_uses_the_former_version_after_a_rollback(plant):
    from penstock.inference.batch import score_batch

    one, two = plant.add("first"), plant.add("second")
    promote(*plant.about, one, "a test", "because", {}, FIRST)
    promote(*plant.about, two, "a test", "because", {}, FIRST + timedelta(days=1))
    score_batch(*plant.about, FIRST + timedelta(days=3))
    rollback(*plant.about, "Ann", "it smells")
    score_batch(*plant.about, FIRST + timedelta(days=5))
    scored = read(plant.workspace.addresses.readable(f"{plant.project}.{MODEL}_predictions"))
    assert set(scored[scored.as_of == FIRST + timedelta(days=3)].model_version) == {two}
    assert set(scored[scored.as_of == FIRST + timedelta(days=5)].model_version) == {one}


def test_what_was_changed_since_the_decision_is_not_promoted(plant):
    from penstock.registry.approval import shown

    one = plant.add("first")
    comparison = compare_with_production(*plant.about, one, SECOND).to_dict()
    seen = shown(*plant.about, comparison).to_dict()
    evidence = {"comparison": comparison, "shown": seen}
    plant.edit(lambda spec: spec["models"][MODEL]["promotion"].update(better_by=-1.0))
    with pytest.raises(GateError, match=r"declaration of breaks .* was changed since the comparison"):
        promote(*plant.about, one, "Ann", "fine", evidence, SECOND)
    plant.edit(lambda spec: spec["models"][MODEL].update(description="Other words about the same."))
    with pytest.raises(GateError, match="the comparison was made again after the decision"):
        promote(*plant.about, one, "Ann", "fine", {**evidence, "comparison": {**comparison, "x": 1}}, SECOND)
    assert promote(*plant.about, one, "Ann", "fine", evidence, SECOND).production == one
    plant.edit(lambda spec: spec["models"][MODEL]["promotion"].update(better_by=-1.0))
    assert promote(*plant.about, one, "Ann", "fine", evidence, SECOND).repeated, "it has been decided"


def test_a_killed_rollback_goes_back_once(plant, monkeypatch):
    one, two, three = plant.add("first"), plant.add("second"), plant.add("second")
    for n, version in enumerate((one, two, three)):
        promote(*plant.about, version, "a test", "because", {}, SECOND + timedelta(days=n))

    class Killed(BaseException):
        pass

    def killed(*arguments):
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(client.RegisteredModel, "move_alias", killed)
        with pytest.raises(Killed):
            rollback(*plant.about, "Ann", "it smells")
    monkeypatch.setattr(settling, "TAKEOVER_AFTER", timedelta(seconds=0))
    assert rollback(*plant.about, "Ann", "it smells").version == two
    assert current_production(*plant.about) == two


def test_a_version_adopted_from_a_hand_gets_its_promises(make_plant):
    plant = make_plant(hand_moved_alias="adopt")
    one, two = plant.add("first"), plant.add("second")
    promote(*plant.about, one, "a test", "because", {}, FIRST)
    plant.registered.move_alias("production", two)
    repair(*plant.about, SECOND)
    assert production_since(*plant.about) == SECOND
    done = follow_up(*plant.about, two, SECOND)
    assert (done.decided_by, done.former) == (settling.BY_HAND, one)
    assert done.promised_metrics == promised_metrics(*plant.about, two) != {}
    with pytest.raises(RegistryError, match="never in Production"):
        follow_up(*plant.about, 9)


def test_a_hand_moved_alias_opens_no_way_around_the_gates(make_plant):
    plant = make_plant(hand_moved_alias="revert")
    one, two = plant.add("first"), plant.add("second")
    promote(*plant.about, one, "a test", "because", {}, FIRST)
    plant.registered.move_alias("production", two)
    stage_after_compliance(*plant.about, two, check_compliance(*plant.about, two, SECOND), SECOND)
    assert plant.registered.aliases() == {"production": one, "staging": two}
