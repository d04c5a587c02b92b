"""A batch of rows behind one face, whether pandas or Spark holds it."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from penstock.lakehouse.small_tables import exact_frame
from penstock.quality.findings import Finding, examine_pandas, examine_spark
from penstock.quality.rows import BadRow, plain
from penstock.quality.spark_suspects import examine_suspects
from penstock.quality.suite import ExpectationSpec
from penstock.spec.project import ColumnType
from penstock.spec.sql import quote

if TYPE_CHECKING:
    import pandas as pd
    from pyspark.sql.connect.dataframe import DataFrame

Reason = dict[str, Any]
Columns = Mapping[str, ColumnType]

_WHOLE = {ColumnType.INT, ColumnType.BIGINT}
_MOMENTS = {ColumnType.TIMESTAMP, ColumnType.DATE}
# What Spark may hold where a type is declared: writing it widens the value and loses nothing.
_WIDENS = {
    ColumnType.BIGINT: {"int", "smallint", "tinyint"},
    ColumnType.INT: {"smallint", "tinyint"},
    ColumnType.DOUBLE: {"float", "int", "smallint", "tinyint"},
    ColumnType.FLOAT: {"smallint", "tinyint"},
}


class Batch(Protocol):
    """Rows to judge. A reference points at a row: a position, or a tuple of plain key values."""

    rows: int
    columns: list[str]

    def wrong_types(self, declared: Columns) -> dict[str, str]:
        """The columns that do not have their declared type, each with what it holds."""

    def null_keys(self, keys: Sequence[str]) -> list[tuple[Any, str]]:
        """A reference and the column's name for each null in a key column."""

    def duplicate_keys(self, keys: Sequence[str], most: int) -> tuple[int, list[dict[str, Any]]]:
        """How many keys without a null occur more than once, and up to `most` of them."""

    def examine(self, expectations: Sequence[ExpectationSpec]) -> list[Finding]:
        """The findings of Great Expectations; `unexpected` holds references."""

    def fetch(self, reasons: Mapping[Any, Sequence[Reason]], keys: Sequence[str]) -> list[BadRow]:
        """The rows behind references, each with its reasons, whose `value` is filled in."""


class PandasBatch:
    """A DataFrame in this process."""

    def __init__(self, frame: "pd.DataFrame", declared: Columns) -> None:
        self._frame = frame.reset_index(drop=True)
        self._whole = _whole(declared)
        self.rows = len(frame)
        self.columns = [str(name) for name in frame.columns]

    def wrong_types(self, declared: Columns) -> dict[str, str]:
        """See Batch."""
        return {
            name: found
            for name, kind in declared.items()
            if name in self.columns and (found := _unconvertible(self._frame[name], name, kind)) is not None
        }

    def null_keys(self, keys: Sequence[str]) -> list[tuple[Any, str]]:
        """See Batch."""
        nulls = self._frame[list(keys)].isna()
        return [(int(place), key) for key in keys for place in nulls.index[nulls[key]]]

    def duplicate_keys(self, keys: Sequence[str], most: int) -> tuple[int, list[dict[str, Any]]]:
        """See Batch."""
        complete = self._frame[list(keys)].dropna()
        repeated = complete[complete.duplicated()].drop_duplicates()
        return len(repeated), [self._plain(row) for row in repeated.head(most).to_dict("records")]

    def examine(self, expectations: Sequence[ExpectationSpec]) -> list[Finding]:
        """See Batch."""
        return examine_pandas(self._frame, expectations)

    def fetch(self, reasons: Mapping[Any, Sequence[Reason]], keys: Sequence[str]) -> list[BadRow]:
        """See Batch."""
        positions = sorted(reasons)
        records = self._frame.iloc[positions].to_dict("records")
        return [
            _bad_row(self._plain(record), keys, reasons[position], position)
            for position, record in zip(positions, records, strict=True)
        ]

    def _plain(self, record: Mapping[Any, Any]) -> dict[str, Any]:
        return {str(name): plain(value, whole=name in self._whole) for name, value in record.items()}


