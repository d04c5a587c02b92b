"""What the bootstrap draws, and metrics over many draws at once: against the metrics of the rows that were drawn."""

from datetime import timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn import metrics as sklearn_metrics

from penstock.spec.loading import LoadedProject
from penstock.spec.project import Model, Project
from penstock.training import TrainingError
from penstock.training.metrics import CLASSIFICATION, REGRESSION, metric_function
from penstock.training.replicates import replicate
from penstock.training.units import Units, units_of

CODE = """
def furthest(label, prediction):
    return abs(label - prediction).max()
def late(label, prediction):
    if not label.any():
        raise ValueError("no label is 1")
    return prediction[label > 0.5].mean()
def share(label, prediction):
    return len(label) / int(label.sum())
def first(label, prediction):
    return prediction[label > 0.5][0]
def nothing(label, prediction):
    return None
"""
REFERENCES = {
    "log_loss": lambda y, p: sklearn_metrics.log_loss(y, p, labels=[0, 1]),
    "roc_auc": sklearn_metrics.roc_auc_score,
    "average_precision": sklearn_metrics.average_precision_score,
    "brier_score": lambda y, p: np.mean((y - p) ** 2),
    "accuracy": lambda y, p: sklearn_metrics.accuracy_score(y, p >= 0.5),
    "rmse": sklearn_metrics.root_mean_squared_error,
    "mae": sklearn_metrics.mean_absolute_error,
    "r2": sklearn_metrics.r2_score,
    "furthest": sklearn_metrics.max_error,
}


def model(task: str = "classification") -> Model:
    metric = "log_loss" if task == "classification" else "rmse"
    own = ("furthest", "late", "share", "first", "nothing")
    return Model.model_validate({
        "description": "m", "entity": {"table": "t", "keys": ["k"], "prediction_time": "at"},
        "label": {"name": "y", "table": "l", "expression": "y"},
        "training": {
            "function": "m.train", "task": task, "metric": metric, "metrics": {name: f"m.{name}" for name in own},
        },
        "promotion": {"metric": metric},
    })  # fmt: skip


@pytest.fixture
def project(tmp_path: Path) -> LoadedProject:
    (tmp_path / "m.py").write_text(CODE)
    return LoadedProject(Project(name="p", description="d", owner="o"), tmp_path)


