"""The bootstrap's draws: whole units of rows that belong together (a day, a group), or single rows.

Rows of one day share the day's weather: to draw them singly is to count one storm a thousand times, and the
intervals come out too narrow. So units are drawn with replacement, with all their rows: the cluster (or
non-overlapping block) bootstrap of E. Carlstein, Annals of Statistics 14 (1986), and A. C. Davison and
D. V. Hinkley, Bootstrap Methods and their Application (1997), section 3.8.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from penstock.spec.promotion import DAY, ROW, WEEK
from penstock.training.blocks import PREDICTION_TIME

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

ENOUGH_DAYS = 14
"""With fewer days than that, days are no sample of days."""
MOST_GROUPS = 400
"""More single rows than that are drawn in so many groups."""
_MOST_AT_ONCE = 4_000_000  # rows of one chunk of draws, weighed by some metrics: 32 MB an array


@dataclass(frozen=True)
class Units:
    """What is drawn: `codes` (int64 of length n) says which of `count` units each of n rows belongs to."""

    kind: str
    codes: "np.ndarray"
    count: int

    @cached_property
    def sizes(self) -> "np.ndarray":
        """The rows of each unit, float64 of length count."""
        import numpy as np

        return np.bincount(self.codes, minlength=self.count).astype("float64")

    @property
    def degrees_of_freedom(self) -> float:
        """One less than the number of equal units that would be as informative as these, of unequal size.

        (sum of sizes)² / (sum of squared sizes), L. Kish, Survey Sampling (1965).
        """
        if not self.count:
            return 0.0
        return float(self.sizes.sum() ** 2 / (self.sizes**2).sum()) - 1

    def within(self, mask: "np.ndarray") -> "Units":
        """The same units, of the rows that a mask (bool of length n) chooses; those without rows are gone."""
        import numpy as np

        found, codes = np.unique(self.codes[mask], return_inverse=True)
        return Units(self.kind, codes.astype("int64"), len(found))

    def draws(self, repeats: int, seed: int) -> Iterator["np.ndarray"]:
        """How often each unit was drawn: (r, count) float64 chunks, `repeats` rows in all. Each row sums to count."""
        import numpy as np

        chance = np.random.default_rng(seed)
        step = max(1, _MOST_AT_ONCE // max(len(self.codes), 1))
        for begin in range(0, repeats, step):
            size = min(step, repeats - begin)
            drawn = chance.integers(0, self.count, (size, self.count)) + np.arange(size)[:, None] * self.count
            counts = np.bincount(drawn.ravel(), minlength=size * self.count)
            yield counts.reshape(size, self.count).astype("float64")


def units_of(frame: "pd.DataFrame", declared: str | None, seed: int) -> Units:
    """The units of rows with a column prediction_time: `day`, `week` (UTC), `row`, or the values of a column.

    Where nothing is declared: days if there are at least 14 of them, else rows. More than 400 rows are dealt at
    random into as many groups of equal size: of rows that have nothing in common, that says the same, for less.
    """
    if declared == ROW:
        return _dealt(len(frame), seed)
    if declared is None:
        days = _grouped(frame, DAY)
        return days if days.count >= ENOUGH_DAYS else _dealt(len(frame), seed)
    return _grouped(frame, declared)


def _dealt(rows: int, seed: int) -> Units:
    import numpy as np

    groups = min(rows, MOST_GROUPS)
    return Units(ROW, np.random.default_rng(seed).permutation(rows) % max(groups, 1), groups)


def _grouped(frame: "pd.DataFrame", kind: str) -> Units:
    import pandas as pd

    if kind in (DAY, WEEK):
        days = frame[PREDICTION_TIME].dt.tz_convert("UTC").dt.tz_localize(None).dt.floor("D")
        values = days if kind == DAY else days - pd.to_timedelta(days.dt.weekday, unit="D")
    else:
        values = frame[kind]
    codes, found = pd.factorize(values, use_na_sentinel=False)
    return Units(kind, codes.astype("int64"), len(found))
