"""What a table cannot say of the time before it was first filled, for those who ask for values as known then."""

from collections.abc import Mapping, Sequence
from datetime import datetime

from penstock.clock import to_text
from penstock.features.inputs import InputTable
from penstock.features.known import KNOWN_AT
from penstock.lakehouse.records import oldest_record
from penstock.spec.project import Lookup


def first_fill_warnings(inputs: Mapping[str, InputTable], lookups: Sequence[Lookup], first: datetime) -> list[str]:
    """Of each looked-up table that was first filled after `first`, the oldest prediction time: that, and since when.

    A first fill gives each row its event time as the moment from which it was known, although what it was made from may
    have become known later.
    """
    from deltalake import DeltaTable

    warnings = []
    for name in dict.fromkeys(lookup.table for lookup in lookups):
        table = DeltaTable(inputs[name].path)
        filled = oldest_record(table)
        says_when = KNOWN_AT in [field.name for field in table.schema().fields]
        if filled is None or filled.as_of_moment <= first or not says_when:
            continue
        warnings.append(
            f"{inputs[name].address} was first filled as of {filled.as_of} (as far as its log reaches), and prediction "
            f"times begin at {to_text(first)}: its rows of before {filled.as_of} count as known at their event time, "
            "though what they were made from may have become known later"
        )
    return warnings
