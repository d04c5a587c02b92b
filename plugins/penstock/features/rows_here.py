"""The touched groups, and the rows that belong to them, worked out by this process where that is quick.

It is where the grain's expressions are simple (grain_values) and the files that may hold what is looked for are small
by the log. Everywhere else the answer is None, and Spark does it: with the same result, tested side by side.
"""

from bisect import bisect_left
from dataclasses import dataclass
from datetime import datetime, timedelta
from math import prod
from typing import TYPE_CHECKING, Any

from penstock.features.grain_values import GrainValue, grain_value
from penstock.lakehouse.data_files import DataFiles, read_changes

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    from deltalake import DeltaTable

    from penstock.features.inputs import InputTable
    from penstock.features.plan import Plan
    from penstock.spec.project import FeatureTable

MOST_BYTES = 1 << 30  # of files: read, filtered and forgotten one after the other
MOST_ROWS = 2_000_000  # that stay in this process
MOST_GROUPS = 200_000
_MOST_CODES = 1 << 62
_MOST_IN_TABLE = 1 << 26  # a byte each
_CUT = timedelta(milliseconds=1)  # statistics of timestamps may be cut to milliseconds


@dataclass(frozen=True)
class MappedTable:
    """A table whose rows' groups are worked out here: its files, and the grain's columns by name."""

    files: DataFiles
    values: dict[str, GrainValue]

    @classmethod
    def of(cls, path: str, table: "DeltaTable", name: str, expressions: dict[str, str]) -> "MappedTable | None":
        """A table at its version; None where some expression or the table's form is Spark's to work out."""
        values = {column: grain_value(expression, name) for column, expression in expressions.items()}
        known = {column: value for column, value in values.items() if value is not None}
        files = DataFiles.of(path, table) if len(known) == len(values) else None
        if files is None:
            return None
        names = set(files.schema.names)
        if not all(v.column in names and v.takes(files.schema.field(v.column).type) for v in known.values()):
            return None
        return cls(files, known)

    @property
    def columns(self) -> list[str]:
        """The columns that the groups are made from."""
        return list(dict.fromkeys(value.column for value in self.values.values()))

    def is_moment(self, column: str) -> bool:
        """Whether the table has such a column of UTC timestamps."""
        import pyarrow as pa

        schema = self.files.schema
        return column in schema.names and bool(schema.field(column).type == pa.timestamp("us", "UTC"))

    def groups(self, rows: "pa.Table") -> "pa.Table":
        """The groups of rows, each once."""
        import pyarrow as pa

        every = pa.table({name: value.of(rows[value.column]) for name, value in self.values.items()})
        return every.group_by(every.column_names).aggregate([]).select(list(self.values))

    def files_after(self, value: GrainValue, moment: datetime) -> "np.ndarray":
        """Which files may have rows whose value is after a moment."""
        import numpy as np

        bounds = self._bounds(value)
        if bounds is None:
            return self.files.every()
        return np.array([most is None or most > _plain(moment) for most in bounds[1]], dtype=bool)

    def all_until(self, column: str, moment: datetime, chosen: "np.ndarray") -> bool:
        """Whether, by the log alone, every row of the chosen files has a value in a column, up to a moment."""
        later = self.files_after(GrainValue(column), moment) | self.files.may_have_nulls(column)
        return not bool((later & chosen).any())

    def files_of(self, groups: "pa.Table") -> "np.ndarray":
        """Which files may have rows of these groups."""
        import numpy as np

        chosen = self.files.every()
        for name, value in self.values.items():
            bounds = self._bounds(value)
            if bounds is not None:
                wanted = sorted(_plain_list(groups[name].unique()))
                chosen &= np.array([_meets(wanted, *ends) for ends in zip(*bounds, strict=True)], dtype=bool)
        return chosen

    def _bounds(self, value: GrainValue) -> tuple[list[Any], list[Any]] | None:
        """Each file's least and greatest value, as plain numbers or texts; None for unknown."""
        import pyarrow as pa
        import pyarrow.compute as compute

        found = self.files.bounds(value.column)
        if found is None:
            return None
        least, greatest = found
        if pa.types.is_timestamp(least.type):
            cut = pa.scalar(_CUT, pa.duration("us"))
            least, greatest = compute.subtract(least, cut), compute.add(greatest, cut)
        return tuple(_plain_list(value.of(pa.chunked_array([ends]))) for ends in (least, greatest))  # type: ignore[return-value]


def _meets(wanted: list[Any], least: Any, greatest: Any) -> bool:
    if least is None or greatest is None:
        return True
    first = bisect_left(wanted, least)
    return first < len(wanted) and bool(wanted[first] <= greatest)


def _plain_list(values: "pa.ChunkedArray") -> list[Any]:
    import pyarrow as pa

    if pa.types.is_timestamp(values.type):
        values = values.cast(pa.int64())
    return values.to_pylist()  # type: ignore[no-any-return]


def _plain(moment: datetime) -> int:
    import pyarrow as pa

    return int(pa.scalar(moment, pa.timestamp("us", "UTC")).value)


