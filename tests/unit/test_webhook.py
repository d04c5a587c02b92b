"""What the receiver of MLflow's webhooks refuses, before anything of Airflow is touched."""

import json
import os
import tempfile
import time
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

os.environ.setdefault("AIRFLOW_HOME", tempfile.mkdtemp(prefix="airflow"))

import httpx
import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from mlflow.webhooks.delivery import _generate_hmac_signature

from penstock.home import WebhookCredentials
from penstock.registry.deliveries import (
    DELIVERY_ID,
    MOST_BYTES,
    OLDEST_SECONDS,
    SIGNATURE,
    TIMESTAMP,
    DeliveryRefused,
    check_delivery,
    read_event,
    sign,
)
from penstock.ui.webhook import app

SECRET = "the secret of this test"
EVENT = {"entity": "model_version", "action": "created", "timestamp": "2020-05-01T00:00:00+00:00",
         "data": {"name": "another-tools-model", "version": "1", "source": "s", "run_id": None, "tags": {},
                  "description": None}}  # fmt: skip


def headers(body: bytes, secret: str = SECRET, age: float = 0, delivery_id: str = "") -> dict[str, str]:
    delivery_id = delivery_id or str(uuid.uuid4())
    timestamp = str(int(time.time() - age))
    return {
        "Content-Type": "application/json", DELIVERY_ID: delivery_id, TIMESTAMP: timestamp,
        SIGNATURE: sign(secret, delivery_id, timestamp, body),
    }  # fmt: skip


@pytest.fixture
def receiver(monkeypatch: pytest.MonkeyPatch) -> Iterator[TestClient]:
    """The receiver as Airflow mounts it."""
    monkeypatch.setenv("PENSTOCK_WEBHOOK_SECRET", SECRET)
    airflow = FastAPI()
    airflow.mount("/penstock-webhooks", app)
    with TestClient(airflow, base_url="http://airflow") as client:
        yield client


def post(receiver: TestClient, body: bytes, sent: dict[str, str]) -> httpx.Response:
    return receiver.post("/penstock-webhooks/mlflow", content=body, headers=sent)


def test_the_signature_is_mlflows_own() -> None:
    body = json.dumps({"name": "Müller"}, ensure_ascii=False)
    assert sign("s", "id", "1700000000", body.encode()) == _generate_hmac_signature("s", "id", "1700000000", body)


def test_a_model_of_another_tool_is_passed_over(receiver: TestClient) -> None:
    body = json.dumps(EVENT).encode()
    answer = post(receiver, body, headers(body))
    assert (answer.status_code, answer.json()["outcome"]) == (202, "ignored")


def test_a_repeat_gets_the_same_answer(receiver: TestClient) -> None:
    body = json.dumps(EVENT).encode()
    first = post(receiver, body, sent := headers(body, delivery_id="d-repeated"))
    again = post(receiver, body, sent)
    assert again.json() == {**first.json(), "repeated": True}


@pytest.mark.parametrize("name", [SIGNATURE, TIMESTAMP, DELIVERY_ID])
def test_without_one_of_its_headers_nothing_is_read(receiver: TestClient, name: str) -> None:
    body = json.dumps(EVENT).encode()
    sent = headers(body)
    del sent[name]
    answer = post(receiver, body, sent)
    assert answer.status_code == 401
    assert name in answer.json()["detail"]


@pytest.mark.parametrize(
    "change",
    [
        lambda body, sent: (body, headers(body, secret="another secret")),
        lambda body, sent: (body.replace(b"another", b"altered"), sent),
        lambda body, sent: (body, {**sent, DELIVERY_ID: "d-2"}),
        lambda body, sent: (body, {**sent, TIMESTAMP: str(int(sent[TIMESTAMP]) + 1)}),
        lambda body, sent: (body, {**sent, SIGNATURE: "v1,"}),
        lambda body, sent: (body, {**sent, SIGNATURE: sent[SIGNATURE].replace("v1,", "v2,")}),
        lambda body, sent: (body, {**sent, TIMESTAMP: "now"}),
        lambda body, sent: (body, {**sent, SIGNATURE: "v1," + "A" * 10_000}),
    ],
    ids=["secret", "body", "id", "timestamp", "empty", "scheme", "no number", "long"],
)
def test_what_was_not_signed_as_it_stands_is_refused(receiver: TestClient, change) -> None:
    body = json.dumps(EVENT).encode()
    assert post(receiver, *change(body, headers(body))).status_code == 401