def rows(task: str, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Labels and predictions: those of a regression far from 0, those of a classification with ties."""
    chance = np.random.default_rng(3)
    if task == "regression":
        label = 1e6 + chance.normal(size=n)
        return label, label + chance.normal(size=n)
    prediction = chance.uniform(size=n).round(2)
    return (chance.uniform(size=n) < prediction).astype(float), prediction


@pytest.mark.parametrize(
    ("task", "metric"),
    [
        *(("classification", name) for name in CLASSIFICATION),
        *(("regression", name) for name in (*REGRESSION, "furthest")),
    ],
)
@pytest.mark.parametrize("units", [7, 450, 900])
def test_a_metric_over_a_draw_is_the_metric_of_the_rows_that_were_drawn(project, task, metric, units):
    """Of few units and of many, where roc_auc goes another way, and of single rows."""
    label, prediction = rows(task, 900)
    found = Units.rows(900) if units == 900 else Units("day", np.arange(900) % units, units)
    draws = next(found.draws(5, seed=1))
    values = replicate(project, model(task), metric, label, prediction, found)(draws)
    for draw, value in zip(draws, values, strict=True):
        drawn = np.repeat(np.arange(900), draw[found.codes].astype(int))
        ours = metric_function(project, model(task), metric)(label[drawn], prediction[drawn])
        assert value == pytest.approx(ours, rel=1e-9)
        assert value == pytest.approx(REFERENCES[metric](label[drawn], prediction[drawn]), rel=1e-9)


@pytest.mark.parametrize(
    ("metric", "label", "is_defined"),
    [
        ("roc_auc", [0, 0, 1, 1, 1, 1], [False, False, True]),
        ("average_precision", [0, 0, 1, 1, 1, 1], [False, True, True]),
        ("r2", [5.5, 5.5, 0.7, 0.7, 0.7, 0.7], [False, False, True]),  # but for what sums of floats leave
        ("late", [0, 0, 1, 1, 1, 1], [False, True, True]),  # by ValueError
        ("share", [0, 0, 1, 1, 1, 1], [False, True, True]),  # by ZeroDivisionError
    ],
)
def test_what_a_draw_does_not_define_is_not_a_number(project, metric, label, is_defined):
    units = Units("day", np.array([0, 0, 1, 1, 2, 2]), 3)
    prediction = np.array([0.2, 0.4, 0.3, 0.9, 0.8, 0.1])
    draws = np.array([[3.0, 0, 0], [0, 1, 2], [2, 1, 0]])
    made = model("regression" if metric == "r2" else "classification")
    values = replicate(project, made, metric, np.array(label, dtype="float64"), prediction, units)(draws)
    assert np.isfinite(values).tolist() == is_defined


@pytest.mark.parametrize(
    ("metric", "message"),
    [
        ("first", r"/m\.py:11: the metric 'first' failed on 4 rows: IndexError: .* let it raise ValueError"),
        ("nothing", r"/m\.py: the metric 'nothing' failed on 4 rows: TypeError: .* Correct it"),
    ],
)
def test_a_metric_of_the_projects_own_that_fails_is_named_with_its_file(project, metric, message):
    units = Units("day", np.array([0, 0, 1, 1]), 2)
    measure = replicate(project, model(), metric, np.array([0.0, 0, 1, 1]), np.linspace(0, 1, 4), units)
    with pytest.raises(TrainingError, match=message):
        measure(np.array([[2.0, 0.0]]))


@pytest.mark.parametrize("units", [Units("day", np.arange(60) // 6, 10), Units.rows(60)], ids=["days", "rows"])
def test_draws_are_whole_units_the_same_every_time_however_they_are_chunked(monkeypatch, units):
    draws = np.concatenate(list(units.draws(50, seed=4)))
    assert draws.shape == (50, units.count)
    assert (draws.sum(axis=1) == units.count).all()
    assert (np.concatenate(list(units.draws(7, seed=4))) == draws[:7]).all(), "fewer draws are the first of them"
    monkeypatch.setattr("penstock.training.units._MOST_AT_ONCE", 500)
    chunks = list(units.draws(50, seed=4))
    assert [len(chunk) for chunk in chunks] == [8, 8, 8, 8, 8, 8, 2]
    assert (np.concatenate(chunks) == draws).all()


def frame(days: int) -> pd.DataFrame:
    times = pd.date_range("2020-01-01T19:30", periods=days * 4, freq="6h", tz="America/New_York")
    return pd.DataFrame({"prediction_time": times, "machine": ["a", None] * (days * 2)})


@pytest.mark.parametrize(
    ("days", "declared", "kind", "count"),
    [
        (14, None, "day", 14),
        (7, None, "row", 28),
        (7, "day", "day", 7),
        (14, "week", "week", 3),
        (14, "row", "row", 56),
        (14, "machine", "machine", 2),
    ],
)
def test_what_is_drawn_as_one(days, declared, kind, count):
    units = units_of(frame(days), declared, seed=1)
    assert (units.kind, units.count) == (kind, count)
    assert len(units.codes) == days * 4
    assert units.codes.max() == count - 1


def test_stretches_of_time_are_whole_weeks_days_and_parts_of_days_in_utc():
    times = frame(28)["prediction_time"]
    utc = times.dt.tz_convert("UTC")
    days = Units.stretches(times, timedelta(days=1))
    assert pd.crosstab(days.codes, utc.dt.date).astype(bool).to_numpy().sum() == days.count == 28
    weeks = Units.stretches(times, timedelta(days=7))
    for week in range(weeks.count):
        assert utc[weeks.codes == week].dt.isocalendar().week.nunique() == 1
    assert weeks.count == utc.dt.isocalendar().week.nunique() == 5
    assert Units.stretches(times, timedelta(hours=12)).count == 56
    assert Units.stretches(times, None).single


def test_units_of_some_rows_lack_those_without_rows():
    units = Units("day", np.repeat([0, 1, 2, 3], 3), 4)
    found = units.within(np.arange(12) >= 5)
    assert (found.kind, found.count, found.sizes.tolist()) == ("day", 3, [1, 3, 3])
    assert not found.single
    assert Units.rows(9).within(np.arange(9) > 4).single


def test_many_single_rows_are_drawn_in_groups_of_equal_size():
    units = units_of(frame(500), "row", seed=1)
    assert (units.kind, units.count, set(units.sizes)) == ("row", 400, {5.0})
    assert (units_of(frame(500), "row", seed=1).codes == units.codes).all()
    assert (units_of(frame(500), "row", seed=2).codes != units.codes).any()


def test_unequal_units_count_as_fewer():
    assert Units("day", np.repeat([0, 1, 2], 5), 3).degrees_of_freedom == pytest.approx(2)
    assert Units("day", np.repeat([0, 1, 2], [98, 1, 1]), 3).degrees_of_freedom < 0.1
