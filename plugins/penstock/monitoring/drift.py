"""Distances between a column's training profile and a later sample of it.

Each method compares the profile with the sample without the training data. 0 is no drift; larger is more.
A method answers None where there is nothing to compare: no value that is not missing on one of the sides
(the rise of missing values is measured on its own).
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from penstock.profiles import QUANTILE_LEVELS, CategoricalProfile, NumericProfile, as_numbers, bin_shares
from penstock.spec.project import DriftMethod

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

PSI_EPSILON = 1e-4
"""The share that an empty bin counts as in PSI, whose logarithm does not stand 0."""


@dataclass(frozen=True)
class Comparison:
    """A column's training profile beside a later sample of it."""

    profile: NumericProfile | CategoricalProfile
    sample: "pd.Series"

    @cached_property
    def expected(self) -> "np.ndarray":
        """The training data's share in each bin."""
        import numpy as np

        return np.array(self.profile.share_list, dtype="float64")

    @cached_property
    def actual(self) -> "np.ndarray":
        """The sample's share in each bin."""
        return bin_shares(self.profile, self.sample)

    @property
    def possible(self) -> bool:
        """Whether both sides have values."""
        return bool(self.expected.any() and self.actual.any())


Method = Callable[[Comparison], float | None]

METHODS: dict[DriftMethod, Method] = {}
NUMBERS_ONLY = frozenset({DriftMethod.WASSERSTEIN})
"""Methods that need an order and a distance between values; a column of categories has none."""


def register(name: DriftMethod) -> Callable[[Method], Method]:
    """Makes a distance known by its name in the specification."""

    def add(method: Method) -> Method:
        METHODS[name] = method
        return method

    return add


def measures(method: DriftMethod, column: NumericProfile | CategoricalProfile) -> bool:
    """Whether a method can measure this kind of column."""
    return not (method in NUMBERS_ONLY and isinstance(column, CategoricalProfile))


@register(DriftMethod.PSI)
def population_stability_index(pair: Comparison) -> float | None:
    """The population stability index: the sum over bins of (a - e) * ln(a / e), with shares of at least 1e-4.

    0 where the shares are equal, unbounded above; it is Jeffreys' divergence of the two lists of shares.
    The trade's thresholds are 0.1 (look at it) and 0.2 or 0.25 (act).
    Source: N. Siddiqi, Credit Risk Scorecards, Wiley 2006; the statistic itself: H. Jeffreys, An invariant
    form for the prior probability in estimation problems, Proc. R. Soc. A 186 (1946).
    """
    import numpy as np

    if not pair.possible:
        return None
    expected, actual = np.maximum(pair.expected, PSI_EPSILON), np.maximum(pair.actual, PSI_EPSILON)
    return float(np.sum((actual - expected) * np.log(actual / expected)))


@register(DriftMethod.JENSEN_SHANNON)
def jensen_shannon(pair: Comparison) -> float | None:
    """The Jensen-Shannon distance of the shares, with base 2: 0 where they are equal, 1 where they share no bin.

    The square root of the divergence to the mean of both, which makes it a metric.
    Source: J. Lin, Divergence measures based on the Shannon entropy, IEEE Trans. Inf. Theory 37 (1991);
    the root: D. Endres and J. Schindelin, A new metric for probability distributions, ibid. 49 (2003).
    """
    import numpy as np

    if not pair.possible:
        return None
    middle = (pair.expected + pair.actual) / 2
    divergence = (_relative_entropy(pair.expected, middle) + _relative_entropy(pair.actual, middle)) / 2
    return float(np.sqrt(max(divergence, 0.0)))


@register(DriftMethod.WASSERSTEIN)
def wasserstein(pair: Comparison) -> float | None:
    """How far the values moved on average, in standard deviations of the training data.

    The first Wasserstein distance of two samples on a line is the area between their quantile functions:
    here by the trapezoid rule over the 101 quantiles of the profile, so that one far outlier moves it little.
    A column that was constant in training has no deviation, and is measured in its own unit. None for
    categories, which have no order.
    Source: S. Vallender, Calculation of the Wasserstein distance between probability distributions on the
    line, Theory Probab. Appl. 18 (1974).
    """
    import numpy as np

    column = pair.profile
    if isinstance(column, CategoricalProfile) or not column.quantiles:
        return None
    values = as_numbers(pair.sample)
    values = values[np.isfinite(values)]
    if not len(values):
        return None
    gap = np.abs(np.quantile(values, QUANTILE_LEVELS) - np.array(column.quantiles))
    return float(np.trapezoid(gap, QUANTILE_LEVELS)) / (column.std or 1.0)


def _relative_entropy(shares: "np.ndarray", reference: "np.ndarray") -> float:
    import numpy as np

    held = shares > 0
    return float(np.sum(shares[held] * np.log2(shares[held] / reference[held])))
