"""A second project of another shape goes through the whole loop in a real Airflow, over REST; people approve.

The tests of this file are one story, told in order.
"""

import json
import subprocess
from collections.abc import Callable
from datetime import timedelta

import pandas as pd
import pytest

from penstock.airflow_rest import DagRun
from penstock.clock import now
from penstock.errors import ServiceError
from penstock.registry.client import RegisteredModel
from penstock.workspace import Workspace
from tests.e2e.conftest import PENSTOCK, RunningAirflow

Table = Callable[[str], pd.DataFrame]
REFRESH, MODEL = "wind_parks.feature_refresh", "wind_parks.energy"
APPROVAL = "approval"


def test_every_pipeline_has_its_dag_and_no_file_is_broken(airflow: RunningAirflow) -> None:
    pipelines = ("training", "model_promotion", "batch_inference", "monitoring", "retraining")
    assert {REFRESH, *(f"{MODEL}.{name}" for name in pipelines)} <= set(airflow.client.dag_ids())
    # one may be left for a moment, of a file that the tests before took away while it was read
    airflow.wait(lambda: airflow.client.call("GET", "/importErrors")["total_entries"] == 0, "no import error", 60)
    refresh = airflow.client.call("GET", f"/dags/{REFRESH}/details")
    assert {tag["name"] for tag in refresh["tags"]} == {"wind_parks", "feature_refresh", "dev"}
    assert refresh["doc_md"]
    assert refresh["params"]["as_of"]["description"]


def test_a_viewer_cannot_start_anything(airflow: RunningAirflow) -> None:
    with airflow.login("scientist") as viewer:
        assert REFRESH in viewer.dag_ids()
        with pytest.raises(ServiceError, match="403"):
            viewer.trigger(REFRESH, {"as_of": "2024-02-10"})


def test_a_parameter_that_is_no_timestamp_is_refused_at_the_door(airflow: RunningAirflow) -> None:
    with pytest.raises(ServiceError, match="as_of"):
        airflow.client.trigger(REFRESH, {"as_of": "next tuesday"})


def test_without_a_version_in_production_inference_says_so_and_skips(airflow: RunningAirflow, table: Table) -> None:
    since = now()
    assert airflow.run(REFRESH, {"as_of": "2024-02-10"}).state == "success"
    assert len(table("turbine_daily")) > 300
    inference = [run for run in airflow.settle(since) if run.dag_id == f"{MODEL}.batch_inference"]
    assert inference
    assert airflow.client.tasks(inference[0])["score"] == "skipped"


def test_training_registers_a_version_and_its_promotion_waits_for_a_person(airflow: RunningAirflow) -> None:
    assert airflow.run(f"{MODEL}.training", {"as_of": "2024-02-10"}).state == "success"
    request = _request(airflow, 1)
    assert "wind_parks.energy version 1" in request["subject"]
    assert "rmse" in request["body"]


def test_started_over_rest_a_version_is_built_again_and_the_verdict_stays_with_it(
    airflow: RunningAirflow, workspace: Workspace
) -> None:
    run = airflow.run(f"{MODEL}.reproduction", {"model_version": 1})
    assert run.state == "success"
    verdict = airflow.client.xcom(run, "reproduce")
    assert (verdict["gate"], verdict["subject"]) == ("reproduction", f"{MODEL} version 1")
    outcomes = {check["name"]: check["outcome"] for check in verdict["checks"]}
    assert outcomes.keys() == {"code", "data", "surroundings", "predictions", "metrics"}
    assert (outcomes["data"], outcomes["predictions"], outcomes["metrics"]) == ("pass", "pass", "pass")
    assert RegisteredModel(workspace, *MODEL.split(".")).version(1).tags["penstock.reproduced"].startswith("identical")
    unknown = airflow.run(f"{MODEL}.reproduction", {"model_version": 99})
    assert unknown.state == "failed"
    assert "99" in _log(airflow, unknown, "reproduce")


def test_who_is_no_approver_is_refused_at_the_door(airflow: RunningAirflow) -> None:
    with pytest.raises(ServiceError, match="403.*not a respondent"):
        airflow.client.answer_approval(_promotion(airflow, 1), APPROVAL, "Approve", reason="I am the admin")
    with airflow.login("scientist") as viewer, pytest.raises(ServiceError, match="403"):
        viewer.answer_approval(_promotion(airflow, 1), APPROVAL, "Approve", reason="I trained it")


