"""What an online store is: rows by table and key, and for each table the position that they were published up to.

A store moves bytes; `penstock.online.codec` gives them types. Readers see a table before a batch or after it,
never between.
"""

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import Protocol, Self

from penstock.errors import ServiceError, SpecError
from penstock.home import state_dir
from penstock.spec.environment import Environment, OnlineStoreKind

Encoded = tuple[list[bytes], list[bytes]]


class Overtaken(ServiceError):
    """Somebody else published a table between planning and writing; plan again."""


@dataclass(frozen=True)
class Position:
    """What of a table is online: `table_id`@`version`, as of when, and with which columns its rows were written."""

    table_id: str
    version: int
    as_of: str
    definition: str
    columns: tuple[tuple[str, str], ...]

    def to_json(self) -> str:
        """The text that is stored."""
        return json.dumps(asdict(self), sort_keys=True)

    def is_of(self, other: "Position") -> bool:
        """Whether it is of the same table under the same declaration, at this version or an earlier one."""
        same = (self.table_id, self.definition, self.columns) == (other.table_id, other.definition, other.columns)
        return same and self.version <= other.version

    @classmethod
    @lru_cache(maxsize=512)
    def from_json(cls, text: str | bytes | None) -> "Position | None":
        """The reverse of `to_json`; None where nothing is stored."""
        if text is None:
            return None
        fields = json.loads(text)
        return cls(**{**fields, "columns": tuple((name, kind) for name, kind in fields["columns"])})


@dataclass(frozen=True)
class Batch:
    """A publication of a table: rows to put by key, keys to remove, and the position that this leads to.

    `planned` is the position that the batch was computed from: a store that holds another one by now refuses it.
    With `replace` the rows are the whole table.
    """

    position: Position
    planned: Position | None
    rows: Iterable[Encoded]
    removed: Iterable[bytes] = ()
    replace: bool = False


Found = tuple[Position | None, list[bytes | None]]


class OnlineStore(Protocol):
    """Rows by table and key. Every method raises ServiceError where the store does not answer."""

    def write(self, table: str, batch: Batch) -> None:
        """Publishes a batch together with its position, all or nothing. Raises Overtaken."""

    def read(self, table: str, keys: Sequence[bytes]) -> list[bytes | None]:
        """The row of each key, in their order; None for a key without one."""

    def read_many(self, requests: Sequence[tuple[str, Sequence[bytes]]]) -> list[Found]:
        """For each (table, keys), the table's position and the rows, of one moment, in one call."""

    def scan(self, table: str) -> Iterator[tuple[bytes, bytes]]:
        """Every key and row of a table."""

    def position(self, table: str) -> Position | None:
        """What of a table is published; None where nothing is."""

    def remove(self, table: str) -> None:
        """Forgets a table."""

    def close(self) -> None:
        """Lets go of files and connections."""

    def __enter__(self) -> Self: ...

    def __exit__(self, *_: object) -> None: ...


def open_store(environment: Environment, name: str) -> OnlineStore:
    """The environment's online store of this name.

    Raises SpecError where the environment declares none, ServiceError where a file cannot be opened.
    """
    spec = environment.online_store(name)
    if spec is None:
        known = ", ".join(["default", *environment.online_stores])
        raise SpecError(
            f"the environment {environment.name} has no online store {name!r} (it has: {known}): "
            f"declare it under online_stores in include/environments/{environment.name}.yaml"
        )
    if spec.kind is OnlineStoreKind.REDIS:
        from penstock.online.redis_store import RedisStore

        assert spec.url is not None
        return RedisStore(spec.url.get_secret_value(), environment.name)
    from penstock.online.sqlite_store import SqliteStore

    return SqliteStore(spec.path or state_dir(environment.name) / "online.sqlite")
