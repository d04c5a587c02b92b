"""Tuning: a small, seeded search for the parameters that do best on the tuning block."""

import logging
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from penstock.spec.project import SearchRange, Training
from penstock.training.errors import TrainingError

if TYPE_CHECKING:
    import optuna

logger = logging.getLogger(__name__)

Fit = Callable[[dict[str, Any]], tuple[Any, float | None]]
"""Fits a model with parameters; answers it with its metric on the tuning block (None: not defined)."""


@dataclass(frozen=True)
class Trial:
    """One fit: its parameters, what it reached, how long it took."""

    number: int
    parameters: dict[str, Any]
    value: float | None
    seconds: float


@dataclass(frozen=True)
class Tuned:
    """The best trial with its model, and all trials in order."""

    model: Any
    best: Trial
    trials: list[Trial]


def tune(training: Training, fit: Fit, *, trials: int, lower_is_better: bool) -> Tuned:
    """Fits `trials` models (one, where nothing is searched for) and keeps the best.

    The first has the declared parameters alone, so that tuning never does worse than not tuning. The others
    are proposed by the tree-structured Parzen estimator (Bergstra et al., NeurIPS 2011) with the spec's seed:
    the same data, the same trials. Of equals the earlier wins.
    Raises TrainingError where no trial has a value.
    """
    count = trials if training.search else 1
    study = _study(training.seed, count, lower_is_better) if count > 1 else None
    done: list[Trial] = []
    best: tuple[Trial, Any] | None = None
    for number in range(count):
        proposal = study.ask() if study is not None and number else None
        chosen = _suggest(proposal, training.search) if proposal is not None else {}
        trial, model = _run(number, {**training.parameters, **chosen}, fit)
        done.append(trial)
        if trial.value is not None and (best is None or _beats(trial, best[0], lower_is_better)):
            best = (trial, model)
        _tell(study, proposal, trial, training.search)
        _report(trial, count, training.metric, best[0] if best else None)
    if best is None:
        raise TrainingError(
            f"{training.metric} is not defined on the tuning block in any of {count} trial(s): it may hold one "
            "class only. Declare a longer training.tune, or another training.metric"
        )
    return Tuned(best[1], best[0], done)


def _run(number: int, parameters: dict[str, Any], fit: Fit) -> tuple[Trial, Any]:
    started = time.perf_counter()
    model, value = fit(parameters)
    usable = value if value is not None and math.isfinite(value) else None
    return Trial(number, parameters, usable, round(time.perf_counter() - started, 3)), model


def _beats(one: Trial, other: Trial, lower_is_better: bool) -> bool:
    if one.value is None or other.value is None:
        return other.value is None
    return one.value < other.value if lower_is_better else one.value > other.value


def _study(seed: int, count: int, lower_is_better: bool) -> "optuna.Study":
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    # By default the first ten trials are random, which would be all of a small budget.
    sampler = optuna.samplers.TPESampler(seed=seed, n_startup_trials=min(10, max(2, count // 2)))
    return optuna.create_study(direction="minimize" if lower_is_better else "maximize", sampler=sampler)


def _suggest(trial: "optuna.Trial", search: dict[str, SearchRange]) -> dict[str, Any]:
    chosen: dict[str, Any] = {}
    for name, space in search.items():
        if space.integer is not None:
            chosen[name] = trial.suggest_int(name, *space.integer, log=space.log)
        elif space.number is not None:
            chosen[name] = trial.suggest_float(name, *space.number, log=space.log)
        else:
            chosen[name] = trial.suggest_categorical(name, space.choice or [])
    return chosen


def _tell(
    study: "optuna.Study | None", proposal: "optuna.Trial | None", trial: Trial, search: dict[str, SearchRange]
) -> None:
    """Lets the sampler learn from a trial; from the first one if its parameters lie in the search space."""
    if study is None:
        return
    import optuna

    if proposal is not None:
        state = optuna.trial.TrialState.FAIL if trial.value is None else None
        study.tell(proposal, trial.value, state=state)
        return
    known = {name: trial.parameters[name] for name in search if name in trial.parameters}
    if trial.value is None or len(known) < len(search):
        return
    spaces = {name: _distribution(space) for name, space in search.items()}
    try:
        study.add_trial(optuna.trial.create_trial(params=known, distributions=spaces, value=trial.value))
    except ValueError:
        logger.debug("the declared parameters %s lie outside the search space", known)


def _distribution(space: SearchRange) -> "optuna.distributions.BaseDistribution":
    from optuna import distributions

    if space.integer is not None:
        return distributions.IntDistribution(*space.integer, log=space.log)
    if space.number is not None:
        return distributions.FloatDistribution(*space.number, log=space.log)
    return distributions.CategoricalDistribution(space.choice or [])


def _report(trial: Trial, count: int, metric: str, best: Trial | None) -> None:
    value = "not defined" if trial.value is None else f"{trial.value:.6g}"
    reached = "none" if best is None else f"{best.value:.6g}"
    logger.info(
        "trial %d of %d: %s %s (best %s) in %.1f s with %s",
        trial.number + 1, count, metric, value, reached, trial.seconds, trial.parameters,
    )  # fmt: skip
