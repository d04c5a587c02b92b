"""SHAP values of models in memory, and their pictures."""

import numpy as np
import pandas as pd
import pytest

from penstock.spec.project import Task
from penstock.training.attribution import attribute
from penstock.training.predictors import predict
from penstock.training.shap_plots import save_importance, save_shap_summary


class Linear:
    """2 * a + 5 where c is "yes" - 1 * b; a null b counts 0."""

    def predict(self, features: pd.DataFrame) -> np.ndarray:
        bonus = 5.0 * (features["c"].astype(object) == "yes").to_numpy()
        return 2 * features["a"].to_numpy() - features["b"].fillna(0).to_numpy() + bonus


@pytest.fixture
def features() -> pd.DataFrame:
    random = np.random.default_rng(1)
    frame = pd.DataFrame({"a": random.normal(size=400), "b": random.normal(size=400), "unused": 1.0})
    frame["c"] = pd.Categorical(random.choice(["yes", "no", None], 400), categories=["no", "yes"])
    frame.loc[::5, "b"] = np.nan
    return frame


def test_permutation_values_of_a_linear_model_are_its_terms(features):
    found = attribute(Linear(), features, Task.REGRESSION, seed=7)
    terms = 2 * found.features["a"].to_numpy()
    difference = found.values[:, 0] - terms  # up to the mean of the rows that each started from
    assert np.corrcoef(found.values[:, 0], terms)[0, 1] > 0.9
    assert abs(difference.mean()) < 0.3
    assert np.all(found.values[:, 2] == 0)
    assert found.importance()["feature"].tolist()[-1] == "unused"


def test_permutation_values_are_the_same_every_time(features):
    one, two = (attribute(Linear(), features, Task.REGRESSION, seed=7).values for _ in range(2))
    np.testing.assert_array_equal(one, two)


def test_tree_values_add_up_to_the_prediction(features):
    import lightgbm

    label = (features["a"] > 0).astype(float)
    data = lightgbm.Dataset(features, label)
    model = lightgbm.train({"objective": "binary", "verbosity": -1, "num_threads": 1}, data, 5)
    found = attribute(model, features, Task.CLASSIFICATION, seed=7)
    probability = predict(model, found.features, Task.CLASSIFICATION)
    margin = np.log(probability / (1 - probability))
    base = margin - found.values.sum(axis=1)
    assert np.ptp(base) < 1e-9
    assert found.importance()["feature"][0] == "a"


def test_the_picture_of_single_predictions_is_drawn(tmp_path, features):
    found = attribute(Linear(), features, Task.REGRESSION, seed=7)
    picture = save_shap_summary(tmp_path / "shap.png", found.values, found.features, found.unit)
    assert picture.stat().st_size > 1000
    assert save_importance(tmp_path / "importance.png", found.importance(), found.unit).stat().st_size > 1000
