"""Suites of expectations: what is read, and what is said of a broken file."""

from datetime import UTC, date, datetime
from pathlib import Path

import pytest

from penstock.errors import SpecError
from penstock.quality.rows import canonical_json, plain
from penstock.quality.suite import Level, load_suite
from penstock.spec.suite import Severity


@pytest.fixture
def suite_file(tmp_path: Path):
    def write(text: str) -> Path:
        path = tmp_path / "weather.yaml"
        path.write_text(text, encoding="utf-8")
        return path

    return write


def test_a_suite_keeps_order_severity_and_lines(suite_file):
    suite = load_suite(
        suite_file(
            "acceptable_bad_share: 0.1\n"
            "expectations:\n"
            "  - type: expect_column_values_to_be_between\n"
            "    kwargs: {column: temp, min_value: -30, max_value: 120}\n"
            "    severity: warning\n"
            "    description: Degrees.\n"
            "  - type: expect_column_values_to_not_be_null\n"
            "    kwargs: {column: origin}\n"
        )
    )
    first, second = suite.expectations
    assert suite.name == "weather"
    assert suite.acceptable_bad_share == 0.1
    assert (first.name, first.severity, first.level, first.line) == (
        "expect_column_values_to_be_between(temp)", Severity.WARNING, Level.ROW, 3,
    )  # fmt: skip
    assert second.severity is Severity.CRITICAL
    assert suite.columns == {"temp": 3, "origin": 7}


def test_a_table_level_expectation_may_only_warn(suite_file):
    suite = load_suite(
        suite_file(
            "expectations:\n"
            "  - {type: expect_table_row_count_to_be_between, kwargs: {min_value: 1}, severity: warning}\n"
        )
    )
    assert suite.expectations[0].level is Level.TABLE
    assert suite.expectations[0].severity is Severity.WARNING


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "expectations:\n  - {type: expect_column_value_to_be_null, kwargs: {column: a}}",
            r"weather.yaml:2: unknown expectation .*did you mean expect_column_values_to_be_null\?",
        ),
        (
            "expectations:\n  - {type: expect_column_values_to_be_between, kwargs: {column: a, max_val: 1}}",
            r"weather.yaml:2: .*no argument 'max_val': did you mean max_value\?",
        ),
        (
            "expectations:\n  - {type: expect_column_values_to_be_between, kwargs: {min_value: 1}}",
            r"weather.yaml:2: expect_column_values_to_be_between: column: field required",
        ),
        (
            "expectations:\n\n  - {type: expect_column_values_to_be_null, kwargs: {column: a}, severity: bad}",
            r"weather.yaml:3: .*severity: is 'bad', not one of critical, warning",
        ),
        (
            "expectations:\n  - {type: expect_column_values_to_be_null, kwargs: {column: a, severity: warning}}",
            r"write severity beside kwargs",
        ),
        (
            "expectations:\n  - {type: expect_column_values_to_be_null, kwarg: {column: a}}",
            r"weather.yaml:2: .*unknown field 'kwarg'; write kwargs",
        ),
        ("expectations: []", r"weather.yaml:1: expectations: is empty; give at least 1"),
        ("- type: x", r"is a list, not a mapping"),
        ("acceptable_bad_share: 2\nexpectations: []", r"acceptable_bad_share: is 2, out of bounds; .* at most 1"),
        ("expectations: [", r"is no valid YAML"),
        ("expectations:\n  - {type: unexpected_rows_expectation}", r"unknown expectation"),
        (
            "history: {volume: warning, minimum_batches: 40}\nexpectations:\n"
            "  - {type: expect_column_values_to_be_null, kwargs: {column: a}}",
            r"weather.yaml:1: history: minimum_batches is 40, more than batches \(30\); write at most as many",
        ),
    ],
)
def test_a_broken_suite_names_the_line_and_the_remedy(suite_file, text, said):
    with pytest.raises(SpecError, match=said):
        load_suite(suite_file(text))


def test_every_fault_is_said_at_once(suite_file):
    wrong = "".join(f"  - {{type: expect_{name}}}\n" for name in ("this", "that"))
    with pytest.raises(SpecError) as caught:
        load_suite(suite_file(f"expectations:\n{wrong}"))
    assert str(caught.value).count("unknown expectation") == 2


def test_a_missing_suite_is_a_clear_error(tmp_path):
    with pytest.raises(SpecError, match="none.yaml:1: no such file; create it, or correct its name"):
        load_suite(tmp_path / "none.yaml")


def test_plain_values_are_json_with_utc_texts():
    import numpy as np
    import pandas as pd

    assert plain(pd.Timestamp("2013-05-01", tz="America/New_York")) == "2013-05-01T04:00:00Z"
    assert plain(datetime(2013, 5, 1, tzinfo=UTC)) == plain(datetime(2013, 5, 1)) == "2013-05-01T00:00:00Z"
    assert plain(date(2013, 5, 1)) == "2013-05-01"
    assert [plain(value) for value in (float("nan"), pd.NaT, pd.NA, None)] == [None] * 4
    assert [plain(5.0, whole=True), plain(5.0), plain(np.int32(5)), plain(True)] == [5, 5.0, 5, True]
    assert canonical_json({"b": 1, "a": plain({3, 1})}) == '{"a":[1,3],"b":1}'
