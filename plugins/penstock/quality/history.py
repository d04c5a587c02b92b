"""A batch held against the table's own earlier batches: no number is written by hand.

What is usual lies within some robust standard deviations of the median of earlier batches: 1.4826 times the median
absolute deviation, 3.5 of them by default (B. Iglewicz, D. Hoaglin: How to Detect and Handle Outliers, 1993). Where
batches hardly differ, a floor keeps small changes usual.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from penstock.gates import Check, Outcome
from penstock.quality.statistics import BatchStatistics
from penstock.spec.suite import History, Severity

if TYPE_CHECKING:
    import pandas as pd

_SCALE = 1.4826  # of a normal distribution, the standard deviation by the median absolute deviation
_RELATIVE_FLOOR = 0.05  # of the median volume, and of the usual range
_NULLS_FLOOR = 0.01
_LAG_FLOOR = 0.1  # of the usual time between batches
_MOST_NAMED = 5


@dataclass(frozen=True)
class Band:
    """What is usual: from `low` to `high` around the median of earlier values."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float], tolerance: float, floor: float) -> "Band":
        """The band of earlier values, at least `floor` standard deviations wide."""
        import numpy as np

        median = float(np.median(values))
        deviation = _SCALE * float(np.median(np.abs(np.asarray(values, dtype=float) - median)))
        reach = tolerance * max(deviation, floor)
        return cls(median, median - reach, median + reach)


def history_checks(history: History, batch: BatchStatistics, past: "pd.DataFrame") -> list[Check]:
    """A check for each kind that the suite names; `past` holds earlier batches as `read_statistics` answers them."""
    batches = past[past["column"] == ""]
    kinds: dict[str, Severity | None] = {
        "volume": history.volume, "freshness": history.freshness, "nulls": history.nulls, "range": history.range,
    }  # fmt: skip
    if len(batches) < history.minimum_batches:
        said = f"{len(batches)} earlier batches, judged from {history.minimum_batches} on"
        return [Check(f"history_{kind}", Outcome.PASS, said) for kind, severity in kinds.items() if severity]
    return [
        _check(kind, severity, list(_JUDGES[kind](history, batch, past)), len(batches))
        for kind, severity in kinds.items()
        if severity
    ]


@dataclass(frozen=True)
class _Unusual:
    said: str
    evidence: dict[str, Any]


def _check(kind: str, severity: Severity, unusual: list[_Unusual], batches: int) -> Check:
    name = f"history_{kind}"
    if not unusual:
        return Check(name, Outcome.PASS, f"{kind} is as usual in the last {batches} batches")
    outcome = Outcome.FAIL if severity is Severity.CRITICAL else Outcome.WARN
    said = "; ".join(item.said for item in unusual[:_MOST_NAMED])
    more = f" and {len(unusual) - _MOST_NAMED} more" if len(unusual) > _MOST_NAMED else ""
    return Check(
        name, outcome, f"{kind} is unusual against the last {batches} batches: {said}{more}",
        {"severity": str(severity), "unusual": [item.evidence for item in unusual]},
    )  # fmt: skip


def _volume(history: History, batch: BatchStatistics, past: "pd.DataFrame") -> Iterator[_Unusual]:
    values = _values(past, "", "rows_per_day")
    if batch.rows_per_day is None or len(values) < history.minimum_batches - 1:  # the first batch has no rate
        return
    band = Band.of(values, history.tolerance, _RELATIVE_FLOOR * _median(values))
    yield from _outside("rows a day", batch.rows_per_day, band, below=True, above=True)


def _freshness(history: History, batch: BatchStatistics, past: "pd.DataFrame") -> Iterator[_Unusual]:
    values = _values(past, "", "lag_hours")
    moments = past.loc[past["column"] == "", "as_of"].sort_values()
    if batch.lag_hours is None or not values:
        return
    interval = float(moments.diff().dropna().median().total_seconds()) / 3600
    band = Band.of(values, history.tolerance, _LAG_FLOOR * interval)
    yield from _outside("hours from the newest row to as_of", batch.lag_hours, band, above=True)


def _nulls(history: History, batch: BatchStatistics, past: "pd.DataFrame") -> Iterator[_Unusual]:
    for name, column in batch.columns.items():
        values = _values(past, name, "null_share")
        if batch.rows and len(values) >= history.minimum_batches:
            usual = _median(values)
            chance = math.sqrt(usual * (1 - usual) / batch.rows)  # of so few rows, the share varies by itself
            band = Band.of(values, history.tolerance, max(_NULLS_FLOOR, chance))
            yield from _outside(f"share of nulls in {name}", column.null_share, band, above=True)


def _range(history: History, batch: BatchStatistics, past: "pd.DataFrame") -> Iterator[_Unusual]:
    for name, column in batch.columns.items():
        least, greatest = _values(past, name, "minimum"), _values(past, name, "maximum")
        if column.minimum is None or column.maximum is None or len(least) < history.minimum_batches:
            continue
        width = _median(greatest) - _median(least) or abs(_median(greatest))
        low = Band.of(least, history.tolerance, _RELATIVE_FLOOR * width)
        high = Band.of(greatest, history.tolerance, _RELATIVE_FLOOR * width)
        yield from _outside(f"least {name}", column.minimum, low, below=True)
        yield from _outside(f"greatest {name}", column.maximum, high, above=True)


_JUDGES: dict[str, Callable[[History, BatchStatistics, "pd.DataFrame"], Iterator[_Unusual]]] = {
    "volume": _volume, "freshness": _freshness, "nulls": _nulls, "range": _range,
}  # fmt: skip


def _outside(
    what: str, value: float, band: Band, *, below: bool = False, above: bool = False
) -> Iterator[_Unusual]:  # fmt: skip
    if (above and value > band.high) or (below and value < band.low):
        bound = f"up to {band.high:.4g}" if value > band.high else f"from {band.low:.4g}"
        yield _Unusual(
            f"{what} {value:.4g}, usual {band.median:.4g}, {bound}", {"what": what, "value": value, **vars(band)}
        )


def _values(past: "pd.DataFrame", column: str, figure: str) -> list[float]:
    values: list[float] = past.loc[past["column"] == column, figure].dropna().tolist()
    return values


def _median(values: Sequence[float]) -> float:
    import numpy as np

    return float(np.median(values))
