"""Tuning: a small, seeded search for the parameters that do best on the tuning block."""

import logging
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from penstock.spec.environment import Limits, Search
from penstock.spec.project import Training
from penstock.training.errors import TrainingError
from penstock.training.study import Proposal, Study
from penstock.training.trials import Fit, Fitted, PrunedError, Trial, TrialState, unheard

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Budget:
    """What may be tried: parameters over the declared ones by trial (empty: proposals after the first), and how long.

    kind: `wide`, `best`, or `declared` where there is nothing to choose.
    """

    trials: int
    minutes: float | None = None
    options: tuple[dict[str, Any], ...] = ()
    kind: str = "declared"

    @classmethod
    def of(cls, training: Training, limits: Limits) -> "Budget":
        """What a model's declaration asks for, within an environment's limits."""
        trials = min(training.trials, limits.trials or training.trials)
        if training.best and limits.search is Search.BEST:
            options = tuple(training.best[:trials])
            return cls(len(options), limits.tuning_minutes, options, str(Search.BEST))
        if not training.search:
            return cls(1)
        return cls(trials, limits.tuning_minutes, (), str(Search.WIDE))

    @classmethod
    def once(cls, parameters: dict[str, Any]) -> "Budget":
        """One fit with exactly these parameters, such as those of a recorded model."""
        return cls(1, None, (parameters,), "given")


@dataclass(frozen=True)
class Tuned:
    """The best trial with its model, and all trials in order. stopped: why there are fewer than planned, if so."""

    model: Any
    best: Trial
    trials: list[Trial]
    stopped: str | None = None


def tune(
    training: Training, fit: Fit, budget: Budget, *, lower_is_better: bool, earlier: Sequence[Trial] = (),
    keep: Callable[[Trial], None] = lambda _: None,
) -> Tuned:  # fmt: skip
    """Makes the budget's trials and keeps the best; of equals the earlier wins.

    A wide search begins with the declared parameters alone, so that tuning never does worse than not tuning; the
    others are proposed by the study with the spec's seed: the same data, the same trials. `earlier` are the first
    trials of the same study, which was interrupted; they are not made again. `keep` gets each further one as it ends.
    Raises TrainingError where no trial has a value.
    """
    study = Study(training, budget.trials, lower_is_better) if not budget.options and budget.trials > 1 else None
    course = _Course(training, budget, lower_is_better)
    for trial in list(earlier)[: budget.trials]:
        course.add(trial, None)
        if study is not None:
            study.learn(trial)
    while course.goes_on:
        number = len(course.trials)
        proposal = study.propose(number) if study is not None and number else None
        trial, model = _run(number, _parameters(training, budget, number, proposal), fit, proposal)
        course.add(trial, model)
        if study is not None:
            study.learn(trial, proposal)
        keep(trial)
    best = course.best
    if best is None:
        raise TrainingError(
            f"{training.metric} is not defined on the tuning block in any of {len(course.trials)} trial(s): it may "
            "hold one class only. Declare a longer training.tune, or another training.metric"
        )
    model = course.model if course.model is not None else fit(best.parameters, unheard).model
    return Tuned(model, best, course.trials, course.stopped)


class _Course:
    """The trials so far, the best of them with its model (None for one of an interrupted study), and the clock."""

    def __init__(self, training: Training, budget: Budget, lower_is_better: bool) -> None:
        self.trials: list[Trial] = []
        self.best: Trial | None = None
        self.model: Any = None
        self.stopped: str | None = None
        self._training, self._budget, self._lower = training, budget, lower_is_better

    @property
    def goes_on(self) -> bool:
        """Whether another trial is to be made."""
        if len(self.trials) >= self._budget.trials:
            return False
        minutes = self._budget.minutes
        if minutes is None or self.best is None or sum(trial.seconds for trial in self.trials) < minutes * 60:
            return True
        self.stopped = f"limits.tuning_minutes ({minutes:g}) were over after {len(self.trials)} trials"
        logger.info("tuning ends: %s of %d", self.stopped, self._budget.trials)
        return False

    def add(self, trial: Trial, model: Any) -> None:
        """Takes a trial in, and keeps its model if it is the best so far."""
        self.trials.append(trial)
        if trial.value is not None and (self.best is None or _beats(trial, self.best, self._lower)):
            self.best, self.model = trial, model
        _report(trial, self._budget.trials, self._training.metric, self.best)


def _parameters(training: Training, budget: Budget, number: int, proposal: Proposal | None) -> dict[str, Any]:
    if budget.kind == "given":
        return dict(budget.options[number])
    chosen = budget.options[number] if budget.options else proposal.parameters if proposal is not None else {}
    return {**training.parameters, **chosen}


def _run(number: int, parameters: dict[str, Any], fit: Fit, proposal: Proposal | None) -> tuple[Trial, Any]:
    started = time.perf_counter()
    try:
        fitted = fit(parameters, proposal.report if proposal is not None else unheard)
        usable = fitted.value is not None and math.isfinite(fitted.value)
        state = TrialState.COMPLETE if usable else TrialState.UNDEFINED
    except PrunedError as reason:
        logger.info("trial %d is %s", number + 1, reason)
        fitted, state = Fitted(None, None), TrialState.PRUNED
    trial = Trial(
        number, parameters, fitted.value if state is TrialState.COMPLETE else None,
        round(time.perf_counter() - started, 3), state, fitted.folds, dict(proposal.steps) if proposal else {},
    )  # fmt: skip
    return trial, fitted.model


def _beats(one: Trial, other: Trial, lower_is_better: bool) -> bool:
    if one.value is None or other.value is None:
        return other.value is None
    return one.value < other.value if lower_is_better else one.value > other.value


def _report(trial: Trial, count: int, metric: str, best: Trial | None) -> None:
    value = trial.state if trial.value is None else f"{trial.value:.6g}"
    reached = "none" if best is None else f"{best.value:.6g}"
    logger.info(
        "trial %d of %d: %s %s (best %s) in %.1f s with %s",
        trial.number + 1, count, metric, value, reached, trial.seconds, trial.parameters,
    )  # fmt: skip
