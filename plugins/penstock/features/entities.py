"""What is predicted, and the truth about it, as they were known at a moment.

Raw tables are appended to: a corrected row lands beside the one that it corrects. The newest that was known counts.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from penstock.features.inputs import InputTable, sql_moment
from penstock.features.point_in_time import PREDICTION_TIME
from penstock.spec.project import Entity, Label
from penstock.spec.sql import quote

if TYPE_CHECKING:
    import pyarrow as pa
    from pyspark.sql.connect.dataframe import DataFrame
    from pyspark.sql.connect.session import SparkSession

LABEL = "label"
LABEL_KNOWN_AT = "label_known_at"
ENTITY_VERSIONS = "__entity_versions"
LABEL_VERSIONS = "__label_versions"
_NESTED = ("array", "map", "struct", "variant")  # not all of them can be hashed
_NUMBER = "__number"
_VALUE = "__value"


def entity_rows(
    spark: "SparkSession", entity: Entity, inputs: dict[str, InputTable], as_of: datetime, after: datetime | None
) -> "DataFrame":
    """Entity rows with prediction time in (after, as_of] that were known at as_of, with `prediction_time`.

    Each entity (keys and prediction time) is there once, with the number of its rows as `__entity_versions`.
    Raises TableError where the table lacks a column that the entity names.
    """
    from pyspark.sql.connect import functions as F

    table = inputs[entity.table]
    table.require([*entity.keys, entity.prediction_time, *entity.features])
    time = quote(entity.prediction_time)
    frame = table.read(spark, as_of).where(f"{time} <= {sql_moment(as_of)}")
    if after is not None:
        frame = frame.where(f"{time} > {sql_moment(after)}")
    keys = list(dict.fromkeys([*entity.keys, entity.prediction_time]))
    return newest(frame, keys, table.available_at, ENTITY_VERSIONS).withColumn(PREDICTION_TIME, F.col(time))


def frequent_values(rows: "DataFrame", columns: Sequence[str], most: int) -> dict[str, list[Any]]:
    """By column, at most so many of its values (a null is one), the most frequent ones first."""
    from pyspark.sql.connect import functions as F

    found = {}
    for name in columns:
        counts = rows.groupBy(F.col(quote(name)).alias(_VALUE)).count().orderBy(F.desc("count"), _VALUE).limit(most)
        found[name] = [row[_VALUE] for row in counts.collect()]
    return found


def known_labels(
    spark: "SparkSession", label: Label, keys: Sequence[str], labels: InputTable, as_of: datetime
) -> "DataFrame":
    """Of each entity's keys the newest label that was known at as_of, where it is not null.

    Columns: the keys, label, label_known_at, and the number of the entity's rows as `__label_versions`.
    """
    from pyspark.sql.connect import functions as F

    rows = labels.read(spark, as_of).select(
        *(F.col(quote(key)) for key in keys),
        F.expr(label.expression).cast("double").alias(LABEL),
        F.col(quote(labels.available_at)).alias(LABEL_KNOWN_AT),
    )
    return newest(rows, keys, LABEL_KNOWN_AT, LABEL_VERSIONS).where(f"{LABEL} IS NOT NULL")


def newest(rows: "DataFrame", keys: Sequence[str], available_at: str, versions: str) -> "DataFrame":
    """Of each key the row that became available last, with the number of the key's rows in the column `versions`.

    Of rows that became available at once a hash of their values decides: the same tables give the same rows.
    """
    from pyspark.sql.connect import functions as F
    from pyspark.sql.connect.window import Window

    values = [quote(name) for name, kind in rows.dtypes if not kind.startswith(_NESTED)]
    of_key = Window.partitionBy(*map(quote, keys))
    last_first = of_key.orderBy(F.desc(quote(available_at)), F.xxhash64(*values))
    numbered = rows.withColumns(
        {_NUMBER: F.row_number().over(last_first), versions: F.count(F.lit(1)).over(of_key)}
    )  # fmt: skip
    return numbered.where(f"{_NUMBER} = 1").drop(_NUMBER)


def newest_here(rows: "pa.Table", keys: Sequence[str], available_at: str) -> "pa.Table":
    """The same of rows in this process; of rows that became available at once, the first counts."""
    import pyarrow as pa
    import pyarrow.compute as compute

    last_first = rows.take(compute.sort_indices(rows, [(available_at, "descending")]))
    numbered = last_first.select(list(keys)).append_column(_NUMBER, pa.array(range(len(rows)), pa.int64()))
    firsts = numbered.group_by(list(keys)).aggregate([(_NUMBER, "min")])
    return last_first.take(firsts[f"{_NUMBER}_min"])
