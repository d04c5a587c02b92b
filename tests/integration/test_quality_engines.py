"""Both engines of Great Expectations judge the same batch the same: verdicts, counts, keys and values."""

import json
from collections.abc import Callable
from datetime import UTC, date, datetime
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from penstock.gates import Outcome
from penstock.quality.findings import examine_pandas
from penstock.quality.narrowing import Part
from penstock.quality.suite import load_suite
from penstock.quality.validation import Engine, validate_batch
from penstock.spec.project import Column
from penstock.workspace import Workspace

KEYS = ["id"]
COLUMNS = {
    "id": Column(type="int"), "code": Column(type="string"), "text": Column(type="string"),
    "low": Column(type="double"), "high": Column(type="double"), "whole": Column(type="int"),
    "big": Column(type="bigint"), "begin": Column(type="timestamp"), "end": Column(type="timestamp"),
    "flag": Column(type="boolean"), "day": Column(type="date"),
}  # fmt: skip


def batch() -> pd.DataFrame:
    """Forty rows, some of them bad in many ways, with nulls, NaN, empty texts and values at the bounds."""
    rows = 40
    begin = pd.date_range("2013-01-01", periods=rows, freq="h", tz="UTC").as_unit("us")
    frame = pd.DataFrame(
        {
            "id": pd.array(range(rows), dtype="Int32"),
            "code": ["AA", "BB", "CC", "DD"] * 10,
            "text": [f"t{n:03}" for n in range(rows)],
            "low": [float(n % 7) for n in range(rows)],
            "high": [float(n % 7) + 2 for n in range(rows)],
            "whole": pd.array([n % 10 for n in range(rows)], dtype="Int32"),
            "big": pd.array([2**53 + n for n in range(rows)], dtype="Int64"),
            "begin": begin,
            "end": begin + pd.Timedelta(hours=1),
            "flag": pd.array([True, False] * 20, dtype="boolean"),
            "day": [moment.date() for moment in begin],
        }
    )
    frame.loc[1, ["code", "text"]] = ["", "not that"]
    frame.loc[2, ["low", "high"]] = [99.5, -3.0]
    frame.loc[3, ["low", "whole"]] = None
    frame.loc[4, ["code", "text", "high", "begin", "flag", "day"]] = None
    frame.loc[5, "code"] = "X\n"
    frame.loc[6, ["begin", "end"]] = [frame.loc[6, "end"], frame.loc[6, "begin"]]
    frame.loc[7, "whole"] = -1
    frame.loc[8, ["text", "big"]] = ["ÄÖ1", 5]
    frame.loc[9, "low"] = frame.loc[9, "high"]
    frame.loc[10, "text"] = "t011"
    frame.loc[11, "low"] = float("inf")
    return frame


