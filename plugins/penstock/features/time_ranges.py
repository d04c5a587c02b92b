"""Which values of an input's own column can make some event times, so that files of other days are not read.

An expression for the event time such as `date_trunc('DAY', at) + INTERVAL 1 DAY` differs from its column by a
bounded offset: event times in a range come from column values in a range, which Delta's and Parquet's statistics
can skip by. For an expression of another form nothing is known, and everything is read.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cache
from typing import TYPE_CHECKING

from penstock.features.inputs import sql_moment
from penstock.spec.sql import DIALECT, quote

if TYPE_CHECKING:
    from sqlglot import exp

_UNITS = {  # the shortest and the longest that one can be
    "second": (timedelta(seconds=1),) * 2,
    "minute": (timedelta(minutes=1),) * 2,
    "hour": (timedelta(hours=1),) * 2,
    "day": (timedelta(days=1),) * 2,
    "week": (timedelta(days=7),) * 2,
    "month": (timedelta(days=28), timedelta(days=31)),
    "quarter": (timedelta(days=90), timedelta(days=92)),
    "year": (timedelta(days=365), timedelta(days=366)),
}
# Spark pays for each range in every file that it looks at: sixteen of them cost more than reading 3 million rows.
_MOST_RANGES = 4
_GAP_WORTH = 0.05  # of the whole span: what a shorter gap would leave out is not worth a range of its own


@dataclass(frozen=True)
class Offset:
    """An expression's value lies between `least` and `greatest` after the value of `column` (of `table`, if named)."""

    column: str
    table: str
    least: timedelta
    greatest: timedelta


@dataclass(frozen=True)
class TimeRange:
    """Moments from `first` to `last`, both included; None: no bound."""

    first: datetime | None
    last: datetime | None


@cache
def offset_of(expression: str) -> Offset | None:
    """How far an expression is from its column; None where that is not known."""
    import sqlglot
    from sqlglot.errors import SqlglotError

    try:
        return _offset(sqlglot.parse_one(expression, dialect=DIALECT))
    except SqlglotError:
        return None


def _offset(node: "exp.Expression") -> Offset | None:
    from sqlglot import exp

    if isinstance(node, exp.Paren):
        return _offset(node.this)
    if isinstance(node, exp.Column):
        return Offset(node.name, node.table, timedelta(0), timedelta(0))
    if isinstance(node, exp.TimestampTrunc | exp.DateTrunc):
        unit = _unit(node.args.get("unit"))
        return _shift(_offset(node.this), (-unit[1], timedelta(0)) if unit else None)
    if isinstance(node, exp.Add | exp.Sub) and isinstance(node.expression, exp.Interval):
        count, unit = _count(node.expression.this), _unit(node.expression.args.get("unit"))
        if count is None or unit is None:
            return None
        ends = [end * count * (1 if isinstance(node, exp.Add) else -1) for end in unit]
        return _shift(_offset(node.this), (min(ends), max(ends)))
    return None


def _shift(inner: Offset | None, by: tuple[timedelta, timedelta] | None) -> Offset | None:
    if inner is None or by is None:
        return None
    return Offset(inner.column, inner.table, inner.least + by[0], inner.greatest + by[1])


def _unit(node: "exp.Expression | None") -> tuple[timedelta, timedelta] | None:
    return _UNITS.get(node.name.lower().removesuffix("s")) if node is not None else None


def _count(node: "exp.Expression | None") -> int | None:
    text = node.name if node is not None else ""
    return int(text) if text.isdigit() else None


def ranges_of(moments: Iterable[datetime]) -> list[TimeRange]:
    """A few ranges that hold all the moments, parted by the longest gaps; gaps that save little are bridged."""
    found = sorted(set(moments))
    if not found:
        return []
    least = (found[-1] - found[0]) * _GAP_WORTH
    gaps = [i for i in range(1, len(found)) if found[i] - found[i - 1] > least]
    longest = sorted(gaps, key=lambda i: found[i] - found[i - 1], reverse=True)
    starts = [0, *sorted(longest[: _MOST_RANGES - 1])]
    return [
        TimeRange(found[start], found[end - 1]) for start, end in zip(starts, [*starts[1:], len(found)], strict=True)
    ]


def column_condition(expression: str, ranges: list[TimeRange]) -> str | None:
    """A condition on the expression's own column which all rows fulfil whose expression lies in one of the ranges.

    None where nothing is known of the expression.
    """
    offset = offset_of(expression)
    if offset is None:
        return None
    column = quote(offset.column)  # without its table: the condition is put to that table's own rows
    parts = []
    for found in ranges:
        bounds = []
        if found.first is not None:
            bounds.append(f"{column} >= {sql_moment(found.first - offset.greatest)}")
        if found.last is not None:
            bounds.append(f"{column} <= {sql_moment(found.last - offset.least)}")
        parts.append(f"({' AND '.join(bounds) or 'true'})")
    return " OR ".join(parts) or "false"
