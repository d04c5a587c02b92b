"""Confidence intervals of metrics: percentiles of a bootstrap (Efron and Tibshirani, 1993, chapter 13)."""

from dataclasses import dataclass
from time import perf_counter
from typing import TYPE_CHECKING

from penstock.spec.loading import LoadedProject
from penstock.spec.project import Model
from penstock.training.metrics import metric_function
from penstock.training.replicates import MOST_UNDEFINED, replicate
from penstock.training.units import Units

if TYPE_CHECKING:
    import numpy as np

_FEWEST_REPEATS = 50
_FEWEST_UNITS = 10
_SECONDS = 3.0  # for the resamples of one metric of the project's own


@dataclass(frozen=True)
class Interval:
    """Where a metric lies with some confidence: from `repeats` resamples."""

    low: float
    high: float
    repeats: int


@dataclass(frozen=True)
class Intervals:
    """The intervals of some metrics, and for those that have none the reason."""

    found: dict[str, Interval]
    left_out: dict[str, str]


@dataclass(frozen=True)
class Bootstrap:
    """How intervals of a model's metrics are made. known_repeats: those of metrics that were measured before."""

    project: LoadedProject
    model: Model
    repeats: int
    known_repeats: dict[str, int]

    def intervals(self, names: list[str], label: "np.ndarray", prediction: "np.ndarray", units: Units) -> Intervals:
        """The intervals of metrics that are defined for these n > 0 rows.

        A metric of the project's own is called for each resample; a slow one for fewer of them. Which number that is
        depends on the clock, so that a repeat passes it on as known_repeats. A metric has no interval where fewer
        than 10 units could be drawn, where it is too slow for 50 calls, or undefined in more than 5 % of the resamples.
        """
        if units.count < _FEWEST_UNITS:
            what = "rows" if units.single else "stretches of time"
            reason = f"there are {units.count} {what} to draw from, and an interval takes {_FEWEST_UNITS}"
            return Intervals({}, dict.fromkeys(names, reason))
        repeats = {name: self._repeats_of(name, label, prediction) for name in names}
        answers: dict[str, Interval | str] = {}
        for count in set(repeats.values()):  # metrics of one number of resamples share them
            some = [name for name in names if repeats[name] == count]
            answers |= self._answers(some, count, label, prediction, units)
        return Intervals(
            {name: answer for name in names if isinstance(answer := answers[name], Interval)},
            {name: answer for name in names if isinstance(answer := answers[name], str)},
        )

    def _repeats_of(self, name: str, label: "np.ndarray", prediction: "np.ndarray") -> int:
        """All repeats; of a metric of the project's own a fifth of them, or none, by how long one call takes."""
        if name not in self.model.training.metrics:
            return self.repeats
        if known := self.known_repeats.get(name):
            return known
        metric = metric_function(self.project, self.model, name)
        begin = perf_counter()
        metric(label, prediction)
        seconds = perf_counter() - begin
        fewer = max(self.repeats // 5, min(self.repeats, _FEWEST_REPEATS))
        return next((count for count in (self.repeats, fewer) if count * seconds <= _SECONDS), 0)

    def _answers(
        self, names: list[str], repeats: int, label: "np.ndarray", prediction: "np.ndarray", units: Units
    ) -> "dict[str, Interval | str]":
        import numpy as np

        if repeats < min(self.repeats, _FEWEST_REPEATS):
            return dict.fromkeys(names, f"it is too slow for {_FEWEST_REPEATS} resamples of {len(label)} rows")
        measures = {name: replicate(self.project, self.model, name, label, prediction, units) for name in names}
        values: dict[str, list[np.ndarray]] = {name: [] for name in names}
        for draws in units.draws(repeats, self.model.training.seed):
            for name, measure in measures.items():
                values[name].append(measure(draws))
        return {name: self._percentiles(np.concatenate(parts)) for name, parts in values.items()}

    def _percentiles(self, values: "np.ndarray") -> "Interval | str":
        import numpy as np

        defined = values[np.isfinite(values)]
        if len(values) - len(defined) > MOST_UNDEFINED * len(values):
            return f"it is not defined in {len(values) - len(defined)} of {len(values)} resamples"
        outside = (1 - self.model.evaluation.confidence) / 2
        low, high = np.quantile(defined, [outside, 1 - outside])
        return Interval(float(low), float(high), len(values))
