"""The local stack, really started in a folder and on ports of its own."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import psutil
import pytest

from penstock.home import Credentials, read_credentials
from penstock.stack.leftovers import PROGRAM_VARIABLE, find_processes
from tests.conftest import REPOSITORY, link_jars

pytestmark = pytest.mark.timeout(600)


def free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    for each in sockets:
        each.bind(("127.0.0.1", 0))
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


class Stack:
    """A stack of the tests' own, driven by its command line as a user would."""

    def __init__(self, home: Path, dags: Path) -> None:
        names = ("AIRFLOW", "MLFLOW", "SPARK", "SERVING")
        ports = {f"PENSTOCK_{name}_PORT": str(port) for name, port in zip(names, free_ports(4), strict=True)}
        inherited = {k: v for k, v in os.environ.items() if not k.startswith(("PENSTOCK_", "AIRFLOW"))}
        self.variables = {
            **inherited,
            **ports,
            "PENSTOCK_HOME": str(home),
            "PENSTOCK_ENV": "dev",
            "PENSTOCK_AIRFLOW__CORE__DAGS_FOLDER": str(dags),
            "PYTHONPATH": str(REPOSITORY / "plugins"),
        }

    def command(self, *arguments: str, fails: bool = False) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "penstock.cli", *arguments],
            env=self.variables,
            capture_output=True,
            text=True,
            timeout=400,
            check=False,
        )
        assert (done.returncode != 0) == fails, done.stdout + done.stderr
        return done.stdout + done.stderr

    def with_variables(self, monkeypatch: pytest.MonkeyPatch) -> None:
        for name, value in self.variables.items():
            if name.startswith("PENSTOCK_"):
                monkeypatch.setenv(name, value)

    @property
    def state(self) -> Path:
        return Path(self.variables["PENSTOCK_HOME"]) / "dev"

    def states(self) -> dict[str, str]:
        report = json.loads(self.command("status", "--json"))
        assert report["environment"] == "dev"
        return {name: service["state"] for name, service in report["services"].items()}

    def processes(self, program: str | None = None) -> list[psutil.Process]:
        return find_processes(str(self.state), program)

    def main_process(self, program: str) -> psutil.Process:
        of_program = self.processes(program)
        pids = {process.pid for process in of_program}
        [main] = [process for process in of_program if process.ppid() not in pids]
        return main


ALL_UP = {"spark": "up", "mlflow": "up", "airflow": "up"}


@pytest.fixture(scope="module")
def stack(tmp_path_factory) -> Iterator[Stack]:
    home = tmp_path_factory.mktemp("stack")
    dags = tmp_path_factory.mktemp("dags")
    shutil.copy(Path(__file__).parent / "stack_dags" / "sleeper.py", dags)
    link_jars(home)
    stack = Stack(home, dags)
    assert set(stack.states().values()) == {"down"}
    stack.command("up")
    yield stack
    stack.command("down")
    assert stack.processes() == []


@pytest.fixture
def credentials(stack, monkeypatch) -> Credentials:
    stack.with_variables(monkeypatch)
    return read_credentials()


