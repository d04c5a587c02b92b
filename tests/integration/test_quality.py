"""The data-quality gate with real Great Expectations, on pandas and on a Spark Connect server."""

import json
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from penstock.errors import GateError
from penstock.gates import Outcome
from penstock.lakehouse.small_tables import version
from penstock.quality.gate import check_batch
from penstock.quality.quarantine import quarantine_rows, read_quarantine
from penstock.quality.report import latest_failure, latest_verdict, open_failures, to_html, write_report
from penstock.quality.suite import load_suite
from penstock.quality.validation import Engine, good_rows, validate_batch
from penstock.spec.functions import load_function
from penstock.spec.project import Column
from penstock.workspace import Workspace

PROJECT = "aviation"
AS_OF = datetime(2013, 5, 1, tzinfo=UTC)
KEYS = ["station", "hour"]
COLUMNS = {
    "station": Column(type="string"), "hour": Column(type="timestamp"), "temp": Column(type="double"),
    "low": Column(type="double"), "count": Column(type="int"), "known_at": Column(type="timestamp"),
}  # fmt: skip
SUITE = """
expectations:
  - {type: expect_column_values_to_be_between, kwargs: {column: temp, min_value: -30, max_value: 120}, severity: warning, description: Degrees.}
  - {type: expect_column_pair_values_a_to_be_greater_than_b, kwargs: {column_A: temp, column_B: low, or_equal: true}, severity: warning}
  - {type: expect_column_pair_values_a_to_be_greater_than_b, kwargs: {column_A: known_at, column_B: hour}, severity: warning}
  - {type: expect_column_values_to_not_be_null, kwargs: {column: count}, severity: warning}
  - {type: expect_column_values_to_match_regex, kwargs: {column: station, regex: "^S[0-9]$"}, severity: warning}
"""  # noqa: E501
KNOWN_BEFORE = """
  - {type: expect_column_values_to_be_between, kwargs: {column: known_at, max_value: 2020-01-01}, severity: warning}
  - {type: expect_table_columns_to_match_set, kwargs: {column_set: [station, hour, temp, low, count, known_at]}}
"""
CRITICAL = "  - {type: expect_column_values_to_be_between, kwargs: {column: count, min_value: 0}}\n"
ROW_COUNT = "  - {type: expect_table_row_count_to_be_between, kwargs: {min_value: 1}}\n"


@pytest.fixture
def suite(tmp_path: Path):
    def make(text: str = SUITE):
        path = tmp_path / "suite.yaml"
        path.write_text(text, encoding="utf-8")
        return load_suite(path)

    return make


@pytest.fixture
def workspace(repository: Path, tmp_path: Path) -> Workspace:
    """A workspace without services: quality needs none for pandas batches."""
    found = Workspace.open("dev", repository)
    place = found.environment.lakehouse.model_copy(update={"root": str(tmp_path / "lakehouse")})
    return found.with_(environment=found.environment.model_copy(update={"lakehouse": place}))


