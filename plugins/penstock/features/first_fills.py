"""What a table cannot say of the time before it was first filled, for those who ask for values as known then."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from penstock.clock import to_text
from penstock.features.inputs import InputTable
from penstock.features.known import KNOWN_AT, history_name
from penstock.lakehouse.records import CommitRecord, oldest_record
from penstock.spec.project import Lookup

if TYPE_CHECKING:
    from deltalake import DeltaTable


def first_fill_warnings(inputs: Mapping[str, InputTable], lookups: Sequence[Lookup], first: datetime) -> list[str]:
    """Of each looked-up table that was first filled after `first`, the oldest prediction time: what it cannot say.

    One that a person wrote, or an older Penstock, gives the rows of its first fill their event time as the moment from
    which they were known. Any other knows when their inputs were, and may have nothing that was known early enough.
    """
    from deltalake import DeltaTable

    warnings = []
    for name in dict.fromkeys(lookup.table for lookup in lookups):
        table = DeltaTable(inputs[name].path)
        filled = oldest_record(table)
        says_when = KNOWN_AT in [field.name for field in table.schema().fields]
        if filled is None or filled.as_of_moment <= first or not says_when:
            continue
        if not filled.known_by_inputs:
            warnings.append(_unsure(inputs[name].address, filled, first))
            continue
        history = inputs.get(history_name(name))
        earliest = _earliest([table, *([DeltaTable(history.path)] if history is not None else [])])
        if earliest is not None and earliest > first:
            warnings.append(_nothing(inputs[name].address, filled, first, earliest))
    return warnings


def _unsure(address: str, filled: CommitRecord, first: datetime) -> str:
    return (
        f"{address} was first filled as of {filled.as_of} (as far as its log reaches), and prediction "
        f"times begin at {to_text(first)}: its rows of before {filled.as_of} count as known at their event time, "
        "though what they were made from may have become known later"
    )


def _nothing(address: str, filled: CommitRecord, first: datetime, earliest: datetime) -> str:
    return (
        f"{address} was first filled as of {filled.as_of}, and what it was made from was known from "
        f"{to_text(earliest)} on: prediction times before that (they begin at {to_text(first)}) find no value of it"
    )


def _earliest(tables: "Sequence[DeltaTable]") -> datetime | None:
    """The least `_known_at` in some tables, by their logs; None where these do not say."""
    import pyarrow as pa
    import pyarrow.compute as compute

    found = []
    for table in tables:
        actions = pa.table(table.get_add_actions(flatten=True))
        if not actions.num_rows:
            continue
        name = f"min.{KNOWN_AT}"
        if name not in actions.column_names or actions[name].null_count:
            return None
        found.append(compute.min(actions[name].cast(pa.timestamp("us", "UTC"))).as_py())
    return min(found).astimezone(UTC) if found else None
