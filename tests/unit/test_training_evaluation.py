"""Intervals, calibration, thresholds and the search for the worst slices, where the right answer is known."""

import json
from datetime import timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from penstock.spec.loading import LoadedProject
from penstock.spec.project import Costs, Model, Project
from penstock.training import TrainingError
from penstock.training.calibration import calibrate
from penstock.training.evaluation import EvaluationReport, Predicted, Subject, evaluate_predictions
from penstock.training.intervals import Bootstrap
from penstock.training.plots import save_plots
from penstock.training.runs import dataclass_json
from penstock.training.slices import slice_rows
from penstock.training.threshold import choose_threshold, cost_curve
from penstock.training.units import Units
from penstock.training.worst_slices import find_worst_slices

CODE = """
import time
def mistakes(label, prediction):
    return float(abs(label - prediction).mean())
def picky(label, prediction):
    if label.mean() in (0, 1):
        raise ValueError("one class only")
    return float(prediction.std())
def first(label, prediction):
    return prediction[label > 0.5][0]
def slow(label, prediction):
    time.sleep(0.2)
    return float(prediction.mean())
"""


@pytest.fixture
def project(tmp_path: Path) -> LoadedProject:
    (tmp_path / "own.py").write_text(CODE)
    spec = Project.model_validate({"name": "p", "description": "d", "owner": "o"})
    return LoadedProject(spec, tmp_path)


def model(task: str = "classification", metrics: dict[str, str] | None = None, **evaluation: object) -> Model:
    metric = "log_loss" if task == "classification" else "rmse"
    return Model.model_validate({
        "description": "d", "entity": {"table": "t", "keys": ["k"], "prediction_time": "at"},
        "label": {"name": "l", "table": "t", "expression": "x"},
        "training": {"function": "own.f", "task": task, "metric": metric, "metrics": metrics or {}},
        "evaluation": evaluation, "promotion": {"metric": metric},
    })  # fmt: skip


def coins(rows: int = 3_000, seed: int = 3) -> tuple[np.ndarray, np.ndarray]:
    """Labels that happen exactly as often as the predictions say; every tenth prediction has a twin."""
    random = np.random.default_rng(seed)
    prediction = np.round(random.beta(2, 4, rows), 2)
    return (random.random(rows) < prediction).astype(float), prediction


def times(rows: int) -> pd.Series:
    return pd.Series(pd.date_range("2024-01-01", periods=rows, freq="7min", tz="UTC"))


def test_intervals_hold_the_truth_about_as_often_as_they_say(project):
    """Of 60 samples, 95 % intervals of the Brier score of true probabilities hold its expectation."""
    truth = np.array([p * (1 - p) for p in coins(200_000)[1]]).mean()
    found = []
    for seed in range(60):
        label, prediction = coins(500, seed)
        bootstrap = Bootstrap(project, model(bootstrap_repeats=200), 200, {})
        interval = bootstrap.intervals(["brier_score"], label, prediction, Units.rows(500)).found["brier_score"]
        found.append(interval.low <= truth <= interval.high)
    assert 50 <= sum(found) <= 60


def test_rows_that_depend_on_their_day_have_wider_intervals_by_day(project):
    random = np.random.default_rng(5)
    at = times(6_000)
    day = Units.stretches(at, timedelta(days=1)).codes
    label = (random.random(6_000) < np.clip(0.3 + random.normal(0, 0.25, day.max() + 1), 0, 1)[day]).astype(float)
    widths = {}
    for length in (None, timedelta(days=1)):
        bootstrap = Bootstrap(project, model(), 200, {})
        units = Units.stretches(at, length)
        interval = bootstrap.intervals(["brier_score"], label, np.full(6_000, 0.3), units).found["brier_score"]
        widths[length] = interval.high - interval.low
    assert widths[timedelta(days=1)] > 3 * widths[None]


def test_own_metrics_have_intervals_and_those_without_one_say_why(project):
    label, prediction = coins(300)
    spec = model(metrics={"mistakes": "own.mistakes", "picky": "own.picky", "slow": "own.slow"})
    found = Bootstrap(project, spec, 200, {}).intervals(["mistakes", "slow"], label, prediction, Units.rows(300))
    assert found.found["mistakes"].low < np.abs(label - prediction).mean() < found.found["mistakes"].high
    assert found.left_out["slow"] == "it is too slow for 50 resamples of 300 rows"
    rare = np.zeros(300)
    rare[0] = 1
    found = Bootstrap(project, spec, 200, {}).intervals(["picky", "roc_auc"], rare, prediction, Units.rows(300))
    assert all("is not defined in" in reason for reason in found.left_out.values())
    few = Bootstrap(project, spec, 200, {}).intervals(["mistakes"], label[:9], prediction[:9], Units.rows(9))
    assert few.left_out["mistakes"].startswith("there are 9 rows to draw from")


