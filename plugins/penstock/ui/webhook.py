"""The receiver of MLflow's webhooks: a FastAPI app of its own that Airflow mounts under /penstock-webhooks.

Airflow does not check who asks, and MLflow has no login here: the signature is the check. Nothing of a delivery is
acted upon, or parsed, before it holds.
"""

import asyncio
import logging
import os
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any, TypeVar

import anyio
from fastapi import FastAPI, HTTPException, Request
from fastapi.responses import JSONResponse

from penstock.clock import parse_as_of, to_text
from penstock.errors import ClockError, PenstockError, ServiceError
from penstock.home import LocalStackError, read_credentials
from penstock.registry.deliveries import (
    DELIVERY_ID,
    MOST_BYTES,
    VERSION_CREATED,
    AnsweredDeliveries,
    DeliveryRefused,
    Fault,
    RegistryEvent,
    check_delivery,
    check_headers,
    read_event,
)
from penstock.registry.stages import ALIASES, Stage
from penstock.ui.door import Knock, Outcome, knock
from penstock.ui.requests import end_older_requests

_Result = TypeVar("_Result")
SECRET_VARIABLE = "PENSTOCK_WEBHOOK_SECRET"
ASKED_BY = "MLflow webhook"
_READ_SECONDS = 10
_AT_ONCE = 4  # database work of deliveries never takes more of the API server's threads than this
_MOST_WAITING = 500
_STATUS = {Fault.NOT_GENUINE: 401, Fault.STALE: 401, Fault.UNREADABLE: 400}

log = logging.getLogger(__name__)
app = FastAPI(title="Penstock's webhooks", docs_url=None, redoc_url=None, openapi_url=None)
_answered = AnsweredDeliveries()
_limiter = anyio.CapacityLimiter(_AT_ONCE)


@app.post("/mlflow")
async def receive(request: Request) -> JSONResponse:
    """Takes a delivery in: 201 a promotion was started, 200 it is under way or an alias was noticed (requests that it
    makes needless end), 202 nothing to do, else an error.
    """
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        raise HTTPException(415, "a delivery is application/json")
    try:
        check_headers(request.headers)
        secrets = webhook_secrets()
        delivery = check_delivery(request.headers, await _read(request), secrets)
        if (known := _answered.find(delivery)) is not None:
            return JSONResponse({**known, "repeated": True}, status_code=200)
        status, answer = await _act(read_event(delivery))
    except DeliveryRefused as refused:
        log.warning(
            "webhook: refused a delivery (%s): %s; id %.60r from %s",
            refused.fault, refused, request.headers.get(DELIVERY_ID), request.client.host if request.client else "?",
        )  # fmt: skip
        raise HTTPException(_STATUS[refused.fault], str(refused)) from refused
    _answered.remember(delivery, answer)
    log.info("webhook: %s", answer)
    return JSONResponse(answer, status_code=status)


def webhook_secrets() -> Sequence[str]:
    """The secrets that a delivery may be signed with: the variable's, by comma, else the local stack's.

    Raises HTTPException where none is set: nothing is taken in unsigned.
    """
    given = [secret for secret in os.environ.get(SECRET_VARIABLE, "").split(",") if secret]
    if given:
        return given
    try:
        webhook = read_credentials().webhook
    except LocalStackError:
        webhook = None
    if webhook is None:
        log.error("webhook: no secret is set, so no delivery can be taken in: set %s", SECRET_VARIABLE)
        raise HTTPException(503, f"this Airflow has no webhook secret: set {SECRET_VARIABLE} on its API server")
    return webhook.accepted(datetime.now(UTC))


async def _read(request: Request) -> bytes:
    """The body; never more of it than is allowed. Raises HTTPException where it is too long or too slow."""
    too_long = HTTPException(413, f"a delivery has at most {MOST_BYTES} bytes")
    declared = request.headers.get("content-length", "")
    if declared.isdecimal() and int(declared) > MOST_BYTES:
        raise too_long
    body = bytearray()
    try:
        async with asyncio.timeout(_READ_SECONDS):
            async for piece in request.stream():
                body += piece
                if len(body) > MOST_BYTES:
                    raise too_long
    except TimeoutError as error:
        raise HTTPException(408, f"the delivery did not come within {_READ_SECONDS} s") from error
    return bytes(body)


async def _act(event: RegistryEvent) -> tuple[int, dict[str, Any]]:
    """Does what an event asks for. Raises HTTPException with 503 where MLflow shall try again."""
    if event.version is None or not event.is_of_a_project:
        return 202, {"outcome": "ignored", "detail": f"{event.name} of {event.model!r:.200} concerns no project here"}
    project, model = event.model.split(".")
    if event.name == VERSION_CREATED:
        return await _start(Knock(project, model, event.version, await _as_of(event), "registered in MLflow"))
    if event.alias != ALIASES[Stage.STAGING]:
        return 202, {"outcome": "ignored", "detail": f"the alias {event.alias!r:.60} tells of no new candidate"}
    ended = await _ask_airflow(end_older_requests, project, model, event.version)
    return 200, {"outcome": "noticed", "ended": ended}


async def _ask_airflow(function: Callable[..., _Result], *arguments: Any) -> _Result:
    """What a function that works on Airflow's database answers. Raises HTTPException with 503 where it cannot."""
    if _limiter.statistics().tasks_waiting >= _MOST_WAITING:
        raise HTTPException(503, "too many deliveries at once", headers={"Retry-After": "5"})
    try:
        return await anyio.to_thread.run_sync(function, *arguments, limiter=_limiter)
    except ServiceError as error:
        log.error("webhook: %s", error)
        raise HTTPException(503, str(error)) from error
    except Exception as error:  # MLflow tries again after a 503; what is lost anyhow, reconciliation finds
        log.exception("webhook: %s%r failed", function.__name__, arguments)
        raise HTTPException(503, "Airflow's database did not answer; try again") from error


async def _start(wanted: Knock) -> tuple[int, dict[str, Any]]:
    """Knocks at the one door."""
    outcome = await _ask_airflow(knock, wanted, ASKED_BY)
    if outcome is Outcome.NO_SUCH_MODEL:
        log.warning(
            "webhook: %s.%s is declared nowhere here; the overview says what to do", wanted.project, wanted.model
        )
        return 202, {"outcome": "ignored", "detail": f"there is no DAG {wanted.dag_id} here"}
    status = 201 if outcome is Outcome.STARTED else 200
    return status, {"outcome": str(outcome), "dag_id": wanted.dag_id, "run_id": wanted.run_id}


async def _as_of(event: RegistryEvent) -> str:
    """The as_of that the version was made at, else the clock's: the replay's, or now."""
    tagged = event.tags.get("penstock.as_of")
    if tagged:
        try:
            return to_text(parse_as_of(tagged))
        except ClockError as error:
            log.warning("webhook: %s version %s: %s; the clock's is taken", event.model, event.version, error)
    return to_text(await anyio.to_thread.run_sync(_clock, limiter=_limiter))


def _clock() -> datetime:
    from penstock.workspace import Workspace

    try:
        return Workspace.open().moment()
    except PenstockError as error:
        log.warning("webhook: the environment's clock cannot be read (%s); the wall clock is taken", error)
        return datetime.now(UTC)
