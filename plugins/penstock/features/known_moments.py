"""From when the values of computed rows could be known: once the last input row that they are made from was.

An input row is known from its `available_at` on, and one of a feature table not before its `_known_at`. The grain says
which input rows an output row is made from; of an input without a mapping, all are.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import reduce
from typing import TYPE_CHECKING

from penstock.features.inputs import InputTable, sql_moment
from penstock.features.known import KNOWN_AT
from penstock.features.plan import Plan
from penstock.features.rows_here import MappedTable
from penstock.features.staging import Mode
from penstock.features.time_ranges import TimeRange, column_condition, offset_of
from penstock.spec.project import FeatureTable
from penstock.spec.sql import quote
from penstock.spec.table import GrainInput

if TYPE_CHECKING:
    import pyarrow as pa
    from pyspark.sql.connect.dataframe import DataFrame

_GROUPS, _REST = "__known_of_group", "__known_of_rest"


@dataclass(frozen=True)
class Moments:
    """What decides the `_known_at` of computed rows.

    since: rows with event times up to it are late (None: none is), and count as known from `late`. groups: by the
    grain's columns, when the last row of the group's became known; None where that is never after the event time.
    rest: the same of the inputs without a mapping, in one row.
    """

    since: datetime | None
    late: datetime
    groups: "DataFrame | pa.Table | None" = None
    rest: "DataFrame | None" = None

    @property
    def are_here(self) -> bool:
        """Whether this process can tell, without Spark."""
        import pyarrow as pa

        return self.rest is None and (self.groups is None or isinstance(self.groups, pa.Table))

    def added(self, output: "DataFrame", spec: FeatureTable) -> "DataFrame":
        """The rows with `_known_at` as it is where they are new or changed."""
        from pyspark.sql.connect import functions as F

        names = list(output.columns)
        moments = [quote(spec.event_time)]
        if self.groups is not None:
            assert spec.grain is not None
            groups = self._groups_there(output, spec)
            same = [F.col(quote(name)).eqNullSafe(F.col(f"__group_{name}")) for name in spec.grain.columns]
            output = output.join(groups, same, "left")
            moments.append(_GROUPS)
        if self.rest is not None:
            output = output.crossJoin(F.broadcast(self.rest))
            moments.append(_REST)
        known = moments[0] if len(moments) == 1 else f"greatest({', '.join(moments)})"
        if self.since is not None:
            is_late = f"{moments[0]} <= {sql_moment(self.since)}"
            known = f"CASE WHEN {is_late} THEN {sql_moment(self.late)} ELSE {known} END"
        return output.selectExpr(*map(quote, names), f"{known} AS {KNOWN_AT}")

    def _groups_there(self, output: "DataFrame", spec: FeatureTable) -> "DataFrame":
        import pyarrow as pa

        assert spec.grain is not None
        groups = output.sparkSession.createDataFrame(self.groups) if isinstance(self.groups, pa.Table) else self.groups
        assert groups is not None
        return groups.selectExpr(
            *(f"CAST({quote(name)} AS {spec.columns[name].type}) AS __group_{name}" for name in spec.grain.columns),
            _GROUPS,
        )

    def added_here(self, output: "pa.Table", spec: FeatureTable) -> "pa.Table":
        """The same of rows in this process (where `are_here`)."""
        import pyarrow as pa
        import pyarrow.compute as compute

        moment = pa.timestamp("us", "UTC")
        known = output[spec.event_time].cast(moment)
        if self.groups is not None:
            assert spec.grain is not None
            keys = spec.grain.columns
            types = [pa.field(name, output.schema.field(name).type) for name in keys]
            groups = self.groups.select([*keys, _GROUPS]).cast(pa.schema([*types, pa.field(_GROUPS, moment)]))
            output = output.join(groups, keys)
            known = _latest_of(output[spec.event_time], output[_GROUPS])
            output = output.drop_columns([_GROUPS])
        if self.since is not None:
            is_late = compute.less_equal(output[spec.event_time].cast(moment), pa.scalar(self.since, moment))
            known = compute.if_else(is_late, pa.scalar(self.late, moment), known)
        return output.append_column(KNOWN_AT, known)


def moment_columns(table: InputTable) -> list[str]:
    """The columns of an input that say when a row became known: the greatest of them counts."""
    fields = [field.name for field in table.opened.schema().fields]
    return [table.available_at, *([KNOWN_AT] if KNOWN_AT in fields and table.available_at != KNOWN_AT else [])]


def undecided(spec: FeatureTable, plan: Plan) -> dict[str, GrainInput]:
    """The mapped inputs whose rows may become known after the event time that they belong to."""
    mapped = spec.grain.inputs if spec.grain is not None else {}
    return {name: mapping for name, mapping in mapped.items() if not _is_in_time(spec, mapping, plan.inputs[name])}


def _is_in_time(spec: FeatureTable, mapping: GrainInput, table: InputTable) -> bool:
    """Whether, by the grain alone, each row of an input is known by the event time of its group."""
    expression = mapping.expressions.get(spec.event_time)
    offset = offset_of(expression) if expression is not None and mapping.join is None else None
    return (
        offset is not None
        and offset.column == table.available_at
        and offset.least >= timedelta(0)
        and len(moment_columns(table)) == 1
    )


def late_only(plan: Plan, known_at: datetime) -> Moments:
    """For rows that are all late: the table has reached their event times."""
    return Moments(_since(plan), known_at)


def _since(plan: Plan) -> datetime | None:
    return plan.last.as_of_moment if plan.last is not None else None


def moments_there(spec: FeatureTable, plan: Plan, views: Mapping[str, "DataFrame"], as_of: datetime) -> Moments:
    """The moments, worked out by Spark within the query that needs them."""
    parts = [_groups_of(spec, plan, views, name, mapping) for name, mapping in undecided(spec, plan).items()]
    groups = None
    if parts and spec.grain is not None:
        union = reduce(lambda one, other: one.unionByName(other), parts)
        groups = union.groupBy(*map(quote, spec.grain.columns)).agg({_GROUPS: "max"})
        groups = groups.withColumnRenamed(f"max({_GROUPS})", _GROUPS)
    return replace(late_only(plan, as_of), groups=groups, rest=_rest(spec, plan, views))


def has_rest(spec: FeatureTable, plan: Plan) -> bool:
    """Whether inputs without a mapping may decide from when rows are known."""
    return bool(_unmapped(spec, plan))


def _unmapped(spec: FeatureTable, plan: Plan) -> dict[str, list[str]]:
    """Such inputs, with their columns of moments.

    Where a refresh is incremental they are as they were: their rows were available before what is on time now.
    """
    mapped = spec.grain.inputs if spec.grain is not None else {}
    columns = {name: moment_columns(table) for name, table in plan.inputs.items() if name not in mapped}
    return {name: found for name, found in columns.items() if plan.mode is not Mode.INCREMENTAL or len(found) > 1}


def _rest(spec: FeatureTable, plan: Plan, views: Mapping[str, "DataFrame"]) -> "DataFrame | None":
    found = [
        views[name].selectExpr(f"max({_greatest(columns)}) AS {_REST}")
        for name, columns in _unmapped(spec, plan).items()
    ]
    if not found:
        return None
    return reduce(lambda one, other: one.unionByName(other), found).selectExpr(f"max({_REST}) AS {_REST}")


def _groups_of(
    spec: FeatureTable, plan: Plan, views: Mapping[str, "DataFrame"], name: str, mapping: GrainInput
) -> "DataFrame":
    from pyspark.sql.connect import functions as F

    assert spec.grain is not None
    since, expression = _since(plan), mapping.expressions.get(spec.event_time)
    rows = views[name].withColumn(_GROUPS, F.expr(_greatest(moment_columns(plan.inputs[name]))))
    if since is not None and expression is not None and mapping.join is None:
        rows = rows.where(column_condition(expression, [TimeRange(since, None)]) or "true")
    rows = rows.alias(name)
    if mapping.join is not None:
        rows = rows.join(views[mapping.join.input].alias(mapping.join.input), mapping.join.using)
    groups = (f"{mapping.expressions[column]} AS {quote(column)}" for column in spec.grain.columns)
    found = rows.selectExpr(*groups, _GROUPS)
    if since is None or expression is None:
        return found
    return found.where(f"{quote(spec.event_time)} > {sql_moment(since)}")


def _greatest(columns: Sequence[str]) -> str:
    names = [quote(column) for column in columns]
    return names[0] if len(names) == 1 else f"greatest({', '.join(names)})"


def groups_known_here(mapped: MappedTable, rows: "pa.Table", columns: Sequence[str]) -> "pa.Table":
    """When the last row of each group became known, of an input's rows in this process; columns: its moments."""
    import pyarrow as pa

    known = _latest_of(*(rows[column] for column in columns))
    every = pa.table({**{name: value.of(rows[value.column]) for name, value in mapped.values.items()}, _GROUPS: known})
    return latest([every])


def latest(parts: "Sequence[pa.Table]") -> "pa.Table":
    """The greatest moment of each group of several inputs."""
    import pyarrow as pa

    names = parts[0].column_names
    every = pa.concat_tables([part.select(names) for part in parts])
    keys = [name for name in names if name != _GROUPS]
    return every.group_by(keys).aggregate([(_GROUPS, "max")]).rename_columns([*keys, _GROUPS])


def _latest_of(*moments: "pa.ChunkedArray") -> "pa.ChunkedArray":
    """The greatest of the moments at each place; nulls do not count."""
    import pyarrow as pa
    import pyarrow.compute as compute

    kind = pa.timestamp("us", "UTC")
    return compute.max_element_wise(*(values.cast(kind).cast(pa.int64()) for values in moments)).cast(kind)