def test_a_metric_that_fails_on_a_resample_is_an_error_that_names_it(project):
    label, prediction = np.zeros(300), coins(300)[1]
    label[0] = 1
    bootstrap = Bootstrap(project, model(metrics={"first": "own.first"}), 200, {})
    with pytest.raises(
        TrainingError, match=r"own.py:10: the metric 'first' failed on 300 rows: IndexError.*ValueError"
    ):
        bootstrap.intervals(["first"], label, prediction, Units.rows(300))


def test_a_slow_metric_keeps_its_number_of_resamples(project):
    label, prediction = coins(300)
    spec = model(metrics={"mistakes": "own.mistakes"})
    found = Bootstrap(project, spec, 500, {"mistakes": 60}).intervals(
        ["mistakes"], label, prediction, Units.rows(300)
    )  # fmt: skip
    assert found.found["mistakes"].repeats == 60


def test_calibration_of_true_probabilities_is_good_and_its_parts_add_up():
    label, prediction = coins(20_000)
    good, bad = calibrate(label, prediction), calibrate(label, np.sqrt(prediction))
    assert good.expected_error < 0.02 < 0.15 < bad.expected_error
    assert bad.bias > 0.1
    for found in (good, bad):
        parts = found.reliability - found.resolution + found.uncertainty + found.within_bins
        assert parts == pytest.approx(found.brier_score)
        assert sum(one.rows for one in found.bins) == 20_000
        assert all(one.low <= one.label_mean <= one.high for one in found.bins)
    assert len(calibrate(label, np.full(20_000, 0.3)).bins) == 1
    with pytest.raises(TrainingError, match="20000 of 20000 predictions are below 0 or above 1"):
        calibrate(label, prediction + 2)


def test_the_costs_choose_the_threshold_on_the_tuning_block():
    costs = Costs(false_positive=1, false_negative=5)
    tuning, hold_out = coins(20_000, 1), coins(20_000, 2)
    found = choose_threshold(costs, tuning, hold_out)
    assert found.threshold == pytest.approx(1 / 6, abs=0.05)  # these probabilities are calibrated
    label, prediction = hold_out
    missed, alarms = (
        ((label > 0.5) & (prediction < found.threshold)).sum(),
        ((label < 0.5) & (prediction >= found.threshold)).sum(),
    )
    assert found.cost == pytest.approx((alarms + 5 * missed) / 20_000)
    assert (found.confusion.false_negatives, found.confusion.false_positives) == (missed, alarms)
    assert found.cost_at_best <= found.cost
    assert choose_threshold(None, tuning, hold_out).threshold == 0.5


def test_a_cost_curve_reaches_from_always_to_never():
    curve = cost_curve(Costs(false_positive=1, false_negative=5), np.array([0.0, 1, 0]), np.array([0.2, 0.4, 0.4]))
    np.testing.assert_allclose(curve.costs, [2 / 3, 1 / 3, 5 / 3])
    np.testing.assert_allclose(curve.thresholds, [0, 0.3, 1])


def shop_rows(rows: int = 8_000) -> pd.DataFrame:
    random = np.random.default_rng(11)
    return pd.DataFrame({
        "channel": random.choice(["app", "web", "shop", None], rows), "weekday": random.integers(0, 7, rows),
        "amount": random.gamma(2, 20, rows), "area": random.choice(list("abcdefgh"), rows),
        "prediction_time": times(rows), "label": 0.0,
    })  # fmt: skip


@pytest.mark.parametrize("length", [None, timedelta(days=1)])
def test_a_slice_that_is_worse_is_found_first_and_chance_is_not_certain(length):
    frame = shop_rows()
    loss = np.random.default_rng(1).gamma(2, 0.2, len(frame))
    columns = ["channel", "weekday", "amount", "area"]
    units = Units.stretches(frame["prediction_time"], length)
    given = {"minimum_rows": 100, "confidence": 0.95}
    nothing = find_worst_slices(slice_rows(frame, columns), loss, loss, units, **given)
    assert nothing.tried > 150
    assert not any(one.is_certain for one in nothing.found)
    bad = ((frame["channel"] == "web") & (frame["area"] == "c")).to_numpy()
    worse = loss + 0.4 * bad
    found = find_worst_slices(slice_rows(frame, columns), worse, 0.5 * bad, units, **given).found[0]
    assert found.name == "channel=web, area=c"
    assert found.is_certain
    assert found.rows == bad.sum()
    assert found.loss == pytest.approx(worse[bad].mean(), rel=1e-5)
    assert found.excess == pytest.approx(worse[bad].mean() - worse[~bad].mean(), rel=1e-4)
    assert 0 < found.at_least < found.excess
    assert found.bias == 0.5


def test_stretches_of_very_unequal_size_count_as_fewer():
    frame = shop_rows(900)
    bad = (frame["area"] == "c").to_numpy()
    loss = 2.0 * bad + np.random.default_rng(1).normal(0, 0.1, 900)
    certain = {}
    for name, sizes in (("equal", [300, 300, 300]), ("unequal", [860, 20, 20])):
        units = Units("day", np.repeat([0, 1, 2], sizes), 3)
        slices = slice_rows(frame, ["area"])
        certain[name] = (
            find_worst_slices(slices, loss, loss, units, minimum_rows=50, confidence=0.95).found[0].is_certain
        )
    assert certain == {"equal": True, "unequal": False}


