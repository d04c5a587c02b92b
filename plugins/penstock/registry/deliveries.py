"""Deliveries of MLflow's webhooks: whether one is what it says it is, and what it tells.

MLflow signs a delivery with the secret that it shares with the receiver: HMAC-SHA256 over
`<delivery id>.<timestamp>.<body>`, in the way of Standard Webhooks (https://www.standardwebhooks.com).
"""

import base64
import hashlib
import hmac
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from cachetools import TTLCache

from penstock.errors import PenstockError
from penstock.registry.declared import split_name

SIGNATURE, TIMESTAMP, DELIVERY_ID = "X-MLflow-Signature", "X-MLflow-Timestamp", "X-MLflow-Delivery-Id"
VERSION_CREATED, ALIAS_MOVED = "model_version.created", "model_version_alias.created"
OLDEST_SECONDS = 300  # MLflow's three tries take some ten seconds; clocks may differ by minutes
MOST_BYTES = 1 << 20  # tags and description of a version take a few thousand
_MOST_REMEMBERED = 100_000
_LONGEST_HEADER = 200


class Fault(StrEnum):
    """Why a delivery is refused."""

    NOT_GENUINE = "not genuine"
    STALE = "stale"
    UNREADABLE = "unreadable"


class DeliveryRefused(PenstockError):
    """A delivery that is not acted upon."""

    def __init__(self, fault: Fault, text: str) -> None:
        super().__init__(text)
        self.fault = fault


@dataclass(frozen=True)
class Delivery:
    """A genuine delivery, not yet read."""

    delivery_id: str
    body: bytes


@dataclass(frozen=True)
class RegistryEvent:
    """What happened in the registry: a version was made (with its tags), or an alias was put on it."""

    name: str
    model: str
    version: int | None = None
    tags: dict[str, str] = field(default_factory=dict)
    alias: str = ""

    @property
    def is_of_a_project(self) -> bool:
        """Whether the model's name is `<project>.<model>`: others belong to other users of the registry."""
        return split_name(self.model) is not None


def sign(secret: str, delivery_id: str, timestamp: str, body: bytes) -> str:
    """The signature that MLflow puts on a delivery: `v1,<base64>`."""
    signed = b".".join([delivery_id.encode(), timestamp.encode(), body])
    digest = hmac.new(secret.encode(), signed, hashlib.sha256).digest()
    return f"v1,{base64.b64encode(digest).decode()}"


def check_headers(headers: Mapping[str, str]) -> None:
    """Raises DeliveryRefused where a delivery cannot be genuine, before its body is read."""
    for name in (SIGNATURE, TIMESTAMP, DELIVERY_ID):
        value = headers.get(name, "")
        if not value or len(value) > _LONGEST_HEADER or not value.isascii():
            raise DeliveryRefused(Fault.NOT_GENUINE, f"the header {name} is missing or malformed")
    if not headers[TIMESTAMP].isdecimal():
        raise DeliveryRefused(Fault.NOT_GENUINE, f"{TIMESTAMP} is no number of seconds since 1970")


def check_delivery(
    headers: Mapping[str, str], body: bytes, secrets: Sequence[str], now: float | None = None
) -> Delivery:
    """The delivery, if one of the secrets signed it, not long ago.

    :param now: seconds since 1970; the wall clock by default.

    Raises DeliveryRefused.
    """
    check_headers(headers)
    delivery_id, timestamp = headers[DELIVERY_ID], headers[TIMESTAMP]
    given = headers[SIGNATURE].encode()
    # every secret is tried, in constant time: how long it takes tells nothing
    matches = [hmac.compare_digest(given, sign(secret, delivery_id, timestamp, body).encode()) for secret in secrets]
    if not any(matches):
        raise DeliveryRefused(Fault.NOT_GENUINE, "the signature does not match: sender and receiver differ in secret")
    age = (time.time() if now is None else now) - int(timestamp)
    if abs(age) > OLDEST_SECONDS:
        raise DeliveryRefused(
            Fault.STALE, f"signed {age:.0f} s ago, and {OLDEST_SECONDS} s is the limit: are both clocks right?"
        )
    return Delivery(delivery_id, body)


def read_event(delivery: Delivery) -> RegistryEvent:
    """What a delivery tells. Raises DeliveryRefused where it is no event of MLflow's."""
    try:
        content = json.loads(delivery.body)
        data = content["data"]
        name = f"{content['entity']}.{content['action']}"
        model = data.get("name", "")
        version = int(data["version"]) if name in (VERSION_CREATED, ALIAS_MOVED) else None
        tags = data.get("tags") or {}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise DeliveryRefused(Fault.UNREADABLE, f"no event of MLflow's: {type(error).__name__}") from error
    if not isinstance(model, str) or not isinstance(tags, dict) or (version is not None and version < 1):
        raise DeliveryRefused(Fault.UNREADABLE, "no event of MLflow's: name, version or tags are not what they should")
    labels = {str(key): str(value) for key, value in tags.items()}
    return RegistryEvent(name, model, version, labels, str(data.get("alias") or ""))


class AnsweredDeliveries:
    """The deliveries that were answered, for as long as they would not be refused for their age.

    What a delivery starts is started once in any case; a repeat that is known is spared the way there. One that
    failed is not remembered: MLflow tries it again under the same id.
    """

    def __init__(self) -> None:
        self._answers: TTLCache[str, Any] = TTLCache(_MOST_REMEMBERED, 2 * OLDEST_SECONDS)

    def find(self, delivery: Delivery) -> Any | None:
        """What was answered before; None for a new delivery."""
        return self._answers.get(delivery.delivery_id)

    def remember(self, delivery: Delivery, answer: Any) -> None:
        """Keeps the answer."""
        self._answers[delivery.delivery_id] = answer
