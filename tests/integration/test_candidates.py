"""One candidate at a time: a newer one supersedes an older one that waits, never the other way round."""

import os
import tempfile
from collections.abc import Callable
from datetime import datetime, timedelta
from types import SimpleNamespace

import pytest

os.environ.setdefault("AIRFLOW_HOME", tempfile.mkdtemp(prefix="airflow"))

from penstock.clock import now, to_text
from penstock.errors import GateError, RegistryError
from penstock.gates import Check, Outcome, Verdict
from penstock.hooks.workspace import WorkspaceHook
from penstock.lineage.models import registered_versions
from penstock.registry import promotion
from penstock.registry.audit import AuditLog
from penstock.registry.client import RegisteredModel
from penstock.registry.deployments import repair, transition
from penstock.registry.notes import NoteKind
from penstock.registry.promotion import stage_after_compliance
from penstock.registry.queue import admit, find_missed, settle_waiting, supersede_older
from penstock.registry.stages import STAGE_TAG, Stage, stage_of
from penstock.registry.turns import Superseded
from penstock.spec.environment import Approval
from penstock.training import mlflow_client
from penstock.ui.requests import is_archived
from penstock.workspace import Connections, Lineage
from tests.integration.shelf import AS_OF, Runs, Shelf, make_shelf

__all__ = ["make_shelf"]
AUTOMATIC = {"decided_by": "penstock (automatic)"}


def about(shelf: Shelf) -> tuple:
    return shelf.workspace, shelf.project, shelf.model


def verdict(fault: str = "") -> Verdict:
    """What a compliance check answers."""
    return Verdict("compliance", "it", (Check("all", Outcome.FAIL if fault else Outcome.PASS, fault or "fine"),))


def stages(shelf: Shelf) -> list[str]:
    return [str(stage_of(*about(shelf), int(found.version))) for found in shelf.registered.versions()]


def test_one_in_staging_supersedes_what_nobody_looked_at_with_a_note(make_shelf: Callable[..., Shelf]) -> None:
    shelf = make_shelf()
    assert [admit(*about(shelf), version, AS_OF) for version in (3, 1)] == [3, 1]
    assert supersede_older(*about(shelf), AS_OF) == []
    assert stages(shelf) == ["None", "None", "None"], "to be registered is no merit"
    shelf.move(2, Stage.STAGING, **AUTOMATIC)
    with pytest.raises(Superseded, match="superseded by version 2, .* with a later as_of"):
        admit(*about(shelf), 1, AS_OF)
    assert stages(shelf) == ["Archived", "Staging", "None"]
    with pytest.raises(Superseded):  # a task that is tried again
        admit(*about(shelf), 1, AS_OF)
    shelf.move(3, Stage.STAGING, **AUTOMATIC)
    assert [row.version for row in shelf.rows] == [2, 1, 3, 2]
    assert shelf.rows[1].reason == "superseded by version 2, which is newer, and passed its compliance check before"


def test_one_that_is_good_for_nothing_or_whose_run_failed_supersedes_nobody(make_shelf: Callable[..., Shelf]) -> None:
    """The task to_staging of version 1 comes after those of newer ones."""
    shelf = make_shelf()
    assert admit(*about(shelf), 1, AS_OF) == 1
    assert admit(*about(shelf), 3, AS_OF) == 3, "and then its run fails"
    assert admit(*about(shelf), 2, AS_OF) == 2
    stage_after_compliance(*about(shelf), 2, verdict("no owner"), AS_OF)
    stage_after_compliance(*about(shelf), 1, verdict(), AS_OF)
    assert stages(shelf) == ["Staging", "Archived", "None"]


