"""Maintenance joins and removes files, but nothing that a registered model or a reader of changes needs."""

import time
import uuid
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import mlflow
import pytest
from deltalake import DeltaTable, write_deltalake

from penstock.errors import ServiceError, SpecError
from penstock.features.training_set import build_training_set, rebuild_training_set
from penstock.lakehouse.maintenance import Keep, checkpoint, find_removable, remove
from penstock.lakehouse.records import record
from penstock.lakehouse.small_tables import read
from penstock.maintenance import MaintainedProject, maintain_project
from penstock.online.compare import compare_online
from penstock.online.publish import publish_table
from penstock.spec.environment import Maintenance
from penstock.workspace import Connections, Workspace
from tests.integration.online_shop import PROJECT, TABLE, at, open_shop, put, row
from tests.integration.refreshing import PROJECT as WIND
from tests.integration.refreshing import copy_root, moment, refresh

NOW = timedelta(0)
SHORT = Maintenance(retention=NOW, log_retention=NOW, allow_short_retention=True)


@pytest.fixture
def shop(tmp_path: Path, stack: Connections) -> Workspace:
    """The shop where nothing old is kept for its age alone."""
    workspace = open_shop(tmp_path, {"kind": "sqlite", "path": str(tmp_path / "online.sqlite")})
    environment = workspace.environment.model_copy(update={"maintenance": SHORT})
    return workspace.with_(environment=environment, connections=stack)


Register = Callable[[Workspace, str], str]


@pytest.fixture
def register() -> Iterator[Register]:
    """Registers a model that was trained from a training set (`address@version`). Answers the model's name."""
    made: list[str] = []

    def trained_from(workspace: Workspace, training_set: str) -> str:
        workspace.mlflow()
        client = mlflow.MlflowClient()
        run = client.create_run(client.get_experiment_by_name("Default").experiment_id)
        made.append(f"{PROJECT}.m_{uuid.uuid4().hex}")
        client.create_registered_model(made[-1])
        source = f"{run.info.artifact_uri}/model"
        client.create_model_version(made[-1], source, run.info.run_id, tags={"penstock.training_set": training_set})
        return made[-1]

    yield trained_from
    for name in made:
        mlflow.MlflowClient().delete_registered_model(name)


def path_of(workspace: Workspace, table: str = TABLE) -> str:
    return workspace.addresses.readable(f"{PROJECT}.{table}")


def items(workspace: Workspace, version: int) -> list[int]:
    return sorted(read(path_of(workspace), version=version)["items"])


def training_set(workspace: Workspace, inputs: dict[str, int]) -> str:
    """A training set, as its commit records it. Answers `address@version`."""
    import pyarrow as pa
    from deltalake import CommitProperties

    commit = CommitProperties(custom_metadata={"userMetadata": record(at(9), inputs).to_json()})
    path = workspace.addresses.writable(f"{PROJECT}.m_training_set")
    write_deltalake(path, pa.table({"label": [1.0, 0.0]}), mode="overwrite", commit_properties=commit)
    return f"{PROJECT}.m_training_set@{DeltaTable(path).version()}"


def found(done: MaintainedProject, table: str = TABLE) -> dict:
    return next(entry for entry in done.to_dict()["tables"] if entry["table"] == f"{PROJECT}.{table}")


def test_a_pinned_version_stays_readable_and_an_unpinned_old_one_goes(shop: Workspace, register: Register) -> None:
    for day in range(1, 6):
        put(shop, [row("ann", at(1), items=day)], at(day))
    name = register(shop, training_set(shop, {f"{PROJECT}.{TABLE}": 2}))
    assert items(shop, 3) == [3]
    done = found(maintain_project(shop, PROJECT))
    assert done["pinned"] == {"2": f"{name} version 1"}
    assert done["bytes_after"] < done["bytes_before"]
    assert items(shop, 2) == [2]
    assert items(shop, 5) == [5]
    with pytest.raises(Exception, match="(?i)not found|no such file|log segment"):
        items(shop, 3)
    assert read(path_of(shop, "m_training_set"), version=0)["label"].tolist() == [1.0, 0.0]


def test_a_version_is_given_up_once_its_model_is_deleted(shop: Workspace, register: Register) -> None:
    for day in range(1, 4):
        put(shop, [row("ann", at(1), items=day)], at(day))
    name = register(shop, training_set(shop, {f"{PROJECT}.{TABLE}": 1}))
    maintain_project(shop, PROJECT)
    assert items(shop, 1) == [1]
    mlflow.MlflowClient().delete_model_version(name, "1")
    maintain_project(shop, PROJECT)
    with pytest.raises(Exception, match="(?i)not found|no such file|log segment"):
        items(shop, 1)


