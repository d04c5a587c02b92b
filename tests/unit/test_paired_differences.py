"""The statistics of a comparison: draws of whole units, metrics over many draws, intervals."""

import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from penstock.errors import SpecError
from penstock.spec.loading import LoadedProject
from penstock.spec.project import Model, Project
from penstock.training.differences import Difference, difference
from penstock.training.metrics import CLASSIFICATION, REGRESSION, metric_function
from penstock.training.replicates import LEAST_REPEATS, repeats_of, replicate
from penstock.training.units import Units, units_of


def _model(task: str = "classification", **promotion: object) -> Model:
    return Model.model_validate({
        "description": "m", "entity": {"table": "t", "keys": ["k"], "prediction_time": "at", "features": ["x"]},
        "label": {"name": "y", "table": "l", "expression": "y"},
        "training": {
            "function": "m.train", "task": task, "metric": "log_loss" if task == "classification" else "rmse",
            "metrics": {"own": "m.own"},
        },
        "promotion": {"metric": "log_loss" if task == "classification" else "rmse", **promotion},
    })  # fmt: skip


@pytest.fixture
def project(tmp_path: Path) -> LoadedProject:
    (tmp_path / "m.py").write_text("def own(label, prediction):\n    return float(abs(label - prediction).max())\n")
    (tmp_path / "project.yaml").write_text("")
    spec = Project(name="p", description="d", owner="o")
    return LoadedProject(spec=spec, folder=tmp_path)


def _rows(task: str, n: int = 300) -> tuple[np.ndarray, np.ndarray]:
    chance = np.random.default_rng(3)
    if task == "regression":
        label = 1e6 + chance.normal(size=n)
        return label, label + chance.normal(size=n)
    prediction = chance.uniform(size=n).round(2)  # with ties
    return (chance.uniform(size=n) < prediction).astype(float), prediction


@pytest.mark.parametrize(
    ("task", "metric"),
    [*(("classification", name) for name in CLASSIFICATION), *(("regression", name) for name in (*REGRESSION, "own"))],
)
@pytest.mark.parametrize("units", [7, 450])
def test_a_metric_over_a_draw_is_the_metric_of_the_rows_that_were_drawn(project, task, metric, units):
    """Also with more than 400 units, where roc_auc goes another way."""
    label, prediction = _rows(task, 900)
    found = Units("day", np.arange(900) % units, units)
    model = _model(task)
    draws = next(found.draws(5, seed=1))
    values = replicate(project, model, metric, label, prediction, found)(draws)
    for draw, value in zip(draws, values, strict=True):
        rows = np.repeat(np.arange(900), draw[found.codes].astype(int))
        expected = metric_function(project, model, metric)(label[rows], prediction[rows])
        assert value == pytest.approx(expected, rel=1e-9)


