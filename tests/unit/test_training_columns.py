"""Raw columns become a model's input: order, numbers, fixed categories; what does not fit is named."""

from decimal import Decimal

import numpy as np
import pandas as pd
import pytest

from penstock.spec.project import ColumnType, Lookup
from penstock.training import ScoringError
from penstock.training.feature_columns import Feature, FeatureColumns
from penstock.training.feature_spec import spec_values

COLUMNS = FeatureColumns(
    (
        Feature("channel", ColumnType.STRING, "entity", ("app", "web")),
        Feature("items", ColumnType.INT, "entity"),
        Feature("gift", ColumnType.BOOLEAN, "entity"),
        Feature("amount", ColumnType.DOUBLE, "daily.amount"),
    )
)


def raw(**changes: object) -> pd.DataFrame:
    frame = {"amount": [1.5, None], "items": [1, 2], "gift": [True, None], "channel": ["web", None], "other": [0, 0]}
    return pd.DataFrame({**frame, **changes})


def test_columns_come_in_order_with_fixed_types():
    made = COLUMNS.prepare(raw())
    assert list(made.columns) == ["channel", "items", "gift", "amount"]
    assert [str(dtype) for dtype in made.dtypes] == ["category", "float64", "float64", "float64"]
    assert list(made["channel"].cat.categories) == ["app", "web"]
    assert made["gift"].tolist()[0] == 1.0
    assert np.isnan(made["gift"].tolist()[1])


@pytest.mark.parametrize(
    "items",
    [
        pd.array([1, None], dtype="Int32"),
        [1.0, float("nan")],
        pd.Series([1, None], dtype=object),
        pd.Series([Decimal(1), None], dtype=object),
        pd.array([1.0, None], dtype="Float64"),
        pd.Series([1, pd.NA], dtype=object),
    ],
)
def test_however_a_number_is_stored_the_model_sees_the_same(items):
    made = COLUMNS.prepare(raw(items=items))["items"].to_numpy()
    np.testing.assert_array_equal(made, [1.0, np.nan])


@pytest.mark.parametrize(
    "channel",
    [
        ["web", None],
        ["web", "never seen"],
        pd.Categorical(["web", "x"], categories=["x", "web"]),
        pd.array(["web", None], dtype="string"),
    ],
)
def test_a_string_that_the_training_block_does_not_have_is_null(channel):
    made = COLUMNS.prepare(raw(channel=channel))["channel"]
    assert made.cat.codes.tolist() == [1, -1]


def test_a_column_of_nulls_fits_every_type():
    made = COLUMNS.prepare(raw(channel=[None, None], items=[None, None], amount=[np.nan, np.nan]))
    assert made[["channel", "items", "amount"]].isna().all(axis=None)
    assert COLUMNS.prepare(raw(channel=[np.nan, np.nan]))["channel"].isna().all()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"items": ["3", "4"]}, "feature items is a int, but the column holds string values such as '3'"),
        ({"channel": [1, 2]}, "feature channel is a string, but the column holds integer values such as"),
        ({"channel": pd.Categorical([1, 2])}, "feature channel is a string"),
        ({"amount": pd.to_datetime(["2024-01-01", None])}, "feature amount is a double, but the column holds datetime"),
    ],
)
def test_a_column_of_another_type_is_named(changes, message):
    with pytest.raises(ScoringError, match=message):
        COLUMNS.prepare(raw(**changes))


def test_a_missing_column_is_named():
    with pytest.raises(ScoringError, match="missing feature column.s. items, gift; given: amount, channel, other"):
        COLUMNS.prepare(raw().drop(columns=["items", "gift"]))


def test_the_list_form_reads_back():
    assert FeatureColumns.from_list(COLUMNS.to_list()) == COLUMNS


def test_a_lookup_written_to_the_feature_spec_reads_back():
    lookup = Lookup.model_validate(
        {"table": "daily", "keys": {"k": "concat(a, 'x')"}, "features": ["v"], "rename": {"v": "w"}, "max_age": "3d"}
    )
    values = spec_values(lookup)
    assert values["max_age"] == "259200s"
    assert Lookup.model_validate(values) == lookup
