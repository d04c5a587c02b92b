"""The demo: replays a project's history through Airflow's REST API, as include/demo.yaml says.

It moves the clock and starts feature_refresh; the assets, the door of promotion and the declared thresholds do
the rest. By hand it starts only the first training, as a person would. It reads no metric to decide anything.
What a step already reached is passed over, so running it again continues or says that it is complete.
"""

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import AwareDatetime, Field, ValidationError
from rich.console import Console

from penstock.airflow_rest import AirflowClient, DagRun
from penstock.clock import now, read_replay_clock, to_text, write_replay_clock
from penstock.errors import ServiceError, SpecError
from penstock.lakehouse.small_tables import read
from penstock.spec.common import Name, Spec
from penstock.spec.faults import shorten
from penstock.spec.graph import used_projects
from penstock.workspace import Workspace

_QUIET_SECONDS = 3.0
_STEP_TIMEOUT = timedelta(minutes=30)
_POLL_SECONDS = 0.5


class Replay(Spec):
    """What is replayed: a model's project, the first moment, and those that follow."""

    project: Name
    model: Name
    moments: Annotated[list[AwareDatetime], Field(min_length=2)]


def read_replay(root: Path) -> Replay:
    """Reads include/demo.yaml. Raises SpecError where it is missing or wrong."""
    path = root / "include" / "demo.yaml"
    try:
        return Replay.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))
    except (OSError, yaml.YAMLError, ValidationError) as error:
        raise SpecError(f"{path}: {error}") from error


