"""A project whose model has registered versions that go through stages, and processes that end on the way."""

import itertools
import json
import uuid
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

from penstock.registry import audit, client
from penstock.registry.deployments import transition
from penstock.registry.rolling_back import rollback
from penstock.registry.stages import Stage
from penstock.workspace import Connections, Workspace

AS_OF = datetime(2020, 5, 1, tzinfo=UTC)
ENVIRONMENT = """
name: dev
description: for tests
lakehouse: {root: unused}
schedules: false
approval: {mode: automatic}
"""
PROJECT = """
name: NAME
description: Boxes.
owner: boxes@example.com
"""


@dataclass
class Shelf:
    """A project whose model has three registered versions (of an empty artifact: nobody loads them here)."""

    workspace: Workspace
    project: str
    model: str

    def move(self, version: int, stage: Stage, as_of: datetime = AS_OF, **changes):
        given = {"decided_by": "a test", "reason": "because", "evidence": {"n": 1}, **changes}
        return transition(self.workspace, self.project, self.model, version, stage, as_of=as_of, **given)

    @property
    def about(self) -> tuple[Workspace, str, str]:
        return self.workspace, self.project, self.model

    def back(self, reason: str = "it smells", **changes):
        return rollback(*self.about, "Ann", reason, check=False, **changes)

    @property
    def registered(self) -> client.RegisteredModel:
        return client.RegisteredModel(self.workspace, self.project, self.model)

    def delete(self, *versions: int) -> None:
        """As somebody who tidies up in MLflow."""
        for version in versions:
            self.registered.delete(version)

    def begin_anew(self, count: int) -> None:
        """The registered model is deleted in MLflow, and made again with so many versions."""
        import mlflow

        api = mlflow.MlflowClient()
        run = api.get_run(str(self.registered.versions()[0].run_id))
        api.delete_registered_model(self.registered.name)
        api.create_registered_model(self.registered.name)
        for _ in range(count):
            api.create_model_version(self.registered.name, f"{run.info.artifact_uri}/model", run.info.run_id)

    @property
    def rows(self):
        return audit.AuditLog(self.workspace, self.project, self.model).read().rows

    @property
    def state(self) -> dict:
        """Everything that a repeat must leave equal."""
        return {
            "aliases": self.registered.aliases(),
            "stages": {int(v.version): v.tags.get("penstock.stage") for v in self.registered.versions()},
            "rows": sorted(
                (r.transition_id.partition("/")[2], r.version, r.from_stage, r.to_stage, r.state, r.decided_by)
                for r in self.rows
            ),
        }

    @property
    def handed_over(self) -> str:
        """What another process needs to open the same workspace."""
        return json.dumps(
            {"root": str(self.workspace.root), "lakehouse": self.workspace.environment.lakehouse.root,
             "connections": asdict(self.workspace.resolved), "project": self.project, "model": self.model}
        )  # fmt: skip


def move_when_told(handed_over: str, moves: list[tuple[int, Stage, str | None]], told: Connection) -> None:
    """In another process: opens the shelf, and makes the moves once something comes through the pipe."""
    given = json.loads(handed_over)
    workspace = Workspace.open("dev", Path(given["root"]))
    lakehouse = workspace.environment.lakehouse.model_copy(update={"root": given["lakehouse"]})
    environment = workspace.environment.model_copy(update={"lakehouse": lakehouse})
    workspace = workspace.with_(environment=environment, connections=Connections(**given["connections"]))
    told.send("ready")
    told.recv()
    for version, stage, cause in moves:
        Shelf(workspace, given["project"], given["model"]).move(version, stage, cause=cause)


@pytest.fixture
def make_shelf(make_workspace: Callable[..., Workspace], tmp_path: Path) -> Iterator[Callable[..., Shelf]]:
    import mlflow

    project = f"boxes_{uuid.uuid4().hex[:8]}"
    folder = tmp_path / "include" / "projects" / project
    folder.mkdir(parents=True)
    (folder / "project.yaml").write_text(PROJECT.replace("NAME", project))
    environments = tmp_path / "include" / "environments"
    environments.mkdir()
    (environments / "dev.yaml").write_text(ENVIRONMENT)
    names = (f"box{n}" for n in itertools.count())
    made = []

    def make(count: int = 3, **environment: object) -> Shelf:
        workspace = make_workspace(tmp_path, **environment)
        workspace.mlflow()
        shelf = Shelf(workspace, project, next(names))
        made.append(f"{project}.{shelf.model}")
        api = mlflow.MlflowClient()
        run = api.create_run(api.get_experiment_by_name("Default").experiment_id)
        api.create_registered_model(made[-1])
        for _ in range(count):
            api.create_model_version(made[-1], f"{run.info.artifact_uri}/model", run.info.run_id)
        return shelf

    yield make
    for name in made:
        mlflow.MlflowClient().delete_registered_model(name)


@dataclass
class Runs:
    """The runs of a promotion DAG, by id and state, as Airflow would tell of them."""

    states: dict[str, str] = field(default_factory=dict)

    def exists(self, run_id: str) -> bool:
        return run_id in self.states

    def failed(self, run_id: str) -> bool:
        return self.states.get(run_id) == "failed"

    def any_active(self) -> bool:
        return bool({"queued", "running"} & set(self.states.values()))


class Killed(BaseException):
    """Stands for a process that ends between two steps."""


def kill_after(monkeypatch: pytest.MonkeyPatch, steps: int) -> None:
    """Lets that many of the steps that others can see take place, and ends before the next."""
    left = [steps]
    for owner, name in (
        (audit.AuditLog, "commit"), (client.RegisteredModel, "move_alias"), (client.RegisteredModel, "tag"),
    ):  # fmt: skip
        original = getattr(owner, name)

        def step(self, *arguments, original=original):
            if left[0] == 0:
                raise Killed
            left[0] -= 1
            return original(self, *arguments)

        monkeypatch.setattr(owner, name, step)
