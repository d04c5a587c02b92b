"""The statistics of a comparison: differences of two models on the same draws, and their intervals."""

import math
from pathlib import Path

import numpy as np
import pytest

from penstock.errors import SpecError
from penstock.spec.loading import LoadedProject
from penstock.spec.project import Model, Project
from penstock.training.differences import Difference, difference
from penstock.training.replicates import LEAST_REPEATS, repeats_of
from penstock.training.units import Units


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


def _rows() -> tuple[np.ndarray, np.ndarray]:
    chance = np.random.default_rng(3)
    prediction = chance.uniform(size=300).round(2)  # with ties
    return (chance.uniform(size=300) < prediction).astype(float), prediction


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
    for kind, units in (("day", Units("day", day, 30)), ("row", Units.rows(1500))):
        low, high = difference(project, _model("regression"), "mae", label, *sides, units).interval(0.05)
        widths[kind] = high - low
    assert widths["day"] > 5 * widths["row"]


def test_the_same_predictions_differ_by_nothing_for_sure(project):
    label, prediction = _rows()
    for metric in ("log_loss", "roc_auc", "average_precision"):
        found = difference(project, _model(), metric, label, prediction, prediction, Units.rows(300))
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
    label, prediction = _rows()
    with pytest.raises(SpecError, match="no function gone"):
        difference(project, broken, "own", label, prediction, prediction, Units.rows(300))
