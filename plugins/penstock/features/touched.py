"""The groups of a feature table's grain that changed input rows touch."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING

from penstock.features.inputs import sql_moment
from penstock.features.plan import Plan
from penstock.features.rows_here import MOST_GROUPS, MappedTable, groups_here
from penstock.features.staging import Mode
from penstock.features.time_ranges import TimeRange, column_condition, offset_of, ranges_of
from penstock.lakehouse.session import read_version
from penstock.spec.project import FeatureTable, Grain, GrainInput
from penstock.spec.sql import quote

if TYPE_CHECKING:
    import pyarrow as pa
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


@dataclass(frozen=True)
class Touched:
    """The groups to compute, and ranges that hold their event times (None: they have none, or too many groups).

    A null event time lies in no range.

    nullable: columns that are null in some group; the others are joined by plain equality, which costs a fraction.
    few_rows: whether they are so few rows of the feature table that they fit into this process.
    here: the groups in this process; there: on the server, where they are too many. mapped: inputs whose rows'
    groups this process works out.
    """

    count: int
    ranges: list[TimeRange] | None
    nullable: frozenset[str]
    few_rows: bool
    here: "pa.Table | None" = None
    there: "DataFrame | None" = None
    mapped: dict[str, MappedTable] = field(default_factory=dict)

    @classmethod
    def of(cls, spec: FeatureTable, groups: "pa.Table", mapped: dict[str, MappedTable] | None = None) -> "Touched":
        """Groups that were collected in this process."""
        assert spec.grain is not None
        times = (
            groups[spec.event_time].unique().drop_null().to_pylist() if spec.event_time in spec.grain.columns else None
        )
        few_rows = set(spec.grain.columns) == set(spec.key_columns)
        nullable = frozenset(name for name in groups.column_names if groups[name].null_count)
        ranges = None if times is None else ranges_of(times)
        return cls(len(groups), ranges, nullable, few_rows, here=groups, mapped=mapped or {})

    def may_be_after(self, moment: datetime | None) -> bool:
        """Whether some group may have event times after a moment (None: any)."""
        if moment is None or self.ranges is None:
            return True
        return any(found.last is None or found.last > moment for found in self.ranges)

    def groups(self, spark: "SparkSession") -> "DataFrame":
        """The groups as a DataFrame."""
        return self.there if self.there is not None else spark.createDataFrame(self.here)


@contextmanager
def touched_groups(
    spark: "SparkSession", spec: FeatureTable, plan: Plan, views: dict[str, "DataFrame"], as_of: datetime
) -> Iterator[tuple[Plan, Touched | None]]:
    """The plan, and the groups to compute; None where all are computed.

    The plan turns into one of the whole table where most groups are touched, or where the change feed was cleaned up.
    """
    if plan.mode is not Mode.INCREMENTAL or spec.grain is None:
        yield plan, None
        return
    try:
        touched = _find(spark, spec, plan, views, as_of)
    except ChangesLostError as error:
        yield plan.in_full(f"an input's change data feed was cleaned up: {error}"), None
        return
    groups = _group_count(spark, spec, plan)
    try:
        if touched.count > MOST * groups:
            yield plan.in_full(f"{touched.count} groups are touched, and the table has {groups}"), None
        else:
            yield plan, touched
    finally:
        if touched.there is not None:
            touched.there.unpersist()


def _find(
    spark: "SparkSession", spec: FeatureTable, plan: Plan, views: dict[str, "DataFrame"], as_of: datetime
) -> Touched:
    assert spec.grain is not None
    found = groups_here(spec, plan, as_of)
    if found is not None:
        return Touched.of(spec, *found)
    return _collect(spec, _touched(spark, spec.grain, spec.event_time, plan, views, as_of))


def _collect(spec: FeatureTable, groups: "DataFrame") -> Touched:
    from pyspark.errors import PySparkException

    assert spec.grain is not None
    try:
        table = groups.limit(MOST_GROUPS + 1).toArrow()
        if len(table) > MOST_GROUPS:
            every = frozenset(spec.grain.columns)
            return Touched(groups.persist().count(), None, every, few_rows=False, there=groups)
    except PySparkException as error:
        if any(name in str(error) for name in _FEED_IS_GONE):
            raise ChangesLostError(str(error).strip().splitlines()[0][:300]) from error
        raise
    return Touched.of(spec, table)


def _group_count(spark: "SparkSession", spec: FeatureTable, plan: Plan) -> int:
    """The table's groups; where each row is one, counted without reading rows."""
    assert spec.grain is not None
    if set(spec.grain.columns) == set(spec.key_columns):
        return plan.table.count()
    current = read_version(spark, plan.path, plan.version)
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
        if table.may_exceed(seen, table.available_at, since):
            parts.append(_groups(table.read(spark, as_of, after=since), name, mapping, grain, views))
        if event_time in grain.columns:
            narrow = _later(plan, name, mapping, event_time, since, views)
            if narrow is not None:
                withheld = _groups(narrow[name], name, mapping, grain, narrow)
                parts.append(withheld.where(f"{quote(event_time)} > {sql_moment(since)}"))
    if not parts:
        name, mapping = next(iter(grain.inputs.items()))
        return _groups(views[name], name, mapping, grain, views).limit(0)
    union = parts[0]
    for part in parts[1:]:
        union = union.unionByName(part)
    return union.distinct()


def _later(
    plan: Plan, name: str, mapping: GrainInput, event_time: str, since: datetime, views: dict[str, "DataFrame"]
) -> dict[str, "DataFrame"] | None:
    """The inputs with the rows of `name` that may make event times after a moment; None where there were none."""
    assert plan.last is not None
    expression = mapping.expressions[event_time]
    offset = offset_of(expression)
    if offset is None:
        return views
    source = mapping.join.input if mapping.join is not None and offset.table == mapping.join.input else name
    if mapping.join is not None and not offset.table:
        return views
    seen = plan.last.inputs.get(source)
    if seen is not None and not plan.inputs[source].may_exceed(seen, offset.column, since - offset.greatest):
        return None
    condition = column_condition(expression, [TimeRange(since, None)])
    return {**views, source: views[source].where(str(condition))}


def _groups(
    rows: "DataFrame", name: str, mapping: GrainInput, grain: Grain, views: dict[str, "DataFrame"]
) -> "DataFrame":
    if mapping.join is not None:
        rows = rows.alias(name).join(views[mapping.join.input].alias(mapping.join.input), mapping.join.using)
    else:
        rows = rows.alias(name)
    return rows.selectExpr(*(f"{mapping.expressions[column]} AS {quote(column)}" for column in grain.columns))
