"""What people do in MLflow beside Penstock: aliases moved and taken away, tags set, versions deleted."""

from datetime import timedelta

import pytest

from penstock.registry import settling
from penstock.registry.deployments import repair
from penstock.registry.stages import Stage, current_production
from tests.integration.shelf import AS_OF, Killed, kill_after, make_shelf

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
