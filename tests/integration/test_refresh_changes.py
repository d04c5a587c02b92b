"""What a refresh does when its input, its definition or another refresh gets in its way."""

import json
import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import datetime, timedelta
from pathlib import Path
from shutil import rmtree
from typing import Any

import numpy as np
import pandas as pd
import pytest
from deltalake import DeltaTable

from penstock.errors import GateError, NothingToDo, PenstockError, ServiceError, TableError
from penstock.features import backfill
from penstock.features.backfill import BackfillRequest, backfill_table
from penstock.features.first_fills import first_fill_warnings
from penstock.features.inputs import open_input
from penstock.features.known import KNOWN_AT, history_name
from penstock.features.merge import RefreshedTable, merge_batch, validate_batch
from penstock.features.refresh import stage_table
from penstock.lakehouse.records import latest_record
from penstock.quality.quarantine import read_quarantine
from penstock.spec.project import Lookup
from penstock.workspace import Workspace
from tests.integration.refreshing import moment
from tests.integration.shop import REGION_DAILY, SHOP, STORE_DAILY, Shop, open_shop

REACHED = moment("2024-03-10")
KEYS = ["store", "event_time"]
ALL = BackfillRequest(("store_daily",))


@pytest.fixture
def shop(make_workspace: Callable[..., Workspace], tmp_path: Path) -> Shop:
    """A shop with three months of orders, refreshed once."""
    found = open_shop(make_workspace, tmp_path)
    add_orders(found, [f"2024-{month:02}-{day:02}" for month in (1, 2, 3) for day in (2, 5, 8)])
    found.refresh("store_daily", REACHED)
    return found


def add_orders(shop: Shop, days: list[str], first: int = 0, known: str | None = None) -> None:
    shop.add("orders", *(
        {"id": first + number, "store": store, "at": moment(f"{day}T10:00"), "amount": 2.0 + number,
         "known_at": moment(known or f"{day}T11:00")}
        for number, day in enumerate(days) for store in ("a", "b")
    ))  # fmt: skip


def expected(shop: Shop) -> pd.DataFrame:
    """The full recomputation: the table of a shop beside it that was never refreshed before."""
    orders = shop.raw("orders").to_pyarrow_table().to_pandas()
    orders["event_time"] = orders["at"].dt.floor("D") + pd.Timedelta(days=1)
    return orders.groupby(KEYS).agg(total=("amount", "sum"), orders=("amount", "size")).reset_index()


def assert_equals_recomputation(shop: Shop) -> None:
    found = shop.rows("store_daily", KEYS)[[*KEYS, "total", "orders"]]
    pd.testing.assert_frame_equal(found, expected(shop), check_dtype=False)


def test_two_refreshes_at_once_end_with_one_winner_and_a_clear_error(shop: Shop) -> None:
    add_orders(shop, ["2024-03-10", "2024-01-02"], first=100, known="2024-03-10T12:00")
    add_orders(shop, ["2024-03-11"], first=200)

    def attempt(hours: int) -> RefreshedTable | PenstockError:
        try:
            return shop.refresh("store_daily", REACHED + timedelta(hours=hours))
        except PenstockError as error:
            return error

    with ThreadPoolExecutor(2) as pool:
        results = list(pool.map(attempt, (48, 36)))
    winners = [result for result in results if isinstance(result, RefreshedTable)]
    losers = [result for result in results if not isinstance(result, RefreshedTable)]
    assert winners
    assert all(isinstance(loser, ServiceError | NothingToDo) for loser in losers), losers
    for loser in losers:
        assert re.search(r"run the refresh again|already reached", str(loser))
    record = latest_record(shop.path("store_daily"))
    assert record is not None
    assert record.as_of == max(winner.as_of for winner in winners)
    with suppress(NothingToDo):
        shop.refresh("store_daily", REACHED + timedelta(hours=48))
    assert_equals_recomputation(shop)


