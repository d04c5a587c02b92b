"""What a refresh and a backfill plan: ranges of event times, pieces, and which definition a table has."""

from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml

from penstock.clock import parse_as_of
from penstock.errors import GateError, SpecError
from penstock.features.backfill import BackfillRequest, done_before, parse_request
from penstock.features.definition import definition_hash, definition_sources, what_changed
from penstock.features.pieces import Piece, covered, covered_texts, merged, plan_pieces, remaining
from penstock.features.time_ranges import Offset, TimeRange, column_condition, offset_of, ranges_of
from penstock.lakehouse.records import BackfillProgress, CommitRecord
from penstock.spec.loading import LoadedProject, load_project
from tests.integration.shop import STORE_DAILY, declaration

DAY, NONE = timedelta(days=1), timedelta(0)
DAYS = {parse_as_of(f"2024-{day}"): 10 for day in ("01-01", "01-02", "01-03", "02-11", "03-01", "06-20")}
REACHED = parse_as_of("2024-06-20")


Days = tuple[int | None, int]


def at(text: str) -> datetime:
    return parse_as_of(text)


def january(days: Days) -> Piece:
    first, last = days
    return Piece(at(f"2024-01-{first:02}") if first is not None else None, at(f"2024-01-{last:02}"))


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


def test_pieces_are_whole_days_within_the_bounds_and_leave_no_gap() -> None:
    whole = [Piece(None, REACHED)]
    assert plan_pieces(DAYS, whole, 25) == [
        Piece(None, at("2024-01-02")), Piece(at("2024-01-02"), at("2024-02-11")), Piece(at("2024-02-11"), REACHED),
    ]  # fmt: skip
    assert plan_pieces(DAYS, whole, 100, 2 * DAY) == [
        Piece(None, at("2024-01-02")), Piece(at("2024-01-02"), at("2024-01-03")),
        Piece(at("2024-01-03"), at("2024-02-11")), Piece(at("2024-02-11"), at("2024-03-01")),
        Piece(at("2024-03-01"), REACHED),
    ]  # fmt: skip
    assert len(plan_pieces(DAYS, whole, 1)) == 6  # a day is a piece, however large
    assert plan_pieces(DAYS, [Piece(at("2024-01-01"), at("2024-01-03T12:00"))], 10) == [
        Piece(at("2024-01-01"), at("2024-01-02")), Piece(at("2024-01-02"), at("2024-01-03T12:00")),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("whole", "done", "left"),
    [
        ((None, 9), [], [(None, 9)]),
        ((None, 9), [(None, 4)], [(4, 9)]),
        ((None, 9), [(6, 9), (None, 4), (3, 5)], [(5, 6)]),
        ((None, 9), [(2, 4)], [(None, 2), (4, 9)]),
        ((None, 9), [(4, 9), (None, 4)], []),
        ((3, 9), [(None, 2)], [(3, 9)]),
        ((3, 9), [(None, 5), (8, 12)], [(5, 8)]),
        ((3, 5), [(6, 9)], [(3, 5)]),
        ((3, 5), [(2, 9)], []),
    ],
)
def test_what_is_left_of_a_range(whole: Days, done: list[Days], left: list[Days]) -> None:
    assert remaining(january(whole), map(january, done)) == [january(part) for part in left]
    assert covered(BackfillProgress("d", covered=covered_texts(merged(map(january, done))))) == merged(
        map(january, done)
    )


@pytest.mark.parametrize(
    ("begun", "goes_on"),
    [
        (BackfillProgress("new", done_until="2024-03-01T00:00:00Z"), True),
        (BackfillProgress("new", done_until="2024-03-01T00:00:00Z", finished=True), False),
        (BackfillProgress("other", done_until="2024-03-01T00:00:00Z"), False),
        (None, False),
    ],
)
def test_what_an_unfinished_backfill_of_the_same_definition_has_done_is_not_computed_again(
    begun: BackfillProgress | None, goes_on: bool
) -> None:
    last = CommitRecord("2024-06-20", definition="old", backfill=begun)
    done = [Piece(None, at("2024-03-01"))] if goes_on else []
    assert done_before(last, "new", BackfillRequest(("t",))) == done
    assert done_before(last, "new", BackfillRequest(("t",), at("2024-02-01"))) == done
    repair = CommitRecord("2024-06-20", definition="new", backfill=begun)
    assert done_before(repair, "new", BackfillRequest(("t",))) == done
    assert done_before(repair, "new", BackfillRequest(("t",), at("2024-02-01"))) == []
    assert CommitRecord.from_json(last.to_json()) == last