def test_one_that_a_newer_one_overtakes_in_its_compliance_check_is_archived(
    make_shelf: Callable[..., Shelf], monkeypatch: pytest.MonkeyPatch
) -> None:
    shelf = make_shelf(5)
    asked = [admit(*about(shelf), version, AS_OF) for version in (1, 2, 3, 4)]
    stage_after_compliance(*about(shelf), 3, verdict(), AS_OF)
    assert stages(shelf) == ["Archived", "Archived", "Staging", "None", "None"]
    before = shelf.state
    for version in asked[:2]:
        for _ in range(2):
            with pytest.raises(Superseded, match="superseded by version 3"):
                stage_after_compliance(*about(shelf), version, verdict(), AS_OF)
    assert shelf.state == before
    shelf.move(3, Stage.PRODUCTION, decided_by="Ann")
    with pytest.raises(Superseded, match="superseded by version 3"):  # its run was slow, or began late
        admit(*about(shelf), 1, AS_OF)
    with pytest.raises(Superseded, match="superseded by version 3"):
        stage_after_compliance(*about(shelf), 2, verdict(), AS_OF)
    assert shelf.registered.aliases() == {"production": 3}
    later = AS_OF + timedelta(days=1)
    assert admit(*about(shelf), 1, later) == 1, "a person asked for it"
    shelf.move(5, Stage.STAGING, **AUTOMATIC)

    def decided_meanwhile(*given: object) -> int:
        shelf.move(5, Stage.ARCHIVED, decided_by="Ann")
        return admit(*given)

    monkeypatch.setattr(promotion, "admit", decided_meanwhile)
    assert stage_after_compliance(*about(shelf), 4, verdict(), AS_OF).to_stage is Stage.STAGING
    assert stages(shelf) == ["Archived", "Archived", "Production", "Staging", "Archived"]


def test_a_version_without_a_stage_gives_way_to_a_newer_one_in_production(make_shelf: Callable[..., Shelf]) -> None:
    shelf = make_shelf(4)
    for version in (1, 3):
        shelf.move(version, Stage.PRODUCTION)
    shelf.back()
    assert admit(*about(shelf), 2, AS_OF) == 2, "version 3 was rolled back"
    shelf.move(4, Stage.PRODUCTION)
    with pytest.raises(Superseded, match="superseded by version 4"):
        admit(*about(shelf), 2, AS_OF)
    assert stages(shelf) == ["Archived", "Archived", "Archived", "Production"]
    assert find_missed(*about(shelf), Runs()) is None


def test_every_compliance_verdict_is_in_the_audit_once(make_shelf: Callable[..., Shelf]) -> None:
    shelf, later = make_shelf(2), AS_OF + timedelta(days=1)

    def judge(version: int, found: Verdict, as_of: datetime) -> list[tuple[int, str]]:
        for _ in range(2):  # a task that is tried again
            stage_after_compliance(*about(shelf), version, found, as_of)
        notes = [note for note in AuditLog(*about(shelf)).read().notes if note.kind is NoteKind.COMPLIANCE]
        return [(note.version, note.reason) for note in notes]

    assert judge(1, verdict("no owner"), AS_OF) == [], "the transition's row has it"
    one = [(1, "no card")]
    assert judge(1, verdict("no card"), AS_OF) == one
    assert judge(1, verdict("no card"), later) == one * 2
    shelf.move(2, Stage.PRODUCTION)
    assert judge(2, verdict("too large"), later) == [*one * 2, (2, "too large")]
    assert judge(2, verdict(), later) == [*one * 2, (2, "too large"), (2, "fine")]
    assert [row.version for row in shelf.rows] == [1, 2]


def test_one_that_waits_for_approval_stays_until_the_newer_one_is_in_staging(
    make_shelf: Callable[..., Shelf],
) -> None:
    shelf = make_shelf(2)
    shelf.move(1, Stage.STAGING, **AUTOMATIC)
    admit(*about(shelf), 2, AS_OF)
    assert stages(shelf) == ["Staging", "None"]
    shelf.move(2, Stage.STAGING, **AUTOMATIC)
    assert stages(shelf) == ["Archived", "Staging"]
    with pytest.raises(GateError, match="superseded by version 2"):
        shelf.move(1, Stage.PRODUCTION, decided_by="Ann")
    with pytest.raises(Superseded):
        shelf.move(1, Stage.PRODUCTION, **AUTOMATIC)
    shelf.move(2, Stage.ARCHIVED, decided_by="Ann")  # the newer one is decided upon: the way is free
    shelf.move(1, Stage.PRODUCTION, decided_by="Ann", cause="after all")
    assert stages(shelf) == ["Production", "Archived"]