def test_an_input_that_was_dropped_and_made_again_is_noticed(shop: Shop) -> None:
    version = shop.raw("orders").version()
    rmtree(shop.path("orders"))
    add_orders(shop, ["2024-01-02", "2024-03-10"], first=500)
    for _ in range(version):  # it reaches the version that was seen before
        shop.raw("orders").update(updates={"amount": "amount + 1"})
    done = shop.refresh("store_daily", REACHED + timedelta(days=2))
    assert done.mode == "full"
    assert "orders was made anew" in done.why
    assert_equals_recomputation(shop)


def test_an_input_put_back_to_an_older_version_is_followed(shop: Shop) -> None:
    add_orders(shop, ["2024-02-02"], first=300, known="2024-03-10T05:00")
    shop.refresh("store_daily", REACHED + timedelta(hours=6))
    shop.raw("orders").restore(1)
    shop.refresh("store_daily", REACHED + timedelta(hours=7))
    assert_equals_recomputation(shop)


def test_a_change_feed_that_was_vacuumed_away_leads_to_a_full_recomputation(shop: Shop) -> None:
    shop.raw("orders").update(updates={"amount": "99.0"}, predicate="id = 4")
    for file in Path(shop.path("orders")).glob("_change_data/*"):
        file.unlink()
    done = shop.refresh("store_daily", REACHED + timedelta(hours=1))
    assert done.mode == "full"
    assert "cleaned up" in done.why
    assert_equals_recomputation(shop)


def test_a_log_that_was_cleaned_up_leads_to_a_full_recomputation(shop: Shop) -> None:
    for number in range(3):
        add_orders(shop, ["2024-02-02"], first=600 + number, known="2024-03-10T05:00")
    table = shop.raw("orders")
    table.create_checkpoint()
    for version in range(table.version()):
        Path(shop.path("orders"), f"_delta_log/{version:020}.json").unlink()
    done = shop.refresh("store_daily", REACHED + timedelta(hours=6))
    assert done.mode == "full"
    assert "cleaned up" in done.why
    assert_equals_recomputation(shop)


def test_without_a_change_feed_everything_is_recomputed_and_it_says_so(shop: Shop) -> None:
    feed = "delta.enableChangeDataFeed"
    shop.raw("orders").alter.set_table_properties({feed: "false"})
    add_orders(shop, ["2024-02-02"], first=300, known="2024-03-10T05:00")
    done = shop.refresh("store_daily", REACHED + timedelta(hours=6))
    assert done.mode == "full"
    assert done.why == "orders has no change data feed"
    assert_equals_recomputation(shop)
    shop.raw("orders").update(updates={"amount": "77.0"}, predicate="id = 4")
    shop.raw("orders").alter.set_table_properties({feed: "true"})
    add_orders(shop, ["2024-02-05"], first=400, known="2024-03-10T07:00")
    shop.refresh("store_daily", REACHED + timedelta(hours=8))  # a part of the changes has no feed
    assert_equals_recomputation(shop)


def test_where_most_groups_are_touched_all_are_computed(shop: Shop) -> None:
    shop.raw("orders").update(updates={"amount": "amount * 2"})
    done = shop.refresh("store_daily", REACHED + timedelta(hours=1))
    assert done.mode == "full"
    assert done.why == "18 groups are touched, and the table has 18"
    assert_equals_recomputation(shop)


def test_an_empty_refresh_records_what_it_reached(shop: Shop) -> None:
    with pytest.raises(NothingToDo):
        shop.refresh("store_daily", REACHED + timedelta(days=5))
    add_orders(shop, ["2024-03-12"], first=700, known="2024-03-15T12:00")
    as_of = REACHED + timedelta(days=6)
    shop.refresh("store_daily", as_of)
    newest = shop.rows("store_daily", KEYS).iloc[-1]
    assert newest["event_time"] == pd.Timestamp("2024-03-13", tz="UTC")
    assert newest[KNOWN_AT] == pd.Timestamp(as_of)  # on the 15th, the table had no such row


