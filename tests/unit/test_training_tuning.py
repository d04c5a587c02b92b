"""The search for parameters, with a function in place of a model."""

import logging

import pytest

from penstock.spec.project import Training
from penstock.training import TrainingError
from penstock.training.tuning import tune

SEARCH = {"x": {"float": [0.0, 10.0]}, "n": {"int": [1, 64], "log": True}, "kind": {"choice": ["a", "b"]}}


def training(**changes: object) -> Training:
    return Training.model_validate({"function": "m.f", "metric": "log_loss", "search": SEARCH, **changes})


def valley(parameters: dict) -> tuple[dict, float]:
    """The model is its parameters; best at x = 3."""
    return parameters, (parameters.get("x", 9.0) - 3.0) ** 2


def test_the_first_trial_has_the_declared_parameters_alone():
    found = tune(training(parameters={"rate": 0.1}), valley, trials=3, lower_is_better=True)
    assert found.trials[0].parameters == {"rate": 0.1}
    assert found.trials[1].parameters.keys() == {"rate", "x", "n", "kind"}


def test_the_best_trial_wins_in_either_direction():
    least = tune(training(), valley, trials=8, lower_is_better=True)
    most = tune(training(), valley, trials=8, lower_is_better=False)
    assert least.best.value == min(trial.value for trial in least.trials)
    assert most.best.value == max(trial.value for trial in most.trials)
    assert least.model == least.best.parameters


def test_the_same_seed_proposes_the_same_trials():
    one, two = (tune(training(), valley, trials=6, lower_is_better=True) for _ in range(2))
    other = tune(training(seed=8), valley, trials=6, lower_is_better=True)
    assert [trial.parameters for trial in one.trials] == [trial.parameters for trial in two.trials]
    assert [trial.parameters for trial in one.trials] != [trial.parameters for trial in other.trials]


def test_proposals_stay_within_the_declared_ranges():
    found = tune(training(parameters={"x": 5.0, "n": 8, "kind": "a"}), valley, trials=12, lower_is_better=True)
    for trial in found.trials:
        assert 0 <= trial.parameters["x"] <= 10
        assert 1 <= trial.parameters["n"] <= 64
        assert trial.parameters["kind"] in ("a", "b")


def test_declared_parameters_outside_the_search_space_are_tried_too():
    found = tune(training(parameters={"x": 99.0, "n": 8, "kind": "a"}), valley, trials=3, lower_is_better=True)
    assert found.trials[0].parameters["x"] == 99.0


def test_without_a_search_there_is_one_fit():
    assert len(tune(training(search={}), valley, trials=5, lower_is_better=True).trials) == 1


def test_a_trial_without_a_value_does_not_win():
    def sometimes(parameters: dict) -> tuple[dict, float | None]:
        return parameters, None if "x" not in parameters else float("nan") if parameters["x"] > 5 else parameters["x"]

    found = tune(training(), sometimes, trials=10, lower_is_better=False)
    assert found.best.value == max(trial.value for trial in found.trials if trial.value is not None)
    assert found.trials[0].value is None


def test_no_value_at_all_is_an_error_that_says_what_to_do():
    with pytest.raises(TrainingError, match="log_loss is not defined on the tuning block in any of 3 trial"):
        tune(training(), lambda parameters: (parameters, None), trials=3, lower_is_better=True)


def test_each_trial_is_logged_with_the_best_so_far(caplog):
    with caplog.at_level(logging.INFO, logger="penstock.training.tuning"):
        tune(training(), valley, trials=2, lower_is_better=True)
    assert "trial 1 of 2: log_loss 36 (best 36)" in caplog.text
    assert "trial 2 of 2" in caplog.text
