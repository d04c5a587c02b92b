"""Bootstrap resamples as counts: how often each row is drawn. Whole stretches of time can be drawn instead of rows.

Counts and not copies of rows, because most metrics are sums over rows: one product of matrices gives them for all
resamples at once (penstock.training.intervals).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

_MOST_COUNTS = 400_000  # counts at once: 3 MB, which stay in the processor's cache


@dataclass(frozen=True)
class Units:
    """What is drawn: for each of n rows the number of the unit that it belongs to, 0 to `count` - 1."""

    of_row: "np.ndarray"
    count: int

    @classmethod
    def rows(cls, count: int) -> "Units":
        """Each row is drawn by itself."""
        import numpy as np

        return cls(np.arange(count), count)

    @classmethod
    def stretches(cls, times: "pd.Series", length: timedelta | None) -> "Units":
        """The rows of a stretch of time (counted from the epoch) are drawn together; single rows without a length.

        The cluster bootstrap: rows that have something in common (a day's weather) count as one draw, without
        which intervals would be too narrow (Davison and Hinkley, Bootstrap Methods, 1997, section 3.8).
        """
        import numpy as np

        if length is None:
            return cls.rows(len(times))
        seconds = times.astype("datetime64[s, UTC]").astype("int64").to_numpy()
        found, of_row = np.unique(seconds // int(length.total_seconds()), return_inverse=True)
        return cls(of_row, len(found))

    @property
    def single(self) -> bool:
        """Whether every unit is one row."""
        return self.count == len(self.of_row)

    def of(self, mask: "np.ndarray") -> "Units":
        """The units of some of the rows; units without rows there are left out."""
        import numpy as np

        found, of_row = np.unique(self.of_row[mask], return_inverse=True)
        return Units(of_row, len(found))

    def draw(self, repeats: int, seed: int) -> "Iterator[np.ndarray]":
        """Counts (some repeats, n), float64, `repeats` in all: as many units as there are, drawn with replacement.

        The first k repeats are the same, whatever `repeats` is.
        """
        import numpy as np

        random = np.random.default_rng(seed)
        size = max(1, _MOST_COUNTS // max(len(self.of_row), 1))
        for first in range(0, repeats, size):
            some = min(size, repeats - first)
            drawn = random.integers(self.count, size=(some, self.count)) + self.count * np.arange(some)[:, None]
            counts = np.bincount(drawn.ravel(), minlength=some * self.count).reshape(some, self.count)
            yield (counts if self.single else counts[:, self.of_row]).astype("float64")
