"""What a refresh and a backfill plan: ranges of event times, pieces, and which definition a table has."""

from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml

from penstock.clock import parse_as_of
from penstock.errors import GateError, SpecError
from penstock.features.backfill import BackfillRequest, Piece, parse_request, plan_pieces, resume
from penstock.features.definition import definition_hash, what_changed
from penstock.features.time_ranges import Offset, TimeRange, column_condition, offset_of, ranges_of
from penstock.lakehouse.records import BackfillProgress, CommitRecord
from penstock.spec.loading import LoadedProject, load_project
from tests.integration.shop import STORE_DAILY, declaration

DAY, NONE = timedelta(days=1), timedelta(0)
MONTHS = {parse_as_of(f"2024-{month:02}-01"): 10 for month in range(1, 7)}
REACHED = parse_as_of("2024-06-20")


def at(text: str) -> datetime:
    return parse_as_of(text)


@pytest.mark.parametrize(
    ("expression", "offset"),
    [
        ("at", Offset("at", "", NONE, NONE)),
        ("date_trunc('DAY', at) + INTERVAL 1 DAY", Offset("at", "", NONE, DAY)),
        ("date_trunc('DAY', orders.at) + INTERVAL 1 DAY", Offset("at", "orders", NONE, DAY)),
        ("(`at` - INTERVAL '2' HOURS)", Offset("at", "", timedelta(hours=-2), timedelta(hours=-2))),
        ("at + INTERVAL 1 MONTH", Offset("at", "", timedelta(days=28), timedelta(days=31))),
        ("at - INTERVAL 1 MONTH", Offset("at", "", timedelta(days=-31), timedelta(days=-28))),
        ("greatest(at, known_at)", None),
        ("at + INTERVAL 1 DAY + gap", None),
        ("from_unixtime(seconds)", None),
    ],
)
def test_how_far_an_expression_is_from_its_column(expression: str, offset: Offset | None) -> None:
    assert offset_of(expression) == offset


def test_a_range_of_event_times_is_one_of_the_column_that_holds_every_row() -> None:
    condition = column_condition("date_trunc('DAY', at) + INTERVAL 1 DAY", [TimeRange(at("2024-01-05"), None)])
    assert condition == "(`at` >= TIMESTAMP '2024-01-04T00:00:00Z')"
    assert column_condition("greatest(a, b)", [TimeRange(None, None)]) is None


def test_many_moments_become_a_few_ranges_at_the_widest_gaps() -> None:
    days = [at("2024-01-01") + n * DAY for n in range(40)]
    assert ranges_of(days) == [TimeRange(days[0], days[-1])]
    found = ranges_of([*days[:5], *days[20:25], days[-1]])
    assert found == [TimeRange(days[0], days[4]), TimeRange(days[20], days[24]), TimeRange(days[-1], days[-1])]
    scattered = days[::8]
    assert len(ranges_of(scattered)) == 4
    assert all(any(part.first <= day <= part.last for part in ranges_of(scattered)) for day in scattered)
    assert ranges_of([]) == []


def test_pieces_are_whole_months_within_the_bound_and_leave_no_gap() -> None:
    pieces = plan_pieces(MONTHS, BackfillProgress("d"), REACHED, 25)
    assert pieces == [
        Piece(None, at("2024-03-01")), Piece(at("2024-03-01"), at("2024-05-01")), Piece(at("2024-05-01"), REACHED),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("progress", "pieces"),
    [
        (BackfillProgress("d", done_until="2024-05-01"), [Piece(at("2024-05-01"), REACHED)]),
        (BackfillProgress("d", "2024-02-10", "2024-03-10"), [Piece(at("2024-02-10"), at("2024-03-10"))]),
        (BackfillProgress("d", until="2024-08-01", done_until="2024-06-20"), [Piece(REACHED, REACHED)]),
    ],
)
def test_pieces_go_on_where_it_stopped_and_stay_in_the_range(progress: BackfillProgress, pieces: list[Piece]) -> None:
    assert plan_pieces(MONTHS, progress, REACHED, 25) == pieces


def test_a_month_larger_than_the_bound_is_a_piece() -> None:
    assert len(plan_pieces(MONTHS, BackfillProgress("d"), REACHED, 1)) == 6


@pytest.mark.parametrize(
    ("begun", "goes_on"),
    [
        (BackfillProgress("new", done_until="2024-03-01T00:00:00Z"), True),
        (BackfillProgress("new", done_until="2024-03-01T00:00:00Z", finished=True), False),
        (BackfillProgress("other", done_until="2024-03-01T00:00:00Z"), False),
        (BackfillProgress("new", start="2024-01-01T00:00:00Z", done_until="2024-03-01T00:00:00Z"), False),
        (None, False),
    ],
)
def test_only_an_unfinished_backfill_of_the_same_is_resumed(begun: BackfillProgress | None, goes_on: bool) -> None:
    last = CommitRecord("2024-06-20", backfill=begun)
    assert (resume(last, "new", BackfillRequest(("t",))) == begun) is goes_on
    assert CommitRecord.from_json(last.to_json()) == last