def readings(rows: int = 600) -> pd.DataFrame:
    """Good readings; `count` is an int column with nulls to come, so it is nullable."""
    rng = np.random.default_rng(3)
    hours = pd.date_range("2013-01-01", periods=rows // 3, freq="h", tz="UTC").as_unit("us")
    frame = pd.MultiIndex.from_product([["S1", "S2", "S3"], hours], names=KEYS).to_frame(index=False)
    frame["temp"] = rng.uniform(0, 100, rows)
    frame["low"] = frame["temp"] - 5
    frame["count"] = pd.array(rng.integers(1, 9, rows), dtype="Int32")
    frame["known_at"] = frame["hour"] + timedelta(hours=1)
    return frame


def corrupt(frame: pd.DataFrame) -> dict[int, set[str]]:
    """Breaks rows in every way; answers the expectations' columns that each row must fail."""
    frame.loc[3, "temp"] = 999.0
    frame.loc[5, "temp"] = -99.0  # also below `low`
    frame.loc[7, "temp"] = np.nan  # a null is no number out of bounds
    frame.loc[9, "count"] = None
    frame.loc[11, "known_at"] = frame.loc[11, "hour"]
    frame.loc[13, "station"] = "X"
    frame.loc[15, "station"] = None
    frame.loc[17, "hour"] = pd.NaT
    frame.loc[19, ["temp", "count"]] = [500.0, None]
    frame.loc[19, "station"] = None
    return {
        3: {"temp"}, 5: {"temp", "temp, low"}, 9: {"count"}, 11: {"known_at, hour"}, 13: {"station"},
        15: {"station"}, 17: {"hour"}, 19: {"station", "temp", "count"},
    }  # fmt: skip


def test_good_rows_pass_and_exactly_the_corrupted_are_bad_with_every_reason(suite):
    frame = readings()
    assert validate_batch(frame, suite(), KEYS, "readings", COLUMNS).verdict.outcome is Outcome.PASS
    expected = corrupt(frame)
    result = validate_batch(frame, suite(), KEYS, "readings", COLUMNS)
    assert result.verdict.gate == "data_quality"
    assert result.verdict.outcome is Outcome.WARN
    assert {bad.position: {reason["column"] for reason in bad.reasons} for bad in result.bad_rows} == expected
    assert (result.good_count, result.bad_count) == (592, 8)
    worst = next(bad for bad in result.bad_rows if bad.position == 3)
    assert worst.keys == {"station": "S1", "hour": "2013-01-01T03:00:00Z"}
    assert worst.reasons == (
        {
            "expectation": "expect_column_values_to_be_between", "column": "temp", "value": 999.0,
            "kwargs": {"column": "temp", "min_value": -30, "max_value": 120}, "severity": "warning",
        },
    )  # fmt: skip
    kept = good_rows(frame, result, KEYS)
    assert sorted(set(frame.index) - set(kept.index)) == sorted(expected)


def test_a_batch_keeps_the_index_that_it_came_with(suite):
    frame = readings().set_index(pd.RangeIndex(1000, 1600))
    frame.loc[1003, "temp"] = 999.0
    result = validate_batch(frame, suite(), KEYS, "readings", COLUMNS)
    assert 1003 not in good_rows(frame, result, KEYS).index
    assert len(good_rows(frame, result, KEYS)) == 599


@pytest.fixture(params=["UTC", "America/New_York"])
def zone(request, monkeypatch) -> Iterator[None]:
    """This machine's time zone, in which Spark hands out timestamps."""
    monkeypatch.setenv("TZ", request.param)
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.mark.usefixtures("zone")
def test_both_engines_give_the_same_verdict_and_the_same_bad_rows(suite, make_workspace: Callable[..., Workspace]):
    frame = readings()
    # Row 15, which has no station, is at 06:00 UTC on the day when New York puts its clocks back: 1:00 again.
    frame[["hour", "known_at"]] += pd.Timestamp("2013-11-03T06:00") - pd.Timestamp("2013-01-01T15:00")
    corrupt(frame)
    frame.loc[215, "known_at"] = pd.Timestamp("2024-01-01", tz="UTC")  # the same hour, for the library to find
    checks = suite(SUITE + KNOWN_BEFORE)
    by_pandas = validate_batch(frame, checks, KEYS, "readings", COLUMNS)
    with make_workspace().spark() as spark:
        types = ", ".join(f"{name} {column.type}" for name, column in COLUMNS.items())
        remote = spark.createDataFrame(frame.astype(object).where(frame.notna(), None), types)
        by_spark = validate_batch(remote, checks, KEYS, "readings", COLUMNS, Engine.SPARK)
        small = validate_batch(remote, checks, KEYS, "readings", COLUMNS)
        left = good_rows(remote, by_spark, KEYS).count()
    assert (by_spark.engine, small.engine) == (Engine.SPARK, Engine.PANDAS)
    shape = [(check.name, check.outcome) for check in by_pandas.verdict.checks]
    for other in (by_spark, small):
        assert [(check.name, check.outcome) for check in other.verdict.checks] == shape
        assert _comparable(other) == _comparable(by_pandas)
    assert left == by_pandas.good_count


def test_both_engines_stop_at_duplicate_keys_critical_failures_and_wrong_types(
    suite, make_workspace: Callable[..., Workspace]
):
    frame = readings()
    frame.loc[4, "count"] = -1
    frame = pd.concat([frame, frame.iloc[[10, 11]]], ignore_index=True)
    with make_workspace().spark() as spark:
        types = ", ".join(f"{name} {column.type}" for name, column in COLUMNS.items())
        remote = spark.createDataFrame(frame.astype(object).where(frame.notna(), None), types)
        results = [
            validate_batch(frame, suite(SUITE + CRITICAL), KEYS, "readings", COLUMNS),
            validate_batch(remote, suite(SUITE + CRITICAL), KEYS, "readings", COLUMNS, Engine.SPARK),
        ]
        texts = validate_batch(
            remote.withColumn("temp", remote.temp.cast("string")), suite(), KEYS, "readings", COLUMNS, Engine.SPARK
        )
        fewer = validate_batch(remote.drop("low"), suite(), KEYS, "readings", COLUMNS, Engine.SPARK)
    for result in results:
        failed = {check.name: check for check in result.verdict.checks if check.outcome is Outcome.FAIL}
        assert set(failed) == {"keys_unique", "expect_column_values_to_be_between(count)"}
        assert failed["keys_unique"].evidence["duplicates"] == 2
        assert "station=S1, hour=2013-01-01T10:00:00Z" in failed["keys_unique"].detail
        assert failed["expect_column_values_to_be_between(count)"].evidence["examples"] == [
            {"keys": {"station": "S1", "hour": "2013-01-01T04:00:00Z"}, "value": -1}
        ]
    assert "temp is declared as double but holds string" in texts.verdict.reason
    assert "lacks the declared column(s) low" in fewer.verdict.reason


def _comparable(result):
    return sorted(json.dumps([bad.keys, bad.row, bad.reasons], sort_keys=True) for bad in result.bad_rows)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda frame: frame.drop(columns=["temp", "low"]), r"lacks the declared column\(s\) temp, low"),
        (lambda frame: frame.assign(temp="warm"), r"temp is declared as double but holds object"),
        (lambda frame: frame.assign(hour=range(len(frame))), r"hour is declared as timestamp but holds int64"),
        (lambda frame: frame.assign(count=0.5), r"count is declared as int but holds float64"),
        (lambda frame: pd.concat([frame] * 2), r"600 key\(s\) occur more than once .* and 595 more"),
        (lambda frame: frame.drop(columns="hour"), r"lacks the declared column\(s\) hour"),
    ],
)
def test_what_breaks_the_declaration_stops_the_table(suite, change, said):
    result = validate_batch(change(readings()), suite(), KEYS, "readings", COLUMNS)
    assert not result.passed
    with pytest.raises(AssertionError, match=said):
        raise AssertionError(result.verdict.reason)


