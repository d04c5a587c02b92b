"""Whether predicted probabilities happen as often as they say."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from penstock.training.errors import TrainingError

if TYPE_CHECKING:
    import numpy as np

BINS = 10


@dataclass(frozen=True)
class CalibrationBin:
    """Rows of similar predictions: how many, their mean prediction, and the share of label 1 with its interval.

    low and high: the 95 % interval of that share by Wilson (1927), for rows that are drawn one by one.
    """

    rows: int
    prediction_mean: float
    label_mean: float
    low: float
    high: float


@dataclass(frozen=True)
class Calibration:
    """Calibration over bins of (almost) equally many rows.

    expected_error: the mean distance of a bin's share of label 1 from its mean prediction, weighted by rows
    (ECE; Naeini, Cooper and Hauskrecht, 2015). The Brier score is reliability - resolution + uncertainty + within_bins
    (Murphy, 1973; within_bins, what predictions differ within a bin: Stephenson, Coelho and Jolliffe, 2008).
    bias: mean prediction less mean label.
    """

    bins: tuple[CalibrationBin, ...]
    expected_error: float
    brier_score: float
    reliability: float
    resolution: float
    uncertainty: float
    within_bins: float
    bias: float


def calibrate(label: "np.ndarray", prediction: "np.ndarray", bins: int = BINS) -> Calibration:
    """The calibration of n > 0 probabilities; rows with equal predictions stay in one bin.

    Raises TrainingError for predictions that are no probabilities.
    """
    import numpy as np

    outside = int(((prediction < 0) | (prediction > 1)).sum())
    if outside:
        raise TrainingError(
            f"{outside} of {len(prediction)} predictions are below 0 or above 1: calibration is of probabilities"
        )
    edges = np.unique(np.quantile(prediction, np.linspace(0, 1, bins + 1)[1:-1]))
    number = np.searchsorted(edges, prediction, side="left")  # an edge belongs to the bin below it
    parts = [np.flatnonzero(number == found) for found in np.unique(number)]
    rows = np.array([len(part) for part in parts])
    said, happened = (np.array([values[part].mean() for part in parts]) for values in (prediction, label))
    weight, overall = rows / len(label), label.mean()
    brier = float(np.mean((prediction - label) ** 2))
    reliability, resolution = weight @ (said - happened) ** 2, weight @ (happened - overall) ** 2
    uncertainty = overall * (1 - overall)
    return Calibration(
        bins=tuple(
            CalibrationBin(int(count), float(mean), float(share), *_wilson(share, count))
            for count, mean, share in zip(rows, said, happened, strict=True)
        ),
        expected_error=float(weight @ np.abs(said - happened)),
        brier_score=brier,
        reliability=float(reliability),
        resolution=float(resolution),
        uncertainty=float(uncertainty),
        within_bins=float(brier - reliability + resolution - uncertainty),
        bias=float(prediction.mean() - overall),
    )


def _wilson(share: float, rows: int) -> tuple[float, float]:
    from math import sqrt

    z = 1.959964
    middle = (share + z * z / (2 * rows)) / (1 + z * z / rows)
    half = z / (1 + z * z / rows) * sqrt(share * (1 - share) / rows + z * z / (4 * rows * rows))
    return max(0.0, middle - half), min(1.0, middle + half)
