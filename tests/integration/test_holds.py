"""What keeps a version out of production until a person says otherwise: a freeze, and a rollback."""

import pytest

from penstock.errors import GateError, NothingToDo, SpecError
from penstock.lakehouse.small_tables import read
from penstock.registry import audit, settling
from penstock.registry.deployments import repair
from penstock.registry.freezing import allow, freeze, unfreeze
from penstock.registry.holds import holds
from penstock.registry.stages import Stage
from tests.integration.shelf import AS_OF, make_shelf

__all__ = ["make_shelf"]


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
