"""Tasks of training and model_promotion are killed at random moments in a real Airflow (part of `make test-faults`)."""

import json
import os
import random
import sys
import time
from datetime import timedelta

from penstock.airflow_rest import DagRun
from penstock.clock import now, to_text
from penstock.registry.stages import versions
from penstock.workspace import Workspace
from tests.e2e.conftest import RunningAirflow, airflow, workspace  # noqa: F401
from tests.faults.invariants import violations
from tests.integration.refreshing import moment

TASKS, SEED = int(os.environ.get("TASKS", "20")), int(os.environ.get("SEED", "3"))
PROJECT, MODEL, BEGIN = "wind_parks", "energy", "2024-02-12"
VICTIMS = (f"{PROJECT}.{MODEL}.training", f"{PROJECT}.{MODEL}.model_promotion")


def test_tasks_killed_at_random_moments_leave_one_production_version(
    airflow: RunningAirflow,  # noqa: F811
    workspace: Workspace,  # noqa: F811
) -> None:
    environment = airflow.root / "include/environments/dev.yaml"
    environment.write_text(environment.read_text().replace("mode: human", "mode: automatic"))
    chance = random.Random(SEED)
    assert airflow.run(f"{PROJECT}.feature_refresh", {"as_of": BEGIN}).state == "success"
    seconds = _train(airflow, 0)
    kills = number = 0
    while kills < TASKS:
        number += 1
        since = now()
        run = _start(airflow, number)
        time.sleep(chance.uniform(0.0, seconds * 0.8))
        killed = _kill_one(airflow, chance)
        while killed is None and not _all_ended(airflow, since):  # between two tasks: the next one it is
            time.sleep(0.2)
            killed = _kill_one(airflow, chance)
        airflow.settle(since, seconds=900)
        _knock(airflow, workspace)
        kills += killed is not None
        sys.stderr.write(json.dumps({"what": "task", "killed": killed, "run": run.run_id, "of": kills}) + "\n")
        found = violations(workspace, PROJECT, MODEL)
        assert not found, found


def _start(airflow: RunningAirflow, number: int) -> DagRun:  # noqa: F811
    as_of = to_text(moment(BEGIN) + timedelta(minutes=10 * number))
    return airflow.client.trigger(VICTIMS[0], {"as_of": as_of}, f"fault__{number}")


def _train(airflow: RunningAirflow, number: int) -> float:  # noqa: F811
    """An undisturbed training with its promotion. Answers the seconds that it took."""
    begin, since = time.monotonic(), now()
    _start(airflow, number)
    airflow.settle(since, seconds=900)
    return time.monotonic() - begin


def _kill_one(airflow: RunningAirflow, chance: random.Random) -> str | None:  # noqa: F811
    """Kills one running task of the two DAGs, with everything below it. Answers which; None where none runs."""
    found = airflow.running(*VICTIMS)
    if not found:
        return None
    task = chance.choice(found)
    return f"{task['dag_id']}.{task['task_id']} try {task['try_number']}" if airflow.kill(task) else None


def _all_ended(airflow: RunningAirflow, since: object) -> bool:  # noqa: F811
    return all(run.finished for run in airflow.client.runs(since) if run.dag_id in VICTIMS)  # type: ignore[arg-type]


def _knock(airflow: RunningAirflow, workspace: Workspace) -> None:  # noqa: F811
    """The next run: versions whose promotion did not take place are promoted once more."""
    for found in versions(workspace, PROJECT, MODEL):
        if found.stage in ("None", "Staging"):
            as_of = to_text(moment(BEGIN) + timedelta(days=2, seconds=found.version))
            airflow.run(VICTIMS[1], {"model_version": found.version, "as_of": as_of})
