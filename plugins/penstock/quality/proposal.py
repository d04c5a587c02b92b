"""A first suite from a table's data, with a comment on where each number comes from."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import yaml

from penstock.clock import to_text
from penstock.errors import TableError
from penstock.lakehouse.records import latest_record
from penstock.spec.project import Column, ColumnType
from penstock.spec.suite import Severity
from penstock.workspace import Workspace

if TYPE_CHECKING:
    import pyarrow as pa

MOST_VALUES = 20
_ROWS_PER_VALUE = 20  # a set of values is proposed where each occurs that often, on average
_MARGIN = 0.2  # of the range that was seen, on either side
_NUMBERS = {ColumnType.INT, ColumnType.BIGINT, ColumnType.FLOAT, ColumnType.DOUBLE}


@dataclass(frozen=True)
class Proposal:
    """One expectation, and where its numbers come from."""

    type: str
    kwargs: dict[str, Any]
    severity: Severity
    why: str

    def to_yaml(self) -> str:
        """Its lines in a suite."""
        arguments = yaml.safe_dump(self.kwargs, default_flow_style=True, sort_keys=False, width=10_000).strip()
        return f"  # {self.why}\n  - type: {self.type}\n    kwargs: {arguments}\n    severity: {self.severity}\n"


def propose_suite(workspace: Workspace, project: str, table: str) -> str:
    """The text of a suite that the table's present rows pass. Raises TableError for a table without rows."""
    from penstock.lakehouse.small_tables import read_arrow, version

    columns, keys = _declaration(workspace, project, table)
    path = workspace.addresses.readable(f"{project}.{table}")
    at = version(path)
    rows = len(read_arrow(path, version=at, columns=keys[:1]))
    if not rows:
        raise TableError(f"{project}.{table} has no rows at version {at}: a suite is proposed from data")
    proposals = [_unique_keys(keys, rows)]
    for name, column in columns.items():
        values = read_arrow(path, version=at, columns=[name])[name].combine_chunks()
        proposals += _of_column(name, column, values, is_key=name in keys)
    last = latest_record(path)
    seen = f"version {at}, {rows} rows" + (f", as of {to_text(last.as_of_moment)}" if last else "")
    return _HEAD.format(project=project, table=table, seen=seen, types=_types(columns)) + "".join(
        proposal.to_yaml() for proposal in proposals
    )


_HEAD = """\
# yaml-language-server: $schema=../../../schema/expectations.schema.json
# Proposed by `penstock suite propose {project} {table}` from {seen}.
# Bounds say what was seen, with a margin: make them what can be. What fails a warning goes to quarantine.
# Checked with every batch without being written here: the declared columns are there, with their types
# ({types}), and no key is null.
description: First expectations of {table}, proposed from its data.
# Proposed for any table: more bad rows than a twentieth point at the batch, not at the rows.
acceptable_bad_share: 0.05
# Against the table's own earlier batches, from the seventh on: no number to write.
history: {{volume: warning, freshness: warning, nulls: warning, range: warning}}
expectations:
"""


def _declaration(workspace: Workspace, project: str, table: str) -> tuple[dict[str, Column], list[str]]:
    spec = workspace.project(project).spec
    if table in spec.sources:
        return spec.sources[table].columns, spec.sources[table].primary_keys
    if table in spec.feature_tables:
        return spec.feature_tables[table].columns, spec.feature_tables[table].key_columns
    known = ", ".join([*spec.sources, *spec.feature_tables])
    raise TableError(f"{project}.{table} is neither a source nor a feature table (there are: {known})")


def _types(columns: dict[str, Column]) -> str:
    text = ", ".join(f"{name} {column.type}" for name, column in columns.items())
    return text if len(text) <= 400 else f"{text[:400]} …"


def _unique_keys(keys: list[str], rows: int) -> Proposal:
    why = f"the primary keys that project.yaml declares, over {rows} rows"
    if len(keys) == 1:
        return Proposal("expect_column_values_to_be_unique", {"column": keys[0]}, Severity.CRITICAL, why)
    return Proposal("expect_compound_columns_to_be_unique", {"column_list": keys}, Severity.CRITICAL, why)


def _of_column(name: str, column: Column, values: "pa.Array", *, is_key: bool) -> Iterator[Proposal]:
    if values.null_count == 0 and not is_key:
        why = f"none of {len(values)} values was null"
        yield Proposal("expect_column_values_to_not_be_null", {"column": name}, Severity.WARNING, why)
    present = values.drop_null()
    if not len(present):
        return
    if column.type is ColumnType.STRING:
        yield from _set_of_values(name, present)
    elif column.type in _NUMBERS and not is_key:  # keys are counted on
        yield from _range(name, column, present)


def _set_of_values(name: str, values: "pa.Array") -> Iterator[Proposal]:
    import pyarrow.compute as compute

    found = sorted(compute.unique(values).to_pylist())
    if len(found) <= MOST_VALUES and len(found) * _ROWS_PER_VALUE <= len(values):
        why = f"the {len(found)} values of {len(values)} rows"
        yield Proposal("expect_column_values_to_be_in_set", {"column": name, "value_set": found}, Severity.WARNING, why)


def _range(name: str, column: Column, values: "pa.Array") -> Iterator[Proposal]:
    import pyarrow as pa
    import pyarrow.compute as compute

    finite = values
    if pa.types.is_floating(values.type):
        finite = values.filter(compute.is_finite(values))
    if not len(finite) or len(finite) < len(values) - int(_nan_count(values)):
        return  # nothing to bound, or infinities that no bound would let pass
    low, high = compute.min(finite).as_py(), compute.max(finite).as_py()
    margin = _MARGIN * (high - low) or _MARGIN * abs(high) or 1.0
    is_share = column.type in (ColumnType.FLOAT, ColumnType.DOUBLE) and low >= 0 and high <= 1
    least = max(0.0, low - margin) if low >= 0 else low - margin
    greatest = 1.0 if is_share else high + margin
    why = f"{low:.6g} to {high:.6g} in {len(finite)} values, and a fifth of that range on either side"
    why += ", within 0 to 1: it looks like a share" if is_share else ", not below 0: no value was" if low >= 0 else ""
    bounds = {"min_value": _rounded(least, down=True), "max_value": _rounded(greatest, down=False)}
    yield Proposal("expect_column_values_to_be_between", {"column": name, **bounds}, Severity.WARNING, why)


def _nan_count(values: "pa.Array") -> int:
    import pyarrow as pa
    import pyarrow.compute as compute

    return int(compute.sum(compute.is_nan(values)).as_py() or 0) if pa.types.is_floating(values.type) else 0


def _rounded(value: float, *, down: bool) -> float | int:
    """To two significant digits, outwards; a whole number where it is one."""
    if value == 0:
        return 0
    unit = 10.0 ** (math.floor(math.log10(abs(value))) - 1)
    rounded = (math.floor if down else math.ceil)(round(value / unit, 9)) * unit
    rounded = float(f"{rounded:.12g}")
    return int(rounded) if rounded.is_integer() else rounded
