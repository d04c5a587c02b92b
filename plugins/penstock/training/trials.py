"""One trial of tuning: its parameters, what it reached, and how a training function reports on the way."""

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Protocol

import penstock.training.errors


class TrialState(StrEnum):
    """How a trial ended: with a value, given up on the way, or without a value."""

    COMPLETE = "complete"
    PRUNED = "pruned"
    UNDEFINED = "undefined"


@dataclass(frozen=True)
class Trial:
    """One try of some parameters: JSON values.

    value: the metric on the tuning block, or its mean over `folds` (oldest first). steps: what was reported on the way.
    """

    number: int
    parameters: dict[str, Any]
    value: float | None
    seconds: float
    state: TrialState = TrialState.COMPLETE
    folds: list[float] = field(default_factory=list)
    steps: dict[int, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Fitted:
    """A fitted model with its metric on each fold, oldest first; `value` is None where it is not defined."""

    model: Any
    value: float | None
    folds: list[float] = field(default_factory=list)


class PrunedError(penstock.training.errors.TrainingError):
    """A trial is given up: it reaches less than the median of the earlier ones did. Not an error of the model code."""


class Report(Protocol):
    """What a training function's argument `report` is: report(step, value), as often as it likes.

    value: training.metric on the tuning block so far; the steps count up. Ends the trial by an exception where it
    falls behind.
    """

    def __call__(self, step: int, value: float) -> None:
        """Reports that `value` is reached at `step`."""


Fit = Callable[[dict[str, Any], Report], Fitted]
"""Fits a model with parameters, and measures it."""


def unheard(step: int, value: float) -> None:
    """A report that nobody reads: nothing is given up."""
