"""From which probability on to act: the threshold that the project's costs choose, and what follows from it."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from penstock.spec.project import Costs

if TYPE_CHECKING:
    import numpy as np

DEFAULT = 0.5


@dataclass(frozen=True)
class Confusion:
    """How many rows of each label were predicted to be 1 (positive) and 0."""

    true_positives: int
    false_positives: int
    true_negatives: int
    false_negatives: int

    @property
    def rows(self) -> int:
        """All of them."""
        return self.true_positives + self.false_positives + self.true_negatives + self.false_negatives

    def cost(self, costs: Costs) -> float:
        """The mean cost of a row."""
        total = self.false_positives * costs.false_positive + self.false_negatives * costs.false_negative
        return total / max(self.rows, 1)


@dataclass(frozen=True)
class ThresholdChoice:
    """A threshold (predictions from it on count as 1), who chose it, and what it does on the hold-out block.

    precision and recall are None where nothing is predicted, or labelled, 1. cost: a row's mean cost, None without
    costs. cost_at_ratio: that of the threshold false_positive / (false_positive + false_negative), which would be
    the cheapest of perfectly calibrated probabilities (Elkan, 2001). cost_at_best: that of the threshold that would
    have been the cheapest here, known only afterwards.
    """

    threshold: float
    chosen_by: str
    confusion: Confusion
    precision: float | None
    recall: float | None
    cost: float | None = None
    cost_at_ratio: float | None = None
    cost_at_best: float | None = None


@dataclass(frozen=True)
class CostCurve:
    """The mean cost of a row (m,) at each threshold (m,), ascending."""

    thresholds: "np.ndarray"
    costs: "np.ndarray"

    @property
    def cheapest(self) -> float:
        """The threshold of least cost; in the middle of those that cost the same."""
        import numpy as np

        best = np.flatnonzero(self.costs == self.costs.min())
        return float(self.thresholds[best[len(best) // 2]])


def choose_threshold(
    costs: Costs | None,
    tuning: tuple["np.ndarray", "np.ndarray"],
    hold_out: tuple["np.ndarray", "np.ndarray"],
) -> ThresholdChoice:
    """Chooses on the tuning block (label, prediction), so that what is reported of the hold-out block is honest."""
    label, prediction = hold_out
    if costs is None:
        return _choice(DEFAULT, "no costs are declared: 0.5", label, prediction)
    curve = cost_curve(costs, *tuning)
    ratio = costs.false_positive / (costs.false_positive + costs.false_negative)
    made = _choice(curve.cheapest, "the least cost on the tuning block", label, prediction)
    return ThresholdChoice(
        made.threshold, made.chosen_by, made.confusion, made.precision, made.recall,
        cost=made.confusion.cost(costs),
        cost_at_ratio=confusion_at(ratio, label, prediction).cost(costs),
        cost_at_best=float(cost_curve(costs, label, prediction).costs.min()),
    )  # fmt: skip


def confusion_at(threshold: float, label: "np.ndarray", prediction: "np.ndarray") -> Confusion:
    """The confusion of n rows where predictions from the threshold on count as 1."""
    said, is_so = prediction >= threshold, label > 0.5
    return Confusion(
        true_positives=int((said & is_so).sum()), false_positives=int((said & ~is_so).sum()),
        true_negatives=int((~said & ~is_so).sum()), false_negatives=int((~said & is_so).sum()),
    )  # fmt: skip


def cost_curve(costs: Costs, label: "np.ndarray", prediction: "np.ndarray") -> CostCurve:
    """The cost at every threshold that these n > 0 rows tell apart: between two predictions, below and above all."""
    import numpy as np

    values, number = np.unique(prediction, return_inverse=True)
    positives = np.bincount(number, weights=label > 0.5, minlength=len(values))
    negatives = np.bincount(number, minlength=len(values)) - positives
    missed = np.concatenate([[0], np.cumsum(positives)])  # predictions below the threshold
    alarms = np.concatenate([np.cumsum(negatives[::-1])[::-1], [0]])
    middles = (values[1:] + values[:-1]) / 2
    thresholds = np.concatenate([[min(0.0, values[0])], middles, [max(1.0, np.nextafter(values[-1], np.inf))]])
    total = alarms * costs.false_positive + missed * costs.false_negative
    return CostCurve(thresholds, total / len(label))


def _choice(threshold: float, chosen_by: str, label: "np.ndarray", prediction: "np.ndarray") -> ThresholdChoice:
    found = confusion_at(threshold, label, prediction)
    said, is_so = found.true_positives + found.false_positives, found.true_positives + found.false_negatives
    return ThresholdChoice(
        threshold, chosen_by, found,
        precision=found.true_positives / said if said else None, recall=found.true_positives / is_so if is_so else None,
    )  # fmt: skip