def test_rows_of_a_first_fill_count_as_known_once_all_that_they_are_made_from_was(shop: Shop) -> None:
    add_orders(shop, ["2024-01-02"], first=900, known="2024-03-10T12:00")
    shop.refresh("store_daily", moment("2024-03-11"))
    week = "date_trunc('WEEK', event_time) + INTERVAL 7 DAYS"
    weekly = {
        "description": "Weeks.", "primary_keys": ["store"], "inputs": ["store_daily"], "sql": "weekly.sql",
        "grain": {"columns": KEYS, "inputs": {"store_daily": {"expressions": {"store": "store", "event_time": week}}}},
        "columns": {"store": "string", "event_time": "timestamp", "total": "double"},
    }  # fmt: skip
    sums = {"description": "Sums.", "primary_keys": ["store"], "inputs": ["orders"], "sql": "sums.sql",
            "columns": weekly["columns"]}  # fmt: skip
    total = "SELECT store, {} AS event_time, sum({}) AS total FROM {} GROUP BY 1, 2"
    (shop.folder / "weekly.sql").write_text(total.format(week, "total", "store_daily"))
    (shop.folder / "sums.sql").write_text(total.format("TIMESTAMP '1970-01-01'", "amount", "orders"))
    shop.write_spec(lambda spec: spec["feature_tables"].update(weekly=weekly, sums=sums))
    for table in ("weekly", "sums"):
        shop.refresh(table, moment("2024-03-12"))
    found = shop.rows("weekly", KEYS).groupby("event_time")[KNOWN_AT].agg(["min", "max"])
    corrected = found.index == pd.Timestamp("2024-01-08", tz="UTC")
    assert (found[corrected] == pd.Timestamp("2024-03-11", tz="UTC")).all(axis=None)  # its day was corrected then
    assert (found[~corrected].eq(found.index[~corrected], axis=0)).all(axis=None)
    assert set(shop.rows("sums", KEYS)[KNOWN_AT]) == {pd.Timestamp("2024-03-10T12:00", tz="UTC")}  # no grain: the last

    def warned(table: str, first: str) -> list[str]:
        inputs = {table: open_input(shop.workspace, SHOP, table)}
        return first_fill_warnings(
            inputs, [Lookup(table=table, keys={"store": "s"}, features=["total"])], moment(first)
        )

    assert warned("weekly", "2024-02-01") == []
    (warning,) = warned("sums", "2024-02-01")
    assert "what it was made from was known from 2024-03-10T12:00:00Z on" in warning


def test_inserts_alone_make_no_history(shop: Shop) -> None:
    assert not DeltaTable.is_deltatable(shop.path(history_name("store_daily")))


def test_a_row_without_an_event_time_goes_to_quarantine(shop: Shop) -> None:
    undated = {"store": "a", "amount": 1.0, "at": None, "known_at": REACHED + timedelta(hours=1)}
    shop.add("orders", {**undated, "id": 900})
    add_orders(shop, ["2024-03-10"], first=901, known="2024-03-10T12:00")
    as_of = REACHED + timedelta(days=1)
    done = shop.refresh("store_daily", as_of)
    assert (done.mode, done.quarantined) == ("incremental", 1)
    assert_without_event_time(shop, "store_daily", {"store": "a"})
    dated = shop.rows("store_daily", KEYS)
    assert dated["event_time"].max() == pd.Timestamp(as_of)
    shop.add("orders", {**undated, "store": "b", "id": 910})
    change_sql(shop, STORE_DAILY.replace("sum(amount)", "sum(amount) * 2"))
    backfill_table(shop.workspace, SHOP, "store_daily", as_of, ALL, 6)
    assert_without_event_time(shop, "store_daily", *({"store": name} for name in "aab"))  # a's of either definition
    assert shop.rows("store_daily", KEYS)["total"].tolist() == (dated["total"] * 2).tolist()


