"""Spark Connect sessions: one warm server, a session for each try of a task."""

import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from penstock.errors import ServiceError

if TYPE_CHECKING:
    from pyspark.sql.connect.dataframe import DataFrame
    from pyspark.sql.connect.session import SparkSession

_NAMESPACE = uuid.UUID("6f1f9d8e-0b53-4c3f-9a51-5e0f2f3c7a10")
_USER = "penstock"
# Some twenty seconds, after which the task's own retries take over; the client's default is ten minutes.
_RETRIES = 8
_LONGEST_WAIT_MS = 4_000
_CLOSED = ("SESSION_CLOSED", "SESSION_CHANGED")
_MOST_SESSIONS = 100
_OUTAGE = (
    "UNAVAILABLE",
    "INVALID_HANDLE",
    "RETRIES_EXCEEDED",
    "NO_ACTIVE_SESSION",
    "Connection refused",
    "Socket closed",
)


def read_version(spark: "SparkSession", path: str, version: int) -> "DataFrame":
    """A Delta table at a version."""
    return spark.read.format("delta").option("versionAsOf", version).load(path)


def session_id(task: str, try_number: int, ordinal: int = 0) -> str:
    """The id of a session of one try of a task: the same for everyone who asks. A try may have several, in turn."""
    return str(uuid.uuid5(_NAMESPACE, f"{task}#{try_number}" + (f".{ordinal}" if ordinal else "")))


@contextmanager
def connect(url: str, token: str | None, task: str, try_number: int = 1) -> Iterator["SparkSession"]:
    """The Spark Connect session of a task's try, stopped on leaving.

    Queries that earlier tries left running on the server are interrupted first.
    Raises ServiceError where the server does not answer or refuses the login.
    """
    for earlier in range(1, try_number):
        interrupt(url, token, task, earlier)
    session = _open_next(url, token, task, try_number)
    try:
        with spark_outages(url):
            yield session
    finally:
        _stop(session)


@contextmanager
def spark_outages(url: str) -> Iterator[None]:
    """Within, a Spark that goes away is a ServiceError; what else it says stays as it is."""
    try:
        yield
    except Exception as error:
        if _is_outage(error):
            raise ServiceError(
                f"Spark at {url} went away in the middle of the work: {_brief(error)}. Run this again once it is up "
                "(penstock status): nothing is half-written"
            ) from error
        raise


def interrupt(url: str, token: str | None, task: str, try_number: int) -> None:
    """Interrupts what the newest session of a try still runs on the server; earlier ones were closed."""
    from pyspark.errors import PySparkException

    session = _open_next(url, token, task, try_number)
    try:
        session.interruptAll()
    except PySparkException as error:
        if "SESSION_CLOSED" not in str(error):
            raise
    finally:
        _stop(session)


def _open_next(url: str, token: str | None, task: str, try_number: int) -> "SparkSession":
    """The first session of a try that was not closed yet: the server refuses the id of one that was."""
    for ordinal in range(_MOST_SESSIONS):
        try:
            return _open(url, token, session_id(task, try_number, ordinal))
        except ServiceError as error:
            if not any(word in str(error) for word in _CLOSED):
                raise
    raise ServiceError(f"{task}: one try opened {_MOST_SESSIONS} Spark sessions; keep one open instead")


def _open(url: str, token: str | None, identifier: str) -> "SparkSession":
    from pyspark.sql.connect.client import DefaultChannelBuilder
    from pyspark.sql.connect.client.retries import DefaultPolicy
    from pyspark.sql.connect.session import SparkSession

    address = f"{url.rstrip('/')}/;user_id={_USER};session_id={identifier}"
    if token:
        address += f";token={token}"
    try:
        session = SparkSession(connection=DefaultChannelBuilder(address))
        session.client.set_retry_policies([DefaultPolicy(max_retries=_RETRIES, max_backoff=_LONGEST_WAIT_MS)])
        session.conf.set("spark.sql.session.timeZone", "UTC")  # days are UTC days, whatever the server's zone
    except Exception as error:  # grpc, pyspark and socket errors have no common base
        raise ServiceError(
            f"Spark at {url} does not answer: {_brief(error)}. Is it running? (penstock status)"
        ) from error
    return session


def _stop(session: "SparkSession") -> None:
    import grpc
    from pyspark.errors import PySparkException

    try:
        session.stop()
    except (grpc.RpcError, PySparkException, OSError):
        time.sleep(0)  # the server is gone, and its sessions with it


def _is_outage(error: Exception) -> bool:
    """Whether the server, and not the query, is to blame."""
    import grpc
    from pyspark.errors import PySparkException

    return isinstance(error, grpc.RpcError | PySparkException) and any(word in str(error) for word in _OUTAGE)


def _brief(error: Exception) -> str:
    text = str(error).strip().splitlines()
    return (text[0] if text else type(error).__name__)[:300]