def test_approved_over_rest_it_goes_to_production_with_the_name_of_who_approved(
    airflow: RunningAirflow, table: Table
) -> None:
    _answer(airflow, _promotion(airflow, 1), "Approve", "good enough to begin with")
    assert airflow.finish(_promotion(airflow, 1)).state == "success"
    row = _production_rows(table).iloc[-1]
    assert row["version"] == 1
    assert row["decided_by"] == "engineer"
    assert row["reason"] == "good enough to begin with"
    answer = _notes(table, "approval").iloc[0]
    assert (answer["version"], answer["decided_by"], answer["reason"]) == (1, "engineer", "good enough to begin with")
    lines = (airflow.home / "dev/notifications.jsonl").read_text().splitlines()
    told = [(line["event"], line["version"]) for line in map(json.loads, lines)]
    assert told == [("approval_wanted", 1), ("approval_decided", 1)]


def test_the_same_version_cannot_be_under_way_twice(airflow: RunningAirflow) -> None:
    with pytest.raises(ServiceError, match="409"):
        airflow.client.trigger(f"{MODEL}.model_promotion", {"model_version": 1}, "promote__energy__1")


def test_a_promotion_without_a_version_fails_at_once_and_says_what_to_give(airflow: RunningAirflow) -> None:
    run = airflow.run(f"{MODEL}.model_promotion", {})
    assert run.state == "failed"
    assert "model_version" in _log(airflow, run, "admit")


def test_a_rejected_version_is_archived_and_production_stays(airflow: RunningAirflow, table: Table) -> None:
    airflow.settle(now() - timedelta(minutes=5))
    assert airflow.run(REFRESH, {"as_of": "2024-02-12"}).state == "success"
    assert airflow.run(f"{MODEL}.training", {"as_of": "2024-02-12"}).state == "success"
    run = airflow.client.run(f"{MODEL}.model_promotion", "promote__energy__2")
    _request(airflow, 2)
    _answer(airflow, run, "Reject", "")
    airflow.wait(lambda: len(_notes(table, "refused")) == 1, "the rejection without a reason to be refused")
    assert "without a reason" in _notes(table, "refused").iloc[0]["reason"]
    _request(airflow, 2)
    _answer(airflow, run, "Reject", "to be rebuilt")
    run = airflow.finish(run)
    assert airflow.client.tasks(run)["to_production"] == "skipped"
    deployments = table("deployments")
    archived = deployments[(deployments["version"] == 2) & (deployments["to_stage"] == "Archived")].iloc[0]
    assert archived["reason"] == "to be rebuilt"
    assert _production_rows(table)["version"].tolist() == [1]


def test_a_request_that_nobody_answers_expires_as_a_decision_of_its_own(airflow: RunningAirflow, table: Table) -> None:
    environment = airflow.root / "include/environments/dev.yaml"
    text = environment.read_text()
    environment.write_text(text.replace("  mode: human", "  mode: human\n  expires_after_hours: 0.001"))
    try:
        run = airflow.run(f"{MODEL}.model_promotion", {"model_version": 2, "as_of": "2024-02-12T01:00"}, "expires")
    finally:
        environment.write_text(text)
    assert airflow.client.tasks(run)["to_production"] == "skipped"
    row = table("deployments").query("version == 2 and to_stage == 'Archived'").sort_values("requested_at").iloc[-1]
    assert row["decided_by"] == "penstock (expired)"
    assert row["reason"].startswith("expired: nobody answered within 0.001 h")
    assert _notes(table, "approval").iloc[-1]["decided_by"] == "penstock (expired)"


def test_what_was_changed_while_a_request_waited_is_not_promoted(airflow: RunningAirflow, table: Table) -> None:
    declaration = airflow.root / "include/projects/wind_parks/project.yaml"
    text = declaration.read_text()
    run = airflow.client.trigger(f"{MODEL}.model_promotion", {"model_version": 2, "as_of": "2024-02-12T02:00"}, "waits")
    _request(airflow, 2, run.run_id)
    try:
        declaration.write_text(
            text.replace("      minimum_rows: 50\n      required", "      minimum_rows: 51\n      required")
        )
        _answer(airflow, run, "Approve", "looks good")
        assert airflow.finish(run).state == "failed"
    finally:
        declaration.write_text(text)
    assert "was changed since the comparison" in _log(airflow, run, "to_production")
    assert _production_rows(table)["version"].tolist() == [1]