def test_the_parameters_of_a_backfill() -> None:
    request = parse_request("a, b,a", "2024-01-01", None)
    assert request == BackfillRequest(("a", "b"), at("2024-01-01"), None)
    assert parse_request(["a"], None, None, "1w") == BackfillRequest(("a",), longest=timedelta(days=7))
    assert parse_request(" ", None, None) is None


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        ((None, "2024-01-01", None), "need backfill"),
        ((None, None, None, "7d"), "need backfill"),
        (("a", "2024-02-01", "2024-01-01"), "backfill_from 2024-02-01T00:00:00Z is not before"),
        (("a", None, None, "a week"), "backfill_piece: 'a week' is no duration"),
        (("a", None, None, "6h"), "backfill_piece: 6h is shorter than a day"),
    ],
)
def test_wrong_parameters_of_a_backfill_are_refused(request_: tuple[Any, ...], message: str) -> None:
    with pytest.raises(SpecError, match=message):
        parse_request(*request_)


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


def test_a_change_in_a_module_that_the_function_imports_is_noticed_and_named(tmp_path: Path) -> None:
    spec = declaration()
    del spec["feature_tables"]["store_daily"]["sql"]
    spec["feature_tables"]["store_daily"]["function"] = "features.daily.transform"
    place = tmp_path / "include/projects/shop"
    (place / "features").mkdir(parents=True)
    (place / "features/daily.py").write_text("from .sums import total\n\ndef transform(inputs): ...\n")
    (place / "features/sums.py").write_text("from ..units import EURO\n\ntotal = EURO\n")
    (place / "units.py").write_text("EURO = 1\n")
    project = declare(tmp_path, spec, STORE_DAILY)
    table = project.spec.feature_tables["store_daily"]
    made_by, stored = definition_sources(project, table), list(table.columns)
    assert set(made_by) == {"features/daily.py", "features/sums.py", "units.py"}
    last = CommitRecord("2024-01-01", definition=definition_hash(project, table), sources=made_by)
    assert what_changed(project, "store_daily", table, last, stored) is None

    (place / "other.py").write_text("EURO = 2\n")
    assert what_changed(project, "store_daily", table, last, stored) is None
    (place / "units.py").write_text("EURO = 100\n")
    with pytest.raises(GateError, match=r"its definition \(changed: units\.py\) is not the one"):
        what_changed(project, "store_daily", table, last, stored)

    keys = table.model_copy(update={"primary_keys": ["store", "orders"]})
    (place / "units.py").write_text("EURO = 1\n")
    with pytest.raises(GateError, match=r"\(changed: its declaration in project\.yaml\)"):
        what_changed(project, "store_daily", keys, last, stored)


def test_a_digest_of_before_imported_modules_counted_is_no_change_of_the_definition(tmp_path: Path) -> None:
    spec = declaration()
    del spec["feature_tables"]["store_daily"]["sql"]
    spec["feature_tables"]["store_daily"]["function"] = "daily.transform"
    project = declare(tmp_path, spec, STORE_DAILY)
    (project.folder / "daily.py").write_text("from .units import EURO\n")
    table = project.spec.feature_tables["store_daily"]
    of_before = CommitRecord("2024-01-01", definition=definition_hash(project, table))  # as there was no units.py
    (project.folder / "units.py").write_text("EURO = 1\n")
    assert definition_hash(project, table) != of_before.definition
    why = what_changed(project, "store_daily", table, of_before, list(table.columns))
    assert why is not None
    assert "an older Penstock wrote it" in why


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
