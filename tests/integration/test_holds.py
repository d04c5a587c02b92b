"""What keeps a version out of production until a person says otherwise: a freeze, and a rollback."""

from datetime import timedelta
from types import SimpleNamespace

import pytest

from penstock.errors import GateError, NothingToDo, SpecError
from penstock.gates import Check, Outcome, Verdict
from penstock.lakehouse.small_tables import read
from penstock.registry import audit, promotion, rolling_back, settling
from penstock.registry.deployments import repair
from penstock.registry.freezing import allow, freeze, unfreeze
from penstock.registry.holds import Holds, holds
from penstock.registry.promotion import promote, stage_after_compliance
from penstock.registry.rolling_back import rollback
from penstock.registry.stages import Stage
from penstock.spec.environment import Approval
from tests.integration.shelf import AS_OF, Killed, kill_after, make_shelf

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


def test_where_people_approve_only_approvers_let_anything_in_and_anybody_holds_back(make_shelf):
    shelf = make_shelf(approval=Approval(mode="human", approvers=["Ann", "Cleo"]))
    assert promote(*shelf.about, 1, "Ann", "fine", {}, AS_OF).production == 1
    with pytest.raises(
        GateError, match=r"version 2 is not promoted: Ben is no approver of the environment dev.*Ann, Cleo"
    ):
        promote(*shelf.about, 2, "Ben", "in a hurry", {}, AS_OF)
    shelf.move(2, Stage.PRODUCTION)
    rollback(*shelf.about, "Ben", "it smells", check=False)
    freeze(*shelf.about, "Ben", "wait")
    before = shelf.state
    with pytest.raises(GateError, match=r"version 2 stays held back: Ben is no approver"):
        allow(*shelf.about, 2, "Ben", "it is fine again")
    with pytest.raises(GateError, match=r"the freeze of .* stays: Ben is no approver.*approval\.approvers"):
        unfreeze(*shelf.about, "Ben", "go on")
    assert shelf.state == before
    assert [*holds(*shelf.about).rolled_back] == [2]
    allow(*shelf.about, 2, "Cleo", "the sensor was broken")
    unfreeze(*shelf.about, "Ann", "go on")
    assert holds(*shelf.about) == Holds()


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


def test_versions_that_were_deleted_in_mlflow_are_passed_over(make_shelf):
    shelf = make_shelf()
    for version in (1, 2, 3):
        shelf.move(version, Stage.PRODUCTION)
    shelf.delete(2)
    with pytest.raises(GateError, match=r"version 2 is not in the registry any more. What can come back: --to 1$"):
        shelf.back(to_version=2)
    assert shelf.back().production == 1
    allow(*shelf.about, 3, "Ann", "it was the sensor")
    shelf.move(3, Stage.PRODUCTION, cause="again")
    shelf.delete(1)
    before = shelf.state
    with pytest.raises(NothingToDo, match="version 3 is in production, and 1 before it are not in the registry"):
        shelf.back()
    assert shelf.state == before


def test_production_that_was_lost_comes_back_by_a_rollback(make_shelf):
    shelf = make_shelf()
    for version in (1, 2, 3):
        shelf.move(version, Stage.PRODUCTION)
    shelf.delete(3)
    done = shelf.back()
    assert (done.production, done.displaced) == (2, None)
    assert shelf.back(from_version=3).repeated
    assert shelf.state["stages"] == {1: "Archived", 2: "Production"}
    assert shelf.back().production == 1


def test_an_alias_that_a_hand_took_away_comes_back_by_a_rollback(make_shelf):
    shelf = make_shelf(2, hand_moved_alias="adopt")
    shelf.move(1, Stage.PRODUCTION)
    shelf.registered.move_alias("production", None)
    with pytest.raises(NothingToDo, match="version 1 was the first in production: .* itself comes back by `--to 1`"):
        shelf.back()
    assert shelf.back(to_version=1).production == 1
    assert not holds(*shelf.about).rolled_back, "it came back: nothing holds it"
    shelf.move(2, Stage.PRODUCTION)
    shelf.registered.move_alias("production", None)
    assert shelf.back().production == 1, "what was taken away stays away, unless it is named"
    assert [*holds(*shelf.about).rolled_back] == [2]


def test_a_rollback_that_is_tried_again_goes_back_once_even_where_production_was_lost(make_shelf):
    from penstock.operators.releases import RollbackOperator

    shelf = make_shelf()
    for version in (1, 2, 3):
        shelf.move(version, Stage.PRODUCTION)
    shelf.delete(3)
    memory = {}
    context = {
        "task_state_store": SimpleNamespace(get=memory.get, set=memory.__setitem__),
        "params": {"reason": "it is gone", "unchecked": True}, "dag_run": SimpleNamespace(triggering_user_name="Ann"),
    }  # fmt: skip
    task = RollbackOperator(
        task_id="rollback", project=shelf.project, model=shelf.model, root=shelf.workspace.root
    )  # fmt: skip
    first = task.run(shelf.workspace, AS_OF, context)
    again = task.run(shelf.workspace, AS_OF, context)
    assert (first.production, again.production, again.repeated) == (2, 2, True)