def test_the_parameters_of_a_backfill() -> None:
    request = parse_request("a, b,a", "2024-01-01", None)
    assert request == BackfillRequest(("a", "b"), at("2024-01-01"), None)
    assert parse_request(["a"], None, None) == BackfillRequest(("a",))
    assert parse_request(" ", None, None) is None


@pytest.mark.parametrize(
    ("tables", "start", "until", "message"),
    [
        (None, "2024-01-01", None, "need backfill"),
        ("a", "2024-02-01", "2024-01-01", "backfill_from 2024-02-01T00:00:00Z is not before"),
    ],
)
def test_wrong_parameters_of_a_backfill_are_refused(
    tables: str | None, start: str, until: str | None, message: str
) -> None:
    with pytest.raises(SpecError, match=message):
        parse_request(tables, start, until)


def test_records_of_an_older_penstock_are_read() -> None:
    old = '{"penstock": {"as_of": "2024-01-01T00:00:00Z", "inputs": {"orders": 3}, "definition": "0123"}}'
    record = CommitRecord.from_json(old)
    assert record is not None
    assert (record.input_ids, record.batch, record.backfill) == ({}, None, None)


@pytest.fixture
def project(tmp_path: Path) -> LoadedProject:
    return declare(tmp_path, declaration(), STORE_DAILY)


def declare(folder: Path, spec: dict[str, Any], sql: str) -> LoadedProject:
    place = folder / "include/projects/shop"
    place.mkdir(parents=True, exist_ok=True)
    (place / "project.yaml").write_text(yaml.safe_dump(spec, sort_keys=False))
    (place / "store_daily.sql").write_text(sql)
    (place / "region_daily.sql").write_text("SELECT region, event_time, total FROM orders JOIN stores USING (store)")
    return load_project(folder, "shop")


def test_columns_that_were_only_added_are_told_from_a_changed_transformation(
    project: LoadedProject, tmp_path: Path
) -> None:
    before = project.spec.feature_tables["store_daily"]
    last = CommitRecord("2024-01-01", definition=definition_hash(project, before))
    stored = list(before.columns)
    assert what_changed(project, "store_daily", before, last, stored) is None

    spec = declaration()
    spec["feature_tables"]["store_daily"]["columns"]["greatest"] = "double"
    for sql, is_addition in (
        (STORE_DAILY.replace("count(*)", "max(amount) AS greatest, count(*)"), True),
        (STORE_DAILY.replace("count(*)", "max(amount) AS greatest, count(*) + 1"), False),
    ):
        changed = declare(tmp_path, spec, sql)
        table = changed.spec.feature_tables["store_daily"]
        if is_addition:
            assert "greatest" in str(what_changed(changed, "store_daily", table, last, stored))
        else:
            with pytest.raises(GateError, match="store_daily.sql"):
                what_changed(changed, "store_daily", table, last, stored)


@pytest.mark.parametrize(
    ("of_another", "done_until", "finished", "is_mixed"),
    [
        (True, "2024-03-01T00:00:00Z", False, True),
        (True, "2024-03-01T00:00:00Z", True, False),
        (True, None, False, False),
        (False, "2024-03-01T00:00:00Z", False, False),
    ],
    ids=["taken back half-way", "settled", "nothing done", "of today's definition"],
)
def test_a_definition_taken_back_half_way_through_a_backfill_is_a_change(
    project: LoadedProject, of_another: bool, done_until: str | None, finished: bool, is_mixed: bool
) -> None:
    table = project.spec.feature_tables["store_daily"]
    present = definition_hash(project, table)
    begun = BackfillProgress("2:other" if of_another else present, done_until=done_until, finished=finished)
    last = CommitRecord("2024-06-20", definition=present, backfill=begun)
    why = what_changed(project, "store_daily", table, last, list(table.columns))
    assert (why is not None and "come to 2024-03-01" in why) if is_mixed else why is None


def test_descriptions_layout_and_comments_are_no_change(project: LoadedProject, tmp_path: Path) -> None:
    before = definition_hash(project, project.spec.feature_tables["store_daily"])
    spec = declaration()
    spec["feature_tables"]["store_daily"]["columns"]["total"] = {"type": "double", "description": "in euros"}
    same = declare(tmp_path, spec, "-- of a day\n" + STORE_DAILY.replace(", ", ",\n   "))
    assert definition_hash(same, same.spec.feature_tables["store_daily"]) == before
