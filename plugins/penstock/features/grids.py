"""Buckets of time for the point-in-time join: how wide they are, by what a feature table's keys and times look like.

Widths decide only how fast a join is, never what it answers. So they are measured in this process, by Arrow, on the key
and time columns; a table with more rows than that is worth is measured by Spark.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from penstock.features.inputs import InputTable
from penstock.features.validity import FROM

if TYPE_CHECKING:
    from pyspark.sql.connect.column import Column
    from pyspark.sql.connect.dataframe import DataFrame

MEASURED_HERE_ROWS = 5_000_000
_ROWS_IN_A_BUCKET = 8
_LARGEST_EXPANSION = 16
_OUTLIERS = 0.01  # of the times on either side: one row of 1970 for each key would make all buckets too wide


@dataclass(frozen=True)
class Grid:
    """Buckets of time: as many as give some two rows for each feature row.

    width: microseconds. first, last: the outer buckets, which also hold what lies beyond them. rows: how
    many there are, about, after each feature row stands in all of its buckets.
    """

    width: int
    first: int
    last: int
    rows: int

    @classmethod
    def of(cls, rows: int, keys: int, most: int, low: int, high: int) -> "Grid":
        """The grid for so many rows of so many keys between two moments, of which one key has `most`.

        The width is what a key's rows are apart on average, and less (down to 16 rows for each feature row) where
        one key has many more rows than others.
        """
        if not rows:
            return cls(1, 0, 0, 0)
        reach = max(high - low, 1)
        spacing = reach * keys / rows
        width = max(1, int(max(min(spacing, _ROWS_IN_A_BUCKET * reach / most), spacing / _LARGEST_EXPANSION)))
        return cls(width, low // width, high // width, rows + int(reach / width * keys))

    def bucket(self, moment: "Column") -> "Column":
        """The bucket of a moment in microseconds since 1970."""
        from pyspark.sql.connect import functions as F

        number = F.floor(moment / F.lit(self.width)).cast("bigint")
        return F.least(F.greatest(number, F.lit(self.first)), F.lit(self.last)).cast("bigint")

    def last_bucket(self, until: "Column") -> "Column":
        """The last bucket of a span that ends at `until`; null: never."""
        from pyspark.sql.connect import functions as F

        return F.when(until.isNull(), F.lit(self.last).cast("bigint")).otherwise(self.bucket(until))


def grid_here(tables: Sequence[InputTable], keys: Sequence[str], as_of: datetime) -> Grid | None:
    """The grid of a table (and of the table of its old versions); None where they have too many rows for that.

    Only the columns `keys` and the time are read, up to as_of.
    """
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as compute

    from penstock.lakehouse.small_tables import open_dataset

    parts = []
    for table in tables:
        dataset = open_dataset(table.path, table.version)
        if dataset.count_rows() > MEASURED_HERE_ROWS:
            return None
        moment = pa.scalar(as_of, pa.timestamp("us", "UTC"))
        known = compute.field(table.available_at) <= moment
        columns = {**{f"k{place}": compute.field(key) for place, key in enumerate(keys)},
                   "at": compute.field(table.available_at)}  # fmt: skip
        parts.append(dataset.to_table(columns=columns, filter=known))
    rows = pa.concat_tables(parts, promote_options="permissive").drop_null()
    if not rows.num_rows:
        return Grid.of(0, 0, 0, 0, 0)
    sizes = rows.group_by([f"k{place}" for place in range(len(keys))]).aggregate([([], "count_all")])["count_all"]
    at = rows["at"].cast(pa.timestamp("us", "UTC")).cast(pa.int64()).to_numpy()
    low, high = np.quantile(at, [_OUTLIERS, 1 - _OUTLIERS], method="nearest")
    return Grid.of(rows.num_rows, len(sizes), int(compute.max(sizes).as_py()), int(low), int(high))


def grid_by_spark(spans: "DataFrame", keys: int) -> Grid:
    """The grid of spans with the columns `__k0`, … and `__from`, by one query."""
    from pyspark.sql.connect import functions as F
    from pyspark.sql.connect.window import Window

    of_key = Window.partitionBy(*(f"__k{place}" for place in range(keys)))
    sizes = spans.select(F.col(FROM).alias("at"), F.count(F.lit(1)).over(of_key).alias("n"))
    row = sizes.agg(
        F.count(F.lit(1)).alias("rows"), F.sum(1 / F.col("n")).alias("keys"), F.max("n").alias("most"),
        F.percentile_approx("at", [_OUTLIERS, 1 - _OUTLIERS], 1000).alias("bounds"),
    ).collect()[0]  # fmt: skip
    return Grid.of(row["rows"], round(row["keys"]), row["most"], *row["bounds"]) if row["rows"] else Grid(1, 0, 0, 0)
