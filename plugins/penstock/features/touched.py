"""The groups of a feature table's grain that changed input rows touch."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import TYPE_CHECKING

from penstock.features.inputs import quote, sql_moment
from penstock.features.plan import Plan
from penstock.features.staging import Mode
from penstock.spec.project import FeatureTable, Grain, GrainInput

if TYPE_CHECKING:
    from pyspark.sql.connect.dataframe import DataFrame
    from pyspark.sql.connect.session import SparkSession

# From here on, choosing the touched groups' rows among all saves less than comparing the groups costs.
MOST = 0.5
_FEED_IS_GONE = (
    "DELTA_CHANGE_DATA_FILE_NOT_FOUND",
    "DELTA_MISSING_CHANGE_DATA",
    "DELTA_CHANGE_DATA_FEED_INCOMPATIBLE",
    "DELTA_VERSION_NOT_FOUND",
    "DELTA_VERSIONS_NOT_CONTIGUOUS",
    "DELTA_TRUNCATED_TRANSACTION_LOG",
    "DELTA_LOG_FILE_NOT_FOUND",
    "DELTA_FILE_NOT_FOUND",
    "FAILED_READ_FILE",
)


class ChangesLostError(Exception):
    """The change data feed of an input does not say any more what changed."""


@contextmanager
def touched_groups(
    spark: "SparkSession", spec: FeatureTable, plan: Plan, views: dict[str, "DataFrame"], as_of: datetime
) -> Iterator[tuple[Plan, "DataFrame | None"]]:
    """The plan, and the groups to compute, kept on the server while they are used; None where all are computed.

    The plan turns into one of the whole table where most groups are touched, or where the change feed was cleaned up.
    """
    if plan.mode is not Mode.INCREMENTAL or spec.grain is None:
        yield plan, None
        return
    touched = _touched(spark, spec.grain, spec.event_time, plan, views, as_of).persist()
    try:
        why = _why_all(spark, spec, plan, touched)
        yield (plan, touched) if why is None else (plan.in_full(why), None)
    finally:
        touched.unpersist()


def _why_all(spark: "SparkSession", spec: FeatureTable, plan: Plan, touched: "DataFrame") -> str | None:
    try:
        count = _count(touched)
    except ChangesLostError as error:
        return f"an input's change data feed was cleaned up: {error}"
    groups = _group_count(spark, spec, plan)
    if count > MOST * groups:
        return f"{count} groups are touched, and the table has {groups}"
    return None


def _count(touched: "DataFrame") -> int:
    from pyspark.errors import PySparkException

    try:
        return touched.count()
    except PySparkException as error:
        if any(name in str(error) for name in _FEED_IS_GONE):
            raise ChangesLostError(str(error).strip().splitlines()[0][:300]) from error
        raise


def _group_count(spark: "SparkSession", spec: FeatureTable, plan: Plan) -> int:
    """The table's groups; where each row is one, counted without reading rows."""
    from deltalake import DeltaTable

    assert spec.grain is not None
    if set(spec.grain.columns) == set(spec.key_columns):
        return DeltaTable(plan.path, version=plan.version).count()
    current = spark.read.format("delta").option("versionAsOf", plan.version).load(plan.path)
    return current.select(*spec.grain.columns).distinct().count()


def _touched(
    spark: "SparkSession", grain: Grain, event_time: str, plan: Plan, views: dict[str, "DataFrame"], as_of: datetime
) -> "DataFrame":
    """The groups of changed rows, of rows that as_of uncovered, and those withheld so far."""
    assert plan.last is not None
    since = plan.last.as_of_moment
    parts = []
    for name, mapping in grain.inputs.items():
        table, seen = plan.inputs[name], plan.last.inputs.get(name)
        if seen is None:
            parts.append(_groups(table.read(spark, as_of), name, mapping, grain, views))
            continue
        if seen != table.version:
            parts.append(_groups(table.changes(spark, seen, as_of), name, mapping, grain, views))
        parts.append(_groups(table.read(spark, as_of, after=since), name, mapping, grain, views))
        if event_time in grain.columns:
            withheld = _groups(views[name], name, mapping, grain, views)
            parts.append(withheld.where(f"{quote(event_time)} > {sql_moment(since)}"))
    union = parts[0]
    for part in parts[1:]:
        union = union.unionByName(part)
    return union.distinct()


def _groups(
    rows: "DataFrame", name: str, mapping: GrainInput, grain: Grain, views: dict[str, "DataFrame"]
) -> "DataFrame":
    if mapping.join is not None:
        rows = rows.alias(name).join(views[mapping.join.input].alias(mapping.join.input), mapping.join.using)
    else:
        rows = rows.alias(name)
    return rows.selectExpr(
        *(f"{mapping.expressions[column]} AS {quote(column)}" for column in grain.columns)
    ).distinct()


def restrict(frame: "DataFrame", name: str, grain: Grain, touched: "DataFrame") -> "DataFrame":
    """The rows of an input that belong to touched groups; all, where they map to groups only by a join."""
    mapping = grain.inputs.get(name)
    if mapping is None or mapping.join is not None:
        return frame
    return semi_join(frame, touched, mapping.expressions)


def semi_join(frame: "DataFrame", touched: "DataFrame", expressions: dict[str, str]) -> "DataFrame":
    """The rows whose expressions, by column of the grain, are a touched group."""
    from pyspark.sql.connect import functions as F

    keyed = frame.select("*", *(F.expr(expression).alias(f"__{column}") for column, expression in expressions.items()))
    groups = touched.select(*(F.col(column).alias(f"__touched_{column}") for column in expressions))
    same = [F.col(f"__{column}").eqNullSafe(F.col(f"__touched_{column}")) for column in expressions]
    joined = keyed.join(F.broadcast(groups), same, "left_semi")
    return joined.drop(*(f"__{column}" for column in expressions))