@dataclass
class Demo:
    """Replays steps for one model, and tells what happened."""

    workspace: Workspace
    client: AirflowClient
    console: Console
    replay: Replay
    shown: set[tuple[str, str]] = field(default_factory=set)

    def run(self, steps: int) -> None:
        """Everything known at the first moment, then `steps` more. Raises ServiceError where a run failed."""
        moments = [moment.astimezone(UTC) for moment in self.replay.moments][: steps + 1]
        steps = len(moments) - 1
        begin = time.perf_counter()
        self.wait_for_dags()
        done = 0
        for number, as_of in enumerate(moments):
            if self._is_complete(number, as_of):
                done += 1
                self.console.print(f"[dim]{to_text(as_of)}: done before[/]")
                continue
            self.step(number, steps, as_of)
        if done == steps + 1:
            goes_on = f"STEPS={steps + 1} goes on" if len(moments) < len(self.replay.moments) else "no moment is left"
            self.console.print(f"The replay is complete up to {to_text(moments[-1])}; {goes_on}.")
        self.console.print(f"[dim]{time.perf_counter() - begin:.0f} s[/]")

    @property
    def model_id(self) -> str:
        """`project.model`, with which the DAGs' ids begin."""
        return f"{self.replay.project}.{self.replay.model}"

    @cached_property
    def projects(self) -> list[str]:
        """The projects that take part: those whose features the replayed one shares, and itself as the last."""
        project = self.replay.project
        return [*used_projects(self.workspace.project(project).spec), project]

    def wait_for_dags(self) -> None:
        """Waits until Airflow shows the project's DAGs. Raises ServiceError where it never does."""
        wanted = {
            *(f"{name}.feature_refresh" for name in self.projects),
            f"{self.model_id}.retraining",
            f"{self.model_id}.model_promotion",
        }
        deadline = time.monotonic() + 120
        while not wanted <= set(self.client.dag_ids()):
            if time.monotonic() > deadline:
                raise ServiceError(
                    f"Airflow at {self.client.url} shows no DAGs of {self.replay.project}: see its import errors, and "
                    "run `penstock validate` and `penstock logs airflow-dag-processor`"
                )
            time.sleep(_POLL_SECONDS)

    def _is_complete(self, number: int, as_of: datetime) -> bool:
        """Whether a step left what it leaves: the first one a version in production, the others a decision."""
        if number == 0:
            rows = self._rows("deployments")
            return rows is not None and bool(
                ((rows["to_stage"] == "Production") & (rows["state"] == "completed")).any()
            )
        rows = self._rows("retraining_decisions")
        return (
            rows is not None
            and bool(((rows["model"] == self.replay.model) & (rows["as_of"] == as_of)).any())
            and self._idle()
        )

    def _idle(self) -> bool:
        return all(run.finished for run in self._own(self.client.runs(limit=50)))

    def step(self, number: int, steps: int, as_of: datetime) -> float:
        """Moves the clock and follows what happens. Answers the seconds until the last run ended."""
        self.console.rule(f"[bold]{number}/{steps}  as of {to_text(as_of)}")
        begin, since = time.perf_counter(), now() - timedelta(seconds=2)
        if self.workspace.environment.replay_clock:
            before = read_replay_clock(self.workspace.environment.replay_clock)
            write_replay_clock(self.workspace.environment.replay_clock, max(as_of, before or as_of))
        conf = {"as_of": to_text(as_of), "reason": f"demo, step {number}"}
        for name in self.projects[:-1] or self.projects:  # the refresh of what it shares starts the project's own
            self.client.trigger(f"{name}.feature_refresh", conf)
        self._follow(since)
        if number == 0:
            self.client.trigger(
                f"{self.model_id}.training",
                {**conf, "reason": "demo: the first training, by hand"},
            )
            self._follow(since)
        self._tell(as_of)
        seconds = time.perf_counter() - begin - _QUIET_SECONDS * (2 if number == 0 else 1)
        self.console.print(f"[dim]step {number}: {seconds:.0f} s[/]")
        return seconds

    def _follow(self, since: datetime) -> None:
        """Shows each run as it ends, until nothing runs or waits. Raises ServiceError on a failed one."""
        deadline = now() + _STEP_TIMEOUT
        quiet_since: float | None = None
        while True:
            runs = self._own(self.client.runs(since))
            ended = [run for run in reversed(runs) if run.finished and (run.dag_id, run.run_id) not in self.shown]
            for run in ended:
                self.shown.add((run.dag_id, run.run_id))
                self._show(run)
            busy = not runs or any(not run.finished for run in runs)
            quiet_since = None if busy or ended else quiet_since or time.monotonic()
            if quiet_since is not None and time.monotonic() - quiet_since > _QUIET_SECONDS:
                return
            if now() > deadline:
                waiting = ", ".join(f"{run.dag_id} ({run.state})" for run in runs if not run.finished)
                raise ServiceError(f"after {_STEP_TIMEOUT} still under way: {waiting}; look at {self.client.url}")
            time.sleep(_POLL_SECONDS)

    def _show(self, run: DagRun) -> None:
        tasks = self.client.tasks(run)
        seconds = (run.end - run.start).total_seconds() if run.start and run.end else 0.0
        count = {state: list(tasks.values()).count(state) for state in ("success", "skipped", "failed")}
        told = ", ".join(f"{number} {state}" for state, number in count.items() if number)
        colour = "green" if run.state == "success" else "red"
        self.console.print(f"  [{colour}]{run.state:8}[/] {run.dag_id:46} {seconds:5.1f} s  {told}", highlight=False)
        if run.state == "failed":
            failed = ", ".join(name for name, state in tasks.items() if state == "failed")
            raise ServiceError(
                f"{run.dag_id} failed in {failed}: {self.client.url}/dags/{run.dag_id}/runs/{run.run_id} has the log. "
                "Mend the cause and run the demo again: it continues"
            )

    def _own(self, runs: Sequence[DagRun]) -> list[DagRun]:
        return [run for run in runs if run.dag_id.partition(".")[0] in self.projects]

    def _rows(self, table: str) -> Any:
        path = self.workspace.addresses.find(f"{self.replay.project}.{table}")
        return None if path is None else read(path)

    def _tell(self, as_of: datetime) -> None:
        """What was measured and decided as of a moment, from the tables."""
        for table, describe in (
            ("model_comparisons", _comparison), ("deployments", _deployment), ("alerts", _alert),
            ("retraining_decisions", _decision),
        ):  # fmt: skip
            rows = self._rows(table)
            if rows is None:
                continue
            for row in rows[rows["as_of"] == as_of].to_dict("records"):
                if said := describe(row):
                    self.console.print(f"  {shorten(said, 240)}", highlight=False, markup=False, soft_wrap=True)


def _comparison(row: dict[str, Any]) -> str | None:
    if not row["reason"] or row["verdict"] == "info":  # measured for information: it decided nothing
        return None
    where = "" if row["slice"] == "all" else f" on {row['slice']}"
    return f"compared   version {row['candidate_version']}{where}: {row['verdict']}; {row['reason']}"


def _deployment(row: dict[str, Any]) -> str | None:
    if row["to_stage"] in ("Staging", None):  # on its way: where it ended follows; or a note that moves nothing
        return None
    return f"deployed   version {row['version']} to {row['to_stage']} by {row['decided_by']}: {row['reason']}"


def _alert(row: dict[str, Any]) -> str:
    return f"alert      {row['message']}"


def _decision(row: dict[str, Any]) -> str:
    return f"retraining {row['decision']}: {'; '.join(json.loads(row['reasons']))}"