def test_an_empty_batch_passes_unless_rows_are_expected(suite):
    empty = readings().head(0)
    result = validate_batch(empty, suite(), KEYS, "readings", COLUMNS)
    assert (result.verdict.outcome, result.rows, result.bad_rows) == (Outcome.PASS, 0, ())
    assert not validate_batch(empty, suite(SUITE + ROW_COUNT), KEYS, "readings", COLUMNS).passed


def test_a_declaration_without_a_suite_is_checked_too():
    frame = readings()
    frame.loc[2, "station"] = None
    result = validate_batch(frame, None, KEYS, "readings", COLUMNS)
    assert [bad.position for bad in result.bad_rows] == [2]
    assert result.passed


def test_more_bad_rows_than_acceptable_stop_the_table(suite):
    frame = readings()
    frame.loc[:59, "temp"] = 999.0
    assert validate_batch(frame, suite("acceptable_bad_share: 0.1" + SUITE), KEYS, "readings", COLUMNS).passed
    frame.loc[60, "temp"] = 999.0
    result = validate_batch(frame, suite("acceptable_bad_share: 0.1" + SUITE), KEYS, "readings", COLUMNS)
    assert not result.passed
    assert "61 of 600 rows are bad (10.2%), more than the acceptable 10.0%" in result.verdict.reason


def test_rows_within_mostly_are_good(suite):
    frame = readings()
    frame.loc[:5, "temp"] = 999.0
    text = (
        "expectations:\n  - {type: expect_column_values_to_be_between, severity: warning, "
        "kwargs: {column: temp, max_value: 120, mostly: %s}}"
    )
    assert validate_batch(frame, suite(text % 0.95), KEYS, "readings", COLUMNS).bad_count == 0
    assert validate_batch(frame, suite(text % 0.999), KEYS, "readings", COLUMNS).bad_count == 6


