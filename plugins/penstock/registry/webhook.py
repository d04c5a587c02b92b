"""The webhook in MLflow that tells Airflow of new versions: made, or brought up to date, by MLflow's REST API."""

import hashlib
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

import httpx

from penstock.errors import ServiceError

_PATH = "/api/2.0/mlflow/webhooks"
_TIMEOUT_SECONDS = 10
_EVENTS = (("MODEL_VERSION", "CREATED"), ("MODEL_VERSION_ALIAS", "CREATED"))


class Change(StrEnum):
    """What had to be done."""

    CREATED = "created"
    UPDATED = "updated"
    UNCHANGED = "unchanged"


@dataclass(frozen=True)
class Mlflow:
    """An MLflow server, and the login of an administrator of it: nobody else may see or set webhooks."""

    url: str
    username: str | None = None
    password: str | None = field(default=None, repr=False)


@dataclass(frozen=True)
class WebhookTest:
    """What the receiver answered to MLflow's example."""

    delivered: bool
    detail: str


def webhook_name(environment: str) -> str:
    """The webhook's name in MLflow; one for each environment, should several share a registry."""
    return f"penstock-{environment}"


def ensure_webhook(mlflow: Mlflow, name: str, url: str, secret: str) -> Change:
    """Sees to it that MLflow tells `url` of new versions, signed with `secret`.

    MLflow never gives a secret out, so its description names a digest of it: what has not changed is left alone.
    Raises ServiceError where MLflow does not answer, or refuses.
    """
    wanted = {
        "name": name,
        "url": url,
        "description": f"Starts Penstock's promotions. Secret {_fingerprint(secret)}",
        "events": [{"entity": entity, "action": action} for entity, action in _EVENTS],
    }
    with _client(mlflow) as client:
        known = _find(client, mlflow, name)
        if known is None:
            _call(client, mlflow, "POST", _PATH, json={**wanted, "secret": secret, "status": "ACTIVE"})
            return Change.CREATED
        if known.get("status") == "ACTIVE" and all(_same(known.get(key), value) for key, value in wanted.items()):
            return Change.UNCHANGED
        changed = {**wanted, "secret": secret, "status": "ACTIVE"}
        _call(client, mlflow, "PATCH", f"{_PATH}/{known['webhook_id']}", json=changed)
        return Change.UPDATED


def test_webhook(mlflow: Mlflow, name: str) -> WebhookTest:
    """Lets MLflow send its example. Raises ServiceError where there is no such webhook."""
    with _client(mlflow) as client:
        known = _find(client, mlflow, name)
        if known is None:
            raise ServiceError(f"MLflow at {mlflow.url} has no webhook {name}: make it with `penstock webhook set`")
        answer = _call(
            client, mlflow, "POST", f"{_PATH}/{known['webhook_id']}/test",
            json={"event": {"entity": _EVENTS[0][0], "action": _EVENTS[0][1]}}, timeout=60,
        )["result"]  # fmt: skip
    said = answer.get("response_body") or answer.get("error_message") or ""
    return WebhookTest(bool(answer.get("success")), f"{answer.get('response_status', '')} {said}".strip())


def _find(client: httpx.Client, mlflow: Mlflow, name: str) -> dict[str, Any] | None:
    asked: dict[str, Any] = {"max_results": 100}
    while True:
        page = _call(client, mlflow, "GET", _PATH, params=asked)
        found: dict[str, Any] | None = next((item for item in page.get("webhooks", []) if item["name"] == name), None)
        if found is not None or not page.get("next_page_token"):
            return found
        asked["page_token"] = page["next_page_token"]


def _call(client: httpx.Client, mlflow: Mlflow, method: str, path: str, **options: Any) -> dict[str, Any]:
    try:
        answer = client.request(method, path, **options)
    except httpx.HTTPError as error:
        raise ServiceError(
            f"MLflow at {mlflow.url} does not answer about webhooks ({type(error).__name__}): is it up?"
        ) from error
    if answer.status_code in (httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN):
        raise ServiceError(
            f"MLflow at {mlflow.url} lets administrators alone see webhooks, and "
            f"{mlflow.username or 'nobody'} is none: give one's login as MLFLOW_TRACKING_USERNAME and …_PASSWORD"
        )
    if answer.is_error:
        raise ServiceError(f"MLflow at {mlflow.url} refused {method} {path}: {answer.status_code} {answer.text[:300]}")
    body: dict[str, Any] = answer.json()
    return body


def _client(mlflow: Mlflow) -> httpx.Client:
    login = (mlflow.username, mlflow.password or "") if mlflow.username else None
    return httpx.Client(base_url=mlflow.url, auth=login, timeout=_TIMEOUT_SECONDS, trust_env=False)


def _same(known: Any, wanted: Any) -> bool:
    if isinstance(wanted, list):
        return sorted(map(str, known or [])) == sorted(map(str, wanted))
    return bool(known == wanted)


def _fingerprint(secret: str) -> str:
    """Tells secrets apart; of a random secret of this length it gives nothing away."""
    return hashlib.sha256(f"penstock webhook {secret}".encode()).hexdigest()[:12]
