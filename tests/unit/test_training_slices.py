"""Rows by the values of their columns."""

import numpy as np
import pandas as pd
import pytest

from penstock.training import TrainingError
from penstock.training.slices import MOST_VALUES, slice_rows


def sizes(frame: pd.DataFrame, column: str, **options: object) -> dict[str, int]:
    return {found.name: found.rows for found in slice_rows(frame, [column], **options)}


def test_texts_and_booleans_are_sliced_by_value_nulls_apart():
    frame = pd.DataFrame({"carrier": ["UA", "B6", None, "UA"], "wet": [True, None, False, True]})
    assert sizes(frame, "carrier") == {"carrier=B6": 1, "carrier=UA": 2, "carrier missing": 1}
    assert sizes(frame, "wet") == {"wet=false": 1, "wet=true": 2, "wet missing": 1}


def test_a_categorical_column_has_no_slice_of_a_category_that_does_not_occur():
    frame = pd.DataFrame({"carrier": pd.Categorical(["UA", None], categories=["B6", "UA"])})
    assert sizes(frame, "carrier") == {"carrier=UA": 1, "carrier missing": 1}


def test_numbers_are_cut_at_quartiles_each_upper_end_included():
    frame = pd.DataFrame({"distance": [1.0, 2, 3, 4, 5, 6, 7, np.nan]})
    assert sizes(frame, "distance") == {
        "distance <= 2.5": 2, "distance in (2.5, 4]": 2, "distance in (4, 5.5]": 1, "distance > 5.5": 2,
        "distance missing": 1,
    }  # fmt: skip


def test_quartiles_that_coincide_and_few_values_make_fewer_slices():
    frame = pd.DataFrame({"rain": [0.0] * 90 + [1, 2, 3, 4, 5, 6, 7, 8, 9, 10], "engines": [1, 2] * 50})
    assert sizes(frame, "rain") == {"rain <= 0": 90, "rain > 0": 10}
    assert sizes(frame, "engines") == {"engines=1": 50, "engines=2": 50}


def test_cuts_of_another_frame_make_the_same_slices_here():
    frame = pd.DataFrame({"distance": [100.0, 700.0]})
    assert sizes(frame, "distance", cuts={"distance": [500, 1000]}) == {
        "distance <= 500": 1, "distance in (500, 1000]": 1
    }  # fmt: skip


def test_rare_values_of_a_column_with_many_are_put_together():
    values = [f"v{number:02}" for number in range(25) for _ in range(25 - number)]
    found = slice_rows(pd.DataFrame({"key": values}), ["key"])
    assert len(found) == MOST_VALUES + 1
    assert (found[-1].name, found[-1].rows) == ("key other", 1 + 2 + 3 + 4 + 5)


def test_the_slices_of_a_column_share_no_row_and_leave_none_out():
    random = np.random.default_rng(3)
    frame = pd.DataFrame({
        "number": np.where(random.random(500) < 0.1, np.nan, random.normal(size=500)),
        "text": random.choice([*"abcdefghijklmnopqrstuvwxyz"], 500),
        "whole": pd.array(random.integers(0, 9, 500), dtype="Int64"),
    })  # fmt: skip
    for column in frame:
        np.testing.assert_array_equal(sum(found.mask.astype(int) for found in slice_rows(frame, [column])), 1)


def test_a_frame_without_rows_has_no_slices_and_one_without_the_column_is_refused():
    assert slice_rows(pd.DataFrame({"x": pd.Series([], dtype="float64")}), ["x"]) == []
    with pytest.raises(TrainingError, match="no column y to slice by: evaluation.slices may name x"):
        slice_rows(pd.DataFrame({"x": [1.0]}), ["y"])
