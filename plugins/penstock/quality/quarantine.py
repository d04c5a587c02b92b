"""Quarantine: rows that failed are kept apart with every reason, so that nothing is lost."""

from collections import Counter
from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from penstock.clock import now
from penstock.lakehouse.records import record
from penstock.lakehouse.system_tables import SystemTable
from penstock.quality.rows import BadRow, canonical_json
from penstock.workspace import Workspace

if TYPE_CHECKING:
    import pandas as pd

SAME_KEYS = "_occurrence"


def quarantine_rows(
    workspace: Workspace, project_name: str, table: str, bad_rows: Sequence[BadRow], as_of: datetime
) -> int | None:
    """Merges bad rows of `table` into the project's quarantine, and answers its version; None without rows.

    `keys`, `row` and `reasons` are canonical JSON. The same row replaces itself, whatever its as_of. Rows
    that cannot be told apart by their keys (a key is null) get an `_occurrence` among their keys.
    """
    if not bad_rows:
        return None
    from penstock.lakehouse.small_tables import write_system_rows

    project = workspace.project(project_name)
    path = workspace.addresses.writable(f"{project_name}.{SystemTable.QUARANTINE}")
    moment = now()
    rows = [
        {
            "table": table, "keys": keys, "row": canonical_json(bad.row), "reasons": canonical_json(bad.reasons),
            "as_of": as_of, "quarantined_at": moment, "run": workspace.lineage.run,
        }
        for keys, bad in _distinct(bad_rows)
    ]  # fmt: skip
    commit = record(as_of, folder=project.folder, run=workspace.lineage.run)
    return write_system_rows(path, SystemTable.QUARANTINE, rows, commit)


def read_quarantine(workspace: Workspace, project_name: str, table: str | None = None) -> "pd.DataFrame":
    """The project's quarantine (of one table, or all), newest first, by keys; without rows where it is empty.

    Columns: table, keys, row, reasons (JSON texts), as_of, quarantined_at, run.
    """
    import pandas as pd

    from penstock.lakehouse.small_tables import read
    from penstock.lakehouse.system_tables import SYSTEM_TABLES

    path = workspace.addresses.find(f"{project_name}.{SystemTable.QUARANTINE}")
    if path is None:
        return pd.DataFrame(columns=list(SYSTEM_TABLES[SystemTable.QUARANTINE].columns))
    filters: list[tuple[str, str, Any]] | None = [("table", "=", table)] if table else None
    found = read(path, filters=filters)
    return found.sort_values(["as_of", "table", "keys"], ascending=[False, True, True], ignore_index=True)


def _distinct(bad_rows: Sequence[BadRow]) -> list[tuple[str, BadRow]]:
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
