"""Built-in and own metrics, on data that define them and on data that do not."""

from pathlib import Path

import numpy as np
import pytest

from penstock.spec.loading import LoadedProject
from penstock.spec.project import Model, Project
from penstock.training import TrainingError
from penstock.training.heuristic import heuristic_predictions
from penstock.training.metrics import evaluate_metrics, is_lower_better, metric_function

CODE = """
import numpy as np
def cost(label, prediction):
    return float(np.mean(np.abs(label - (prediction > 0.3))))
def picky(label, prediction):
    raise ValueError("one class only")
def broken(label, prediction):
    raise KeyError("oops")
def guess(features):
    return features["x"] / 10
def short(features):
    return [0.5]
"""


@pytest.fixture
def project(tmp_path: Path) -> LoadedProject:
    (tmp_path / "own.py").write_text(CODE)
    spec = Project.model_validate({"name": "p", "description": "d", "owner": "o", "models": {"m": model_values()}})
    return LoadedProject(spec, tmp_path)


def model_values(**changes: object) -> dict:
    training = {
        "function": "own.f",
        "metric": "log_loss",
        "metrics": {"cost": "own.cost", "picky": "own.picky"},
        "lower_is_better": ["cost"],
        **changes,
    }
    return {
        "description": "d",
        "entity": {"table": "t", "keys": ["k"], "prediction_time": "at"},
        "label": {"name": "l", "table": "t", "expression": "x"},
        "training": training,
        "promotion": {"metric": "log_loss"},
    }


def model(**changes: object) -> Model:
    return Model.model_validate(model_values(**changes))


def test_classification_metrics_have_their_textbook_values(project):
    label, prediction = np.array([0.0, 1, 1, 0]), np.array([0.1, 0.8, 0.4, 0.6])
    found = evaluate_metrics(project, model(), label, prediction)
    assert found.values["log_loss"] == pytest.approx(-np.log([0.9, 0.8, 0.4, 0.4]).mean())
    assert found.values["brier_score"] == pytest.approx(np.mean([0.01, 0.04, 0.36, 0.36]))
    assert found.values["accuracy"] == 0.5
    assert found.values["roc_auc"] == 0.75
    assert found.values["average_precision"] == pytest.approx((1 + 2 / 3) / 2)
    assert found.values["cost"] == 0.25


def test_regression_metrics_have_their_textbook_values(project):
    found = evaluate_metrics(project, model(task="regression", metrics={}), [1.0, 2, 3], [1.0, 2, 5])
    assert found.values == pytest.approx({"rmse": np.sqrt(4 / 3), "mae": 2 / 3, "r2": -1.0})


def test_a_metric_that_is_not_defined_is_left_out_and_named(project):
    found = evaluate_metrics(project, model(), [0.0, 0.0], [0.2, 0.4])
    assert found.left_out["roc_auc"] == "all 2 labels are 0"
    assert set(found.left_out) == {"roc_auc", "average_precision", "picky"}
    assert found.left_out["picky"] == "it raised ValueError: one class only (own.py:6)"
    assert found.values["log_loss"] == pytest.approx(-np.log([0.8, 0.6]).mean())


def test_a_metric_that_fails_is_an_error_with_its_name_its_file_and_the_remedy(project):
    spec = model(metrics={"broken": "own.broken"})
    with pytest.raises(TrainingError, match=r"/own.py:8: the metric 'broken' failed on 2 rows: KeyError.*ValueError"):
        evaluate_metrics(project, spec, [0.0, 1.0], [0.2, 0.4])


@pytest.mark.parametrize(("label", "prediction"), [([], []), ([1.0, 0.0], [np.nan, 0.5])])
def test_no_rows_and_null_predictions_define_nothing(project, label, prediction):
    found = evaluate_metrics(project, model(), label, prediction)
    assert found.values == {}
    assert set(found.left_out) == {
        "log_loss", "roc_auc", "average_precision", "brier_score", "accuracy", "cost", "picky"
    }  # fmt: skip


def test_directions(project):
    assert is_lower_better(model(), "log_loss")
    assert not is_lower_better(model(), "roc_auc")
    assert is_lower_better(model(), "cost")
    assert not is_lower_better(model(), "picky")


def test_an_unknown_metric_is_refused_with_those_that_there_are(project):
    with pytest.raises(TrainingError, match="unknown metric 'rmse' for classification: use one of log_loss"):
        metric_function(project, model(), "rmse")


def test_the_heuristic_is_the_mean_label_unless_the_project_has_its_own(project):
    import pandas as pd

    features = pd.DataFrame({"x": [1.0, 2.0]})
    assert heuristic_predictions(project, model(), features, 0.3).tolist() == [0.3, 0.3]
    own = model().model_copy(update={"promotion": model().promotion.model_copy(update={"heuristic": "own.guess"})})
    assert heuristic_predictions(project, own, features, 0.3).tolist() == [0.1, 0.2]
    wrong = model().model_copy(update={"promotion": model().promotion.model_copy(update={"heuristic": "own.short"})})
    with pytest.raises(TrainingError, match=r"answered 2 rows with an array of shape \(1,\)"):
        heuristic_predictions(project, wrong, features, 0.3)
