"""The inputs of a refresh, and the feature table itself, restricted to the rows of touched groups."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import TYPE_CHECKING

from penstock.features.inputs import InputTable, quote
from penstock.features.plan import Plan
from penstock.features.rows_here import MappedTable, rows_here
from penstock.features.staging import remove_staging, stored_names
from penstock.features.time_ranges import column_condition
from penstock.features.touched import Touched
from penstock.spec.project import FeatureTable
from penstock.spec.sql import columns_read

if TYPE_CHECKING:
    import pyarrow as pa
    from pyspark.sql.connect.dataframe import DataFrame
    from pyspark.sql.connect.session import SparkSession

_ROW_GROUP = 50_000  # Spark reads each in a task of its own


@contextmanager
def restricted_inputs(
    spark: "SparkSession", spec: FeatureTable, plan: Plan, views: dict[str, "DataFrame"], touched: Touched,
    as_of: datetime, folder: str, query: str | None,
) -> Iterator[dict[str, "DataFrame"]]:  # fmt: skip
    """The inputs with the rows of touched groups only; all rows, where they map to groups only by a join.

    Rows that this process chooses lie in `folder` for as long as they are computed with. query: the transformation,
    where it is SQL, which may need some columns only.
    """
    try:
        found = {
            name: _chosen_here(spark, spec, plan.inputs[name], touched, as_of, f"{folder}/{number}.parquet", query)
            for number, name in enumerate(views)
        }
        if all(frame is not None for frame in found.values()):
            spark.conf.set("spark.sql.adaptive.enabled", "false")  # to plan anew takes longer than to compute
            spark.conf.set("spark.sql.shuffle.partitions", "2")
        yield {
            name: _restrict(spark, spec, frame, name, touched) if found[name] is None else found[name]
            for name, frame in views.items()
        }
    finally:
        remove_staging(folder)


def _chosen_here(
    spark: "SparkSession",
    spec: FeatureTable,
    table: InputTable,
    touched: Touched,
    as_of: datetime,
    path: str,
    query: str | None,
) -> "DataFrame | None":
    """The rows of touched groups, chosen by this process; None where it is for Spark to find them."""
    mapping = spec.grain.inputs.get(table.name) if spec.grain else None
    if mapping is None or mapping.join is not None or touched.here is None:
        return None
    mapped = touched.mapped.get(table.name) or MappedTable.open(
        table.path, table.version, table.name, mapping.expressions
    )
    if mapped is None:
        return None
    columns = mapped.files.schema.names if query is None else columns_read(query, mapped.files.schema.names)
    rows = rows_here(mapped, touched.here, columns or mapped.columns, table.available_at, as_of)
    return None if rows is None else _handed_over(spark, mapped, rows, path)


def _restrict(
    spark: "SparkSession", spec: FeatureTable, frame: "DataFrame", name: str, touched: Touched
) -> "DataFrame":  # fmt: skip
    mapping = spec.grain.inputs.get(name) if spec.grain else None
    if mapping is None or mapping.join is not None:
        return frame
    return _semi_join(spark, frame, touched, mapping.expressions, spec.event_time)


def current_here(spec: FeatureTable, plan: Plan, touched: Touched, as_of: datetime) -> "pa.Table | None":
    """The feature table's own rows of touched groups; None where it is for Spark to find them."""
    assert spec.grain is not None
    if touched.here is None or not touched.few_rows:
        return None
    mapped = MappedTable.open(plan.path, plan.version, "", {column: quote(column) for column in spec.grain.columns})
    return mapped and rows_here(mapped, touched.here, stored_names(spec), None, as_of)


def restrict_current(spark: "SparkSession", frame: "DataFrame", spec: FeatureTable, touched: Touched) -> "DataFrame":
    """The feature table's own rows of touched groups."""
    assert spec.grain is not None
    return _semi_join(spark, frame, touched, {column: quote(column) for column in spec.grain.columns}, spec.event_time)


def _handed_over(spark: "SparkSession", mapped: MappedTable, rows: "pa.Table", path: str) -> "DataFrame":
    """Rows as a DataFrame: by a file, which Spark reads in a fraction of the time that it takes over a message."""
    from pyarrow.parquet import write_table
    from pyspark.sql.types import StructType

    from penstock.lakehouse.maintenance import open_files

    system, inner = open_files(path)
    system.create_dir(inner.rpartition("/")[0], recursive=True)
    write_table(rows, inner, filesystem=system, row_group_size=_ROW_GROUP, compression="none", use_dictionary=False)
    fields = [field for field in mapped.files.spark_fields if field["name"] in rows.column_names]
    schema = StructType.fromJson({"type": "struct", "fields": fields})
    return spark.read.schema(schema).parquet(path)


def _semi_join(
    spark: "SparkSession", frame: "DataFrame", touched: Touched, expressions: dict[str, str], event_time: str
) -> "DataFrame":
    from pyspark.sql.connect import functions as F

    if touched.ranges is not None:
        frame = frame.where(column_condition(expressions[event_time], touched.ranges) or "true")
    keyed = frame.select("*", *(F.expr(expression).alias(f"__{column}") for column, expression in expressions.items()))
    groups = touched.groups(spark).select(*(F.col(column).alias(f"__touched_{column}") for column in expressions))
    pairs = {column: (F.col(f"__{column}"), F.col(f"__touched_{column}")) for column in expressions}
    same = [a.eqNullSafe(b) if column in touched.nullable else a == b for column, (a, b) in pairs.items()]
    joined = keyed.join(F.broadcast(groups), same, "left_semi")
    return joined.drop(*(f"__{column}" for column in expressions))