def test_rows_that_never_became_known_are_counted(shop: Shop) -> None:
    add_orders(shop, ["2024-03-10"], first=920, known="2024-03-10T12:00")
    shop.add("orders", {"id": 930, "store": "a", "amount": 1.0, "at": REACHED, "known_at": None})
    done = shop.refresh("store_daily", REACHED + timedelta(days=1))
    assert done.why == "changed: orders; 1 row(s) of shop.orders have no known_at: unused"


def assert_without_event_time(shop: Shop, table: str, *keys: dict[str, str]) -> None:
    found = read_quarantine(shop.workspace, SHOP, table)
    assert [json.loads(text) for text in found["keys"]] == [{**key, "event_time": None} for key in keys]
    assert found["reasons"].str.contains('"column":"event_time","expectation":"key_not_null"').all()


def test_an_outer_join_with_an_input_that_is_read_whole_changes_no_other_group(shop: Shop) -> None:
    shop.add("stores", *({"store": name, "region": name, "known_at": moment("2024-01-01")} for name in "abc"))
    (shop.folder / "totals.sql").write_text(
        "SELECT s.store, TIMESTAMP '1970-01-01' AS event_time, count(o.id) AS orders "
        "FROM stores s LEFT JOIN orders o USING (store) GROUP BY 1"
    )
    (shop.folder / "region_daily.sql").write_text(REGION_DAILY.replace("orders o JOIN", "orders o RIGHT JOIN"))
    totals = {
        "description": "Totals.", "primary_keys": ["store"], "inputs": ["orders", "stores"], "sql": "totals.sql",
        "grain": {"columns": KEYS, "inputs": {"orders": {
            "expressions": {"store": "store", "event_time": "TIMESTAMP '1970-01-01'"}
        }}},
        "columns": {"store": "string", "event_time": "timestamp", "orders": "bigint"},
    }  # fmt: skip
    shop.write_spec(lambda spec: spec["feature_tables"].update(totals=totals))
    for table in ("totals", "region_daily"):
        shop.refresh(table, REACHED)
    assert_without_event_time(shop, "region_daily", {"region": "c"})  # c sold nothing
    shop.add("orders", {"id": 950, "store": "c", "at": REACHED, "amount": 1.0, "known_at": REACHED})
    as_of = REACHED + timedelta(days=1)
    assert shop.refresh("totals", as_of).mode == "incremental"
    assert shop.rows("totals", ["store"])["orders"].tolist() == [9, 9, 1]
    done = shop.refresh("region_daily", as_of)
    assert (done.mode, done.rows, done.quarantined) == ("incremental", 1, 0)


def test_keys_that_a_change_repeats_stop_the_table(shop: Shop) -> None:
    per_order = STORE_DAILY.replace("sum(amount)", "amount").replace("count(*)", "1L").replace(" GROUP BY 1, 2", "")
    change_sql(shop, per_order)
    backfill_table(shop.workspace, SHOP, "store_daily", REACHED, ALL)
    row = {"store": "a", "at": moment("2024-01-02T10:00"), "known_at": REACHED}
    shop.add("orders", {**row, "id": 960, "amount": 77.0})
    for limit in (None, 0):  # in this process, and by Spark
        with pytest.MonkeyPatch.context() as patched:
            if limit is not None:
                patched.setattr("penstock.features.rows_here.MOST_ROWS", limit)
            with pytest.raises(GateError, match=r"1 key\(s\) occur more than once in the batch: store=a"):
                shop.refresh("store_daily", REACHED + timedelta(hours=1))
    assert shop.rows("store_daily", KEYS)["total"].iloc[0] == 2.0


def change_sql(shop: Shop, sql: str, columns: dict[str, str] | None = None) -> None:
    (shop.folder / "store_daily.sql").write_text(sql)

    def declare(spec: dict[str, Any]) -> None:
        spec["feature_tables"]["store_daily"]["columns"].update(columns or {})

    shop.write_spec(declare)


def test_layout_and_comments_are_no_change(shop: Shop) -> None:
    change_sql(shop, "-- by day\n" + STORE_DAILY.replace("SELECT ", "SELECT\n  ").replace("sum(", "SUM("))
    with pytest.raises(NothingToDo):
        shop.refresh("store_daily", REACHED)