@pytest.mark.parametrize("severity", ["warning", "critical"])
def test_rows_within_mostly_are_set_apart_where_the_suite_says_so(suite, severity):
    frame = readings()
    frame.loc[:5, "temp"] = 999.0
    text = (
        f"expectations:\n  - {{type: expect_column_values_to_be_between, severity: {severity}, "
        "within_mostly: quarantine, kwargs: {column: temp, max_value: 120, mostly: %s}}"
    )
    result = validate_batch(frame, suite(text % 0.95), KEYS, "readings", COLUMNS)
    assert (result.verdict.outcome, [bad.position for bad in result.bad_rows]) == (Outcome.WARN, [0, 1, 2, 3, 4, 5])
    beyond = validate_batch(frame, suite(text % 0.999), KEYS, "readings", COLUMNS)
    assert (beyond.bad_count, beyond.passed) == (6, severity == "warning")


def test_bounds_of_moments_may_be_days(suite):
    frame = readings()
    text = (
        "expectations:\n  - {type: expect_column_values_to_be_between, severity: warning, "
        "kwargs: {column: hour, min_value: 2013-01-01, max_value: 2013-01-02}}"
    )
    result = validate_batch(frame, suite(text), KEYS, "readings", COLUMNS)
    assert result.bad_count == 600 - 3 * 25
    assert json.loads(json.dumps(result.bad_rows[0].reasons))[0]["kwargs"]["min_value"] == "2013-01-01"


@pytest.mark.parametrize("severity", ["warning", "critical"])
def test_a_warning_about_the_table_as_a_whole_is_reported_and_a_critical_failure_stops_it(suite, severity):
    text = (
        f"expectations:\n  - {{type: expect_table_row_count_to_be_between, severity: {severity}, "
        "kwargs: {min_value: 1000}}"
    )
    result = validate_batch(readings(), suite(text), KEYS, "readings", COLUMNS)
    assert result.passed is (severity == "warning")
    assert result.bad_rows == ()
    assert "observed 600" in result.verdict.reason
    assert ("the batch goes on" if severity == "warning" else "the table stops") in result.verdict.reason


def test_an_expectation_that_cannot_be_evaluated_stops_the_table(suite):
    text = "expectations:\n  - {type: expect_column_values_to_be_null, severity: warning, kwargs: {column: nowhere}}"
    result = validate_batch(readings(), suite(text), KEYS, "readings", COLUMNS)
    assert not result.passed
    assert "could not be evaluated" in result.verdict.reason
    assert "nowhere" in result.verdict.reason


def test_one_expectation_twice_is_judged_twice(suite):
    line = "  - {type: expect_column_values_to_not_be_null, kwargs: {column: temp}, severity: %s}\n"
    frame = readings()
    frame.loc[1, "temp"] = np.nan
    found = suite("expectations:\n" + line % "warning" + line % "critical")
    result = validate_batch(frame, found, KEYS, "readings", COLUMNS)
    assert [check.outcome for check in result.verdict.checks[4:6]] == [Outcome.WARN, Outcome.FAIL]


def test_a_hundred_corrupted_rows_are_exactly_those_in_quarantine(workspace):
    project = workspace.project(PROJECT)
    source = project.spec.sources["weather"]
    frame = load_function(project, source.land)(None, AS_OF)
    chosen = np.random.default_rng(5).choice(len(frame), 100, replace=False)
    frame.loc[chosen[:50], "temp"] = 999.0
    frame.loc[chosen[50:80], "humid"] = -1.0
    frame.loc[chosen[80:], "time_hour"] = pd.NaT
    arguments = (workspace, project, "weather", frame, source.columns, source.primary_keys, source.expectations)
    for _ in range(2):  # again is the same
        good, quarantined = check_batch(*arguments, AS_OF)
        assert quarantined == 100
        assert sorted(set(frame.index) - set(good.index)) == sorted(chosen)
        rows = read_quarantine(workspace, PROJECT, "weather")
        assert len(rows) == 100
    assert set(rows["as_of"]) == {pd.Timestamp(AS_OF)}
    stored = [(json.loads(row)["temp"], json.loads(row)["known_at"]) for row in rows["row"]]
    moments = frame["known_at"].dt.strftime("%Y-%m-%dT%H:%M:%SZ")
    broken = [(None if np.isnan(t) else t, moments[place]) for place, t in frame.loc[chosen, "temp"].items()]
    assert sorted(stored, key=str) == sorted(broken, key=str)
    assert all(reason["expectation"] for reasons in rows["reasons"] for reason in json.loads(reasons))
    assert read_quarantine(workspace, PROJECT, "flights").empty


