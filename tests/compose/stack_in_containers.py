"""The stack of docker-compose.yaml on a real Docker: built, started, used over REST, restarted, removed.

`make test-compose` runs this; its name keeps it out of `make test`, which must not need a Docker. Ports:
PENSTOCK_AIRFLOW_PORT and PENSTOCK_MLFLOW_PORT, 18080 and 15000 by default.
"""

import json
import os
import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from penstock.airflow_rest import AirflowClient

pytestmark = pytest.mark.timeout(2400)

ROOT = Path(__file__).resolve().parents[2]
IMAGE = "penstock:test"
ONCE = {"postgres-init", "airflow-init", "mlflow-webhook"}
BUILT_FROM = ("Dockerfile", ".dockerignore", "requirements.txt", "plugins", "dags", "include", "docker")
AIRFLOW_PORT = os.environ.get("PENSTOCK_AIRFLOW_PORT") or "18080"
MLFLOW_PORT = os.environ.get("PENSTOCK_MLFLOW_PORT") or "15000"


def run(*command: str | Path, timeout: float = 600, **options: Any) -> str:
    """What a command prints; fails with what it said when it fails."""
    done = subprocess.run(command, capture_output=True, text=True, timeout=timeout, check=False, **options)
    assert done.returncode == 0, f"{command}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    return done.stdout


@dataclass(frozen=True)
class Deployment:
    """A Compose project of this test's own, and its environment file."""

    name: str
    file: Path

    @property
    def variables(self) -> dict[str, str]:
        lines = self.file.read_text().splitlines()
        return dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))

    def compose(self, *words: str, timeout: float = 600) -> str:
        environment = {name: value for name, value in os.environ.items() if not name.startswith("PENSTOCK_")}
        return run(
            "docker", "compose", "--project-name", self.name, "--env-file", self.file, *words,
            cwd=ROOT, env={**environment, "PENSTOCK_IMAGE": IMAGE}, timeout=timeout,
        )  # fmt: skip

    def containers(self) -> dict[str, dict[str, Any]]:
        """State of each service's container, by service."""
        lines = self.compose("ps", "--all", "--format", "json").splitlines()
        return {found["Service"]: found for found in map(json.loads, lines)}

    def wait_until_healthy(self, seconds: float = 400) -> None:
        """Return once every server is healthy; fails with the log of one that is not."""
        deadline = time.monotonic() + seconds
        while True:
            found = self.containers()
            waiting = [name for name, c in found.items() if name not in ONCE and c["Health"] != "healthy"]
            if not waiting:
                return
            if time.monotonic() > deadline or any(found[name]["State"] == "exited" for name in waiting):
                pytest.fail(f"not healthy: {waiting}\n" + self.compose("logs", "--tail", "30", waiting[0]))
            time.sleep(2)

    def airflow(self, user: str = "admin") -> AirflowClient:
        password = self.variables[f"PENSTOCK_AIRFLOW_{user.upper()}_PASSWORD"]
        return AirflowClient(f"http://localhost:{AIRFLOW_PORT}", user, password)

    def in_container(self, service: str, code: str) -> str:
        return self.compose("exec", "-T", service, "python", "-c", code).strip()


def roots_of_this_machine() -> list[str]:
    """Certificates that this machine trusts beside Debian's: behind a proxy that reads TLS, the build needs them."""
    bundle = Path("/etc/ssl/certs/ca-certificates.crt")
    if not bundle.exists():
        return []
    known = {"".join(path.read_text().split()) for path in Path("/usr/share/ca-certificates").rglob("*.crt")}
    found = re.findall(r"-----BEGIN CERT.*?-----END CERTIFICATE-----", bundle.read_text(), re.DOTALL)
    return [text for text in found if "".join(text.split()) not in known]


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> str:
    context = tmp_path_factory.mktemp("context")
    for name in BUILT_FROM:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, context / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy2(source, context / name)
    for number, text in enumerate(roots_of_this_machine()):
        (context / "docker" / "certificates" / f"machine-{number}.crt").write_text(text + "\n")
    commit = run("git", "rev-parse", "HEAD", cwd=ROOT).strip()
    code = ("--build-arg", f"CODE_VERSION={commit}", "--build-arg", "CODE_BRANCH=main")
    run("docker", "build", "--network", "host", "--tag", IMAGE, *code, context, timeout=1800)
    return commit


