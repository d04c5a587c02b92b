"""Transitions that are killed at any moment, race, or are overtaken: they converge, and nobody is lost."""

import itertools
import random
import time
from datetime import timedelta

import pytest

from penstock.errors import ServiceError
from penstock.registry import client, settling
from penstock.registry.deployments import repair
from penstock.registry.stages import Stage
from tests.integration.forked import SERVER
from tests.integration.shelf import Killed, Shelf, kill_after, make_shelf, move_when_told

__all__ = ["make_shelf"]


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
            kill_after(patch, steps)
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


class Child:
    """Another process that makes some moves once it is told to."""

    def __init__(self, shelf: Shelf, moves: list[tuple[int, Stage, str | None]]) -> None:
        self._ours, theirs = SERVER.Pipe()
        self.process = SERVER.Process(target=move_when_told, args=(shelf.handed_over, moves, theirs))
        self.process.start()
        theirs.close()
        assert self._ours.recv() == "ready"

    def start(self) -> None:
        self._ours.send("go")

    def finish(self) -> bool:
        """Whether it made all moves; waits for its end."""
        self.process.join(120)
        return self.process.exitcode == 0


def test_killed_with_sigkill_at_random_moments_it_converges(make_shelf, monkeypatch):
    monkeypatch.setattr(settling, "TAKEOVER_AFTER", timedelta(seconds=1))
    chance = random.Random(3)
    moves = [(1, Stage.PRODUCTION), (2, Stage.STAGING), (2, Stage.PRODUCTION), (3, Stage.STAGING), (3, Stage.ARCHIVED)]
    undisturbed = make_shelf()
    for version, stage in moves:
        undisturbed.move(version, stage)
    outcomes = []
    for _ in range(6):
        shelf = make_shelf()
        child = Child(shelf, [(*move, None) for move in moves])
        child.start()
        time.sleep(chance.uniform(0.02, 0.9))
        child.process.kill()
        outcomes.append(child.finish())
        for version, stage in moves:
            shelf.move(version, stage)
        assert shelf.state == undisturbed.state
    assert not all(outcomes), "every kill came too late to matter"


def race(children: list[Child]) -> None:
    for child in children:
        child.start()
    for child in children:
        assert child.finish()


def test_racing_transitions_take_turns(make_shelf):
    shelf = make_shelf()
    shelf.move(1, Stage.PRODUCTION)
    race([Child(shelf, [(version, Stage.PRODUCTION, f"round {n}") for n in range(8)]) for version in (2, 3)])
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
    race([Child(shelf, [(version, Stage.PRODUCTION, None)]) for version in (1, 2, 3)])
    assert sum(row.to_stage is Stage.PRODUCTION for row in shelf.rows) == 3
    assert sorted(stage for stage in shelf.state["stages"].values()) == ["Archived", "Archived", "Production"]


def test_a_living_owner_is_waited_for(make_shelf, monkeypatch):
    shelf = make_shelf()
    with monkeypatch.context() as patch:
        kill_after(patch, 1)
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