ROW_LEVEL = [
    ("expect_column_values_to_be_between", {"column": "low", "min_value": 0, "max_value": 6}),
    ("expect_column_values_to_be_between", {"column": "low", "min_value": 0, "max_value": 6, "strict_min": True}),
    ("expect_column_values_to_be_between", {"column": "whole", "max_value": 9, "strict_max": True}),
    ("expect_column_values_to_be_between", {"column": "big", "min_value": 2**53}),
    ("expect_column_values_to_be_between", {"column": "begin", "min_value": "2013-01-01T02:00:00Z"}),
    ("expect_column_values_to_be_between", {"column": "begin", "max_value": "2013-01-02"}),
    ("expect_column_values_to_be_between", {"column": "begin", "min_value": date(2013, 1, 2)}),
    ("expect_column_values_to_be_between", {"column": "begin", "max_value": datetime(2013, 1, 1, 20, tzinfo=UTC)}),
    ("expect_column_values_to_be_between", {"column": "day", "min_value": date(2013, 1, 2)}),
    ("expect_column_values_to_be_between", {"column": "day", "max_value": "2013-01-01"}),
    ("expect_column_values_to_not_be_null", {"column": "low"}),
    ("expect_column_values_to_not_be_null", {"column": "code"}),
    ("expect_column_values_to_not_be_null", {"column": "begin"}),
    ("expect_column_values_to_be_null", {"column": "flag"}),
    ("expect_column_values_to_be_in_set", {"column": "code", "value_set": ["AA", "BB", "CC", "DD"]}),
    ("expect_column_values_to_be_in_set", {"column": "whole", "value_set": list(range(10))}),
    ("expect_column_values_to_be_in_set", {"column": "flag", "value_set": [True]}),
    ("expect_column_values_to_not_be_in_set", {"column": "code", "value_set": ["", "DD"]}),
    ("expect_column_values_to_match_regex", {"column": "code", "regex": "^[A-Z]{2}$"}),
    ("expect_column_values_to_match_regex", {"column": "text", "regex": r"^t\d{3}$"}),
    ("expect_column_values_to_not_match_regex", {"column": "text", "regex": "that|9"}),
    ("expect_column_values_to_match_regex_list", {"column": "text", "regex_list": ["^t0", "^t1"]}),
    ("expect_column_value_lengths_to_equal", {"column": "code", "value": 2}),
    ("expect_column_value_lengths_to_be_between", {"column": "text", "min_value": 4, "max_value": 5}),
    ("expect_column_values_to_be_unique", {"column": "text"}),
    ("expect_compound_columns_to_be_unique", {"column_list": ["code", "text"]}),
    ("expect_select_column_values_to_be_unique_within_record", {"column_list": ["low", "high"]}),
    ("expect_multicolumn_sum_to_equal", {"column_list": ["low", "high"], "sum_total": 4}),
    ("expect_column_pair_values_a_to_be_greater_than_b", {"column_A": "high", "column_B": "low"}),
    ("expect_column_pair_values_a_to_be_greater_than_b", {"column_A": "high", "column_B": "low", "or_equal": True}),
    ("expect_column_pair_values_a_to_be_greater_than_b", {"column_A": "end", "column_B": "begin"}),
    ("expect_column_pair_values_to_be_equal", {"column_A": "low", "column_B": "high"}),
    ("expect_column_values_to_be_between", {"column": "low", "min_value": 0, "max_value": 6, "mostly": 0.9}),
    ("expect_column_values_to_be_between", {"column": "low", "min_value": 0, "max_value": 6, "mostly": 0.99}),
    ("expect_column_values_to_not_be_null", {"column": "low", "mostly": 0.975}),
    ("expect_column_values_to_match_regex", {"column": "code", "regex": "^[A-Z]{2}$", "mostly": 0.5}),
]
TABLE_LEVEL = [
    ("expect_table_row_count_to_be_between", {"min_value": 1, "max_value": 39}),
    ("expect_table_row_count_to_equal", {"value": 40}),
    ("expect_table_column_count_to_equal", {"value": 11}),
    ("expect_column_to_exist", {"column": "low"}),
    ("expect_column_max_to_be_between", {"column": "whole", "max_value": 8}),
    ("expect_column_min_to_be_between", {"column": "whole", "min_value": -1}),
    ("expect_column_mean_to_be_between", {"column": "whole", "min_value": 4, "max_value": 5}),
    ("expect_column_sum_to_be_between", {"column": "whole", "min_value": 1000}),
    ("expect_column_distinct_values_to_be_in_set", {"column": "whole", "value_set": list(range(-1, 10))}),
    ("expect_column_unique_value_count_to_be_between", {"column": "code", "max_value": 4}),
    (
        "expect_column_proportion_of_non_null_values_to_be_between",
        {"column": "code", "min_value": 0.975, "max_value": 1.0},
    ),
]


@pytest.fixture
def suite(tmp_path: Path):
    def make(expectations: list, **fields):
        items = [
            {"type": kind, "kwargs": kwargs, "severity": severity, **fields}
            for severity in ("warning", "critical")
            for kind, kwargs in expectations
        ]
        path = tmp_path / "suite.yaml"
        path.write_text(yaml.safe_dump({"expectations": items}), encoding="utf-8")
        return load_suite(path)

    return make