def test_an_older_one_does_not_take_the_newer_ones_place_in_staging(make_shelf: Callable[..., Shelf]) -> None:
    shelf = make_shelf(2)
    shelf.move(2, Stage.STAGING, **AUTOMATIC)
    with pytest.raises(Superseded):  # it was in its compliance check meanwhile
        shelf.move(1, Stage.STAGING, **AUTOMATIC)
    assert stages(shelf) == ["None", "Staging"]
    shelf.move(1, Stage.STAGING, decided_by="Ann")  # a person may
    assert stages(shelf) == ["Staging", "Archived"]


def test_a_newer_version_that_was_deleted_stands_in_nobodys_way(make_shelf: Callable[..., Shelf]) -> None:
    from mlflow import MlflowClient

    shelf = make_shelf(2)
    shelf.move(2, Stage.STAGING, **AUTOMATIC)
    MlflowClient().delete_model_version(shelf.registered.name, "2")
    assert admit(*about(shelf), 1, AS_OF) == 1
    shelf.move(1, Stage.STAGING, **AUTOMATIC)
    assert stages(shelf) == ["Staging"]


def test_what_no_event_told_a_waiting_approval_is_found_in_the_audit(make_shelf: Callable[..., Shelf]) -> None:
    shelf = make_shelf(3, hand_moved_alias="adopt")
    shelf.move(1, Stage.STAGING, **AUTOMATIC)
    assert settle_waiting(*about(shelf), 1, AS_OF) is None
    shelf.move(2, Stage.STAGING, **AUTOMATIC)
    said = settle_waiting(*about(shelf), 1, AS_OF)
    assert said
    assert "version 1 is in Archived already, by penstock (automatic): displaced in Staging by version 2" in said
    assert settle_waiting(*about(shelf), 2, AS_OF) is None
    shelf.registered.move_alias("production", 3)  # by a hand, in MLflow: no gate archived the waiting one
    said = settle_waiting(*about(shelf), 2, AS_OF)
    assert said
    assert "version 2 was superseded by version 3, which came to production meanwhile" in said
    assert stages(shelf) == ["Archived", "Archived", "Production"]
    before = shelf.state
    assert "is in Archived already" in str(settle_waiting(*about(shelf), 2, AS_OF))
    assert "version 3 is in Production already, by MLflow (by hand)" in str(settle_waiting(*about(shelf), 3, AS_OF))
    assert shelf.state == before


def test_a_request_that_waits_looks_again_until_it_is_not_wanted_or_its_time_is_over(
    make_shelf: Callable[..., Shelf], monkeypatch: pytest.MonkeyPatch
) -> None:
    from airflow.sdk.exceptions import AirflowSkipException, TaskAwaitingInput, TaskDeferred

    from penstock.operators.approval import FORM, HumanApprovalOperator

    shelf = make_shelf(2, approval=Approval(mode="human", look_again="20s", expires_after_hours=1))
    shelf.move(1, Stage.STAGING, **AUTOMATIC)
    memory = {"question": {"max_tries": 5, "asked_at": to_text(now())}}
    ti = SimpleNamespace(max_tries=5, dag_id="d", run_id="r", id="i", task_id="approval")
    context = {"task_state_store": SimpleNamespace(get=memory.get), "ti": ti, "params": {"as_of": to_text(AS_OF)}}
    scope = SimpleNamespace(
        environment=shelf.workspace.environment, project=shelf.project, model=shelf.model, root=shelf.workspace.root
    )
    monkeypatch.setattr(WorkspaceHook, "workspace", lambda *_: shelf.workspace)
    asked: list[str] = []

    class Here(HumanApprovalOperator):
        """Writes its request into a list: there is no database of Airflow's here."""

        def _text(self, context: object) -> str:
            return "the evidence"

        def _ask(self, context: object, text: str) -> None:
            asked.append(text)

    task = Here(task_id="approval", scope=scope, compliance={}, comparison={}, shown="", model_version="1", params=FORM)

    def wake() -> object:
        """As Airflow does, when nobody has answered for as long as the task asked to wait."""
        return task.execute_complete(context, {"error": "timeout", "error_type": "timeout"})

    with pytest.raises(TaskAwaitingInput) as parked:
        wake()
    assert parked.value.timeout == timedelta(seconds=20)
    assert asked == []
    ann = {"id": "1", "name": "Ann"}
    for at, given in enumerate(({}, {"reason": None}, {"reason": " "}), 1):
        answer = {"chosen_options": ["Reject"], "params_input": given, "responded_at": f"2024-01-0{at}T00:00:00Z"}
        with pytest.raises(TaskAwaitingInput):  # nobody would know why: the question stays open
            task.execute_complete(context, {**answer, "responded_by_user": ann})
        assert len(asked) == at
    refused = [note for note in AuditLog(*about(shelf)).read().notes if note.kind is NoteKind.REFUSED]
    assert [(note.version, note.decided_by) for note in refused] == [(1, "Ann")] * 3
    assert refused[0].reason == "Ann answered 'Reject' without a reason: reject it again, and say why"
    with monkeypatch.context() as outage:
        outage.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
        away = shelf.workspace.with_(connections=Connections("sc://localhost:9", "http://127.0.0.1:9"))
        outage.setattr(WorkspaceHook, "workspace", lambda *_: away)
        with pytest.raises(TaskAwaitingInput):
            wake()
    shelf.workspace.mlflow()
    shelf.move(2, Stage.STAGING, **AUTOMATIC)
    with pytest.raises(AirflowSkipException, match="displaced in Staging by version 2"):
        wake()
    question = memory.pop("question")
    task.compliance = task.comparison = Verdict("that", "it", (Check("well", Outcome.PASS, "it is"),)).to_dict()
    with pytest.raises(AirflowSkipException, match="nobody is asked: .*displaced in Staging by version 2.*later as_of"):
        task.execute(context)
    memory["question"] = question
    memory["question"]["asked_at"] = to_text(now() - timedelta(hours=2))
    with pytest.raises(TaskDeferred) as looking:
        wake()
    last_look = getattr(task, looking.value.method_name)
    late = {"chosen_options": ["Approve"], "params_input": {}, "responded_at": to_text(now()), "responded_by_user": ann}
    taken = last_look(context, {"answer": late})
    assert (taken["chosen_options"], taken["responded_by_user"]["name"]) == (["Approve"], "Ann")
    assert last_look(context, {"answer": None})["chosen_options"] == ["Expired"]


