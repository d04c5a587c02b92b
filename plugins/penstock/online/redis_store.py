"""The online store that several machines share: one hash of rows for each feature table in a Redis server."""

import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Self
from urllib.parse import urlsplit

from redis import Redis
from redis.backoff import ExponentialBackoff
from redis.exceptions import RedisError, WatchError
from redis.retry import Retry

from penstock.errors import ServiceError, SpecError
from penstock.online.store import Batch, Found, Overtaken, Position

_RETRIES = 5  # some four seconds, after which a task's own retries take over
_TIMEOUT_SECONDS = 30
_CHUNK = 5_000
_STAGED_SECONDS = 86_400


class RedisStore:
    """Keys are `penstock:{<environment>.<table>}:rows` and `:position`; what a killed publication staged expires."""

    def __init__(self, url: str, environment: str) -> None:
        self._prefix = environment
        try:
            parts = urlsplit(url)
            self._place = f"{parts.scheme}://{parts.hostname}:{parts.port or 6379}{parts.path}"
            self._redis = Redis.from_url(
                url, retry=Retry(ExponentialBackoff(cap=2.0, base=0.1), _RETRIES),
                socket_connect_timeout=5, socket_timeout=_TIMEOUT_SECONDS,
            )  # fmt: skip
        except ValueError as error:
            raise SpecError(
                f"the url of a redis store of the environment {environment} is none: write "
                "redis://[:password@]host:port/database"
            ) from error

    def write(self, table: str, batch: Batch) -> None:
        """Publishes a batch in one MULTI; a whole table is staged beside the old one first. Raises Overtaken."""
        rows, position = self._key(table, "rows"), self._key(table, "position")
        staged = self._key(table, f"staged:{uuid.uuid4()}")
        with self._answers():
            filled = self._stage(staged, batch) if batch.replace else False
            with self._redis.pipeline(transaction=True) as pipe:
                pipe.watch(position)
                if Position.from_json(pipe.get(position)) != batch.planned:  # type: ignore[arg-type]
                    self._redis.unlink(staged)
                    raise _overtaken(table)
                pipe.multi()
                if batch.replace:
                    pipe.unlink(rows)
                    if filled:
                        pipe.rename(staged, rows)
                        pipe.persist(rows)
                else:
                    _change(pipe, rows, batch)
                pipe.set(position, batch.position.to_json())
                try:
                    pipe.execute()
                except WatchError as error:
                    raise _overtaken(table) from error

    def _stage(self, staged: str, batch: Batch) -> bool:
        """Writes a batch's rows under a key of their own, which expires. Answers whether there are any."""
        filled = False
        for keys, rows in batch.rows:
            with self._redis.pipeline(transaction=False) as pipe:
                _put(pipe, staged, keys, rows)
                pipe.expire(staged, _STAGED_SECONDS)
                pipe.execute()
            filled = filled or bool(keys)
        return filled

    def read(self, table: str, keys: Sequence[bytes]) -> list[bytes | None]:
        """The row of each key, in their order; None for a key without one."""
        return self.read_many([(table, keys)])[0][1]

    def read_many(self, requests: Sequence[tuple[str, Sequence[bytes]]]) -> list[Found]:
        """For each (table, keys), the table's position and the rows, of one moment, in one round trip."""
        with self._answers(), self._redis.pipeline(transaction=True) as pipe:
            for table, keys in requests:
                pipe.get(self._key(table, "position"))
                if keys:
                    pipe.hmget(self._key(table, "rows"), keys)
            answers = iter(pipe.execute())
        return [(Position.from_json(next(answers)), next(answers) if keys else []) for _, keys in requests]

    def scan(self, table: str) -> Iterator[tuple[bytes, bytes]]:
        """Every key and row of a table; what is published meanwhile may be missing or come twice."""
        with self._answers():
            yield from self._redis.hscan_iter(self._key(table, "rows"), count=_CHUNK)

    def position(self, table: str) -> Position | None:
        """What of a table is published; None where nothing is."""
        with self._answers():
            return Position.from_json(self._redis.get(self._key(table, "position")))  # type: ignore[arg-type]

    def remove(self, table: str) -> None:
        """Forgets a table."""
        with self._answers():
            self._redis.unlink(self._key(table, "rows"), self._key(table, "position"))

    def close(self) -> None:
        """Closes the connections."""
        self._redis.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _key(self, table: str, what: str) -> str:
        return f"penstock:{{{self._prefix}.{table}}}:{what}"

    @contextmanager
    def _answers(self) -> Iterator[None]:
        try:
            yield
        except RedisError as error:
            raise ServiceError(
                f"the online store {self._place} does not answer: {error}. What is published there stays as it was; "
                "run this again once the server is up and its url, password and memory are right"
            ) from error


def _change(pipe: Any, rows: str, batch: Batch) -> None:
    removed = list(batch.removed)
    for start in range(0, len(removed), _CHUNK):
        pipe.hdel(rows, *removed[start : start + _CHUNK])
    for keys, values in batch.rows:
        _put(pipe, rows, keys, values)


def _put(pipe: Any, name: str, keys: list[bytes], rows: list[bytes]) -> None:
    for start in range(0, len(keys), _CHUNK):
        part = slice(start, start + _CHUNK)
        flat = [item for pair in zip(keys[part], rows[part], strict=True) for item in pair]
        pipe.execute_command("HSET", name, *flat)


def _overtaken(table: str) -> Overtaken:
    return Overtaken(f"{table}: another publication was faster; run this again, it goes on from there")
