"""The online store: the newest value of every key, as offline, whatever happens while it is published."""

import json
import math
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from deltalake import DeltaTable

from penstock.errors import NothingToDo, ServiceError, TableError
from penstock.gates import Outcome
from penstock.online.compare import compare_online
from penstock.online.publish import publish_table
from penstock.online.reading import OnlineFeatures, read_features
from penstock.online.store import Batch, open_store
from penstock.spec.project import Lookup
from penstock.workspace import Workspace
from tests.integration.online_shop import PROJECT, TABLE, MakeShop, at, delete, open_shop, put, row

REPOSITORY = Path(__file__).resolve().parents[2]
PASSWORD = "not-so-secret"


class RedisServer:
    """Debian's redis-server on a free port, by its process."""

    def __init__(self, folder: Path) -> None:
        with socket.socket() as found:
            found.bind(("127.0.0.1", 0))
            self.port = found.getsockname()[1]
        self.url = f"redis://:{PASSWORD}@127.0.0.1:{self.port}/0"
        self._folder = folder
        self.start()

    def start(self) -> None:
        command = ["redis-server", "--port", str(self.port), "--bind", "127.0.0.1", "--requirepass", PASSWORD,
                   "--save", "", "--dir", str(self._folder)]  # fmt: skip
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        for _ in range(100):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            time.sleep(0.05)
        raise AssertionError("redis-server does not start")

    def stop(self) -> None:
        self._process.terminate()
        self._process.wait(timeout=10)


@pytest.fixture(scope="module")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    server = RedisServer(tmp_path_factory.mktemp("redis"))
    yield server
    server.stop()


