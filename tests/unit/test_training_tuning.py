"""The search for parameters, with a function in place of a model."""

import logging

import pytest

from penstock.spec.environment import Limits
from penstock.spec.project import Training
from penstock.training import TrainingError
from penstock.training.trials import Fitted, Report, Trial, TrialState
from penstock.training.tuning import Budget, Tuned, tune

SEARCH = {"x": {"float": [0.0, 10.0]}, "n": {"int": [1, 64], "log": True}, "kind": {"choice": ["a", "b"]}}


def training(**changes: object) -> Training:
    return Training.model_validate({"function": "m.f", "metric": "log_loss", "search": SEARCH, **changes})


def valley(parameters: dict, report: Report) -> Fitted:
    """The model is its parameters; best at x = 3."""
    return Fitted(parameters, (parameters.get("x", 9.0) - 3.0) ** 2)


def tuned(spec: Training, fit=valley, *, trials: int = 6, lower_is_better: bool = True, **more: object) -> Tuned:
    spec = spec.model_copy(update={"trials": trials})
    return tune(spec, fit, Budget.of(spec, Limits()), lower_is_better=lower_is_better, **more)


def test_the_first_trial_has_the_declared_parameters_alone():
    found = tuned(training(parameters={"rate": 0.1}), trials=3)
    assert found.trials[0].parameters == {"rate": 0.1}
    assert found.trials[1].parameters.keys() == {"rate", "x", "n", "kind"}


def test_the_best_trial_wins_in_either_direction():
    least = tuned(training(), trials=8)
    most = tuned(training(), trials=8, lower_is_better=False)
    assert least.best.value == min(trial.value for trial in least.trials)
    assert most.best.value == max(trial.value for trial in most.trials)
    assert least.model == least.best.parameters


def test_the_same_seed_proposes_the_same_trials():
    one, two = (tuned(training(), trials=6) for _ in range(2))
    other = tuned(training(seed=8), trials=6)
    assert [trial.parameters for trial in one.trials] == [trial.parameters for trial in two.trials]
    assert [trial.parameters for trial in one.trials] != [trial.parameters for trial in other.trials]


def test_proposals_stay_within_the_declared_ranges():
    found = tuned(training(parameters={"x": 5.0, "n": 8, "kind": "a"}), trials=12)
    for trial in found.trials:
        assert 0 <= trial.parameters["x"] <= 10
        assert 1 <= trial.parameters["n"] <= 64
        assert trial.parameters["kind"] in ("a", "b")


def test_declared_parameters_outside_the_search_space_are_tried_too():
    found = tuned(training(parameters={"x": 99.0, "n": 8, "kind": "a"}), trials=3)
    assert found.trials[0].parameters["x"] == 99.0


def test_without_a_search_there_is_one_fit():
    assert len(tuned(training(search={}), trials=5).trials) == 1


def test_a_trial_without_a_value_does_not_win():
    def sometimes(parameters: dict, report: Report) -> Fitted:
        undefined = None if "x" not in parameters else float("nan")
        return Fitted(parameters, undefined if parameters.get("x", 9.0) > 5 else parameters["x"])

    found = tuned(training(), sometimes, trials=10, lower_is_better=False)
    assert found.best.value == max(trial.value for trial in found.trials if trial.value is not None)
    assert found.trials[0].value is None


def test_no_value_at_all_is_an_error_that_says_what_to_do():
    with pytest.raises(TrainingError, match="log_loss is not defined on the tuning block in any of 3 trial"):
        tuned(training(), lambda parameters, report: Fitted(parameters, None), trials=3)


def test_each_trial_is_logged_with_the_best_so_far(caplog):
    with caplog.at_level(logging.INFO, logger="penstock.training.tuning"):
        tuned(training(), trials=2)
    assert "trial 1 of 2: log_loss 36 (best 36)" in caplog.text
    assert "trial 2 of 2" in caplog.text


@pytest.mark.parametrize("done", [1, 2, 5, 8])
def test_an_interrupted_study_goes_on_as_if_it_had_not_been(done):
    whole = tuned(training(), trials=8)
    kept: list[Trial] = []
    again = tuned(training(), trials=8, earlier=whole.trials[:done], keep=kept.append)
    assert [trial.parameters for trial in again.trials] == [trial.parameters for trial in whole.trials]
    assert [trial.number for trial in kept] == list(range(done, 8))
    assert (again.model, again.best.number) == (whole.model, whole.best.number)


def test_an_interrupted_study_with_pruned_trials_goes_on_as_if_it_had_not_been():
    whole = tuned(training(), climb, trials=16)
    assert TrialState.PRUNED in {trial.state for trial in whole.trials[:10]}
    again = tuned(training(), climb, trials=16, earlier=whole.trials[:10])
    assert [without_time(trial) for trial in again.trials] == [without_time(trial) for trial in whole.trials]


def climb(parameters: dict, report: Report) -> Fitted:
    """Comes nearer to its value with each step, and reports it."""
    reached = (parameters.get("x", 9.0) - 3.0) ** 2
    for step in range(5):
        report(step, reached + 5 - step)
    return Fitted(parameters, reached)


def without_time(trial: Trial) -> tuple:
    return trial.parameters, trial.value, trial.state, trial.steps


def test_a_trial_that_falls_behind_is_given_up():
    found = tuned(training(), climb, trials=16)
    given_up = [trial for trial in found.trials if trial.state is TrialState.PRUNED]
    complete = [trial for trial in found.trials if trial.state is TrialState.COMPLETE]
    assert given_up
    assert all(len(trial.steps) < 5 and trial.value is None for trial in given_up)
    assert found.best.value == min(trial.value for trial in complete)
    assert all(trial.number > 4 for trial in given_up)  # nothing to compare with before


def test_without_pruning_every_trial_comes_to_its_end():
    found = tuned(training(pruning=False), climb, trials=16)
    assert {trial.state for trial in found.trials} == {TrialState.COMPLETE}


BEST = [{"x": 1.0, "n": 8, "kind": "a"}, {"x": 2.5, "n": 16, "kind": "b"}]


def test_an_environment_that_wants_the_best_options_tries_these_only():
    spec = training(best=BEST, parameters={"rate": 0.1, "x": 7.0}, trials=9)
    found = tune(spec, valley, Budget.of(spec, Limits(search="best")), lower_is_better=True)
    assert [trial.parameters for trial in found.trials] == [{"rate": 0.1, **option} for option in BEST]
    assert found.best.number == 1


def test_the_best_options_are_no_more_than_the_environments_trials():
    spec = training(best=BEST)
    assert Budget.of(spec, Limits(search="best", trials=1)).options == (BEST[0],)


def test_a_model_without_best_options_is_searched_wide():
    assert Budget.of(training(), Limits(search="best", trials=4)) == Budget(4, None, (), "wide")


def test_no_trial_begins_once_the_minutes_are_over():
    slow = [Trial(number, {"x": 3.0 + number}, float(number), seconds=31.0) for number in range(2)]
    found = tune(training(), valley, Budget(50, 1, (), "wide"), lower_is_better=True, earlier=slow)
    assert found.trials == slow
    assert found.model == {"x": 3.0}
    assert "limits.tuning_minutes (1) were over after 2 trials" in found.stopped
    assert tuned(training(), trials=2).stopped is None


def test_given_parameters_are_fitted_once_and_as_they_are():
    found = tune(training(parameters={"rate": 1}), valley, Budget.once({"x": 4.0}), lower_is_better=True)
    assert [trial.parameters for trial in found.trials] == [{"x": 4.0}]