def test_a_critical_failure_stops_is_reported_and_closed_by_the_next_pass(workspace):
    project = workspace.project(PROJECT)
    source = project.spec.sources["weather"]
    frame = load_function(project, source.land)(None, datetime(2013, 1, 9, tzinfo=UTC))
    broken = frame.assign(origin=frame["origin"].where(frame.index != 5, "ORD"))
    rest = (source.columns, source.primary_keys, source.expectations)
    assert latest_failure(workspace, PROJECT) is None
    with pytest.raises(GateError, match=r"weather stops, .* fails for 1 of .*ORD at origin=ORD.*report: .*\.html"):
        check_batch(workspace, project, "weather", broken, *rest, AS_OF)
    assert read_quarantine(workspace, PROJECT).empty
    failure = latest_failure(workspace, PROJECT)
    assert failure is not None
    assert (failure.table, failure.as_of) == ("weather", "2013-05-01T00:00:00Z")
    assert "ORD" in Path(failure.report).read_text()
    assert open_failures(workspace, PROJECT, AS_OF - timedelta(days=1)) == []
    check_batch(workspace, project, "weather", frame, *rest, AS_OF + timedelta(days=1))
    assert latest_failure(workspace, PROJECT) is None
    assert latest_failure(workspace, PROJECT, AS_OF) == failure


def test_a_repeated_validation_replaces_its_report(workspace, suite):
    good, bad = readings(), readings().drop(columns="temp")
    for frame, outcome in ((bad, "fail"), (good, "pass")):
        result = validate_batch(frame, suite(), KEYS, "readings", COLUMNS)
        page = write_report(workspace, PROJECT, "readings", result, AS_OF)
        verdict = latest_verdict(workspace, PROJECT, "readings")
        assert verdict is not None
        assert (verdict["verdict"]["outcome"], verdict["report"]) == (outcome, page)
    assert len(list(Path(page).parent.iterdir())) == 2


def test_a_page_shows_verdict_and_rows_and_escapes_them(suite):
    frame = readings()
    frame.loc[3, "station"] = "<script>alert(1)</script>"
    page = to_html(validate_batch(frame, suite(), KEYS, "readings", COLUMNS), AS_OF)
    assert "readings: warn" in page
    assert "&lt;script&gt;" in page
    assert "<script" not in page
    assert "600 rows, 599 good, 1 bad" in page
    assert "None is in quarantine" not in page


def test_a_page_names_rows_as_quarantine_does(workspace, suite):
    frame = readings()
    frame.loc[3, "temp"] = 999.0
    result = validate_batch(frame, suite(), KEYS, "readings", COLUMNS)
    quarantine_rows(workspace, PROJECT, "readings", result.bad_rows, AS_OF)
    assert f"<td>{read_quarantine(workspace, PROJECT)['id'][0]}<td>station=S1" in to_html(result, AS_OF)


def test_rows_that_share_a_null_key_are_all_kept(workspace, suite):
    frame = readings()
    frame.loc[:2, "station"] = None
    frame.loc[:2, "hour"] = pd.NaT
    result = validate_batch(frame, suite(), KEYS, "readings", COLUMNS)
    for _ in range(2):
        quarantine_rows(workspace, PROJECT, "readings", result.bad_rows, AS_OF)
    rows = read_quarantine(workspace, PROJECT)
    assert len(rows) == 3
    assert sorted(json.loads(keys)["_occurrence"] for keys in rows["keys"]) == [1, 2, 3]


def test_nothing_bad_writes_nothing(workspace):
    assert quarantine_rows(workspace, PROJECT, "readings", (), AS_OF) is None
    assert read_quarantine(workspace, PROJECT).empty


def test_quarantine_answers_its_version(workspace, suite):
    frame = readings()
    frame.loc[1, "temp"] = 999.0
    bad = validate_batch(frame, suite(), KEYS, "readings", COLUMNS).bad_rows
    written = quarantine_rows(workspace, PROJECT, "readings", bad, AS_OF)
    assert written == version(workspace.addresses.readable(f"{PROJECT}.quarantine"))
