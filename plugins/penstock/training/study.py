"""Optuna's part of tuning: what to try next, and what to give up."""

import math
from typing import TYPE_CHECKING, Any

from penstock.spec.project import SearchRange, Training
from penstock.training.trials import PrunedError, Trial, TrialState

if TYPE_CHECKING:
    import optuna

_SEEDS = 1_000_003  # so far apart are the seeds of trials of neighbouring seeds
_UNPRUNED_TRIALS = 5


class Study:
    """Proposes parameters by the tree-structured Parzen estimator (Bergstra et al., NeurIPS 2011).

    What a trial proposes depends on the seed, its number and the trials before it, and on nothing else: a study
    that was interrupted goes on as if it had not been.
    """

    def __init__(self, training: Training, count: int, lower_is_better: bool) -> None:
        import optuna

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self._training = training
        self._startup = min(10, max(2, count // 2))  # by default ten are random, which is all of a small budget
        self._study = optuna.create_study(
            direction="minimize" if lower_is_better else "maximize",
            pruner=optuna.pruners.MedianPruner(n_startup_trials=_UNPRUNED_TRIALS)
            if training.pruning
            else optuna.pruners.NopPruner(),
        )

    @property
    def optuna(self) -> "optuna.Study":
        """The study as Optuna's own functions take it."""
        return self._study

    def propose(self, number: int) -> "Proposal":
        """What to try as trial `number`."""
        import optuna

        seed = (self._training.seed * _SEEDS + number) % 2**32
        self._study.sampler = optuna.samplers.TPESampler(seed=seed, n_startup_trials=self._startup)
        trial = self._study.ask()
        return Proposal(trial, {name: _suggest(trial, name, space) for name, space in self._training.search.items()})

    def learn(self, trial: Trial, proposal: "Proposal | None" = None) -> None:
        """Takes in a finished trial: what came of a proposal, or one made elsewhere that lies in the search space."""
        import optuna

        states = optuna.trial.TrialState
        state = {TrialState.COMPLETE: states.COMPLETE, TrialState.PRUNED: states.PRUNED}.get(trial.state, states.FAIL)
        if proposal is not None:
            self._study.tell(proposal.trial, trial.value if state is states.COMPLETE else None, state=state)
            return
        search = self._training.search
        known = {name: trial.parameters[name] for name in search if name in trial.parameters}
        if len(known) < len(search):
            return
        try:
            self._study.add_trial(
                optuna.trial.create_trial(
                    params=known, distributions={name: distribution(space) for name, space in search.items()},
                    value=_value(trial), state=state, intermediate_values=trial.steps,
                )
            )  # fmt: skip
        except ValueError:
            return  # the declared parameters may lie outside


def _value(trial: Trial) -> float | None:
    """As Optuna keeps it: a pruned trial counts with what it reported last."""
    if trial.state is TrialState.PRUNED:
        return list(trial.steps.values())[-1]
    return trial.value


class Proposal:
    """Parameters to try, and a report that gives them up where they fall behind."""

    def __init__(self, trial: "optuna.Trial", parameters: dict[str, Any]) -> None:
        self.trial = trial
        self.parameters = parameters
        self.steps: dict[int, float] = {}

    def report(self, step: int, value: float) -> None:
        """Raises PrunedError where the median of the earlier trials at this step is better."""
        if step in self.steps or not math.isfinite(value):
            return
        self.steps[step] = float(value)
        self.trial.report(float(value), step)
        if self.trial.should_prune():
            raise PrunedError(f"given up at step {step} with {value:.6g}: behind the median of the earlier trials")


def distribution(space: SearchRange) -> "optuna.distributions.BaseDistribution":
    """A declared range as Optuna's."""
    from optuna import distributions

    if space.integer is not None:
        return distributions.IntDistribution(*space.integer, log=space.log)
    if space.number is not None:
        return distributions.FloatDistribution(*space.number, log=space.log)
    return distributions.CategoricalDistribution(space.choice or [])


def _suggest(trial: "optuna.Trial", name: str, space: SearchRange) -> Any:
    if space.integer is not None:
        return trial.suggest_int(name, *space.integer, log=space.log)
    if space.number is not None:
        return trial.suggest_float(name, *space.number, log=space.log)
    return trial.suggest_categorical(name, space.choice or [])
