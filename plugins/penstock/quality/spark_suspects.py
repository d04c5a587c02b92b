"""Fewer rows for Great Expectations on large Spark batches, where it asks several queries for each expectation.

Spark finds the rows that may fail, in one query and one for each text column; they are judged here as any
pandas batch is. What cannot be narrowed so is left to the library's Spark engine.
"""

from collections.abc import Sequence
from dataclasses import replace
from functools import reduce
from typing import TYPE_CHECKING, Any

from penstock.quality.findings import Finding, examine_pandas
from penstock.quality.narrowing import BY_VALUE, MOST_DISTINCT, PAIR, counts_rows, numeric_bounds
from penstock.quality.suite import ExpectationSpec, Level
from penstock.spec.sql import quote

if TYPE_CHECKING:
    from pyspark.sql.connect.column import Column
    from pyspark.sql.connect.dataframe import DataFrame

# More suspects than that are no few rows; more bad values than that make a long query.
MOST_SUSPECTS = 500_000
_MOST_BAD_VALUES = 1_000
_NUMBERS = {"tinyint", "smallint", "int", "bigint", "float", "double"}
_FLOATS = {"float", "double"}


def examine_suspects(
    frame: "DataFrame", expectations: Sequence[ExpectationSpec], keys: Sequence[str]
) -> dict[int, Finding]:
    """The findings, by place, of the expectations that can be narrowed; failing rows are named by their keys."""
    conditions: dict[int, Column] = {}
    for place, spec in enumerate(expectations):
        if spec.level is Level.ROW and not counts_rows(spec):
            condition = _condition(frame, spec)
            if condition is not None:
                conditions[place] = condition
    conditions |= _by_value(frame, expectations)
    if not conditions:
        return {}
    return _judge(frame, expectations, conditions, keys)


def _judge(
    frame: "DataFrame", expectations: Sequence[ExpectationSpec], conditions: "dict[int, Column]", keys: Sequence[str]
) -> dict[int, Finding]:
    named = dict.fromkeys([*keys, *(column for place in conditions for column in expectations[place].columns)])
    any_of = reduce(lambda one, other: one | other, conditions.values())
    suspects = frame.where(any_of).select(*map(quote, named)).limit(MOST_SUSPECTS + 1).toArrow()
    if len(suspects) > MOST_SUSPECTS:
        return {}
    rows = suspects.select(list(keys)).to_pylist()
    findings = examine_pandas(suspects.to_pandas(), [expectations[place] for place in conditions])
    return {
        place: replace(finding, unexpected=tuple(rows[position] for position in finding.unexpected))
        for place, finding in zip(conditions, findings, strict=True)
    }


def _condition(frame: "DataFrame", spec: ExpectationSpec) -> "Column | None":
    """Holds for every row that fails, and perhaps for some more; None where that cannot be told so."""
    from pyspark.sql.connect import functions as F

    types = dict(frame.dtypes)
    if any(name not in types for name in spec.columns):
        return None
    columns = [F.col(quote(name)) for name in spec.columns]
    kinds = [types[name] for name in spec.columns]
    if spec.type == "expect_column_values_to_not_be_null":
        is_null = columns[0].isNull()
        return is_null | F.isnan(columns[0]) if kinds[0] in _FLOATS else is_null
    if spec.type == "expect_column_values_to_be_between" and kinds[0] in _NUMBERS:
        bounds = numeric_bounds(spec)
        if bounds is None:
            return None
        low, high = bounds
        outside = [columns[0] <= F.lit(low)] if low is not None else []
        outside += [columns[0] >= F.lit(high)] if high is not None else []
        return reduce(lambda one, other: one | other, outside)
    if spec.type == "expect_column_pair_values_a_to_be_greater_than_b" and spec.kwargs["ignore_row_if"] == PAIR:
        same = all(kind in _NUMBERS for kind in kinds) or kinds == ["timestamp", "timestamp"]
        return columns[0] <= columns[1] if same else None
    return None


def _by_value(frame: "DataFrame", expectations: Sequence[ExpectationSpec]) -> "dict[int, Column]":
    """For expectations on text columns: which rows have one of the distinct values that fail."""
    from pyspark.sql.connect import functions as F

    types = dict(frame.dtypes)
    by_column: dict[str, list[int]] = {}
    for place, spec in enumerate(expectations):
        if spec.type in BY_VALUE and types.get(spec.columns[0]) == "string" and not counts_rows(spec):
            by_column.setdefault(spec.columns[0], []).append(place)
    found: dict[int, Column] = {}
    for name, places in by_column.items():
        column = F.col(quote(name))
        distinct = frame.select(column.alias(name)).where(column.isNotNull()).distinct()
        values = distinct.limit(MOST_DISTINCT + 1).toPandas()
        if len(values) > MOST_DISTINCT:
            continue
        findings = examine_pandas(values, [expectations[place] for place in places])
        bad: dict[Any, None] = dict.fromkeys(
            values[name][position] for finding in findings for position in finding.unexpected
        )
        if len(bad) <= _MOST_BAD_VALUES:
            failing = column.isin(list(bad)) if bad else F.lit(False)
            found |= dict.fromkeys(places, failing)
    return found