def comparable(result):
    """What a person reads of a verdict, and every bad row with its reasons, without an order."""
    checks = [
        (check.name, check.outcome, check.evidence.get("kwargs"), check.evidence.get("unexpected_count"))
        for check in result.verdict.checks
    ]
    return checks, sorted(json.dumps([bad.keys, bad.row, bad.reasons], sort_keys=True) for bad in result.bad_rows)


def both(make_workspace: Callable[..., Workspace], frame: pd.DataFrame, suite):
    """The batch's results by pandas and by Spark."""
    with make_workspace().spark() as spark:
        types = ", ".join(f"{name} {column.type}" for name, column in COLUMNS.items())
        remote = spark.createDataFrame(frame.astype(object).where(frame.notna(), None), types)
        return [validate_batch(remote, suite, KEYS, "batch", COLUMNS, engine) for engine in Engine]


@pytest.mark.parametrize(
    ("fields", "narrowed"), [({}, False), ({"within_mostly": "quarantine"}, True)], ids=["library", "suspects"]
)
def test_row_level_expectations_give_the_same_by_both_engines(make_workspace, monkeypatch, suite, fields, narrowed):
    if not narrowed:
        monkeypatch.setattr("penstock.quality.batches.examine_suspects", lambda *_: {})
    by_pandas, by_spark = both(make_workspace, batch(), suite(ROW_LEVEL, **fields))
    assert (by_pandas.engine, by_spark.engine) == (Engine.PANDAS, Engine.SPARK)
    problems = [check.detail for check in by_spark.verdict.checks if "problem" in check.evidence]
    assert not problems
    found, expected = comparable(by_spark), comparable(by_pandas)
    for mine, other in zip(found[0], expected[0], strict=True):
        assert mine == other
    assert found[1] == expected[1]
    assert {check.outcome for check in by_pandas.verdict.checks} == set(Outcome)


def test_table_level_expectations_give_the_same_by_both_engines(make_workspace, suite):
    by_pandas, by_spark = both(make_workspace, batch(), suite(TABLE_LEVEL))
    assert comparable(by_spark) == comparable(by_pandas)
    assert {check.outcome for check in by_pandas.verdict.checks} == set(Outcome)
    assert not [check for check in by_pandas.verdict.checks if "problem" in check.evidence]


def test_a_batch_without_bad_rows_passes_by_both_engines(make_workspace, suite):
    good = batch().drop(index=range(12)).reset_index(drop=True)
    rules = [
        ("expect_column_values_to_be_between", {"column": "low", "min_value": 0, "max_value": 6}),
        ("expect_column_values_to_match_regex", {"column": "code", "regex": "^[A-D]{2}$"}),
        ("expect_column_values_to_not_be_null", {"column": "flag"}),
    ]
    for result in both(make_workspace, good, suite(rules)):
        assert {check.outcome for check in result.verdict.checks} == {Outcome.PASS}
        assert result.bad_rows == ()


@pytest.mark.parametrize("seed", range(5))
def test_what_pandas_is_spared_changes_no_finding(monkeypatch, suite, seed):
    rng = np.random.default_rng(seed)
    frame = batch()
    for name in frame.columns:  # any value of a column, nulls too, in any row
        frame[name] = frame[name].iloc[rng.integers(0, len(frame), len(frame))].reset_index(drop=True)
    expectations = suite([*ROW_LEVEL, *TABLE_LEVEL]).expectations
    spared = examine_pandas(frame, expectations)
    whole = Part(tuple(range(len(expectations))), frame, lambda bad: bad)
    monkeypatch.setattr("penstock.quality.findings.parts", lambda *_: iter([whole]))
    for mine, other in zip(spared, examine_pandas(frame, expectations), strict=True):
        assert (mine.held, mine.unexpected, mine.problem) == (other.held, other.unexpected, other.problem), mine