@pytest.fixture(scope="module")
def deployment(image: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    file = tmp_path_factory.mktemp("compose") / "test.env"
    ports = {"PENSTOCK_AIRFLOW_PORT": AIRFLOW_PORT, "PENSTOCK_MLFLOW_PORT": MLFLOW_PORT}
    run(ROOT / "docker" / "make-env", "dev", file, env={**os.environ, **ports})
    made = Deployment(f"penstock-test-{os.getpid()}", file)
    try:
        made.compose("up", "--detach", "--no-build")
        made.wait_until_healthy()
        yield made
    finally:
        made.compose("down", "--volumes")


def test_everything_is_healthy_and_what_runs_once_has_ended_well(deployment):
    found = deployment.containers()
    assert {name for name, c in found.items() if c["Health"] == "healthy"} == set(found) - ONCE
    assert {name: found[name]["ExitCode"] for name in ONCE} == dict.fromkeys(ONCE, 0)


def test_docker_publishes_two_ports_on_the_loopback(deployment):
    published = {
        f"{port['URL']}:{port['PublishedPort']}"
        for found in deployment.containers().values()
        for port in found["Publishers"] or []
        if port["PublishedPort"]
    }
    assert published == {f"127.0.0.1:{AIRFLOW_PORT}", f"127.0.0.1:{MLFLOW_PORT}"}


def test_no_program_runs_as_root(deployment):
    for service in set(deployment.containers()) - ONCE - {"postgres"}:
        assert deployment.compose("exec", "-T", service, "id", "-u").strip() == "10001", service


def test_no_command_line_shows_a_secret(deployment):
    shown = deployment.compose("top")
    assert "api-server" in shown
    assert not [name for name, value in deployment.variables.items() if len(value) >= 32 and value in shown]


def test_strangers_are_refused(deployment):
    mlflow = f"http://localhost:{MLFLOW_PORT}/api/2.0/mlflow/experiments/search?max_results=1"
    login = ("admin", deployment.variables["PENSTOCK_MLFLOW_PASSWORD"])
    with httpx.Client(timeout=60) as stranger:
        assert stranger.get(mlflow).status_code == 401
        assert stranger.get(mlflow, auth=login).status_code == 200
        assert stranger.get(mlflow, auth=login, headers={"Host": "elsewhere.example"}).status_code == 403
        assert stranger.get(f"http://localhost:{AIRFLOW_PORT}/api/v2/dags").status_code == 401


def test_features_are_refreshed_over_rest(deployment, image):
    with deployment.airflow("engineer") as airflow:
        deadline = time.monotonic() + 600
        while "flight_delays.feature_refresh" not in airflow.dag_ids():
            assert time.monotonic() < deadline
            time.sleep(2)
        started = airflow.trigger("flight_delays.feature_refresh", {"as_of": "2013-02-01T00:00:00Z"})
        while not (state := airflow.run(started.dag_id, started.run_id)).finished and time.monotonic() < deadline:
            time.sleep(2)
        assert state.state == "success", airflow.tasks(started)
        # What the scheduler's tasks logged is seen through the API server.
        logs = airflow.call("GET", f"/dags/{started.dag_id}/dagRuns/{started.run_id}/taskInstances/land.flights/logs/1")
        assert "as of 2013-02-01" in json.dumps(logs)
    record = deployment.in_container("airflow-scheduler", _NEWEST_RECORD)
    assert json.loads(record)["rows"] > 100
    assert json.loads(record)["code"] == image


@pytest.mark.parametrize("environment", ["staging", "prod"])
def test_tasks_know_that_the_images_commit_was_reviewed(deployment, image, environment):
    code = _REVIEWED.replace("ENVIRONMENT", environment)
    assert json.loads(deployment.in_container("airflow-scheduler", code)) == [image, ["main"]]


def test_mlflow_keeps_runs_and_artifacts(deployment):
    assert deployment.in_container("airflow-scheduler", _LOG_A_RUN) == "kept"


def test_a_registered_version_starts_its_promotion(deployment):
    version = deployment.in_container("airflow-scheduler", _REGISTER_A_VERSION).splitlines()[-1]
    promotion, wanted = "flight_delays.late_arrival.model_promotion", f"promote__late_arrival__{version}"
    with deployment.airflow() as airflow:
        deadline = time.monotonic() + 120
        while wanted not in {run.run_id for run in airflow.runs(dag_id=promotion)}:
            assert time.monotonic() < deadline
            time.sleep(1)


def test_down_and_up_keeps_everything(deployment):
    before = deployment.in_container("airflow-scheduler", _NEWEST_RECORD)
    deployment.compose("down")
    deployment.compose("up", "--detach", "--no-build")
    deployment.wait_until_healthy()
    assert deployment.in_container("airflow-scheduler", _NEWEST_RECORD) == before
    assert deployment.in_container("airflow-scheduler", _READ_THE_RUN) == "kept"
    with deployment.airflow() as airflow:
        assert [run.state for run in airflow.runs(dag_id="flight_delays.feature_refresh")] == ["success"]


def test_compose_names_the_variable_that_is_missing(deployment, tmp_path):
    incomplete = tmp_path / "incomplete.env"
    lines = deployment.file.read_text().splitlines()
    incomplete.write_text("\n".join(line for line in lines if "JWT" not in line))
    refused = subprocess.run(
        ["docker", "compose", "--env-file", incomplete, "config"], cwd=ROOT, capture_output=True, text=True
    )
    assert refused.returncode != 0
    assert "PENSTOCK_AIRFLOW_JWT_SECRET" in refused.stderr
    assert "docker/make-env" in refused.stderr


_NEWEST_RECORD = """
import json
from deltalake import DeltaTable
from penstock.workspace import Workspace
workspace = Workspace.open()
table = DeltaTable(workspace.addresses.readable("flight_delays.carrier_daily"))
written = [c["userMetadata"] for c in table.history() if c.get("userMetadata")]
with workspace.spark() as spark:
    rows = spark.read.format("delta").load(table.table_uri).count()
print(json.dumps({"code": json.loads(written[0])["penstock"]["code"], "rows": rows, "version": table.version()}))
"""
_REVIEWED = """
import json, os
from penstock.lakehouse.git import reviewed_on
from penstock.workspace import Workspace
workspace = Workspace.open("ENVIRONMENT")
code = os.environ["PENSTOCK_CODE_VERSION"]
folder = workspace.project("flight_delays").folder
print(json.dumps([code, reviewed_on(folder, code, workspace.environment.code.branches)]))
"""
_LOG_A_RUN = """
import os
import mlflow
os.environ["MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT"] = "true"
from penstock.workspace import Workspace
Workspace.open().mlflow()
mlflow.set_experiment("compose")
with mlflow.start_run() as run:
    mlflow.log_text("kept", "a.txt")
print(mlflow.artifacts.load_text(f"runs:/{run.info.run_id}/a.txt"))
"""
_REGISTER_A_VERSION = """
from mlflow import MlflowClient
from penstock.workspace import Workspace
Workspace.open().mlflow()
client = MlflowClient()
client.create_registered_model("flight_delays.late_arrival")
run = client.create_run(client.create_experiment("by hand"))
source = f"{run.info.artifact_uri}/nothing"
print(client.create_model_version("flight_delays.late_arrival", source, run.info.run_id).version)
"""
_READ_THE_RUN = """
import mlflow
from penstock.workspace import Workspace
Workspace.open().mlflow()
(run,) = mlflow.search_runs(experiment_names=["compose"], output_format="list")
print(mlflow.artifacts.load_text(f"runs:/{run.info.run_id}/a.txt"))
"""
