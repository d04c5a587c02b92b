"""New versions start their promotion in a real Airflow, by MLflow's real webhook; bad deliveries start nothing.

The tests of this file are one story, told in order.
"""

import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path

import httpx
import pandas as pd
import pytest
from mlflow import MlflowClient
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException

from penstock.airflow_rest import DagRun
from penstock.clock import now
from penstock.home import WebhookCredentials, read_credentials
from penstock.stack import health
from penstock.stack.settings import read_settings
from penstock.stack.supervisor import Supervisor
from penstock.workspace import Workspace
from tests.e2e.conftest import RunningAirflow
from tests.e2e.deliveries import alias_moved, mixture, parcel, send, summary

DELIVERIES = int(os.environ.get("PENSTOCK_DELIVERIES", "200"))
OF_GATES = ("penstock.stage", "penstock.compliance")
PROJECT = "tidal_parks"
MODEL = f"{PROJECT}.energy"
PROMOTION, RECONCILIATION = f"{MODEL}.model_promotion", f"{MODEL}.registry_reconciliation"


@pytest.fixture(scope="module")
def promotion(airflow: RunningAirflow) -> Iterator[str]:
    """The promotion DAG of a project of this file's own."""
    folder = airflow.root / "include/projects" / PROJECT
    shutil.copytree(airflow.root / "include/projects/wind_parks", folder, dirs_exist_ok=True)
    declaration = folder / "project.yaml"
    declaration.write_text(declaration.read_text().replace("name: wind_parks", f"name: {PROJECT}"))
    wanted = {name.replace("wind_parks.", f"{PROJECT}.") for name in airflow.client.dag_ids() if "wind_parks." in name}
    airflow.wait(lambda: wanted <= set(airflow.client.dag_ids()), "the new project's DAGs", 120)
    yield PROMOTION
    declaration.rename(folder / "project.gone")


@pytest.fixture
def paused(airflow: RunningAirflow, promotion: str) -> Iterator[str]:
    """The promotion DAG, paused: its runs are there, and wait."""
    airflow.client.call("PATCH", f"/dags/{promotion}", json={"is_paused": True})
    yield promotion
    for run_id in run_ids(airflow, "queued"):
        airflow.client.call("DELETE", f"/dags/{promotion}/dagRuns/{run_id}")
    airflow.client.call("PATCH", f"/dags/{promotion}", json={"is_paused": False})


@pytest.fixture
def webhook(airflow: RunningAirflow) -> WebhookCredentials:
    """Where the receiver is, and the secret."""
    found = read_credentials("dev").webhook
    assert found
    return found


@pytest.fixture
def notebook(workspace: Workspace) -> MlflowClient:
    """What a notebook has: MLflow's own client, and nothing of Penstock."""
    workspace.mlflow()
    return MlflowClient(workspace.resolved.mlflow_uri)


def register(client: MlflowClient, folder: Path, tags: dict[str, str] | None = None) -> int:
    """A version that is no more than a file, registered by a plain client."""
    with suppress(MlflowException):  # it is there already
        client.create_registered_model(MODEL)
    folder.mkdir()
    run = client.create_run(client.create_experiment(f"by hand {uuid.uuid4()}"))
    (folder / "MLmodel").write_text("flavors: {}\n")
    client.log_artifacts(run.info.run_id, str(folder), "model")
    made = client.create_model_version(MODEL, f"{run.info.artifact_uri}/model", run_id=run.info.run_id, tags=tags or {})
    return int(made.version)


def _waiting(airflow: RunningAirflow, version: int, run_id: str | None = None) -> DagRun:
    """The run of a version, once its approval may be answered."""

    def look() -> DagRun | None:
        run = run_of(airflow, version, run_id)
        asked = [item for item in airflow.client.open_approvals() if run and item["run_id"] == run.run_id]
        old_enough = asked and pd.Timestamp(asked[0]["since"]) < pd.Timestamp(now() - timedelta(seconds=4))
        return run if run and old_enough and airflow.client.tasks(run)["approval"] == "awaiting_input" else None

    return airflow.wait(look, f"version {version} to wait for approval", 240)


def run_of(airflow: RunningAirflow, version: int, run_id: str | None = None) -> DagRun | None:
    wanted = run_id or f"promote__energy__{version}"
    return next((run for run in airflow.client.runs(dag_id=PROMOTION) if run.run_id == wanted), None)


