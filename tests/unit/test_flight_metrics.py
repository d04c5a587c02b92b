"""The reference project's own code: what mistakes cost, and that training repeats itself."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from penstock.spec.functions import load_function
from penstock.spec.loading import load_project
from penstock.training import Block


@pytest.fixture(scope="module")
def project():
    return load_project(Path(__file__).resolve().parents[2], "flight_delays")


@pytest.fixture(scope="module")
def cost(project):
    return load_function(project, "models.metrics.cost_per_flight")


def test_a_missed_delay_costs_five_and_a_false_alarm_one(cost):
    assert cost([1, 0, 1, 0], [0.1, 0.1, 0.9, 0.9]) == (5 + 0 + 0 + 1) / 4
    assert cost([1, 0], [1.0, 0.0]) == 0


def test_an_alarm_begins_at_one_sixth(cost):
    assert cost([0], [1 / 6]) == 1
    assert cost([0], [1 / 6 - 1e-9]) == 0


def test_one_sixth_is_the_cheapest_threshold_for_calibrated_predictions(cost):
    rng = np.random.default_rng(1)
    probability = rng.uniform(size=200_000)
    late = (rng.uniform(size=probability.size) < probability).astype(float)
    costs = {shift: cost(late, probability + shift) for shift in (-0.1, 0.0, 0.1)}
    assert min(costs, key=costs.get) == 0.0


@pytest.mark.parametrize(("label", "prediction"), [([], []), ([1, 0], [0.5])])
def test_the_cost_of_nothing_is_an_error(cost, label, prediction):
    with pytest.raises(ValueError, match="labels, .* predictions"):
        cost(label, prediction)


def _block(rows: int, seed: int) -> Block:
    rng = np.random.default_rng(seed)
    features = pd.DataFrame(
        {
            "distance": rng.normal(size=rows),
            "temp": np.where(rng.uniform(size=rows) < 0.1, np.nan, rng.normal(size=rows)),
            "carrier": pd.Categorical(rng.choice(["AA", "UA", None], size=rows), categories=["AA", "UA"]),
        }
    )
    odds = features["distance"] + (features["carrier"] == "UA") - 1
    label = (rng.uniform(size=rows) < 1 / (1 + np.exp(-2 * odds))).astype("float64")
    return Block(features, label.to_numpy(), pd.Series(pd.date_range("2013-01-01", periods=rows, freq="min", tz="UTC")))


def test_training_gives_probabilities_stops_early_and_repeats_itself(project):
    train = load_function(project, "models.late_arrival.train")
    parameters = {"learning_rate": 0.3, "num_leaves": 7, "feature_fraction": 0.7, "seed": 3}
    training, tuning, fresh = _block(4000, 1), _block(1000, 2), _block(1000, 3)
    model, again = (train(training, tuning, dict(parameters)) for _ in range(2))
    predicted = model.predict(fresh.features)
    assert 0 < model.best_iteration < 400
    assert ((predicted > 0) & (predicted < 1)).all()
    assert np.corrcoef(predicted, fresh.label)[0, 1] > 0.4
    assert model.model_to_string() == again.model_to_string()
