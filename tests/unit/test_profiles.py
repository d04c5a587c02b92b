"""Profiles: what is kept of a column, and that a later sample falls into the same bins."""

import json

import numpy as np
import pandas as pd
import pytest

from penstock.errors import TableError
from penstock.profiles import CategoricalProfile, NumericProfile, Profile, bin_shares, build_profile, missing_share

RANDOM = np.random.default_rng(7)


def profile_of(values, **options):
    return build_profile(pd.DataFrame({"x": values}), **options).columns["x"]


def test_a_number_column_is_cut_at_its_deciles_with_open_outer_bins():
    column = profile_of(np.arange(1000.0))
    assert column.edges == pytest.approx(np.quantile(np.arange(1000.0), np.arange(1, 10) / 10))
    assert column.shares == pytest.approx([0.1] * 10)
    assert (column.count, column.mean, column.min, column.max) == (1000, 499.5, 0.0, 999.0)
    assert column.std == pytest.approx(np.arange(1000.0).std())
    assert bin_shares(column, pd.Series([-1e9, 1e9])).tolist() == [0.5, *[0.0] * 8, 0.5]


def test_the_training_data_fall_into_their_own_shares():
    frame = pd.DataFrame(
        {
            "number": RANDOM.normal(size=5000),
            "mostly_zero": np.where(RANDOM.random(5000) < 0.95, 0.0, RANDOM.random(5000)),
            "weekday": RANDOM.integers(0, 7, 5000),
            "flag": RANDOM.random(5000) < 0.3,
            "text": RANDOM.choice(["a", "b", None], 5000),
            "nullable": pd.array([1, None] * 2500, dtype="Int64"),
            "moment": pd.Timestamp("2020-01-01", tz="UTC") + pd.to_timedelta(np.arange(5000), unit="h"),
            "float32": RANDOM.normal(size=5000).astype("float32"),
        }
    )
    for name, column in build_profile(frame).columns.items():
        assert bin_shares(column, frame[name]) == pytest.approx(column.share_list), name
        assert sum(column.share_list) == pytest.approx(1), name
        assert len(column.bins) == len(column.share_list), name


def test_missing_values_are_counted_apart_from_the_shares():
    number = profile_of([1.0, 2.0, None, np.nan])
    text = profile_of(["a", None, "a", "b"])
    assert (number.count, number.missing_share, sum(number.shares)) == (2, 0.5, 1.0)
    assert (text.count, text.missing_share, text.shares) == (3, 0.25, {"a": 2 / 3, "b": 1 / 3})
    assert missing_share(pd.Series([None, 1.0, np.nan, 2.0])) == 0.5


@pytest.mark.parametrize("values", [[3.0] * 50, [3] * 50])
def test_a_constant_column_sees_values_on_both_sides_of_the_constant(values):
    column = profile_of(values)
    assert column.shares == [0.0, 1.0, 0.0]
    assert column.std == 0.0
    assert bin_shares(column, pd.Series([2.9, 3.0, 3.0, 3.1])).tolist() == [0.25, 0.5, 0.25]


def test_few_distinct_values_get_a_bin_each():
    column = profile_of([0, 0, 1, 2])
    assert column.shares == [0.0, 0.5, 0.25, 0.25, 0.0]
    assert bin_shares(column, pd.Series([2, 2, 2, 5])).tolist() == [0, 0, 0, 0.75, 0.25]


def test_a_value_that_fills_deciles_does_not_hide_the_rest():
    values = np.concatenate([np.zeros(950), np.linspace(-1, -0.5, 25), np.linspace(0.5, 1, 25)])
    assert profile_of(values).shares == pytest.approx([0.025, 0.95, 0.025])


def test_infinite_values_fall_into_the_outer_bins_and_leave_the_figures_finite():
    column = profile_of([*np.arange(100.0), np.inf, -np.inf])
    assert column.count == 102
    assert (column.mean, column.max) == (49.5, 99.0)
    assert column.shares[0] == column.shares[-1] == pytest.approx(11 / 102)


@pytest.mark.parametrize("values", [[np.nan, np.nan], [], [None, None]])
def test_a_column_without_values_has_no_figures(values):
    column = profile_of(pd.Series(values, dtype="float64"))
    assert (column.count, column.mean, column.edges, column.shares, column.quantiles) == (0, None, [], [0.0], [])
    assert bin_shares(column, pd.Series([1.0, 2.0])).tolist() == [1.0]


def test_only_infinite_values_have_a_bin_but_no_figures():
    column = profile_of([np.inf, np.inf])
    assert (column.count, column.mean, column.shares) == (2, None, [1.0])


def test_rare_categories_are_counted_together_and_unknown_ones_with_them():
    column = profile_of([f"c{index}" for index in range(60) for _ in range(index + 1)])
    assert isinstance(column, CategoricalProfile)
    assert (len(column.shares), column.distinct) == (50, 60)
    assert column.other == pytest.approx(sum(range(1, 11)) / sum(range(1, 61)))
    assert bin_shares(column, pd.Series(["c59", "never seen"])).tolist() == [0.5, *[0.0] * 49, 0.5]


def test_a_category_has_one_name_however_it_is_stored():
    column = profile_of(pd.Series([1, 2, 2]), categorical=["x"])
    assert column.shares == {"2": 2 / 3, "1": 1 / 3}
    for stored in (pd.Series([1.0, 2.0, None]), pd.Series([1, 2], dtype="Int64"), pd.Series([1, 2], dtype="category")):
        assert bin_shares(column, stored).tolist() == [0.5, 0.5, 0.0]


def test_equal_counts_are_ordered_by_name():
    assert list(profile_of(["b", "a", "c"]).shares) == ["a", "b", "c"]


def test_a_profile_survives_json(tmp_path):
    frame = pd.DataFrame({"x": RANDOM.normal(size=300), "flat": 0.0, "empty": np.nan, "text": ["a", "b", None] * 100})
    profile = build_profile(
        frame,
        prediction=RANDOM.random(300),
        metrics={"log_loss": 0.5, "roc_auc": float("nan")},
        window=("2020-01-01T00:00:00Z", "2020-02-01T00:00:00Z"),
    )
    profile.save(tmp_path / "profile.json")
    assert Profile.load(tmp_path / "profile.json") == profile == Profile.from_json(profile.to_json())
    assert profile.metrics == {"log_loss": 0.5}
    assert isinstance(profile.prediction, NumericProfile)
    json.loads(profile.to_json(), parse_constant=lambda text: pytest.fail(f"{text} is not JSON"))


def test_wrong_input_is_named():
    with pytest.raises(TableError, match="x is profiled as numbers"):
        build_profile(pd.DataFrame({"x": ["a"]}), categorical=[])
    with pytest.raises(TableError, match="categorical column.s. y: the data has x"):
        build_profile(pd.DataFrame({"x": [1]}), categorical=["y"])
    with pytest.raises(TableError, match="no profile of training data"):
        Profile.from_json('{"rows": 3}')