def wait_until(condition: Callable[[], bool], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "timed out"
        time.sleep(0.2)


def test_everything_answers(stack):
    assert stack.states() == ALL_UP


def test_a_second_start_does_nothing(stack):
    before = {process.pid for process in stack.processes()}
    assert "nothing to do" in stack.command("up")
    assert {process.pid for process in stack.processes()} == before


def test_nothing_listens_beyond_the_loopback_address(stack):
    listening = [
        connection.laddr.ip
        for process in stack.processes()
        for connection in process.net_connections(kind="inet")
        if connection.status == psutil.CONN_LISTEN
    ]
    assert len(listening) >= 3
    assert {ip.removeprefix("::ffff:") for ip in listening} == {"127.0.0.1"}


def test_no_secret_is_seen_by_others(stack, credentials):
    secrets = [credentials.airflow.password, credentials.mlflow.password, credentials.spark.token]
    secrets += json.loads((stack.state / "secrets.json").read_text()).values()
    seen = [" ".join(process.cmdline()) for process in stack.processes()]
    seen += [path.read_text(errors="replace") for path in (stack.state / "logs").rglob("*.log")]
    assert not [text for text in seen for secret in secrets if secret in text]
    assert stat.S_IMODE(stack.state.stat().st_mode) == 0o700


def test_the_whole_stack_fits_into_six_gib(stack):
    used = sum(process.memory_full_info().pss for process in stack.processes())
    assert used < 6 * 2**30


def test_services_refuse_strangers(credentials):
    from penstock.home import SparkCredentials
    from penstock.stack.health import check_spark

    assert httpx.get(f"{credentials.mlflow.url}/api/2.0/mlflow/experiments/search").status_code == 401
    assert httpx.get(f"{credentials.airflow.url}/api/v2/dags").status_code == 401
    assert "token" in (check_spark(SparkCredentials(credentials.spark.url, "wrong")) or "")


def test_roles_are_what_they_say(credentials):
    airflow = credentials.airflow

    def pools(username: str) -> int:
        login = {"username": username, "password": airflow.login(username).password}
        token = httpx.post(f"{airflow.url}/auth/token", json=login).json()["access_token"]
        body = {"name": f"of_{username}", "slots": 1}
        bearer = {"Authorization": f"Bearer {token}"}
        return httpx.post(f"{airflow.url}/api/v2/pools", json=body, headers=bearer).status_code

    assert (pools("engineer"), pools("scientist")) == (201, 403)


def test_spark_writes_delta_and_its_python_knows_penstock(stack, credentials):
    from pyspark.sql import SparkSession

    spark = SparkSession.builder.remote(credentials.spark.remote).create()
    try:
        path = str(stack.state / "lakehouse" / "probe" / "table")
        spark.range(10).write.format("delta").save(path)
        spark.sql(f"DELETE FROM delta.`{path}` WHERE id < 3")
        assert spark.read.format("delta").option("versionAsOf", 1).load(path).count() == 7
        assert spark.conf.get("spark.sql.session.timeZone") == "UTC"

        def environment(batches):
            import pyarrow

            import penstock.home

            for batch in batches:
                names = [penstock.home.environment_name()] * batch.num_rows
                yield pyarrow.RecordBatch.from_pydict({"name": names})

        assert spark.range(1).mapInArrow(environment, "name string").collect()[0].name == "dev"
    finally:
        spark.stop()


def test_a_killed_server_comes_back_by_itself(stack):
    killed = stack.main_process("spark")
    killed.kill()
    wait_until(lambda: stack.states() == ALL_UP)
    assert stack.main_process("spark").pid != killed.pid


def run_sleeper(credentials: Credentials) -> Callable[[], str]:
    """Start the DAG `sleeper`; return a function that gives its task's state."""
    airflow = credentials.airflow
    login = {"username": airflow.username, "password": airflow.password}
    token = httpx.post(f"{airflow.url}/auth/token", json=login).json()["access_token"]
    api = httpx.Client(base_url=f"{airflow.url}/api/v2", headers={"Authorization": f"Bearer {token}"}, timeout=60)
    wait_until(lambda: api.get("/dags/sleeper").status_code == 200)
    run = api.post("/dags/sleeper/dagRuns", json={"logical_date": None}).raise_for_status().json()

    def state() -> str:
        task = api.get(f"/dags/sleeper/dagRuns/{run['dag_run_id']}/taskInstances/sleep")
        return str(task.json()["state"]) if task.is_success else "?"

    return state


def sleepers(stack: Stack) -> list[psutil.Process]:
    """Return the processes that run the sleeper's task: they alone hold its marker file open."""
    marker = str(stack.state / "sleeping")
    found = []
    for process in stack.processes("airflow-scheduler"):
        if any(file.path == marker for file in process.open_files()):
            found.append(process)
    return found


def test_a_killed_scheduler_leaves_no_task_behind(stack, credentials):
    state = run_sleeper(credentials)
    wait_until(lambda: state() == "running" and bool(sleepers(stack)))
    [task] = sleepers(stack)
    stack.main_process("airflow-scheduler").kill()
    wait_until(lambda: not task.is_running())
    wait_until(lambda: stack.states() == ALL_UP)


def test_after_everything_was_killed_it_starts_again(stack):
    supervisor = next(p for p in stack.processes() if PROGRAM_VARIABLE not in p.environ())
    supervisor.send_signal(signal.SIGKILL)
    assert set(stack.states().values()) == {"failed"}
    orphans = {process.pid for process in stack.processes()}
    assert orphans
    assert "a crash had left" in stack.command("up")
    wait_until(lambda: stack.states() == ALL_UP)  # on a busy machine an answer may take longer than status waits
    assert not orphans & {process.pid for process in stack.processes()}


def test_another_stack_on_these_ports_is_refused_before_it_starts(stack, tmp_path):
    other = Stack(tmp_path, tmp_path)
    other.variables.update({k: v for k, v in stack.variables.items() if k.endswith("_PORT")})
    message = other.command("up", "mlflow", "airflow", fails=True)
    assert "PENSTOCK_MLFLOW_PORT" in message
    assert "PENSTOCK_AIRFLOW_PORT" in message
    assert other.processes() == []


def test_a_second_stack_runs_beside_it(stack, tmp_path):
    other = Stack(tmp_path, tmp_path)
    other.command("up", "mlflow")
    try:
        assert other.states() == {"spark": "down", "mlflow": "up", "airflow": "down"}
        assert stack.states() == ALL_UP
    finally:
        other.command("down")
    assert stack.states() == ALL_UP


def test_a_service_that_cannot_start_shows_why(tmp_path):
    stack = Stack(tmp_path, tmp_path)
    link_jars(tmp_path)
    stack.variables["PENSTOCK_SPARK_MEMORY"] = "64m"
    message = stack.command("up", "spark", fails=True)
    assert "spark did not come up" in message
    assert "System memory" in message  # Spark's own words, from its log
    assert str(stack.state / "logs" / "spark.log") in message
    stack.command("down")
    assert stack.processes() == []


def test_logs_are_shown(stack):
    assert "airflow-scheduler.log" in stack.command("logs", "airflow", "-n", "3")
    assert "choose from" in stack.command("logs", "spork", fails=True)


def test_stopping_leaves_nothing_even_with_a_task_running(stack, credentials):
    state = run_sleeper(credentials)
    wait_until(lambda: state() == "running")
    stack.command("down")
    assert stack.processes() == []
    assert "nothing to do" in stack.command("down")
    assert set(stack.states().values()) == {"down"}