def compared_with(version: int | None) -> dict:
    check = Check("enough rows", Outcome.PASS, "500 rows", {"production_version": version})
    return Verdict("comparison", "the candidate", (check,)).to_dict()


def answer(gate: str, outcome: Outcome) -> dict:
    return Verdict(gate, "the candidate", (Check("that", outcome, "it smells"),)).to_dict()


@pytest.mark.parametrize(
    ("compliance", "comparison", "refused"),
    [
        (None, compared_with(1), r"version 2 did not go through the gate compliance.*clear compliance_check"),
        (answer("compliance", Outcome.FAIL), compared_with(1), "version 2 failed the gate compliance.*: it smells"),
        (answer("compliance", Outcome.WARN), None, "version 2 did not go through the gate comparison"),
        (answer("compliance", Outcome.PASS), answer("comparison", Outcome.FAIL), "failed the gate comparison"),
        (answer("compliance", Outcome.PASS), compared_with(1), "not known upon which comparison.* was decided"),
    ],
)
def test_an_approval_alone_promotes_nothing_whoever_clears_what_a_failed_gate_skipped(
    make_shelf, monkeypatch, compliance, comparison, refused
):
    from penstock.operators.promotion import PromoteOperator

    shelf = make_shelf(2)
    shelf.move(1, Stage.PRODUCTION)
    shelf.move(2, Stage.ARCHIVED)
    approval = {"chosen_options": ["Approve"], "responded_by_user": {"id": "1", "name": "Ann"}, "shown": ""}
    task = PromoteOperator(
        task_id="to_production", project=shelf.project, model=shelf.model, root=shelf.workspace.root,
        compliance=compliance, comparison=comparison, approval=approval, model_version=2,
    )  # fmt: skip
    before = shelf.state
    with pytest.raises(GateError, match=refused):
        task.run(shelf.workspace, AS_OF, {"ti": SimpleNamespace(xcom_push=lambda **_: None)})
    assert shelf.state == before


def test_what_a_dead_worker_promoted_counts_before_a_comparison_is_relied_upon(make_shelf, monkeypatch):
    shelf = make_shelf()
    shelf.move(1, Stage.PRODUCTION)
    with monkeypatch.context() as patch:
        kill_after(patch, 1)
        with pytest.raises(Killed):
            shelf.move(3, Stage.PRODUCTION)
    assert shelf.registered.aliases() == {"production": 1}, "its intent is written, and no more"
    monkeypatch.setattr(settling, "TAKEOVER_AFTER", timedelta(seconds=0))
    with pytest.raises(GateError, match="version 2 was compared with version 1, but production is version 3 by now"):
        promote(*shelf.about, 2, "Ann", "fine", {"comparison": compared_with(1)}, AS_OF)
    assert shelf.state["stages"] == {1: "Archived", 2: None, 3: "Production"}
    assert promote(*shelf.about, 2, "Ann", "fine", {"comparison": compared_with(3)}, AS_OF).displaced == 3
    assert promote(*shelf.about, 2, "Ann", "fine", {"comparison": compared_with(3)}, AS_OF).repeated


def test_a_version_that_comes_in_while_another_is_rolled_back_stays(make_shelf, monkeypatch):
    shelf = make_shelf()
    shelf.move(1, Stage.PRODUCTION)
    shelf.move(2, Stage.PRODUCTION)
    original = rolling_back.promised_metrics

    def promoted_first(*arguments):
        shelf.move(3, Stage.PRODUCTION)
        return original(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(rolling_back, "promised_metrics", promoted_first)
        with pytest.raises(GateError, match="version 2 was to be rolled back, but production is version 3 by now"):
            shelf.back()
    assert shelf.state["stages"] == {1: "Archived", 2: "Archived", 3: "Production"}
    assert shelf.back().production == 2


@pytest.mark.parametrize("outcome", [Outcome.FAIL, Outcome.PASS])
def test_the_production_version_that_is_judged_again_displaces_none_that_comes_in_meanwhile(
    make_shelf, monkeypatch, outcome
):
    shelf = make_shelf(2)
    shelf.move(1, Stage.PRODUCTION)
    original = promotion.repair
    verdict, later = Verdict.from_dict(answer("compliance", outcome)), AS_OF + timedelta(days=1)
    assert stage_after_compliance(*shelf.about, 1, verdict, later).repeated, "it stays, whatever the verdict is"

    def promoted_after(*arguments):
        found = original(*arguments)
        shelf.move(2, Stage.PRODUCTION)
        return found

    with monkeypatch.context() as patch:
        patch.setattr(promotion, "repair", promoted_after)
        with pytest.raises(GateError, match="in production when it was judged, but production is version 2 by now"):
            stage_after_compliance(*shelf.about, 1, verdict, later)
    assert shelf.state["stages"] == {1: "Archived", 2: "Production"}
