"""Sends deliveries as MLflow does, genuine and bad ones, to an Airflow on this machine: a bounded number of them."""

import json
import random
import time
import uuid
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from urllib.parse import urlsplit

import httpx

from penstock.registry.deliveries import DELIVERY_ID, OLDEST_SECONDS, SIGNATURE, TIMESTAMP, sign

MOST = 2000


@dataclass(frozen=True)
class Parcel:
    """A delivery to send, and what it is: fresh, repeated, forged or stale."""

    kind: str
    version: int
    headers: dict[str, str]
    body: bytes


@dataclass(frozen=True)
class Receipt:
    """What was answered, and how long that took."""

    parcel: Parcel
    status: int
    seconds: float
    ended: float


def parcel(model: str, version: int, secret: str, kind: str = "fresh", tags: dict[str, str] | None = None) -> Parcel:
    """One delivery of `model_version.created`, signed now; a stale one was signed long ago, a forged one by another."""
    data = {"name": model, "version": str(version), "source": "models:/m-1", "run_id": None, "tags": tags or {},
            "description": None}  # fmt: skip
    body = json.dumps({"entity": "model_version", "action": "created", "data": data}).encode()
    signed_at = int(time.time()) - (OLDEST_SECONDS + 60 if kind == "stale" else 0)
    return _signed(kind, version, body, "somebody else's secret" if kind == "forged" else secret, signed_at)


def _signed(kind: str, version: int, body: bytes, secret: str, signed_at: int) -> Parcel:
    delivery_id, timestamp = str(uuid.uuid4()), str(signed_at)
    return Parcel(
        kind, version,
        {"Content-Type": "application/json", DELIVERY_ID: delivery_id, TIMESTAMP: timestamp,
         SIGNATURE: sign(secret, delivery_id, timestamp, body)},
        body,
    )  # fmt: skip


def alias_moved(model: str, alias: str, version: int, secret: str) -> Parcel:
    """One delivery of `model_version_alias.created`, signed now."""
    data = {"name": model, "alias": alias, "version": str(version)}
    body = json.dumps({"entity": "model_version_alias", "action": "created", "data": data}).encode()
    return _signed("fresh", version, body, secret, int(time.time()))


def mixture(model: str, secret: str, count: int, seed: int = 5) -> list[Parcel]:
    """`count` deliveries: nine in ten fresh, each of a version of its own; the others repeated, forged or stale.

    Forged and stale ones name versions that no fresh one names.
    """
    chance = random.Random(seed)
    bad = count // 10
    found = [parcel(model, version, secret) for version in range(1, count - bad + 1)]
    for number in range(bad):
        kind = ("repeated", "forged", "stale")[number % 3]
        if kind == "repeated":
            first = chance.choice(found[: count - bad])
            found.append(Parcel("repeated", first.version, first.headers, first.body))
        else:
            found.append(parcel(model, 1_000_000 + number, secret, kind))
    chance.shuffle(found)
    return found


def send(url: str, parcels: Sequence[Parcel], each_second: float, workers: int = 60) -> list[Receipt]:
    """Sends them evenly, as many a second as asked for, by so many threads that a slow answer holds no other back."""
    assert urlsplit(url).hostname in ("localhost", "127.0.0.1")
    assert len(parcels) <= MOST
    begin = time.monotonic()
    with httpx.Client(timeout=60, limits=httpx.Limits(max_connections=workers)) as client:

        def post(number: int, parcel: Parcel) -> Receipt:
            time.sleep(max(0.0, begin + number / each_second - time.monotonic()))
            sent = time.monotonic()
            answer = client.post(url, content=parcel.body, headers=parcel.headers)
            ended = time.monotonic()
            return Receipt(parcel, answer.status_code, ended - sent, ended - begin)

        with ThreadPoolExecutor(workers) as pool:
            return list(pool.map(post, range(len(parcels)), parcels))


def summary(receipts: Sequence[Receipt]) -> str:
    """How many a second were sent and answered, and how long an answer took."""
    took = sorted(found.seconds for found in receipts)
    total, sent = max(found.ended for found in receipts), max(found.ended - found.seconds for found in receipts)
    middle, late = took[len(took) // 2], took[int(len(took) * 0.99)]
    return (
        f"{len(took)} deliveries sent in {sent:.1f} s ({len(took) / sent:.0f}/s), all answered after {total:.1f} s; "
        f"an answer took {middle * 1000:.0f} ms (median), {late * 1000:.0f} ms (99 %)"
    )
