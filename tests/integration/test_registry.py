"""Stages: transitions, their audit, kills at any moment, races, and aliases that a hand moved."""

import itertools
import json
import os
import random
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from penstock.errors import GateError, NothingToDo, RegistryError, ServiceError, SpecError
from penstock.lakehouse.small_tables import read
from penstock.registry import audit, client, settling
from penstock.registry.deployments import repair, transition
from penstock.registry.freezing import allow, freeze, unfreeze
from penstock.registry.holds import holds
from penstock.registry.rolling_back import rollback
from penstock.registry.stages import Stage, current_production, stage_of, versions
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


def test_a_version_goes_through_the_stages_and_displaces_the_former_one(make_shelf):
    shelf = make_shelf()
    assert current_production(shelf.workspace, shelf.project, shelf.model) is None
    shelf.move(1, Stage.STAGING)
    assert shelf.registered.aliases() == {"staging": 1}
    first = shelf.move(1, Stage.PRODUCTION)
    assert (first.from_stage, first.to_stage, first.displaced, first.production) == ("Staging", "Production", None, 1)
    shelf.move(2, Stage.STAGING)
    second = shelf.move(2, Stage.PRODUCTION, reason="it is better")
    assert second.displaced == 1
    assert current_production(shelf.workspace, shelf.project, shelf.model) == 2
    stages = [v.stage for v in versions(shelf.workspace, shelf.project, shelf.model)]
    assert stages == ["Archived", "Production", "None"]
    assert stage_of(shelf.workspace, shelf.project, shelf.model, 3) is Stage.NONE
    assert shelf.state["stages"] == {1: "Archived", 2: "Production", 3: None}
    table = read(shelf.workspace.addresses.readable(f"{shelf.project}.deployments"))
    assert list(table.state.unique()) == ["completed"]
    displaced = table[(table.version == 1) & (table.to_stage == "Archived")].iloc[0]
    assert displaced.reason == "displaced in Production by version 2"
    row = table[table.transition_id == second.transition_id].iloc[0]
    assert json.loads(row.evidence)["n"] == 1
    assert (row.decided_by, row.reason, row.as_of) == ("a test", "it is better", AS_OF)


def test_the_same_request_again_changes_nothing(make_shelf):
    shelf = make_shelf()
    shelf.move(1, Stage.PRODUCTION)
    shelf.move(2, Stage.PRODUCTION)
    before = shelf.state
    again = shelf.move(1, Stage.PRODUCTION)
    assert again.repeated
    assert again.production == 2
    assert shelf.move(2, Stage.PRODUCTION, AS_OF + timedelta(days=1)).repeated, "it is there already"
    assert shelf.state == before
    asked_again = shelf.move(1, Stage.PRODUCTION, cause="by hand, after all")
    assert not asked_again.repeated
    assert shelf.state["aliases"] == {"production": 1}


def test_production_cannot_be_left_empty(make_shelf):
    shelf = make_shelf()
    shelf.move(1, Stage.PRODUCTION)
    before = shelf.state
    for stage in (Stage.ARCHIVED, Stage.STAGING):
        with pytest.raises(GateError, match="promote another version, or roll back"):
            shelf.move(1, stage)
    assert shelf.state == before


def test_an_unknown_version_is_refused(make_shelf):
    shelf = make_shelf()
    with pytest.raises(RegistryError, match="version 9"):
        shelf.move(9, Stage.STAGING)
    with pytest.raises(RegistryError, match="version 1"):
        transition(shelf.workspace, shelf.project, "nothing", 1, Stage.STAGING, "a test", "because", {}, AS_OF)
    assert shelf.rows == ()
    assert versions(shelf.workspace, shelf.project, "nothing") == []


def test_a_newer_candidate_displaces_the_older_in_staging(make_shelf):
    shelf = make_shelf()
    shelf.move(1, Stage.STAGING)
    assert shelf.move(2, Stage.STAGING).displaced == 1
    assert shelf.state["stages"] == {1: "Archived", 2: "Staging", 3: None}


class Killed(BaseException):
    """Stands for a process that ends between two steps."""


def _kill_after(monkeypatch: pytest.MonkeyPatch, steps: int) -> None:
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