def test_neither_a_rollback_nor_what_was_in_production_before_ends_a_waiting_approval(
    make_shelf: Callable[..., Shelf],
) -> None:
    from mlflow import MlflowClient

    shelf = make_shelf(4)
    for version in (1, 3, 4):
        shelf.move(version, Stage.PRODUCTION)
    shelf.move(2, Stage.STAGING, decided_by="Ann")  # on purpose, although newer ones were in production
    assert settle_waiting(*about(shelf), 2, AS_OF) is None
    assert shelf.back().production == 3
    assert settle_waiting(*about(shelf), 2, AS_OF) is None
    shelf.move(2, Stage.ARCHIVED, reason="no")
    assert settle_waiting(*about(shelf), 2, AS_OF) is None, "its own run archived it, and a person cleared the task"
    another = shelf.workspace.with_(lineage=Lineage(run="another"))
    assert "is in Archived already" in str(settle_waiting(another, shelf.project, shelf.model, 2, AS_OF))
    MlflowClient().delete_model_version(shelf.registered.name, "2")
    assert "is no longer in the registry" in str(settle_waiting(*about(shelf), 2, AS_OF))


def test_a_version_that_is_not_there_is_named(make_shelf: Callable[..., Shelf]) -> None:
    with pytest.raises(RegistryError, match="version 9"):
        admit(*about(make_shelf(1)), 9, AS_OF)


def test_the_newest_version_without_stage_and_run_was_missed(make_shelf: Callable[..., Shelf]) -> None:
    shelf = make_shelf(3)
    shelf.registered.tag(2, {"penstock.as_of": "2020-04-01T00:00:00Z"})
    third, second = (f"promote__{shelf.model}__{version}" for version in (3, 2))
    runs = Runs({third: "running"})
    found = find_missed(*about(shelf), runs)
    assert found
    assert (found.version, found.as_of, found.run_id) == (2, "2020-04-01T00:00:00Z", second)
    runs.states[second] = "failed"
    shelf.registered.tag(1, {"penstock.as_of": "yesterday"})
    unreadable = find_missed(*about(shelf), runs)
    assert unreadable
    assert unreadable.version == 1
    assert unreadable.as_of > "2020"
    shelf.move(1, Stage.ARCHIVED)
    assert find_missed(*about(shelf), runs) is None


