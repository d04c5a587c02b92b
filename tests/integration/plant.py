"""Machines that break down: trained versions, and projects of a test's own whose registered model gets them."""

import shutil
import subprocess
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from penstock.features.definition import definition_hash
from penstock.lakehouse.records import record
from penstock.lakehouse.small_tables import arrow_schema, read, upsert
from penstock.registry import client
from penstock.registry.comparison import compare_with_production
from penstock.registry.compliance import check_compliance
from penstock.registry.promotion import decide_automatic, promote, reject, stage_after_compliance
from penstock.registry.stages import versions
from penstock.spec.project import ColumnType
from penstock.workspace import Connections, Workspace

START = datetime(2020, 1, 1, tzinfo=UTC)
FIRST, SECOND = START + timedelta(days=60), START + timedelta(days=110)
TURN = START + timedelta(days=62)  # what `load` means for a breakdown turns around here
MODEL = "breaks"

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
      rule: non_inferior
      not_worse_by: 0.02
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
WEIGHTS = '{"old": 2.0, "new": 1.0}'  # a file of the project that is neither code nor declaration
ENVIRONMENT = """
name: dev
description: for tests
lakehouse: {root: unused}
schedules: false
approval: {mode: automatic}
code: {branches: [main]}
"""
HEAT = (
    "SELECT machine, date_trunc('DAY', known_at) AS event_time, avg(CAST(broke AS INT)) AS heat "
    "FROM outcomes GROUP BY 1, 2"
)


def write_project(root: Path, name: str, edit: Callable[[dict], None] = lambda spec: None) -> Path:
    folder = root / "include" / "projects" / name
    (folder / "models").mkdir(parents=True, exist_ok=True)
    (folder / "features").mkdir(exist_ok=True)
    spec = yaml.safe_load(PROJECT.replace("NAME", name))
    edit(spec)
    (folder / "project.yaml").write_text(yaml.safe_dump(spec, sort_keys=False))
    (folder / "models" / "trees.py").write_text(TREES)
    (folder / "features" / "machine_daily.sql").write_text(HEAT)
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


def _write_table(path: str, frame: pd.DataFrame, columns: dict[str, str], definition: str | None) -> None:
    import pyarrow as pa
    from deltalake import DeltaTable

    schema = arrow_schema({name: ColumnType(kind) for name, kind in columns.items()})
    DeltaTable.create(path, schema)
    arrow = pa.Table.from_pandas(frame[list(columns)], schema=schema, preserve_index=False)
    upsert(
        path,
        arrow,
        ["machine", next(n for n in ("job", "event_time") if n in columns)],
        record(SECOND, definition=definition),
    )


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


def _commit(root: Path) -> None:
    """The projects of a root in a Git repository of their own, on the branch main."""
    for words in (["init", "-q", "-b", "main"], ["add", "include"], ["commit", "-q", "-m", "as it is"]):
        about = ["-c", "user.name=Ann", "-c", "user.email=ann@example.com"]
        subprocess.run(["git", "-C", str(root), *about, *words], check=True)


@pytest.fixture(scope="package")
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
    (write_project(root, project) / "models/weights.json").write_text(WEIGHTS)
    _commit(root)
    workspace = open_workspace(root, root / "lakehouse", stack)
    spec, data = workspace.project(project).spec, _machine_data()
    for name, frame in data.items():
        declared = (spec.sources.get(name) or spec.feature_tables[name]).columns
        path = workspace.addresses.writable(f"{project}.{name}")
        loaded = workspace.project(project)
        made_by = definition_hash(loaded, spec.feature_tables[name]) if name in spec.feature_tables else None
        _write_table(path, frame, {key: str(column.type) for key, column in declared.items()}, made_by)
    found = {}
    for name, as_of in (("first", FIRST), ("second", SECOND), ("lean", SECOND)):
        if name == "lean":
            write_project(root, project, lambda spec: spec["models"][MODEL].update(lookups=[]))
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


def open_workspace(root: Path, lakehouse: Path, stack: Connections, **changes: object) -> Workspace:
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
        write_project(self.workspace.root, self.project, change)

    def add(self, name: str, *, source: str | None = None, run_id: str | None = None, **changes: object) -> int:
        """Registers a run once more, as penstock.training does; answers the version."""
        import mlflow

        api, found = mlflow.MlflowClient(), self.trained.versions[name]
        inputs = found.tags["penstock.inputs"].replace(f'"{self.trained.project}.', f'"{self.project}.')
        given = {"tags": {**found.tags, "penstock.inputs": inputs}, "description": found.description, **changes}
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

    def decide(self, version: int, as_of: datetime = SECOND):
        """Comparison and decision, as model_promotion makes them; answers the comparison."""
        comparison = compare_with_production(*self.about, version, as_of)
        decision = decide_automatic(self.workspace, comparison)
        act = promote if decision.approved else reject
        act(*self.about, version, decision.decided_by, decision.reason, {"comparison": comparison.to_dict()}, as_of)
        return comparison

    def through_gates(self, version: int, as_of: datetime = SECOND):
        """The whole of model_promotion; answers both verdicts."""
        compliance = check_compliance(*self.about, version, as_of)
        stage_after_compliance(*self.about, version, compliance, as_of)
        if not compliance.passed:
            return compliance, None
        return compliance, self.decide(version, as_of)

    def comparisons(self) -> pd.DataFrame:
        return read(self.workspace.addresses.readable(f"{self.project}.model_comparisons"))

    @property
    def state(self) -> dict:
        clocks = ["requested_at", "completed_at", "compared_at", "run"]
        frames = {}
        keys = {
            "deployments": ["transition_id"],
            "model_comparisons": ["candidate_version", "as_of", "method", "reference", "metric", "slice"],
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
        write_project(tmp_path, project)
        lakehouse = tmp_path / "lakehouse"
        for name in ("jobs", "outcomes", "machine_daily"):
            shutil.copytree(trained.lakehouse / trained.project / name, lakehouse / project / name)
        shutil.copytree(trained.lakehouse / trained.project / "model_origins", lakehouse / project / "model_origins")
        sets = f"{MODEL}_training_set"
        kept = lakehouse / trained.project / sets
        shutil.copytree(trained.lakehouse / trained.project / sets, kept, dirs_exist_ok=True)
        workspace = open_workspace(tmp_path, lakehouse, stack, **environment)
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


def checks(verdict) -> dict[str, str]:
    """The outcome of each check by its name."""
    return {check.name: str(check.outcome) for check in verdict.checks}