def test_columns_that_say_the_same_are_not_found_twice():
    frame = shop_rows()
    frame["twin"] = frame["area"].str.upper()
    loss = np.where(frame["area"] == "c", 2.0, 1.0) + np.random.default_rng(1).normal(0, 0.1, len(frame))
    found = find_worst_slices(
        slice_rows(frame, ["area", "twin"]), loss, loss, Units.rows(len(frame)), minimum_rows=100, confidence=0.95
    )
    assert [one.name for one in found.found if one.is_certain] == ["area=c"]


def test_a_search_without_slices_says_why():
    frame = shop_rows(150)
    found = find_worst_slices(
        slice_rows(frame, ["area"]), np.ones(150), np.ones(150), Units.rows(150), minimum_rows=100, confidence=0.95
    )
    assert found.reason == "no slice has 100 rows, and as many outside"


class TestReport:
    """The whole report, on data that allow everything and on data that do not."""

    FEATURES = ("channel", "weekday", "amount", "area")

    @pytest.fixture(autouse=True)
    def _folder(self, tmp_path: Path) -> None:
        self.plots = tmp_path / "plots"

    def report(self, project, spec: Model, label: np.ndarray, prediction: np.ndarray) -> EvaluationReport:
        rows = shop_rows(len(label)).assign(label=label)
        block = Predicted.of(rows, prediction)
        about = Subject(project, spec, list(self.FEATURES))
        found = evaluate_predictions(about, block, block, np.full(len(label), label.mean()))
        text = dataclass_json(found)
        assert "NaN" not in text
        assert EvaluationReport.from_dict(json.loads(text)) == found
        made = save_plots(self.plots, spec, block.usable(), block.usable(), found)
        self.pictures = {path.stem for path in made if path.stat().st_size > 1000}
        return found

    def test_classification(self, project):
        label, prediction = coins(2_000)
        found = self.report(project, model(slices=["channel"], resample_by="12h"), label, prediction)
        assert set(found.intervals) == set(found.metrics) == set(found.heuristic)
        assert found.drawn == "20 stretches of 12h"
        assert [one.name for one in found.slices] == [
            "channel=app", "channel=shop", "channel=web", "channel missing"
        ]  # fmt: skip
        assert all("log_loss" in one.intervals and not one.reason for one in found.slices)
        assert found.calibration.bins
        assert found.notes == ()
        assert self.pictures == {"roc", "precision_recall", "calibration", "confusion", "slices"}

    def test_without_declared_slices_texts_of_few_values_are_reported(self, project):
        label, prediction = coins(1_000)
        found = self.report(project, model(), label, prediction)
        assert {one.column for one in found.slices} == {"channel", "area"}

    def test_one_class_only(self, project):
        found = self.report(project, model(slices=["channel"]), np.zeros(500), coins(500)[1])
        assert found.left_out["roc_auc"] == "all 500 labels are 0"
        assert "there are no ROC and precision-recall curves" in found.notes[0]
        assert set(found.intervals) == {"log_loss", "brier_score", "accuracy"}
        assert self.pictures == {"calibration", "confusion", "slices"}

    def test_null_predictions(self, project):
        label, prediction = coins(600)
        prediction[::50] = np.nan
        found = self.report(project, model(slices=["channel"]), label, prediction)
        assert found.metrics == {}
        assert found.notes[0].startswith("12 of 600 labels or predictions are null or infinite")
        assert sum(one.rows for one in found.slices) == 588
        nothing = self.report(project, model(slices=["channel"]), label, np.full(600, np.nan))
        assert (nothing.slices, nothing.calibration, nothing.threshold) == ((), None, None)
        assert nothing.worst.reason == "no row has a label and a prediction"
        assert self.pictures == set()

    def test_predictions_that_are_no_probabilities(self, project):
        label, prediction = coins(400)
        found = self.report(project, model(slices=["channel"]), label, 10 * prediction)
        assert found.calibration is None
        assert "are below 0 or above 1" in found.notes[0]

    def test_slices_of_few_rows_are_not_judged(self, project):
        label, prediction = coins(150)
        found = self.report(project, model(slices=["channel"]), label, prediction)
        assert all(one.metrics == {} and "evaluation.minimum_slice_rows is 100" in one.reason for one in found.slices)

    def test_regression(self, project):
        random = np.random.default_rng(2)
        prediction = random.normal(10, 3, 2_000)
        found = self.report(
            project, model("regression", slices=["area"]), prediction + random.normal(1, 2, 2_000), prediction
        )
        assert set(found.intervals) == {"rmse", "mae", "r2"}
        assert found.residual_quantiles["50%"] == pytest.approx(-1, abs=0.2)
        assert found.threshold is None
        assert self.pictures == {"predicted_vs_actual", "residuals", "slices"}