def test_a_version_in_staging_that_nobody_is_asked_about_any_more_was_missed(make_shelf: Callable[..., Shelf]) -> None:
    shelf = make_shelf(1)
    shelf.move(1, Stage.STAGING, **AUTOMATIC)
    first = f"promote__{shelf.model}__1"
    for states, wanted in (
        ({}, first),  # `penstock run model_promotion` left it where a person is to answer
        ({first: "running"}, None),
        ({first: "failed"}, None),
        ({first: "success"}, f"{first}__again_1"),  # its request was skipped, by a hand or an event of MLflow's
        ({first: "success", "manual__now": "running"}, None),
        ({first: "success", f"{first}__again_1": "failed"}, None),
        ({first: "success", f"{first}__again_1": "success"}, f"{first}__again_2"),
    ):
        found = find_missed(*about(shelf), Runs(states))
        assert (found and found.run_id) == wanted, states
    shelf.move(1, Stage.PRODUCTION)
    assert find_missed(*about(shelf), Runs({first: "success"})) is None


def test_an_alias_that_a_hand_moved_ends_nobodys_request(make_shelf: Callable[..., Shelf], monkeypatch) -> None:
    """An event of MLflow's tells of the alias alone: what it means stands in the audit, before the alias moves."""
    shelf = make_shelf(2, hand_moved_alias="revert")
    shelf.move(1, Stage.STAGING, **AUTOMATIC)
    shelf.registered.move_alias("staging", 2)
    assert not is_archived(AuditLog(*about(shelf)).read(), 1)
    repair(*about(shelf))
    assert shelf.registered.aliases() == {"staging": 1}
    assert not is_archived(AuditLog(*about(shelf)).read(), 1)
    seen = []
    move_alias = RegisteredModel.move_alias

    def told(self, alias, version):
        move_alias(self, alias, version)
        seen.append((alias, version, is_archived(AuditLog(*about(shelf)).read(), 1)))

    monkeypatch.setattr(RegisteredModel, "move_alias", told)
    shelf.move(2, Stage.STAGING, **AUTOMATIC)
    assert seen[0] == ("staging", 2, True), "when the event goes out, the audit has it"
    assert is_archived(AuditLog(*about(shelf)).read(), 1)


def test_a_copied_version_is_a_candidate_although_the_stage_of_the_original_came_with_it(
    make_shelf: Callable[..., Shelf],
) -> None:
    from mlflow import MlflowClient

    shelf = make_shelf(1)
    shelf.move(1, Stage.STAGING)
    shelf.move(1, Stage.ARCHIVED)
    copied = MlflowClient().copy_model_version(f"models:/{shelf.registered.name}/1", shelf.registered.name)
    assert copied.tags[STAGE_TAG] == "Archived"
    found = find_missed(*about(shelf), Runs())
    assert found
    assert found.version == 2
    assert admit(*about(shelf), 2, AS_OF) == 2
    repair(*about(shelf))
    assert shelf.state["stages"] == {1: "Archived", 2: None}


def test_what_a_hand_archived_by_its_tag_is_found_after_the_repair(make_shelf: Callable[..., Shelf]) -> None:
    shelf = make_shelf(1)
    transition(*about(shelf), 1, Stage.ARCHIVED, "Ann", "looks bad", {}, AS_OF)
    shelf.registered.tag(1, {STAGE_TAG: None})
    repair(*about(shelf))
    assert find_missed(*about(shelf), Runs()) is None


def test_versions_beyond_one_page_of_the_registry_are_seen(
    make_shelf: Callable[..., Shelf], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mlflow_client, "PAGE", 2)
    shelf = make_shelf(5)
    shelf.registered.tag(1, {"penstock.as_of": "2020-04-01T00:00:00Z"})  # the last that was changed
    assert [int(found.version) for found in shelf.registered.versions()] == [1, 2, 3, 4, 5]
    shelf.move(5, Stage.STAGING, **AUTOMATIC)
    assert supersede_older(*about(shelf), AS_OF) == [1, 2, 3, 4]
    with pytest.raises(Superseded, match="version 5"):
        admit(*about(shelf), 1, AS_OF)
    known = registered_versions(shelf.workspace, [shelf.project]).versions
    assert [found.version for found in known] == [1, 2, 3, 4, 5]
