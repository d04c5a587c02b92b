"""Figures of each batch, kept in `batch_statistics`: what later batches are held against."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, cast

from penstock.clock import EPOCH, now
from penstock.gates import Outcome
from penstock.lakehouse.records import record
from penstock.lakehouse.system_tables import SYSTEM_TABLES, SystemTable
from penstock.spec.project import Column, ColumnType
from penstock.workspace import Workspace

if TYPE_CHECKING:
    import pandas as pd
    from pyspark.sql.connect.dataframe import DataFrame

_NUMBERS = {ColumnType.INT, ColumnType.BIGINT, ColumnType.FLOAT, ColumnType.DOUBLE}
_DAY = timedelta(days=1)
_HOUR = timedelta(hours=1)


@dataclass(frozen=True)
class ColumnStatistics:
    """A column of a batch; the last three are None where it holds no numbers."""

    null_share: float
    minimum: float | None = None
    maximum: float | None = None
    mean: float | None = None


@dataclass(frozen=True)
class BatchStatistics:
    """A batch: rows a day since the batch before (None for the first), hours from its newest row to as_of."""

    rows: int
    rows_per_day: float | None
    lag_hours: float | None
    columns: dict[str, ColumnStatistics]


def measure(
    frame: "pd.DataFrame | DataFrame", columns: Mapping[str, Column], clock: str, as_of: datetime,
    before: datetime | None,
) -> BatchStatistics:  # fmt: skip
    """The figures of a batch as of a moment; `clock` is the column of its event times, `before` the batch before."""
    if hasattr(frame, "sparkSession"):
        rows, newest, found = _by_spark(cast("DataFrame", frame), columns, clock)
    else:
        rows, newest, found = _by_pandas(cast("pd.DataFrame", frame), columns, clock)
    lag = (as_of - newest) / _HOUR if newest is not None else None
    return BatchStatistics(rows, rows / ((as_of - before) / _DAY) if before else None, lag, found)


def read_statistics(workspace: Workspace, project: str, table: str, before: datetime, batches: int) -> "pd.DataFrame":
    """The statistics of the newest batches before a moment that did not fail, oldest first, as they were written."""
    import pandas as pd

    from penstock.lakehouse.small_tables import read

    path = workspace.addresses.find(f"{project}.{SystemTable.BATCH_STATISTICS}")
    if path is None:
        return pd.DataFrame(columns=list(SYSTEM_TABLES[SystemTable.BATCH_STATISTICS].columns))
    found = read(path, filters=[("table", "=", table), ("as_of", "<", before), ("outcome", "!=", str(Outcome.FAIL))])
    newest = sorted(found["as_of"].unique())[-batches:]
    return found[found["as_of"].isin(newest)].sort_values(["as_of", "column"], ignore_index=True)


def write_statistics(
    workspace: Workspace, project: str, table: str, found: BatchStatistics, as_of: datetime, outcome: Outcome
) -> None:
    """Writes a batch's figures; those of an earlier try are replaced."""
    from penstock.lakehouse.small_tables import write_system_rows

    about = {
        "table": table, "as_of": as_of, "outcome": str(outcome), "measured_at": now(), "run": workspace.lineage.run,
    }  # fmt: skip
    whole = {"column": "", "rows": found.rows, "rows_per_day": found.rows_per_day, "lag_hours": found.lag_hours}
    rows: list[dict[str, Any]] = [{**about, **whole}]
    rows += [{**about, "column": name, "rows": found.rows, **vars(column)} for name, column in found.columns.items()]
    path = workspace.addresses.writable(f"{project}.{SystemTable.BATCH_STATISTICS}")
    commit = record(as_of, folder=workspace.project(project).folder, run=workspace.lineage.run)
    write_system_rows(path, SystemTable.BATCH_STATISTICS, rows, commit)


_Measured = tuple[int, datetime | None, dict[str, ColumnStatistics]]


def _by_pandas(frame: "pd.DataFrame", columns: Mapping[str, Column], clock: str) -> _Measured:
    import pandas as pd

    found = {}
    for name, column in columns.items():
        null_share = float(frame[name].isna().mean()) if len(frame) else 0.0
        numbers = frame[name].dropna().astype("float64") if column.type in _NUMBERS else pd.Series(dtype="float64")
        figures = (float(numbers.min()), float(numbers.max()), float(numbers.mean())) if len(numbers) else ()
        found[name] = ColumnStatistics(null_share, *figures)
    newest = pd.to_datetime(frame[clock], utc=True).max() if len(frame) else pd.NaT
    return len(frame), None if pd.isna(newest) else newest.to_pydatetime(), found


def _by_spark(frame: "DataFrame", columns: Mapping[str, Column], clock: str) -> _Measured:
    from pyspark.sql.connect import functions as F

    wanted = [F.count(F.lit(1)).alias("rows"), F.unix_micros(F.max(clock).cast("timestamp")).alias("newest")]
    for place, (name, column) in enumerate(columns.items()):
        wanted.append(F.count(name).alias(f"count_{place}"))
        if column.type in _NUMBERS:
            wanted += [
                function(F.nanvl(F.col(name).cast("double"), F.lit(None))).alias(f"{function.__name__}_{place}")
                for function in (F.min, F.max, F.avg)
            ]
    row = frame.agg(*wanted).collect()[0].asDict()
    rows = int(row["rows"])
    found = {
        name: ColumnStatistics(
            1 - row[f"count_{place}"] / rows if rows else 0.0,
            *(row.get(f"{kind}_{place}") for kind in ("min", "max", "avg")),
        )
        for place, name in enumerate(columns)
    }
    moment = row["newest"]
    return rows, None if moment is None else EPOCH + timedelta(microseconds=moment), found
