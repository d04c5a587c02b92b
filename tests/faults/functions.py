"""The functions of training and promotion are killed at random moments; MLflow and Spark restarted under them.

Part of `make test-faults`; tests/integration/test_stages_killed.py and test_killed.py kill a bounded number of times
with all other tests. What was killed where is printed, and kept in FAULTS_LOG (a file), from which an interrupted run
goes on.
"""

import json
import multiprocessing
import os
import random
import signal
import sys
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from penstock.errors import PenstockError
from penstock.workspace import Connections, Workspace
from tests.faults import work
from tests.faults.invariants import never_empty, violations
from tests.integration.conftest import stack  # noqa: F401
from tests.integration.refreshing import copy_root, moment, refresh

KILLS, RESTARTS = int(os.environ.get("KILLS", "10")), int(os.environ.get("RESTARTS", "2"))
SEED = int(os.environ.get("SEED", "3"))
KILLS_BEFORE_A_RUN = 4
PROJECT, MODEL, BEGIN = "wind_parks", "energy", "2024-02-12"
SHARE = ("training", "moves", "promotion", "moves")  # what is killed, in turn
PROCESSES = multiprocessing.get_context("forkserver")


class Bench:
    """A project with a version in production, and the children that are killed in it."""

    def __init__(self, workspace: Workspace, root: Path) -> None:
        self.workspace, self.root, self.number = workspace, root, 0
        self.chance, self.seconds = random.Random(SEED), {"training": 30.0, "promotion": 15.0, "moves": 5.0}
        self.log = Path(os.environ["FAULTS_LOG"]) if "FAULTS_LOG" in os.environ else None

    def job(self, kind: str) -> work.Job:
        """The next job; each training is as of a later moment."""
        self.number += 1
        return work.Job(
            self.root, PROJECT, MODEL, kind, moment(BEGIN) + timedelta(minutes=10 * self.number), self.number
        )

    def start(self, job: work.Job, attempt: int) -> multiprocessing.Process:
        """Begins a job in a child of its own."""
        process = PROCESSES.Process(target=work.do, args=(job, attempt))
        process.start()
        return process

    def finish(self, job: work.Job, attempt: int, tries: int = 4) -> None:
        """Runs a job to its end, as a task is tried again."""
        for one in range(tries):
            begin = time.monotonic()
            process = self.start(job, attempt + one)
            process.join()
            if process.exitcode == 0:
                self.seconds[job.kind] = time.monotonic() - begin
                return
        pytest.fail(f"{job} did not end well in {tries} tries")

    def said(self, **what: object) -> None:
        """Prints what was done, and keeps it."""
        line = json.dumps(what)
        sys.stderr.write(f"{line}\n")
        if self.log:
            with self.log.open("a") as file:
                file.write(f"{line}\n")

    def done(self, what: str) -> int:
        """How many faults of a kind an earlier, interrupted run has made."""
        if self.log is None or not self.log.exists():
            return 0
        return sum(json.loads(line)["what"] == what for line in self.log.read_text().splitlines())

    def check(self) -> None:
        """Fails the test where something does not hold after the next run."""
        found = violations(self.workspace, PROJECT, MODEL)
        assert not found, found


@pytest.fixture(scope="module")
def bench(stack: Connections, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:  # noqa: F811
    root = copy_root(tmp_path_factory.mktemp("faults"))
    environment = root / "include/environments/dev.yaml"
    text = environment.read_text().replace("mode: human", "mode: automatic")
    environment.write_text(text.replace("${PENSTOCK_HOME}/dev/lakehouse", str(root / "lakehouse")))
    workspace = Workspace.open("dev", root)
    refresh(workspace, BEGIN)
    PROCESSES.set_forkserver_preload(["tests.faults.work"])
    found = Bench(workspace, root)
    for _ in range(2):  # two versions that have been in production
        found.finish(found.job("training"), 1)
    yield found
    _delete(workspace)


def test_killed_at_random_moments_the_next_run_puts_everything_right(bench: Bench) -> None:
    left = KILLS - bench.done("kill")
    kinds = iter(range(10**6))
    while left > 0:
        job = bench.job(SHARE[next(kinds) % len(SHARE)])
        for attempt in range(1, min(KILLS_BEFORE_A_RUN, left) + 1):
            after = bench.chance.uniform(0.0, bench.seconds[job.kind])
            process = bench.start(job, attempt)
            process.join(after)
            late = process.exitcode is not None
            process.kill()
            process.join()
            assert not never_empty(bench.workspace, PROJECT, MODEL), (job, after)
            bench.said(what="kill" if not late else "too late", job=job.kind, number=job.number, after=round(after, 2))
            left -= not late
            if late:
                break
        bench.finish(job, KILLS_BEFORE_A_RUN + 1)
        bench.check()


@pytest.mark.parametrize("program", ["mlflow", "spark"])
def test_a_service_that_is_restarted_under_them_loses_nothing(bench: Bench, program: str) -> None:
    share = (RESTARTS + (program == "mlflow")) // 2  # they take turns
    for _ in range(share - bench.done(f"restart {program}")):
        job = bench.job("training" if bench.chance.random() < 0.5 else "promotion")
        after = bench.chance.uniform(0.0, bench.seconds[job.kind])
        process = bench.start(job, 1)
        process.join(after)
        pid = _kill_program(program)
        process.join(120)
        process.kill()
        process.join()
        _wait_for(lambda name=program, old=pid: _is_back(name, old), f"{program} to come back")
        bench.said(what=f"restart {program}", job=job.kind, number=job.number, after=round(after, 2))
        bench.finish(job, 2)
        bench.check()


def _kill_program(name: str) -> int:
    from penstock.stack.settings import read_settings
    from penstock.stack.supervisor import Supervisor

    pid = Supervisor(read_settings()).statuses()[name].pid
    os.kill(pid, signal.SIGKILL)
    return pid


def _is_back(name: str, old: int) -> bool:
    from penstock.stack import stack as local
    from penstock.stack.programs import Service
    from penstock.stack.settings import read_settings
    from penstock.stack.supervisor import Supervisor

    settings = read_settings()
    try:
        up = local.status(settings)[Service(name)].state.value == "up"
        return up and Supervisor(settings).statuses()[name].pid != old
    except PenstockError:
        return False


def _wait_for(look: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + 180
    while not look():
        assert time.monotonic() < deadline, f"waited for {what}"
        time.sleep(0.5)


def _delete(workspace: Workspace) -> None:
    import mlflow

    workspace.mlflow()
    mlflow.MlflowClient().delete_registered_model(f"{PROJECT}.{MODEL}")