def test_a_dry_run_changes_nothing_and_counts_what_would_go(shop: Workspace) -> None:
    for day in range(1, 4):
        put(shop, [row("ann", at(1), items=day)], at(day))
    before = sorted(file.name for file in Path(path_of(shop)).rglob("*"))
    done = found(maintain_project(shop, PROJECT, dry_run=True))
    assert sorted(file.name for file in Path(path_of(shop)).rglob("*")) == before
    assert done["removed_files"] >= 2
    assert done["bytes_after"] < done["bytes_before"]


def test_small_files_are_joined_and_the_rows_stay(shop: Workspace) -> None:
    for day in range(1, 6):
        put(shop, [row(f"c{day}", at(day), items=day)], at(day))
    assert len(DeltaTable(path_of(shop)).file_uris()) == 5
    maintain_project(shop, PROJECT)
    table = DeltaTable(path_of(shop))
    assert len(table.file_uris()) == 1
    assert items(shop, table.version()) == [1, 2, 3, 4, 5]


def test_changes_that_are_not_yet_online_can_still_be_published_one_by_one(shop: Workspace) -> None:
    put(shop, [row(f"c{number}", at(1), items=1) for number in range(20)], at(1))
    publish_table(shop, PROJECT, TABLE, at(1))
    put(shop, [row("c1", at(2), items=2)], at(2))
    put(shop, [row("c1", at(2), items=3)], at(2))
    time.sleep(0.1)
    done = found(maintain_project(shop, PROJECT))
    assert "changes since version 1 have not been read" in done["notes"][0]
    published = publish_table(shop, PROJECT, TABLE, at(2))
    assert (published.mode, published.rows) == ("incremental", 1)
    assert compare_online(shop, PROJECT, TABLE, at(2)).passed


def test_commits_before_the_oldest_needed_version_are_forgotten(shop: Workspace) -> None:
    for day in range(1, 9):
        put(shop, [row("ann", at(1), items=day)], at(day))
        if day in (3, 5, 7):
            checkpoint(path_of(shop))
    path = path_of(shop)
    log = Path(path) / "_delta_log"
    remove(path, find_removable(path, Keep(NOW, NOW, frozenset({6}))))
    assert sorted(int(file.stem) for file in log.glob("*.json")) == [5, 6, 7, 8]
    assert items(shop, 6) == [6]
    assert items(shop, 8) == [8]
    with pytest.raises(Exception, match="(?i)version|log"):
        items(shop, 4)


def test_a_short_retention_needs_the_environments_leave(shop: Workspace) -> None:
    put(shop, [row("ann", at(1))], at(1))
    careful = shop.with_(environment=shop.environment.model_copy(update={"maintenance": Maintenance()}))
    with pytest.raises(SpecError, match="allow_short_retention"):
        maintain_project(careful, PROJECT, retention=timedelta(hours=1))


def test_without_an_answer_of_the_registry_nothing_is_removed(
    shop: Workspace, stack: Connections, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dataclasses import replace

    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    put(shop, [row("ann", at(1), items=1)], at(1))
    put(shop, [row("ann", at(1), items=2)], at(1))
    offline = shop.with_(connections=replace(stack, mlflow_uri="http://127.0.0.1:9", registry_uri=None))
    with pytest.raises(ServiceError, match="Nothing is removed"):
        maintain_project(offline, PROJECT)
    assert items(shop, 1) == [1]


def test_training_goes_on_after_maintenance_and_its_set_can_be_built_again(
    make_workspace: Callable[..., Workspace], tmp_path: Path, register: Register
) -> None:
    workspace = make_workspace(copy_root(tmp_path), maintenance=SHORT)
    refresh(workspace, "2024-01-10")
    built = build_training_set(workspace, WIND, "energy", moment("2024-01-10"))
    register(workspace, f"{built.table}@{built.version}")
    refresh(workspace, "2024-01-12")
    done = {entry.table: entry for entry in maintain_project(workspace, WIND).tables}
    assert done[f"{WIND}.yields"].engine == "deltalake"
    assert done[built.table].engine == "spark"
    assert DeltaTable(built.path).metadata().configuration["delta.logRetentionDuration"] == "interval 3650 days"
    assert set(built.inputs.items()) <= {
        (table, int(version)) for table, entry in done.items() for version in entry.pinned
    }
    assert rebuild_training_set(workspace, WIND, built.id).hash == built.hash
    assert dict(refresh(workspace, "2024-01-14"))["turbine_daily.stage"].startswith("table")