@pytest.mark.parametrize("age", [OLDEST_SECONDS + 5, -OLDEST_SECONDS - 5])
def test_what_was_signed_long_ago_or_ahead_is_refused(receiver: TestClient, age: float) -> None:
    body = json.dumps(EVENT).encode()
    answer = post(receiver, body, headers(body, age=age))
    assert answer.status_code == 401
    assert "limit" in answer.json()["detail"]


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", ""])
def test_another_content_type_is_refused(receiver: TestClient, kind: str) -> None:
    body = json.dumps(EVENT).encode()
    assert post(receiver, body, {**headers(body), "Content-Type": kind}).status_code == 415


def test_a_body_that_is_too_long_is_refused_while_it_comes(receiver: TestClient) -> None:
    body = b"x" * (MOST_BYTES + 1)
    assert post(receiver, body, headers(body)).status_code == 413

    pieces = (b"x" * (MOST_BYTES // 8) for _ in range(64))  # chunked: no Content-Length tells how much is to come
    answer = receiver.post("/penstock-webhooks/mlflow", content=pieces, headers=headers(b""))
    assert answer.status_code == 413


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b"null", b"{}", b'"text"', b"\xff", b"[" * 50_000,
     json.dumps({**EVENT, "data": None}).encode(), json.dumps({**EVENT, "data": {"name": 1, "version": "1"}}).encode(),
     json.dumps({**EVENT, "data": {"name": "a.b", "version": "x"}}).encode(),
     json.dumps({**EVENT, "data": {"name": "a.b", "version": "-1"}}).encode(),
     json.dumps({**EVENT, "data": {"name": "a.b", "version": "1", "tags": ["t"]}}).encode()],
    ids=lambda content: str(content[:12]),
)  # fmt: skip
def test_what_is_signed_but_no_event_is_refused(receiver: TestClient, content: bytes) -> None:
    assert post(receiver, content, headers(content)).status_code == 400


def test_without_a_secret_nothing_is_taken_in(
    receiver: TestClient, monkeypatch: pytest.MonkeyPatch, tmp_path: os.PathLike[str]
) -> None:
    monkeypatch.delenv("PENSTOCK_WEBHOOK_SECRET")
    monkeypatch.setenv("PENSTOCK_HOME", str(tmp_path))
    body = json.dumps(EVENT).encode()
    answer = post(receiver, body, headers(body, secret=""))
    assert answer.status_code == 503
    assert "PENSTOCK_WEBHOOK_SECRET" in answer.json()["detail"]


def test_nothing_but_a_post_is_answered(receiver: TestClient) -> None:
    assert receiver.get("/penstock-webhooks/mlflow").status_code == 405
    assert receiver.post("/penstock-webhooks/").status_code == 404


def test_while_the_secret_is_replaced_both_count(receiver: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PENSTOCK_WEBHOOK_SECRET", f"new,{SECRET}")
    body = json.dumps(EVENT).encode()
    assert post(receiver, body, headers(body, delivery_id="d-old")).status_code == 202
    assert post(receiver, body, headers(body, secret="new", delivery_id="d-new")).status_code == 202
    assert post(receiver, body, headers(body, secret=f"new,{SECRET}", delivery_id="d-both")).status_code == 401


def test_the_local_stacks_former_secret_counts_for_some_minutes() -> None:
    replaced = datetime(2020, 5, 1, tzinfo=UTC)
    webhook = WebhookCredentials("http://localhost:8080/x", "new", "old", replaced.isoformat())
    assert webhook.accepted(replaced + timedelta(minutes=1)) == ("new", "old")
    assert webhook.accepted(replaced + timedelta(minutes=11)) == ("new",)
    assert "new" not in repr(webhook)


def test_an_event_tells_model_version_and_tags() -> None:
    body = json.dumps({**EVENT, "data": {"name": "shop.churn", "version": "7", "tags": {"a": "b"}}}).encode()
    sent = headers(body)
    event = read_event(check_delivery(sent, body, [SECRET]))
    assert (event.name, event.model, event.version, event.tags) == (
        "model_version.created", "shop.churn", 7, {"a": "b"},
    )  # fmt: skip
    assert event.is_of_a_project
    with pytest.raises(DeliveryRefused):
        check_delivery(sent, body, [])