def test_draws_are_whole_units_the_same_every_time_however_they_are_chunked(monkeypatch):
    units = Units("day", np.arange(60) // 6, 10)
    draws = np.concatenate(list(units.draws(50, seed=4)))
    assert draws.shape == (50, 10)
    assert (draws.sum(axis=1) == 10).all()
    monkeypatch.setattr("penstock.training.units._MOST_AT_ONCE", 500)
    assert (np.concatenate(list(units.draws(50, seed=4))) == draws).all()


def _frame(days: int) -> pd.DataFrame:
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
    units = units_of(_frame(days), declared, seed=1)
    assert (units.kind, units.count) == (kind, count)
    assert len(units.codes) == days * 4
    assert units.codes.max() == count - 1


def test_many_single_rows_are_drawn_in_groups_of_equal_size():
    units = units_of(_frame(500), "row", seed=1)
    assert (units.kind, units.count, set(units.sizes)) == ("row", 400, {5.0})
    assert (units_of(_frame(500), "row", seed=1).codes == units.codes).all()
    assert (units_of(_frame(500), "row", seed=2).codes != units.codes).any()


def test_unequal_units_count_as_fewer():
    assert Units("day", np.repeat([0, 1, 2], 5), 3).degrees_of_freedom == pytest.approx(2)
    assert Units("day", np.repeat([0, 1, 2], [98, 1, 1]), 3).degrees_of_freedom < 0.1


def test_a_mean_metrics_interval_is_that_of_students_test_on_the_units(project):
    from scipy import stats

    chance = np.random.default_rng(1)
    label = np.zeros(800)
    units = Units("day", np.repeat(np.arange(40), 20), 40)
    candidate, reference = chance.normal(1, 0.3, 800), chance.normal(1.05, 0.3, 800)
    found = difference(project, _model("regression", repeats=20_000), "mae", label, candidate, reference, units)
    daily = (abs(reference) - abs(candidate)).reshape(40, 20).mean(axis=1)
    expected = stats.ttest_1samp(daily, 0).confidence_interval(0.9)
    assert found.better_by == pytest.approx(daily.mean())
    assert found.interval(0.05) == pytest.approx((expected.low, expected.high), abs=0.001)
    assert found.p_worse_than(0) == pytest.approx(stats.ttest_1samp(daily, 0, alternative="less").pvalue, abs=0.005)


def test_rows_that_belong_together_say_less_than_they_seem_to(project):
    chance = np.random.default_rng(2)
    day = np.repeat(np.arange(30), 50)
    label = np.zeros(1500)
    noise = chance.normal(size=30)[day] * 0.2
    sides = (1 + noise, np.ones(1500))
    widths = {}
    for kind, units in (("day", Units("day", day, 30)), ("row", Units("row", np.arange(1500), 1500))):
        low, high = difference(project, _model("regression"), "mae", label, *sides, units).interval(0.05)
        widths[kind] = high - low
    assert widths["day"] > 5 * widths["row"]


def test_the_same_predictions_differ_by_nothing_for_sure(project):
    label, prediction = _rows("classification")
    for metric in ("log_loss", "roc_auc", "average_precision"):
        found = difference(project, _model(), metric, label, prediction, prediction, Units("row", np.arange(300), 300))
        assert (found.better_by, found.standard_error, found.interval(0.05)) == (0, 0, (0, 0))
        assert (found.p_worse_than(0), found.p_worse_than(0.1), found.detectable(0.05)) == (1, 1, 0)


@pytest.mark.parametrize(
    ("label", "units", "why"),
    [
        (np.ones(40), 20, "all 40 labels are 1"),
        (np.array([1.0] + [0.0] * 39), 20, "draws do not define it"),
        (np.array([1.0, 0.0] * 20), 1, "1 day"),
        (np.array([]), 0, "no labelled rows"),
        (np.array([math.nan] + [0.0] * 39), 20, "1 of 40 labels"),
    ],
)
def test_what_rows_do_not_define_has_a_reason(project, label, units, why):
    prediction = np.linspace(0.1, 0.9, len(label))
    found = difference(
        project, _model(), "roc_auc", label, prediction, prediction[::-1],
        Units("day", np.arange(len(label)) % max(units, 1), units),
    )  # fmt: skip
    assert not found.is_known
    assert why in found.why_not
    assert all(math.isnan(end) for end in found.interval(0.05))


def test_own_metrics_get_fewer_draws_on_many_rows():
    model = _model(repeats=5000)
    assert repeats_of(model, "log_loss", 10**6) == 5000
    assert repeats_of(model, "own", 10_000) == 2000
    assert repeats_of(model, "own", 10**6) == LEAST_REPEATS


def test_what_is_detectable_is_found_in_nine_of_ten_comparisons():
    from scipy.stats import nct

    found = Difference("m", 1.0, 1.0, 0.0, standard_error=0.1, degrees_of_freedom=29)
    assert found.detectable(0.05) == pytest.approx(0.1 * (1.6991 + 1.3114), abs=1e-3)
    power = 1 - nct.cdf(found.quantile(0.95), 29, found.detectable(0.05) / 0.1)
    assert power == pytest.approx(0.9, abs=0.01)


def test_a_projects_function_that_is_missing_is_named(project):
    model = _model()
    broken = model.model_copy(update={"training": model.training.model_copy(update={"metrics": {"own": "m.gone"}})})
    label, prediction = _rows("classification")
    with pytest.raises(SpecError, match="no function gone"):
        difference(project, broken, "own", label, prediction, prediction, Units("row", np.arange(300), 300))