def test_a_new_column_is_filled_in_every_row(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("penstock.features.merge.MOST_ROWS", 1)  # the history is written part by part
    change_sql(shop, STORE_DAILY.replace("count(*)", "max(amount) AS greatest, count(*)"), {"greatest": "double"})
    done = shop.refresh("store_daily", REACHED)
    assert done.mode == "full"
    assert "new column(s), filled in every row: greatest" in done.why
    rows = shop.rows("store_daily", KEYS)
    assert rows["greatest"].notna().all()
    assert len(shop.rows(history_name("store_daily"), KEYS)) == len(rows)


def test_a_changed_transformation_asks_for_a_backfill_and_writes_nothing(shop: Shop) -> None:
    before = shop.raw("store_daily").version()
    change_sql(shop, STORE_DAILY.replace("sum(amount)", "sum(amount) * 2"))
    with pytest.raises(GateError, match=r"--backfill store_daily"):
        shop.refresh("store_daily", REACHED + timedelta(days=1))
    assert shop.raw("store_daily").version() == before


def test_a_changed_key_is_refused_with_what_to_do(shop: Shop) -> None:
    def declare(spec: dict[str, Any]) -> None:
        spec["feature_tables"]["store_daily"]["primary_keys"] = ["store", "orders"]

    shop.write_spec(declare)
    with pytest.raises(TableError, match=r"store, event_time.*new name, or drop it"):
        shop.refresh("store_daily", REACHED)


def kill_a_backfill_after_one_piece(shop: Shop, monkeypatch: pytest.MonkeyPatch, as_of: datetime) -> None:
    """Doubles the totals; only those of the first piece are written."""
    change_sql(shop, STORE_DAILY.replace("sum(amount)", "sum(amount) * 2"))
    once = iter([merge_batch])

    def merge_then_die(*about: Any) -> RefreshedTable:
        merge = next(once, None)
        if merge is None:
            raise KeyboardInterrupt
        return merge(*about)

    with monkeypatch.context() as patched:
        patched.setattr(backfill, "merge_batch", merge_then_die)
        with pytest.raises(KeyboardInterrupt):
            backfill_table(shop.workspace, SHOP, "store_daily", as_of, ALL, 6)


def test_a_change_that_is_taken_back_after_half_a_backfill_leaves_no_row_of_it(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    kill_a_backfill_after_one_piece(shop, monkeypatch, REACHED + timedelta(days=1))
    assert (shop.rows("store_daily", KEYS)["total"] != expected(shop)["total"]).any()
    change_sql(shop, STORE_DAILY)
    done = shop.refresh("store_daily", REACHED + timedelta(days=1))
    assert (done.mode, done.why.partition(",")[0]) == (
        "full", "a backfill by another definition had come to 2024-01-09T00:00:00Z",
    )  # fmt: skip
    assert_equals_recomputation(shop)
    add_orders(shop, ["2024-03-11"], first=800)
    assert shop.refresh("store_daily", REACHED + timedelta(days=3)).mode == "incremental"


def test_a_killed_backfill_goes_on_after_the_last_finished_piece(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    as_of, said = REACHED + timedelta(days=1), []
    kill_a_backfill_after_one_piece(shop, monkeypatch, as_of)
    record = latest_record(shop.path("store_daily"))
    assert record is not None
    assert record.backfill is not None
    assert (record.backfill.done_until, record.backfill.finished) == ("2024-01-09T00:00:00Z", False)
    with pytest.raises(GateError, match="a backfill has come to 2024-01-09"):
        shop.refresh("store_daily", as_of)
    done = backfill_table(shop.workspace, SHOP, "store_daily", as_of, ALL, 6, said.append)
    assert done.pieces == 2
    assert "up to 2024-02-09" in said[0]
    record = latest_record(shop.path("store_daily"))
    assert record is not None
    assert record.backfill is not None
    assert record.backfill.finished
    assert record.as_of == "2024-03-10T00:00:00Z"
    wanted = expected(shop)["total"] * 2
    rows = shop.rows("store_daily", KEYS)
    pd.testing.assert_series_equal(rows["total"], wanted)
    assert (rows[KNOWN_AT] == pd.Timestamp(as_of)).all()
    add_orders(shop, ["2024-03-10"], first=800)
    assert shop.refresh("store_daily", REACHED + timedelta(days=2)).mode == "incremental"


def test_rows_outside_the_range_of_a_backfill_stay_and_wait_for_theirs(shop: Shop) -> None:
    change_sql(shop, STORE_DAILY.replace("sum(amount)", "sum(amount) * 2"))
    request = BackfillRequest(("store_daily",), moment("2024-02-01"), moment("2024-03-01"))
    done = backfill_table(shop.workspace, SHOP, "store_daily", REACHED, request)
    assert (done.pieces, done.rows) == (1, 6)
    rows, before = shop.rows("store_daily", KEYS), expected(shop)
    factor = rows["total"] / before["total"]
    inside = rows["event_time"].dt.month == 2
    assert (factor[inside] == 2).all()
    assert (factor[~inside] == 1).all()
    assert done.left == ("up to 2024-02-01T00:00:00Z", "after 2024-03-01T00:00:00Z up to 2024-03-10T00:00:00Z")
    with pytest.raises(
        GateError, match=r"2024-03-01T00:00:00Z\. .* the others \(up to 2024-02-01T00:00:00Z, and after"
    ):
        shop.refresh("store_daily", REACHED + timedelta(days=1))
    with pytest.raises(NothingToDo, match="computed by this definition already"):
        backfill_table(shop.workspace, SHOP, "store_daily", REACHED, request)
    rest = backfill_table(shop.workspace, SHOP, "store_daily", REACHED, ALL)
    assert (rest.pieces, rest.rows, rest.left) == (2, 12, ())
    np.testing.assert_array_equal(shop.rows("store_daily", KEYS)["total"], before["total"] * 2)
    add_orders(shop, ["2024-03-10"], first=800)
    assert shop.refresh("store_daily", REACHED + timedelta(days=2)).mode == "incremental"


def test_a_table_that_was_never_filled_has_no_backfill(shop: Shop) -> None:
    shop.add("stores", {"store": "a", "region": "north", "known_at": REACHED})
    with pytest.raises(NothingToDo, match="never filled"):
        backfill_table(shop.workspace, SHOP, "region_daily", REACHED, BackfillRequest(("region_daily",)))


def test_a_killed_merge_is_repeated_and_a_merged_batch_is_not(shop: Shop) -> None:
    shop.raw("orders").update(updates={"amount": "50.0"}, predicate="id = 4")
    batch = validate_batch(shop.workspace, stage_table(shop.workspace, SHOP, "store_daily", REACHED))
    first = merge_batch(shop.workspace, batch)
    assert not Path(batch.batch.path).exists()
    assert merge_batch(shop.workspace, batch).version == first.version
    shop.raw("orders").update(updates={"amount": "60.0"}, predicate="id = 4")
    later = shop.refresh("store_daily", REACHED + timedelta(hours=1))
    assert later.version > first.version
    assert merge_batch(shop.workspace, batch).version == later.version  # the first once more, after another refresh
    assert_equals_recomputation(shop)


def test_a_backfill_of_a_table_that_was_never_filled_leaves_it_to_its_first_refresh(
    make_workspace: Callable[..., Workspace], tmp_path: Path
) -> None:
    from penstock.operators.features import StageFeatureTableOperator

    new = open_shop(make_workspace, tmp_path)
    add_orders(new, ["2024-01-02"])
    operator = StageFeatureTableOperator(task_id="stage", project=SHOP, table="store_daily")
    batch = operator.run(new.workspace, REACHED, {"params": {"backfill": "store_daily"}})
    assert (batch.rows, batch.why) == (2, "the table is new")