def test_a_frozen_model_asks_nobody_and_a_cleared_task_goes_on_after_it(airflow: RunningAirflow, table: Table) -> None:
    with airflow.login("engineer") as engineer:
        control = f"{MODEL}.promotion_control"
        airflow.finish(engineer.trigger(control, {"action": "freeze", "reason": "the fair is on"}))
        run = airflow.run(f"{MODEL}.model_promotion", {"model_version": 2, "as_of": "2024-02-12T03:00"}, "frozen")
        assert run.state == "failed"
        assert "frozen (by engineer" in _log(airflow, run, APPROVAL)
        airflow.finish(engineer.trigger(control, {"action": "unfreeze", "reason": "it is over"}))
        adopted = engineer.trigger(control, {"action": "adopt", "model_version": 2, "reason": "cost a month"})
        assert airflow.finish(adopted).state == "success"
        path = f"/dags/{run.dag_id}/clearTaskInstances"
        engineer.call("POST", path, json={
            "dag_run_id": run.run_id, "task_ids": [APPROVAL], "include_downstream": True, "only_failed": False,
            "dry_run": False,
        })  # fmt: skip
        _request(airflow, 2, run.run_id)
        _answer(airflow, run, "Approve", "now it may")
        assert airflow.finish(run).state == "success"
    assert _production_rows(table)["version"].tolist() == [1, 2]
    decided = [row for kind in ("freeze", "unfreeze", "adoption") for row in _notes(table, kind)["decided_by"]]
    assert decided == ["engineer"] * 3


def test_rolled_back_over_rest_the_former_version_is_back_in_the_name_of_who_did_it(
    airflow: RunningAirflow, table: Table
) -> None:
    with airflow.login("engineer") as engineer:
        with pytest.raises(ServiceError, match="reason"):
            engineer.trigger(f"{MODEL}.rollback", {})
        run = airflow.finish(
            engineer.trigger(f"{MODEL}.rollback", {"reason": "the operators complain", "as_of": "2024-02-12T05:00"})
        )
    assert run.state == "success"
    row = _production_rows(table).iloc[-1]
    assert (row["version"], row["decided_by"], row["reason"]) == (1, "engineer", "the operators complain")
    again = airflow.run(f"{MODEL}.model_promotion", {"model_version": 2, "as_of": "2024-02-12T04:00"}, "again")
    assert again.state == "failed"
    assert "version 2 was rolled back (by engineer" in _log(airflow, again, "admit")
    told = json.loads(subprocess.run([PENSTOCK, "status", "--json"], capture_output=True, check=True).stdout)
    model = told["projects"]["wind_parks"]["models"]["energy"]
    assert model["frozen"] is None
    assert [(mark["version"], mark["by"]) for mark in model["rolled_back"]] == [(2, "engineer")]
    airflow.settle(now() - timedelta(minutes=1))


def test_predictions_are_scored_once_monitored_and_the_decision_is_recorded(
    airflow: RunningAirflow, table: Table
) -> None:
    since = now()
    assert airflow.run(REFRESH, {"as_of": "2024-02-18"}).state == "success"
    airflow.settle(since)
    predictions = table("energy_predictions")
    assert not predictions.duplicated(["park", "turbine", "starts_at"]).any()
    assert predictions["prediction_time"].min() > pd.Timestamp("2024-02-10", tz="UTC")
    assert predictions["prediction_time"].max() == pd.Timestamp("2024-02-18", tz="UTC")
    assert len(predictions) == 8 * 8 * 9
    decision = table("retraining_decisions").sort_values("as_of").iloc[-1]
    assert decision["decision"] == "no"
    assert decision["as_of"] == pd.Timestamp("2024-02-18", tz="UTC")


def _killed(airflow: RunningAirflow, task_id: str) -> bool:
    return any(airflow.kill(task) for task in airflow.running(REFRESH) if task["task_id"] == task_id)


