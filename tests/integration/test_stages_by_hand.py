"""What people do in MLflow beside Penstock: aliases moved and taken away, tags set, versions deleted."""

from datetime import timedelta

import pytest

from penstock.errors import GateError, NothingToDo
from penstock.registry import settling
from penstock.registry.audit import AuditLog
from penstock.registry.deployments import repair
from penstock.registry.freezing import freeze
from penstock.registry.history import production_rows
from penstock.registry.numbering import check_number, number_on
from penstock.registry.production import settled_production
from penstock.registry.queue import admit, find_missed
from penstock.registry.stages import Stage, current_production
from tests.integration.shelf import AS_OF, Killed, Runs, kill_after, make_shelf

__all__ = ["make_shelf"]


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


@pytest.mark.parametrize("frozen", [False, True])
def test_a_staging_alias_that_a_hand_puts_on_the_production_version_is_taken_away_whatever_the_policy(
    make_shelf, frozen
):
    shelf = make_shelf(hand_moved_alias="adopt")
    shelf.move(1, Stage.PRODUCTION)
    shelf.move(2, Stage.PRODUCTION)
    if frozen:
        freeze(*shelf.about, "Ann", "the fair is on")
    shelf.registered.move_alias("staging", 2)
    before = production_rows(AuditLog(*shelf.about).read().completed)
    assert repair(*shelf.about).production == 2
    assert shelf.registered.aliases() == {"production": 2}
    assert shelf.state["stages"] == {1: "Archived", 2: "Production", 3: None}
    assert production_rows(AuditLog(*shelf.about).read().completed) == before, "who let it in stays who did"
    by_hand = shelf.rows[-1]
    assert (by_hand.version, str(by_hand.to_stage), str(by_hand.state)) == (2, "Staging", "reverted")
    assert "that version is in production, which reverts that" in by_hand.reason
    assert repair(*shelf.about).noticed == ()


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


@pytest.mark.parametrize("frozen", [False, True])
def test_a_hand_that_puts_the_alias_of_a_deleted_version_on_another_decides_nothing(make_shelf, frozen):
    shelf = make_shelf(hand_moved_alias="adopt" if frozen else "revert")
    shelf.move(1, Stage.PRODUCTION)
    if frozen:
        freeze(*shelf.about, "Ann", "the fair is on")
    shelf.delete(1)
    shelf.registered.move_alias("production", 2)
    assert settled_production(*shelf.about) is None
    assert shelf.registered.aliases() == {}
    assert shelf.state["stages"] == {2: None, 3: None}
    by_hand = [(row.version, str(row.to_stage), str(row.state)) for row in shelf.rows[1:]]
    assert by_hand == [(2, "Production", "reverted"), (1, "Archived", "completed")]
    assert "from version 1 to version 2 in MLflow, and version 1 is not there any more" in shelf.rows[1].reason
    before = shelf.state
    repair(*shelf.about)
    assert shelf.state == before


def test_a_number_that_was_another_versions_is_refused_wherever_it_is_named(make_shelf):
    shelf = make_shelf(hand_moved_alias="revert")
    shelf.move(1, Stage.PRODUCTION)
    shelf.move(2, Stage.PRODUCTION)
    shelf.begin_anew(2)
    said = "version 2 is another than the one that went through the gates .* those up to 2 are taken.*number_on"
    for refuses in (
        lambda: shelf.move(2, Stage.PRODUCTION),
        lambda: admit(*shelf.about, 2, AS_OF),
        lambda: check_number(*shelf.about, 2),
        lambda: find_missed(*shelf.about, Runs()),
    ):
        with pytest.raises(GateError, match=said):
            refuses()
    assert repair(*shelf.about).production is None
    assert shelf.registered.aliases() == {}, "the alias is not put on the new version 2, which nobody has judged"
    with pytest.raises(NothingToDo, match="1 before it are not in the registry any more"):
        shelf.back()
    assert number_on(*shelf.about, 2) == 3
    assert [int(found.version) for found in shelf.registered.versions()] == [1, 3]
    assert number_on(*shelf.about, 3) == 3, "it is free"
    found = find_missed(*shelf.about, Runs())
    assert (found.version, found.run_id) == (3, f"promote__{shelf.model}__3")
    assert admit(*shelf.about, 3, AS_OF) == 3
    assert shelf.move(3, Stage.PRODUCTION).production == 3


def test_a_hand_that_moves_the_alias_under_a_pending_transition_wins(make_shelf, monkeypatch):
    shelf = make_shelf(hand_moved_alias="adopt")
    shelf.move(1, Stage.PRODUCTION)
    with monkeypatch.context() as patch:
        kill_after(patch, 1)
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
    assert shelf.state["stages"] == {1: "Production", 2: None, 3: None}
