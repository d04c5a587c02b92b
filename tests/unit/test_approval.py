"""Who may approve, and what people are told."""

import asyncio
import json
import logging
import os
import tempfile
import uuid
from datetime import UTC, datetime
from pathlib import Path

import pytest

os.environ.setdefault("AIRFLOW_HOME", tempfile.mkdtemp(prefix="airflow"))

from penstock.notifiers.notice import Notice, notify
from penstock.operators.approval import assigned_users
from penstock.operators.question import Question, answer_of
from penstock.spec.environment import Approval, Environment, NotificationEvent
from penstock.triggers.answer import AnswerTrigger

SIMPLE = "airflow.api_fastapi.auth.managers.simple.simple_auth_manager.SimpleAuthManager"
FAB = "airflow.providers.fab.auth_manager.fab_auth_manager.FabAuthManager"


@pytest.mark.parametrize(
    ("approvers", "auth_manager", "assigned"),
    [
        ([], SIMPLE, None),
        (["ann", "ben"], SIMPLE, ["ann", "ben"]),
        (["3", "17"], FAB, ["3", "17"]),
        (["ann"], FAB, None),  # FAB's ids are numbers: by name, only the check of the answer can tell
        (["3", "ann"], FAB, None),
    ],
)
def test_airflow_itself_refuses_whom_it_can_know_by_id(approvers, auth_manager, assigned):
    found = assigned_users(approvers, auth_manager)
    assert (found and [user["id"] for user in found]) == assigned


@pytest.mark.parametrize(
    ("approvers", "known_as", "may"),
    [
        ([], ("anybody", None), True),
        (["ann"], ("ann", "3"), True),
        (["3"], ("ann", "3"), True),
        (["ann"], ("ben", "4"), False),
        (["ann"], (None, None), False),
    ],
)
def test_an_answer_counts_by_name_or_by_id(approvers, known_as, may):
    assert Approval(mode="human", approvers=approvers).may_approve(*known_as) is may


def test_a_notifier_that_fails_keeps_no_other_from_telling(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    file = tmp_path / "told" / "notices.jsonl"
    environment = Environment.model_validate({
        "name": "dev", "description": "for tests", "lakehouse": {"root": "unused"}, "schedules": False,
        "approval": {"mode": "automatic"},
        "notifications": [
            {"notifier": "nowhere.to.be.Found"},
            {"notifier": "penstock.notifiers.file.FileNotifier", "arguments": {"path": str(tmp_path / "not.jsonl")},
             "events": ["rolled_back"]},
            {"notifier": "penstock.notifiers.file.FileNotifier",
             "arguments": {"path": f"{tmp_path}/{{{{ notice.model }}}}/notices.jsonl"}},
        ],
    })  # fmt: skip
    notice = Notice(NotificationEvent.APPROVAL_WANTED, "shop", "told", 3, "version 3 waits", "a < b", "http://x/y")
    with caplog.at_level(logging.INFO):
        notify(environment, notice, {}, logging.getLogger("a test"))
    assert "is its package installed?" in caplog.text
    line = json.loads(file.read_text())
    assert (line["event"], line["version"], line["subject"]) == ("approval_wanted", 3, "version 3 waits")
    assert not (tmp_path / "not.jsonl").exists()
    assert "a &lt; b" in notice.html


AT = datetime(2026, 5, 1, 12, 0, 0, 250000, tzinfo=UTC)
ANSWER = {
    "chosen_options": ["Approve"], "params_input": {"reason": "fine"}, "responded_at": AT,
    "responded_by_user": {"id": "3", "name": "ann"},
}  # fmt: skip
"""As Airflow hands it over."""


def looked_up(monkeypatch: pytest.MonkeyPatch, answer: object) -> dict:
    """What the trigger fires, with this answer (or error) of Airflow's."""

    def answers(*, ti_id: str) -> object:
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def first() -> dict:
        async for event in AnswerTrigger(ti_id=str(uuid.uuid4()), settle_seconds=0).run():
            return event.payload
        raise AssertionError

    monkeypatch.setattr("airflow.sdk.execution_time.hitl.get_hitl_detail_content_detail", answers)
    return asyncio.run(first())


def test_an_answer_is_the_same_whether_airflow_hands_it_over_or_the_trigger_reads_it(monkeypatch):
    from airflow.sdk.api.datamodels._generated import HITLDetailResponse

    read = looked_up(monkeypatch, HITLDetailResponse(**ANSWER, response_received=True))
    assert read["asked"]
    assert answer_of(read["answer"]) == answer_of(ANSWER)
    assert answer_of(ANSWER).answered_at == "2026-05-01T12:00:00.250000Z"


def test_the_trigger_tells_what_was_not_asked_from_what_nobody_answered(monkeypatch):
    from airflow.sdk.api.datamodels._generated import HITLDetailResponse
    from airflow.sdk.exceptions import AirflowRuntimeError, ErrorType
    from airflow.sdk.execution_time.comms import ErrorResponse

    def refused(status: int) -> AirflowRuntimeError:
        return AirflowRuntimeError(ErrorResponse(error=ErrorType.API_SERVER_ERROR, detail={"status_code": status}))

    open_still = HITLDetailResponse(response_received=False, chosen_options=None, responded_at=None)
    assert looked_up(monkeypatch, open_still) == {"answer": None, "asked": True}
    assert looked_up(monkeypatch, refused(404)) == {"answer": None, "asked": False}
    with pytest.raises(AirflowRuntimeError):  # the next try looks again
        looked_up(monkeypatch, refused(503))


@pytest.mark.parametrize(
    ("written", "asked_at", "counts"),
    [
        (True, "2026-05-01T12:00:09Z", True),
        (False, "2026-05-01T12:00:00Z", True),
        (False, "2026-05-01T12:00:09Z", False),
    ],
)
def test_an_answer_from_before_the_task_was_cleared_is_none_to_a_question_that_was_not_written_yet(
    written, asked_at, counts
):
    question = Question(3, asked_at, written=written)
    assert (question.answered_by({"answer": ANSWER, "asked": True}) == ANSWER) is counts
    assert question.answered_by({"answer": None, "asked": True}) is None