def run_ids(airflow: RunningAirflow, *states: str) -> list[str]:
    """The ids of all runs of the promotion DAG; Airflow hands out a hundred at a time."""
    found: list[str] = []
    while True:
        asked = {"limit": 100, "offset": len(found), "order_by": "id", "state": states}
        page = airflow.client.call("GET", f"/dags/{PROMOTION}/dagRuns", params=asked)
        found += [item["dag_run_id"] for item in page["dag_runs"]]
        if len(found) >= page["total_entries"]:
            return found


def test_a_version_from_a_notebook_starts_its_promotion(
    airflow: RunningAirflow, promotion: str, notebook: MlflowClient, tmp_path: Path
) -> None:
    version = register(notebook, tmp_path / "model", {"penstock.as_of": "2024-02-10T00:00:00Z"})
    run = airflow.wait(lambda: run_of(airflow, version), "the promotion's run")
    assert run.conf == {
        "model_version": version, "as_of": "2024-02-10T00:00:00Z", "reason": "registered in MLflow",
    }  # fmt: skip
    assert airflow.finish(run).state == "success"
    assert airflow.client.tasks(run)["compare_with_production"] == "skipped"  # it is no model: archived, with reasons
    tags = notebook.get_model_version(MODEL, str(version)).tags
    assert tags["penstock.stage"] == "Archived"


def _registered_again(client: MlflowClient, found: ModelVersion) -> int:
    """The same model as one more version."""
    again = client.create_model_version(
        MODEL, found.source, run_id=found.run_id, description=found.description,
        tags={name: value for name, value in found.tags.items() if not name.startswith(OF_GATES)},
        model_id=found.source.removeprefix("models:/"),
    )  # fmt: skip
    return int(again.version)


@contextmanager
def deaf(workspace: Workspace) -> Iterator[None]:
    """MLflow sends nothing: what happens meanwhile is told to nobody."""
    place, found = f"{workspace.resolved.mlflow_uri}/api/2.0/mlflow/webhooks", read_credentials("dev").mlflow
    with httpx.Client(auth=(found.username, found.password)) as client:
        (known,) = client.get(place).raise_for_status().json()["webhooks"]

        def switch(status: str) -> None:
            client.patch(f"{place}/{known['webhook_id']}", json={"status": status}).raise_for_status()

        switch("DISABLED")
        yield
        switch("ACTIVE")


def test_a_newer_version_takes_the_place_of_one_that_waits_for_approval(
    airflow: RunningAirflow, promotion: str, notebook: MlflowClient, workspace: Workspace
) -> None:
    assert airflow.run(f"{PROJECT}.feature_refresh", {"as_of": "2024-02-10"}).state == "success"
    assert airflow.run(f"{MODEL}.training", {"as_of": "2024-02-10"}).state == "success"
    first = notebook.search_model_versions(f"name='{MODEL}'", order_by=["version_number DESC"])[0]
    older = _waiting(airflow, int(first.version))
    newer = _waiting(airflow, _registered_again(notebook, first))
    assert airflow.finish(older).state == "success"
    states = airflow.client.tasks(older)
    assert (states["approval"], states["to_production"]) == ("skipped", "skipped")
    assert notebook.get_model_version(MODEL, first.version).tags["penstock.stage"] == "Archived"
    with deaf(workspace):  # of the next one no event tells
        newest = _registered_again(notebook, first)
        asked = {"model_version": newest, "as_of": "2024-02-10"}
        airflow.client.trigger(PROMOTION, asked, run_id=f"promote__energy__{newest}")
        assert airflow.finish(newer).state == "success"
    assert airflow.client.tasks(newer)["approval"] == "skipped"
    last = _waiting(airflow, newest)
    assert [item["run_id"] for item in airflow.client.open_approvals()] == [last.run_id]
    assert "no longer waits for approval" in (airflow.home / "dev/notifications.jsonl").read_text()


def _newest_waiting(airflow: RunningAirflow) -> DagRun:
    (item,) = airflow.client.open_approvals()
    return next(run for run in airflow.client.runs(dag_id=PROMOTION) if run.run_id == item["run_id"])


