"""Point-in-time joins: to each row the newest feature values that could be used at its prediction time.

Spark's own as-of joins compare all pairs. Instead both sides are put under each other, sorted by time within
a key, and each entity row takes the last feature row above it: one shuffle and one sort for each lookup.
A feature row with the prediction time itself counts (event_time <= prediction time).
"""

from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING

from penstock.errors import TableError
from penstock.features.inputs import InputTable, quote
from penstock.spec.project import Lookup

if TYPE_CHECKING:
    from pyspark.sql.connect.dataframe import DataFrame
    from pyspark.sql.connect.session import SparkSession

PREDICTION_TIME = "prediction_time"


def join_features(
    spark: "SparkSession", entities: "DataFrame", lookups: Sequence[Lookup], tables: dict[str, InputTable],
    as_of: datetime,
) -> "DataFrame":  # fmt: skip
    """Adds each lookup's features to entity rows that have a column `prediction_time`.

    The result has the rows of `entities`, its columns, and the features by their output names; null where
    there is no value (or none within the lookup's max_age).
    """
    for lookup in lookups:
        entities = _join(spark, entities, lookup, tables[lookup.table], as_of)
    return entities


def _join(
    spark: "SparkSession", entities: "DataFrame", lookup: Lookup, table: InputTable, as_of: datetime
) -> "DataFrame":
    from pyspark.sql.connect import functions as F
    from pyspark.sql.connect.window import Window

    features = table.read(spark, as_of)
    _require(features.columns, [*lookup.keys, *lookup.features], table)
    time = table.available_at
    keys = [f"__k{index}" for index in range(len(lookup.keys))]
    left = entities.select(
        *(F.expr(expression).alias(key) for key, expression in zip(keys, lookup.keys.values(), strict=True)),
        F.col(PREDICTION_TIME).alias("__t"), F.lit(1).alias("__side"), F.struct("*").alias("__row"),
        F.lit(None).alias("__value"),
    )  # fmt: skip
    value = F.struct(F.col(quote(time)).alias("__at"), *(F.col(quote(name)) for name in lookup.features))
    right = features.select(
        *(F.col(quote(name)).alias(key) for key, name in zip(keys, lookup.keys, strict=True)),
        F.col(quote(time)).alias("__t"), F.lit(0).alias("__side"), F.lit(None).alias("__row"), value.alias("__value"),
    )  # fmt: skip
    window = (
        Window.partitionBy(*keys).orderBy("__t", "__side").rowsBetween(Window.unboundedPreceding, Window.currentRow)
    )
    found = (
        left.unionByName(right)
        .withColumn("__found", F.last("__value", ignorenulls=True).over(window))
        .where("__side = 1")
    )
    fresh = F.lit(True)
    if lookup.max_age is not None:
        fresh = F.col("__found.__at") >= F.col("__t") - F.expr(f"INTERVAL {int(lookup.max_age.total_seconds())} SECOND")
    return found.select(
        "__row.*",
        *(F.when(fresh, F.col(f"__found.{quote(name)}")).alias(lookup.output_name(name)) for name in lookup.features),
    )


def _require(columns: list[str], wanted: list[str], table: InputTable) -> None:
    missing = [name for name in wanted if name not in columns]
    if missing:
        raise TableError(
            f"{table.address}@{table.version} has no column(s) {', '.join(missing)}; it has: {', '.join(columns)}"
        )