@pytest.mark.parametrize("mend", ["the same again", "repair"])
def test_killed_after_any_step_it_converges(make_shelf, monkeypatch, mend):
    monkeypatch.setattr(settling, "TAKEOVER_AFTER", timedelta(seconds=0.3))
    undisturbed = make_shelf()
    for version in (1, 2):
        undisturbed.move(version, Stage.STAGING)
        undisturbed.move(version, Stage.PRODUCTION)
    kills = 0
    for steps in itertools.count():
        shelf = make_shelf()
        shelf.move(1, Stage.STAGING)
        shelf.move(1, Stage.PRODUCTION)
        shelf.move(2, Stage.STAGING)
        with monkeypatch.context() as patch:
            _kill_after(patch, steps)
            try:
                shelf.move(2, Stage.PRODUCTION)
            except Killed:
                kills += 1
            else:
                break
        assert shelf.registered.aliases().get("production") in (1, 2)
        if mend == "repair" and steps > 0:
            repair(shelf.workspace, shelf.project, shelf.model)
        else:
            shelf.move(2, Stage.PRODUCTION)
        assert shelf.state == undisturbed.state, f"killed after {steps} steps"
    assert kills == 6, "intent, alias, other alias, two tags, completion"


_CHILD = """
import json, sys
from pathlib import Path
from datetime import datetime, UTC, timedelta
from penstock.workspace import Workspace, Connections
from penstock.registry.deployments import transition
import mlflow, deltalake, pandas
given = json.loads(sys.argv[1])
w = Workspace.open("dev", given["root"])
e = w.environment
e = e.model_copy(update={"lakehouse": e.lakehouse.model_copy(update={"root": given["lakehouse"]})})
w = w.with_(environment=e, connections=Connections(**given["connections"]))
print("ready", flush=True)
sys.stdin.readline()
for version, stage, cause in json.loads(sys.argv[2]):
    transition(w, given["project"], given["model"], version, stage, "a test", "because", {"n": 1},
               datetime(2020, 5, 1, tzinfo=UTC), cause=cause)
print("done", flush=True)
"""


