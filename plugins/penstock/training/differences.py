"""By how much one model is better than another on the same rows, and how sure that is.

Both models are asked on the same draws of units (a paired bootstrap), so that what makes rows easy or hard for
both cancels out. The standard error is that of the draws; the interval is Student's, with the number of units
less one as degrees of freedom and the variance enlarged by units / (units - 1): with some dozens of units a
normal quantile, or the draws' own percentiles, would be too sure (A. C. Cameron, J. B. Gelbach and D. L. Miller,
Review of Economics and Statistics 90 (2008), on few clusters). benchmarks/comparison.py measures how often it errs.
"""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from penstock.spec.loading import LoadedProject
from penstock.spec.project import Model
from penstock.training.metrics import evaluate_metrics, is_lower_better
from penstock.training.replicates import MOST_UNDEFINED, repeats_of, replicate
from penstock.training.units import Units

if TYPE_CHECKING:
    import numpy as np

POWER = 0.9
"""The chance with which an improvement of the size that is declared must be found."""


@dataclass(frozen=True)
class Difference:
    """One metric of two models on the same rows. better_by > 0: the candidate is better, whichever way that is.

    None, with the reason in `why_not`, is what the rows do not define.
    """

    metric: str
    candidate: float | None
    reference: float | None
    better_by: float | None = None
    standard_error: float | None = None
    degrees_of_freedom: float = 0.0
    repeats: int = 0
    why_not: str | None = None

    @property
    def is_known(self) -> bool:
        """Whether there is a difference with a standard error."""
        return self.standard_error is not None

    def interval(self, alpha: float) -> tuple[float, float]:
        """The ends below and above which the truth lies with probability alpha each. NaN where unknown."""
        if self.better_by is None or self.standard_error is None:
            return math.nan, math.nan
        margin = self.quantile(1 - alpha) * self.standard_error if self.standard_error else 0.0
        return self.better_by - margin, self.better_by + margin

    def quantile(self, probability: float) -> float:
        """Student's, with this difference's degrees of freedom."""
        from scipy.stats import t

        return float(t.ppf(probability, self.degrees_of_freedom))

    def p_worse_than(self, margin: float) -> float:
        """How likely such a difference, or a worse one, is for a candidate that is worse by just `margin`."""
        from scipy.stats import t

        assert self.better_by is not None
        if not self.standard_error:
            return 1.0 if self.better_by >= -margin else 0.0
        return float(t.cdf((self.better_by + margin) / self.standard_error, self.degrees_of_freedom))

    def detectable(self, alpha: float) -> float:
        """The distance from a threshold that is found in 90 % of such comparisons."""
        if not self.standard_error:
            return 0.0 if self.is_known else math.nan
        return (self.quantile(1 - alpha) + self.quantile(POWER)) * self.standard_error


def difference(
    project: LoadedProject, model: Model, metric: str, label: "np.ndarray", candidate: "np.ndarray",
    reference: "np.ndarray", units: Units,
) -> Difference:  # fmt: skip
    """The paired difference of a metric: n labels, n predictions of either side (float64), their units."""
    import numpy as np

    found = [evaluate_metrics(project, model, label, side, [metric]) for side in (candidate, reference)]
    ours, theirs = (values.values.get(metric) for values in found)
    if ours is None or theirs is None:
        why = next(values.left_out[metric] for values in found if metric in values.left_out)
        return Difference(metric, ours, theirs, why_not=why)
    sign = -1.0 if is_lower_better(model, metric) else 1.0
    better_by = sign * (ours - theirs)
    freedom = units.degrees_of_freedom
    if freedom < 1:
        why = f"{units.count} {units.kind}(s) of rows give no interval"
        return Difference(metric, ours, theirs, better_by, why_not=why)
    repeats = repeats_of(model, metric, len(label))
    sides = [replicate(project, model, metric, label, side, units) for side in (candidate, reference)]
    drawn = np.concatenate([sides[0](draws) - sides[1](draws) for draws in units.draws(repeats, model.promotion.seed)])
    defined = drawn[np.isfinite(drawn)]
    if len(defined) < (1 - MOST_UNDEFINED) * repeats:
        why = f"{repeats - len(defined)} of {repeats} draws do not define it: are there enough rows of each class?"
        return Difference(metric, ours, theirs, better_by, why_not=why)
    error = float(defined.std(ddof=1)) * math.sqrt(units.count / (units.count - 1))
    return Difference(metric, ours, theirs, better_by, _rounded(error), freedom, len(defined))


def _rounded(error: float) -> float:
    """Sums of floats in another order differ by less than this: no error at all."""
    return 0.0 if error < 1e-14 else error