def test_a_hand_that_moves_the_alias_of_a_waiting_version_ends_no_request(
    airflow: RunningAirflow, promotion: str, webhook: WebhookCredentials
) -> None:
    """The event is MLflow's and genuine, but no transition archived the version: whoever repairs decides."""
    last = _newest_waiting(airflow)
    sent = alias_moved(MODEL, "staging", int(last.conf["model_version"]) + 1, webhook.secret)
    answer = httpx.post(webhook.url, content=sent.body, headers=sent.headers)
    assert (answer.status_code, answer.json()) == (200, {"outcome": "noticed", "ended": []})
    assert airflow.client.tasks(last)["approval"] == "awaiting_input"


def test_a_version_in_staging_whose_request_was_ended_is_asked_about_again(
    airflow: RunningAirflow, promotion: str, notebook: MlflowClient
) -> None:
    last = _newest_waiting(airflow)
    place = f"/dags/{PROMOTION}/dagRuns/{last.run_id}/taskInstances/approval"
    airflow.client.call("PATCH", place, json={"new_state": "skipped", "include_downstream": True})
    assert airflow.finish(last).state == "success"
    assert airflow.run(RECONCILIATION).state == "success"
    version = int(last.conf["model_version"])
    again = _waiting(airflow, version, f"promote__energy__{version}__again_1")
    with airflow.login("engineer") as engineer:
        engineer.answer_approval(again, "approval", "Reject", reason="only to see it wait")
    assert airflow.finish(again).state == "success"
    assert notebook.get_model_version(MODEL, str(version)).tags["penstock.stage"] == "Archived"


def test_each_version_has_one_run_and_no_bad_delivery_makes_one(
    airflow: RunningAirflow, paused: str, webhook: WebhookCredentials
) -> None:
    before = set(run_ids(airflow))
    parcels = mixture(MODEL, webhook.secret, DELIVERIES)
    fresh = {found.version for found in parcels if found.kind == "fresh"}
    receipts = send(webhook.url, parcels, each_second=50)
    print(summary(receipts))  # make bench-webhook shows it
    runs = run_ids(airflow)
    assert sorted(set(runs) - before) == sorted({f"promote__energy__{version}" for version in fresh} - before)
    assert len(runs) == len(set(runs))
    answers = {(found.parcel.kind, found.status) for found in receipts}
    assert {status for kind, status in answers if kind in ("forged", "stale")} == {401}
    assert {status for kind, status in answers if kind in ("fresh", "repeated")} <= {200, 201}


def test_a_model_that_is_no_projects_is_passed_over_with_an_answer(
    airflow: RunningAirflow, webhook: WebhookCredentials
) -> None:
    sent = parcel("unknown_project.model", 1, webhook.secret)
    answer = httpx.post(webhook.url, content=sent.body, headers=sent.headers)
    assert answer.status_code == 202
    assert "unknown_project.model.model_promotion" in answer.json()["detail"]


@contextmanager
def stopped(airflow: RunningAirflow, program: str) -> Iterator[None]:
    """One program of the stack is down, as after a crash that nobody mended yet."""
    supervisor, credentials = Supervisor(read_settings()), read_credentials("dev")
    supervisor.stop_program(program)
    yield
    supervisor.start_program(program)
    if program == "mlflow":
        airflow.wait(lambda: health.check_mlflow(credentials.mlflow) is None, program, 180)
    else:
        airflow.wait(lambda: health.check_airflow(credentials.airflow, components=()) is None, program, 180)


def test_what_was_registered_while_airflow_was_down_is_found_as_soon_as_mlflow_answers(
    airflow: RunningAirflow, promotion: str, notebook: MlflowClient, tmp_path: Path
) -> None:
    log = airflow.home / "dev/logs/mlflow.log"
    with stopped(airflow, "airflow-api-server"):
        told = log.read_text().count("Failed to send webhook")
        version = register(notebook, tmp_path / "model")
        airflow.wait(lambda: log.read_text().count("Failed to send webhook") > told, "MLflow to give up", 120)
    assert run_of(airflow, version) is None
    with stopped(airflow, "mlflow"):
        reconciliation = airflow.client.trigger(RECONCILIATION)
        airflow.wait(lambda: airflow.client.tasks(reconciliation).get("repair") == "running", "the task to ask", 120)
    assert airflow.finish(reconciliation).state == "success"
    run = run_of(airflow, version)
    assert run
    assert run.conf["model_version"] == version
    assert airflow.finish(run).state == "success"
    again = airflow.run(RECONCILIATION)
    assert airflow.client.tasks(again)["request_promotion"] == "skipped"
