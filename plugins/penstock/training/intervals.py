"""Confidence intervals of metrics: percentiles of a bootstrap (Efron and Tibshirani, 1993, chapter 13)."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from time import perf_counter
from typing import TYPE_CHECKING

from penstock.spec.loading import LoadedProject
from penstock.spec.project import Model
from penstock.training.metrics import Metric, metric_function
from penstock.training.resampling import Units
from penstock.training.weighted_metrics import weighted_metric

if TYPE_CHECKING:
    import numpy as np

_FEWEST_REPEATS = 50
_FEWEST_UNITS = 10
_MOST_UNDEFINED = 0.05
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
        own = [name for name in names if name in self.model.training.metrics]
        built_in = [name for name in names if name not in own]
        answers = {name: self._of_own(name, label, prediction, units) for name in own}
        answers |= self._of_built_in(built_in, label, prediction, units)
        found, left_out = {}, {}
        for name in names:
            answer = answers[name]
            if isinstance(answer, Interval):
                found[name] = answer
            else:
                left_out[name] = answer
        return Intervals(found, left_out)

    def _of_built_in(
        self, names: list[str], label: "np.ndarray", prediction: "np.ndarray", units: Units
    ) -> "dict[str, Interval | str]":
        import numpy as np

        measures = {name: weighted_metric(name, label, prediction) for name in names}
        values: dict[str, list[np.ndarray]] = {name: [] for name in names}
        for counts in units.draw(self.repeats, self._seed) if names else ():
            for name, measure in measures.items():
                values[name].append(measure(counts))
        return {name: self._percentiles(np.concatenate(parts)) for name, parts in values.items()}

    def _of_own(self, name: str, label: "np.ndarray", prediction: "np.ndarray", units: Units) -> "Interval | str":
        import numpy as np

        function = metric_function(self.project, self.model, name)
        repeats = self.known_repeats.get(name) or self._affordable(function, label, prediction)
        if repeats < min(self.repeats, _FEWEST_REPEATS):
            return f"it is too slow for {_FEWEST_REPEATS} resamples of {len(label)} rows"
        values = np.fromiter(_own(function, label, prediction, units, repeats, self._seed), dtype="float64")
        return self._percentiles(values)

    def _affordable(self, function: Metric, label: "np.ndarray", prediction: "np.ndarray") -> int:
        """All repeats, or a fifth of them, or none, by how long one call takes."""
        begin = perf_counter()
        function(label, prediction)
        seconds = perf_counter() - begin
        fewer = max(self.repeats // 5, min(self.repeats, _FEWEST_REPEATS))
        return next((count for count in (self.repeats, fewer) if count * seconds <= _SECONDS), 0)

    def _percentiles(self, values: "np.ndarray") -> "Interval | str":
        import numpy as np

        defined = values[np.isfinite(values)]
        if len(values) - len(defined) > _MOST_UNDEFINED * len(values):
            return f"it is not defined in {len(values) - len(defined)} of {len(values)} resamples"
        outside = (1 - self.model.evaluation.confidence) / 2
        low, high = np.quantile(defined, [outside, 1 - outside])
        return Interval(float(low), float(high), len(values))

    @property
    def _seed(self) -> int:
        return self.model.training.seed


def _own(
    function: Metric, label: "np.ndarray", prediction: "np.ndarray", units: Units, repeats: int, seed: int
) -> Iterator[float]:
    import numpy as np

    rows = np.arange(len(label))
    for some in units.draw(repeats, seed):
        for counts in some:
            drawn = np.repeat(rows, counts.astype(int))
            try:
                yield float(function(label[drawn], prediction[drawn]))
            except Exception:
                yield math.nan
