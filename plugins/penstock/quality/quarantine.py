"""Quarantine: rows that failed are kept apart with every reason, so that nothing is lost."""

import hashlib
from collections import Counter
from collections.abc import Sequence
from datetime import datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from penstock.clock import now
from penstock.lakehouse.records import record
from penstock.lakehouse.system_tables import SYSTEM_TABLES, SystemTable
from penstock.quality.rows import BadRow, canonical_json
from penstock.workspace import Workspace

if TYPE_CHECKING:
    import pandas as pd

SAME_KEYS = "_occurrence"
Entry = dict[str, Any]


class QuarantineOutcome(StrEnum):
    """How a row got out of quarantine; a row without an outcome is open."""

    ACCEPTED = "accepted"
    CORRECTED = "corrected"
    REPLACED = "replaced"


# A row that is in quarantine is put there anew: unless it was released from a batch that is repeated now, or since
# the batch was held against the decisions.
_OPEN_AGAIN = "t.outcome IS NULL OR (t.as_of < s.as_of AND t.released_at < s.quarantined_at)"


def quarantine_rows(
    workspace: Workspace, project_name: str, table: str, bad_rows: Sequence[BadRow], as_of: datetime,
    found_at: datetime | None = None,
) -> int | None:  # fmt: skip
    """Merges bad rows of `table` into the project's quarantine, and answers its version; None without rows.

    `keys`, `row` and `reasons` are canonical JSON. The same row replaces itself, whatever its as_of. Rows
    that cannot be told apart by their keys (a key is null) get an `_occurrence` among their keys. A row that was
    released and comes again in a later batch is open again; when the same batch is repeated, it stays released, and so
    does one that somebody decided on after `found_at` (now, where it is not given).
    """
    if not bad_rows:
        return None
    moment = found_at or now()
    rows = [
        {
            "table": table, "keys": keys, "row": canonical_json(bad.row), "reasons": canonical_json(bad.reasons),
            "as_of": as_of, "quarantined_at": moment, "run": workspace.lineage.run,
        }
        for keys, bad in distinct_rows(bad_rows)
    ]  # fmt: skip
    return write_entries(workspace, project_name, rows, as_of, update_if=_OPEN_AGAIN)


def read_quarantine(workspace: Workspace, project_name: str, table: str | None = None) -> "pd.DataFrame":
    """The project's quarantine (of one table, or all), newest first, by keys; without rows where it is empty.

    Columns: those of the table (docs/reference/tables.md), and `id`, by which a row is released.
    """
    import pandas as pd

    from penstock.lakehouse.small_tables import read

    columns = list(SYSTEM_TABLES[SystemTable.QUARANTINE].columns)
    path = workspace.addresses.find(f"{project_name}.{SystemTable.QUARANTINE}")
    if path is None:
        return pd.DataFrame(columns=["id", *columns])
    filters: list[tuple[str, str, Any]] | None = [("table", "=", table)] if table else None
    found = read(path, filters=filters).reindex(columns=columns)
    found.insert(0, "id", [entry_id(*names) for names in zip(found["table"], found["keys"], found["row"], strict=True)])
    return found.sort_values(["as_of", "table", "keys"], ascending=[False, True, True], ignore_index=True)


def read_entries(workspace: Workspace, project_name: str, table: str) -> list[Entry]:
    """The rows of `read_quarantine` as dictionaries, with None for what is missing."""
    found = read_quarantine(workspace, project_name, table).astype(object)
    entries: list[Entry] = found.where(found.notna(), None).to_dict("records")
    return entries


def write_entries(
    workspace: Workspace, project_name: str, entries: Sequence[Entry], as_of: datetime, update_if: str
) -> int:  # fmt: skip
    """Merges entries by their keys, in one commit; answers the version of the quarantine.

    update_if: SQL over `t`, the entry as it is by then, and `s`, the given one: where it is not true, the first stays.
    """
    from penstock.lakehouse.small_tables import write_system_rows

    path = workspace.addresses.writable(f"{project_name}.{SystemTable.QUARANTINE}")
    commit = record(as_of, folder=workspace.project(project_name).folder, run=workspace.lineage.run)
    return write_system_rows(path, SystemTable.QUARANTINE, list(entries), commit, update_if)


def entry_id(table: str, keys: str, row: str) -> str:
    """The name of a row in quarantine: twelve hexadecimal digits that its content decides."""
    return hashlib.sha256(canonical_json([table, keys, row]).encode()).hexdigest()[:12]


def distinct_rows(bad_rows: Sequence[BadRow]) -> list[tuple[str, BadRow]]:
    """Each row with keys that no other has; in an order that does not depend on how the rows came."""
    ordered = sorted(bad_rows, key=lambda bad: (canonical_json(bad.keys), canonical_json(bad.row)))
    total = Counter(canonical_json(bad.keys) for bad in ordered)
    seen: Counter[str] = Counter()
    named = []
    for bad in ordered:
        keys = canonical_json(bad.keys)
        seen[keys] += 1
        if total[keys] > 1:
            named.append((canonical_json({**bad.keys, SAME_KEYS: seen[keys]}), bad))
        else:
            named.append((keys, bad))
    return named
