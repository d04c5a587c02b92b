"""How far a table has come: up to which moment everything is there that was known then.

The record of its newest commit says so. A landing that finds nothing commits nothing, so that nobody who reads the
table has to look at it again; how far it looked stands in a table beside it. The next landing asks for that time again
all the same: what its origin publishes late is not passed by.
"""

from datetime import datetime

from penstock.clock import now
from penstock.lakehouse.addresses import Address, beside
from penstock.lakehouse.records import latest_record, record
from penstock.lakehouse.system_tables import SystemTable
from penstock.workspace import Workspace


def note_watermark(workspace: Workspace, table: str, as_of: datetime) -> None:
    """Notes that a landing found nothing for a table (project.table) up to as_of; an earlier as_of changes nothing."""
    from deltalake import DeltaTable

    from penstock.lakehouse.small_tables import write_system_rows

    address = Address.parse(table)
    stored = DeltaTable(workspace.addresses.writable(address))
    last = latest_record(stored)
    if last is None:
        return
    row = {
        "table": address.table, "as_of": as_of, "after": last.as_of_moment, "table_id": str(stored.metadata().id),
        "looked_at": now(), "run": workspace.lineage.run,
    }  # fmt: skip
    path = workspace.addresses.writable(f"{address.project}.{SystemTable.WATERMARKS}")
    commit = record(as_of, folder=workspace.project(address.project).folder, run=workspace.lineage.run)
    write_system_rows(path, SystemTable.WATERMARKS, [row], commit, update_if=_MOVES_ON)


# A table that was dropped and made anew, or put back to an older version, begins again.
_MOVES_ON = "t.table_id <> s.table_id OR t.after <> s.after OR t.as_of < s.as_of"


def watermark(workspace: Workspace, address: Address) -> datetime | None:
    """How far a table has come; None where nothing says so: it does not exist, or others write it."""
    from deltalake import DeltaTable

    path = workspace.addresses.find(address)
    if path is None:
        return None
    table = DeltaTable(path)
    last = latest_record(table)
    if last is None:
        return None
    looked = _looked(beside(path, SystemTable.WATERMARKS), address.table, str(table.metadata().id), last.as_of_moment)
    return max(last.as_of_moment, looked or last.as_of_moment)


def _looked(path: str, table: str, table_id: str, after: datetime) -> datetime | None:
    """Up to when landings looked after the table's newest commit, and found nothing."""
    from deltalake import DeltaTable

    from penstock.lakehouse.small_tables import read_arrow

    if not DeltaTable.is_deltatable(path):
        return None
    wanted = [("table", "=", table), ("table_id", "=", table_id), ("after", "=", after)]
    found: list[datetime] = read_arrow(path, filters=wanted)["as_of"].to_pylist()
    return found[0] if found else None