class SparkBatch:
    """A DataFrame on the server, which should be persisted: it is read several times.

    Rows come here by Arrow: a Row has its moments in this machine's zone and without it, twice the same in an hour
    that daylight saving repeats.
    """

    def __init__(self, frame: "DataFrame", declared: Columns, keys: Sequence[str], rows: int) -> None:
        self._frame = frame
        self._keys = list(keys)
        self._whole = _whole(declared)
        self.rows = rows
        self.columns = list(frame.columns)

    def wrong_types(self, declared: Columns) -> dict[str, str]:
        """See Batch."""
        found = dict(self._frame.dtypes)
        return {
            name: found[name]
            for name, kind in declared.items()
            if name in found and found[name] != kind and found[name] not in _WIDENS.get(kind, ())
        }

    def null_keys(self, keys: Sequence[str]) -> list[tuple[Any, str]]:
        """See Batch."""
        from pyspark.sql.connect import functions as F

        columns = [F.col(quote(key)) for key in keys]
        found = self._frame.where(" OR ".join(f"{quote(key)} IS NULL" for key in keys)).select(*columns).distinct()
        return [(self._reference(row), key) for row in found.toArrow().to_pylist() for key in keys if row[key] is None]

    def duplicate_keys(self, keys: Sequence[str], most: int) -> tuple[int, list[dict[str, Any]]]:
        """See Batch."""
        columns = [quote(key) for key in keys]
        complete = self._frame.where(" AND ".join(f"{column} IS NOT NULL" for column in columns))
        repeated = complete.groupBy(*columns).count().where("count > 1").drop("count")
        count = repeated.count()
        some = repeated.orderBy(*columns).limit(most).toArrow().to_pylist() if count else []
        return count, [dict(zip(keys, self._reference(row), strict=True)) for row in some]

    def examine(self, expectations: Sequence[ExpectationSpec]) -> list[Finding]:
        """See Batch."""
        from dataclasses import replace

        found = examine_suspects(self._frame, expectations, self._keys)
        rest = [place for place in range(len(expectations)) if place not in found]
        if rest:
            judged = examine_spark(self._frame, [expectations[place] for place in rest], self._keys)
            found |= dict(zip(rest, judged, strict=True))
        return [
            replace(found[place], unexpected=tuple(self._reference(row) for row in found[place].unexpected))
            for place in range(len(expectations))
        ]

    def fetch(self, reasons: Mapping[Any, Sequence[Reason]], keys: Sequence[str]) -> list[BadRow]:
        """See Batch; rows that share a key with a null share their reasons."""
        if not reasons:
            return []
        found = exact_frame(at_keys(self._frame, self._keys, list(reasons), "left_semi").toArrow())
        rows = [
            {str(name): plain(value, whole=name in self._whole) for name, value in record.items()}
            for record in found.to_dict("records")
        ]
        ordered = sorted(rows, key=lambda row: [str(row[key]) for key in self._keys])
        return [_bad_row(row, keys, reasons[tuple(row[key] for key in self._keys)], None) for row in ordered]

    def _reference(self, row: Mapping[str, Any]) -> tuple[Any, ...]:
        return tuple(plain(row[key]) for key in self._keys)


def at_keys(frame: "DataFrame", keys: Sequence[str], references: Sequence[tuple[Any, ...]], how: str) -> "DataFrame":
    """The rows of a Spark frame at (`left_semi`) or not at (`left_anti`) tuples of plain key values, nulls too."""
    from functools import reduce

    from pyspark.sql.connect import functions as F

    session, types = frame.sparkSession, dict(frame.dtypes)
    names = [f"penstock_key_{place}" for place in range(len(keys))]
    texts = [tuple(None if value is None else str(value) for value in reference) for reference in references]
    wanted = session.createDataFrame(texts, ", ".join(f"{name} string" for name in names)).select(
        *(F.col(name).cast(types[key]).alias(name) for name, key in zip(names, keys, strict=True))
    )
    same = [F.col(quote(key)).eqNullSafe(F.col(name)) for key, name in zip(keys, names, strict=True)]
    return frame.join(F.broadcast(wanted), reduce(lambda one, other: one & other, same), how)


def _bad_row(row: dict[str, Any], keys: Sequence[str], reasons: Sequence[Reason], position: int | None) -> BadRow:
    said = tuple({**reason, "value": _value(row, reason["column"])} for reason in reasons)
    return BadRow({key: row[key] for key in keys}, row, said, position)


def _value(row: Mapping[str, Any], columns: str) -> Any:
    """The value that a reason is about; of several columns, each by name."""
    names = columns.split(", ")
    return row.get(names[0]) if len(names) == 1 else {name: row.get(name) for name in names}


def _whole(declared: Columns) -> set[str]:
    return {name for name, kind in declared.items() if kind in _WHOLE}


def _unconvertible(series: "pd.Series", name: str, kind: ColumnType) -> str | None:
    """What a pandas column holds where it cannot be written as the declared type; None where it can."""
    import pyarrow as pa
    from pandas.api.types import is_numeric_dtype

    from penstock.lakehouse.small_tables import arrow_schema

    if kind in _MOMENTS and is_numeric_dtype(series.dtype):
        return str(series.dtype)  # Arrow would read numbers as microseconds since 1970
    try:
        pa.Array.from_pandas(series, type=arrow_schema({name: kind}).field(name).type)
    except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError, OverflowError) as error:
        return f"{series.dtype} ({str(error).splitlines()[0][:160]})"
    return None
