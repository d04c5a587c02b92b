"""The inputs of a refresh, and the feature table itself, restricted to the rows of touched groups."""

from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING

from penstock.features.inputs import InputTable
from penstock.features.known_moments import (
    Moments,
    groups_known_here,
    has_rest,
    late_only,
    latest,
    moment_columns,
    undecided,
)
from penstock.features.plan import Plan
from penstock.features.rows_here import MappedTable, rows_here
from penstock.features.staging import remove_staging, stored_names
from penstock.features.time_ranges import column_condition
from penstock.features.touched import Touched
from penstock.spec.project import FeatureTable
from penstock.spec.sql import columns_read, quote

if TYPE_CHECKING:
    import pyarrow as pa
    from pyspark.sql.connect.dataframe import DataFrame
    from pyspark.sql.connect.session import SparkSession

_ROW_GROUP = 50_000  # Spark reads each in a task of its own


@dataclass(frozen=True)
class _Chosen:
    """An input's rows of touched groups, chosen by this process; known: when each group's last one became known."""

    frame: "DataFrame"
    known: "pa.Table | None"


@contextmanager
def restricted_inputs(
    spark: "SparkSession", spec: FeatureTable, plan: Plan, views: dict[str, "DataFrame"], touched: Touched,
    as_of: datetime, folder: str, query: str | None,
) -> Iterator[tuple[dict[str, "DataFrame"], Moments | None]]:  # fmt: skip
    """The inputs with the rows of touched groups only; all rows, where they map to groups only by a join.

    Also the moments from which the groups are known, where they need no Spark query. Rows that this process chooses lie
    in `folder` for as long as they are computed with. query: the transformation, where it is SQL, which may need some
    columns only.
    """
    late = late_only(plan, as_of)
    open_ones = undecided(spec, plan) if touched.may_be_after(late.since) else {}
    try:
        found = {
            name: _chosen_here(
                spark, spec, plan.inputs[name], touched, as_of, f"{folder}/{number}.parquet", query, set(open_ones)
            )
            for number, name in enumerate(views)
        }
        if all(chosen is not None for chosen in found.values()):
            spark.conf.set("spark.sql.adaptive.enabled", "false")  # to plan anew takes longer than to compute
            spark.conf.set("spark.sql.shuffle.partitions", "2")
        frames = {
            name: chosen.frame if chosen is not None else _restrict(spark, spec, views[name], name, touched)
            for name, chosen in found.items()
        }
        yield frames, _moments_here(spec, plan, late, [found[name] for name in open_ones], touched)
    finally:
        remove_staging(folder)


def _moments_here(
    spec: FeatureTable, plan: Plan, late: Moments, open_ones: Sequence[_Chosen | None], touched: Touched
) -> Moments | None:
    """From when the groups are known, by the rows that this process chose; None where Spark has to say."""
    if not touched.may_be_after(late.since):
        return late
    parts = [chosen.known for chosen in open_ones if chosen is not None and chosen.known is not None]
    if len(parts) < len(open_ones) or has_rest(spec, plan):
        return None
    return replace(late, groups=latest(parts) if parts else None)


def _chosen_here(
    spark: "SparkSession", spec: FeatureTable, table: InputTable, touched: Touched, as_of: datetime, path: str,
    query: str | None, open_ones: Collection[str],
) -> _Chosen | None:  # fmt: skip
    """The rows of touched groups, chosen by this process; None where it is for Spark to find them.

    open_ones: inputs whose rows may become known after the event time, so that the moments of all are asked for.
    """
    mapping = spec.grain.inputs.get(table.name) if spec.grain else None
    if mapping is None or mapping.join is not None or touched.here is None:
        return None
    mapped = touched.mapped.get(table.name) or MappedTable.of(table.path, table.opened, table.name, mapping.expressions)
    if mapped is None:
        return None
    every = mapped.files.schema.names
    if query is None or any(_joins(spec, name, table.name) for name in open_ones):
        columns = every
    else:
        columns = columns_read(query, every) or mapped.columns
    moments = moment_columns(table) if table.name in open_ones else []
    wanted = list(dict.fromkeys([*columns, *([*mapped.columns, *moments] if moments else [])]))
    rows = rows_here(mapped, touched.here, wanted, table.available_at, as_of)
    if rows is None:
        return None
    return _Chosen(
        _handed_over(spark, mapped, rows, path), groups_known_here(mapped, rows, moments) if moments else None
    )


def _joins(spec: FeatureTable, name: str, other: str) -> bool:
    """Whether the rows of an input map to groups by a join with another."""
    join = spec.grain.inputs[name].join if spec.grain is not None else None
    return join is not None and join.input == other


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
    mapped = MappedTable.of(plan.path, plan.table, "", {column: quote(column) for column in spec.grain.columns})
    return mapped and rows_here(mapped, touched.here, stored_names(spec), None, as_of)


def has_whole_inputs(spec: FeatureTable) -> bool:
    """Whether some input is read whole: an outer join of it also makes rows of groups that are not touched."""
    assert spec.grain is not None
    mappings = [spec.grain.inputs.get(name) for name in spec.inputs]
    return any(mapping is None or mapping.join is not None for mapping in mappings)


def of_touched_groups(spark: "SparkSession", frame: "DataFrame", spec: FeatureTable, touched: Touched) -> "DataFrame":
    """Rows of the feature table (stored or computed) that belong to touched groups."""
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
        within = column_condition(expressions[event_time], touched.ranges) or "true"
        undated = f" OR ({expressions[event_time]}) IS NULL" if event_time in touched.nullable else ""
        frame = frame.where(within + undated)
    keyed = frame.select("*", *(F.expr(expression).alias(f"__{column}") for column, expression in expressions.items()))
    groups = touched.groups(spark).select(*(F.col(column).alias(f"__touched_{column}") for column in expressions))
    pairs = {column: (F.col(f"__{column}"), F.col(f"__touched_{column}")) for column in expressions}
    same = [a.eqNullSafe(b) if column in touched.nullable else a == b for column, (a, b) in pairs.items()]
    joined = keyed.join(F.broadcast(groups), same, "left_semi")
    return joined.drop(*(f"__{column}" for column in expressions))
