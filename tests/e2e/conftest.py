"""A real Airflow with its scheduler, Spark Connect and MLflow, on the second project; driven over REST."""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import pandas as pd
import psutil
import pytest

from penstock.airflow_rest import AirflowClient, DagRun
from penstock.home import home as state_home
from penstock.home import read_credentials
from penstock.lakehouse.small_tables import read
from penstock.workspace import Workspace
from tests.conftest import link_jars
from tests.integration.conftest import free_port

REPOSITORY = Path(__file__).resolve().parents[2]
PENSTOCK = str(Path(sys.executable).parent / "penstock")


@dataclass
class RunningAirflow:
    """An Airflow, its address and its users."""

    url: str
    root: Path
    home: Path
    client: AirflowClient

    def login(self, username: str) -> AirflowClient:
        """A client with another user's login: admin, engineer, scientist."""
        found = read_credentials("dev").airflow.login(username)
        return AirflowClient(self.url, found.username, found.password)

    def finish(self, run: DagRun, seconds: float = 240) -> DagRun:
        """Waits for a run's end. Fails the test where it takes too long."""
        return self.wait(lambda: self._ended(run), f"{run.dag_id} {run.run_id}", seconds)

    def run(self, dag_id: str, conf: dict[str, Any] | None = None, run_id: str | None = None) -> DagRun:
        """Triggers a run and waits for its end."""
        return self.finish(self.client.trigger(dag_id, conf, run_id))

    def settle(self, since: datetime, seconds: float = 300, quiet: float = 3.0) -> list[DagRun]:
        """Waits until nothing has run for a while; the runs since a moment, the newest first."""
        last_busy = time.monotonic()

        def rested() -> list[DagRun] | None:
            nonlocal last_busy
            runs = self.client.runs(since)
            if any(not run.finished for run in runs):
                last_busy = time.monotonic()
            return runs if time.monotonic() - last_busy > quiet else None

        return self.wait(rested, "Airflow to settle", seconds)

    def wait(self, look: Callable[[], Any], what: str, seconds: float = 60) -> Any:
        """Looks until it sees something. Fails the test where it takes too long."""
        deadline = time.monotonic() + seconds
        while not (found := look()):
            assert time.monotonic() < deadline, f"waited {seconds} s for {what}"
            time.sleep(0.3)
        return found

    def running(self, *dag_ids: str) -> list[dict[str, Any]]:
        """The task instances of some DAGs whose process runs."""
        found = []
        for dag_id in dag_ids:
            path = f"/dags/{dag_id}/dagRuns/~/taskInstances"
            found += self.client.call("GET", path, params={"state": "running", "limit": 100})["task_instances"]
        return [task for task in found if task["pid"]]

    def kill(self, task: dict[str, Any]) -> bool:
        """SIGKILL for a task's process and all that it has started. Answers whether it was there still."""
        try:
            process = psutil.Process(task["pid"])
            assert process.environ().get("PENSTOCK_HOME") == str(self.home), task
            for one in (*process.children(recursive=True), process):
                one.kill()
        except psutil.NoSuchProcess:
            return False
        return True

    def _ended(self, run: DagRun) -> DagRun | None:
        found = self.client.run(run.dag_id, run.run_id)
        return found if found.finished else None


@pytest.fixture(scope="package")
def airflow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningAirflow]:
    """The whole stack in folders and on ports of its own, for this package: it is gone before others start theirs.

    PENSTOCK_TEST_STACK=running takes the one of PENSTOCK_HOME, PENSTOCK_ROOT and PENSTOCK_*_PORT instead.
    """
    if os.environ.get("PENSTOCK_TEST_STACK") == "running":
        login = read_credentials("dev").airflow
        with AirflowClient(login.url, login.username, login.password) as client:
            yield RunningAirflow(login.url, Path(os.environ["PENSTOCK_ROOT"]), state_home(), client)
        return
    root, home = tmp_path_factory.mktemp("root"), tmp_path_factory.mktemp("home")
    shutil.copytree(REPOSITORY / "dags", root / "dags")
    shutil.copytree(REPOSITORY / "tests/second_root/include", root / "include")
    (root / "plugins").symlink_to(REPOSITORY / "plugins")
    link_jars(home)
    settings = {"PENSTOCK_HOME": str(home), "PENSTOCK_ENV": "dev", "PENSTOCK_ROOT": str(root)}
    settings |= {f"PENSTOCK_{name}_PORT": str(free_port()) for name in ("SPARK", "MLFLOW", "AIRFLOW", "SERVING")}
    before = {name: os.environ.get(name) for name in settings}
    os.environ.update(settings)
    try:
        started = subprocess.run([PENSTOCK, "up"], capture_output=True, text=True, check=False)
        assert started.returncode == 0, started.stdout + started.stderr
        login = read_credentials("dev").airflow
        with AirflowClient(login.url, login.username, login.password) as client:
            running = RunningAirflow(login.url, root, home, client)
            running.wait(lambda: len(client.dag_ids()) >= 6, "the DAGs", 90)
            yield running
    finally:
        subprocess.run([PENSTOCK, "down"], capture_output=True, check=False)
        for name, value in before.items():
            with suppress(KeyError):
                os.environ.pop(name) if value is None else os.environ.__setitem__(name, value)


@pytest.fixture(scope="package")
def workspace(airflow: RunningAirflow) -> Workspace:
    """The workspace that this Airflow works in."""
    return Workspace.open("dev", airflow.root)


@pytest.fixture(scope="package")
def table(workspace: Workspace) -> Callable[[str], pd.DataFrame]:
    """Reads a table of the second project; empty where it does not exist yet."""

    def read_table(name: str) -> pd.DataFrame:
        path = workspace.addresses.find(f"wind_parks.{name}")
        return pd.DataFrame() if path is None else read(path)

    return read_table
