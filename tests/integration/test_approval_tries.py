"""Tries of the task that asks for approval, killed at any moment: no answer is taken away, and each is kept once."""

import json
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace

import pytest
from airflow.sdk.exceptions import TaskAwaitingInput, TaskDeferred

from penstock.clock import now, to_text
from penstock.gates import Check, Outcome, Verdict
from penstock.operators import approval
from penstock.operators.approval import FORM, HumanApprovalOperator, _Subject
from penstock.registry.audit import AuditLog
from penstock.scope import Scope
from penstock.spec.environment import Approval, Notification
from tests.integration.plant import MODEL, SECOND, Plant
from tests.integration.shelf import Killed

ANN = {"id": "ann", "name": "Ann"}


@dataclass
class Desk:
    """A request for approval of a plant's version, with what Airflow would keep for it: `asked` counts its writing."""

    plant: Plant
    version: int
    told_in: Path
    memory: dict = field(default_factory=dict)
    asked: int = 0

    def write(self, **_: object) -> None:
        self.asked += 1

    @property
    def context(self) -> dict:
        ti = SimpleNamespace(id=uuid.uuid4(), max_tries=5, dag_id="d", run_id="r", task_id="t")
        keep = lambda key, value, retention: self.memory.update({key: value})  # noqa: E731
        return {"ti": ti, "task_state_store": SimpleNamespace(get=self.memory.get, set=keep)}

    @property
    def task(self) -> HumanApprovalOperator:
        """The task of a new try, in the test's own lakehouse."""
        plant, version = self.plant, self.version
        subject = _Subject(plant.workspace, plant.project, MODEL, version, SECOND)

        class Here(HumanApprovalOperator):
            def _subject(self, context: object) -> _Subject:
                return subject

        scope = Scope(
            plant.workspace.root, plant.workspace.environment, plant.workspace.project(plant.project), MODEL
        )  # fmt: skip
        passed = {
            gate: Verdict(gate, "it", (Check("that", Outcome.PASS, "fine"),)).to_dict()
            for gate in ("compliance", "comparison")
        }
        return Here(task_id="t", scope=scope, **passed, shown={}, model_version=str(version), params=FORM)

    def answer(self, option: str = "Approve", reason: str = "fine") -> dict:
        return {
            "chosen_options": [option], "params_input": {"reason": reason}, "responded_by_user": ANN,
            "responded_at": now(),
        }  # fmt: skip

    @property
    def notes(self) -> list[tuple[str, str]]:
        notes = AuditLog(*self.plant.about).read().notes
        return [(str(note.kind), note.evidence["answer"]) for note in notes]

    @property
    def told(self) -> list[str]:
        return [json.loads(line)["event"] for line in self.told_in.read_text().splitlines()]


@pytest.fixture
def desk(make_plant: Callable[..., Plant], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Desk:
    told = tmp_path / "told.jsonl"
    way = Notification(notifier="penstock.notifiers.file.FileNotifier", arguments={"path": str(told)})
    plant = make_plant(approval=Approval(mode="human"), notifications=[way])
    made = Desk(plant, plant.add("second"), told)
    monkeypatch.setattr(approval, "upsert_hitl_detail", made.write)
    return made


def test_a_try_after_a_killed_one_waits_and_takes_no_answer_away(desk: Desk) -> None:
    with pytest.raises(TaskAwaitingInput):
        desk.task.execute(desk.context)
    with pytest.raises(TaskDeferred) as looks:
        desk.task.execute(desk.context)
    assert looks.value.method_name == "after_a_try"
    with pytest.raises(TaskAwaitingInput) as waits:
        desk.task.after_a_try(desk.context, {"answer": None, "asked": True})
    assert waits.value.method_name == "execute_complete"
    assert desk.asked == 1, "to ask once more would take away an answer that came meanwhile"
    assert desk.told == ["approval_wanted"]


def test_an_answer_that_is_given_while_the_trigger_looks_is_taken(desk: Desk) -> None:
    with pytest.raises(TaskAwaitingInput):
        desk.task.execute(desk.context)
    for resumes in (desk.task.after_a_try, desk.task.after_the_end):
        assert resumes(desk.context, desk.answer())["chosen_options"] == ["Approve"]
    assert desk.notes == [("approval", "Approve")] * 2


def test_an_answer_that_a_killed_try_kept_is_kept_once(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(TaskAwaitingInput):
        desk.task.execute(desk.context)
    given = desk.answer()

    def killed(*_: object) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(approval, "notify", killed)
        with pytest.raises(Killed):
            desk.task.execute_complete(desk.context, given)
    read = {**given, "responded_at": to_text(given["responded_at"])}
    assert desk.task.after_a_try(desk.context, {"answer": read, "asked": True})["responded_by_user"] == ANN
    assert desk.notes == [("approval", "Approve")]
    assert desk.told == ["approval_wanted", "approval_decided"]


def test_only_after_an_answer_that_does_not_count_people_are_asked_anew(desk: Desk) -> None:
    with pytest.raises(TaskAwaitingInput):
        desk.task.execute(desk.context)
    with pytest.raises(TaskAwaitingInput):
        desk.task.execute_complete(desk.context, desk.answer("Reject", " "))
    assert desk.asked == 2
    assert desk.notes == [("refused", "Reject")]


@pytest.mark.parametrize("written", [False, True])
def test_a_question_that_a_killed_try_noted_is_put_whether_or_not_it_was_written(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, written: bool
) -> None:
    def killed(**_: object) -> None:
        if written:
            desk.write()
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(approval, "upsert_hitl_detail", killed)
        with pytest.raises(Killed):
            desk.task.execute(desk.context)
    with pytest.raises(TaskDeferred):
        desk.task.execute(desk.context)
    with pytest.raises(TaskAwaitingInput):
        desk.task.after_a_try(desk.context, {"answer": None, "asked": written})
    assert desk.asked == 1
    assert desk.told == ["approval_wanted"]
