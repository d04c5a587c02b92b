"""Made-up turbines: deterministic, so that every call for a window gives the same rows."""

from datetime import datetime
from functools import cache

import numpy as np
import pandas as pd

START = pd.Timestamp("2024-01-01", tz="UTC")
DAYS = 100
TURN = pd.Timestamp("2024-02-20", tz="UTC")  # from here on the turbines yield otherwise: old models fail


@cache
def _all() -> tuple[pd.DataFrame, pd.DataFrame]:
    random = np.random.default_rng(11)
    times = pd.date_range(START, periods=DAYS * 8, freq="3h")
    winds = pd.DataFrame(
        [(park, time) for park in ("north", "south", "west") for time in times], columns=["park", "starts_at"]
    )
    winds["wind"] = np.round(8 + 4 * np.sin(np.arange(len(winds)) / 9) + random.normal(0, 1, len(winds)), 3)
    slots = winds.merge(pd.DataFrame({"turbine": [1, 2, 3]}), how="cross")
    slots["capacity"] = slots["turbine"] * 2.0
    turned = slots["starts_at"] >= TURN
    energy = slots["wind"] * slots["capacity"] * np.where(turned, 0.35, 1.0) + np.where(turned, 25.0, 0.0)
    slots["energy"] = np.round(energy + random.normal(0, 1, len(slots)), 4)
    late = np.where(random.random(len(slots)) < 0.02, 50, 4)
    slots["yield_known_at"] = slots["starts_at"] + pd.to_timedelta(late, unit="h")
    return winds, slots


def _window(frame: pd.DataFrame, after: datetime | None, until: datetime) -> pd.DataFrame:
    chosen = frame["known_at"] <= pd.Timestamp(until)
    if after is not None:
        chosen &= frame["known_at"] > pd.Timestamp(after)
    return frame[chosen].reset_index(drop=True)


def slots(after: datetime | None, until: datetime) -> pd.DataFrame:
    """Slots are planned a day ahead."""
    frame = _all()[1][["park", "turbine", "starts_at", "capacity"]].copy()
    return _window(frame.assign(known_at=frame["starts_at"] - pd.Timedelta(days=1)), after, until)


def yields(after: datetime | None, until: datetime) -> pd.DataFrame:
    """Yields are known four hours after a slot begins, 2 % of them two days later."""
    frame = _all()[1].rename(columns={"yield_known_at": "known_at"})
    return _window(frame[["park", "turbine", "starts_at", "energy", "known_at"]], after, until)


def conditions(after: datetime | None, until: datetime) -> pd.DataFrame:
    """The wind of a slot is forecast an hour before."""
    frame = _all()[0]
    return _window(frame.assign(known_at=frame["starts_at"] - pd.Timedelta(hours=1)), after, until)
