"""Whether the online store holds what the lakehouse says, value by value."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import TYPE_CHECKING, Any

from penstock.clock import parse_as_of
from penstock.errors import GateError, NothingToDo, TableError
from penstock.gates import Check, Outcome, Verdict
from penstock.online.codec import RowCodec
from penstock.online.offline import Offline, OnlineTable, online_table, online_tables, open_offline
from penstock.online.store import OnlineStore, Position, open_store
from penstock.spec.project import ColumnType
from penstock.workspace import Workspace

if TYPE_CHECKING:
    import pyarrow as pa

EXAMPLES = 10


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
    """Compares the newest row of every key offline with the online store; fails where they differ.

    Checks: `missing` (keys that only the lakehouse has), `extra` (keys that only the store has), `values` (keys
    with other values), each with the number of keys and the first `examples` of them as evidence. The store's side
    is held in memory by key. Where the table was published as of a later moment than as_of, that moment counts.
    """
    about = online_table(workspace, project, table)
    with open_store(workspace.environment, about.settings.store) as store, open_offline(workspace, about) as offline:
        position = store.position(about.address)
        as_of = max(as_of, parse_as_of(position.as_of)) if position else as_of
        found = _differences(about, offline, store, position, as_of, examples)
        version = offline.version
    state = f"version {position.version} is online" if position else "nothing is online"
    place = f"{state}, the table is at {version}"
    return Verdict("online_comparison", about.address, tuple(_check(name, keys, place) for name, keys in found.items()))


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
