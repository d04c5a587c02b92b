"""The three blocks in time, and what is refused before any training starts."""

from datetime import UTC, datetime

import pandas as pd
import pytest

from penstock.spec.project import Training
from penstock.training import TrainingError
from penstock.training.blocks import Boundaries, check_split, folds, split

AS_OF = datetime(2024, 3, 31, tzinfo=UTC)


def training(**changes: object) -> Training:
    return Training.model_validate(
        {"function": "m.f", "metric": "log_loss", "tune": "10d", "hold_out": "5d", "minimum_rows": 10, **changes}
    )


def rows(labels: list[float] | None = None, step: str = "1D") -> pd.DataFrame:
    """One row a day at midnight, the last at as_of."""
    times = pd.date_range(end=AS_OF, periods=len(labels) if labels else 60, freq=step, unit="us")
    return pd.DataFrame({"prediction_time": times, "label": labels or [0.0, 1.0] * 30})


def test_blocks_are_counted_back_from_as_of_and_a_boundary_belongs_to_the_block_before_it():
    found = split(rows(), Boundaries.of(training(), AS_OF))
    assert found.hold_out.prediction_time.min() == pd.Timestamp("2024-03-27", tz="UTC")
    assert found.hold_out.prediction_time.max() == pd.Timestamp(AS_OF)
    assert found.tuning.prediction_time.min() == pd.Timestamp("2024-03-17", tz="UTC")
    assert found.tuning.prediction_time.max() == pd.Timestamp("2024-03-26", tz="UTC")
    assert found.training.prediction_time.max() == pd.Timestamp("2024-03-16", tz="UTC")
    assert (found.rows.training, found.rows.tuning, found.rows.hold_out) == (45, 10, 5)
    assert found.boundaries.trained_until == "2024-03-26T00:00:00Z"


def test_rows_after_as_of_are_in_no_block():
    late = rows().assign(prediction_time=lambda frame: frame.prediction_time + pd.Timedelta("1D"))
    assert split(late, Boundaries.of(training(), AS_OF)).rows.hold_out == 5


@pytest.mark.parametrize(
    ("changes", "labels", "message"),
    [
        ({"minimum_rows": 46}, None, r"45 rows to train on, training.minimum_rows is 46"),
        ({"hold_out": "10s"}, None, None),
        ({}, [0.0] * 45 + [1.0] * 15, r"all 45 labels of the training block are 0"),
        ({}, [1.0] * 45 + [0.0] * 15, r"all 45 labels of the training block are 1"),
        ({}, [0.0, 2.5] * 30, r"a classification label is 0 or 1, but 2.5 occurs"),
        ({"task": "regression"}, [0.0, 2.5] * 30, None),
        ({}, [0.0, float("nan")] * 30, r"30 of 60 labels are null or infinite"),
    ],
)
def test_data_that_cannot_be_learned_from_is_refused_with_counts(changes, labels, message):
    spec = training(**changes)
    found = split(rows(labels), Boundaries.of(spec, AS_OF))
    if message is None:
        check_split(found, spec, "p.t@1")
    else:
        with pytest.raises(TrainingError, match=message):
            check_split(found, spec, "p.t@1")


def test_an_empty_block_is_named_with_its_boundary():
    spec = training()
    early = rows().assign(prediction_time=lambda frame: frame.prediction_time - pd.Timedelta("12D"))
    with pytest.raises(TrainingError, match="hold-out block is empty.*2024-03-26T00:00:00Z.*longer"):
        check_split(split(early, Boundaries.of(spec, AS_OF)), spec, "p.t@1")


def test_folds_are_blocks_before_the_hold_out_each_learned_from_what_lies_before_it():
    spec = training(folds=3)
    found = folds(split(rows(), Boundaries.of(spec, AS_OF)), spec, "p.t@1")
    days = [(fold.tuning.prediction_time.min().day, fold.tuning.prediction_time.max().day) for fold in found]
    assert days == [(26, 6), (7, 16), (17, 26)]
    assert [len(fold.training) for fold in found] == [25, 35, 45]
    for fold in found:
        assert fold.training.prediction_time.max() < fold.tuning.prediction_time.min()


def test_too_many_folds_are_refused_with_counts():
    spec = training(folds=6)
    with pytest.raises(TrainingError, match=r"fold 5 of 6 has 5 rows to train on .*Declare fewer training.folds"):
        folds(split(rows(), Boundaries.of(spec, AS_OF)), spec, "p.t@1")