@pytest.fixture(params=["sqlite", "redis"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> dict[str, Any]:
    if request.param == "sqlite":
        return {"kind": "sqlite", "path": str(tmp_path / "online.sqlite")}
    server = request.getfixturevalue("redis_server")
    from redis import Redis

    Redis.from_url(server.url).flushall()
    return {"kind": "redis", "url": server.url}


@pytest.fixture
def shop(tmp_path: Path, store: dict[str, Any]) -> MakeShop:
    return lambda **online: open_shop(tmp_path, store, **online)


def one(workspace: Workspace, customer: str, moment: datetime | None = None) -> dict[str, Any] | None:
    """A customer's row online; at the end of the month by default."""
    moment = moment or at(31)
    with OnlineFeatures(workspace, PROJECT) as features:
        return features.rows({TABLE: [{"customer": customer, "shelf": 1}]}, moment)[TABLE][0]


def agrees(workspace: Workspace, as_of: datetime) -> bool:
    verdict = compare_online(workspace, PROJECT, TABLE, as_of)
    assert verdict.passed, verdict.reason
    return True


def test_values_come_back_with_the_types_they_have_offline(shop: MakeShop) -> None:
    workspace = shop()
    values = {
        "vip": True, "items": -(2**31), "points": 2**63 - 1, "score": 0.1, "spent": math.nan, "note": "ü, 漢",
        "born": date(1899, 12, 31), "seen": datetime(2024, 2, 29, 23, 59, 59, 999_999, tzinfo=UTC),
    }  # fmt: skip
    put(workspace, [row("ann", at(1), **values), row("bob", at(2))], at(3))
    publish_table(workspace, PROJECT, TABLE, at(3))
    ann, bob = one(workspace, "ann"), one(workspace, "bob")
    assert ann is not None
    assert bob is not None
    assert math.isnan(ann.pop("spent"))
    assert ann.pop("score") == pytest.approx(0.1, abs=1e-8)
    assert ann == {name: value for name, value in row("ann", at(1), **values).items() if name not in ("spent", "score")}
    assert ann["seen"].tzinfo is UTC
    assert [type(ann[name]) for name in ("vip", "items", "born")] == [bool, int, date]
    assert bob == row("bob", at(2))  # nulls are not missing keys
    assert one(workspace, "eve") is None
    assert agrees(workspace, at(3))


def test_only_what_changed_is_published_and_late_rows_do_not_overwrite_newer_ones(shop: MakeShop) -> None:
    workspace = shop()
    put(workspace, [row(f"c{number}", at(1), items=1) for number in range(50)], at(2))
    first = publish_table(workspace, PROJECT, TABLE, at(2))
    assert (first.mode, first.rows) == ("full", 50)
    put(workspace, [row("c1", at(3), items=3), row("new", at(3), items=4)], at(4))
    second = publish_table(workspace, PROJECT, TABLE, at(4))
    assert (second.mode, second.rows, second.removed) == ("incremental", 2, 0)
    put(workspace, [row("c1", at(2), items=2)], at(5))
    publish_table(workspace, PROJECT, TABLE, at(5))
    assert one(workspace, "c1") == row("c1", at(3), items=3)
    assert agrees(workspace, at(5))


def test_a_key_whose_newest_row_is_removed_falls_back_or_disappears(shop: MakeShop) -> None:
    workspace = shop()
    put(workspace, [row("ann", at(1), items=1), row("ann", at(2), items=2), row("bob", at(2))], at(3))
    publish_table(workspace, PROJECT, TABLE, at(3))
    delete(workspace, "items = 2 OR customer = 'bob'")
    assert publish_table(workspace, PROJECT, TABLE, at(4)).mode == "incremental"
    assert one(workspace, "ann") == row("ann", at(1), items=1)
    assert one(workspace, "bob") is None
    assert agrees(workspace, at(4))


def test_values_older_than_the_ttl_are_not_read_and_then_removed(shop: MakeShop) -> None:
    workspace = shop(ttl="10d")
    put(workspace, [row("ann", at(1)), row("bob", at(8))], at(9))
    publish_table(workspace, PROJECT, TABLE, at(9))
    assert one(workspace, "ann", at(11)) is not None
    assert one(workspace, "ann", at(11, 1)) is None
    again = publish_table(workspace, PROJECT, TABLE, at(12))
    assert (again.mode, again.rows, again.removed) == ("incremental", 0, 1)
    with open_store(workspace.environment, "default") as found:
        assert len(list(found.scan(f"{PROJECT}.{TABLE}"))) == 1
    assert agrees(workspace, at(12))


def test_rows_after_as_of_wait_until_it_passes_them(shop: MakeShop) -> None:
    workspace = shop()
    put(workspace, [row("ann", at(1), items=1), row("ann", at(5), items=5)], at(1))
    publish_table(workspace, PROJECT, TABLE, at(3))
    assert one(workspace, "ann") == row("ann", at(1), items=1)
    publish_table(workspace, PROJECT, TABLE, at(6))
    assert one(workspace, "ann") == row("ann", at(5), items=5)


def test_a_repeat_and_an_earlier_moment_have_nothing_to_do(shop: MakeShop) -> None:
    workspace = shop()
    put(workspace, [row("ann", at(1))], at(2))
    publish_table(workspace, PROJECT, TABLE, at(2))
    with pytest.raises(NothingToDo, match="online already"):
        publish_table(workspace, PROJECT, TABLE, at(2))
    with pytest.raises(NothingToDo, match="nothing to publish as of 2024-01-01"):
        publish_table(workspace, PROJECT, TABLE, at(1))


@pytest.mark.parametrize("change", ["made anew", "earlier version", "declaration", "change feed"])
def test_without_a_usable_change_feed_everything_is_published_and_it_says_so(
    shop: MakeShop, tmp_path: Path, store: dict[str, Any], change: str
) -> None:
    import shutil

    workspace = shop()
    put(workspace, [row("ann", at(1)), row("bob", at(1))], at(2))
    put(workspace, [row("ann", at(2))], at(2))
    publish_table(workspace, PROJECT, TABLE, at(2))
    path = Path(workspace.addresses.readable(f"{PROJECT}.{TABLE}"))
    if change == "made anew":
        shutil.rmtree(path)
        put(workspace, [row("eve", at(3))], at(3))
    elif change == "earlier version":
        (path / "_delta_log/00000000000000000002.json").unlink()
    elif change == "declaration":
        workspace = shop(ttl="30d")
        change = "declaration changed"
    else:
        DeltaTable(path).alter.set_table_properties({"delta.enableChangeDataFeed": "false"})
        put(workspace, [row("ann", at(3), items=7)], at(3))
    published = publish_table(workspace, PROJECT, TABLE, at(3))
    assert published.mode == "full"
    assert change in published.why
    assert agrees(workspace, at(3))


PUBLISH = """
import sys, time, json
from pathlib import Path
from penstock.online import codec, offline
from penstock.online.publish import publish_table
from tests.integration.online_shop import PROJECT, TABLE, at, open_shop

offline._BATCH_ROWS = 50
encode = codec.RowCodec.encode
calls = []

def stop_in_the_middle(self, rows):
    calls.append(rows.num_rows)
    if len(calls) == 3:
        print("written a part", flush=True)
        time.sleep(60)
    return encode(self, rows)

codec.RowCodec.encode = stop_in_the_middle
publish_table(open_shop(Path(sys.argv[1]), json.loads(sys.argv[2])), PROJECT, TABLE, at(3), full=True)
"""


def test_a_killed_publication_leaves_the_store_as_it_was(shop: MakeShop, tmp_path: Path, store: dict[str, Any]) -> None:
    workspace = shop()
    put(workspace, [row(f"c{number:03}", at(1), items=1) for number in range(300)], at(2))
    publish_table(workspace, PROJECT, TABLE, at(2))
    put(workspace, [row(f"c{number:03}", at(3), items=3) for number in range(300)], at(3))
    command = [sys.executable, "-c", PUBLISH, str(tmp_path), json.dumps(store)]
    environment = {**os.environ, "PYTHONPATH": f"{REPOSITORY}{os.pathsep}{REPOSITORY / 'plugins'}"}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "written a part\n"
        other.kill()
    with OnlineFeatures(workspace, PROJECT) as features:
        keys = [{"customer": f"c{number:03}", "shelf": 1} for number in range(300)]
        assert [found and found["items"] for found in features.rows({TABLE: keys}, at(31))[TABLE]] == [1] * 300
    assert "is not online yet" in compare_online(workspace, PROJECT, TABLE, at(3)).reason
    assert publish_table(workspace, PROJECT, TABLE, at(3)).mode == "incremental"
    assert agrees(workspace, at(3))


def test_of_two_publications_at_once_the_slower_one_goes_on_from_the_faster(
    shop: MakeShop, monkeypatch: pytest.MonkeyPatch
) -> None:
    from penstock.online import publish

    workspace = shop()
    put(workspace, [row("ann", at(1), items=1)], at(2))
    publish_table(workspace, PROJECT, TABLE, at(2))
    put(workspace, [row("ann", at(3), items=3)], at(3))
    planned = publish._find_changed
    overtaken: list[int] = []

    def overtaken_once(*about: Any) -> Any:
        found = planned(*about)
        if not overtaken:
            overtaken.append(1)
            put(workspace, [row("ann", at(4), items=4)], at(4))
            publish_table(workspace, PROJECT, TABLE, at(4))
        return found

    monkeypatch.setattr(publish, "_find_changed", overtaken_once)
    with pytest.raises(NothingToDo):  # the other one was as of a later moment
        publish_table(workspace, PROJECT, TABLE, at(3))
    assert one(workspace, "ann") == row("ann", at(4), items=4)


def test_readers_see_a_table_before_or_after_a_publication(shop: MakeShop) -> None:
    import threading

    workspace = shop()
    keys = [{"customer": f"c{number}", "shelf": 1} for number in range(100)]
    put(workspace, [row(str(key["customer"]), at(1), items=0) for key in keys], at(1))
    publish_table(workspace, PROJECT, TABLE, at(1))
    seen: list[set[int]] = []
    done = threading.Event()

    def read() -> None:
        with OnlineFeatures(workspace, PROJECT) as features:
            while not done.is_set():
                rows = features.rows({TABLE: keys}, at(31))[TABLE]
                seen.append({found["items"] if found else -1 for found in rows})

    reader = threading.Thread(target=read)
    reader.start()
    for day in range(2, 8):
        put(workspace, [row(str(key["customer"]), at(day), items=day) for key in keys], at(day))
        publish_table(workspace, PROJECT, TABLE, at(day), full=day % 2 == 0)
    done.set()
    reader.join()
    assert len(seen) > 10
    assert all(len(found) == 1 and -1 not in found for found in seen)


def test_comparison_names_every_kind_of_difference(shop: MakeShop) -> None:
    workspace = shop()
    put(workspace, [row(name, at(1), items=1) for name in ("ann", "bob", "eve")], at(2))
    publish_table(workspace, PROJECT, TABLE, at(2))
    with open_store(workspace.environment, "default") as found:
        before = list(found.scan(f"{PROJECT}.{TABLE}"))
    put(workspace, [row("bob", at(2), items=2), row("zoe", at(2))], at(2))
    delete(workspace, "customer = 'eve'")
    publish_table(workspace, PROJECT, TABLE, at(2))
    with open_store(workspace.environment, "default") as found:  # somebody puts back what it held
        there = found.position(f"{PROJECT}.{TABLE}")
        assert there is not None
        rows = tuple(map(list, zip(*before, strict=True)))
        found.write(f"{PROJECT}.{TABLE}", Batch(there, there, [rows], replace=True))  # type: ignore[list-item]
    verdict = compare_online(workspace, PROJECT, TABLE, at(2))
    assert not verdict.passed
    found = {check.name: check.evidence for check in verdict.checks}
    assert found["missing"]["examples"] == [{"customer": "zoe", "shelf": 1}]
    assert found["extra"]["examples"] == [{"customer": "eve", "shelf": 1}]
    (values,) = found["values"]["examples"]
    assert (values["customer"], values["columns"]["items"]) == ("bob", "offline 2, online 1")


def test_what_was_merged_since_is_a_lag_and_no_difference(shop: MakeShop) -> None:
    workspace = shop(ttl="10d")
    put(workspace, [row(name, at(1), items=1) for name in ("ann", "eve")], at(2))
    version = publish_table(workspace, PROJECT, TABLE, at(5)).version
    put(workspace, [row("ann", at(4), items=2), row("zoe", at(4))], at(5))
    delete(workspace, "customer = 'eve'")
    verdict = compare_online(workspace, PROJECT, TABLE, at(20))  # eve's row would have outlived the ttl by then
    assert verdict.passed, verdict.reason
    lag = {check.name: check for check in verdict.checks}["lag"]
    assert (lag.outcome, lag.evidence["published"], lag.evidence["newest"]) == (Outcome.WARN, version, version + 2)
    publish_table(workspace, PROJECT, TABLE, at(5))
    assert compare_online(workspace, PROJECT, TABLE, at(5)).outcome is Outcome.PASS


def test_a_version_that_was_vacuumed_away_is_compared_with_the_newest(shop: MakeShop) -> None:
    workspace = shop()
    put(workspace, [row("ann", at(1), items=1)], at(2))
    publish_table(workspace, PROJECT, TABLE, at(2))
    put(workspace, [row("ann", at(1), items=2)], at(2))
    table = DeltaTable(workspace.addresses.readable(f"{PROJECT}.{TABLE}"))
    assert table.vacuum(0, dry_run=False, enforce_retention_duration=False)
    verdict = compare_online(workspace, PROJECT, TABLE, at(2))
    newest = DeltaTable(table.table_uri).version()  # vacuuming commits, too
    assert f"(version 1 is online, the table is at {newest}, compared with {newest})" in verdict.reason
    assert not verdict.passed


def test_a_publication_during_the_comparison_makes_it_start_again(
    shop: MakeShop, monkeypatch: pytest.MonkeyPatch
) -> None:
    from penstock.online import compare

    workspace = shop()
    put(workspace, [row("ann", at(1), items=1)], at(2))
    publish_table(workspace, PROJECT, TABLE, at(2))
    differences = compare._differences
    days = iter((3, 4, 5))

    def published_meanwhile(*about: Any) -> Any:
        for day in [next(days)] if again else []:
            put(workspace, [row("ann", at(day), items=day)], at(day))
            publish_table(workspace, PROJECT, TABLE, at(day))
        again[:] = again[1:]
        return differences(*about)

    monkeypatch.setattr(compare, "_differences", published_meanwhile)
    again = [1]
    assert agrees(workspace, at(5))
    again = [1, 2]
    with pytest.raises(ServiceError, match="published while it was compared, 2 times"):
        compare_online(workspace, PROJECT, TABLE, at(5))


def test_several_tables_and_keys_are_looked_up_in_one_call(shop: MakeShop) -> None:
    workspace = shop()
    for table, items in ((TABLE, 1), ("visitors", 2), ("suppliers", 3)):
        put(workspace, [row("ann", at(1), items=items), row("bob", at(5), items=items * 10)], at(6), table)
        publish_table(workspace, PROJECT, table, at(6))
    lookups = [
        Lookup(table=TABLE, keys={"customer": "buyer", "shelf": "shelf"}, features=["items"]),
        Lookup(table="visitors", keys={"customer": "buyer", "shelf": "shelf"}, features=["items", "note"],
               rename={"items": "visits"}, max_age=timedelta(days=3)),
        Lookup(table="suppliers", keys={"customer": "seller", "shelf": "shelf"}, features=["items"],
               rename={"items": "supplied"}),
    ]  # fmt: skip
    asked = [{"buyer": buyer, "seller": seller, "shelf": 1} for buyer, seller in (("ann", "bob"), ("bob", "nobody"))]
    assert read_features(workspace, PROJECT, lookups, asked, at(6)) == [
        {"items": 1, "visits": None, "note": None, "supplied": 30},
        {"items": 10, "visits": 20, "note": None, "supplied": None},
    ]


def test_a_key_that_is_null_finds_nothing_as_in_a_training_set(shop: MakeShop) -> None:
    workspace = shop()
    put(workspace, [row("ann", at(1), items=1)], at(6))
    publish_table(workspace, PROJECT, TABLE, at(6))
    lookup = Lookup(table=TABLE, keys={"customer": "buyer", "shelf": "shelf"}, features=["items", "note"],
                    defaults={"items": 7})  # fmt: skip
    nulls = [{"buyer": null, "shelf": 1} for null in (None, float("nan"), pd.NA, pd.NaT)]
    found = read_features(workspace, PROJECT, [lookup], [{"buyer": "ann", "shelf": 1}, *nulls], at(6))
    assert found == [{"items": 1, "note": None}, *[{"items": 7, "note": None}] * 4]
    assert read_features(workspace, PROJECT, [lookup], nulls[:1], at(6)) == [{"items": 7, "note": None}]
    with pytest.raises(TableError, match="the key shelf is declared as int, but given as 'x'"):
        read_features(workspace, PROJECT, [lookup], [{"buyer": "ann", "shelf": "x"}], at(6))


def test_what_is_not_online_is_refused_rather_than_answered_wrongly(shop: MakeShop) -> None:
    workspace = shop(ttl="30d")
    put(workspace, [row("ann", at(1), items=1), row("ann", at(9), items=9), row("bob", at(2), items=2)], at(10))
    publish_table(workspace, PROJECT, TABLE, at(10))
    keys = {"customer": "buyer", "shelf": "shelf"}
    lookup = Lookup(table=TABLE, keys=keys, features=["items"], defaults={"items": -1})

    def read(buyer: str, moment: datetime | None, wanted: Lookup = lookup, **entry: Any) -> Any:
        given = {"buyer": buyer, "shelf": 1} | entry
        return read_features(workspace, PROJECT, [wanted], [given], moment)[0]["items"]

    assert read("ann", at(10)) == 9
    assert read("bob", at(3)) == 2  # nothing came after it
    assert read("eve", at(10)) == -1
    with pytest.raises(TableError, match=r"online as of 2024-01-10T00:00:00Z: what it had at 2024-01-02.*'ann'"):
        read("ann", at(2))
    with pytest.raises(TableError, match="'eve'"):  # was there, perhaps, and older than the ttl since
        read("eve", at(2))
    with pytest.raises(TableError, match="offset of 7 days"):
        read("ann", at(10), lookup.model_copy(update={"offset": timedelta(days=7)}))
    with pytest.raises(TableError, match=r"default 1.5 for items, which is a int"):
        read("eve", at(10), lookup.model_copy(update={"defaults": {"items": 1.5}}))
    with pytest.raises(TableError, match="needs 'seller'; given were: buyer, shelf, customer"):
        read("ann", at(10), lookup.model_copy(update={"keys": {**keys, "customer": "seller"}}), customer="ann")
    computed = lookup.model_copy(update={"keys": {**keys, "customer": "lower(buyer)"}})
    assert read("ANN", at(10), computed, customer="ann") == 9
    with pytest.raises(TableError, match=r"needs 'customer', the value of 'lower\(buyer\)'"):
        read("ANN", at(10), computed)


@pytest.mark.parametrize(
    ("key", "message"),
    [
        ({"customer": "ann"}, "a key is customer, shelf; given were: customer"),
        ({"customer": "ann", "shelf": "1"}, "shelf is declared as int, but given as '1'"),
        ({"customer": None, "shelf": 1}, "customer is declared as string, but given as None"),
        ({"customer": "ann", "shelf": 2**40}, "shelf is declared as int"),
    ],
)
def test_a_key_of_another_type_is_named(tmp_path: Path, key: dict[str, Any], message: str) -> None:
    workspace = open_shop(tmp_path, {"kind": "sqlite", "path": str(tmp_path / "online.sqlite")})
    with OnlineFeatures(workspace, PROJECT) as features, pytest.raises(TableError, match=message):
        features.rows({TABLE: [key]})


def test_a_table_that_was_never_published_is_named(shop: MakeShop) -> None:
    with pytest.raises(TableError, match="has not been published yet"):
        one(shop(), "ann")


def test_redis_down_fails_clearly_and_a_later_run_mends_it(
    tmp_path: Path, redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("penstock.online.redis_store._RETRIES", 1)
    workspace = open_shop(tmp_path, {"kind": "redis", "url": redis_server.url})
    version = put(workspace, [row("ann", at(1))], at(2))
    redis_server.stop()
    try:
        with pytest.raises(ServiceError, match="run this again once the server is up") as raised:
            publish_table(workspace, PROJECT, TABLE, at(2))
        assert PASSWORD not in str(raised.value)
    finally:
        redis_server.start()
    assert publish_table(workspace, PROJECT, TABLE, at(2)).version == version
    assert agrees(workspace, at(2))


def test_a_file_that_cannot_be_opened_is_named(tmp_path: Path) -> None:
    (tmp_path / "broken.sqlite").write_bytes(b"no database" * 100)
    workspace = open_shop(tmp_path, {"kind": "sqlite", "path": str(tmp_path / "broken.sqlite")})
    put(workspace, [row("ann", at(1))], at(2))
    with pytest.raises(ServiceError, match="broken.sqlite"):
        publish_table(workspace, PROJECT, TABLE, at(2))