def _child(shelf: Shelf, moves: list[tuple[int, Stage, str | None]]) -> subprocess.Popen:
    process = subprocess.Popen(
        [sys.executable, "-c", _CHILD, shelf.handed_over, json.dumps(moves)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
    )  # fmt: skip
    assert process.stdout.readline() == "ready\n", process.communicate()[1]
    return process


def _start(process: subprocess.Popen) -> None:
    process.stdin.write("go\n")
    process.stdin.flush()


def test_killed_with_sigkill_at_random_moments_it_converges(make_shelf, monkeypatch):
    monkeypatch.setattr(settling, "TAKEOVER_AFTER", timedelta(seconds=1))
    chance = random.Random(3)
    moves = [(1, Stage.PRODUCTION), (2, Stage.STAGING), (2, Stage.PRODUCTION), (3, Stage.STAGING), (3, Stage.ARCHIVED)]
    undisturbed = make_shelf()
    for version, stage in moves:
        undisturbed.move(version, stage)
    outcomes = []
    for _ in range(10):
        shelf = make_shelf()
        process = _child(shelf, [(*move, None) for move in moves])
        _start(process)
        time.sleep(chance.uniform(0.02, 0.9))
        process.send_signal(signal.SIGKILL)
        outcomes.append("done" in process.communicate()[0])
        for version, stage in moves:
            shelf.move(version, stage)
        assert shelf.state == undisturbed.state
    assert not all(outcomes), "every kill came too late to matter"


def test_racing_transitions_take_turns(make_shelf):
    shelf = make_shelf()
    shelf.move(1, Stage.PRODUCTION)
    racers = [
        _child(shelf, [(version, Stage.PRODUCTION, f"round {n}") for n in range(8)]) for version in (2, 3)
    ]  # fmt: skip
    for process in racers:
        _start(process)
    for process in racers:
        out, err = process.communicate(timeout=120)
        assert "done" in out, err
    rows = shelf.rows
    assert {str(row.state) for row in rows} == {"completed"}
    assert {row.decided_by for row in rows} == {"a test"}, "nobody took a racer's alias for a hand's"
    production = None
    for row in [row for row in rows if row.to_stage is Stage.PRODUCTION]:
        assert row.plan["displaced"] == production
        production = row.version
    assert shelf.registered.aliases() == {"production": production}
    assert repair(shelf.workspace, shelf.project, shelf.model).retagged == ()
    stages = shelf.state["stages"]
    assert [version for version, stage in stages.items() if stage == "Production"] == [production]


def test_two_first_transitions_race_for_a_table_that_is_not_there(make_shelf):
    shelf = make_shelf()
    racers = [_child(shelf, [(version, Stage.PRODUCTION, None)]) for version in (1, 2, 3)]
    for process in racers:
        _start(process)
    for process in racers:
        out, err = process.communicate(timeout=120)
        assert "done" in out, err
    assert sum(row.to_stage is Stage.PRODUCTION for row in shelf.rows) == 3
    assert sorted(stage for stage in shelf.state["stages"].values()) == ["Archived", "Archived", "Production"]


def test_a_living_owner_is_waited_for(make_shelf, monkeypatch):
    shelf = make_shelf()
    with monkeypatch.context() as patch:
        _kill_after(patch, 1)
        with pytest.raises(Killed):
            shelf.move(1, Stage.PRODUCTION)
    with monkeypatch.context() as patch:
        patch.setattr(settling, "_GIVE_UP_AFTER_SECONDS", 0.5)
        with pytest.raises(ServiceError, match="run this again"):
            shelf.move(2, Stage.PRODUCTION)
    monkeypatch.setattr(settling, "TAKEOVER_AFTER", timedelta(seconds=0))
    shelf.move(2, Stage.PRODUCTION)
    assert [(row.version, str(row.state)) for row in shelf.rows if row.to_stage is Stage.PRODUCTION] == [
        (1, "completed"), (2, "completed"),
    ]  # fmt: skip


def test_an_owner_that_was_overtaken_steps_back(make_shelf, monkeypatch):
    """A process stands still before it moves the alias; others finish for it and go on; then it wakes."""
    shelf = make_shelf()
    original = client.RegisteredModel.move_alias

    def asleep(self, alias, version):
        monkeypatch.setattr(client.RegisteredModel, "move_alias", original)
        monkeypatch.setattr(settling, "TAKEOVER_AFTER", timedelta(seconds=0))
        shelf.move(2, Stage.PRODUCTION)
        assert shelf.registered.aliases() == {"production": 2}
        return original(self, alias, version)

    monkeypatch.setattr(client.RegisteredModel, "move_alias", asleep)
    assert shelf.move(1, Stage.PRODUCTION).production == 2
    assert shelf.registered.aliases() == {"production": 2}
    assert shelf.state["stages"] == {1: "Archived", 2: "Production", 3: None}
    assert settling.BY_HAND not in {row.decided_by for row in shelf.rows}


def test_a_hand_moved_alias_is_adopted(make_shelf):
    shelf = make_shelf(hand_moved_alias="adopt")
    shelf.move(1, Stage.PRODUCTION)
    shelf.registered.move_alias("production", 2)
    found = repair(shelf.workspace, shelf.project, shelf.model, AS_OF)
    assert found.production == 2
    by_hand = next(row for row in shelf.rows if row.decided_by == settling.BY_HAND)
    moved = "the alias production was moved from version 1 to version 2 in MLflow"
    assert by_hand.reason == f"{moved}; this environment adopts that"
    assert (by_hand.version, str(by_hand.state), by_hand.as_of) == (2, "completed", AS_OF)
    assert shelf.state["stages"] == {1: "Archived", 2: "Production", 3: None}
    before = shelf.state
    assert repair(shelf.workspace, shelf.project, shelf.model, AS_OF).noticed == ()
    assert shelf.state == before


def test_a_hand_moved_alias_is_reverted(make_shelf):
    shelf = make_shelf(hand_moved_alias="revert")
    shelf.move(1, Stage.PRODUCTION)
    shelf.registered.move_alias("production", 2)
    found = repair(shelf.workspace, shelf.project, shelf.model, AS_OF)
    assert found.production == 1
    assert shelf.registered.aliases() == {"production": 1}
    by_hand = next(row for row in shelf.rows if row.decided_by == settling.BY_HAND)
    assert (by_hand.version, str(by_hand.state)) == (2, "reverted")
    assert shelf.state["stages"] == {1: "Production", 2: None, 3: None}
    assert repair(shelf.workspace, shelf.project, shelf.model, AS_OF).noticed == ()


@pytest.mark.parametrize(("policy", "production", "stage"), [("adopt", None, "Archived"), ("revert", 1, "Production")])
def test_an_alias_taken_away_by_hand(make_shelf, policy, production, stage):
    shelf = make_shelf(hand_moved_alias=policy)
    shelf.move(1, Stage.PRODUCTION)
    shelf.registered.move_alias("production", None)
    assert repair(shelf.workspace, shelf.project, shelf.model).production == production
    assert current_production(shelf.workspace, shelf.project, shelf.model) == production
    assert shelf.state["stages"][1] == stage


@pytest.mark.parametrize(("policy", "production"), [("adopt", 2), ("revert", None)])
def test_an_alias_set_by_hand_before_the_first_promotion(make_shelf, policy, production):
    shelf = make_shelf(hand_moved_alias=policy)
    shelf.registered.move_alias("production", 2)
    assert repair(shelf.workspace, shelf.project, shelf.model).production == production
    assert current_production(shelf.workspace, shelf.project, shelf.model) == production


def test_a_hand_moved_alias_is_noticed_by_the_next_transition(make_shelf):
    shelf = make_shelf(hand_moved_alias="adopt")
    shelf.move(1, Stage.PRODUCTION)
    shelf.registered.move_alias("production", 2)
    assert shelf.move(3, Stage.PRODUCTION).displaced == 2
    assert shelf.state["stages"] == {1: "Archived", 2: "Archived", 3: "Production"}


def test_a_deleted_production_version_leaves_none(make_shelf):
    import mlflow

    shelf = make_shelf(hand_moved_alias="revert")
    shelf.move(1, Stage.PRODUCTION)
    mlflow.MlflowClient().delete_model_version(f"{shelf.project}.{shelf.model}", "1")
    assert repair(shelf.workspace, shelf.project, shelf.model).production is None
    shelf.move(2, Stage.PRODUCTION)
    assert shelf.registered.aliases() == {"production": 2}


def test_a_hand_that_moves_the_alias_under_a_pending_transition_wins(make_shelf, monkeypatch):
    shelf = make_shelf(hand_moved_alias="adopt")
    shelf.move(1, Stage.PRODUCTION)
    with monkeypatch.context() as patch:
        _kill_after(patch, 1)
        with pytest.raises(Killed):
            shelf.move(2, Stage.PRODUCTION)
    shelf.registered.move_alias("production", 3)
    monkeypatch.setattr(settling, "TAKEOVER_AFTER", timedelta(seconds=0))
    assert repair(shelf.workspace, shelf.project, shelf.model).production == 3
    abandoned = [row for row in shelf.rows if str(row.state) == "abandoned"]
    assert {row.version for row in abandoned} == {1, 2}
    assert "by hand" in abandoned[0].reason
    assert shelf.state["stages"] == {1: "Archived", 2: None, 3: "Production"}
    assert shelf.move(2, Stage.PRODUCTION).production == 2, "asked again, it takes place"


def test_a_tag_set_by_hand_is_derived_again(make_shelf):
    shelf = make_shelf()
    shelf.move(1, Stage.PRODUCTION)
    shelf.registered.tag(1, {"penstock.stage": "Archived"})
    shelf.registered.tag(2, {"penstock.stage": "Production"})
    assert repair(shelf.workspace, shelf.project, shelf.model).retagged == (1, 2)
    assert shelf.state["stages"] == {1: "Production", 2: "Archived", 3: None}


def test_mlflow_down_is_a_clear_error_and_the_next_run_mends(make_shelf, monkeypatch):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    shelf = make_shelf()
    here = shelf.workspace.resolved
    away = shelf.workspace.with_(connections=Connections(here.spark_url, "http://127.0.0.1:9"))
    with pytest.raises(ServiceError, match=r"MLflow did not answer.*penstock status"):
        transition(away, shelf.project, shelf.model, 1, Stage.PRODUCTION, "a test", "because", {}, AS_OF)
    shelf.move(1, Stage.PRODUCTION)
    assert shelf.registered.aliases() == {"production": 1}


def test_a_freeze_stops_promotions_until_it_is_lifted_and_rollback_still_works(make_shelf):
    shelf = make_shelf()
    shelf.move(1, Stage.PRODUCTION)
    shelf.move(2, Stage.PRODUCTION)
    note = freeze(*shelf.about, "Ann", "the fair is on")
    assert freeze(*shelf.about, "Ben", "me too") == note, "frozen already: it stays as it is"
    with pytest.raises(GateError, match=r"is frozen \(by Ann at .*: the fair is on\).*penstock unfreeze"):
        shelf.move(3, Stage.PRODUCTION)
    assert shelf.move(3, Stage.STAGING).to_stage == "Staging", "only production is frozen"
    assert shelf.back().production == 1
    assert unfreeze(*shelf.about, "Ann", "it is over").kind == "unfreeze"
    with pytest.raises(NothingToDo, match="not frozen"):
        unfreeze(*shelf.about, "Ann", "again")
    assert shelf.move(3, Stage.PRODUCTION).production == 3
    with pytest.raises(SpecError, match="Give a reason"):
        freeze(*shelf.about, "Ann", " ")
    table = read(shelf.workspace.addresses.readable(f"{shelf.project}.deployments"))
    assert set(table.kind) == {"transition", "freeze", "unfreeze"}


def test_a_freeze_that_comes_between_reading_and_writing_wins(make_shelf, monkeypatch):
    shelf = make_shelf()
    shelf.move(1, Stage.PRODUCTION)
    original = audit.AuditLog.commit

    def frozen_first(self, snapshot, rows):
        monkeypatch.setattr(audit.AuditLog, "commit", original)
        freeze(*shelf.about, "Ann", "now")
        return original(self, snapshot, rows)

    monkeypatch.setattr(audit.AuditLog, "commit", frozen_first)
    with pytest.raises(GateError, match="is frozen"):
        shelf.move(2, Stage.PRODUCTION)
    assert shelf.registered.aliases() == {"production": 1}


def test_in_a_frozen_model_a_hand_moved_alias_goes_back_whatever_the_environment_says(make_shelf):
    shelf = make_shelf(hand_moved_alias="adopt")
    shelf.move(1, Stage.PRODUCTION)
    freeze(*shelf.about, "Ann", "the fair is on")
    shelf.registered.move_alias("production", 2)
    assert repair(*shelf.about, AS_OF).production == 1
    by_hand = next(row for row in shelf.rows if row.decided_by == settling.BY_HAND)
    assert "the model is frozen, which reverts that" in by_hand.reason


def test_a_version_that_was_rolled_back_comes_back_only_when_a_person_allows_it(make_shelf):
    shelf = make_shelf()
    shelf.move(1, Stage.PRODUCTION)
    shelf.move(2, Stage.PRODUCTION)
    shelf.back("alarms everywhere")
    assert shelf.state["stages"] == {1: "Production", 2: "Archived", 3: None}
    with pytest.raises(GateError, match=r"version 2 was rolled back \(by Ann at .*alarms everywhere\).*penstock allow"):
        shelf.move(2, Stage.PRODUCTION, cause="once more")
    assert [*holds(*shelf.about).rolled_back] == [2]
    with pytest.raises(NothingToDo, match="version 3 is not held back"):
        allow(*shelf.about, 3, "Ann", "why not")
    allow(*shelf.about, 2, "Ann", "the sensor was broken, not the model")
    assert shelf.move(2, Stage.PRODUCTION, cause="once more").production == 2
    assert holds(*shelf.about).rolled_back == {}
    shelf.back("alarms again")
    assert [*holds(*shelf.about).rolled_back] == [2], "what was allowed once was rolled back once more"


def test_rollback_to_a_chosen_version(make_shelf):
    shelf = make_shelf(4)
    for version in (1, 2, 3):
        shelf.move(version, Stage.PRODUCTION)
    with pytest.raises(NothingToDo, match="version 3 is in production already"):
        shelf.back(to_version=3)
    with pytest.raises(GateError, match=r"version 4 was never in production \(before: 1, 2\)"):
        shelf.back(to_version=4)
    assert shelf.back(to_version=1, from_version=3).production == 1
    assert shelf.back(to_version=1, from_version=3).repeated
    with pytest.raises(NothingToDo, match="there is none to go back to"):
        shelf.back()
    with pytest.raises(GateError, match="version 3 was itself rolled back"):
        shelf.back(to_version=3)
    assert shelf.back(to_version=2).production == 2
    with pytest.raises(NothingToDo, match="there is none to go back to"):
        shelf.back()


def test_an_audit_of_before_there_were_notes_is_read_and_grows_the_column(make_shelf):
    from deltalake import DeltaTable, write_deltalake

    shelf = make_shelf()
    shelf.move(1, Stage.PRODUCTION)
    path = shelf.workspace.addresses.readable(f"{shelf.project}.deployments")
    rows = DeltaTable(path).to_pyarrow_table().drop_columns(["kind"])
    write_deltalake(path, rows, mode="overwrite", schema_mode="overwrite")
    assert [row.version for row in shelf.rows] == [1]
    assert shelf.move(2, Stage.PRODUCTION).displaced == 1
    freeze(*shelf.about, "Ann", "now")
    assert holds(*shelf.about).frozen.decided_by == "Ann"