def groups_here(
    spec: "FeatureTable", plan: "Plan", as_of: datetime
) -> "tuple[pa.Table, dict[str, MappedTable]] | None":  # fmt: skip
    """The groups of changed rows, of rows that as_of uncovered, and those withheld so far, each once; the inputs."""
    import pyarrow as pa

    assert spec.grain is not None
    parts: list[pa.Table] = []
    inputs: dict[str, MappedTable] = {}
    for name, mapping in spec.grain.inputs.items():
        table = plan.inputs[name]
        mapped = None if mapping.join else MappedTable.of(table.path, table.opened, name, mapping.expressions)
        found = _groups_of(mapped, table, spec, plan, as_of) if mapped is not None else None
        if mapped is None or found is None:
            return None
        inputs[name] = mapped
        parts += found
    if any(part.schema != parts[0].schema for part in parts):
        return None  # Spark knows their common types
    union = pa.concat_tables(parts)
    union = union.group_by(union.column_names).aggregate([])
    return (union, inputs) if len(union) <= MOST_GROUPS else None


def _groups_of(
    mapped: MappedTable, table: "InputTable", spec: "FeatureTable", plan: "Plan", as_of: datetime
) -> "list[pa.Table] | None":
    import pyarrow.compute as compute

    assert plan.last is not None
    seen, since = plan.last.inputs.get(table.name), plan.last.as_of_moment
    available = GrainValue(table.available_at)
    names = list(dict.fromkeys([*mapped.columns, table.available_at]))
    if seen is None or not mapped.is_moment(table.available_at):
        return None
    found = []
    if seen != table.version:
        changed = read_changes(table.opened, seen, names, MOST_ROWS)
        if changed is None:
            return None
        found.append(mapped.groups(changed.filter(_until(changed, table.available_at, as_of))))
    event = mapped.values.get(spec.event_time)
    for value in (available, event) if event is not None else (available,):
        chosen = mapped.files_after(value, since)
        if mapped.files.size(chosen) > MOST_BYTES:
            return None

        def after(rows: "pa.Table", value: GrainValue = value) -> "pa.Table":
            late = compute.greater(value.of(rows[value.column]), _scalar(since))
            return mapped.groups(rows.filter(compute.and_(late, _until(rows, table.available_at, as_of))))

        found.append(mapped.files.read(names, chosen, after))
    return found


def rows_here(
    mapped: MappedTable, groups: "pa.Table", columns: list[str], available_at: str | None, as_of: datetime
) -> "pa.Table | None":
    """The rows of these groups (those available at as_of, where `available_at` names a column)."""
    if not _comparable(mapped, groups, available_at):
        return None
    chosen = mapped.files_of(groups)
    if mapped.files.size(chosen) > MOST_BYTES:
        return None
    if available_at is not None and mapped.all_until(available_at, as_of, chosen):
        available_at = None  # nothing to cut: one column less to read
    member = Members(groups.select(list(mapped.values)))
    extra = [*mapped.columns, *([available_at] if available_at else [])]
    names = list(dict.fromkeys([*columns, *extra]))
    kept = 0

    def keep(rows: "pa.Table") -> "pa.Table":
        nonlocal kept
        if kept > MOST_ROWS:
            return rows.slice(0, 0)
        rows = rows.filter(member.mask([value.of(rows[value.column]) for value in mapped.values.values()]))
        kept += len(rows)
        return rows if available_at is None else rows.filter(_until(rows, available_at, as_of))

    found = mapped.files.read(names, chosen, keep)
    return None if kept > MOST_ROWS else found.select(columns)


def _comparable(mapped: MappedTable, groups: "pa.Table", available_at: str | None) -> bool:
    """Whether groups and the table's have the same types, no nulls (equal to each other in Spark only), and codes."""
    schema = mapped.files.schema
    return (
        all(
            schema.field(value.column).type == groups[name].type and not groups[name].null_count
            for name, value in mapped.values.items()
        )
        and prod(len(groups[name].unique()) + 1 for name in mapped.values) < _MOST_CODES
        and (available_at is None or mapped.is_moment(available_at))
    )


class Members:
    """Some groups, to tell which rows belong to one of them.

    Each column's value is numbered among the groups' values, with one number for all others; a group is the number
    that those make together.
    """

    def __init__(self, groups: "pa.Table") -> None:
        import numpy as np

        self._known = [column.unique() for column in groups.columns]
        self._codes = np.unique(self._code(groups.columns))
        size = prod(len(known) + 1 for known in self._known)
        self._table = np.zeros(size, dtype=bool) if size <= _MOST_IN_TABLE else None
        if self._table is not None:
            self._table[self._codes] = True

    def mask(self, columns: "list[pa.ChunkedArray]") -> "pa.Array":
        """For each row, given by its group's columns, whether the group is one of these."""
        import numpy as np
        import pyarrow as pa

        code = self._code(columns)
        return pa.array(np.isin(code, self._codes) if self._table is None else self._table[code])

    def _code(self, columns: "list[pa.ChunkedArray]") -> "np.ndarray":
        import numpy as np
        import pyarrow.compute as compute

        code = np.zeros(len(columns[0]), dtype=np.int64)
        for values, known in zip(columns, self._known, strict=True):
            code *= len(known) + 1
            code += compute.fill_null(compute.index_in(values, value_set=known), len(known)).to_numpy()
        return code


def _until(rows: "pa.Table", column: str, moment: datetime) -> "pa.ChunkedArray":
    import pyarrow.compute as compute

    return compute.less_equal(rows[column], _scalar(moment))


def _scalar(moment: datetime) -> Any:
    import pyarrow as pa

    return pa.scalar(moment, pa.timestamp("us", "UTC"))
