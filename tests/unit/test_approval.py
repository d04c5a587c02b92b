"""Who may approve, and what people are told."""

import json
import logging
import os
import tempfile
from pathlib import Path

import pytest

os.environ.setdefault("AIRFLOW_HOME", tempfile.mkdtemp(prefix="airflow"))

from penstock.notifiers.notice import Notice, notify
from penstock.operators.approval import assigned_users
from penstock.spec.environment import Approval, Environment, NotificationEvent

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
