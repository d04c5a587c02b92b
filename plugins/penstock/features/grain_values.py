"""The simple expressions of a grain, worked out by this process: a column, truncated and shifted times of it.

They give what Spark gives in a UTC session, value for value; each grows with its column, so that a file's least and
greatest value bound the groups in it. Of any other expression nothing is known here, and Spark evaluates it.
"""

from dataclasses import dataclass, replace
from datetime import timedelta
from functools import cache
from typing import TYPE_CHECKING

from penstock.spec.sql import DIALECT

if TYPE_CHECKING:
    import pyarrow as pa
    from sqlglot import exp

_TRUNCATED_TO = {"second", "minute", "hour", "day", "week", "month", "quarter", "year"}
_LENGTHS = {
    "second": timedelta(seconds=1),
    "minute": timedelta(minutes=1),
    "hour": timedelta(hours=1),
    "day": timedelta(days=1),
    "week": timedelta(days=7),
}


@dataclass(frozen=True)
class GrainValue:
    """A column, and what is done to it in turn: truncated to a unit (its name), or shifted by a length."""

    column: str
    steps: tuple[str | timedelta, ...] = ()

    def takes(self, kind: "pa.DataType") -> bool:
        """Whether the values of a column of this type are worked out as Spark would."""
        import pyarrow as pa

        if self.steps or pa.types.is_timestamp(kind):
            return bool(kind == pa.timestamp("us", "UTC"))
        types = pa.types
        return any(check(kind) for check in (types.is_integer, types.is_string, types.is_boolean, types.is_date32))

    def of(self, values: "pa.ChunkedArray") -> "pa.ChunkedArray":
        """The expression's value for each value of its column; null for null."""
        import pyarrow as pa
        import pyarrow.compute as compute

        for step in self.steps:
            if isinstance(step, timedelta):
                values = compute.add(values, pa.scalar(step, pa.duration("us")))
            else:  # without its zone, which is UTC: a tenth of the time
                plain = values.cast(pa.timestamp("us"))
                values = compute.floor_temporal(plain, unit=step, week_starts_monday=True).cast(values.type)
        return values


@cache
def grain_value(expression: str, table: str) -> GrainValue | None:
    """What an expression over a row of `table` is; None where it is none of the simple ones."""
    import sqlglot
    from sqlglot.errors import SqlglotError

    try:
        return _value(sqlglot.parse_one(expression, dialect=DIALECT), table)
    except SqlglotError:
        return None


def _value(node: "exp.Expression", table: str) -> GrainValue | None:
    from sqlglot import exp

    if isinstance(node, exp.Paren):
        return _value(node.this, table)
    if isinstance(node, exp.Column):
        return GrainValue(node.name) if node.table in ("", table) and not node.db else None
    if isinstance(node, exp.TimestampTrunc):
        unit = node.args["unit"].name.lower()
        return _then(_value(node.this, table), unit if unit in _TRUNCATED_TO else None)
    if isinstance(node, exp.Add | exp.Sub) and isinstance(node.expression, exp.Interval):
        length = _length(node.expression)
        if length is not None and isinstance(node, exp.Sub):
            length = -length
        return _then(_value(node.this, table), length)
    return None


def _then(value: GrainValue | None, step: str | timedelta | None) -> GrainValue | None:
    return None if value is None or step is None else replace(value, steps=(*value.steps, step))


def _length(interval: "exp.Interval") -> timedelta | None:
    unit = interval.args.get("unit")
    one = _LENGTHS.get(unit.name.lower().removesuffix("s")) if unit is not None else None
    count = interval.this.name if interval.this is not None else ""
    return one * int(count) if one is not None and count.isdigit() and count.isascii() else None