def test_a_killed_task_is_tried_again_and_nothing_is_written_twice(airflow: RunningAirflow, table: Table) -> None:
    since = now()
    run = airflow.client.trigger(REFRESH, {"as_of": "2024-02-20"})
    airflow.wait(lambda: _killed(airflow, "turbine_daily.stage"), "the task to kill")
    assert airflow.finish(run).state == "success"
    path = f"/dags/{REFRESH}/dagRuns/{run.run_id}/taskInstances/turbine_daily.stage"
    assert airflow.client.call("GET", path)["try_number"] == 2
    airflow.settle(since)
    daily = table("turbine_daily")
    assert not daily.duplicated(["park", "turbine", "event_time"]).any()
    assert daily["event_time"].max() == pd.Timestamp("2024-02-20", tz="UTC")


def test_when_the_turbines_turn_it_retrains_and_the_new_version_waits_for_a_person(
    airflow: RunningAirflow, table: Table
) -> None:
    since = now()
    assert airflow.run(REFRESH, {"as_of": "2024-03-16"}).state == "success"
    airflow.wait(lambda: _request(airflow, 3, wait=False), "the retrained version's request", 240)
    decision = table("retraining_decisions").sort_values("as_of").iloc[-1]
    assert decision["decision"] == "retrain"
    _answer(airflow, _promotion(airflow, 3), "Approve", "it knows the new turbines")
    airflow.settle(since)
    assert _production_rows(table)["version"].tolist() == [1, 2, 1, 3]
    versions = table("model_comparisons").query(
        "candidate_version == 3 and reference == 'production' and method == 'holdout' and slice == 'all' "
        "and metric == 'rmse'"
    )
    assert len(versions) == 1
    assert (versions["candidate_value"] < versions["reference_value"]).all()


def test_a_promotion_is_followed_up_also_where_nothing_new_was_predicted(airflow: RunningAirflow) -> None:
    run = airflow.run(f"{MODEL}.monitoring", {"as_of": "2024-03-15"})  # monitoring has passed that
    assert run.state == "success"
    tasks = airflow.client.call("GET", f"/dags/{run.dag_id}/dagRuns/{run.run_id}/taskInstances")["task_instances"]
    states = {task["task_id"]: task["state"] for task in tasks}
    followed = {name: states.pop(name) for name in ("follow_up", "announce_rollback")}
    assert set(states.values()) == {"skipped"}
    assert followed == {"follow_up": "success", "announce_rollback": "skipped"}


def test_a_broken_project_shows_its_message_and_leaves_the_others_alone(airflow: RunningAirflow) -> None:
    folder = airflow.root / "include/projects/broken"
    folder.mkdir()
    (folder / "project.yaml").write_text("name: broken\ndescription: d\nowner: o\nsorces: {}\n")
    try:
        error = airflow.wait(
            lambda: airflow.client.call("GET", "/importErrors")["import_errors"], "the import error", 90
        )[0]
        assert error["filename"].endswith("broken_projects.py")
        assert "sorces" in error["stack_trace"]
        assert "project.yaml:4" in error["stack_trace"]
        assert airflow.run(REFRESH, {"as_of": "2024-03-16"}).state == "success"
    finally:
        (folder / "project.yaml").unlink()
        folder.rmdir()


def _promotion(airflow: RunningAirflow, version: int) -> DagRun:
    return airflow.client.run(f"{MODEL}.model_promotion", f"promote__energy__{version}")


def _request(airflow: RunningAirflow, version: int, run_id: str = "", wait: bool = True) -> dict | None:
    """The open approval of a version, as soon as it is there: answers in the first moment count, too."""
    wanted = run_id or f"promote__energy__{version}"

    def look() -> dict | None:
        found = [item for item in airflow.client.open_approvals() if item["run_id"] == wanted]
        return found[0] if found else None

    return airflow.wait(look, f"the request for version {version}", 120) if wait else look()


def _answer(airflow: RunningAirflow, run: DagRun, option: str, reason: str) -> None:
    with airflow.login("engineer") as engineer:
        engineer.answer_approval(run, APPROVAL, option, reason=reason)


def _notes(table: Table, kind: str) -> pd.DataFrame:
    rows = table("deployments")
    return rows[rows["kind"] == kind].sort_values("requested_at")


def _production_rows(table: Table) -> pd.DataFrame:
    rows = table("deployments")
    done = (rows["to_stage"] == "Production") & (rows["state"] == "completed")
    return rows[done].sort_values("completed_at")


def _log(airflow: RunningAirflow, run: DagRun, task: str) -> str:
    path = f"/dags/{run.dag_id}/dagRuns/{run.run_id}/taskInstances/{task}/logs/1"
    return str(airflow.client.call("GET", path, params={"full_content": "true"}))
