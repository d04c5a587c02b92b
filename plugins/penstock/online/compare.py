"""Whether the online store holds what the lakehouse says, value by value."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import TYPE_CHECKING, Any

from penstock.clock import to_text
from penstock.errors import GateError, NothingToDo, ServiceError, TableError
from penstock.gates import Check, Outcome, Verdict
from penstock.online.codec import RowCodec
from penstock.online.offline import Offline, OnlineTable, online_table, online_tables, open_offline
from penstock.online.store import OnlineStore, Position, open_store
from penstock.spec.project import ColumnType
from penstock.workspace import Workspace

if TYPE_CHECKING:
    import pyarrow as pa

EXAMPLES = 10
_ATTEMPTS = 2


@dataclass
class _Keys:
    """How many keys, and the first `most` of them."""

    most: int
    count: int = 0
    examples: list[dict[str, Any]] = field(default_factory=list)

    def add(self, example: dict[str, Any]) -> None:
        self.count += 1
        if self.count <= self.most:
            self.examples.append(example)


def compare_online(
    workspace: Workspace, project: str, table: str, as_of: datetime, examples: int = EXAMPLES
) -> Verdict:
    """Compares what was published (the table's version, as of then) with the online store; fails where they differ.

    Checks: `missing` (keys that only the lakehouse has), `extra` (keys that only the store has), `values` (keys
    with other values), each with the number of keys and the first `examples` of them as evidence; `lag`, a warning
    where the table has moved on since. The store's side is held in memory by key.
    Where nothing is published, or what was cannot be told any more (the table was made anew, declared otherwise, or
    that version was vacuumed away), the table is compared as it is now, as of as_of (or as of the publication, should
    that be later).

    Raises ServiceError where other publications came in between, twice.
    """
    about = online_table(workspace, project, table)
    with open_store(workspace.environment, about.settings.store) as store:
        for _ in range(_ATTEMPTS):
            position = store.position(about.address)
            verdict = _compare(workspace, about, store, position, as_of, examples)
            if verdict.passed or store.position(about.address) == position:
                return verdict
    raise ServiceError(f"{about.address} was published while it was compared, {_ATTEMPTS} times: compare it again")


def check_online(workspace: Workspace, project: str, as_of: datetime) -> Verdict:
    """Compares each of a project's online tables that exists; checks are named `table.check`.

    Raises GateError where one differs, NothingToDo where there is none.
    """
    checks: list[Check] = []
    for table in online_tables(workspace, project):
        if workspace.addresses.find(f"{project}.{table}") is not None:
            found = compare_online(workspace, project, table, as_of).checks
            checks += [replace(c, name=f"{table}.{c.name}", detail=f"{table}: {c.detail}") for c in found]
    if not checks:
        raise NothingToDo(f"{project} has no tables online yet")
    verdict = Verdict("online_comparison", project, tuple(checks))
    if not verdict.passed:
        raise GateError(
            f"{project}: the online store and the lakehouse differ: {verdict.reason}. "
            f"`penstock online publish {project}.TABLE --full` writes a table anew"
        )
    return verdict


def _compare(
    workspace: Workspace, about: OnlineTable, store: OnlineStore, position: Position | None, as_of: datetime, most: int
) -> Verdict:  # fmt: skip
    moment = max(as_of, datetime.fromisoformat(position.as_of)) if position else as_of
    with open_offline(workspace, about) as now:
        newest = now.version
        published = position if position is not None and position.is_of(now.position(moment)) else None
        if published is None or published.version == newest:
            then = datetime.fromisoformat(published.as_of) if published else moment
            found, compared = _differences(about, now, store, position, then, most), newest
        else:
            found, compared = _differences_then(workspace, about, now, store, published, moment, most)
    state = f"version {position.version} is online" if position else "nothing is online"
    seen = "" if position is None or compared == position.version else f", compared with {compared}"
    place = f"{state}, the table is at {newest}{seen}"
    checks = [_check(name, keys, place) for name, keys in found.items()]
    return Verdict("online_comparison", about.address, (*checks, _lag(position, newest, as_of)))


def _differences_then(
    workspace: Workspace, about: OnlineTable, now: Offline, store: OnlineStore, published: Position, moment: datetime,
    most: int,
) -> tuple[dict[str, _Keys], int]:  # fmt: skip
    """The differences from the version that was published, or from the newest where it cannot be read; and which."""
    import duckdb
    from deltalake.exceptions import DeltaError

    try:
        with open_offline(workspace, about, published.version) as then:
            as_of = datetime.fromisoformat(published.as_of)
            return _differences(about, then, store, published, as_of, most), published.version
    except (DeltaError, OSError, duckdb.Error):
        return _differences(about, now, store, published, moment, most), now.version


def _lag(position: Position | None, newest: int, as_of: datetime) -> Check:
    """How far the publication is behind the table; no difference, but what the next one brings."""
    if position is None:
        return Check("lag", Outcome.PASS, "lag: nothing is online yet")
    behind = newest - position.version
    evidence = {"published": position.version, "newest": newest, "published_as_of": position.as_of}
    if behind <= 0:
        return Check("lag", Outcome.PASS, f"lag: none (as of {position.as_of}, asked as of {to_text(as_of)})", evidence)
    return Check("lag", Outcome.WARN, f"version {newest} is not online yet, {position.version} is", evidence)


def _differences(
    about: OnlineTable, offline: Offline, store: OnlineStore, position: Position | None, as_of: datetime, most: int
) -> dict[str, _Keys]:
    missing, extra, values = _Keys(most), _Keys(most), _Keys(most)
    columns = {name: ColumnType(kind) for name, kind in (position.columns if position else ())}
    stored = RowCodec(about.address, columns, list(about.primary_keys))
    online = dict(store.scan(about.address))
    same_columns = position is not None and position.columns == tuple(about.columns.items())
    for key, row in _rows(about, offline.newest(as_of)):
        other = online.pop(key, None)
        if other is None:
            missing.add(_shown(about.codec.decode_key(key)))
        elif other != row or not same_columns:
            differing = _differing(about.codec.decode(row), stored, other)
            if differing:
                values.add({**_shown(about.codec.decode_key(key)), "columns": differing})
    for key in online:
        extra.add(_shown(about.codec.decode_key(key)))
    return {"missing": missing, "extra": extra, "values": values}


def _rows(about: OnlineTable, batches: "Iterable[pa.RecordBatch]") -> Iterator[tuple[bytes, bytes]]:
    for batch in batches:
        yield from zip(*about.codec.encode(batch), strict=True)


def _differing(expected: dict[str, Any], codec: RowCodec, row: bytes) -> dict[str, str]:
    """The columns whose values (or types) differ, as text."""
    try:
        found = codec.decode(row)
    except TableError:
        return {"(row)": "cannot be read"}
    names = [*expected, *(name for name in found if name not in expected)]
    texts = {name: (repr(expected.get(name, "(none)")), repr(found.get(name, "(none)"))) for name in names}
    return {
        name: f"offline {offline}, online {online}" for name, (offline, online) in texts.items() if offline != online
    }


def _check(name: str, keys: _Keys, place: str) -> Check:
    if not keys.count:
        return Check(name, Outcome.PASS, f"{name}: none ({place})")
    means = {
        "missing": "keys are not online", "extra": "keys are online only", "values": "keys have other values online",
    }[name]  # fmt: skip
    detail = f"{keys.count:,} {means} ({place}), such as {keys.examples[:3]}"
    return Check(name, Outcome.FAIL, detail, {"keys": keys.count, "examples": keys.examples})


def _shown(key: dict[str, Any]) -> dict[str, Any]:
    """A key as JSON values."""
    return {name: value if isinstance(value, bool | int | str) else str(value) for name, value in key.items()}
