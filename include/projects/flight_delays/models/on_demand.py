"""Features that are computed when a prediction is asked for; numbers arrive as float64, NaN for null."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd

PARTS_OF_DAY = ["night", "morning", "afternoon", "evening"]  # six hours each
DISTANCES_MILES = [500, 1000, 2000]


def part_of_day(inputs: pd.DataFrame) -> pd.Series:
    """night (0-5), morning, afternoon or evening (18-23), of the scheduled local hour."""
    return (inputs["sched_hour"] // 6).map(dict(enumerate(PARTS_OF_DAY)))


def distance_bucket(inputs: pd.DataFrame) -> pd.Series:
    """How many of 500, 1,000 and 2,000 miles the flight reaches: 0 to 3."""
    distance = inputs["distance"]
    return sum(distance.ge(bound).astype("float64") for bound in DISTANCES_MILES).where(distance.notna())
