"""What mistakes cost: the project's own metric."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

MISSED_DELAY = 5.0
FALSE_ALARM = 1.0
# Raising an alarm is cheaper in expectation once p * MISSED_DELAY >= (1 - p) * FALSE_ALARM.
ALARM_FROM = FALSE_ALARM / (FALSE_ALARM + MISSED_DELAY)


def cost_per_flight(label: ArrayLike, prediction: ArrayLike) -> float:
    """The mean cost of a flight when an alarm is raised wherever `prediction >= 1/6`.

    A late flight without an alarm costs 5 (connections missed, crews out of place), an alarm for a flight
    that is on time costs 1 (people told to wait for nothing), everything else nothing. Lower is better;
    0 is perfect. `label` holds 0 and 1 (late), `prediction` probabilities, both of length n.
    Raises ValueError where n is 0 or the lengths differ.
    """
    import numpy as np

    late = np.asarray(label, dtype="float64") > 0.5
    alarm = np.asarray(prediction, dtype="float64") >= ALARM_FROM
    if late.shape != alarm.shape or late.size == 0:
        raise ValueError(f"{late.size} labels, {alarm.size} predictions: give as many of both, at least one")
    return float(np.mean(MISSED_DELAY * (late & ~alarm) + FALSE_ALARM * (~late & alarm)))
