"""The bootstrap's draws: whole units of rows that belong together (a day, a group), or single rows.

Rows of one day share the day's weather: to draw them singly is to count one storm a thousand times, and the
intervals come out too narrow. So units are drawn with replacement, with all their rows: the cluster (or
non-overlapping block) bootstrap of E. Carlstein, Annals of Statistics 14 (1986), and A. C. Davison and
D. V. Hinkley, Bootstrap Methods and their Application (1997), section 3.8.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
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
"""More single rows than that are dealt into so many groups where a model is compared."""
STRETCH = "stretch"
"""The kind of units that are stretches of time of any length."""
_LENGTHS = {DAY: timedelta(days=1), WEEK: timedelta(weeks=1)}
_A_MONDAY = 4 * 86_400  # 1970-01-05: seconds from which stretches of time are counted, so that 7 days are a week
_MOST_AT_ONCE = 400_000  # rows of one chunk of draws: 3 MB an array, which stay in the processor's cache


@dataclass(frozen=True)
class Units:
    """What is drawn: `codes` (int64 of length n) says which of `count` units each of n rows belongs to."""

    kind: str
    codes: "np.ndarray"
    count: int

    @classmethod
    def rows(cls, count: int) -> "Units":
        """Each row is drawn by itself."""
        import numpy as np

        return cls(ROW, np.arange(count), count)

    @classmethod
    def stretches(cls, times: "pd.Series", length: timedelta | None, kind: str = STRETCH) -> "Units":
        """The rows of a stretch of time (UTC, counted from a Monday) are drawn together; single rows without one."""
        import numpy as np

        if length is None:
            return cls.rows(len(times))
        seconds = times.astype("datetime64[s, UTC]").astype("int64").to_numpy() - _A_MONDAY
        found, codes = np.unique(seconds // int(length.total_seconds()), return_inverse=True)
        return cls(kind, codes, len(found))

    @property
    def single(self) -> bool:
        """Whether every unit is one row."""
        return self.count == len(self.codes)

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
        return Units(self.kind, codes, len(found))

    def draws(self, repeats: int, seed: int) -> Iterator["np.ndarray"]:
        """How often each unit was drawn: (r, count) float64 chunks, `repeats` rows in all. Each row sums to count.

        A chunk is so small that the rows of its draws fit into memory at once. The first k draws are the same,
        whatever `repeats` is.
        """
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

    if kind in _LENGTHS:
        return Units.stretches(frame[PREDICTION_TIME], _LENGTHS[kind], kind)
    codes, found = pd.factorize(frame[kind], use_na_sentinel=False)
    return Units(kind, codes, len(found))
